//! The scenes of the story, in order: the split that begins each, and what clients saw of it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::witness::{Outcome, Seen};

/// Responses that were under way when a scene began are left out of the shares seen in it.
const SETTLE: Duration = Duration::from_millis(100);
/// Fewer responses than this are no scene.
const FEWEST: usize = 20;

/// The shares of a split, in percent, without those at 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shares(BTreeMap<String, u32>);

impl Shares {
    /// The shares that weights come to.
    pub(super) fn of(split: &BTreeMap<String, u32>) -> Self {
        let total: u64 = split.values().copied().map(u64::from).sum();
        let share = |weight: u32| {
            let share = 100 * u64::from(weight) / total.max(1);
            u32::try_from(share).unwrap_or(100)
        };
        let above_0 = split.iter().filter(|(_, weight)| **weight > 0);
        Self(
            above_0
                .map(|(version, weight)| (version.clone(), share(*weight)))
                .collect(),
        )
    }

    fn text(&self) -> String {
        let shares = self
            .0
            .iter()
            .map(|(version, share)| format!("{version} {share}%"));
        shares.collect::<Vec<_>>().join(", ")
    }
}

/// All scenes, and which of them have begun.
pub(super) struct Scenes {
    scenes: Vec<Scene>,
    begun: usize,
}

struct Scene {
    name: &'static str,
    wanted: Shares,
    began: Option<Instant>,
}

/// What clients saw of one scene.
#[derive(Default)]
struct Tally {
    requests: usize,
    /// Responses below 500 by version, once the scene had settled.
    shares: BTreeMap<String, usize>,
    /// By the bad release itself.
    bad_responses: usize,
    /// Everything else that is not a good response.
    failures: BTreeMap<String, usize>,
}

