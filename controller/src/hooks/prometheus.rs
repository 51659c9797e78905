//! A hook that asks Prometheus, and holds what it is told to bounds.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

use super::{About, NotPassed};
use crate::http::one_shot::Target;

/// From one attempt to the next, while there is no response.
const AGAIN: Duration = Duration::from_secs(1);
/// Under the address of every Prometheus (its HTTP API, instant queries).
const PATH: &str = "/api/v1/query";

/// A query in PromQL, and what it may come to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Query {
    /// The Prometheus: all of its address before `/api/v1/query`.
    pub server: Target,
    /// What is asked. `$service`, `$from` and `$to` stand for the service and its two versions.
    pub query: String,
    /// Every value is at least this.
    pub min: Option<f64>,
    /// Every value is at most this.
    pub max: Option<f64>,
}

/// The API's response.
#[derive(Debug, Deserialize)]
struct QueryResponse {
    data: Data,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Scalar(Value),
    Vector(Vec<Series>),
}

#[derive(Debug, Deserialize)]
struct Series {
    value: Value,
}

/// When, and a number as text.
#[derive(Debug, Deserialize)]
struct Value(
    #[expect(dead_code, reason = "part of the format")] f64,
    String,
);

impl Query {
    /// Queries until there is a response, for as long as the time-out lasts. Without one nothing is
    /// known: that is neither good nor bad.
    pub(super) async fn run(&self, about: &About, folder: &Path) -> Result<String, NotPassed> {
        let until = Instant::now() + self.server.timeout.get();
        loop {
            let why = match self.query(about, folder).await {
                Ok(values) => return self.judge(&values),
                Err(why) => why,
            };
            let next = Instant::now() + AGAIN;
            if next >= until {
                return Err(NotPassed::Unknown(why));
            }
            sleep_until(next).await;
        }
    }

    /// The numbers that the query comes to, or why they cannot be had.
    async fn query(&self, about: &About, folder: &Path) -> Result<Vec<f64>, String> {
        let query = self
            .query
            .replace("$service", &about.service)
            .replace("$from", &about.from)
            .replace("$to", &about.to);
        let server = Target {
            url: self.server.url.below(PATH).map_err(|why| why.to_string())?,
            ..self.server.clone()
        };
        let body = Bytes::from(format!("query={}", form_encoded(&query)));
        let form = "application/x-www-form-urlencoded";
        let response = server.send(folder, form, body).await;
        let response = response.map_err(|error| error.to_string())?;
        let response: QueryResponse = serde_json::from_slice(&response)
            .map_err(|error| format!("the response is not one of Prometheus: {error}"))?;
        let values: Vec<f64> = match response.data {
            Data::Scalar(Value(_, text)) => vec![text],
            Data::Vector(samples) => samples.into_iter().map(|one| one.value.1).collect(),
        }
        .iter()
        .filter_map(|text| text.parse().ok())
        .filter(|value: &f64| !value.is_nan())
        .collect();
        if values.is_empty() {
            return Err("the query's result is not a number".into());
        }
        Ok(values)
    }

    fn judge(&self, values: &[f64]) -> Result<String, NotPassed> {
        for value in values {
            if let Some(max) = self.max.filter(|max| value > max) {
                let why = format!("the query's result is {value}, more than {max}");
                return Err(NotPassed::Failed(why));
            }
            if let Some(min) = self.min.filter(|min| value < min) {
                let why = format!("the query's result is {value}, less than {min}");
                return Err(NotPassed::Failed(why));
            }
        }
        let values: Vec<String> = values.iter().map(f64::to_string).collect();
        Ok(values.join(", "))
    }
}

/// As forms are sent: everything but letters, digits and `-._` as `%XX`.
fn form_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use admin_api::Period;

    use super::*;
    use crate::hooks::On;
    use crate::testing::listener;
    use crate::verdict::Counts;

    fn about() -> About {
        About {
            hook: On::Confirm,
            project: "shop".into(),
            service: "web".into(),
            rollout: 1,
            from: "1.0.0".into(),
            to: "2.0.0".into(),
            step: 1,
            steps: 3,
            share: 10,
            candidate: Counts::default(),
            stable: Counts::default(),
            why: None,
        }
    }

    fn query(url: &str, timeout: Period) -> Query {
        Query {
            server: Target {
                url: url.parse().expect("an address"),
                token_file: None,
                timeout,
            },
            query: r#"errors{version="$to"} / 2"#.into(),
            min: Some(0.0),
            max: Some(0.01),
        }
    }

    async fn run_query(responses: Vec<(u16, &'static str)>) -> Result<String, NotPassed> {
        let (url, _heard) = listener(responses).await;
        let query = query(&url, Period::from_secs(3));
        query.run(&about(), Path::new("/")).await
    }

    const GOOD: &str = r#"{"status":"success","data":{"resultType":"vector","result":[
        {"metric":{},"value":[1700000000.1,"0.004"]},{"metric":{},"value":[1700000000.1,"0"]}]}}"#;
    const BAD: &str = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"+Inf"]}}"#;
    const LOW: &str = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"-1"]}}"#;
    const NOTHING: &str = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
    const NAN: &str = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"NaN"]}}"#;

    #[tokio::test]
    async fn a_query_is_judged_by_its_numbers() {
        assert_eq!(run_query(vec![(200, GOOD)]).await, Ok("0.004, 0".into()));
        let failed = |why: &str| Err(NotPassed::Failed(format!("the query's result is {why}")));
        let high = failed("inf, more than 0.01");
        assert_eq!(run_query(vec![(200, BAD)]).await, high);
        let low = failed("-1, less than 0");
        assert_eq!(run_query(vec![(200, LOW)]).await, low);
    }

    #[tokio::test]
    async fn what_comes_to_no_number_is_queried_again_and_then_unknown() {
        let passed = run_query(vec![(503, "starting"), (200, NOTHING), (200, GOOD)]).await;
        assert_eq!(passed, Ok("0.004, 0".into()));
        let responses = vec![(200, NAN), (200, NOTHING), (400, "parse error")];
        let Err(NotPassed::Unknown(why)) = run_query(responses).await else {
            panic!("nothing is known");
        };
        assert!(why.contains("400") && why.contains("parse error"), "{why}");
        let away = query("http://127.0.0.1:1", Period::from_millis(100));
        let Err(NotPassed::Unknown(why)) = away.run(&about(), Path::new("/")).await else {
            panic!("nothing listens");
        };
        assert!(why.contains("cannot be reached"), "{why}");
    }

    #[tokio::test]
    async fn the_query_names_the_versions_and_is_sent_as_a_form() {
        let (url, mut heard) = listener(vec![(200, GOOD)]).await;
        let query = query(&url, Period::from_secs(3));
        let passed = query.run(&about(), Path::new("/")).await;
        assert!(passed.is_ok(), "{passed:?}");
        let heard = heard.recv().await.expect("it was asked");
        assert_eq!(heard, "- query=errors%7Bversion%3D%222.0.0%22%7D%20%2F%202");
    }
}
