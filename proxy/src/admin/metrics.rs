//! Everything that is counted, as Prometheus text.

use std::time::UNIX_EPOCH;

use prometheus::core::Collector;
use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, IntCounterVec, IntGaugeVec, Opts, TextEncoder};

use admin_api::{FailedAttempts, HealthState, Responses};

use crate::table::Table;
use crate::table::counts::stats::Stats;
use crate::table::counts::values::ProcessCounts;
use crate::table::mirror::Mirror;
use crate::table::service::Outage;
use crate::wire::reply::LocalReply;
use crate::wire::tls::Listening;
use crate::worker::counters::Counters;

/// Upper bounds of the latency histogram, in seconds.
const BOUNDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// The labels of what is counted for each version.
const VERSION: [&str; 2] = ["service", "version"];

/// The text of `/metrics`.
pub(crate) fn text(
    table: &Table,
    counters: &Counters,
    config_valid: bool,
    tls: &Listening,
) -> Result<Vec<u8>, prometheus::Error> {
    let mut families = of_proxy(table, counters, config_valid)?;
    families.extend(of_certificates(tls)?);
    families.extend(of_versions(table)?);
    families.extend(of_outcomes(table)?);
    families.extend(of_panics(table)?);
    families.push(of_latency(table));
    families.extend(of_mirrors(table)?);
    families.extend(of_holds(table)?);
    families.extend(of_waits(table)?);
    let mut text = Vec::new();
    let not_empty: Vec<MetricFamily> = families
        .into_iter()
        .filter(|family| !family.get_metric().is_empty())
        .collect();
    TextEncoder::new().encode(&not_empty, &mut text)?;
    Ok(text)
}

/// The proxy's own responses, by their reasons; and the same by the names of the release before.
fn of_replies(counts: &ProcessCounts) -> Result<(IntCounterVec, IntCounterVec), prometheus::Error> {
    let replies = counter(
        "crossfade_local_replies_total",
        "Requests that got the proxy's own response, by reason.",
        &["reason"],
    )?;
    let deprecated = counter(
        "crossfade_refused_total",
        "Deprecated, and gone in the next release: use crossfade_local_replies_total.",
        &["reason"],
    )?;
    for (reason, count) in &counts.refused {
        replies.with_label_values(&[reason]).inc_by(*count);
        let old = LocalReply::old_label(reason);
        deprecated.with_label_values(&[old]).inc_by(*count);
    }
    Ok((replies, deprecated))
}

fn of_proxy(
    table: &Table,
    counters: &Counters,
    config_valid: bool,
) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let single = |name: &str, help: &str, value: u64| {
        let gauge = gauges(name, help, &[])?;
        set(&gauge, &[], value);
        Ok::<_, prometheus::Error>(gauge.collect())
    };
    let total = |name: &str, help: &str, value: u64| {
        let total = counter(name, help, &[])?;
        total.with_label_values::<&str>(&[]).inc_by(value);
        Ok::<_, prometheus::Error>(total.collect())
    };
    let build = gauges("crossfade_build_info", "The proxy's release.", &["version"])?;
    set(&build, &[env!("CARGO_PKG_VERSION")], 1);
    let counts = counters.counts();
    let (replies, refused) = of_replies(&counts)?;
    let families = [
        build.collect(),
        single(
            "crossfade_generation",
            "The generation of the current table.",
            table.generation,
        )?,
        single(
            "crossfade_connections",
            "Open client connections.",
            counts.connections,
        )?,
        single(
            "crossfade_config_valid",
            "1 while the config file on disk is in force.",
            u64::from(config_valid),
        )?,
        replies.collect(),
        refused.collect(),
        total(
            "crossfade_connections_accepted_total",
            "Client connections accepted.",
            counts.accepted,
        )?,
        total(
            "crossfade_tls_handshakes_failed_total",
            "Failed TLS handshakes with clients.",
            counts.handshakes_failed,
        )?,
        total(
            "crossfade_connections_waited_total",
            "Client connections that waited until another one was closed, by limits.connections.",
            counts.waited,
        )?,
        total(
            "crossfade_connections_turned_away_total",
            "Client connections closed at once, by limits.connections_per_address.",
            counts.turned_away,
        )?,
        total(
            "crossfade_streams_refused_total",
            "Requests over HTTP/2 refused because clients do not take their responses.",
            counts.streams_refused,
        )?,
        of_buffers(&counts)?,
        total(
            "crossfade_access_log_lost_total",
            "Lines of the access log that were lost.",
            counts.lost_lines,
        )?,
    ];
    Ok(families.into_iter().flatten().collect())
}

