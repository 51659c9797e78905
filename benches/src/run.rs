//! A run of the benchmark from beginning to end.

use std::fs;
use std::path::Path;

use crate::callgrind;
use crate::error::{Context, Error, Result};
use crate::machine::Machine;
use crate::memory;
use crate::options::{BenchOptions, Wanted};
use crate::peers::Installed;
use crate::plot;
use crate::progress::Progress;
use crate::race;
use crate::report;
use crate::results::{Results, Workload};
use crate::rounds;
use crate::stage::Stage;
use crate::work::{Contender, Work};

/// Measures all that is wanted, prints it, and writes it if that is wanted too.
///
/// # Errors
/// If a contender could not be measured, or failed requests. The rest is measured all the same.
pub(crate) fn benchmark(stage: &Stage, options: &BenchOptions, wanted: &Wanted) -> Result<()> {
    let Wanted {
        installed,
        absent,
        works,
        effort,
    } = wanted;
    let mut results = Results::new(
        options.make_command(),
        *effort,
        installed,
        absent.clone(),
        Machine::this(stage.cores.count()),
    );
    let progress = Progress::new(works.iter().map(|work| steps(*work, wanted)).sum());
    if !absent.is_empty() {
        let names: Vec<&str> = absent.iter().map(|peer| peer.name()).collect();
        progress.print(&format!("not installed, left out: {}\n", names.join(", ")));
    }
    for &work in works {
        let contenders = contenders(work, installed);
        if contenders.is_empty() {
            continue;
        }
        let measured = one(stage, work, &contenders, wanted, &mut results, &progress);
        match measured {
            Ok(()) => {}
            Err(Error::Interrupted) => {
                progress.finish();
                return Err(Error::Interrupted);
            }
            Err(error) => {
                progress.print(&format!("{}: {error}\n", work.name()));
                results.errors.push(format!("{}: {error}", work.name()));
            }
        }
    }
    progress.finish();
    if let Some(folder) = &options.write {
        write(&results, folder)?;
    }
    verdict(&results)
}

fn one(
    stage: &Stage,
    work: Work,
    contenders: &[Contender],
    wanted: &Wanted,
    results: &mut Results,
    progress: &Progress,
) -> Result<()> {
    match work {
        Work::Memory => {
            results.memory = memory::measure(stage, contenders, progress)?;
            let table = report::memory(&results.memory).plain();
            progress.print(&format!("{}: {}\n{table}", work.name(), work.title()));
        }
        Work::Race => {
            for (number, contender) in contenders.iter().enumerate() {
                results
                    .race
                    .push(race::run(stage, number, contender, progress)?);
            }
            let table = report::race(&results.race).plain();
            progress.print(&format!("{}: {}\n{table}", work.name(), work.title()));
        }
        _ => {
            let samples = rounds::measure(stage, work, contenders, wanted.effort, progress)?;
            let workload = Workload::of(work, contenders, &samples);
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

fn steps(work: Work, wanted: &Wanted) -> usize {
    let contenders = contenders(work, &wanted.installed).len();
    match work {
        Work::Race => contenders,
        Work::Memory => contenders * memory::REPEATS,
        _ => contenders * wanted.effort.rounds,
    }
}

fn write(results: &Results, folder: &Path) -> Result<()> {
    let save = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).context(|| path.display().to_string())
    };
    let mut json = serde_json::to_string_pretty(results).context(|| "results.json".into())?;
    json.push('\n');
    save("results.json", json)?;
    save("RESULTS.md", report::markdown(results))?;
    plot::draw(results, &folder.join("results.svg"))
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

/// Counts instructions for each request of the workloads that are wanted.
pub(crate) fn count_instructions(stage: &Stage, wanted: &Wanted) -> Result<()> {
    let proxies: Vec<Installed> = wanted
        .installed
        .iter()
        .filter(|installed| callgrind::can_count(installed.peer))
        .cloned()
        .collect();
    callgrind::run(stage, &wanted.works, &proxies)
}
