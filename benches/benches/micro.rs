//! Micro benchmarks of the steps of a request and of a change of the table: `make micro`.
//!
//! They compare two commits. `make bench` compares whole requests with those of the peers.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use proxy::bench::{Changes, Heads, Paths, Policy, Tables};

/// Services, and endpoints of each version.
const SIZES: [(usize, usize); 4] = [(1, 2), (1, 500), (100, 2), (10_000, 2)];

fn tables(policy: Policy) -> impl Iterator<Item = (String, usize, Tables)> {
    SIZES.into_iter().filter_map(move |(services, endpoints)| {
        let tables = Tables::new(services, endpoints, policy)?;
        Some((format!("{services}x{endpoints}"), services, tables))
    })
}

/// Routing: from host and path to a service.
fn route(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    for (size, services, tables) in tables(Policy::RoundRobin) {
        let host = Tables::host(services / 2);
        group.bench_function(BenchmarkId::from_parameter(&size), |bencher| {
            bencher.iter(|| tables.route(black_box(&host), black_box("/api/v1/items")));
        });
        // No service has this host.
        group.bench_function(BenchmarkId::new("unknown", &size), |bencher| {
            bencher.iter(|| tables.route(black_box("unknown.example.org"), black_box("/")));
        });
    }
}

/// Routing within one host, by number of its paths and prefixes.
fn paths(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route by path");
    for count in [2, 100, 10_000] {
        let Some(paths) = Paths::new(count) else {
            continue;
        };
        let middle = count / 2 / 2 * 2;
        let exact = Paths::path(middle);
        group.bench_function(BenchmarkId::new("exact", count), |bencher| {
            bencher.iter(|| paths.route(black_box(&exact)));
        });
        let below = format!("{}/v1/items", Paths::path(middle + 1));
        group.bench_function(BenchmarkId::new("prefix", count), |bencher| {
            bencher.iter(|| paths.route(black_box(&below)));
        });
    }
}

/// A claim on an endpoint of a service, and its release.
fn claim(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("claim");
    for (policy, name) in [
        (Policy::RoundRobin, "in turn"),
        (Policy::LeastInFlight, "least in flight"),
        (Policy::Hash, "by hash"),
    ] {
        for (size, services, tables) in tables(policy) {
            // Another key each time, so that it is not always the same endpoint in the cache.
            let mut key = 0_u64;
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter(|| {
                    key = key.wrapping_add(0x9e37_79b9_7f4a_7c15);
                    tables.claim(black_box(services / 2), key)
                });
            });
        }
    }
}

/// A new table: one service replaced, or all services built.
fn swap(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("swap");
    group.sample_size(20);
    for (size, services, tables) in tables(Policy::RoundRobin) {
        group.bench_function(BenchmarkId::new("one service", &size), |bencher| {
            bencher.iter(|| tables.swap(black_box(services / 2)));
        });
        group.bench_function(BenchmarkId::new("all", &size), |bencher| {
            bencher.iter(|| tables.rebuild());
        });
    }
}

/// What the admin API does for a new split, by number of services: the change of the table alone, and
/// with the state file, where it waits for the disk. And the start with so many services.
#[expect(clippy::panic, reason = "what cannot be set up cannot be measured")]
fn change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("change");
    group.sample_size(20);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"));
    let folder = folder.unwrap_or_else(|error| panic!("no folder for the state file: {error}"));
    for services in [1, 100, 10_000] {
        let file = folder.path().join(format!("{services}.json"));
        for (name, file) in [("split", None), ("split and save", Some(file))] {
            let Some(changes) = Changes::new(services, file) else {
                panic!("{services} services do not pass the checks");
            };
            let mut percent = 0;
            group.bench_function(BenchmarkId::new(name, services), |bencher| {
                bencher.iter(|| {
                    percent = percent % 99 + 1;
                    assert!(changes.set_split(black_box(services / 2), percent));
                });
            });
        }
        group.bench_function(BenchmarkId::new("start", services), |bencher| {
            bencher.iter(|| assert!(Changes::new(services, None).is_some()));
        });
    }
}

/// The head of a load generator.
const SMALL: &str = "GET / HTTP/1.1\r\nHost: app.example.com\r\n\r\n";
/// The head of a browser.
const BROWSER: &str = concat!(
    "GET /path?query=1 HTTP/1.1\r\n",
    "Host: app.example.com\r\n",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101\r\n",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n",
    "Accept-Language: en-US,en;q=0.5\r\n",
    "Accept-Encoding: gzip, deflate, br\r\n",
    "Cookie: session=0123456789abcdef0123456789abcdef\r\n",
    "Connection: keep-alive\r\n\r\n",
);

/// The head of a browser with tokens and the fields of proxies on the way: 8 KiB.
fn large() -> String {
    let head = BROWSER.strip_suffix("\r\n").unwrap_or(BROWSER);
    let token = "0123456789abcdef".repeat(8);
    let more: String = (0..56)
        .map(|number| format!("X-Trace-Part-{number:02}: {token}\r\n"))
        .collect();
    format!("{head}{more}\r\n")
}

/// A request's head: parsed, and written for an endpoint.
fn heads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("head");
    let large = large();
    for (size, request) in [("small", SMALL), ("browser", BROWSER), ("large", &large)] {
        let request = request.as_bytes();
        let mut heads = Heads::default();
        assert!(heads.read(request), "{size}");
        group.throughput(Throughput::Bytes(request.len() as u64));
        group.bench_function(BenchmarkId::new("read", size), |bencher| {
            bencher.iter(|| heads.read(black_box(request)));
        });
        group.bench_function(BenchmarkId::new("rewrite", size), |bencher| {
            bencher.iter(|| heads.rewrite(black_box(request)));
        });
    }
}

criterion_group!(micro, route, paths, claim, swap, change, heads);
criterion_main!(micro);
