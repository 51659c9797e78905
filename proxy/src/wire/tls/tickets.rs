//! Session tickets: a client keeps its session itself, encrypted with a key that all workers share,
//! and resumes it at any of them (RFC 8446, 4.6.1; RFC 5077). A process that takes over gets the
//! keys, so that an upgrade costs no client a handshake.
//!
//! A ticket is the name of its key, a nonce, and the session, sealed with AES-256-GCM-SIV: a nonce
//! that comes twice by chance, in two processes with one key, tells nothing.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::Unspecified;
use rustls::server::ProducesTickets;
use serde::{Deserialize, Serialize};

/// How long a key makes tickets. It opens them for as long again.
const LIFETIME: Duration = Duration::from_secs(LIFETIME_SECONDS as u64);
const LIFETIME_SECONDS: u32 = 6 * 3600;
const NAME: usize = 16;
const SECRET: usize = 32;

/// The keys of one listener's tickets.
pub(crate) struct Tickets {
    keys: ArcSwap<Keys>,
    /// Held while they change.
    changing: Mutex<()>,
}

struct Keys {
    current: Arc<Key>,
    previous: Option<Arc<Key>>,
    /// When the next one takes the current one's place.
    until: Instant,
}

struct Key {
    name: [u8; NAME],
    secret: [u8; SECRET],
    aead: RandomizedNonceKey,
}

/// The keys, as one process gives them to the next.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TicketKeys {
    current: ([u8; NAME], [u8; SECRET]),
    previous: Option<([u8; NAME], [u8; SECRET])>,
    /// From now until the next one takes the current one's place.
    changes_in: Duration,
}

impl Tickets {
    /// New keys.
    pub(crate) fn new() -> Result<Self, Unspecified> {
        Ok(Self::of(Keys {
            current: Arc::new(Key::generate()?),
            previous: None,
            until: Instant::now() + LIFETIME,
        }))
    }

    /// Keys that another process has.
    pub(crate) fn of_keys(keys: &TicketKeys) -> Result<Self, Unspecified> {
        let key =
            |(name, secret): &([u8; NAME], [u8; SECRET])| Key::new(*name, *secret).map(Arc::new);
        Ok(Self::of(Keys {
            current: key(&keys.current)?,
            previous: keys.previous.as_ref().map(key).transpose()?,
            until: Instant::now() + keys.changes_in.min(LIFETIME),
        }))
    }

    fn of(keys: Keys) -> Self {
        Self {
            keys: ArcSwap::from_pointee(keys),
            changing: Mutex::default(),
        }
    }

    /// For another process.
    pub(crate) fn keys(&self) -> TicketKeys {
        let keys = self.keys_at(Instant::now());
        let key = |key: &Arc<Key>| (key.name, key.secret);
        TicketKeys {
            current: key(&keys.current),
            previous: keys.previous.as_ref().map(key),
            changes_in: keys.until.saturating_duration_since(Instant::now()),
        }
    }

    /// The keys that are in use then.
    fn keys_at(&self, now: Instant) -> Arc<Keys> {
        let keys = self.keys.load_full();
        if now < keys.until {
            return keys;
        }
        let _changing = self.changing();
        let keys = self.keys.load_full();
        if now < keys.until {
            return keys;
        }
        let Ok(next) = Key::generate() else {
            // Without randomness there is no handshake either.
            return keys;
        };
        let is_recent = now < keys.until + LIFETIME;
        let next = Arc::new(Keys {
            current: Arc::new(next),
            previous: is_recent.then(|| keys.current.clone()),
            until: now + LIFETIME,
        });
        self.keys.store(next.clone());
        next
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, ticket: &[u8], now: Instant) -> Option<Vec<u8>> {
        let (name, sealed) = ticket.split_at_checked(NAME)?;
        let keys = self.keys_at(now);
        let mut both = [Some(&keys.current), keys.previous.as_ref()].into_iter();
        both.find_map(|key| key.filter(|key| key.name == *name))?
            .open(sealed)
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        // A ticket that was made with the key's last moment is opened for so long.
        LIFETIME_SECONDS
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.keys_at(Instant::now()).current.seal(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, Instant::now())
    }
}

impl Key {
    fn generate() -> Result<Self, Unspecified> {
        let (mut name, mut secret) = ([0; NAME], [0; SECRET]);
        aws_lc_rs::rand::fill(&mut name)?;
        aws_lc_rs::rand::fill(&mut secret)?;
        Self::new(name, secret)
    }

    fn new(name: [u8; NAME], secret: [u8; SECRET]) -> Result<Self, Unspecified> {
        let aead = RandomizedNonceKey::new(&AES_256_GCM_SIV, &secret)?;
        Ok(Self { name, secret, aead })
    }

    fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = plain.to_vec();
        let aad = Aad::from(self.name);
        let nonce = self.aead.seal_in_place_append_tag(aad, &mut sealed).ok()?;
        Some([&self.name[..], nonce.as_ref(), &sealed].concat())
    }

    fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut plain = sealed.to_vec();
        let opened = self
            .aead
            .open_in_place(nonce, Aad::from(self.name), &mut plain);
        let length = opened.ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

/// Never the keys.
impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}

/// Never the keys.
impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKeys").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_opened_by_the_process_that_takes_over_and_by_no_other() {
        let before = Tickets::new().unwrap();
        let ticket = before.encrypt(b"a session").unwrap();
        let text = serde_json::to_string(&before.keys()).unwrap();
        let after = Tickets::of_keys(&serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!(after.decrypt(&ticket).unwrap(), b"a session");
        let back = after.encrypt(b"another").unwrap();
        assert_eq!(before.decrypt(&back).unwrap(), b"another");
        assert_eq!(Tickets::new().unwrap().decrypt(&ticket), None);
    }

    #[test]
    fn a_ticket_that_was_changed_or_cut_anywhere_is_none() {
        let tickets = Tickets::new().unwrap();
        let ticket = tickets.encrypt(b"a session").unwrap();
        for at in 0..ticket.len() {
            assert_eq!(tickets.decrypt(&ticket[..at]), None, "{at} bytes");
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(tickets.decrypt(&changed), None, "byte {at}");
        }
    }

    #[test]
    fn a_key_makes_tickets_for_six_hours_and_opens_them_for_six_more() {
        let tickets = Tickets::new().unwrap();
        let ticket = tickets.encrypt(b"a session").unwrap();
        let name = |now| tickets.keys_at(now).current.name;
        let (now, hour) = (Instant::now(), Duration::from_secs(3600));
        let first = name(now);
        assert_eq!(name(now + 5 * hour), first);
        assert_ne!(name(now + 7 * hour), first);
        assert!(tickets.open(&ticket, now + 12 * hour).is_some());
        assert_eq!(tickets.open(&ticket, now + 14 * hour), None);
        // No client came for long.
        let tickets = Tickets::new().unwrap();
        let ticket = tickets.encrypt(b"a session").unwrap();
        assert_eq!(tickets.open(&ticket, now + 13 * hour), None);
    }
}
