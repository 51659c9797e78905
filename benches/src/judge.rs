//! A simulation of verdicts on rollouts: the controller's verdict, compared with the rules of Flagger
//! and Argo Rollouts, on requests drawn from seeds.

mod comparison;
mod report;
mod rivals;
mod rows;
pub(crate) mod section;
mod trial;
mod world;

use std::fs;
use std::path::PathBuf;
use std::thread;

use crate::error::{Context, Error, Result};
use crate::progress::Progress;

use comparison::Comparison;
use rows::{Row, RowResult};

/// The options of the simulation.
#[derive(Debug, clap::Args)]
pub(crate) struct JudgeOptions {
    /// The number of rollouts in each row.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rollouts: u32,
    /// The seed of the first rollout; each further rollout has the next seed.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Only the rows with this in their names; no comparison with others.
    #[arg(long, value_name = "TEXT", conflicts_with = "write")]
    pub(crate) rows: Option<String>,
    /// Write the tables into RESULTS.md in this folder.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) write: Option<PathBuf>,
}

/// Simulates every row, prints the tables, and writes them if a folder is given.
///
/// # Errors
/// If a row misses its goal.
pub(crate) fn run(options: &JudgeOptions) -> Result<()> {
    let (mut rows, mut comparisons) = (rows::all(), comparison::all());
    if let Some(part) = &options.rows {
        rows.retain(|row| row.what.contains(part.as_str()));
        comparisons.clear();
    }
    let progress = Progress::new(rows.len() + comparisons.len());
    let mut results: Vec<(Row, RowResult)> = Vec::new();
    for row in rows {
        progress.set_message("judge", row.what);
        let trials = each(options, |seed| row.trial(seed));
        let result = RowResult::of(&trials);
        results.push((row, result));
        progress.step();
    }
    let mut compared = Vec::new();
    for comparison in comparisons {
        progress.set_message("judge", comparison.what);
        let trials = each(options, |seed| comparison.trial(seed));
        compared.push((comparison, Comparison::stats(&trials)));
        progress.step();
    }
    progress.finish();
    println!("{}", report::plain(options, &results, &compared));
    if let Some(folder) = &options.write {
        let path = folder.join("RESULTS.md");
        let context = || path.display().to_string();
        let text = fs::read_to_string(&path).context(context)?;
        let written = section::put(&text, &report::markdown(options, &results, &compared));
        fs::write(&path, written).context(context)?;
    }
    let missed: Vec<String> = results
        .iter()
        .filter_map(|(row, result)| row.missed(result))
        .collect();
    if missed.is_empty() {
        return Ok(());
    }
    Err(Error::Usage(missed.join("; ")))
}

/// Runs one trial for each seed, on all cores. The results are in the order of the seeds.
fn each<T: Send>(options: &JudgeOptions, trial: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let seeds: Vec<u64> = (0..u64::from(options.rollouts))
        .map(|rollout| options.seed + rollout)
        .collect();
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let part = seeds.len().div_ceil(workers);
    thread::scope(|scope| {
        let trial = &trial;
        let parts: Vec<_> = seeds
            .chunks(part)
            .map(|seeds| scope.spawn(|| seeds.iter().map(|seed| trial(*seed)).collect::<Vec<T>>()))
            .collect();
        parts
            .into_iter()
            .flat_map(|part| part.join().unwrap_or_default())
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `make judge` does with 10,000 rollouts a row.
    #[test]
    fn the_verdict_keeps_its_promises() {
        let options = JudgeOptions {
            rollouts: 40,
            seed: 1,
            rows: None,
            write: None,
        };
        for mut row in rows::all() {
            row.shorten();
            let result = RowResult::of(&each(&options, |seed| row.trial(seed)));
            assert_eq!(row.missed(&result), None, "{}", row.what);
        }
    }

    #[test]
    fn a_seed_gives_the_same_rollout_again() {
        let row = &rows::all()[0];
        assert_eq!(row.trial(7), row.trial(7));
        let bad = rows::all().into_iter().find(|row| row.is_bad());
        let bad = bad.expect("there are bad candidates");
        let all: std::collections::BTreeSet<_> = (0..50)
            .filter_map(|seed| bad.trial(seed).map(|end| end.requests))
            .collect();
        assert!(all.len() > 5, "seeds make a difference: {all:?}");
    }
}
