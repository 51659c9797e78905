//! A split by client: who is who, and which version each of them gets.
//!
//! A cookie has a client's id, and the proxy's code of it ([`CookieKey`]): `ID.CODE`. So a client
//! cannot choose its id, by which it could choose its version. A value without the right code is as
//! good as none.
//!
//! A client's value is hashed with a key of the service and its salt, and belongs to a version
//! by weighted rendezvous ([`crate::table::rendezvous`]), in which every label draws for itself. So
//! the context of one rollout says nothing about the next. A version whose weight rises in
//! relation to all others gets clients and loses none. With three versions or more, no rule
//! without a memory could promise that of two versions that rise at once.

use admin_api::strict::InputError;
use admin_api::{ClientKey, StickySpec};
use http::HeaderValue;

use crate::table::cookie_key::{CODE_TEXT, Code, CookieKey};
use crate::table::key::KeySource;
use crate::table::rendezvous::hash;

/// A longer value of a header field is no identifier of a client, and is ignored.
const MAX_VALUE: usize = 1024;
/// Characters of a client's id, in hexadecimal.
const ID_TEXT: usize = 16;
/// Makes these codes differ from those of any other use of the key.
const PURPOSE: &[u8] = b"client";
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
    service: Box<str>,
    /// What follows the value in `Set-Cookie`.
    attributes: Box<str>,
}

/// What a request says about its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StickyClient {
    /// The service is not sticky, or the request has no identifier.
    Unknown,
    /// It has the value that a client of this hash has.
    Known { user: u64 },
    /// It has a cookie of a release that gave ids without a code, which anybody can make up. The
    /// client is believed, and gets the cookie of this id anew.
    Unproven { user: u64, id: u64 },
    /// It has no cookie, or none of ours: the client gets one with this id.
    Newcomer { user: u64, id: u64 },
}

impl StickyClient {
    /// The hash that the client is split by.
    pub(crate) fn user(self) -> Option<u64> {
        match self {
            Self::Unknown => None,
            Self::Known { user } | Self::Unproven { user, .. } | Self::Newcomer { user, .. } => {
                Some(user)
            }
        }
    }

    /// The id that the client has to be told.
    pub(crate) fn to_tell(self) -> Option<u64> {
        match self {
            Self::Unknown | Self::Known { .. } => None,
            Self::Unproven { id, .. } | Self::Newcomer { id, .. } => Some(id),
        }
    }
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
            service: name.into(),
            attributes: attributes.into(),
        })
    }

    /// The cookie by which clients are told apart, if they are by one.
    pub(crate) fn cookie(&self) -> Option<&str> {
        match &self.source {
            KeySource::Cookie(name) => Some(name),
            KeySource::Header(_) | KeySource::Address => None,
        }
    }

    /// The client whose request has `value` where [`Sticky::source`] says. One that should have
    /// a cookie of ours and has not gets `random` for its id.
    pub(crate) fn client(
        &self,
        value: Option<&[u8]>,
        key: &CookieKey,
        random: impl FnOnce() -> u64,
    ) -> StickyClient {
        if self.cookie().is_none() {
            let usable = |value: &&[u8]| !value.is_empty() && value.len() <= MAX_VALUE;
            return match value.filter(usable) {
                Some(value) => StickyClient::Known {
                    user: self.user(value),
                },
                None => StickyClient::Unknown,
            };
        }
        let known = value.and_then(|value| self.of_cookie(value, key));
        known.unwrap_or_else(|| {
            let id = random();
            let user = self.user(text(id).as_bytes());
            StickyClient::Newcomer { user, id }
        })
    }

    /// The client that was given this value. `None`: no client was.
    fn of_cookie(&self, value: &[u8], key: &CookieKey) -> Option<StickyClient> {
        let (id, code) = value.split_at_checked(ID_TEXT)?;
        let user = self.user(id);
        match code {
            [b'.', code @ ..] if code.len() == CODE_TEXT => {
                let is_ours = key.proves(&self.coded(id), code);
                is_ours.then_some(StickyClient::Known { user })
            }
            [] => {
                let id = id_of(id)?;
                Some(StickyClient::Unproven { user, id })
            }
            _ => None,
        }
    }

    /// What the code of an id is of.
    fn coded<'a>(&'a self, id: &'a [u8]) -> [&'a [u8]; 3] {
        [PURPOSE, self.service.as_bytes(), id]
    }

    fn user(&self, value: &[u8]) -> u64 {
        hash(self.key, &[value])
    }

    /// By which clients find a version.
    pub(crate) fn seed(&self, label: &str) -> u64 {
        hash(self.key, &[b"version", label.as_bytes()])
    }

    /// The `Set-Cookie` that tells a client its id (RFC 6265, 4.1).
    pub(crate) fn set_cookie(&self, id: u64, key: &CookieKey) -> Option<HeaderValue> {
        let (name, id) = (self.cookie()?, text(id));
        let code: Code = key.code(&self.coded(id.as_bytes()));
        let code = std::str::from_utf8(&code).ok()?;
        HeaderValue::try_from(format!("{name}={id}.{code}{}", self.attributes)).ok()
    }
}

