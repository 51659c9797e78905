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

const GOALS: &str = "The controller's verdict with the defaults of a manifest, at 500 requests a second for at most 100 s. It evaluates every 250 ms, and in the first second of a run every 100 ms. A candidate that is accused by what may be a single incident gets no requests for a second, and then a second chance. Stable's latency is log-normal with a p99 of 102 ms. The columns *half* and *99%* are requests to the candidate until the rollback, the second chance included: that share of the rollouts needed no more; the seconds stand beside. *Floor* is the mean of requests below which no test can be that is wrong in 1 of 100 steps (Wald). *Errors* is the mean number of failed requests to the candidate until the rollback.";
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
        "floor",
        "errors",
        "",
    ]);
    let none = || "–".to_owned();
    for (row, result) in rows {
        let needed = |part| match (result.requests(part), result.seconds(part)) {
            (Some(requests), Some(seconds)) => {
                format!("{}, {seconds:.1} s", thousands(requests as f64))
            }
            _ => none(),
        };
        table.row(vec![
            row.what.into(),
            format!("{}%", row.scenario.share),
            format!("{:.2}%", result.rolled_back() * 100.0),
            row.goal(),
            needed(0.5),
            needed(0.99),
            row.floor().map_or_else(none, |floor| format!("{floor:.0}")),
            result
                .errors()
                .map_or_else(none, |errors| format!("{errors:.1}")),
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
