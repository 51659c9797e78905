//! The steps of a rollout, worked out before it begins: which share of the requests the
//! candidate gets, and how many containers it has to have for that.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The shares of a canary where nobody asked for others.
pub const CANARY_SHARES: [u8; 3] = [10, 50, 100];

/// How a candidate takes over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// One extra container at the first share, then more of both. Shares in per cent.
    Canary(Vec<u8>),
    /// The whole new set beside the old one, then all the traffic at once.
    BlueGreen,
    /// Any shares in per cent, with as many containers as each needs.
    Steps(Vec<u8>),
}

/// One step of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The candidate's share of the requests, in per cent: 1 to 100.
    pub share: u8,
    /// How many containers the candidate needs before it gets this share.
    pub replicas: u32,
}

impl Strategy {
    /// The steps for a service with so many stable containers.
    pub fn steps(&self, stable_replicas: u32) -> Vec<Step> {
        let sized = |share: u8| Step {
            share,
            replicas: replicas_for(stable_replicas, share.into(), 100),
        };
        match self {
            Self::Canary(shares) => {
                let mut steps: Vec<Step> = shares.iter().copied().map(sized).collect();
                // A canary is one container more, however many there are of stable.
                if let [first, _, ..] = steps.as_mut_slice() {
                    first.replicas = 1;
                }
                steps
            }
            Self::BlueGreen => vec![sized(100)],
            Self::Steps(shares) => shares.iter().copied().map(sized).collect(),
        }
    }

    /// Checks shares as people write them: growing, from 1 to 100, and 100 at the end.
    pub fn check_shares(shares: &[u8]) -> Result<(), String> {
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

/// How many containers a version needs to carry `weight` of `total`, measured by how many
/// carry all of it now. At least one.
pub fn replicas_for(stable_replicas: u32, weight: u64, total: u64) -> u32 {
    let exact = u64::from(stable_replicas) * weight;
    u32::try_from(exact.div_ceil(total.max(1)))
        .unwrap_or(u32::MAX)
        .max(1)
}

impl FromStr for Strategy {
    type Err = String;

    /// Reads `canary`, `blue-green` or `steps=1,10,50,100`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(list) = text.strip_prefix("steps=") {
            let shares: Option<Vec<u8>> = list.split(',').map(|s| s.trim().parse().ok()).collect();
            let Some(shares) = shares else {
                return Err(format!(
                    "`{list}` is not a list of whole numbers from 1 to 100, such as 1,10,50,100"
                ));
            };
            Self::check_shares(&shares)?;
            return Ok(Self::Steps(shares));
        }
        match text {
            "canary" => Ok(Self::Canary(CANARY_SHARES.to_vec())),
            "blue-green" => Ok(Self::BlueGreen),
            _ => {
                let known = ["canary", "blue-green", "steps=1,10,50,100"];
                let hint = admin_api::strict::closest(text, known)
                    .map(|meant| format!("; did you mean `{meant}`?"))
                    .unwrap_or_default();
                Err(format!(
                    "`{text}` is not a strategy: canary, blue-green or steps=1,10,50,100{hint}"
                ))
            }
        }
    }
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, shares: &[u8]| {
            for (i, share) in shares.iter().enumerate() {
                let comma = if i == 0 { "" } else { "," };
                write!(f, "{comma}{share}")?;
            }
            Ok(())
        };
        match self {
            Self::Canary(shares) => {
                f.write_str("canary ")?;
                list(f, shares)
            }
            Self::BlueGreen => f.write_str("blue-green"),
            Self::Steps(shares) => {
                f.write_str("steps=")?;
                list(f, shares)
            }
        }
    }
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
    }

    #[test]
    fn every_share_has_the_containers_it_needs() {
        check("canary", 4, &[(10, 1), (50, 2), (100, 4)]);
        check("canary", 1, &[(10, 1), (50, 1), (100, 1)]);
        check("canary", 30, &[(10, 1), (50, 15), (100, 30)]);
        check("blue-green", 4, &[(100, 4)]);
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

    #[test]
    fn a_service_without_containers_still_gets_one_candidate() {
        check("canary", 0, &[(10, 1), (50, 1), (100, 1)]);
    }

    #[track_caller]
    fn check_refused(strategy: &str, says: &str) {
        let error = strategy.parse::<Strategy>().expect_err("not a strategy");
        assert!(error.contains(says), "{error}");
    }

    #[test]
    fn what_is_not_a_strategy_is_refused_with_what_would_be() {
        check_refused("blue-gren", "did you mean `blue-green`?");
        check_refused("rolling", "canary, blue-green or steps=");
        check_refused("steps=", "is not a list");
        check_refused("steps=10,x", "is not a list");
        check_refused("steps=-1,100", "is not a list");
        check_refused("steps=0,100", "from 1 to 100");
        check_refused("steps=10,101", "from 1 to 100");
        check_refused("steps=50,10,100", "larger than the one before");
        check_refused("steps=10,50", "has to be 100");
    }

    #[test]
    fn a_strategy_reads_back_what_it_shows() {
        for text in ["blue-green", "steps=1,10,50,100"] {
            assert_eq!(
                text.parse::<Strategy>().expect("a strategy").to_string(),
                text
            );
        }
    }
}
