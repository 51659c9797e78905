//! Names of endpoints, looked up again and again: a container that was made anew has another
//! address. The resolver is in Rust, since a statically linked program has no other.
//!
//! A name with addresses of both families (IPv4, IPv6) stands for those of one. It keeps its family
//! for as long as that has any: endpoints do not come and go with a look-up that fails.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::net::NetError;
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

/// How long a change waits for the first look-up of its names.
const FIRST_WITHIN: Duration = Duration::from_secs(2);

/// Look-ups at the same time, each of which needs sockets.
static PLACES: Semaphore = Semaphore::const_new(16);

/// Who wants to know what names stand for.
pub(crate) trait NameListener: Send + Sync + 'static {
    /// The family of the addresses that a name stands for now.
    fn family(&self, name: &str) -> Option<Family>;
    /// A name stands for these addresses; for none where the look-up failed. Says whether anybody
    /// still wants to know.
    fn resolved(&self, name: &Arc<str>, addresses: Vec<IpAddr>) -> ControlFlow<()>;
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// What a look-up of one family came to.
#[derive(Debug, Clone)]
enum Found {
    Addresses(Vec<IpAddr>),
    /// The name has no address of that family.
    Nothing,
    /// No resolver said.
    Failed,
}

/// Who looks up which names.
pub(crate) struct Resolver {
    listener: Arc<dyn NameListener>,
    every: watch::Sender<Duration>,
    names: Mutex<Names>,
}

#[derive(Default)]
struct Names {
    /// The names that each service uses.
    by_service: HashMap<String, BTreeSet<Arc<str>>>,
    tasks: HashMap<Arc<str>, Task>,
}

/// Looks one name up again and again.
struct Task {
    /// The services that use the name: a change of one need not look at the others.
    users: BTreeSet<String>,
    handle: AbortHandle,
}

impl Family {
    pub(crate) fn of(address: &IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    fn strategy(self) -> LookupIpStrategy {
        match self {
            Self::V4 => LookupIpStrategy::Ipv4Only,
            Self::V6 => LookupIpStrategy::Ipv6Only,
        }
    }
}

impl Resolver {
    /// Looks names up every so often, and tells `listener` what they stand for, until that breaks
    /// off.
    pub(crate) fn new(listener: impl NameListener, every: Duration) -> Self {
        Self {
            listener: Arc::new(listener),
            every: watch::channel(every).0,
            names: Mutex::default(),
        }
    }

    /// From here on names are looked up so often.
    pub(crate) fn set_interval(&self, every: Duration) {
        self.every.send_if_modified(|before| {
            let is_new = *before != every;
            *before = every;
            is_new
        });
    }

    #[cfg(test)]
    pub(crate) fn interval(&self) -> Duration {
        *self.every.borrow()
    }

    /// A service was replaced, and uses these names now. Gives those that no service uses any more.
    /// To be called inside a runtime.
    pub(crate) fn replaced(&self, service: &str, used: BTreeSet<Arc<str>>) -> Vec<Arc<str>> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let Names { by_service, tasks } = &mut *names;
        let before = by_service.remove(service).unwrap_or_default();
        for name in used.difference(&before) {
            let task = tasks.entry(name.clone()).or_insert_with(|| {
                let every = self.every.subscribe();
                let again = look_up_again(self.listener.clone(), name.clone(), every);
                Task {
                    users: BTreeSet::new(),
                    handle: tokio::spawn(again).abort_handle(),
                }
            });
            task.users.insert(service.to_owned());
        }
        let mut unused = Vec::new();
        for name in before.difference(&used) {
            let Entry::Occupied(mut task) = tasks.entry(name.clone()) else {
                continue;
            };
            task.get_mut().users.remove(service);
            if task.get().users.is_empty() {
                task.remove().handle.abort();
                unused.push(name.clone());
            }
        }
        if !used.is_empty() {
            by_service.insert(service.to_owned(), used);
        }
        unused
    }

