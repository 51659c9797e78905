//! How many clients may be connected at once: to one listener, from one address, and to all listeners
//! together, which share the process's files.
//!
//! These counts are of all workers, and written when a client connects and when it leaves; a
//! request does not touch them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;

/// Who may connect to one listener.
pub(crate) struct Admission {
    places: Arc<Semaphore>,
    /// Of all listeners.
    files: Arc<Semaphore>,
    per_address: usize,
    /// Only those that are connected.
    addresses: Mutex<HashMap<IpAddr, usize>>,
}

/// The right of one client to be connected, until it is dropped.
pub(crate) struct ConnectionPermit {
    _permits: Permits,
    _counted: Option<Counted>,
}

/// A client's places: at its listener, and among the process's files.
pub(crate) struct Permits(
    #[expect(dead_code, reason = "they are there to be dropped")] [OwnedSemaphorePermit; 2],
);

/// What has no place for another client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// The listener has `limits.connections`.
    Listener,
    /// All listeners together have as many as the process has files for.
    Files,
}

/// One connection of an address.
pub(crate) struct Counted {
    admission: Arc<Admission>,
    address: IpAddr,
}

impl Admission {
    /// To a listener with these limits. `files`: places for the clients of all listeners.
    pub(crate) fn new(limits: &Limits, files: Arc<Semaphore>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(limits.connections)),
            files,
            per_address: limits.connections_per_address,
            addresses: Mutex::default(),
        }
    }

    /// Counts a connection from this address. `None`: it has as many as it may have.
    pub(crate) fn count(self: &Arc<Self>, ip: IpAddr) -> Option<Option<Counted>> {
        if self.per_address == usize::MAX {
            return Some(None);
        }
        let address = customer(ip);
        let mut addresses = self.addresses();
        let count = addresses.entry(address).or_default();
        if *count >= self.per_address {
            return None;
        }
        *count += 1;
        Some(Some(Counted {
            admission: self.clone(),
            address,
        }))
    }

    /// A place, if there is one.
    pub(crate) fn place_now(&self) -> Result<Permits, Full> {
        let at_listener = self.places.clone().try_acquire_owned();
        let at_listener = at_listener.map_err(|_| Full::Listener)?;
        let of_all = self.files.clone().try_acquire_owned();
        Ok(Permits([at_listener, of_all.map_err(|_| Full::Files)?]))
    }

    /// A place, once another client has left. It is never `None`: nothing closes the places.
    pub(crate) async fn place(&self) -> Option<Permits> {
        let at_listener = self.places.clone().acquire_owned().await.ok()?;
        let of_all = self.files.clone().acquire_owned().await.ok()?;
        Some(Permits([at_listener, of_all]))
    }

    fn addresses(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // A count is whole at any time.
        self.addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionPermit {
    pub(crate) fn new(permits: Permits, counted: Option<Counted>) -> Self {
        Self {
            _permits: permits,
            _counted: counted,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.admission.addresses().entry(self.address) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// What counts as one address: of IPv6 a /64, which is what one customer has at least.
fn customer(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => {
            let network = u128::from(ip) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn admission(limits: &str) -> Arc<Admission> {
        sharing(limits, &Arc::new(Semaphore::new(1_000)))
    }

    fn sharing(limits: &str, files: &Arc<Semaphore>) -> Arc<Admission> {
        let text = format!("[[listeners]]\naddress = \"127.0.0.1:0\"\n[limits]\n{limits}");
        let limits = Config::parse(&text).unwrap().limits;
        Arc::new(Admission::new(&limits, files.clone()))
    }

    #[tokio::test]
    async fn listeners_share_the_files_and_one_may_have_all_of_them() {
        let files = Arc::new(Semaphore::new(2));
        let [host, inside] = [(); 2].map(|()| sharing("connections = 5", &files));
        let held = [host.place_now().unwrap(), host.place_now().unwrap()];
        assert_eq!(host.place_now().err(), Some(Full::Files));
        assert_eq!(inside.place_now().err(), Some(Full::Files));
        let next = tokio::join!(inside.place(), async { drop(held) }).0;
        assert!(next.is_some() && inside.place_now().is_ok());
    }

    #[test]
    fn an_address_has_so_many_connections_and_another_one_has_its_own() {
        let admission = admission("connections_per_address = 2");
        let of = |ip: &str| admission.count(ip.parse().unwrap());
        let held = [of("192.0.2.1").unwrap(), of("192.0.2.1").unwrap()];
        assert!(of("192.0.2.1").is_none());
        assert!(of("192.0.2.2").is_some());
        drop(held);
        assert!(of("192.0.2.1").is_some());
        assert!(
            admission.addresses().is_empty(),
            "who has left is forgotten"
        );
    }

    #[test]
    fn of_ipv6_a_network_is_one_address() {
        let admission = admission("connections_per_address = 1");
        let of = |ip: &str| admission.count(ip.parse().unwrap());
        let _held = of("2001:db8::1").unwrap();
        assert!(of("2001:db8::ffff:1").is_none());
        assert!(of("2001:db8:0:1::1").is_some());
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let admission = admission("");
        let counted = admission.count("192.0.2.1".parse().unwrap());
        assert!(counted.unwrap().is_none());
    }

    #[tokio::test]
    async fn who_finds_no_place_gets_the_next_one() {
        let admission = admission("connections = 1");
        let first = admission.place_now().unwrap();
        assert_eq!(admission.place_now().err(), Some(Full::Listener));
        let next = tokio::join!(admission.place(), async { drop(first) }).0;
        assert!(next.is_some());
    }
}
