//! The counts of versions that have lost their last endpoint. They go on where the version comes
//! back: a counter never restarts while its service is there.

use std::sync::Arc;

use super::Service;
use crate::table::counts::kept::FailedClients;
use crate::table::counts::stats::Stats;
use crate::table::version::Version;

/// Versions of one service that are remembered after their last endpoint has gone.
const MOST: usize = 32;

/// Labels and counts, the version that left last at the end.
pub(super) type Departed = Vec<(Arc<str>, Arc<Stats>)>;

/// What is remembered of `previous` that is not among `versions`.
pub(super) fn departed(previous: Option<&Service>, versions: &[Version]) -> Departed {
    let known = previous.into_iter().flat_map(|service| {
        let versions = service.versions.iter();
        let left_now = versions.map(|version| (version.label.clone(), version.stats.clone()));
        service.departed.iter().cloned().chain(left_now)
    });
    let is_there = |label: &str| versions.iter().any(|version| *version.label == *label);
    let departed = known.filter(|(label, _)| !is_there(label)).collect();
    latest(departed)
}

fn latest(mut departed: Departed) -> Departed {
    departed.drain(..departed.len().saturating_sub(MOST));
    departed
}

impl Service {
    /// The counts of every version, with those that have no endpoint any more.
    pub(crate) fn stats_of_all(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Stats>)> {
        let versions = self.versions.iter();
        let versions = versions.map(|version| (&version.label, &version.stats));
        versions.chain(self.departed.iter().map(|(label, stats)| (label, stats)))
    }

    /// The clients whose failures were counted, at whichever version.
    pub(super) fn failed_clients(&self) -> Arc<FailedClients> {
        let stats = self.stats_of_all().next();
        let known = stats.map(|(_, stats)| stats.failed_clients().clone());
        known.unwrap_or_default()
    }

    /// The counts of a version, whether it has endpoints or not.
    pub(crate) fn stats_of(&self, label: &str) -> Option<&Arc<Stats>> {
        let mut all = self.stats_of_all();
        all.find_map(|(known, stats)| (**known == *label).then_some(stats))
    }

    /// The versions that have no endpoint any more, the one that left last at the end.
    pub(crate) fn departed(&self) -> impl Iterator<Item = &Arc<str>> {
        self.departed.iter().map(|(label, _)| label)
    }

    /// The same service, which remembers these versions, too: another process has counts of them.
    pub(crate) fn with_departed(mut self, labels: &[String], workers: usize) -> Self {
        for label in labels {
            if self.stats_of(label).is_none() {
                let stats = Arc::new(Stats::beside(workers, self.failed_clients()));
                self.departed.push((label.as_str().into(), stats));
            }
        }
        self.departed = latest(self.departed);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::service;

    /// A service with these versions.
    fn with(labels: &[&str], previous: Option<&Service>) -> Service {
        let endpoint = |label: &&str| format!(r#"{{"address":"10.0.0.1:80","version":"{label}"}}"#);
        let endpoints: Vec<String> = labels.iter().map(endpoint).collect();
        let json = format!(
            r#"{{"name":"web","split":{{"{}":1}},"endpoints":[{}]}}"#,
            labels[0],
            endpoints.join(",")
        );
        service(&json, previous)
    }

    #[test]
    fn a_version_that_loses_its_last_endpoint_keeps_its_counts() {
        let before = with(&["1", "2"], None);
        before.versions[1].stats.responded(0, 500);
        let without = with(&["1"], Some(&before));
        let shown = &without.stats(1).versions["2"];
        assert_eq!(shown.responses.server_error, 1, "the admin API shows it");
        // A response that was in flight when the endpoint went.
        before.versions[1].stats.responded(0, 200);
        let later = with(&["1"], Some(&without));
        let back = with(&["1", "2"], Some(&later));
        let stats = back.versions[1].stats.read();
        assert_eq!((stats.attempts(), stats.failures()), (2, 1));
        assert_eq!(back.stats_of_all().count(), 2, "no version is there twice");
    }

    #[test]
    fn the_versions_that_left_first_are_forgotten_first() {
        let mut service = with(&["0"], None);
        for number in 1..=MOST + 2 {
            service = with(&[&*number.to_string()], Some(&service));
        }
        let departed = service.departed().map(|label| label.to_string());
        let latest = (2..MOST + 2).map(|number| number.to_string());
        assert!(departed.eq(latest));
        assert!(service.stats_of("1").is_none() && service.stats_of("2").is_some());
    }

    #[test]
    fn what_another_process_counts_of_a_version_without_endpoints_is_taken_over() {
        let service = with(&["1"], None).with_departed(&["0".into(), "1".into()], 1);
        assert!(service.stats_of("0").is_some());
        assert_eq!(service.stats_of_all().count(), 2);
        let back = with(&["0", "1"], Some(&service));
        assert!(Arc::ptr_eq(
            &back.versions[0].stats,
            service.stats_of("0").unwrap()
        ));
    }
}
