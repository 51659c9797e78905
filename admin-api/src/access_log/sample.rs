//! Which requests have a line in the access log.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

/// How many of the requests with a status have a line, from 0 to 1. Errors have one always.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "RawSample")]
pub struct SampleSpec {
    all: f64,
    by_status: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "write a number from 0 to 1, or one for each status, such as { \"2xx\" = 0.01, \"404\" = 0.1 }"
)]
enum RawSample {
    All(f64),
    ByStatus(BTreeMap<String, f64>),
}

// No rate is NaN.
impl Eq for SampleSpec {}

impl Default for SampleSpec {
    fn default() -> Self {
        Self {
            all: 1.0,
            by_status: BTreeMap::new(),
        }
    }
}

impl SampleSpec {
    /// Whether every request has a line.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// How many of the requests with this status have a line.
    pub fn rate(&self, status: u16) -> f64 {
        if status >= 500 {
            return 1.0;
        }
        let own = self.by_status.get(&status.to_string());
        let class = || self.by_status.get(&format!("{}xx", status / 100));
        own.or_else(class).copied().unwrap_or(self.all)
    }
}

impl TryFrom<RawSample> for SampleSpec {
    type Error = String;

    fn try_from(raw: RawSample) -> Result<Self, String> {
        let sample = match raw {
            RawSample::All(all) => Self {
                all,
                ..Self::default()
            },
            RawSample::ByStatus(by_status) => Self {
                by_status,
                ..Self::default()
            },
        };
        for status in sample.by_status.keys() {
            check_status(status)?;
        }
        let mut rates = sample.by_status.values().chain([&sample.all]);
        if let Some(rate) = rates.find(|rate| !(0.0..=1.0).contains(*rate)) {
            return Err(format!("{rate} is out of range: from 0 to 1"));
        }
        drop(rates);
        Ok(sample)
    }
}

/// Whether it is a status or a class of them, and none of errors.
fn check_status(status: &str) -> Result<(), String> {
    let (class, rest) = status.split_at_checked(1).unwrap_or_default();
    let is_status = rest == "xx" || rest.len() == 2 && rest.bytes().all(|b| b.is_ascii_digit());
    match class {
        "1" | "2" | "3" | "4" if is_status => Ok(()),
        "5" if is_status => Err(format!(
            "`{status}`: errors are logged always, so there is no rate for them"
        )),
        _ => Err(format!(
            "`{status}` is no status: write one such as `404`, or `2xx` for all from 200 to 299"
        )),
    }
}

/// As TOML.
impl fmt::Display for SampleSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.by_status.is_empty() {
            return write!(f, "{:?}", self.all);
        }
        let rates = self.by_status.iter();
        let rates: Vec<String> = rates
            .map(|(key, rate)| format!("{key:?} = {rate:?}"))
            .collect();
        write!(f, "{{ {} }}", rates.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strict::from_json;

    #[test]
    fn a_status_has_its_own_rate_or_that_of_its_class_and_errors_have_none() {
        let sample: SampleSpec = from_json(br#"{"2xx":0.01,"404":0.5}"#).unwrap();
        let rates = [200, 206, 404, 403, 302, 499, 500, 503].map(|status| sample.rate(status));
        assert_eq!(rates, [0.01, 0.01, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0]);
        let sample: SampleSpec = from_json(b"0.25").unwrap();
        assert_eq!(
            [200, 404, 500].map(|status| sample.rate(status)),
            [0.25, 0.25, 1.0]
        );
    }

    #[test]
    fn what_is_no_status_or_no_rate_is_refused() {
        for (json, part) in [
            (r#"{"5xx":0.1}"#, "errors are logged always"),
            (r#"{"503":0.1}"#, "errors are logged always"),
            (r#"{"6xx":0.1}"#, "is no status"),
            (r#"{"2x":0.1}"#, "is no status"),
            (r#"{"":0.1}"#, "is no status"),
            (r#"{"é":0.1}"#, "is no status"),
            (r#"{"2xx":1.5}"#, "out of range"),
            ("-0.1", "out of range"),
            (r#""all""#, "write a number from 0 to 1"),
        ] {
            let error = from_json::<SampleSpec>(json.as_bytes()).unwrap_err();
            assert!(error.message.contains(part), "{json}: {error}");
        }
    }
}
