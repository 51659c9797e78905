//! The figures of a decision, in words.

use serde_json::Value;

use crate::clock::Millis;

/// What the figures of a decision say, a line each.
pub(super) fn stats(stats: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let of = |name: &str| {
        let (attempts, failures) = (
            stats[name]["tries"].as_u64()?,
            stats[name]["failures"].as_u64()?,
        );
        let p99 = stats[name]["latency"]["p99_us"].as_u64();
        let p99 = p99.map_or_else(String::new, |us| format!(", p99 {} ms", us.div_ceil(1000)));
        Some(format!(
            "{name}: {failures} of {attempts} requests failed{p99}"
        ))
    };
    let pair: Vec<String> = ["candidate", "stable"].into_iter().filter_map(of).collect();
    if !pair.is_empty() {
        let watched = stats["elapsed_ms"].as_u64().map(seconds);
        let watched = watched.map_or_else(String::new, |text| format!(", watched for {text}"));
        lines.push(format!("{}{watched}", pair.join("; ")));
    }
    for name in ["limits", "evidence"] {
        let Some(keys) = stats[name].as_object() else {
            continue;
        };
        let keys: Vec<String> = keys
            .iter()
            .map(|(key, value)| format!("{key} {}", plain(value)))
            .collect();
        lines.push(format!("{name}: {}", keys.join(", ")));
    }
    if let Some(not_judged) = stats["not_judged"].as_str() {
        lines.push(not_judged.to_owned());
    }
    lines
}

/// A value without JSON's quotes; an object as `key value`.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(keys) => {
            let keys = keys
                .iter()
                .map(|(key, value)| format!("{key} {}", plain(value)));
            format!("({})", keys.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// How long that was: `30.2s`.
pub(super) fn lasted(from: Millis, to: Millis) -> String {
    seconds(u64::try_from(to - from).unwrap_or(0))
}

fn seconds(millis: u64) -> String {
    format!("{}.{}s", millis / 1000, millis % 1000 / 100)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn stats_are_put_into_words() {
        let told = stats(&json!({
            "candidate": { "tries": 604, "failures": 1, "latency": { "p99_us": 12_001 } },
            "stable": { "tries": 5430, "failures": 0 },
            "elapsed_ms": 30_250,
            "limits": { "success_rate": 99.0, "step_min_duration": "30s" },
            "evidence": { "fails_now": { "all": 0.5 } },
            "not_judged": "not judged: latency (12 of about 30 responses needed)",
        }));
        assert_eq!(
            told,
            [
                "candidate: 1 of 604 requests failed, p99 13 ms; stable: 0 of 5430 requests failed, \
                 watched for 30.2s",
                "limits: step_min_duration 30s, success_rate 99.0",
                "evidence: fails_now (all 0.5)",
                "not judged: latency (12 of about 30 responses needed)",
            ]
        );
        assert_eq!(stats(&json!({})), [""; 0]);
    }
}
