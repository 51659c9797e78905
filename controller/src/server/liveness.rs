//! Containers that run and that the proxy sees unhealthy for long: which of them are to be replaced.
//! Decisions only; the reconciler carries them out.
//!
//! ```text
//!   unhealthy for `replace_after` ─► given up ─► a new one is started beside it
//!        ▲                              │                   │
//!        │   not healthy in time: it    │                   │ healthy: the old one is drained
//!        └───────── stays ──────────────┴───────────────────┴──► and stopped
//! ```
//!
//! Where several are there and none is healthy, that is no container's fault, and all stay.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use admin_api::HealthState;
use tokio::time::Instant;

use super::backoff::Backoff;
use crate::project::reconcile::Unfit;

/// From one replacement of a service to the next, where one follows the other.
const FIRST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(600);
/// At most one of so many containers is replaced at a time, and one of fewer.
const ONE_OF: u32 = 4;
/// A container that falls again and again is told of once in so long.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// A container that runs, of a version that has so many.
#[derive(Debug, Clone)]
pub(super) struct Sighting {
    pub(super) name: String,
    pub(super) version: i64,
    pub(super) count: u32,
    /// As the proxy sees it; `None` where it does not know it.
    pub(super) health: Option<HealthState>,
}

/// The times of a service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// How long a container may be unhealthy; 0: for ever.
    pub(super) replace_after: Duration,
    /// How long one may take to become healthy.
    pub(super) start_timeout: Duration,
}

/// What has come of a look, by the containers' names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// They were healthy, and are not any more.
    pub(super) fallen: Vec<String>,
    /// They are healthy again, and were not for so long.
    pub(super) recovered: Vec<(String, Duration)>,
    /// They are to be replaced from now on, and have been unhealthy for so long.
    pub(super) given_up: Vec<(String, Duration)>,
    /// Others have taken their places: they can go.
    pub(super) succeeded: Vec<String>,
    /// None has, in time: they stay.
    pub(super) kept: Vec<String>,
}

/// The health of all services' containers, over time.
#[derive(Debug)]
pub(super) struct Liveness {
    services: HashMap<String, History>,
    backoff: Backoff,
}

/// That of one service's containers, by their names.
#[derive(Debug, Default)]
struct History {
    /// Since when they are unhealthy.
    unhealthy: BTreeMap<String, Instant>,
    /// They have been healthy.
    proven: BTreeSet<String>,
    /// Given up, and when.
    given_up: BTreeMap<String, Instant>,
    /// Unhealthy, too, when the last ones were given up: no successor of theirs.
    others: BTreeSet<String>,
    /// When it was told last that they fell.
    told: BTreeMap<String, Instant>,
}

impl Default for Liveness {
    fn default() -> Self {
        Self {
            services: HashMap::new(),
            backoff: Backoff::new(FIRST, LONGEST),
        }
    }
}

impl Liveness {
    /// What is known of a service's containers.
    pub(super) fn unfit(&self, service: &str) -> Unfit {
        let Some(history) = self.services.get(service) else {
            return Unfit::default();
        };
        let rank = |name: &String| {
            let is_new = !history.proven.contains(name);
            (name.clone(), 1 + u8::from(is_new))
        };
        Unfit {
            unhealthy: history.unhealthy.keys().map(rank).collect(),
            given_up: history.given_up.keys().cloned().collect(),
        }
    }

    /// The containers of a service that are unhealthy, and since when; and whether others are to be
    /// started in their places already.
    pub(super) fn unhealthy(&self, service: &str) -> Vec<(&str, Instant, bool)> {
        let Some(history) = self.services.get(service) else {
            return Vec::new();
        };
        let unhealthy = history.unhealthy.iter();
        unhealthy
            .map(|(name, since)| match history.given_up.get(name) {
                Some(since) => (name.as_str(), *since, true),
                None => (name.as_str(), *since, false),
            })
            .collect()
    }

