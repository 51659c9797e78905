//! The gate against slow changes: it counts the instructions per request of this commit and of its
//! parent, and fails if one of the counts grows by more than 3% without a reason.
//!
//! The reason stands in `benches/instructions.json`, and is part of the same commit:
//!
//! ```json
//! { "accepted": [ { "work": "small", "percent": 4.5, "reason": "reads the trace context" } ] }
//! ```

mod reasons;
mod revision;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::callgrind;
use crate::environment;
use crate::error::{Context, Error, Result};
use crate::network::Network;
use crate::peers::{Installed, Peer};
use crate::report::thousands;
use crate::table::Table;
use crate::test_env::TestEnv;
use crate::work::Work;

use reasons::{Reason, Reasons};
use revision::{Repository, Revision};

/// The growth in percent that needs no reason. Counts of the same program differ by less than 1%.
const ALLOWED: f64 = 3.0;
/// The workloads that are counted.
const WORKS: [Work; 4] = [Work::Small, Work::Post, Work::Tls, Work::H2];

/// The options of the gate.
#[derive(Debug, clap::Args)]
pub(crate) struct GateOptions {
    /// The revision to compare with. Default: the parent of HEAD, or HEAD if files are changed.
    #[arg(long, value_name = "REVISION")]
    base: Option<String>,
    /// The folder that keeps programs and counts between runs.
    #[arg(long, value_name = "FOLDER", default_value = "target/gate")]
    cache: PathBuf,
    /// The first of the 100 ports on loopback that the gate uses.
    #[arg(long, default_value_t = 9700, value_parser = clap::value_parser!(u16).range(1024..=9900))]
    port: u16,
}

/// The instructions per request of one program, by workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Counts(Vec<(String, u64)>);

/// The change of one workload.
#[derive(Debug, Clone, PartialEq)]
struct Change {
    work: String,
    base: u64,
    this: u64,
}

impl Change {
    fn percent(&self) -> f64 {
        (self.this as f64 - self.base as f64) * 100.0 / self.base.max(1) as f64
    }

    /// Why it is not accepted; `None` if it is.
    fn objection(&self, reasons: &[Reason]) -> Option<String> {
        let percent = self.percent();
        let accepts = |reason: &Reason| reason.work == self.work && reason.percent >= percent;
        if percent <= ALLOWED || reasons.iter().any(accepts) {
            return None;
        }
        Some(format!(
            "{}: {} instructions per request instead of {}, which is {percent:.1}% more. {ALLOWED}% are allowed; more needs a reason in {}, in the same commit: {{ \"work\": \"{}\", \"percent\": {:.1}, \"reason\": \"…\" }}",
            self.work,
            thousands(self.this as f64),
            thousands(self.base as f64),
            reasons::FILE,
            self.work,
            (percent * 10.0).ceil() / 10.0,
        ))
    }
}

/// Builds both programs, counts both, and compares.
///
/// # Errors
/// If a count grows by more than is allowed, or a program cannot be built or counted.
pub(crate) fn run(options: &GateOptions) -> Result<()> {
    let repository = Repository::find()?;
    let Some((base, this)) = repository.revisions(options.base.as_deref())? else {
        println!("gate: this is the first commit: there is no parent to compare with");
        return Ok(());
    };
    fs::create_dir_all(&options.cache).context(|| options.cache.display().to_string())?;
    let cache = fs::canonicalize(&options.cache).context(|| options.cache.display().to_string())?;
    // Before this process is bound to one core: the compiler uses all of them.
    let programs = [&base, &this].map(|revision| repository.program(revision, &cache));
    let [base_program, this_program] = programs;
    let (base_program, this_program) = (base_program?, this_program?);
    if base_program == this_program {
        println!(
            "gate: the proxy of {} and of {} have the same sources",
            base.name, this.name
        );
        return Ok(());
    }
    // The programs are in the cache when this program executes itself again.
    let env = environment(options.port, Network::enter()?)?;
    let base_counts = counts(&env, &base, &base_program)?;
    let this_counts = counts(&env, &this, &this_program)?;
    let changes = changes(&base_counts, &this_counts);
    print(&base, &this, &changes);
    let reasons = new_reasons(&repository, &base, &this)?;
    judge(&changes, &reasons)
}

