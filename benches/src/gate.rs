//! The gate against slow changes: it counts the instructions per request of the proxy, and fails if
//! one of the counts is more than 3% off.
//!
//! It compares with the record, `benches/instructions.json`, or with another revision: then it
//! builds and counts both.

mod record;
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

use record::{Accepted, Record};
use revision::{Repository, Revision};

/// The change in percent that needs no reason. Counts of the same program differ by less than 1%.
const ALLOWED: f64 = 3.0;

/// The options of the gate.
#[derive(Debug, clap::Args)]
pub(crate) struct GateOptions {
    /// Compare with this revision, not with the record: builds both with the `dist` profile.
    #[arg(long, value_name = "REVISION")]
    base: Option<String>,
    /// The folder that keeps the programs and counts of revisions between runs.
    #[arg(long, value_name = "FOLDER", default_value = "target/gate")]
    cache: PathBuf,
    /// Folders with the proxy to compare with the record; they come before PATH.
    #[arg(long, value_name = "FOLDER")]
    programs: Vec<PathBuf>,
    /// The record.
    #[arg(long, value_name = "FILE", default_value = record::FILE)]
    record: PathBuf,
    /// The first of the 100 ports on loopback that the gate uses.
    #[arg(long, default_value_t = 9700, value_parser = clap::value_parser!(u16).range(1024..=9900))]
    port: u16,
}

/// The instructions per request of one program, by workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Counts {
    small: u64,
    post: u64,
    tls: u64,
    h2: u64,
}

impl Counts {
    fn of(mut count: impl FnMut(Work) -> Result<u64>) -> Result<Self> {
        Ok(Self {
            small: count(Work::Small)?,
            post: count(Work::Post)?,
            tls: count(Work::Tls)?,
            h2: count(Work::H2)?,
        })
    }

    fn by_work(&self) -> [(Work, u64); 4] {
        [
            (Work::Small, self.small),
            (Work::Post, self.post),
            (Work::Tls, self.tls),
            (Work::H2, self.h2),
        ]
    }
}

/// The change of one workload.
#[derive(Debug, Clone, PartialEq)]
struct Change {
    work: &'static str,
    base: u64,
    this: u64,
}

impl Change {
    /// The change of each workload.
    fn of(base: &Counts, this: &Counts) -> Vec<Self> {
        let pairs = base.by_work().into_iter().zip(this.by_work());
        pairs
            .map(|((work, base), (_, this))| Self {
                work: work.name(),
                base,
                this,
            })
            .collect()
    }

    fn percent(&self) -> f64 {
        (self.this as f64 - self.base as f64) * 100.0 / self.base.max(1) as f64
    }
}

/// Counts, and compares.
///
/// # Errors
/// If a count is further off than is allowed, or a program cannot be built or counted.
pub(crate) fn run(options: &GateOptions) -> Result<()> {
    match &options.base {
        Some(base) => against_revision(options, base),
        None => against_record(options),
    }
}

/// Compares the proxy with the record.
fn against_record(options: &GateOptions) -> Result<()> {
    let text =
        fs::read_to_string(&options.record).context(|| options.record.display().to_string())?;
    let record = Record::parse(&text)?;
    let installed = Installed::find(Peer::Crossfade, &options.programs);
    let Some(program) = installed.and_then(|installed| installed.program) else {
        return Err(Error::Usage(
            "there is no crossfade-proxy: make build".into(),
        ));
    };
    let processor = processor();
    if let Some(recorded) = record.other_processor(&processor) {
        println!(
            "gate: not compared, the record is of another processor ({recorded}) than this one ({processor})"
        );
        return Ok(());
    }
    let env = environment(options.port, Network::enter()?)?;
    let compiler = revision::compiler()?;
    record::judge_twice(&record, || {
        let now = Accepted {
            instructions: count(&env, "this program", &program)?,
            compiler: compiler.clone(),
            processor: processor.clone(),
            reason: "…".into(),
        };
        if let Some(accepted) = record.newest() {
            let changes = Change::of(&accepted.instructions, &now.instructions);
            print("the record", "this program", &changes);
        }
        Ok(now)
    })
}

/// The C library copies memory by AVX2 where the processor has it, which is worth 2% to 7% of the
/// instructions.
fn processor() -> String {
    #[cfg(target_arch = "x86_64")]
    let avx2 = std::arch::is_x86_feature_detected!("avx2");
    #[cfg(not(target_arch = "x86_64"))]
    let avx2 = false;
    let features = if avx2 { "AVX2" } else { "no AVX2" };
    format!("{}, {features}", std::env::consts::ARCH)
}

