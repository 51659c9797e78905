//! Results as text: tables for the terminal, and `RESULTS.md`.

use crate::estimate::Estimate;
use crate::losses;
use crate::memory::Memory;
use crate::race::Race;
use crate::repeat;
use crate::results::{Repeated, Results, Workload};
use crate::table::Table;

/// A workload's title, table and notes.
pub(crate) fn workload(workload: &Workload) -> (String, Table, Vec<String>) {
    let base = &workload.base;
    let cpu = if workload.cpu_per_gigabyte {
        "CPU s/GB"
    } else {
        "CPU µs/req"
    };
    let ratio = format!("× {base}");
    let swaps = workload.rows.iter().any(|row| row.swaps_per_second > 0.0);
    let mut header = vec![
        "", cpu, &ratio, "95%", "user", "req/s", &ratio, "p50 ms", "p99 ms", &ratio, "p99.9 ms",
        "failed",
    ];
    if swaps {
        header.push("swaps/s");
    }
    let mut table = Table::new(&header);
    for row in &workload.rows {
        let mut cells = vec![
            row.label.clone(),
            row.cpu.map_or_else(none, |cpu| precise(cpu.value)),
            row.cpu.map_or_else(none, |cpu| two(cpu.ratio)),
            row.cpu
                .map_or_else(none, |cpu| format!("{}–{}", two(cpu.low), two(cpu.high))),
            row.cpu
                .map_or_else(none, |_| format!("{:.0}%", row.user_share * 100.0)),
            row.rate.map_or_else(none, |rate| thousands(rate.value)),
            row.rate.map_or_else(none, |rate| two(rate.ratio)),
            value(row.p50),
            value(row.p99),
            row.p99.map_or_else(none, |p99| two(p99.ratio)),
            value(row.p999),
            row.failed.to_string(),
        ];
        if swaps {
            cells.push(format!("{:.0}", row.swaps_per_second));
        }
        table.row(cells);
    }
    let limited: Vec<&str> = workload
        .rows
        .iter()
        .filter(|row| row.load_was_limit)
        .map(|row| row.label.as_str())
        .collect();
    let mut notes = Vec::new();
    if !limited.is_empty() {
        notes.push(format!(
            "The load generator was the limit, not the proxy, for {}: compare their CPU, not their requests a second and latency.",
            limited.join(", ")
        ));
    }
    notes.extend(page_faults(workload));
    notes.extend(disturbed(workload));
    (
        format!("{}: {}", workload.name, workload.title),
        table,
        notes,
    )
}

/// Names the contenders whose rounds other programs disturbed.
fn disturbed(workload: &Workload) -> Option<String> {
    let who: Vec<String> = workload
        .rows
        .iter()
        .filter(|row| row.disturbed > 0)
        .map(|row| format!("{} in {}", row.label, row.disturbed))
        .collect();
    (!who.is_empty()).then(|| {
        format!(
            "Other programs were busy in these rounds, even after repeating them: {}.",
            who.join(", ")
        )
    })
}

/// From here on page faults matter: a fault costs 2 to 3 µs (measured), including the zeroing of the
/// page and the system call that allocates it.
const MANY_FAULTS: f64 = 0.2;

/// Names the contenders that return memory and allocate it again for each request.
fn page_faults(workload: &Workload) -> Option<String> {
    let who: Vec<String> = workload
        .rows
        .iter()
        .filter(|row| row.page_faults_per_request > MANY_FAULTS)
        .map(|row| format!("{} {:.1}", row.label, row.page_faults_per_request))
        .collect();
    (!who.is_empty()).then(|| format!("Page faults per request: {}.", who.join(", ")))
}

/// The table of memory.
pub(crate) fn memory(rows: &[Memory]) -> Table {
    let mut table = Table::new(&[
        "",
        "none",
        "1,000",
        "8,000",
        "closed again",
        "KiB/connection",
    ]);
    for row in rows {
        let mib = |kib: f64| format!("{:.1}", kib / 1024.0);
        table.row(vec![
            row.label.clone(),
            mib(row.none),
            mib(row.thousand),
            mib(row.eight_thousand),
            mib(row.after),
            format!("{:.2}", row.of_connection()),
        ]);
    }
    table
}

/// The table of the rollout race.
pub(crate) fn race(rows: &[Race]) -> Table {
    let mut table = Table::new(&[
        "",
        "requests",
        "failed",
        "may be retried",
        "idle closed of 200",
        "to the removed version",
        "up to ms later",
        "WebSockets cut of 20",
        "processes left over",
        "worst ms",
    ]);
    for row in rows {
        table.row(vec![
            row.label.clone(),
            thousands(row.requests as f64),
            row.failed.to_string(),
            row.retriable.to_string(),
            row.idle_closed.to_string(),
            row.stale.to_string(),
            format!("{:.0}", row.stale_for_ms),
            row.websockets_cut.to_string(),
            row.left_over.to_string(),
            format!("{:.1}", row.worst_ms),
        ]);
    }
    table
}

