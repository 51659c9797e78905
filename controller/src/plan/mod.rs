//! The steps of a rollout, worked out before it begins: which share of the requests the
//! candidate gets, and how many containers it has to have for that.

mod settings;
mod stage;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use admin_api::Period;
use serde::{Deserialize, Serialize};

pub use settings::RolloutSettings;
pub use stage::{Amount, Stage};

/// The shares of a canary where nobody asked for others.
const CANARY_SHARES: [u8; 3] = [10, 50, 100];
/// What a rolling rollout adds, and what it does without, where nobody said so.
const MAX_SURGE: Amount = Amount::Percent(25);
const MAX_UNAVAILABLE: Amount = Amount::Count(0);
/// What a strategy can be, for people who wrote something else.
const KNOWN: [&str; 6] = [
    "canary",
    "blue-green",
    "linear=20",
    "steps=1,10,50,100",
    "rolling",
    "all-at-once",
];

/// How a candidate takes over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// One extra container at the first share, then more of both.
    Canary(Vec<Stage>),
    /// The whole new set beside the old one, then all the traffic at once, and a look at it.
    BlueGreen,
    /// The same share more with every step, in per cent.
    Linear(u8),
    /// Any shares, with as many containers as each needs.
    Steps(Vec<Stage>),
    /// A few containers at a time: never many more of both versions than stable had, for hosts
    /// that have no room for two sets.
    Rolling {
        /// How many more than stable had there may be.
        max_surge: Amount,
        /// How many fewer than stable had there may be.
        max_unavailable: Amount,
    },
    /// The whole new set beside the old one, and all the traffic as soon as it is healthy.
    AllAtOnce,
}

/// One step of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The candidate's share of the requests, in per cent: 1 to 100; 0 while it is mirrored to.
    pub share: u8,
    /// How many of a hundred requests are copied to the candidate, which has no others then, and
    /// whose answers are thrown away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<u8>,
    /// How many containers the candidate needs before it gets this share.
    pub replicas: u32,
    /// How many containers stable goes down to before that; `None`: it keeps all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<u32>,
    /// How long it lasts at least, where that is not `step_min_duration`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Period>,
    /// The requests that it needs, where that is not `min_requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_requests: Option<u64>,
    /// Whether somebody has to agree before the next step.
    #[serde(default, skip_serializing_if = "is_false")]
    pub gate: bool,
}

impl Step {
    /// `10% on 1 container, for at least 30s and 50 requests, then a gate`.
    pub fn plan(&self, settings: &RolloutSettings) -> String {
        let plural = if self.replicas == 1 { "" } else { "s" };
        let hold = self.hold.unwrap_or(settings.step_min_duration);
        let requests = self.min_requests.unwrap_or(settings.min_requests);
        let mut text = format!(
            "{} on {} container{plural}, for at least {hold} and {requests} requests",
            self.what(),
            self.replicas
        );
        if let Some(stable) = self.stable {
            text.push_str(&format!("; the old version goes down to {stable}"));
        }
        if self.gate {
            text.push_str("; then `crossfade resume` is waited for");
        }
        text
    }

    /// What the candidate gets: `10%`, or `copies of 10%`.
    pub fn what(&self) -> String {
        match self.mirror {
            Some(percent) => format!("copies of {percent}%"),
            None => format!("{}%", self.share),
        }
    }
}

impl Strategy {
    /// A canary's steps where nobody asked for others.
    pub fn canary() -> Self {
        Self::Canary(CANARY_SHARES.map(Stage::of).to_vec())
    }

    /// The steps for a service with so many stable containers.
    pub fn steps(&self, stable_replicas: u32) -> Vec<Step> {
        let sized = |stage: Stage| Step {
            share: if stage.mirror { 0 } else { stage.share },
            mirror: stage.mirror.then_some(stage.share),
            replicas: replicas_for(stable_replicas, stage.share.into(), 100),
            stable: None,
            hold: stage.hold,
            min_requests: None,
            gate: stage.gate,
        };
        let all_sized = |stages: &[Stage]| -> Vec<Step> {
            let mut stages = stages.to_vec();
            if let [first, second, ..] = stages.as_mut_slice()
                && first.mirror
                && first.share == 0
            {
                first.share = second.share;
            }
            stages.into_iter().map(sized).collect()
        };
        match self {
            Self::Canary(stages) => {
                let mut steps = all_sized(stages);
                // A canary is one container more, however many there are of stable: for its first
                // share, and for as many copies.
                if let [early @ .., _] = steps.as_mut_slice() {
                    let first = early.iter().find(|step| step.mirror.is_none());
                    let first = first.map(|step| step.share);
                    let is_first = |step: &&mut Step| step.mirror.or(Some(step.share)) == first;
                    let early = early.iter_mut().take(2);
                    early.filter(is_first).for_each(|step| step.replicas = 1);
                }
                steps
            }
            Self::BlueGreen => vec![sized(Stage::of(100))],
            Self::Linear(by) => (1..=100_u8.div_ceil((*by).max(1)))
                .map(|n| sized(Stage::of(n.saturating_mul(*by).min(100))))
                .collect(),
            Self::Steps(stages) => all_sized(stages),
            Self::Rolling {
                max_surge,
                max_unavailable,
            } => rolling(
                stable_replicas.max(1),
                max_surge.of(stable_replicas),
                max_unavailable.of(stable_replicas),
            ),
            Self::AllAtOnce => vec![Step {
                hold: Some(Period::from_secs(0)),
                min_requests: Some(0),
                ..sized(Stage::of(100))
            }],
        }
    }