/// Builds the proxy of this revision and of its base, and compares them.
fn against_revision(options: &GateOptions, base: &str) -> Result<()> {
    let repository = Repository::find()?;
    let (base, this) = repository.revisions(base)?;
    if repository.key(&base)? == repository.key(&this)? {
        println!(
            "gate: the proxy of {} and of {} have the same sources",
            base.name, this.name
        );
        return Ok(());
    }
    fs::create_dir_all(&options.cache).context(|| options.cache.display().to_string())?;
    let cache = fs::canonicalize(&options.cache).context(|| options.cache.display().to_string())?;
    // Before this process is bound to one core: the compiler uses all of them.
    let base_program = repository.program(&base, &cache)?;
    let this_program = repository.program(&this, &cache)?;
    // The programs are in the cache when this program executes itself again.
    let env = environment(options.port, Network::enter()?)?;
    let base_counts = cached_counts(&env, &base, &base_program)?;
    let this_counts = cached_counts(&env, &this, &this_program)?;
    let changes = Change::of(&base_counts, &this_counts);
    print(&base.name, &this.name, &changes);
    slower(&changes)
}

/// An error if a workload needs more instructions than is allowed.
fn slower(changes: &[Change]) -> Result<()> {
    let slower = changes.iter().filter(|change| change.percent() > ALLOWED);
    let works: Vec<&str> = slower.map(|change| change.work).collect();
    if works.is_empty() {
        return Ok(());
    }
    let works = works.join(", ");
    Err(Error::Usage(format!(
        "over {ALLOWED}% more instructions per request: {works}"
    )))
}

fn print(base: &str, this: &str, changes: &[Change]) {
    let mut table = Table::new(&["instructions per request", base, this, "change"]);
    for change in changes {
        table.row(vec![
            change.work.to_owned(),
            thousands(change.base as f64),
            thousands(change.this as f64),
            format!("{:+.1}%", change.percent()),
        ]);
    }
    println!("{}", table.plain());
}

/// The counts of a program of the cache. They are kept beside it, by the program that counted.
fn cached_counts(env: &TestEnv, revision: &Revision, program: &Path) -> Result<Counts> {
    let counter = revision::hash_of_this_program()?;
    let file = program.with_file_name(format!("counts-{counter}.json"));
    if let Ok(text) = fs::read_to_string(&file)
        && let Ok(counts) = serde_json::from_str(&text)
    {
        return Ok(counts);
    }
    let counts = count(env, &revision.name, program)?;
    let text = serde_json::to_string(&counts).context(|| "counts".into())?;
    fs::write(&file, text).context(|| file.display().to_string())?;
    Ok(counts)
}

/// Counts the instructions of a program.
fn count(env: &TestEnv, name: &str, program: &Path) -> Result<Counts> {
    let installed = Installed {
        peer: Peer::Crossfade,
        program: Some(program.to_owned()),
        version: String::new(),
    };
    Counts::of(|work| {
        println!("gate: counting {name} at {}", work.name());
        let contenders = work.contenders(std::slice::from_ref(&installed));
        let [contender] = contenders.as_slice() else {
            let name = work.name();
            return Err(Error::Usage(format!("{name} is not one program's work")));
        };
        callgrind::instructions(env, work, contender)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(small: u64, h2: u64) -> Counts {
        Counts {
            small,
            post: 100,
            tls: 100,
            h2,
        }
    }

    #[test]
    fn changes_pair_the_counts_of_each_workload() {
        let changes = Change::of(&counts(100, 200), &counts(110, 190));
        let percents: Vec<(&str, f64)> = changes
            .iter()
            .map(|change| (change.work, change.percent().round()))
            .collect();
        let want = [("small", 10.0), ("post", 0.0), ("tls", 0.0), ("h2", -5.0)];
        assert_eq!(percents, want);
    }

    #[test]
    fn a_revision_that_is_slower_than_its_base_is_an_error_that_names_the_workloads() {
        for this in [counts(1_030, 100), counts(1_000, 50)] {
            slower(&Change::of(&counts(1_000, 100), &this)).unwrap();
        }
        let changes = Change::of(&counts(1_000, 100), &counts(1_031, 104));
        let text = slower(&changes).unwrap_err().to_string();
        assert!(text.ends_with(": small, h2"), "{text}");
    }

    #[test]
    fn each_workload_is_counted_as_itself() {
        let counts = Counts::of(|work| Ok(work.name().len() as u64)).unwrap();
        for (work, count) in counts.by_work() {
            assert_eq!(count, work.name().len() as u64);
        }
        let json = serde_json::to_value(&counts).unwrap();
        for (work, count) in counts.by_work() {
            assert_eq!(json[work.name()], count);
        }
    }
}
