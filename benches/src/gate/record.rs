//! `benches/instructions.json`: the instructions per request that were accepted, newest last, each
//! time with the reason.

use serde::{Deserialize, Serialize};

use super::{ALLOWED, Change, Counts};
use crate::error::{Error, Result};
use crate::report::thousands;

/// The path of the file in the repository.
pub(super) const FILE: &str = "benches/instructions.json";

/// One state of the proxy whose counts were accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Accepted {
    /// Per request, of the `release` program.
    pub(super) instructions: Counts,
    /// The compiler that built it.
    pub(super) compiler: String,
    /// What the processor has of that by which a C library chooses its own code.
    pub(super) processor: String,
    /// What the instructions are for, or what has saved some.
    pub(super) reason: String,
}

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    accepted: Vec<Accepted>,
}

impl Record {
    /// Parses the file.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let invalid = |why: String| Error::Usage(format!("{FILE}: {why}"));
        let record: Self =
            serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
        let explains = |one: &Accepted| one.reason.chars().any(char::is_alphanumeric);
        match record.accepted.iter().position(|one| !explains(one)) {
            Some(position) => Err(invalid(format!(
                "entry {} of \"accepted\" gives no reason",
                position + 1
            ))),
            None => Ok(record),
        }
    }

    /// The processor of the record, if counts of this one cannot be compared with it.
    pub(super) fn other_processor(&self, here: &str) -> Option<&str> {
        let recorded = &self.newest()?.processor;
        (recorded != here).then_some(recorded)
    }

    /// What is in force.
    pub(super) fn newest(&self) -> Option<&Accepted> {
        self.accepted.last()
    }
}

/// Judges a count, and where it is not accepted a second one: on a busy machine a count may be 2%
/// too high.
///
/// # Errors
/// If neither of them is accepted.
pub(super) fn judge_twice(
    record: &Record,
    mut count: impl FnMut() -> Result<Accepted>,
) -> Result<()> {
    if objection(record, &count()?)?.is_none() {
        return Ok(());
    }
    match objection(record, &count()?)? {
        None => Ok(()),
        Some(objection) => Err(Error::Usage(objection)),
    }
}

/// Why the counts of this program are not accepted; `None` if they are.
///
/// Fewer instructions have to be recorded too: what a change has saved, a later one could use up
/// without a word.
fn objection(record: &Record, now: &Accepted) -> Result<Option<String>> {
    let Some(accepted) = record.newest() else {
        return Ok(Some(format!("nothing is recorded yet.\n{}", advice(now)?)));
    };
    let changes = Change::of(&accepted.instructions, &now.instructions);
    let by = |is_one: fn(f64) -> bool| -> Vec<String> {
        let changes = changes.iter().filter(|change| is_one(change.percent()));
        changes.map(describe).collect()
    };
    let slower = by(|percent| percent > ALLOWED);
    let faster = by(|percent| percent < -ALLOWED);
    let mut lines = Vec::new();
    if !slower.is_empty() {
        lines.push(format!(
            "the proxy has become slower: over {ALLOWED}% more instructions per request"
        ));
        lines.extend(slower);
    }
    if !faster.is_empty() {
        lines.push(format!(
            "the proxy has become faster: over {ALLOWED}% fewer instructions per request"
        ));
        lines.extend(faster);
    }
    if lines.is_empty() {
        return Ok(None);
    }
    if accepted.compiler != now.compiler {
        lines.push(format!(
            "The compiler may be the reason: {} in the record, {} here.",
            accepted.compiler, now.compiler
        ));
    }
    lines.push(advice(now)?);
    Ok(Some(lines.join("\n")))
}

fn describe(change: &Change) -> String {
    format!(
        "  {}: {} instead of {}, {:+.1}%",
        change.work,
        thousands(change.this as f64),
        thousands(change.base as f64),
        change.percent()
    )
}

