//! The simulation's tables.

use super::JudgeOptions;
use super::comparison::{Comparison, JudgeStats};
use super::rows::{Row, RowResult};
use crate::report::thousands;
use crate::table::Table;

type Rows = [(Row, RowResult)];
type Compared = [(Comparison, Vec<JudgeStats>)];

/// The tables as plain text.
pub(super) fn plain(options: &JudgeOptions, rows: &Rows, compared: &Compared) -> String {
    let mut text = format!("{}\n\n{}", seeds(options), goals(rows).plain());
    for (comparison, stats) in compared {
        text.push_str(&format!(
            "\n{}\n{}",
            comparison.what,
            judges(*comparison, stats).plain()
        ));
    }
    text
}

/// The section of `RESULTS.md`.
pub(super) fn markdown(options: &JudgeOptions, rows: &Rows, compared: &Compared) -> String {
    let mut text = format!(
        "Written by `make judge WRITE=1`. {}\n\n{GOALS}\n\n{}\n### Compared with Flagger and Argo Rollouts\n\n{COMPARISON}\n",
        seeds(options),
        goals(rows).markdown()
    );
    for (comparison, stats) in compared {
        text.push_str(&format!(
            "\n#### {}\n\n{}",
            comparison.what,
            judges(*comparison, stats).markdown()
        ));
    }
    text
}

const GOALS: &str = "The controller's verdict with the defaults of a manifest, evaluated after every request to the candidate (latency: after every tenth request). Stable's latency is log-normal with a p99 of 102 ms. The columns *half* and *99%* are requests to the candidate until the rollback: that share of the rollouts needed no more.";
const COMPARISON: &str = "All judges get the same requests: 500 a second, a constant 10% of them to the candidate, for at most 30 minutes. Crossfade evaluates every 250 ms. Flagger and Argo follow the examples and defaults of their documentation (listed in `benches/src/judge/rivals.rs`), with a Prometheus that is never late. *Errors* is the mean number of failed requests over all rollouts; *requests* and *seconds* are medians of the rollouts that were rolled back.";

fn seeds(options: &JudgeOptions) -> String {
    let last = options.seed + u64::from(options.rollouts) - 1;
    format!(
        "{} rollouts a row, seeds {} to {last}.",
        thousands(f64::from(options.rollouts)),
        options.seed
    )
}

fn goals(rows: &Rows) -> Table {
    let mut table = Table::new(&[
        "candidate against stable",
        "share",
        "rolled back",
        "goal",
        "half",
        "99%",
        "",
    ]);
    for (row, result) in rows {
        let requests = |part| {
            result
                .at(part)
                .map_or("–".into(), |requests| thousands(requests as f64))
        };
        table.row(vec![
            row.what.into(),
            format!("{:.0}%", row.share * 100.0),
            row.got(result),
            row.goal(),
            requests(0.5),
            requests(0.99),
            if row.missed(result).is_some() {
                "missed".into()
            } else {
                String::new()
            },
        ]);
    }
    table
}

fn judges(comparison: Comparison, stats: &[JudgeStats]) -> Table {
    let rolled_back = if comparison.is_worse() {
        "rolled back"
    } else {
        "false alarms"
    };
    let mut table = Table::new(&["", rolled_back, "errors", "requests", "seconds"]);
    for of in stats {
        let none = || "–".to_owned();
        table.row(vec![
            of.judge.name().into(),
            format!("{:.2}%", of.rolled_back * 100.0),
            thousands(of.errors),
            of.requests
                .map_or_else(none, |requests| thousands(requests as f64)),
            of.seconds
                .map_or_else(none, |seconds| format!("{seconds:.1}")),
        ]);
    }
    table
}