/// Memory in which something waits for the slower side.
fn of_buffers(counts: &ProcessCounts) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let buffered = gauges(
        "crossfade_buffered_bytes",
        "Memory in which something waits for the slower side, by what waits.",
        &["of"],
    )?;
    for (of, bytes) in [
        ("bodies", counts.buffered.bodies),
        ("responses", counts.buffered.responses),
        ("requests", counts.buffered.requests),
    ] {
        set(&buffered, &[of], bytes);
    }
    Ok(buffered.collect())
}

fn of_certificates(tls: &Listening) -> Result<Vec<MetricFamily>, prometheus::Error> {
    const FILE: [&str; 2] = ["listener", "file"];

    let expiry = gauges(
        "crossfade_certificate_expiry_timestamp_seconds",
        "When the certificate in use expires.",
        &FILE,
    )?;
    let valid = gauges(
        "crossfade_certificate_valid",
        "1 while the file on disk is in use.",
        &FILE,
    )?;
    for (address, tls) in tls {
        for in_use in tls.files_in_use() {
            let labels = [&*address.to_string(), &*in_use.file.to_string_lossy()];
            set(&valid, &labels, u64::from(in_use.valid));
            if let Some(not_after) = in_use.not_after {
                let since = not_after.duration_since(UNIX_EPOCH).unwrap_or_default();
                set(&expiry, &labels, since.as_secs());
            }
        }
    }
    Ok([expiry.collect(), valid.collect()].concat())
}

/// What versions and their endpoints have and do now.
fn of_versions(table: &Table) -> Result<Vec<MetricFamily>, prometheus::Error> {
    const ENDPOINT: [&str; 4] = ["service", "version", "endpoint", "address"];

    let weight = gauges(
        "crossfade_split_weight",
        "The version's weight in the split.",
        &VERSION,
    )?;
    let in_flight = gauges("crossfade_in_flight", "Requests in flight.", &VERSION)?;
    let streams = gauges(
        "crossfade_streams",
        "Of the requests in flight, those whose responses go on without a length.",
        &VERSION,
    )?;
    let upgraded = gauges(
        "crossfade_upgraded_connections",
        "Open upgraded connections.",
        &VERSION,
    )?;
    let up = gauges(
        "crossfade_endpoint_up",
        "1 while the endpoint gets requests.",
        &ENDPOINT,
    )?;
    for service in table.services() {
        let name = &*service.definition.name;
        for (label, view) in &service.view(table.generation).versions {
            set(&weight, &[name, label], u64::from(view.weight));
            set(&in_flight, &[name, label], view.in_flight);
            set(&streams, &[name, label], view.streams);
            set(&upgraded, &[name, label], view.upgraded);
            for endpoint in &view.endpoints {
                let is_up = endpoint.health == HealthState::Up;
                let address = endpoint.resolved.as_ref().unwrap_or(&endpoint.address);
                set(
                    &up,
                    &[name, label, &endpoint.address, address],
                    u64::from(is_up),
                );
            }
        }
    }
    let families = [weight, in_flight, streams, upgraded, up];
    Ok(families.iter().flat_map(Collector::collect).collect())
}

