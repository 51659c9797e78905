//! Names of endpoints, looked up again and again: a container that was made anew has another
//! address. The resolver is in Rust, since a statically linked program has no other.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

/// How long a change waits for the first look-up of its names.
const FIRST_WITHIN: Duration = Duration::from_secs(2);

/// Look-ups at the same time, each of which needs sockets.
static PLACES: Semaphore = Semaphore::const_new(16);

/// Is told what a name stands for; says whether anybody still wants to know.
type Report = dyn Fn(&Arc<str>, Vec<IpAddr>) -> ControlFlow<()> + Send + Sync;

/// Who looks up which names.
pub(crate) struct Resolver {
    report: Arc<Report>,
    every: Duration,
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
    /// How many services use the name: a change of one service need not look at the others.
    users: usize,
    handle: AbortHandle,
}

impl Resolver {
    /// Looks names up every so often, and says to `report` what they stand for, until that breaks
    /// off.
    pub(crate) fn new(
        report: impl Fn(&Arc<str>, Vec<IpAddr>) -> ControlFlow<()> + Send + Sync + 'static,
        every: Duration,
    ) -> Self {
        Self {
            report: Arc::new(report),
            every,
            names: Mutex::default(),
        }
    }

    /// A service was replaced, and uses these names now. Gives those that no service uses any more.
    /// To be called inside a runtime.
    pub(crate) fn replaced(&self, service: &str, used: BTreeSet<Arc<str>>) -> Vec<Arc<str>> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let Names { by_service, tasks } = &mut *names;
        let before = by_service.remove(service).unwrap_or_default();
        for name in used.difference(&before) {
            let task = tasks.entry(name.clone()).or_insert_with(|| {
                let again = look_up_again(self.report.clone(), name.clone(), self.every);
                Task {
                    users: 0,
                    handle: tokio::spawn(again).abort_handle(),
                }
            });
            task.users += 1;
        }
        let mut unused = Vec::new();
        for name in before.difference(&used) {
            let Entry::Occupied(mut task) = tasks.entry(name.clone()) else {
                continue;
            };
            task.get_mut().users -= 1;
            if task.get().users == 0 {
                task.remove().handle.abort();
                unused.push(name.clone());
            }
        }
        if !used.is_empty() {
            by_service.insert(service.to_owned(), used);
        }
        unused
    }

    /// Looks names up once, for a short time at most.
    pub(crate) async fn look_up(&self, names: BTreeSet<Arc<str>>) -> Vec<(Arc<str>, Vec<IpAddr>)> {
        let known = |name: &Arc<str>| {
            let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            names.tasks.contains_key(name)
        };
        let mut lookups = tokio::task::JoinSet::new();
        for name in names.into_iter().filter(|name| !known(name)) {
            lookups.spawn(async move {
                let addresses = tokio::time::timeout(FIRST_WITHIN, look_up(&name)).await;
                (name, addresses.unwrap_or_default())
            });
        }
        lookups.join_all().await
    }
}

async fn look_up_again(report: Arc<Report>, name: Arc<str>, every: Duration) {
    loop {
        tokio::time::sleep(every).await;
        let addresses = look_up(&name).await;
        if report(&name, addresses).is_break() {
            return;
        }
    }
}

/// The addresses of a name; none where it has none or no resolver responded. The system's
/// resolver config and its hosts file are read each time: in a container they change.
async fn look_up(name: &str) -> Vec<IpAddr> {
    match try_look_up(name).await {
        Ok(addresses) => addresses,
        Err(error) => {
            tracing::warn!(name, %error, "name lookup failed");
            Vec::new()
        }
    }
}

async fn try_look_up(name: &str) -> Result<Vec<IpAddr>, hickory_resolver::net::NetError> {
    // Never closed, so there is always a place.
    let _place = PLACES.acquire().await;
    let mut builder = TokioResolver::builder_tokio()?;
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
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

    #[tokio::test]
    async fn a_name_is_looked_up_for_as_long_as_a_service_uses_it() {
        let resolver = Resolver::new(|_, _| ControlFlow::Continue(()), Duration::from_secs(60));
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
