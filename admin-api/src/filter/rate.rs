//! How many requests a client may send in a time.

use std::fmt;
use std::num::NonZero;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::names::{check_cookie_name, header_name};
use crate::strict::InputError;
use crate::traffic::Setting;

/// What a rate may be at most, in requests per second.
const MOST_PER_SECOND: u32 = 100_000;

/// The largest burst.
const MAX_BURST: u32 = 1_000_000;

/// A limit on requests, by GCRA: as long as less than `burst` were saved up, a request is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestRateSpec {
    /// How many requests are taken in the long run.
    pub rate: Rate,
    /// How many are taken at once. Default: the number in `rate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Which requests count together. Default: those of one address.
    #[serde(default, skip_serializing_if = "LimitKey::is_default")]
    pub by: LimitKey,
}

/// A number of requests in a unit of time, written `"100/s"`, `"60/m"`, `"1000/h"` or `"5000/d"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: NonZero<u32>,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Second,
    Minute,
    Hour,
    Day,
}

/// Which requests count together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitKey {
    /// Those of one client: an IPv4 address, or the first 64 bits of an IPv6 address.
    #[default]
    Address,
    /// Those for one host.
    Host,
    /// Those with the same value of this header field.
    Header(String),
    /// Those with the same value of this cookie.
    Cookie(String),
}

impl LimitKey {
    /// Whether it is the default.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Unit {
    const ALL: [Self; 4] = [Self::Second, Self::Minute, Self::Hour, Self::Day];

    const fn letter(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "m",
            Self::Hour => "h",
            Self::Day => "d",
        }
    }

    const fn secs(self) -> u32 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 24 * 3600,
        }
    }
}

impl Rate {
    /// The time from one request to the next.
    pub fn interval(self) -> Duration {
        Duration::from_secs(self.unit.secs().into()) / self.count.get()
    }
}

impl RequestRateSpec {
    /// How many requests are taken at once.
    pub fn burst(&self) -> u32 {
        self.burst.unwrap_or(self.rate.count.get().min(MAX_BURST))
    }
}

impl Setting for NonZero<u32> {
    fn check(&self) -> Result<(), InputError> {
        Ok(())
    }
}

impl Setting for RequestRateSpec {
    fn check(&self) -> Result<(), InputError> {
        if let Some(burst) = self.burst.filter(|burst| !(1..=MAX_BURST).contains(burst)) {
            let message = format!("{burst} is out of range: from 1 to {MAX_BURST}");
            return Err(InputError::of_field("burst", message));
        }
        let (field, checked) = match &self.by {
            LimitKey::Address | LimitKey::Host => return Ok(()),
            LimitKey::Header(name) => ("by.header", header_name(name).map(drop)),
            LimitKey::Cookie(name) => ("by.cookie", check_cookie_name(name)),
        };
        checked.map_err(|message| InputError::of_field(field, message))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.unit.letter())
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (count, letter) = text.split_once('/')?;
            let unit = Unit::ALL.into_iter().find(|unit| unit.letter() == letter)?;
            let count = count.parse().ok()?;
            Some(Self { count, unit })
        };
        let rate = read().ok_or_else(|| {
            format!("`{text}` is not a rate: write a number above 0 and a unit, such as 100/s, 60/m, 1000/h or 5000/d")
        })?;
        if rate.count.get() / rate.unit.secs() > MOST_PER_SECOND {
            return Err(format!("`{text}` is too much: at most {MOST_PER_SECOND}/s"));
        }
        Ok(rate)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RateVisitor;

        impl Visitor<'_> for RateVisitor {
            type Value = Rate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a rate in quotes, such as \"100/s\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Rate, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(RateVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::testing::check_refused;

    #[test]
    fn a_rate_is_written_as_it_is_read() {
        for (text, interval) in [
            ("100/s", Duration::from_millis(10)),
            ("60/m", Duration::from_secs(1)),
            ("1/h", Duration::from_secs(3600)),
            ("24/d", Duration::from_secs(3600)),
            ("100000/s", Duration::from_micros(10)),
        ] {
            let rate: Rate = text.parse().expect(text);
            assert_eq!((rate.to_string(), rate.interval()), (text.into(), interval));
        }
    }

    #[test]
    fn what_is_wrong_with_a_limit_is_named_with_its_field() {
        #[track_caller]
        fn check(limits: &str, field: &str, says: &str) {
            check_refused(&format!("limits = {limits}"), field, says);
        }
        for rate in [
            "100",
            "100/x",
            "/s",
            "0/s",
            "-1/s",
            "1.5/s",
            "100/s ",
            "99999999999/s",
        ] {
            check(
                &format!("{{ requests = {{ rate = \"{rate}\" }} }}"),
                "limits.requests.rate",
                "is not a rate: write a number above 0 and a unit",
            );
        }
        check(
            "{ requests = { rate = \"100001/s\" } }",
            "limits.requests.rate",
            "at most 100000/s",
        );
        check(
            "{ requests = { rate = 100 } }",
            "limits.requests.rate",
            "a rate in quotes",
        );
        check(
            "{ requests = {} }",
            "limits.requests",
            "missing field `rate`",
        );
        check(
            "{ requests = { rate = \"1/s\", burst = 0 } }",
            "limits.requests.burst",
            "0 is out of range: from 1 to 1000000",
        );
        check(
            "{ requests = { rate = \"1/s\", by = \"adress\" } }",
            "limits.requests.by",
            "did you mean `address`?",
        );
        check(
            "{ requests = { rate = \"1/s\", by = { header = \"a b\" } } }",
            "limits.requests.by.header",
            "not the name of a header field",
        );
        check(
            "{ requests = { rat = \"1/s\" } }",
            "limits.requests.rat",
            "did you mean `rate`?",
        );
        check("{ in_flight = 0 }", "limits.in_flight", "nonzero");
    }
}