impl Scenes {
    /// Scenes to come, each with its name and its split.
    pub(super) fn new(scenes: &[(&'static str, &[(&str, u32)])]) -> Self {
        let scene = |(name, split): &(&'static str, &[(&str, u32)])| Scene {
            name,
            wanted: Shares(
                split
                    .iter()
                    .map(|(v, share)| ((*v).to_owned(), *share))
                    .collect(),
            ),
            began: None,
        };
        Self {
            scenes: scenes.iter().map(scene).collect(),
            begun: 0,
        }
    }

    /// How many have begun.
    pub(super) fn begun(&self) -> usize {
        self.begun
    }

    /// The name of the one that has not.
    pub(super) fn next(&self) -> &'static str {
        self.scenes
            .get(self.begun)
            .map_or("nothing more", |scene| scene.name)
    }

    /// The proxy's split is this. Gives the scene that begins with it, in words.
    pub(super) fn look(&mut self, shares: &Shares) -> Option<String> {
        let scene = self
            .scenes
            .get_mut(self.begun)
            .filter(|scene| scene.wanted == *shares)?;
        scene.began = Some(Instant::now());
        self.begun += 1;
        Some(format!("{}: {}", scene.name, scene.wanted.text()))
    }

    /// The summary: a row for each scene, then how fast the bad release was gone.
    pub(super) fn table(&self, seen: &[Seen]) -> String {
        let head = [
            "STAGE",
            "WANTED",
            "SEEN",
            "REQUESTS",
            "FAILED",
            "3.0.0'S OWN ERRORS",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for (scene, tally) in self.scenes.iter().zip(self.tallies(seen)) {
            let failed = match tally.failures.values().sum::<usize>() {
                0 => "0".to_owned(),
                n => format!("{n} ({})", tally.causes()),
            };
            rows.push(vec![
                scene.name.to_owned(),
                scene.wanted.text(),
                tally.shares_text(),
                tally.requests.to_string(),
                failed,
                tally.bad_responses.to_string(),
            ]);
        }
        let mut text = crate::print::table(&rows);
        if let Some(lasted) = bad_release_lasted(seen) {
            text.push_str(&format!(
                "\nfrom 3.0.0's first bad response to its last response of all: {:.2} s\n",
                lasted.as_secs_f64()
            ));
        }
        text
    }

    /// What should have been and was not, a sentence each.
    pub(super) fn broken_promises(&self, seen: &[Seen]) -> Vec<String> {
        let mut broken = Vec::new();
        for (scene, tally) in self.scenes.iter().zip(self.tallies(seen)) {
            if scene.began.is_none() {
                broken.push(format!("{} did not happen", scene.name));
            } else if tally.requests < FEWEST {
                broken.push(format!("{}: only {} requests", scene.name, tally.requests));
            }
            if !tally.failures.is_empty() {
                broken.push(format!(
                    "{}: requests failed: {}",
                    scene.name,
                    tally.causes()
                ));
            }
        }
        if bad_release_lasted(seen).is_none() {
            broken.push("3.0.0 was never seen to fail".into());
        }
        broken
    }

    /// What was seen of each scene.
    fn tallies(&self, seen: &[Seen]) -> Vec<Tally> {
        let mut tallies: Vec<Tally> = self.scenes.iter().map(|_| Tally::default()).collect();
        for Seen { at, what } in seen {
            let begun = |scene: &&Scene| scene.began.is_some_and(|began| began <= *at);
            let scene = self
                .scenes
                .iter()
                .take_while(begun)
                .count()
                .saturating_sub(1);
            let (Some(scene), Some(tally)) = (self.scenes.get(scene), tallies.get_mut(scene))
            else {
                continue;
            };
            let settled = scene.began.is_some_and(|began| *at >= began + SETTLE);
            tally.count(what, settled);
        }
        tallies
    }
}

impl Tally {
    fn count(&mut self, what: &Outcome, settled: bool) {
        self.requests += 1;
        match what {
            Outcome::Response { version, status } => {
                if settled {
                    *self.shares.entry(version.clone()).or_default() += 1;
                }
                match (version.as_str(), status) {
                    ("3.0.0", 500) => self.bad_responses += 1,
                    (_, 200) => {}
                    (_, status) => *self.failures.entry(status.to_string()).or_default() += 1,
                }
            }
            Outcome::Failure(cause) => *self.failures.entry(cause.clone()).or_default() += 1,
        }
    }

    fn causes(&self) -> String {
        let causes = self
            .failures
            .iter()
            .map(|(cause, n)| format!("{n} × {cause}"));
        causes.collect::<Vec<_>>().join(", ")
    }

    fn shares_text(&self) -> String {
        let total: usize = self.shares.values().sum();
        let share = |n: usize| 100.0 * n as f64 / total.max(1) as f64;
        let shares = self
            .shares
            .iter()
            .map(|(version, n)| format!("{version} {:.1}%", share(*n)));
        shares.collect::<Vec<_>>().join(", ")
    }
}

/// From the first bad response of 3.0.0 to its last response of all.
fn bad_release_lasted(seen: &[Seen]) -> Option<Duration> {
    let of_bad = |seen: &&Seen| matches!(&seen.what, Outcome::Response { version, .. } if version == "3.0.0");
    let failed = |seen: &&Seen| matches!(&seen.what, Outcome::Response { status: 500, .. });
    let first = seen.iter().filter(of_bad).find(failed)?;
    let last = seen.iter().rfind(of_bad)?;
    Some(last.at - first.at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(split: &[(&str, u32)]) -> Shares {
        Shares::of(
            &split
                .iter()
                .map(|(v, weight)| ((*v).to_owned(), *weight))
                .collect(),
        )
    }

    fn response(at: Instant, version: &str, status: u16) -> Seen {
        Seen {
            at,
            what: Outcome::Response {
                version: version.into(),
                status,
            },
        }
    }

    fn two_scenes() -> Scenes {
        Scenes::new(&[
            ("first", &[("1", 100)]),
            ("second", &[("1", 90), ("3.0.0", 10)]),
        ])
    }

    #[test]
    fn scenes_begin_in_their_order_and_not_twice() {
        let mut scenes = two_scenes();
        assert!(scenes.look(&shares(&[("1", 9), ("3.0.0", 1)])).is_none());
        assert!(scenes.look(&shares(&[("1", 7), ("3.0.0", 0)])).is_some());
        assert!(scenes.look(&shares(&[("1", 7)])).is_none());
        assert_eq!(scenes.next(), "second");
        assert!(scenes.look(&shares(&[("1", 9), ("3.0.0", 1)])).is_some());
        assert_eq!(scenes.begun(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_bad_releases_own_errors_break_no_promise_and_everything_else_does() {
        let mut scenes = two_scenes();
        scenes.look(&shares(&[("1", 1)]));
        let mut seen: Vec<Seen> = (0..30)
            .map(|_| response(Instant::now(), "1", 200))
            .collect();
        tokio::time::advance(Duration::from_secs(1)).await;
        scenes.look(&shares(&[("1", 9), ("3.0.0", 1)]));
        tokio::time::advance(Duration::from_secs(1)).await;
        seen.extend((0..27).map(|_| response(Instant::now(), "1", 200)));
        seen.push(response(Instant::now(), "3.0.0", 500));
        tokio::time::advance(Duration::from_secs(1)).await;
        seen.extend((0..2).map(|_| response(Instant::now(), "3.0.0", 200)));
        assert!(
            scenes.broken_promises(&seen).is_empty(),
            "{:?}",
            scenes.broken_promises(&seen)
        );
        let table = scenes.table(&seen);
        assert!(table.contains("1 90.0%, 3.0.0 10.0%"), "{table}");
        assert!(table.contains("last response of all: 1.00 s"), "{table}");

        for (bad, says) in [
            (
                response(Instant::now(), "1", 500),
                "second: requests failed: 1 × 500",
            ),
            (response(Instant::now(), "3.0.0", 502), "1 × 502"),
            (
                Seen {
                    at: Instant::now(),
                    what: Outcome::Failure("cut".into()),
                },
                "1 × cut",
            ),
        ] {
            let seen: Vec<Seen> = seen.iter().cloned().chain([bad]).collect();
            let broken = scenes.broken_promises(&seen).join("; ");
            assert!(broken.contains(says), "{broken}");
        }
    }

    #[test]
    fn a_scene_that_did_not_happen_is_named() {
        let broken = two_scenes().broken_promises(&[]).join("; ");
        assert!(
            broken.contains("first did not happen; second did not happen"),
            "{broken}"
        );
    }
}
