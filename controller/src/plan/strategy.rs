//! How a candidate takes over, and the steps that come of it.

use std::fmt;
use std::str::FromStr;

use admin_api::Period;
use serde::{Deserialize, Serialize};

use super::{Amount, Step, StepSpec, replicas_for};

/// The default shares of a canary.
const CANARY_SHARES: [u8; 3] = [10, 50, 100];

/// The defaults of a rolling rollout: what it adds, and what it does without.
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
    Canary(Vec<StepSpec>),
    /// The whole new set beside the old one, then all the traffic at once, and a look at it.
    BlueGreen,
    /// The same share more with every step, in percent.
    Linear(u8),
    /// Any shares, with as many containers as each needs.
    Steps(Vec<StepSpec>),
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

impl Strategy {
    /// A canary's default steps.
    pub fn canary() -> Self {
        Self::Canary(CANARY_SHARES.map(StepSpec::of).to_vec())
    }

    /// The steps for a service with so many stable containers.
    pub fn steps(&self, stable_replicas: u32) -> Vec<Step> {
        let sized = |spec: StepSpec| Step {
            share: if spec.mirror { 0 } else { spec.share },
            mirror: spec.mirror.then_some(spec.share),
            replicas: replicas_for(stable_replicas, spec.share.into(), 100),
            stable: None,
            hold: spec.hold,
            min_requests: None,
            gate: spec.gate,
        };
        let all_sized = |specs: &[StepSpec]| -> Vec<Step> {
            let mut specs = specs.to_vec();
            if let [first, second, ..] = specs.as_mut_slice()
                && first.mirror
                && first.share == 0
            {
                first.share = second.share;
            }
            specs.into_iter().map(sized).collect()
        };
        match self {
            Self::Canary(specs) => {
                let mut steps = all_sized(specs);
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
            Self::BlueGreen => vec![sized(StepSpec::of(100))],
            Self::Linear(by) => (1..=100_u8.div_ceil((*by).max(1)))
                .map(|n| sized(StepSpec::of(n.saturating_mul(*by).min(100))))
                .collect(),
            Self::Steps(specs) => all_sized(specs),
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
                ..sized(StepSpec::of(100))
            }],
        }
    }

    /// Checks steps as people write them: growing shares, from 1 to 100, and 100 at the end.
    pub fn check_step_specs(specs: &[StepSpec]) -> Result<(), String> {
        let (mirror, specs) = match specs {
            [first, rest @ ..] if first.mirror => (Some(first), rest),
            all => (None, all),
        };
        if mirror.is_some_and(|mirror| mirror.share > 100) {
            return Err("`mirror=` copies a whole number from 1 to 100, in percent".into());
        }
        if specs.iter().any(|spec| spec.mirror) {
            return Err("`mirror` can only be the first step".into());
        }
        let shares: Vec<u8> = specs.iter().map(|spec| spec.share).collect();
        if shares.iter().any(|share| !(1..=100).contains(share)) {
            return Err("every step is a whole number from 1 to 100, in percent".into());
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
pub(super) fn rolling(replicas: u32, surge: u32, unavailable: u32) -> Vec<Step> {
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

impl FromStr for Strategy {
    type Err = String;

    /// Reads what a strategy is called, and for `linear=` and `steps=` how it goes.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(list) = text.strip_prefix("steps=") {
            let specs: Vec<StepSpec> = list.split(',').map(str::parse).collect::<Result<_, _>>()?;
            Self::check_step_specs(&specs)?;
            return Ok(Self::Steps(specs));
        }
        if let Some(by) = text.strip_prefix("linear=") {
            let by = by.trim().trim_end_matches('%');
            let by = by.parse().ok().filter(|by| (1..=100).contains(by));
            return by.map(Self::Linear).ok_or_else(|| {
                format!("`{text}`: the increment is a whole number from 1 to 100, in percent")
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
                Err(format!(
                    "`{text}` is not a strategy; the strategies are {known}{hint}"
                ))
            }
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |specs: &[StepSpec]| {
            let specs: Vec<String> = specs.iter().map(StepSpec::to_string).collect();
            specs.join(",")
        };
        match self {
            Self::Canary(specs) => write!(f, "canary {}", list(specs)),
            Self::BlueGreen => f.write_str("blue-green"),
            Self::Linear(by) => write!(f, "linear={by}"),
            Self::Steps(specs) => write!(f, "steps={}", list(specs)),
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