    /// Checks steps as people write them: growing shares, from 1 to 100, and 100 at the end.
    pub fn check_stages(stages: &[Stage]) -> Result<(), String> {
        let (mirror, stages) = match stages {
            [first, rest @ ..] if first.mirror => (Some(first), rest),
            all => (None, all),
        };
        if mirror.is_some_and(|mirror| mirror.share > 100) {
            return Err("`mirror=` copies a whole number from 1 to 100, in per cent".into());
        }
        if stages.iter().any(|stage| stage.mirror) {
            return Err("`mirror` can only be the first step".into());
        }
        let shares: Vec<u8> = stages.iter().map(|stage| stage.share).collect();
        if shares.iter().any(|share| !(1..=100).contains(share)) {
            return Err("every step is a whole number from 1 to 100, in per cent".into());
        }
        if shares.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err("every step has to be larger than the one before".into());
        }
        if shares.last() != Some(&100) {
            return Err("the last step has to be 100".into());
        }
        Ok(())
    }
}

/// A few containers at a time. In every step stable first goes down as far as the candidate's
/// containers of the step before allow, then the candidate goes up as far as there is room.
/// The share is what the candidate's containers are of all, so that none of them carries more
/// than one of stable did.
fn rolling(replicas: u32, surge: u32, unavailable: u32) -> Vec<Step> {
    // At least one container serves at any time.
    let unavailable = unavailable.min(replicas - 1);
    let surge = if unavailable == 0 {
        surge.max(1)
    } else {
        surge
    };
    let mut steps = Vec::new();
    let mut candidate = 0;
    while candidate < replicas {
        let stable = replicas.saturating_sub(unavailable + candidate);
        let room = replicas.saturating_add(surge) - stable;
        candidate = room.min(replicas);
        let share = u64::from(candidate) * 100 / u64::from(replicas);
        steps.push(Step {
            share: u8::try_from(share).unwrap_or(100).max(1),
            mirror: None,
            replicas: candidate,
            stable: Some(stable),
            hold: None,
            min_requests: None,
            gate: false,
        });
    }
    steps
}

/// How many containers a version needs to carry `weight` of `total`, measured by how many
/// carry all of it now. At least one.
pub fn replicas_for(stable_replicas: u32, weight: u64, total: u64) -> u32 {
    let exact = u64::from(stable_replicas) * weight;
    u32::try_from(exact.div_ceil(total.max(1)))
        .unwrap_or(u32::MAX)
        .max(1)
}

/// How many containers a version needs for what a split gives it; none where that is nothing.
pub fn replicas_for_split(
    stable_replicas: u32,
    split: &BTreeMap<String, u32>,
    version: &str,
) -> u32 {
    let total = split.values().copied().map(u64::from).sum();
    match split.get(version).copied().unwrap_or(0) {
        0 => 0,
        weight => replicas_for(stable_replicas, weight.into(), total),
    }
}

impl FromStr for Strategy {
    type Err = String;

