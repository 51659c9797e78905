//! What filters do, in tables, on every pair of wires.

mod headers;
mod limits;
mod replies;
mod users;

use crate::testing::hot_path::client::Request;
use crate::testing::hot_path::endpoint::{Speaks, Step};
use crate::testing::hot_path::{GOOD, Http, Outcome, Row};

/// Sends requests, one after the other, to a service with these filters, keys of it in JSON. `want` is
/// what comes of them in one line, and then lines about header fields, those of the last request:
///
/// ```text
/// 200; seen 1; 2xx 1
/// > x-a: 1          the endpoint sees this value
/// < x-b: 2 | 3      the client sees these, on two lines
/// < x-c:            the client does not see the field
/// ```
#[track_caller]
fn check(filters: &str, requests: &[Request], want: &str) {
    check_with(filters, &GOOD, |row| row.sends(requests), want);
}

/// The same of endpoints that do this, and rows that are changed like this.
#[track_caller]
fn check_with<'r>(
    filters: &str,
    script: &'r [Step],
    change: impl Fn(Row<'r>) -> Row<'r>,
    want: &str,
) {
    for client in [Http::One, Http::Two] {
        for speaks in [Speaks::Http1, Speaks::Http2] {
            let row = Row::new("filters").client(client).endpoints(1, speaks);
            let row = row.service(service(filters)).script(&[script]);
            let (line, outcome) = change(row).outcome();
            let wires = format!("{client:?} to {speaks:?}, {filters}");
            let mut wants = want.lines();
            assert_eq!(Some(&*line), wants.next(), "{wires}");
            // Endpoints of HTTP/2 do not decode what they get.
            let of_request = |field: &&str| field.trim().starts_with('>');
            for field in wants.filter(|field| speaks == Speaks::Http1 || !of_request(field)) {
                check_field(&outcome, field.trim(), &wires);
            }
        }
    }
}

/// A service with these keys. Rows keep it to the end of the program.
fn service(filters: &str) -> &'static str {
    Box::leak(format!(r#"{{"name":"web",{filters}}}"#).into_boxed_str())
}

#[track_caller]
fn check_field(outcome: &Outcome, want: &str, wires: &str) {
    let (side, field) = want.split_at(1);
    let (name, value) = field.split_once(':').unwrap();
    let head = match side {
        ">" => &outcome.requests.last().unwrap().head,
        "<" => &outcome.responses.last().unwrap().head,
        _ => panic!("{want}: whose field?"),
    };
    assert_eq!(
        fields(head, name.trim()),
        value.trim(),
        "{want}: {wires}\n{head}"
    );
}

/// The values of a field.
fn fields(head: &str, name: &str) -> String {
    let values = head.lines().filter_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    });
    values.collect::<Vec<_>>().join(" | ")
}
