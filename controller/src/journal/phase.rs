//! Where a rollout stands. The journal holds these words.

use std::fmt;
use std::str::FromStr;

use serde::de::IntoDeserializer;
use serde::de::value::{Error, StrDeserializer};
use serde::{Deserialize, Serialize};

/// Where a rollout stands; the diagram is in [`crate::rollout`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The candidate's first containers are being started.
    Starting,
    /// They run; the proxy has to see them healthy for a while.
    Checking,
    /// The candidate has the share of the step with this index, and is watched.
    Shifting,
    /// The candidate gets every container it needs, and becomes stable.
    Promoting,
    /// The old version is kept warm at weight 0.
    Baking,
    /// The old version finishes what it has, and is stopped.
    Draining,
    /// The candidate is stable and alone.
    Done,
    /// Stable has everything again; the candidate finishes what it has, and is stopped.
    RollingBack,
    /// The candidate is gone.
    RolledBack,
}

impl Phase {
    /// Nothing comes after it.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::RolledBack)
    }

    /// The word in the journal and in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Checking => "checking",
            Self::Shifting => "shifting",
            Self::Promoting => "promoting",
            Self::Baking => "baking",
            Self::Draining => "draining",
            Self::Done => "done",
            Self::RollingBack => "rolling-back",
            Self::RolledBack => "rolled-back",
        }
    }
}

impl FromStr for Phase {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let word: StrDeserializer<'_, Error> = text.into_deserializer();
        Self::deserialize(word).map_err(|_| format!("`{text}` is not a phase"))
    }
}

/// With a space in place of the hyphen.
impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.as_str().replace('-', " "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_a_phase_is_read_back() {
        let words = ["starting", "shifting", "rolling-back", "rolled-back"];
        for word in words {
            let phase: Phase = word.parse().expect("a phase");
            assert_eq!(phase.as_str(), word);
        }
        let other = "rolling back".parse::<Phase>();
        assert_eq!(other, Err("`rolling back` is not a phase".to_owned()));
    }
}