    /// Reads what a strategy is called, and for `linear=` and `steps=` how it goes.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(list) = text.strip_prefix("steps=") {
            let stages: Vec<Stage> = list.split(',').map(str::parse).collect::<Result<_, _>>()?;
            Self::check_stages(&stages)?;
            return Ok(Self::Steps(stages));
        }
        if let Some(by) = text.strip_prefix("linear=") {
            let by = by.trim().trim_end_matches('%');
            let by = by.parse().ok().filter(|by| (1..=100).contains(by));
            return by.map(Self::Linear).ok_or_else(|| {
                format!("`{text}`: by how much is a whole number from 1 to 100, in per cent")
            });
        }
        match text {
            "canary" => Ok(Self::canary()),
            "blue-green" => Ok(Self::BlueGreen),
            "rolling" => Ok(Self::Rolling {
                max_surge: MAX_SURGE,
                max_unavailable: MAX_UNAVAILABLE,
            }),
            "all-at-once" => Ok(Self::AllAtOnce),
            _ => {
                let hint = admin_api::strict::closest(text, KNOWN)
                    .map(|meant| format!("; did you mean `{meant}`?"))
                    .unwrap_or_default();
                let known = KNOWN.join(", ");
                Err(format!("`{text}` is not a strategy, only {known}{hint}"))
            }
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |stages: &[Stage]| {
            let stages: Vec<String> = stages.iter().map(Stage::to_string).collect();
            stages.join(",")
        };
        match self {
            Self::Canary(stages) => write!(f, "canary {}", list(stages)),
            Self::BlueGreen => f.write_str("blue-green"),
            Self::Linear(by) => write!(f, "linear={by}"),
            Self::Steps(stages) => write!(f, "steps={}", list(stages)),
            Self::Rolling {
                max_surge,
                max_unavailable,
            } => write!(
                f,
                "rolling, at most {max_surge} more and {max_unavailable} fewer containers"
            ),
            Self::AllAtOnce => f.write_str("all-at-once"),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(strategy: &str, stable: u32, want: &[(u8, u32)]) {
        let steps = strategy
            .parse::<Strategy>()
            .expect("a strategy")
            .steps(stable);
        let got: Vec<(u8, u32)> = steps
            .iter()
            .map(|step| (step.share, step.replicas))
            .collect();
        assert_eq!(got, want, "{strategy} over {stable}");
        let kept = steps.iter().all(|step| step.stable.is_none());
        assert!(kept || strategy == "rolling", "stable keeps all of its own");
    }

    #[test]
    fn every_share_has_the_containers_it_needs() {
        check("canary", 4, &[(10, 1), (50, 2), (100, 4)]);
        check("canary", 1, &[(10, 1), (50, 1), (100, 1)]);
        check("canary", 30, &[(10, 1), (50, 15), (100, 30)]);
        check("blue-green", 4, &[(100, 4)]);
        check("all-at-once", 4, &[(100, 4)]);
        check("linear=25", 4, &[(25, 1), (50, 2), (75, 3), (100, 4)]);
        check("linear=40%", 4, &[(40, 2), (80, 4), (100, 4)]);
        check("linear=100", 4, &[(100, 4)]);
        check(
            "steps=1,10,50,100",
            4,
            &[(1, 1), (10, 1), (50, 2), (100, 4)],
        );
        check(
            "steps=1,10,50,100",
            30,
            &[(1, 1), (10, 3), (50, 15), (100, 30)],
        );
        check("steps=100", 3, &[(100, 3)]);
        check("steps=33,67,100", 3, &[(33, 1), (67, 3), (100, 3)]);
    }

    /// Steps as (copies, share, candidate's containers).
    #[track_caller]
    fn check_mirror(strategy: &Strategy, want: &[(Option<u8>, u8, u32)]) {
        let steps = strategy.steps(30);
        let got: Vec<(Option<u8>, u8, u32)> = steps
            .iter()
            .map(|step| (step.mirror, step.share, step.replicas))
            .collect();
        assert_eq!(got, want, "{strategy}");
    }

    #[test]
    fn copies_come_before_the_first_share_and_need_containers_like_requests() {
        let stages = |list: &str| -> Vec<Stage> {
            let stages = list.split(',').map(str::parse);
            stages.collect::<Result<_, _>>().expect("stages")
        };
        let canary = |list| Strategy::Canary(stages(list));
        let steps = |list| Strategy::Steps(stages(list));
        let all = (None, 100, 30);
        check_mirror(
            &canary("mirror,10,100"),
            &[(Some(10), 0, 1), (None, 10, 1), all],
        );
        check_mirror(
            &steps("mirror,10,100"),
            &[(Some(10), 0, 3), (None, 10, 3), all],
        );
        let every = [(Some(100), 0, 30), (None, 10, 1), all];
        check_mirror(&canary("mirror=100:2m,10,100"), &every);
        check_mirror(&canary("mirror,100"), &[(Some(100), 0, 30), all]);
        check_mirror(&steps("mirror=50,100"), &[(Some(50), 0, 15), all]);
    }

    #[test]
    fn a_service_without_containers_still_gets_one_candidate() {
        check("canary", 0, &[(10, 1), (50, 1), (100, 1)]);
        check("rolling", 0, &[(100, 1)]);
    }

    /// Steps as (share, candidate's containers, stable's containers).
    #[track_caller]
    fn check_rolling(replicas: u32, surge: &str, unavailable: &str, want: &[(u8, u32, u32)]) {
        let strategy = Strategy::Rolling {
            max_surge: surge.parse().expect("an amount"),
            max_unavailable: unavailable.parse().expect("an amount"),
        };
        let steps = strategy.steps(replicas);
        let got: Vec<(u8, u32, u32)> = steps
            .iter()
            .map(|step| (step.share, step.replicas, step.stable.expect("a number")))
            .collect();
        assert_eq!(got, want, "{strategy} over {replicas}");
    }

    #[test]
    fn a_rolling_rollout_goes_on_as_far_as_there_is_room() {
        check_rolling(
            4,
            "1",
            "0",
            &[(25, 1, 4), (50, 2, 3), (75, 3, 2), (100, 4, 1)],
        );
        check_rolling(
            4,
            "0",
            "1",
            &[(25, 1, 3), (50, 2, 2), (75, 3, 1), (100, 4, 0)],
        );
        check_rolling(4, "2", "1", &[(75, 3, 3), (100, 4, 0)]);
        check_rolling(4, "50%", "0", &[(50, 2, 4), (100, 4, 2)]);
        check_rolling(3, "1", "0", &[(33, 1, 3), (66, 2, 2), (100, 3, 1)]);
        check_rolling(4, "100%", "0", &[(100, 4, 4)]);
        check_rolling(4, "4", "4", &[(100, 4, 1)]);
        check_rolling(1, "0", "1", &[(100, 1, 1)]);
        check_rolling(1, "25%", "0", &[(100, 1, 1)]);
    }

    #[test]
    fn a_rolling_rollout_keeps_its_bounds_whatever_they_are() {
        for replicas in 1..12 {
            for (surge, unavailable) in (0..6).flat_map(|s| (0..6).map(move |u| (s, u))) {
                let steps = rolling(replicas, surge, unavailable);
                let mut candidate = 0;
                for step in &steps {
                    let stable = step.stable.expect("a number");
                    let what = format!("{replicas} +{surge} -{unavailable}: {steps:?}");
                    let serving = stable + candidate;
                    assert!(serving >= 1, "{what}");
                    assert!(serving >= replicas.saturating_sub(unavailable), "{what}");
                    assert!(stable + step.replicas <= replicas + surge.max(1), "{what}");
                    assert!(step.replicas > candidate, "{what}");
                    candidate = step.replicas;
                }
                let last = steps.last().map(|step| (step.share, step.replicas));
                assert_eq!(last, Some((100, replicas)));
            }
        }
    }

    #[test]
    fn holds_and_gates_belong_to_their_step() {
        let steps = "steps=10:5m:gate,50:gate,100".parse::<Strategy>();
        let steps = steps.expect("a strategy").steps(4);
        let got: Vec<(Option<Period>, bool)> =
            steps.iter().map(|step| (step.hold, step.gate)).collect();
        let five = Some(Period::from_secs(300));
        assert_eq!(got, [(five, true), (None, true), (None, false)]);
    }

    #[test]
    fn steps_of_an_older_journal_are_still_read() {
        let step: Step = serde_json::from_str(r#"{"share":10,"replicas":1}"#).expect("a step");
        assert_eq!(step, Strategy::canary().steps(4)[0]);
        let old = r#"{"canary":[10,50,100]}"#;
        let strategy: Strategy = serde_json::from_str(old).expect("a strategy");
        assert_eq!(strategy, Strategy::canary());
    }

    #[track_caller]
    fn check_refused(strategy: &str, says: &str) {
        let error = strategy.parse::<Strategy>().expect_err("not a strategy");
        assert!(error.contains(says), "{error}");
    }

    #[test]
    fn what_is_not_a_strategy_is_refused_with_what_would_be() {
        check_refused("blue-gren", "did you mean `blue-green`?");
        check_refused("recreate", "canary, blue-green, linear=20, steps=");
        check_refused("steps=", "is not a step");
        check_refused("steps=10,x", "`x` is not a step");
        check_refused("steps=-1,100", "is not a step");
        check_refused("steps=10:soon,100", "10:5m or 10:5m:gate");
        check_refused("steps=0,100", "from 1 to 100");
        check_refused("steps=10,101", "from 1 to 100");
        check_refused("steps=50,10,100", "larger than the one before");
        check_refused("steps=10,50", "has to be 100");
        check_refused("steps=10,mirror,100", "only be the first");
        check_refused("steps=mirror,mirror,100", "only be the first");
        check_refused("steps=mirror", "has to be 100");
        check_refused("steps=mirror=101,100", "from 1 to 100");
        check_refused("linear=0", "from 1 to 100");
        check_refused("linear=", "from 1 to 100");
    }

    #[test]
    fn a_strategy_reads_back_what_it_shows() {
        for text in [
            "blue-green",
            "steps=1,10:5m,50:gate,100:1m30s:gate",
            "steps=mirror:2m,10,100",
            "steps=mirror=50,100",
            "linear=20",
            "all-at-once",
        ] {
            assert_eq!(
                text.parse::<Strategy>().expect("a strategy").to_string(),
                text
            );
        }
    }
}
