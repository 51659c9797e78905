//! The files of a run: `results.json`, and `RESULTS.md` and `results.svg` that are made from it.

use std::fs;
use std::path::Path;

use clap::ValueEnum;

use crate::error::{Context, Result};
use crate::judge::section;
use crate::plot;
use crate::report;
use crate::results::Results;
use crate::work::Work;

const JSON: &str = "results.json";
const MARKDOWN: &str = "RESULTS.md";
const CHART: &str = "results.svg";

/// Writes all three files.
pub(crate) fn write(results: &Results, folder: &Path) -> Result<()> {
    let mut json = serde_json::to_string_pretty(results).context(|| JSON.into())?;
    json.push('\n');
    save(folder, JSON, &json)?;
    write_report(results, folder)
}

/// Writes `RESULTS.md` and `results.svg`. The section of the simulation stays in `RESULTS.md`.
fn write_report(results: &Results, folder: &Path) -> Result<()> {
    let old = fs::read_to_string(folder.join(MARKDOWN)).unwrap_or_default();
    save(
        folder,
        MARKDOWN,
        &section::keep(&old, &report::markdown(results)),
    )?;
    plot::draw(results, &folder.join(CHART))
}

/// Writes `RESULTS.md` and `results.svg` again from `results.json`, which may be of an earlier
/// release.
pub(crate) fn rewrite(folder: &Path) -> Result<()> {
    let path = folder.join(JSON);
    let context = || path.display().to_string();
    let text = fs::read_to_string(&path).context(context)?;
    write_report(&read(&text).context(context)?, folder)
}

fn read(text: &str) -> serde_json::Result<Results> {
    let mut results: Results = serde_json::from_str(text)?;
    for workload in &mut results.workloads {
        // A title of an earlier release may have other words.
        if let Ok(work) = Work::from_str(&workload.name, false) {
            workload.title = work.title().to_owned();
        }
    }
    Ok(results)
}

fn save(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, text).context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = include_str!("../fixtures/results-0.1.0.json");

    #[test]
    fn results_of_an_earlier_release_are_read() {
        let results = read(OLD).unwrap();
        let medium = &results.workloads[0];
        assert_eq!(medium.title, Work::Medium.title());
        assert_eq!(medium.rows.len(), 3);
        assert!(medium.rows[0].estimates.p999.unwrap().low.is_nan());
        assert_eq!(results.repeated[0].metric, "CPU");
        assert_eq!(results.memory.len() + results.race.len(), 4);
    }

    #[test]
    fn results_are_read_as_they_are_written() {
        let folder = tempfile::tempdir().unwrap();
        write(&read(OLD).unwrap(), folder.path()).unwrap();
        let report = || fs::read_to_string(folder.path().join(MARKDOWN)).unwrap();
        let first = report();
        rewrite(folder.path()).unwrap();
        assert_eq!(report(), first);
        assert!(first.contains("### medium: 10 KiB responses"));
        assert!(folder.path().join(CHART).is_file());
    }

    #[test]
    fn results_that_cannot_be_read_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(JSON), "{}").unwrap();
        let error = rewrite(folder.path()).unwrap_err().to_string();
        assert!(error.contains("results.json: missing field"), "{error}");
    }
}
