//! A split by client: who is who, and which version each of them gets.
//!
//! A client's value is hashed with a key of the service and its salt, and belongs to a version
//! by weighted rendezvous ([`crate::table::rendezvous`]), in which every label draws for itself. So
//! the context of one rollout says nothing about the next. A version whose weight rises in
//! relation to all others gets clients and loses none. With three versions or more, no rule
//! without a memory could promise that of two versions that rise at once.

use admin_api::strict::InputError;
use admin_api::{ClientKey, StickySpec};
use http::HeaderValue;

use crate::table::key::KeySource;
use crate::table::rendezvous::hash;

/// A longer value is no identifier of a client, and is ignored.
const MAX_VALUE: usize = 1024;
/// Two numbers that make the keys of this use differ from those of any other.
const DOMAIN: [(u64, u64); 2] = [
    (0x6372_6f73_7366_6164, 0x652e_7374_6963_6b79),
    (0x652e_7374_6963_6b79, 0x6372_6f73_7366_6164),
];

/// How a service's clients are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sticky {
    pub(crate) source: KeySource,
    key: (u64, u64),
    /// What follows the value in `Set-Cookie`.
    attributes: Box<str>,
}

/// What a request says about its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StickyClient {
    /// The hash of its value.
    pub(crate) user: Option<u64>,
    /// The value that it has to be told, since it is new.
    pub(crate) newcomer: Option<u64>,
}

impl StickyClient {
    /// The service is not sticky, or the request has no identifier.
    pub(crate) const UNKNOWN: Self = Self {
        user: None,
        newcomer: None,
    };
}

impl Sticky {
    /// Of the service `name`, with a setting that was checked. The error's field is relative to the
    /// setting.
    pub(crate) fn new(spec: &StickySpec, name: &str, path: &str) -> Result<Self, InputError> {
        let source = match spec.key()? {
            ClientKey::Cookie(name) => KeySource::Cookie(name.into()),
            ClientKey::Header(name) => KeySource::Header(name),
        };
        let pieces = [name.as_bytes(), spec.salt.as_bytes()];
        let mut attributes = format!("; Path={path}; HttpOnly; SameSite=Lax");
        if let Some(max_age) = spec.max_age {
            attributes.push_str(&format!("; Max-Age={}", max_age.get().as_secs()));
        }
        if spec.secure {
            attributes.push_str("; Secure");
        }
        Ok(Self {
            source,
            key: (hash(DOMAIN[0], &pieces), hash(DOMAIN[1], &pieces)),
            attributes: attributes.into(),
        })
    }

    /// The client whose request has `value` where [`Sticky::source`] says. One that should have
    /// the cookie and has not gets `random` for its value.
    pub(crate) fn client(
        &self,
        value: Option<&[u8]>,
        random: impl FnOnce() -> u64,
    ) -> StickyClient {
        let usable = |value: &&[u8]| !value.is_empty() && value.len() <= MAX_VALUE;
        match (value.filter(usable), &self.source) {
            (Some(value), _) => StickyClient {
                user: Some(self.user(value)),
                newcomer: None,
            },
            (None, KeySource::Cookie(_)) => {
                let value = random();
                StickyClient {
                    user: Some(self.user(text(value).as_bytes())),
                    newcomer: Some(value),
                }
            }
            (None, _) => StickyClient::UNKNOWN,
        }
    }

    fn user(&self, value: &[u8]) -> u64 {
        hash(self.key, &[value])
    }

    /// By which clients find a version.
    pub(crate) fn seed(&self, label: &str) -> u64 {
        hash(self.key, &[b"version", label.as_bytes()])
    }

    /// The `Set-Cookie` that tells a newcomer its value (RFC 6265, 4.1).
    pub(crate) fn set_cookie(&self, value: u64) -> Option<HeaderValue> {
        let KeySource::Cookie(name) = &self.source else {
            return None;
        };
        HeaderValue::try_from(format!("{name}={}{}", text(value), self.attributes)).ok()
    }
}

