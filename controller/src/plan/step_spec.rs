//! A step as people write it, and a number of containers as people write it.

use std::fmt;
use std::str::FromStr;

use admin_api::Period;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// One step as people write it: `10`, `10:5m`, `10:gate` or `10:5m:gate`; before the first share
/// `mirror`, `mirror:5m` or `mirror=50:5m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepSpec {
    /// The candidate's share of the requests, in percent. Of a mirror step: how many of a hundred
    /// are copied to it; 0 stands for the share of the step after it.
    pub share: u8,
    /// The candidate gets copies of requests and none of its own, and no client gets its responses.
    pub mirror: bool,
    /// How long it lasts at least, where that is not `step_min_duration`.
    pub hold: Option<Period>,
    /// Whether the user has to run `crossfade resume` before the next step.
    pub gate: bool,
}

impl StepSpec {
    /// A step with nothing but a share.
    pub const fn of(share: u8) -> Self {
        Self {
            share,
            mirror: false,
            hold: None,
            gate: false,
        }
    }
}

impl FromStr for StepSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.trim().split(':');
        let first = parts.next().unwrap_or_default().trim();
        let (mirror, share) = match first.strip_prefix("mirror") {
            Some("") => (true, Some(0)),
            Some(of) => (
                true,
                of.strip_prefix('=').and_then(|share| share.parse().ok()),
            ),
            None => (false, first.parse().ok()),
        };
        let wrong = || {
            format!(
                "`{text}` is not a step: write a whole number from 1 to 100, in percent, optionally \
                 with a duration and `gate`, such as 10, 10:5m or 10:5m:gate; the first step may \
                 be `mirror:5m`, which copies requests"
            )
        };
        let mut spec = Self {
            mirror,
            ..Self::of(share.ok_or_else(wrong)?)
        };
        for part in parts {
            match part.trim() {
                "gate" if !spec.gate => spec.gate = true,
                hold if spec.hold.is_none() && !spec.gate => {
                    spec.hold = Some(hold.parse().map_err(|_| wrong())?);
                }
                _ => return Err(wrong()),
            }
        }
        Ok(spec)
    }
}

impl fmt::Display for StepSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.mirror, self.share) {
            (true, 0) => f.write_str("mirror")?,
            (true, share) => write!(f, "mirror={share}")?,
            (false, share) => write!(f, "{share}")?,
        }
        if let Some(hold) = self.hold {
            // Without the spaces of `1m 30s`.
            write!(f, ":{}", hold.to_string().replace(' ', ""))?;
        }
        if self.gate {
            f.write_str(":gate")?;
        }
        Ok(())
    }
}

impl Serialize for StepSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if *self == Self::of(self.share) {
            serializer.serialize_u8(self.share)
        } else {
            serializer.collect_str(self)
        }
    }
}

impl<'de> Deserialize<'de> for StepSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrText {
            expecting: "a share in percent such as 10, or in quotes with its duration and \
                        whether it is a gate, such as \"10:5m:gate\"",
            of_number: |number| u8::try_from(number).ok().map(Self::of),
        })
    }
}

/// A number of containers: `2`, or a part of the service's replicas: `25%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// So many.
    Count(u32),
    /// So many of a hundred, rounded up.
    Percent(u8),
}

impl Amount {
    /// How many that is of so many.
    pub fn of(self, replicas: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => {
                let exact = u64::from(replicas) * u64::from(percent);
                u32::try_from(exact.div_ceil(100)).unwrap_or(u32::MAX)
            }
        }
    }
}

impl FromStr for Amount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = match text.trim().strip_suffix('%') {
            Some(percent) => percent
                .parse()
                .ok()
                .filter(|percent| *percent <= 100)
                .map(Self::Percent),
            None => text.trim().parse().ok().map(Self::Count),
        };
        found.ok_or_else(|| {
            format!("`{text}` is not a number of containers: write 1, or a part such as 25%")
        })
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u32(*count),
            Self::Percent(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrText {
            expecting: "a number of containers such as 1, or a part of them such as \"25%\"",
            of_number: |number| u32::try_from(number).ok().map(Self::Count),
        })
    }
}

/// Reads what is a number where it is simple, and text where it is more.
struct NumberOrText<T> {
    expecting: &'static str,
    of_number: fn(u64) -> Option<T>,
}

impl<T: FromStr<Err = String>> Visitor<'_> for NumberOrText<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        (self.of_number)(number)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_step_spec(text: &str, want: Option<StepSpec>) {
        assert_eq!(text.parse::<StepSpec>().ok(), want, "{text}");
        if let Some(spec) = want {
            assert_eq!(spec.to_string().parse(), Ok(spec), "{text}");
            let json = serde_json::to_string(&spec).expect("JSON");
            let read: StepSpec = serde_json::from_str(&json).expect("a stage");
            assert_eq!(read, spec, "{json}");
        }
    }

    #[test]
    fn a_step_may_say_how_long_it_lasts_and_whether_it_has_a_gate() {
        let hold = Some(Period::from_secs(90));
        let plain = StepSpec::of(10);
        check_step_spec("10", Some(plain));
        check_step_spec(" 10 ", Some(plain));
        check_step_spec("10:1m30s", Some(StepSpec { hold, ..plain }));
        check_step_spec(
            "10:gate",
            Some(StepSpec {
                gate: true,
                ..plain
            }),
        );
        let both = StepSpec {
            hold,
            gate: true,
            ..plain
        };
        check_step_spec("10:90s:gate", Some(both));
        let mirror = StepSpec {
            mirror: true,
            ..StepSpec::of(0)
        };
        check_step_spec("mirror", Some(mirror));
        check_step_spec("mirror:90s", Some(StepSpec { hold, ..mirror }));
        let half = StepSpec {
            share: 50,
            gate: true,
            ..mirror
        };
        check_step_spec("mirror=50:gate", Some(half));
        check_step_spec("mirror=", None);
        check_step_spec("mirrors", None);
        check_step_spec("mirror=half", None);
        check_step_spec("10:gate:90s", None);
        check_step_spec("10:5", None);
        check_step_spec("10:gate:gate", None);
        check_step_spec("x", None);
        check_step_spec("-1", None);
        check_step_spec("1.5", None);
        check_step_spec("300", None);
    }

    #[track_caller]
    fn check_amount(text: &str, want: Option<u32>) {
        let amount = text.parse::<Amount>();
        assert_eq!(amount.as_ref().ok().map(|a| a.of(10)), want, "{text}");
        if let Ok(amount) = amount {
            assert_eq!(amount.to_string(), text);
            let json = serde_json::to_string(&amount).expect("JSON");
            let read: Amount = serde_json::from_str(&json).expect("an amount");
            assert_eq!(read, amount, "{json}");
        }
    }

    #[test]
    fn an_amount_is_a_count_or_a_part() {
        check_amount("0", Some(0));
        check_amount("3", Some(3));
        check_amount("25%", Some(3));
        check_amount("100%", Some(10));
        check_amount("101%", None);
        check_amount("-1", None);
        check_amount("few", None);
    }
}