    /// Whether none is unhealthy, or waits for another in its place.
    pub(super) fn is_calm(&self) -> bool {
        let mut histories = self.services.values();
        histories.all(|history| history.unhealthy.is_empty() && history.given_up.is_empty())
    }

    /// These were waited for until they were healthy: one that is not any more is not starting.
    pub(super) fn were_healthy(&mut self, service: &str, names: impl Iterator<Item = String>) {
        let history = self.services.entry(service.to_owned()).or_default();
        history.proven.extend(names);
    }

    /// A look at all containers of a service that run and whose number is not a rollout's business.
    pub(super) fn see(&mut self, service: &str, all: &[Sighting], times: Times) -> Seen {
        let history = self.services.entry(service.to_owned()).or_default();
        let mut seen = Seen::default();
        history.note(all, &mut seen);
        let versions: BTreeMap<i64, u32> = all.iter().map(|one| (one.version, one.count)).collect();
        for (version, count) in versions {
            let of_version: Vec<&Sighting> =
                all.iter().filter(|one| one.version == version).collect();
            if of_version.iter().any(|one| history.gave_up(one)) {
                let is_over = history.follow(&of_version, count, times, &mut seen);
                if is_over {
                    self.backoff.healed(service);
                }
                continue;
            }
            let due = history.due(&of_version, count, times);
            if !due.is_empty() && self.backoff.may(service, false) {
                seen.given_up.extend(history.give_up(&due));
            }
        }
        seen
    }
}

impl History {
    fn note(&mut self, all: &[Sighting], seen: &mut Seen) {
        let is_there = |name: &str| all.iter().any(|one| one.name == name);
        self.unhealthy.retain(|name, _| is_there(name));
        self.given_up.retain(|name, _| is_there(name));
        self.proven.retain(|name| is_there(name));
        self.told.retain(|name, _| is_there(name));
        for one in all {
            match one.health {
                Some(HealthState::Down) => self.fall(&one.name, seen),
                health => {
                    let fell = self.unhealthy.remove(&one.name);
                    let told = self.told.get(&one.name);
                    // Not every fall is told.
                    if let Some(fell) = fell.filter(|fell| told == Some(fell)) {
                        seen.recovered.push((one.name.clone(), fell.elapsed()));
                    }
                    if health == Some(HealthState::Up) {
                        self.proven.insert(one.name.clone());
                    }
                }
            }
        }
    }

    fn fall(&mut self, name: &str, seen: &mut Seen) {
        if self.unhealthy.contains_key(name) {
            return;
        }
        let now = Instant::now();
        self.unhealthy.insert(name.to_owned(), now);
        let told = self.told.get(name);
        let is_news = told.is_none_or(|told| told.elapsed() >= TOLD_EVERY);
        if self.proven.contains(name) && is_news {
            self.told.insert(name.to_owned(), now);
            seen.fallen.push(name.to_owned());
        }
    }

    fn gave_up(&self, one: &Sighting) -> bool {
        self.given_up.contains_key(&one.name)
    }

    /// Whether others have taken the places of those that were given up, or cannot.
    fn follow(
        &mut self,
        of_version: &[&Sighting],
        count: u32,
        times: Times,
        seen: &mut Seen,
    ) -> bool {
        let (old, rest): (Vec<&Sighting>, Vec<&Sighting>) = of_version
            .iter()
            .copied()
            .partition(|one| self.gave_up(one));
        let counts = |one: &&&Sighting| {
            one.health == Some(HealthState::Up) || self.others.contains(&one.name)
        };
        let names = || old.iter().map(|one| one.name.clone());
        if rest.iter().filter(counts).count() >= count as usize {
            seen.succeeded.extend(names());
        } else if names().any(|name| self.given_up[&name].elapsed() >= times.start_timeout) {
            seen.kept.extend(names());
        } else {
            return false;
        }
        for name in names() {
            self.given_up.remove(&name);
            self.unhealthy.remove(&name);
        }
        true
    }