    /// The services that use a name.
    pub(crate) fn users(&self, name: &str) -> BTreeSet<String> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let task = names.tasks.get(name);
        task.map_or_else(BTreeSet::new, |task| task.users.clone())
    }

    /// Looks names up once, for a short time at most.
    pub(crate) async fn look_up(&self, names: BTreeSet<Arc<str>>) -> Vec<(Arc<str>, Vec<IpAddr>)> {
        let known = |name: &Arc<str>| {
            let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            names.tasks.contains_key(name)
        };
        let mut lookups = tokio::task::JoinSet::new();
        for name in names.into_iter().filter(|name| !known(name)) {
            let family = self.listener.family(&name);
            lookups.spawn(async move {
                let addresses = tokio::time::timeout(FIRST_WITHIN, look_up(&name, family)).await;
                (name, addresses.unwrap_or_default())
            });
        }
        lookups.join_all().await
    }
}

async fn look_up_again(
    listener: Arc<dyn NameListener>,
    name: Arc<str>,
    mut every: watch::Receiver<Duration>,
) {
    let mut began = Instant::now();
    loop {
        let next = began + *every.borrow_and_update();
        tokio::select! {
            () = sleep_until(next) => {}
            changed = every.changed() => match changed {
                Ok(()) => continue,
                // The resolver is gone.
                Err(_) => return,
            }
        }
        began = Instant::now();
        let addresses = look_up(&name, listener.family(&name)).await;
        if listener.resolved(&name, addresses).is_break() {
            return;
        }
    }
}

/// The addresses of a name, of the family that it has, where it has one and that is found; none
/// where it has none or no resolver responded.
async fn look_up(name: &str, family: Option<Family>) -> Vec<IpAddr> {
    addresses_of(family, |family| find(name, family)).await
}

async fn find(name: &str, family: Family) -> Found {
    match try_look_up(name, family).await {
        Ok(addresses) => Found::Addresses(addresses),
        Err(error) if error.is_no_records_found() => Found::Nothing,
        Err(error) => {
            tracing::warn!(name, %error, "name lookup failed");
            Found::Failed
        }
    }
}

/// Decides which family a name stands for: the one that it has, unless it has no address of that any
/// more. Where it has none yet: the first that is found.
async fn addresses_of<F: Future<Output = Found>>(
    family: Option<Family>,
    find: impl Fn(Family) -> F,
) -> Vec<IpAddr> {
    let first = family.unwrap_or(Family::V4);
    match find(first).await {
        Found::Addresses(addresses) if !addresses.is_empty() => return addresses,
        // The addresses that it has may well be good.
        Found::Failed if family.is_some() => return Vec::new(),
        _ => {}
    }
    match find(first.other()).await {
        Found::Addresses(addresses) => addresses,
        Found::Nothing | Found::Failed => Vec::new(),
    }
}

