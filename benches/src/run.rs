//! A run of the benchmark from beginning to end.

use crate::aggregate;
use crate::callgrind;
use crate::container;
use crate::contender::Contender;
use crate::error::{Error, Result};
use crate::files;
use crate::machine::Machine;
use crate::memory;
use crate::options::{BenchOptions, Selection};
use crate::peers::Installed;
use crate::progress::Progress;
use crate::race;
use crate::repeat;
use crate::report;
use crate::results::{Results, Workload};
use crate::rounds;
use crate::test_env::TestEnv;
use crate::work::Work;

/// Measures everything that is selected, once or several times, and prints it. Writes the last run
/// if a folder is given.
///
/// # Errors
/// If a contender could not be measured, or requests failed. The others are measured all the same.
pub(crate) fn benchmark(
    env: &TestEnv,
    options: &BenchOptions,
    selection: &Selection,
) -> Result<()> {
    let steps: usize = selection
        .works
        .iter()
        .map(|work| steps(*work, selection))
        .sum();
    let progress = Progress::new(steps * usize::from(options.repeat));
    if !selection.absent.is_empty() {
        let names: Vec<&str> = selection.absent.iter().map(|peer| peer.name()).collect();
        progress.print(&format!("not installed, left out: {}\n", names.join(", ")));
    }
    let mut runs = Vec::new();
    for run in 1..=options.repeat {
        if options.repeat > 1 {
            progress.print(&format!("run {run} of {}\n", options.repeat));
        }
        match all(env, options, selection, &progress) {
            Ok(results) => runs.push(results),
            Err(error) => {
                progress.finish();
                return Err(error);
            }
        }
    }
    progress.finish();
    let repeated = repeat::compare(&runs);
    if !repeated.is_empty() {
        let summary = repeat::summary(&repeated).join("\n");
        println!("{}\n{summary}", report::repeated(&repeated).plain());
    }
    let failed = runs.iter().try_for_each(verdict);
    if let (Some(mut results), Some(folder)) = (runs.pop(), &options.write) {
        results.repeated = repeated;
        files::write(&results, folder)?;
    }
    failed
}

/// Performs one run. Only an interruption ends it early.
fn all(
    env: &TestEnv,
    options: &BenchOptions,
    selection: &Selection,
    progress: &Progress,
) -> Result<Results> {
    let mut results = Results::new(
        options.make_command(),
        selection.effort,
        &selection.installed,
        selection.absent.clone(),
        Machine::this(env.cores.count(), &env.network),
    );
    for &work in &selection.works {
        let contenders = work.contenders(&selection.installed);
        if contenders.is_empty() {
            continue;
        }
        match one(env, work, contenders, selection, &mut results, progress) {
            Ok(()) => {}
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => {
                progress.print(&format!("{}: {error}\n", work.name()));
                results.errors.push(format!("{}: {error}", work.name()));
            }
        }
    }
    Ok(results)
}

fn one(
    env: &TestEnv,
    work: Work,
    contenders: Vec<Contender>,
    selection: &Selection,
    results: &mut Results,
    progress: &Progress,
) -> Result<()> {
    let (contenders, notes) = able(env, work, contenders)?;
    let contenders = contenders.as_slice();
    match work {
        Work::Memory | Work::IdleTls | Work::IdleH2 | Work::Stalled => {
            let rows = memory::measure(env, work, contenders, progress)?;
            let table = report::memory(work, &rows).plain();
            progress.print(&format!("{}: {}\n{table}", work.name(), work.title()));
            match work {
                Work::IdleTls => results.memory_tls = rows,
                Work::IdleH2 => results.memory_h2 = rows,
                Work::Stalled => results.memory_stalled = rows,
                _ => results.memory = rows,
            }
        }
        Work::Race => {
            for (number, contender) in contenders.iter().enumerate() {
                results
                    .race
                    .push(race::run(env, number, contender, progress)?);
            }
            let table = report::race(&results.race).plain();
            progress.print(&format!("{}: {}\n{table}", work.name(), work.title()));
        }
        Work::Container => {
            let all = contenders.to_vec();
            let (measured, samples, notes) =
                container::measure(env, all, selection.effort, progress)?;
            let workload = aggregate::workload(work, &measured, &samples, notes);
            add(workload, results, progress);
        }
        _ => {
            let start = |number: usize, contender: &Contender| env.start(number, contender);
            let effort = selection.effort;
            let samples = rounds::measure(env, work, contenders, effort, progress, &start)?;
            let workload = aggregate::workload(work, contenders, &samples, notes);
            add(workload, results, progress);
        }
    }
    Ok(())
}

fn add(workload: Workload, results: &mut Results, progress: &Progress) {
    let (title, table, notes) = report::workload(&workload);
    progress.print(&format!("{title}\n{}{}", table.plain(), notes.join("\n")));
    results.workloads.push(workload);
}

/// The contenders that support a workload, and remarks about the others.
fn able(env: &TestEnv, work: Work, all: Vec<Contender>) -> Result<(Vec<Contender>, Vec<String>)> {
    let mut able = Vec::new();
    let mut notes = Vec::new();
    for contender in all {
        // Crossfade is the only proxy whose support depends on its release.
        let error = match work {
            Work::Unix => env.config_error(&contender)?,
            _ => None,
        };
        match error {
            None => able.push(contender),
            Some(error) => notes.push(format!(
                "{} does not take part: this release has no endpoints behind unix sockets. Its config check: {error}",
                contender.label
            )),
        }
    }
    Ok((able, notes))
}

fn steps(work: Work, selection: &Selection) -> usize {
    let contenders = work.contenders(&selection.installed).len();
    match work {
        Work::Race => contenders,
        Work::Memory | Work::IdleTls | Work::IdleH2 | Work::Stalled => contenders * memory::REPEATS,
        _ => contenders * selection.effort.of(work).rounds,
    }
}

fn verdict(results: &Results) -> Result<()> {
    let failed = results.failed();
    if failed > 0 {
        return Err(Error::Usage(format!("{failed} requests failed")));
    }
    match results.errors.as_slice() {
        [] => Ok(()),
        errors => Err(Error::Usage(format!(
            "{} could not be measured",
            errors.len()
        ))),
    }
}

/// Counts instructions for each request of the workloads that are selected.
pub(crate) fn count_instructions(env: &TestEnv, selection: &Selection) -> Result<()> {
    let proxies: Vec<Installed> = selection
        .installed
        .iter()
        .filter(|installed| callgrind::can_count(installed.peer))
        .cloned()
        .collect();
    callgrind::run(env, &selection.works, &proxies)
}
