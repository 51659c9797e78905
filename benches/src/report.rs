//! Results as text: tables for the terminal, and `RESULTS.md`.

use program::text::grouped;

use crate::estimate::Estimate;
use crate::losses;
use crate::memory::Memory;
use crate::metric::Metric;
use crate::peers::Peer;
use crate::race::Race;
use crate::repeat;
use crate::results::{Repeated, Results, Row, Workload};
use crate::table::Table;
use crate::work::Work;

/// A workload's title, table and notes.
pub(crate) fn workload(workload: &Workload) -> (String, Table, Vec<String>) {
    let columns = columns(workload);
    let header: Vec<&str> = columns
        .iter()
        .map(|column| column.header.as_str())
        .collect();
    let mut table = Table::new(&[&[""], header.as_slice()].concat());
    for row in &workload.rows {
        let cells = columns.iter().map(|column| (column.cell)(row));
        table.row(std::iter::once(row.label.clone()).chain(cells).collect());
    }
    let title = format!("{}: {}", workload.name, workload.title);
    (title, table, notes(workload))
}

/// A column of a workload's table.
struct Column {
    header: String,
    cell: Box<dyn Fn(&Row) -> String>,
}

impl Column {
    fn new(header: impl Into<String>, cell: impl Fn(&Row) -> String + 'static) -> Self {
        Self {
            header: header.into(),
            cell: Box::new(cell),
        }
    }

    /// The value of a metric.
    fn value(header: &str, metric: Metric) -> Self {
        let format = match metric {
            Metric::Rate => rate,
            _ => precise,
        };
        Self::new(header, move |row| {
            let estimate = row.estimates.get(metric);
            estimate.map_or_else(none, |estimate| format(estimate.value))
        })
    }

    /// The ratio of a metric to the base.
    fn to_base(base: &str, metric: Metric) -> Self {
        Self::new(format!("× {base}"), move |row| {
            ratio(row.estimates.get(metric))
        })
    }

    /// The ratio of a metric to another peer in the same shape.
    fn to_peer(peer: Peer, metric: Metric) -> Self {
        Self::new(format!("× {}", peer.name()), move |row| {
            if row.peer == peer {
                return two(1.0);
            }
            let label = format!("{}{}", peer.name(), row.shape());
            ratio(row.to(&label, metric))
        })
    }

    /// The ratio of a metric to the same proxy as a process.
    fn to_process(metric: Metric) -> Self {
        Self::new("× process", move |row| match row.shape() {
            "" => two(1.0),
            _ => ratio(row.to(row.peer.name(), metric)),
        })
    }

    /// The ratio of a metric to the best rival.
    fn to_best(metric: Metric) -> Self {
        Self::new("× best", move |row| {
            let best = row.best.get(metric);
            ratio(best.and_then(|best| row.to(best, metric)))
        })
    }
}

/// The columns of a workload's table, without the labels.
fn columns(workload: &Workload) -> Vec<Column> {
    let base = &workload.base;
    let has_haproxy = workload.rows.iter().any(|row| row.peer == Peer::Haproxy);
    let has_best = workload.rows.iter().any(|row| !row.versus.is_empty());
    // Where proxies run in containers too, each is compared with nginx in the same.
    let has_containers = workload.rows.iter().any(|row| {
        let is_process = |other: &Row| other.is_process_of(row);
        workload.rows.iter().any(is_process)
    });
    let to_nginx = |metric: Metric| match has_containers {
        true => Column::to_peer(Peer::Nginx, metric),
        false => Column::to_base(base, metric),
    };
    let ratios = |metric: Metric| {
        let mut columns = match has_containers {
            true => vec![Column::to_process(metric), to_nginx(metric)],
            false => vec![to_nginx(metric)],
        };
        if metric == Metric::Cpu && !has_containers {
            columns.push(Column::new("95%", |row| {
                let interval = |cpu: Estimate| format!("{}–{}", two(cpu.low), two(cpu.high));
                row.estimates.cpu.map_or_else(none, interval)
            }));
        }
        if has_haproxy && has_best {
            columns.push(Column::to_peer(Peer::Haproxy, metric));
        }
        if has_best {
            columns.push(Column::to_best(metric));
        }
        columns
    };
    let cpu = match workload.cpu_per_gigabyte {
        true => "CPU s/GB",
        false => "CPU µs/req",
    };
    let mut columns = vec![Column::value(cpu, Metric::Cpu)];
    columns.extend(ratios(Metric::Cpu));
    columns.push(Column::new("user", |row| match row.estimates.cpu {
        Some(_) => format!("{:.0}%", row.user_share * 100.0),
        None => none(),
    }));
    columns.push(Column::value("req/s", Metric::Rate));
    match workload.fixed_rate {
        true => columns.push(Column::to_base(base, Metric::Rate)),
        false => columns.extend(ratios(Metric::Rate)),
    }
    columns.push(Column::value("p50 ms", Metric::P50));
    columns.push(Column::value("p99 ms", Metric::P99));
    match workload.metrics().contains(&Metric::P99) {
        true => columns.extend(ratios(Metric::P99)),
        false => columns.push(to_nginx(Metric::P99)),
    }
    columns.push(Column::value("p99.9 ms", Metric::P999));
    columns.push(Column::new("failed", |row| row.failed.to_string()));
    if workload.rows.iter().any(|row| row.swaps_per_second > 0.0) {
        let swaps = |row: &Row| format!("{:.0}", row.swaps_per_second);
        columns.push(Column::new("swaps/s", swaps));
    }
    columns
}