    /// Those that may be given up now: those that are unhealthy longest, and a part of all.
    fn due(&self, of_version: &[&Sighting], count: u32, times: Times) -> Vec<String> {
        let is_up = |one: &&&Sighting| one.health == Some(HealthState::Up);
        let all_alike = of_version.len() > 1 && !of_version.iter().any(|one| is_up(&one));
        if times.replace_after.is_zero() || all_alike {
            return Vec::new();
        }
        let is_due = |name: &String, since: &Instant| {
            let limit = match self.proven.contains(name) {
                true => times.replace_after,
                // It may take long to start.
                false => times.replace_after.max(times.start_timeout),
            };
            since.elapsed() >= limit && of_version.iter().any(|one| one.name == *name)
        };
        let unhealthy = self.unhealthy.iter();
        let mut due: Vec<(&String, &Instant)> = unhealthy
            .filter(|(name, since)| is_due(name, since))
            .collect();
        due.sort_by_key(|(_, since)| **since);
        due.truncate((count / ONE_OF).max(1) as usize);
        due.into_iter().map(|(name, _)| name.clone()).collect()
    }

    fn give_up(&mut self, names: &[String]) -> Vec<(String, Duration)> {
        self.others = self.unhealthy.keys().cloned().collect();
        let mut given_up = Vec::new();
        for name in names {
            self.others.remove(name);
            self.given_up.insert(name.clone(), Instant::now());
            let unhealthy_for = self.unhealthy.get(name).map(Instant::elapsed);
            given_up.push((name.clone(), unhealthy_for.unwrap_or_default()));
        }
        given_up
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::HealthState::{Down, Ejected, Up};
    use super::*;

    const TIMES: Times = Times {
        replace_after: Duration::from_secs(30),
        start_timeout: Duration::from_secs(60),
    };

    /// `("web-1", Up)` of a version that has `count` containers.
    fn sightings(count: u32, containers: &[(&str, HealthState)]) -> Vec<Sighting> {
        let sighting = |(name, health): &(&str, HealthState)| Sighting {
            name: (*name).to_owned(),
            version: 1,
            count,
            health: Some(*health),
        };
        containers.iter().map(sighting).collect()
    }

    struct Watched(Liveness, u32);

    impl Watched {
        /// All of these are healthy at first.
        fn new(names: &[&str]) -> Self {
            let mut watched = Self(Liveness::default(), names.len() as u32);
            let all: Vec<(&str, HealthState)> = names.iter().map(|name| (*name, Up)).collect();
            assert_eq!(watched.see(&all), Seen::default());
            watched
        }

        fn see(&mut self, containers: &[(&str, HealthState)]) -> Seen {
            self.0.see("web", &sightings(self.1, containers), TIMES)
        }

        /// The names of those that are given up after so long.
        async fn given_up_after(
            &mut self,
            seconds: u64,
            containers: &[(&str, HealthState)],
        ) -> Vec<String> {
            self.see(containers);
            advance(Duration::from_secs(seconds)).await;
            let seen = self.see(containers);
            seen.given_up.into_iter().map(|(name, _)| name).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_unhealthy_for_long_goes_once_another_is_healthy_in_its_place() {
        let mut watched = Watched::new(&["a", "b"]);
        let hung = [("a", Down), ("b", Up)];
        assert_eq!(watched.given_up_after(29, &hung).await, [""; 0]);
        assert_eq!(watched.given_up_after(1, &hung).await, ["a"]);
        assert!(watched.0.unfit("web").given_up.contains("a"));
        let starting = watched.see(&[("a", Down), ("b", Up), ("c", Down)]);
        assert_eq!(starting, Seen::default(), "c has yet to be healthy");
        let there = watched.see(&[("a", Down), ("b", Up), ("c", Up)]);
        assert_eq!(there.succeeded, ["a"]);
        assert!(watched.0.unfit("web").given_up.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_healthy_between_or_ejected_stays() {
        let mut watched = Watched::new(&["a", "b"]);
        for _ in 0..5 {
            assert_eq!(
                watched.given_up_after(20, &[("a", Down), ("b", Up)]).await,
                [""; 0]
            );
            watched.see(&[("a", Up), ("b", Up)]);
        }
        let ejected = [("a", Ejected), ("b", Up)];
        assert_eq!(watched.given_up_after(90, &ejected).await, [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_are_unhealthy_none_is_to_blame_and_one_alone_is() {
        let mut watched = Watched::new(&["a", "b"]);
        let all = [("a", Down), ("b", Down)];
        assert_eq!(watched.given_up_after(600, &all).await, [""; 0]);
        let mut alone = Watched::new(&["a"]);
        assert_eq!(alone.given_up_after(30, &[("a", Down)]).await, ["a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_that_hang_a_part_is_replaced_at_a_time() {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let mut watched = Watched::new(&names);
        let mut all: Vec<(&str, HealthState)> = names.iter().map(|name| (*name, Down)).collect();
        all[7].1 = Up;
        let given_up = watched.given_up_after(30, &all).await;
        assert_eq!(given_up, ["a", "b"], "a quarter of 8");
        assert_eq!(
            watched.given_up_after(30, &all).await,
            [""; 0],
            "these first"
        );
        all.extend([("i", Up), ("j", Up)]);
        assert_eq!(watched.see(&all).succeeded, ["a", "b"]);
        all.drain(..2);
        assert_eq!(watched.given_up_after(29, &all).await, [""; 0], "backs off");
        assert_eq!(watched.given_up_after(1, &all).await, ["c", "d"]);
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_new_one_is_not_healthy_either_the_old_one_stays_and_the_next_attempt_waits()
    {
        let mut watched = Watched::new(&["a"]);
        assert_eq!(watched.given_up_after(30, &[("a", Down)]).await, ["a"]);
        let both = [("a", Down), ("b", Down)];
        watched.see(&both);
        advance(TIMES.start_timeout).await;
        assert_eq!(watched.see(&both).kept, ["a"]);
        let unfit = watched.0.unfit("web");
        assert_eq!(unfit.unhealthy.get("b"), Some(&2), "the first to go");
        assert_eq!(watched.given_up_after(29, &[("a", Down)]).await, [""; 0]);
        assert_eq!(watched.given_up_after(1, &[("a", Down)]).await, ["a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_never_healthy_has_the_time_to_start() {
        let mut watched = Watched::new(&["a"]);
        watched.1 = 2;
        let slow = [("a", Up), ("b", Down)];
        assert_eq!(watched.given_up_after(59, &slow).await, [""; 0]);
        assert_eq!(watched.given_up_after(1, &slow).await, ["b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fall_is_told_with_its_end_and_many_are_told_once_in_a_while() {
        let mut watched = Watched::new(&["a", "b"]);
        let (hung, well) = ([("a", Down), ("b", Up)], [("a", Up), ("b", Up)]);
        assert_eq!(watched.see(&hung).fallen, ["a"]);
        assert_eq!(watched.see(&hung), Seen::default(), "it is told already");
        advance(Duration::from_secs(7)).await;
        let recovered = watched.see(&well).recovered;
        assert_eq!(recovered, [("a".to_owned(), Duration::from_secs(7))]);
        assert_eq!(watched.see(&hung), Seen::default(), "again, a moment later");
        assert_eq!(watched.see(&well), Seen::default());
        advance(TOLD_EVERY).await;
        assert_eq!(watched.see(&hung).fallen, ["a"]);
        // One that was never healthy is starting.
        let new = [("a", Up), ("b", Up), ("c", Down)];
        assert_eq!(watched.see(&new).fallen, [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn with_0_none_is_replaced() {
        let mut liveness = Liveness::default();
        let never = Times {
            replace_after: Duration::ZERO,
            ..TIMES
        };
        let hung = sightings(2, &[("a", Down), ("b", Up)]);
        liveness.see("web", &hung, never);
        advance(Duration::from_secs(3600)).await;
        assert_eq!(liveness.see("web", &hung, never), Seen::default());
    }
}