fn judge(changes: &[Change], reasons: &[Reason]) -> Result<()> {
    let objections: Vec<String> = changes
        .iter()
        .filter_map(|change| change.objection(reasons))
        .collect();
    if objections.is_empty() {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "the proxy has become slower\n{}",
        objections.join("\n")
    )))
}

/// The reasons that this revision adds to those of its base.
fn new_reasons(repository: &Repository, base: &Revision, this: &Revision) -> Result<Vec<Reason>> {
    let read = |revision: &Revision| match repository.file(revision, reasons::FILE) {
        Some(text) => Reasons::parse(&text, &revision.name),
        None => Ok(Reasons::default()),
    };
    Ok(read(this)?.added_to(&read(base)?))
}

fn changes(base: &Counts, this: &Counts) -> Vec<Change> {
    let pairs = base.0.iter().zip(&this.0);
    pairs
        .map(|((work, base), (_, this))| Change {
            work: work.clone(),
            base: *base,
            this: *this,
        })
        .collect()
}

fn print(base: &Revision, this: &Revision, changes: &[Change]) {
    let mut table = Table::new(&["instructions per request", &base.name, &this.name, "change"]);
    for change in changes {
        table.row(vec![
            change.work.clone(),
            thousands(change.base as f64),
            thousands(change.this as f64),
            format!("{:+.1}%", change.percent()),
        ]);
    }
    println!("{}", table.plain());
}

/// The counts of a program. They are kept beside it, by the program that counted.
fn counts(env: &TestEnv, revision: &Revision, program: &Path) -> Result<Counts> {
    let counter = revision::hash_of_this_program()?;
    let file = program.with_file_name(format!("counts-{counter}.json"));
    if let Ok(text) = fs::read_to_string(&file)
        && let Ok(counts) = serde_json::from_str(&text)
    {
        return Ok(counts);
    }
    let installed = Installed {
        peer: Peer::Crossfade,
        program: Some(program.to_owned()),
        version: String::new(),
    };
    let mut counts = Vec::new();
    for work in WORKS {
        println!("gate: counting {} at {}", revision.name, work.name());
        for contender in work.contenders(std::slice::from_ref(&installed)) {
            let instructions = callgrind::instructions(env, work, &contender)?;
            counts.push((work.name().to_owned(), instructions));
        }
    }
    let counts = Counts(counts);
    let text = serde_json::to_string(&counts).context(|| "counts".into())?;
    fs::write(&file, text).context(|| file.display().to_string())?;
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(base: u64, this: u64) -> Change {
        Change {
            work: "small".into(),
            base,
            this,
        }
    }

    fn reason(work: &str, percent: f64) -> Reason {
        Reason {
            work: work.into(),
            percent,
            reason: "a feature".into(),
        }
    }

    #[test]
    fn growth_within_the_limit_is_accepted() {
        for this in [9_000, 10_000, 10_300] {
            assert_eq!(change(10_000, this).objection(&[]), None, "{this}");
        }
    }

    #[test]
    fn growth_over_the_limit_needs_a_reason_for_this_workload_and_as_much() {
        let change = change(10_000, 10_450);
        assert_eq!(change.objection(&[reason("small", 4.5)]), None);
        for reasons in [&[][..], &[reason("post", 4.5)], &[reason("small", 4.4)]] {
            let objection = change.objection(reasons).unwrap();
            assert!(objection.contains("10,450") && objection.contains("4.5% more"));
            assert!(objection.contains(r#""percent": 4.5"#), "{objection}");
        }
    }

    #[test]
    fn every_objection_is_named() {
        let post = Change {
            work: "post".into(),
            ..change(100, 200)
        };
        let error = judge(&[change(100, 104), post], &[]).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("small: 104") && text.contains("post: 200"),
            "{text}"
        );
        judge(&[change(100, 100)], &[]).unwrap();
    }

    #[test]
    fn changes_pair_the_counts_of_each_workload() {
        let counts = |small, post| Counts(vec![("small".into(), small), ("post".into(), post)]);
        let changes = changes(&counts(100, 200), &counts(110, 190));
        assert!((changes[0].percent() - 10.0).abs() < 1e-9);
        assert!((changes[1].percent() + 5.0).abs() < 1e-9);
    }
}