/// What came of requests so far, by version.
fn of_outcomes(table: &Table) -> Result<Vec<MetricFamily>, prometheus::Error> {
    const CLASS: [&str; 3] = ["service", "version", "class"];
    const CAUSE: [&str; 3] = ["service", "version", "cause"];

    let responses = counter(
        "crossfade_responses_total",
        "Responses passed on whole, by class.",
        &CLASS,
    )?;
    let failed = counter(
        "crossfade_failed_tries_total",
        "Attempts that failed, by cause.",
        &CAUSE,
    )?;
    let forced_responses = counter(
        "crossfade_forced_responses_total",
        "Responses that no version is judged by, passed on whole, by class.",
        &CLASS,
    )?;
    let forced_failed = counter(
        "crossfade_forced_failed_tries_total",
        "Attempts that failed and that no version is judged by, by cause.",
        &CAUSE,
    )?;
    let gone = counter(
        "crossfade_client_gone_total",
        "Requests whose client went away.",
        &VERSION,
    )?;
    let diverted = counter(
        "crossfade_diverted_total",
        "Requests of the version's share that other versions got because no endpoint of it was up.",
        &VERSION,
    )?;
    let panicked = counter(
        "crossfade_panicked_tries_total",
        "Attempts sent to an endpoint that was down because no endpoint of the service was up.",
        &VERSION,
    )?;
    for service in table.services() {
        let name = &*service.definition.name;
        for (label, stats) in service.stats_of_all() {
            let label = &**label;
            let read = stats.read();
            for (class, n) in by_class(&read.responses) {
                responses.with_label_values(&[name, label, class]).inc_by(n);
            }
            for (cause, n) in by_cause(&read.failed_tries) {
                failed.with_label_values(&[name, label, cause]).inc_by(n);
            }
            for (class, n) in by_class(&read.forced.responses) {
                let labels = [name, label, class];
                forced_responses.with_label_values(&labels).inc_by(n);
            }
            for (cause, n) in by_cause(&read.forced.failed_tries) {
                let labels = [name, label, cause];
                forced_failed.with_label_values(&labels).inc_by(n);
            }
            for (family, n) in [
                (&gone, read.client_gone),
                (&diverted, read.diverted),
                (&panicked, read.panicked),
            ] {
                family.with_label_values(&[name, label]).inc_by(n);
            }
        }
    }
    let families = [
        responses,
        failed,
        forced_responses,
        forced_failed,
        gone,
        diverted,
        panicked,
    ];
    Ok(families.iter().flat_map(Collector::collect).collect())
}

fn of_panics(table: &Table) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let panic = gauges(
        "crossfade_panic",
        "1 while no endpoint of the service is up and requests are sent anyway.",
        &["service"],
    )?;
    for service in table.services() {
        let name = &*service.definition.name;
        set(
            &panic,
            &[name],
            u64::from(service.outage() == Some(Outage::Panic)),
        );
    }
    Ok(panic.collect())
}

fn of_latency(table: &Table) -> MetricFamily {
    let mut latency = MetricFamily::default();
    latency.set_name("crossfade_try_duration_seconds".into());
    latency.set_help("From an attempt's start to the head of its response.".into());
    latency.set_field_type(MetricType::HISTOGRAM);
    for service in table.services() {
        let name = &service.definition.name;
        for (label, stats) in service.stats_of_all() {
            latency.mut_metric().push(histogram(name, label, stats));
        }
    }
    latency
}

fn of_holds(table: &Table) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let waiting = gauges(
        "crossfade_held_requests",
        "Requests that wait for the release of their service, of services on hold.",
        &["service"],
    )?;
    for service in table.services() {
        if let Some(hold) = &service.hold {
            set(&waiting, &[&service.definition.name], hold.counts().waiting);
        }
    }
    Ok(waiting.collect())
}