/// Remarks on a workload's table.
fn notes(workload: &Workload) -> Vec<String> {
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
    notes.extend(best(workload));
    notes.extend(workload.notes.iter().cloned());
    notes
}

/// Names the best rivals of crossfade.
fn best(workload: &Workload) -> Option<String> {
    let ours = |row: &&Row| row.peer == Peer::Crossfade;
    let mut named = Vec::new();
    for row in workload.rows.iter().filter(ours) {
        for metric in workload.metrics() {
            // The latencies have one best rival, that of the 99th percentile.
            if !matches!(metric, Metric::Cpu | Metric::Rate | Metric::P99) {
                continue;
            }
            if let Some(best) = row.best.get(metric) {
                named.push(format!("{} {best}", metric.name()));
            }
        }
    }
    (!named.is_empty()).then(|| format!("Best peers: {}.", named.join(", ")))
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
    // A request with a large body takes so long that no fault matters.
    if workload.cpu_per_gigabyte {
        return None;
    }
    let who: Vec<String> = workload
        .rows
        .iter()
        .filter(|row| row.page_faults_per_request > MANY_FAULTS)
        .map(|row| format!("{} {:.1}", row.label, row.page_faults_per_request))
        .collect();
    (!who.is_empty()).then(|| format!("Page faults per request: {}.", who.join(", ")))
}