/// The entry to add.
fn advice(now: &Accepted) -> Result<String> {
    let text = serde_json::to_string(now).map_err(|error| Error::Usage(error.to_string()))?;
    Ok(format!(
        "If that is meant to be, add it to \"accepted\" in {FILE} as the last entry, with the reason, in the same commit:\n{text}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REASON: &str = "reads the trace context";

    fn accepted(small: u64, tls: u64) -> Accepted {
        Accepted {
            instructions: Counts {
                small,
                post: 15_000,
                tls,
                h2: 39_000,
            },
            compiler: "rustc 1.95.0".into(),
            processor: "x86_64, AVX2".into(),
            reason: REASON.into(),
        }
    }

    fn record(accepted: &[Accepted]) -> Record {
        let entries = serde_json::to_string(accepted).unwrap();
        Record::parse(&format!("{{ \"accepted\": {entries} }}")).unwrap()
    }

    #[track_caller]
    fn check(record: &Record, now: &Accepted, want: &[&str]) {
        let objection = objection(record, now).unwrap();
        match (&objection, want) {
            (None, []) => {}
            (Some(text), [_, ..]) => {
                for part in want {
                    assert!(text.contains(part), "{part}: {text}");
                }
            }
            _ => panic!("{objection:?}"),
        }
    }

    #[test]
    fn counts_within_3_percent_of_the_record_are_accepted() {
        let record = record(&[accepted(10_000, 20_000)]);
        for small in [9_700, 10_000, 10_300] {
            check(&record, &accepted(small, 20_000), &[]);
        }
    }

    #[test]
    fn a_slower_program_is_not_accepted_and_the_objection_has_the_entry_to_add() {
        let record = record(&[accepted(10_000, 20_000)]);
        let now = accepted(10_450, 20_000);
        let entry = serde_json::to_string(&now).unwrap();
        let want = [
            "has become slower",
            "small: 10,450 instead of 10,000, +4.5%",
            &entry,
        ];
        check(&record, &now, &want);
        let text = objection(&record, &now).unwrap().unwrap();
        assert!(!text.contains("tls:") && !text.contains("faster"), "{text}");
    }

    #[test]
    fn a_faster_program_has_to_be_recorded() {
        let record = record(&[accepted(10_000, 20_000)]);
        let want = ["has become faster", "tls: 19,300 instead of 20,000, -3.5%"];
        check(&record, &accepted(10_000, 19_300), &want);
    }

    #[test]
    fn what_one_workload_saves_does_not_pay_for_another() {
        let record = record(&[accepted(10_000, 20_000)]);
        let want = ["slower", "small: 11,000", "faster", "tls: 15,000"];
        check(&record, &accepted(11_000, 15_000), &want);
    }

    #[test]
    fn the_newest_entry_is_in_force() {
        let record = record(&[accepted(10_000, 20_000), accepted(10_450, 20_000)]);
        check(&record, &accepted(10_450, 20_000), &[]);
        check(&record, &accepted(10_000, 20_000), &["faster"]);
    }

    #[test]
    fn many_small_steps_add_up() {
        let record = record(&[accepted(10_000, 20_000)]);
        check(&record, &accepted(10_200, 20_000), &[]);
        // Only 2% more than the one before, which no change had to record.
        check(&record, &accepted(10_404, 20_000), &["+4.0%"]);
    }

    #[test]
    fn another_compiler_is_named_where_it_may_be_the_reason() {
        let record = record(&[accepted(10_000, 20_000)]);
        let with = |small| Accepted {
            compiler: "rustc 1.96.0".into(),
            ..accepted(small, 20_000)
        };
        check(&record, &with(10_000), &[]);
        check(&record, &with(11_000), &["rustc 1.95.0", "rustc 1.96.0"]);
    }

    #[test]
    fn counts_of_another_processor_are_not_compared() {
        let record = record(&[accepted(10_000, 20_000)]);
        assert_eq!(record.other_processor("x86_64, AVX2"), None);
        let other = record.other_processor("x86_64, no AVX2");
        assert_eq!(other, Some("x86_64, AVX2"));
    }

    #[test]
    fn only_a_program_that_is_not_accepted_twice_fails() {
        let record = record(&[accepted(10_000, 20_000)]);
        for (counts, fails) in [
            (&[10_000][..], false),
            (&[10_400, 10_200], false),
            (&[10_400, 10_350], true),
        ] {
            let mut left = counts.iter();
            let count = || Ok(accepted(*left.next().unwrap(), 20_000));
            assert_eq!(judge_twice(&record, count).is_err(), fails, "{counts:?}");
            assert_eq!(left.next(), None, "{counts:?}");
        }
    }

    #[test]
    fn without_a_record_the_first_entry_is_requested() {
        let now = accepted(10_000, 20_000);
        check(&record(&[]), &now, &["nothing is recorded", REASON]);
    }

    #[test]
    fn an_invalid_file_is_named() {
        let entry = |reason: &str| {
            format!(
                r#"{{ "accepted": [{{ "instructions": {{ "small": 1, "post": 1, "tls": 1, "h2": 1 }}, "compiler": "rustc", "processor": "x86_64, AVX2", "reason": "{reason}" }}] }}"#
            )
        };
        Record::parse(&entry("a feature")).unwrap();
        for (text, want) in [
            (entry("…"), "entry 1 of \"accepted\" gives no reason"),
            (entry(" "), "gives no reason"),
            (entry("a feature").replace("\"h2\"", "\"h3\""), "`h3`"),
            ("{}".into(), "missing field"),
        ] {
            let error = Record::parse(&text).unwrap_err().to_string();
            assert!(error.contains(FILE) && error.contains(want), "{error}");
        }
    }

    #[test]
    fn the_file_of_the_repository_is_valid() {
        let record = Record::parse(include_str!("../../instructions.json")).unwrap();
        assert!(record.newest().is_some());
    }
}
