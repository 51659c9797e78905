//! Micro benchmarks of what is on the way of every request, and of a swap: `make micro`.
//!
//! They are for comparing two commits. For how a request as a whole compares with the peers',
//! see `make bench`.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderName, HeaderValue};
use proxy::bench::{Tables, rewrite_headers};

/// Services, and endpoints of each version.
const SIZES: [(usize, usize); 4] = [(1, 2), (1, 500), (100, 2), (10_000, 2)];

fn tables() -> impl Iterator<Item = (String, usize, Tables)> {
    SIZES.into_iter().filter_map(|(services, endpoints)| {
        let tables = Tables::new(services, endpoints)?;
        Some((format!("{services}x{endpoints}"), services, tables))
    })
}

/// From host and path to a service.
fn route(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("route");
    for (size, services, tables) in tables() {
        let host = Tables::host(services / 2);
        group.bench_function(BenchmarkId::from_parameter(&size), |bencher| {
            bencher.iter(|| tables.route(black_box(&host), black_box("/api/v1/items")));
        });
        // The answer is "no such service" after all hosts were asked.
        group.bench_function(BenchmarkId::new("unknown", &size), |bencher| {
            bencher.iter(|| tables.route(black_box("nobody.example.org"), black_box("/")));
        });
    }
}

/// From a service to a claim on one of its endpoints, and the claim's end.
fn claim(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("claim");
    for (size, services, tables) in tables() {
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| tables.claim(black_box(services / 2)));
        });
    }
}

/// A new table: one service replaced, and everything built anew.
fn swap(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("swap");
    group.sample_size(20);
    for (size, services, tables) in tables() {
        group.bench_function(BenchmarkId::new("one service", &size), |bencher| {
            bencher.iter(|| tables.swap(black_box(services / 2)));
        });
        group.bench_function(BenchmarkId::new("all", &size), |bencher| {
            bencher.iter(|| tables.rebuild());
        });
    }
}

/// A request's and an answer's header fields, as they go on.
fn rewrite(criterion: &mut Criterion) {
    let host = HeaderValue::from_static("app.example.com");
    let request = fields(&[
        ("host", "app.example.com"),
        (
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101",
        ),
        (
            "accept",
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        ),
        ("accept-language", "en-US,en;q=0.5"),
        ("accept-encoding", "gzip, deflate, br"),
        ("cookie", "session=0123456789abcdef0123456789abcdef"),
        ("connection", "keep-alive"),
    ]);
    let answer = fields(&[
        ("date", "Tue, 15 Nov 1994 08:12:31 GMT"),
        ("content-type", "application/json"),
        ("content-length", "100"),
        ("connection", "keep-alive"),
    ]);
    criterion.bench_function("rewrite headers", |bencher| {
        bencher.iter_batched(
            || (request.clone(), answer.clone()),
            |(mut request, mut answer)| {
                rewrite_headers(&mut request, &mut answer, &host);
                (request, answer)
            },
            BatchSize::SmallInput,
        );
    });
}

fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        })
        .collect()
}

criterion_group!(micro, route, claim, swap, rewrite);
criterion_main!(micro);