/// The differences between the ratios of several runs.
pub(crate) fn repeated(rows: &[Repeated]) -> Table {
    let mut table = Table::new(&["ratios, run by run", "metric", "ratios", "difference"]);
    for row in rows {
        let ratios: Vec<String> = row.ratios.iter().copied().map(two).collect();
        table.row(vec![
            format!("{}, {}", row.work, row.label),
            row.metric.clone(),
            ratios.join("  "),
            format!("{:.1}%", row.apart * 100.0),
        ]);
    }
    table
}

/// The whole of `RESULTS.md`.
pub(crate) fn markdown(results: &Results) -> String {
    let machine = &results.machine;
    let peers: Vec<String> = results
        .peers
        .iter()
        .map(|program| format!("{} {}", program.peer.name(), program.version))
        .map(|text| text.trim().to_owned())
        .collect();
    let mut text = format!(
        "# Results\n\nWritten by `{}` on {}. How it measures: [README.md](README.md).\n\n- Machine: {}, {} cores, Linux {}\n- {} rounds of {} s each; values are medians, ratios are taken within a round, with their 95% interval\n- Took part: {}\n",
        results.command,
        machine.date,
        machine.processor,
        machine.cores,
        machine.kernel,
        results.rounds,
        results.round_seconds,
        peers.join(", "),
    );
    if !results.absent.is_empty() {
        let absent: Vec<&str> = results.absent.iter().map(|peer| peer.name()).collect();
        text.push_str(&format!("- Not installed: {}\n", absent.join(", ")));
    }
    for error in &results.errors {
        text.push_str(&format!("- Could not be measured: {error}\n"));
    }
    text.push_str("\n## What we lose at\n\n");
    let losses = losses::of(results);
    if losses.is_empty() {
        text.push_str("Nothing that was measured.\n");
    }
    for loss in losses {
        text.push_str(&format!("- {loss}\n"));
    }
    text.push_str("\n## Work\n\n![CPU time relative to nginx](results.svg)\n\nA ratio of 1.00 is equal to nginx. Lower is better, except for requests a second. `haproxy-tcp` parses no requests and `origin` is no proxy: both are lower bounds.\n");
    for one in &results.workloads {
        let (title, table, notes) = workload(one);
        text.push_str(&format!("\n### {title}\n\n{}", table.markdown()));
        for note in notes {
            text.push_str(&format!("\n{note}\n"));
        }
    }
    if !results.memory.is_empty() {
        text.push_str(&format!(
            "\n## Memory\n\nPSS of all processes in MiB, by idle keep-alive connections.\n\n{}",
            memory(&results.memory).markdown()
        ));
    }
    if !results.race.is_empty() {
        text.push_str(&format!(
            "\n## The rollout race\n\n{RACE}\n\n{}",
            race(&results.race).markdown()
        ));
    }
    if !results.repeated.is_empty() {
        text.push_str(&format!(
            "\n## Run again\n\nThe run was repeated {} times; the tables above are those of the last.\n\n",
            results.repeated.first().map_or(0, |one| one.ratios.len()),
        ));
        for line in repeat::summary(&results.repeated) {
            text.push_str(&format!("- {line}\n"));
        }
        text.push_str(&format!("\n{}", repeated(&results.repeated).markdown()));
    }
    text
}

const RACE: &str = "The same rollout under the same load (1,000 requests a second): 10%, 50%, then all to version 2 and version 1 removed. Crossfade is changed by its admin API; nginx and HAProxy get a rewritten config and a reload. *To the removed version* counts requests that were sent after the command that removed version 1 had returned, including those on connections that had been idle.";

fn none() -> String {
    "–".into()
}

fn value(estimate: Option<Estimate>) -> String {
    estimate.map_or_else(none, |estimate| precise(estimate.value))
}

fn two(number: f64) -> String {
    if number.is_finite() {
        format!("{number:.2}")
    } else {
        none()
    }
}

/// Formats a number to three significant digits.
fn precise(number: f64) -> String {
    match number {
        n if !n.is_finite() => none(),
        n if n >= 100.0 => format!("{n:.0}"),
        n if n >= 10.0 => format!("{n:.1}"),
        n if n >= 1.0 => format!("{n:.2}"),
        n => format!("{n:.3}"),
    }
}

/// Formats a number as `12,345`.
pub(crate) fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_to_three_digits() {
        assert_eq!(precise(123.4), "123");
        assert_eq!(precise(12.34), "12.3");
        assert_eq!(precise(1.234), "1.23");
        assert_eq!(precise(0.1234), "0.123");
        assert_eq!(precise(f64::NAN), "–");
    }

    #[test]
    fn thousands_have_a_separator() {
        assert_eq!(thousands(1_234_567.0), "1,234,567");
        assert_eq!(thousands(999.6), "1,000");
        assert_eq!(thousands(12.0), "12");
    }
}
