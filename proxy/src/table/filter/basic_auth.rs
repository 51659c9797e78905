//! Names and passwords of a service's users (RFC 7617), and those that were proven.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use admin_api::{BasicAuthSpec, PasswordHash, User};
use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// So many proven passwords are known; beyond that, they are proven anew.
const MAX_PROVEN: usize = 4_096;
/// Longer ones than this are wrong: no hash is to be kept busy by them.
const MAX_PASSWORD: usize = 1_024;

/// Of a name and its password.
type Digest = [u8; 32];

/// The users of a service.
pub(crate) struct BasicAuth {
    users: Arc<Vec<User>>,
    by_name: HashMap<Box<[u8]>, usize>,
    /// What a 401 says in `WWW-Authenticate`.
    pub(crate) challenge: String,
    /// By a secret of its own, so that no memory has passwords in it.
    key: hmac::Key,
    /// Read by all workers, and written where a password is new.
    proven: ArcSwap<HashSet<Digest>>,
}

/// What a request says of its user.
pub(crate) enum Credentials {
    /// Nothing, or nothing that can be read.
    None,
    /// Its password was proven before.
    Proven(Vec<u8>),
    /// That is to be found out.
    Unproven(Unproven),
}

/// A password that is to be compared with a hash, which takes its time.
pub(crate) struct Unproven {
    pub(crate) user: Vec<u8>,
    pub(crate) password: Vec<u8>,
    pub(crate) hash: PasswordHash,
    /// For a name that there is not, another's hash is taken: no client is to tell by the time it takes.
    pub(crate) is_user: bool,
    digest: Digest,
}

impl BasicAuth {
    /// Of a setting that was checked, with its users. What was proven by the same of `previous` is so
    /// still.
    pub(super) fn of(
        spec: &BasicAuthSpec,
        users: &Arc<Vec<User>>,
        service: &str,
        previous: Option<&Arc<Self>>,
    ) -> Arc<Self> {
        let realm = spec.realm.as_deref().unwrap_or(service);
        let challenge = format!("Basic realm=\"{realm}\", charset=\"UTF-8\"");
        let same = |one: &&Arc<Self>| one.users == *users && one.challenge == challenge;
        if let Some(same) = previous.filter(same) {
            return same.clone();
        }
        let by_name = users.iter().enumerate();
        let by_name = by_name.map(|(at, user)| (user.name.as_bytes().into(), at));
        Arc::new(Self {
            by_name: by_name.collect(),
            users: users.clone(),
            challenge,
            key: hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>()),
            proven: ArcSwap::default(),
        })
    }

    /// Reads what `Authorization` says.
    pub(crate) fn read(&self, authorization: Option<&[u8]>) -> Credentials {
        let pair = authorization.and_then(decode);
        let Some((user, password)) = pair.as_deref().and_then(split) else {
            return Credentials::None;
        };
        if password.len() > MAX_PASSWORD {
            return Credentials::None;
        }
        let found = self.by_name.get(user);
        let digest = self.digest(user, password);
        if found.is_some() && self.proven.load().contains(&digest) {
            return Credentials::Proven(user.to_vec());
        }
        let Some(one) = self.users.get(found.copied().unwrap_or_default()) else {
            return Credentials::None;
        };
        Credentials::Unproven(Unproven {
            user: user.to_vec(),
            password: password.to_vec(),
            hash: one.hash.clone(),
            is_user: found.is_some(),
            digest,
        })
    }

    /// A password is right: it needs no proof any more.
    pub(crate) fn learn(&self, proven: &Unproven) {
        if self.knows(proven) {
            return;
        }
        self.proven.rcu(|known| {
            let mut known = HashSet::clone(known);
            if known.len() >= MAX_PROVEN {
                known.clear();
            }
            known.insert(proven.digest);
            known
        });
    }

    /// Whether it has been proven since it was read.
    pub(crate) fn knows(&self, password: &Unproven) -> bool {
        password.is_user && self.proven.load().contains(&password.digest)
    }

    fn digest(&self, user: &[u8], password: &[u8]) -> Digest {
        let mut context = hmac::Context::with_key(&self.key);
        // A name has no `:` (RFC 7617, 2).
        for part in [user, b":", password] {
            context.update(part);
        }
        let mut digest = Digest::default();
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }
}

/// Passwords have no place in a log.
impl std::fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} users", self.users.len())
    }
}

impl std::fmt::Debug for Unproven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a password")
    }
}

/// The name and the password of `Basic …`, with `:` between them.
fn decode(authorization: &[u8]) -> Option<Vec<u8>> {
    let (scheme, encoded) = authorization.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    STANDARD.decode(encoded.trim_ascii()).ok()
}

fn split(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', pair)?;
    Some((&pair[..colon], &pair[colon + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "alice:$2y$04$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234\n";

    fn auth(previous: Option<&Arc<BasicAuth>>, realm: &str) -> Arc<BasicAuth> {
        let spec = BasicAuthSpec {
            realm: Some(realm.into()),
            ..BasicAuthSpec::default()
        };
        let users = Arc::new(admin_api::read_users(USERS).unwrap());
        BasicAuth::of(&spec, &users, "web", previous)
    }

    use self::auth as again;

    fn basic(pair: &str) -> Vec<u8> {
        format!("bAsic {}", STANDARD.encode(pair)).into_bytes()
    }

    #[test]
    fn a_password_is_proven_once_and_for_its_user_alone() {
        let auth = auth(None, "a");
        let read = |auth: &BasicAuth, pair: &str| auth.read(Some(&basic(pair)));
        let Credentials::Unproven(unproven) = read(&auth, "alice:se:cret") else {
            panic!("it is not known yet");
        };
        assert!(unproven.is_user && unproven.password == b"se:cret");
        auth.learn(&unproven);
        assert!(
            matches!(read(&auth, "alice:se:cret"), Credentials::Proven(user) if user == b"alice")
        );
        for other in ["alice:se:cret ", "alice:", "bob:se:cret", "alice:se"] {
            assert!(
                matches!(read(&auth, other), Credentials::Unproven(_)),
                "{other}"
            );
        }
        let Credentials::Unproven(stranger) = read(&auth, "bob:x") else {
            panic!("there is no bob");
        };
        assert!(!stranger.is_user);
        let same = again(Some(&auth), "a");
        assert!(matches!(
            read(&same, "alice:se:cret"),
            Credentials::Proven(_)
        ));
        let other = again(Some(&auth), "b");
        assert!(matches!(
            read(&other, "alice:se:cret"),
            Credentials::Unproven(_)
        ));
    }

    #[test]
    fn what_cannot_be_read_is_no_password() {
        let auth = auth(None, "a");
        assert!(matches!(auth.read(None), Credentials::None));
        let long = basic(&format!("alice:{}", "x".repeat(1_025)));
        for authorization in [
            &b""[..],
            b"Basic",
            b"Basic ",
            b"Basic !",
            b"Bearer YWxpY2U6c2VjcmV0",
            &basic("alice"),
            &long,
        ] {
            let read = auth.read(Some(authorization));
            assert!(matches!(read, Credentials::None), "{authorization:?}");
        }
    }

    #[test]
    fn what_is_known_is_bounded() {
        let auth = auth(None, "a");
        for number in 0..MAX_PROVEN + 10 {
            let pair = basic(&format!("alice:{number}"));
            if let Credentials::Unproven(one) = auth.read(Some(&pair)) {
                auth.learn(&one);
            }
        }
        assert!(auth.proven.load().len() <= MAX_PROVEN);
    }
}