/// Requests that find no endpoint of their service up.
fn of_waits(table: &Table) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let waiting = gauges(
        "crossfade_waiting_requests",
        "Requests that wait until an endpoint of their service is up.",
        &["service"],
    )?;
    let waited = counter(
        "crossfade_waited_requests_total",
        "Requests that began to wait until an endpoint of their service is up.",
        &["service"],
    )?;
    let refused = counter(
        "crossfade_waited_requests_refused_total",
        "Of those, the ones that waited too long, or found no place to wait.",
        &["service"],
    )?;
    for service in table.services() {
        let stats = service.waiting_room.stats();
        let labels = [&*service.definition.name];
        set(&waiting, &labels, stats.waiting);
        waited.with_label_values(&labels).inc_by(stats.waited);
        refused.with_label_values(&labels).inc_by(stats.refused);
    }
    Ok([waiting.collect(), waited.collect(), refused.collect()].concat())
}

fn of_mirrors(table: &Table) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let responses = counter(
        "crossfade_mirror_responses_total",
        "Responses to copies, and to the requests that were copied (of), by class.",
        &["service", "version", "of", "class"],
    )?;
    let failed = counter(
        "crossfade_mirror_failed_tries_total",
        "Copies, and requests that were copied (of), that failed, by cause.",
        &["service", "version", "of", "cause"],
    )?;
    let dropped = counter(
        "crossfade_mirror_dropped_total",
        "Requests that were not copied because too many copies were in flight or no endpoint was up.",
        &["service", "version"],
    )?;
    for service in table.services() {
        let Some(stats) = service.mirror.as_ref().map(Mirror::stats) else {
            continue;
        };
        let (name, version) = (&*service.definition.name, &*stats.version);
        for (of, counts) in [("copy", &stats.copies), ("original", &stats.originals)] {
            for (class, n) in by_class(&counts.responses) {
                let labels = [name, version, of, class];
                responses.with_label_values(&labels).inc_by(n);
            }
            for (cause, n) in by_cause(&counts.failed_tries) {
                let labels = [name, version, of, cause];
                failed.with_label_values(&labels).inc_by(n);
            }
        }
        let labels = [name, version];
        dropped.with_label_values(&labels).inc_by(stats.dropped);
    }
    Ok([responses.collect(), failed.collect(), dropped.collect()].concat())
}

fn by_class(responses: &Responses) -> [(&'static str, u64); 5] {
    [
        ("1xx", responses.informational),
        ("2xx", responses.success),
        ("3xx", responses.redirection),
        ("4xx", responses.client_error),
        ("5xx", responses.server_error),
    ]
}

fn by_cause(failed: &FailedAttempts) -> [(&'static str, u64); 5] {
    [
        ("connect", failed.connect),
        ("reset", failed.reset),
        ("timeout", failed.timeout),
        ("protocol", failed.protocol),
        ("body", failed.body),
    ]
}

fn counter(name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(name, help), labels)
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
    IntGaugeVec::new(Opts::new(name, help), labels)
}

fn set(gauge: &IntGaugeVec, labels: &[&str], value: u64) {
    gauge
        .with_label_values(labels)
        .set(i64::try_from(value).unwrap_or(i64::MAX));
}

fn histogram(service: &str, version: &str, stats: &Stats) -> Metric {
    let counts = stats.counts();
    let buckets = counts.stats.latency;
    let mut histogram = Histogram::default();
    histogram.set_sample_count(buckets.iter().map(|bucket| bucket.count).sum());
    histogram.set_sample_sum(counts.latency_sum_micros as f64 / 1e6);
    let cumulative = BOUNDS.iter().map(|bound| {
        let mut bucket = Bucket::default();
        let within = buckets.iter().filter(|bucket| bucket.le <= *bound);
        bucket.set_cumulative_count(within.map(|bucket| bucket.count).sum());
        bucket.set_upper_bound(*bound);
        bucket
    });
    histogram.set_bucket(cumulative.collect());
    let mut metric = Metric::default();
    metric.set_label(vec![label("service", service), label("version", version)]);
    metric.set_histogram(histogram);
    metric
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}
