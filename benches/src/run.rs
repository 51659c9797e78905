//! A run of the benchmark from beginning to end.

use crate::aggregate;
use crate::callgrind;
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
use crate::results::Results;
use crate::rounds;
use crate::test_env::TestEnv;
use crate::work::{Contender, Work};

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
        let contenders = contenders(work, &selection.installed);
        if contenders.is_empty() {
            continue;
        }
        match one(env, work, &contenders, selection, &mut results, progress) {
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
    contenders: &[Contender],
    selection: &Selection,
    results: &mut Results,
    progress: &Progress,
) -> Result<()> {
    match work {
        Work::Memory => {
            results.memory = memory::measure(env, contenders, progress)?;
            let table = report::memory(&results.memory).plain();
            progress.print(&format!("{}: {}\n{table}", work.name(), work.title()));
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
        _ => {
            let samples = rounds::measure(env, work, contenders, selection.effort, progress)?;
            let workload = aggregate::workload(work, contenders, &samples, Vec::new());
            let (title, table, notes) = report::workload(&workload);
            progress.print(&format!("{title}\n{}{}", table.plain(), notes.join("\n")));
            results.workloads.push(workload);
        }
    }
    Ok(())
}

fn contenders(work: Work, installed: &[Installed]) -> Vec<Contender> {
    let mut contenders = work.contenders(installed);
    if work == Work::Race {
        contenders.retain(|contender| race::takes_part(contender.installed.peer));
    }
    contenders
}

fn steps(work: Work, selection: &Selection) -> usize {
    let contenders = contenders(work, &selection.installed).len();
    match work {
        Work::Race => contenders,
        Work::Memory => contenders * memory::REPEATS,
        _ => contenders * selection.effort.rounds,
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