fn text(id: u64) -> String {
    format!("{id:016x}")
}

/// The id that is written like this: no two texts are of the same one.
fn id_of(written: &[u8]) -> Option<u64> {
    let is_digit = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
    let written = Some(written).filter(|written| written.iter().all(is_digit))?;
    u64::from_str_radix(std::str::from_utf8(written).ok()?, 16).ok()
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

    /// A service whose clients have a cookie.
    fn by_cookie(name: &str) -> Sticky {
        let spec = StickySpec {
            cookie: Some("seat".into()),
            max_age: Some(admin_api::Period::from_secs(3600)),
            secure: true,
            ..StickySpec::default()
        };
        Sticky::new(&spec, name, "/api").unwrap()
    }

    /// The value of a cookie that is set.
    fn told(sticky: &Sticky, id: u64, key: &CookieKey) -> String {
        let set = sticky.set_cookie(id, key).unwrap();
        let (cookie, attributes) = set.to_str().unwrap().split_once(';').unwrap();
        assert_eq!(
            attributes,
            " Path=/api; HttpOnly; SameSite=Lax; Max-Age=3600; Secure"
        );
        cookie.strip_prefix("seat=").unwrap().to_owned()
    }

    #[test]
    fn a_newcomer_is_told_a_value_that_it_is_known_by() {
        let (sticky, key) = (by_cookie("web"), CookieKey::random());
        let first = sticky.client(None, &key, || 0xabc);
        assert_eq!(first.to_tell(), Some(0xabc));
        let value = told(&sticky, 0xabc, &key);
        assert!(value.starts_with("0000000000000abc."), "{value}");
        let again = sticky.client(Some(value.as_bytes()), &key, || panic!("it is known"));
        let user = first.user().unwrap();
        assert_eq!(again, StickyClient::Known { user });
    }

    #[test]
    fn who_has_a_value_that_was_not_given_is_a_newcomer() {
        let (sticky, key) = (by_cookie("web"), CookieKey::random());
        let value = told(&sticky, 0xabc, &key);
        let (id, code) = value.split_once('.').unwrap();
        let of_another_id = format!("0000000000000abd.{code}");
        let of_another_service = told(&by_cookie("api"), 0xabc, &key);
        let of_another_key = told(&sticky, 0xabc, &CookieKey::random());
        let (cut, longer) = (&value[..value.len() - 1], format!("{value}A"));
        let (no_id, upper) = (format!(".{code}"), "0000000000000ABC");
        for wrong in [
            &*of_another_id,
            &*of_another_service,
            &*of_another_key,
            cut,
            &*longer,
            &*no_id,
            upper,
            &*format!("{id}."),
            "1",
            "",
            "2.0.0",
            "ü",
        ] {
            let client = sticky.client(Some(wrong.as_bytes()), &key, || 7);
            let user = sticky.user(text(7).as_bytes());
            assert_eq!(client, StickyClient::Newcomer { user, id: 7 }, "{wrong}");
        }
    }

    #[test]
    fn an_id_without_a_code_is_believed_and_gets_one() {
        let (sticky, key) = (by_cookie("web"), CookieKey::random());
        let client = sticky.client(Some(b"0000000000000abc"), &key, || panic!("it is believed"));
        let user = sticky.client(None, &key, || 0xabc).user().unwrap();
        assert_eq!(client, StickyClient::Unproven { user, id: 0xabc });
        let value = told(&sticky, 0xabc, &key);
        let client = sticky.client(Some(value.as_bytes()), &key, || panic!("it is known"));
        assert_eq!(client, StickyClient::Known { user }, "it keeps its version");
    }
}