fn text(value: u64) -> String {
    format!("{value:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::rendezvous::winner;

    fn sticky(salt: &str) -> Sticky {
        let spec = StickySpec {
            header: Some("x-user".into()),
            salt: salt.into(),
            ..StickySpec::default()
        };
        Sticky::new(&spec, "web", "/").unwrap()
    }

    /// Which version each of `users` gets.
    fn versions(sticky: &Sticky, split: &[(&'static str, u32)], users: usize) -> Vec<&'static str> {
        let candidates = || {
            split
                .iter()
                .map(|(label, weight)| (*label, sticky.seed(label), f64::from(*weight)))
        };
        (1..=users)
            .map(|n| winner(sticky.user(format!("user-{n}").as_bytes()), candidates()).unwrap())
            .collect()
    }

    /// Pearson's statistic of how many got a version, over those with and without it.
    fn chi_square(versions: &[&str], label: &str, share: f64) -> f64 {
        let n = versions.len() as f64;
        let have = versions.iter().filter(|version| **version == label).count() as f64;
        let want = n * share;
        (have - want).powi(2) / (want * (1.0 - share))
    }

    #[test]
    fn no_share_of_any_salt_is_biased() {
        for (users, weight) in [(10_000, 5), (10_000, 50), (100, 5)] {
            let salts = 200;
            let statistics = (0..salts).map(|salt| {
                let split = [("1.0.0", 100 - weight), ("2.0.0", weight)];
                let versions = versions(&sticky(&salt.to_string()), &split, users);
                chi_square(&versions, "2.0.0", f64::from(weight) / 100.0)
            });
            let (mut sum, mut most) = (0.0, 0.0_f64);
            for statistic in statistics {
                sum += statistic;
                most = most.max(statistic);
            }
            // The sum has a mean of 200 and a standard deviation of 20; each is above 20 once
            // in 100,000.
            assert!((140.0..260.0).contains(&sum), "{users} at {weight}%: {sum}");
            assert!(most < 20.0, "{users} at {weight}%: {most}");
        }
    }

    #[test]
    fn raising_a_share_never_moves_anybody_back() {
        let sticky = sticky("");
        for others in [&[("1.0.0", 90)][..], &[("1.0.0", 60), ("1.1.0", 30)]] {
            let mut before = vec!["1.0.0"; 10_000];
            for weight in [0, 1, 2, 5, 10, 25, 50, 90, 500, 100_000] {
                let split = [others, &[("2.0.0", weight)]].concat();
                let after = versions(&sticky, &split, 10_000);
                for (user, (before, after)) in before.iter().zip(&after).enumerate() {
                    let moved_back = *before == "2.0.0" && *after != "2.0.0";
                    assert!(!moved_back, "user {user} at {weight}");
                    let moved_aside = weight > 0 && before != after && *after != "2.0.0";
                    assert!(!moved_aside, "user {user} at {weight}: {before} to {after}");
                }
                before = after;
            }
        }
    }

    #[test]
    fn the_first_of_one_rollout_are_not_the_first_of_the_next() {
        let early = |sticky: &Sticky, from, to| {
            let versions = versions(sticky, &[(from, 95), (to, 5)], 20_000);
            let early = versions.iter().map(|version| *version == to);
            early.collect::<Vec<_>>()
        };
        let both = |one: &[bool], other: &[bool]| {
            one.iter().zip(other).filter(|(a, b)| **a && **b).count()
        };
        let first = early(&sticky(""), "1.0.0", "2.0.0");
        // Of 20,000, 50 would be in both by chance; by a shared context, 1,000.
        let next = early(&sticky(""), "2.0.0", "3.0.0");
        assert!(both(&first, &next) < 100, "another label");
        let salted = early(&sticky("again"), "1.0.0", "2.0.0");
        assert!(both(&first, &salted) < 100, "another salt");
        let spec = StickySpec {
            header: Some("x-user".into()),
            ..StickySpec::default()
        };
        let api = Sticky::new(&spec, "api", "/").unwrap();
        let remote = early(&api, "1.0.0", "2.0.0");
        assert!(both(&first, &remote) < 100, "another service");
    }

    #[test]
    fn a_newcomer_is_told_a_value_that_it_is_known_by() {
        let spec = StickySpec {
            cookie: Some("seat".into()),
            max_age: Some(admin_api::Period::from_secs(3600)),
            secure: true,
            ..StickySpec::default()
        };
        let sticky = Sticky::new(&spec, "web", "/api").unwrap();
        let first = sticky.client(None, || 0xabc);
        assert_eq!(first.newcomer, Some(0xabc));
        assert_eq!(
            sticky.set_cookie(0xabc).unwrap(),
            "seat=0000000000000abc; Path=/api; HttpOnly; SameSite=Lax; Max-Age=3600; Secure"
        );
        let again = sticky.client(Some(b"0000000000000abc"), || panic!("it is known"));
        assert_eq!((again.user, again.newcomer), (first.user, None));
    }
}