/// The table of memory.
pub(crate) fn memory(work: Work, rows: &[Memory]) -> Table {
    let [few, many] = work.held_connections().map(|count| thousands(count as f64));
    let mut table = Table::new(&["", "none", &few, &many, "closed again", "KiB/connection"]);
    for row in rows {
        let mib = |kib: f64| format!("{:.1}", kib / 1024.0);
        table.row(vec![
            row.label.clone(),
            mib(row.none),
            mib(row.few),
            mib(row.many),
            mib(row.after),
            format!("{:.2}", row.of_connection(work)),
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
        "# Results\n\nWritten by `{}` on {}. How it measures: [README.md](README.md).\n\n",
        results.command, machine.date,
    );
    for line in machine.lines() {
        text.push_str(&format!("- {line}\n"));
    }
    text.push_str(&format!(
        "- {} rounds of {} s each, or a quarter as many and four times as long; values are medians, ratios are taken within a round, with their 95% interval\n- Took part: {}\n",
        results.rounds,
        results.round_seconds,
        peers.join(", "),
    ));
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
    for (work, of) in MEMORY {
        let rows = results.memory_of(work);
        if !rows.is_empty() {
            text.push_str(&format!(
                "\n## Memory of {of}\n\nPSS of all processes in MiB, by number of connections (`{}`).\n\n{}",
                work.name(),
                memory(work, rows).markdown()
            ));
        }
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

const MEMORY: [(Work, &str); 4] = [
    (Work::Memory, "idle keep-alive connections"),
    (Work::IdleTls, "idle TLS connections"),
    (Work::IdleH2, "idle HTTP/2 connections over TLS"),
    (
        Work::Stalled,
        "HTTP/2 connections over TLS with 100 requests each whose clients take nothing of the responses (1 MiB)",
    ),
];

const RACE: &str = "The same rollout under the same load (1,000 requests a second): 10%, 50%, then all to version 2 and version 1 removed. Crossfade is changed by its admin API; nginx and HAProxy get a rewritten config and a reload. *To the removed version* counts requests that were sent after the command that removed version 1 had returned, including those on connections that had been idle.";

fn none() -> String {
    "–".into()
}

fn ratio(estimate: Option<Estimate>) -> String {
    estimate.map_or_else(none, |estimate| two(estimate.ratio))
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

/// Formats a rate: a few uploads a second have decimals.
fn rate(number: f64) -> String {
    match number < 100.0 {
        true => precise(number),
        false => thousands(number),
    }
}

/// Formats a number as `12,345`.
pub(crate) fn thousands(number: f64) -> String {
    grouped(&format!("{number:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Estimates;
    use crate::results::examples::{self, estimate};
    use crate::results::{Best, Versus};

    #[test]
    fn ratios_to_haproxy_and_to_the_best_peer_are_in_the_table() {
        let estimates = Estimates::of(|_| estimate(0.9, 0.0));
        let versus = Versus {
            label: "haproxy".into(),
            estimates: Estimates::of(|_| estimate(0.95, 0.0)),
        };
        let ours = Row {
            best: Best {
                cpu: Some("haproxy".into()),
                ..Best::default()
            },
            versus: vec![versus],
            ..examples::row(Peer::Crossfade, estimates)
        };
        let rows = vec![ours, examples::row(Peer::Haproxy, estimates)];
        let (_, table, notes) = workload(&examples::workload(rows));
        let text = table.plain();
        assert!(
            text.contains("× nginx") && text.contains("× haproxy"),
            "{text}"
        );
        assert!(text.contains("0.95    0.95"), "{text}");
        assert_eq!(notes, ["Best peers: CPU haproxy."]);
    }

    #[test]
    fn a_container_is_compared_with_nginx_in_a_container_and_with_itself_as_a_process() {
        let row = |peer: Peer, label: &str, others: &[(&str, f64)]| Row {
            label: label.into(),
            versus: others
                .iter()
                .map(|(label, ratio)| Versus {
                    label: (*label).into(),
                    estimates: Estimates::of(|_| estimate(*ratio, 0.0)),
                })
                .collect(),
            ..examples::row(peer, Estimates::of(|_| estimate(7.0, 0.0)))
        };
        let ours = [("crossfade", 3.0), ("nginx rootful", 0.8)];
        let rows = vec![
            row(Peer::Crossfade, "crossfade", &[("nginx", 0.9)]),
            row(Peer::Nginx, "nginx", &[]),
            row(Peer::Crossfade, "crossfade rootful", &ours),
            row(Peer::Nginx, "nginx rootful", &[("nginx", 4.0)]),
        ];
        let (_, table, _) = workload(&examples::workload(rows));
        let text = table.plain();
        let cells = |line: usize| {
            let line = text.lines().nth(line).unwrap();
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .take(4)
                .collect::<Vec<_>>()
        };
        assert_eq!(cells(1), ["crossfade", "7.00", "1.00", "0.90"]);
        assert_eq!(cells(3), ["crossfade rootful", "7.00", "3.00", "0.80"]);
        assert_eq!(cells(4), ["nginx rootful", "7.00", "4.00", "1.00"]);
        // p99, whose ratio is the last but two, compares in the same way.
        let p99 = |line: usize| {
            let cells: Vec<&str> = text.lines().nth(line).unwrap().split_whitespace().collect();
            cells[cells.len() - 3].to_owned()
        };
        assert_eq!(
            (p99(1), p99(3), p99(4)),
            ("0.90".into(), "0.80".into(), "1.00".into())
        );
    }

    #[test]
    fn page_faults_are_named_where_they_matter() {
        let faulty = Row {
            page_faults_per_request: 0.9,
            ..examples::row(Peer::Traefik, Estimates::of(|_| estimate(7.0, 0.0)))
        };
        let small = examples::workload(vec![faulty]);
        assert_eq!(
            page_faults(&small).as_deref(),
            Some("Page faults per request: traefik 0.9.")
        );
        let upload = Workload {
            cpu_per_gigabyte: true,
            ..small
        };
        assert_eq!(page_faults(&upload), None);
    }

    #[test]
    fn remarks_are_below_the_table() {
        let remarked = Workload {
            notes: vec!["crossfade does not take part".into()],
            ..examples::workload(Vec::new())
        };
        let (_, _, notes) = workload(&remarked);
        assert_eq!(notes, ["crossfade does not take part"]);
    }

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
