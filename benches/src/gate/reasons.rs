//! `benches/instructions.json`: the reasons for which the proxy may need more instructions.

use serde::Deserialize;

use crate::error::{Error, Result};

/// The path of the file in the repository.
pub(super) const FILE: &str = "benches/instructions.json";

/// The reason for one growth.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reason {
    /// The workload.
    pub(super) work: String,
    /// The largest growth in percent that it covers.
    pub(super) percent: f64,
    /// What the instructions are for.
    pub(super) reason: String,
}

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reasons {
    accepted: Vec<Reason>,
}

impl Reasons {
    /// Parses the file of a revision.
    pub(super) fn parse(text: &str, revision: &str) -> Result<Self> {
        let invalid = |why: String| Error::Usage(format!("{FILE} of {revision}: {why}"));
        let reasons: Self =
            serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
        match reasons
            .accepted
            .iter()
            .find(|one| one.reason.trim().is_empty())
        {
            Some(one) => Err(invalid(format!("the reason for {} is empty", one.work))),
            None => Ok(reasons),
        }
    }

    /// The reasons that are not in the earlier file.
    pub(super) fn added_to(&self, earlier: &Self) -> Vec<Reason> {
        let is_new = |reason: &&Reason| !earlier.accepted.contains(reason);
        self.accepted.iter().filter(is_new).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Reasons> {
        Reasons::parse(text, "HEAD")
    }

    #[test]
    fn only_reasons_of_the_same_commit_count() {
        let old = r#"{ "work": "small", "percent": 4, "reason": "a" }"#;
        let new = r#"{ "work": "small", "percent": 5, "reason": "b" }"#;
        let earlier = parse(&format!("{{ \"accepted\": [{old}] }}")).unwrap();
        let this = parse(&format!("{{ \"accepted\": [{old}, {new}] }}")).unwrap();
        let added = this.added_to(&earlier);
        assert_eq!(added.len(), 1);
        assert_eq!(added[0].reason, "b");
    }

    #[test]
    fn an_invalid_file_is_named() {
        for (text, want) in [
            (
                r#"{ "accepted": [{ "work": "small", "percent": 4, "reason": " " }] }"#,
                "is empty",
            ),
            (
                r#"{ "accepted": [{ "work": "small", "why": 4 }] }"#,
                "unknown field",
            ),
            ("{}", "missing field"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(FILE) && error.contains(want), "{error}");
        }
    }

    #[test]
    fn the_file_of_the_repository_is_valid() {
        parse(include_str!("../../instructions.json")).unwrap();
    }
}
