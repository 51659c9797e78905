//! A length of time as people write it: `"500ms"`, `"30s"`, `"1h"`.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::strict::InputError;
use crate::traffic::Setting;

/// More than this is a slip of the keyboard, and would not fit into a point in time.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// A length of time, written `"500ms"`, `"30s"` or `"1h 30m"` in JSON and TOML.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(pub Duration);

impl Period {
    /// A period of whole seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// A period of whole milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// The same length as std's type.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl fmt::Debug for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Period {
    type Err = String;

    /// Reads `500ms`, `30s`, `1h 30m`, or a bare `0`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        let period = humantime::parse_duration(text).map_err(|_| {
            format!("`{text}` is not a duration: write a number and a unit, such as 500ms or 30s")
        })?;
        if period > LONGEST {
            return Err(format!("`{text}` is too long: at most a year"));
        }
        Ok(Self(period))
    }
}

impl Setting for Period {
    fn check(&self) -> Result<(), InputError> {
        Ok(())
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PeriodVisitor;

        impl Visitor<'_> for PeriodVisitor {
            type Value = Period;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration in quotes with a unit, such as \"500ms\" or \"30s\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Period, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(PeriodVisitor)
    }
}

/// A length of time that is not 0, written as a [`Period`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct NonZeroPeriod(Period);

impl NonZeroPeriod {
    /// A period of whole seconds; `None` for 0.
    pub const fn from_secs(secs: u64) -> Option<Self> {
        match secs {
            0 => None,
            secs => Some(Self(Period::from_secs(secs))),
        }
    }

    /// The same length as std's type.
    pub const fn get(self) -> Duration {
        self.0.get()
    }
}

impl Setting for NonZeroPeriod {
    fn check(&self) -> Result<(), InputError> {
        Ok(())
    }
}

impl TryFrom<Period> for NonZeroPeriod {
    type Error = String;

    fn try_from(period: Period) -> Result<Self, String> {
        match period.get().is_zero() {
            true => Err(format!(
                "{period} is out of range: it has to be above 0, such as \"30s\""
            )),
            false => Ok(Self(period)),
        }
    }
}

impl std::str::FromStr for NonZeroPeriod {
    type Err = String;

    /// Reads it as a [`Period`] is read.
    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<Period>()?.try_into()
    }
}

impl<'de> Deserialize<'de> for NonZeroPeriod {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let period = Period::deserialize(deserializer)?;
        period.try_into().map_err(de::Error::custom)
    }
}