/// The system's resolver config and its hosts file are read each time: in a container they change.
async fn try_look_up(name: &str, family: Family) -> Result<Vec<IpAddr>, NetError> {
    // Never closed, so there is always a place.
    let _place = PLACES.acquire().await;
    let mut builder = TokioResolver::builder_tokio()?;
    let options = builder.options_mut();
    options.ip_strategy = family.strategy();
    options.cache_size = 0;
    options.timeout = Duration::from_secs(2);
    let found = builder.build()?.lookup_ip(name).await?;
    Ok(found.iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    /// The names that are looked up.
    fn looked_up(resolver: &Resolver) -> BTreeSet<Arc<str>> {
        let names = resolver.names.lock().unwrap();
        names.tasks.keys().cloned().collect()
    }

    /// Counts look-ups of a name that is not there.
    struct Counting(watch::Sender<u32>);

    impl NameListener for Counting {
        fn family(&self, _: &str) -> Option<Family> {
            None
        }

        fn resolved(&self, _: &Arc<str>, _: Vec<IpAddr>) -> ControlFlow<()> {
            self.0.send_modify(|count| *count += 1);
            ControlFlow::Continue(())
        }
    }

    fn resolver(every: Duration) -> (Resolver, watch::Receiver<u32>) {
        let (count, counted) = watch::channel(0);
        (Resolver::new(Counting(count), every), counted)
    }

    #[tokio::test]
    async fn a_change_of_the_interval_reaches_names_that_are_looked_up_already() {
        let (resolver, mut counted) = resolver(Duration::from_secs(3_600));
        resolver.replaced("a", names(&["127.0.0.1"]));
        // It waits for an hour by now.
        tokio::task::yield_now().await;
        resolver.set_interval(Duration::from_millis(1));
        let three = counted.wait_for(|count| *count == 3);
        let within = tokio::time::timeout(Duration::from_secs(10), three);
        assert!(
            within.await.is_ok(),
            "it is looked up as often as is said now"
        );
    }

    /// What a name stands for that had this family, where look-ups come to `v4` and `v6`.
    #[track_caller]
    fn check(family: Option<Family>, v4: &Found, v6: &Found, want: &[&str]) {
        let looked_up = addresses_of(family, |family| {
            std::future::ready(match family {
                Family::V4 => v4.clone(),
                Family::V6 => v6.clone(),
            })
        });
        let found = futures_util::FutureExt::now_or_never(looked_up).unwrap();
        let want: Vec<IpAddr> = want.iter().map(|ip| ip.parse().unwrap()).collect();
        assert_eq!(found, want, "{family:?} {v4:?} {v6:?}");
    }

    #[test]
    fn a_name_keeps_its_family_while_that_has_an_address() {
        use Found::{Failed, Nothing};
        let v4 = Found::Addresses(vec!["10.0.0.1".parse().unwrap()]);
        let v6 = Found::Addresses(vec!["fd00::1".parse().unwrap()]);
        check(None, &v4, &v6, &["10.0.0.1"]);
        check(Some(Family::V4), &v4, &v6, &["10.0.0.1"]);
        check(Some(Family::V6), &v4, &v6, &["fd00::1"]);
        // A look-up that fails says nothing of the addresses that there are.
        check(Some(Family::V4), &Failed, &v6, &[]);
        check(Some(Family::V6), &v4, &Failed, &[]);
        check(None, &Failed, &v6, &["fd00::1"]);
        // They are gone.
        check(Some(Family::V4), &Nothing, &v6, &["fd00::1"]);
        check(Some(Family::V6), &v4, &Nothing, &["10.0.0.1"]);
        check(
            Some(Family::V6),
            &v4,
            &Found::Addresses(Vec::new()),
            &["10.0.0.1"],
        );
        check(Some(Family::V4), &Nothing, &Failed, &[]);
        check(None, &Nothing, &Nothing, &[]);
    }

    #[tokio::test]
    async fn a_name_is_looked_up_for_as_long_as_a_service_uses_it() {
        let (resolver, _) = resolver(Duration::from_secs(60));
        #[track_caller]
        fn check(resolver: &Resolver, service: &str, used: &[&str], unused: &[&str], all: &[&str]) {
            let gone = resolver.replaced(service, names(used));
            assert_eq!(BTreeSet::from_iter(gone), names(unused));
            assert_eq!(looked_up(resolver), names(all));
        }
        check(&resolver, "a", &["x", "y"], &[], &["x", "y"]);
        check(&resolver, "b", &["y", "z"], &[], &["x", "y", "z"]);
        check(&resolver, "b", &["y", "z"], &[], &["x", "y", "z"]);
        check(&resolver, "a", &["z"], &["x"], &["y", "z"]);
        check(&resolver, "b", &[], &["y"], &["z"]);
        check(&resolver, "b", &[], &[], &["z"]);
        check(&resolver, "a", &[], &["z"], &[]);
        check(&resolver, "a", &["x"], &[], &["x"]);
    }
}
