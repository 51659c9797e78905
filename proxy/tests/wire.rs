//! What the fuzzers of `fuzz/` check, over random messages at every run of the tests: whatever the
//! proxy passes on is valid by an independent strict reading of RFC 9112, and means the same.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a property that does not hold panics, and all of this is for tests"
)]

#[expect(unreachable_pub, reason = "the fuzzers' crate has it public")]
#[path = "../../fuzz/src/exchange.rs"]
mod exchange;
#[expect(unreachable_pub, reason = "the fuzzers' crate has it public")]
#[path = "../../fuzz/src/filters.rs"]
mod filters;
#[expect(unreachable_pub, reason = "the fuzzers' crate has it public")]
#[path = "../../fuzz/src/heads.rs"]
mod heads;
#[expect(unreachable_pub, reason = "the fuzzers' crate has it public")]
#[path = "../../fuzz/src/routing.rs"]
mod routing;
#[expect(unreachable_pub, reason = "the fuzzers' crate has it public")]
#[path = "../../fuzz/src/strict.rs"]
mod strict;

use std::path::Path;

use exchange::{Exchange, REQUESTS};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

/// What requests are made of, and what they are broken by.
const REQUEST: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "HEAD /h HTTP/1.1\r\nhost: a\r\n\r\n",
    "POST /p?q HTTP/1.1\r\nHost: a:80\r\n",
    "PUT http://b/p HTTP/1.1\r\nHost: a\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n",
    "GET / HTTP/1.0\r\n",
    "GET /a/../b//%7e?/.. HTTP/1.1\r\nHost: a.\r\n",
    "GET http://a/./%2e%2e/%2F HTTP/1.1\r\nHost: a\r\n",
    "TRACE / HTTP/1.1\r\nHost: a\r\n",
    "Content-Length: 5\r\n\r\nhello",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\n",
    "\r\n5;a=b\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n",
    "3\r\nabc\r\n",
    "Connection: X-Own, close\r\n",
    "Connection: keep-alive\r\n",
    "X-Own: 1\r\n",
    "Keep-Alive: 5\r\n",
    "TE: trailers\r\n",
    "Max-Forwards: 1\r\n",
    "Expect: 100-continue\r\n",
    "Upgrade: websocket\r\n",
    "Connection: upgrade\r\n",
    "X-Forwarded-For: 1.1.1.1\r\n",
    "X_Forwarded_For: 1.1.1.1\r\n",
    "Content_Length: 5\r\n",
    "X-Long: \t a  b\t\r\n",
    "Host: a\r\n",
    "\r\n",
    "\n",
    "\r",
    " ",
    "\t",
    ":",
    ",",
    ";",
    "\0",
    "\u{b}",
    "\u{e9}",
    "0",
    "5",
    "chunked",
    "gzip, chunked",
    "identity",
    "HTTP/1.1",
];

/// The same for responses.
const RESPONSE: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 200 OK\r\n",
    "HTTP/1.1 204 No Content\r\n",
    "HTTP/1.1 304 Not Modified\r\n",
    "HTTP/1.1 404\r\n",
    "HTTP/1.1 999 Past All Classes\r\n",
    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "Content-Length: 5\r\n\r\nhello",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "Transfer-Encoding: chunked\r\n",
    "\r\n5;a=b\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n",
    "3\r\nabc\r\n",
    "Connection: close, X-Own\r\n",
    "X-Own: 1\r\n",
    "Proxy-Connection: close\r\n",
    "Date: now\r\n",
    "Upgrade: x\r\n",
    "\r\n",
    "\n",
    "\r",
    " ",
    "\t",
    ":",
    "\0",
    "\u{e9}",
    "0",
    "5",
    "hello",
    "chunked",
    "gzip",
];

/// Mostly whole parts one after the other, with some of their bytes changed.
fn soup(parts: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let bytes = vec(select(parts), 1..10).prop_map(|parts| parts.concat().into_bytes());
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..2);
    (bytes, changes).prop_map(|(mut bytes, changes)| {
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

/// Checks a property of an exchange; the sockets are the same for all its cases.
fn check<S: Strategy>(strategy: S, mut property: impl FnMut(&mut Exchange, S::Value)) {
    let exchange = std::cell::RefCell::new(Exchange::new());
    let property = std::cell::RefCell::new(&mut property);
    let mut runner = TestRunner::new(Config {
        cases: 1_000,
        failure_persistence: None,
        ..Config::default()
    });
    let outcome = runner.run(&strategy, |value| {
        property.borrow_mut()(&mut exchange.borrow_mut(), value);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn an_endpoint_gets_nothing_but_strictly_valid_requests_that_mean_the_same() {
    check((soup(REQUEST), 0..300_usize), |exchange, (sent, cut)| {
        exchange.check_requests(&sent, cut);
    });
}

#[test]
fn a_client_gets_nothing_but_strictly_valid_responses_whole_or_cut() {
    let request = select(&REQUESTS[..]);
    check(
        (request, soup(RESPONSE), 0..200_usize),
        |exchange, (request, response, cut)| exchange.check_responses(request, &response, cut),
    );
}

proptest! {
    #![proptest_config(Config {
        cases: 1_000,
        failure_persistence: None,
        ..Config::default()
    })]
    #[test]
    fn an_accepted_head_is_read_as_a_strict_reader_reads_it(
        request in soup(REQUEST), response in soup(RESPONSE), to_head: bool
    ) {
        heads::check_request_head(&request);
        heads::check_response_head(&response, to_head);
    }

    #[test]
    fn chunks_mean_the_same_however_they_are_cut(
        body in soup(&[
            "5\r\nhello\r\n", "0\r\n", "\r\n", "3;a=\"b\"\r\nabc\r\n", "00\r\n\r\n", "A\r\n0123456789\r\n",
            "x: y\r\n", "5", ";", "\n", "\r", "ffffffffffffffff\r\n", "1\r\n",
        ]),
        cuts in vec(0..20_u8, 0..8),
    ) {
        heads::check_chunked(&body, &cuts);
    }

    #[test]
    fn a_path_goes_where_it_was_routed(
        path in soup(&[
            "/", "//", ".", "..", "/..", "/../", "%2e", "%2E", "%2f", "%5c", "%25", "%", "%4", "2e",
            "a", "api", "/api", "%61pi", "\\", ";", "?", "*",
        ]),
    ) {
        routing::check_path(&path);
        routing::check_path(&[b"api", &path[..]].concat());
    }

    #[test]
    fn filters_write_nothing_but_strictly_valid_heads(
        which: u8,
        line in select(&["GET", "OPTIONS", "POST"][..]),
        path in soup(&[
            "/", "u", "/u/", "/u/..", "/u/../", ".", "..", "%2e", "%0d%0a", "%", "?", "a=b", "//", "\u{e9}", "7", "\\",
        ]),
        host in select(&["a", "a.b.test", "..a", "A.B:81", "evil.test"][..]),
        fields in soup(&[
            "x-a: 1\r\n", "X-A: \t\r\n", "cookie: c=1\r\n", "cookie: c=\"\u{e9}\"\r\n", "x-request-id: a b\r\n",
            "x-request-id: 1\r\n", "x-c: 1\r\n", "origin: https://a.b.test\r\n", "origin: https://evil.test/.b.test\r\n",
            "access-control-request-method: PUT\r\n", "access-control-request-headers: x\r\n",
            "content-length: 3\r\n", "transfer-encoding: chunked\r\n", "authorization: Basic YTpi\r\n",
            "connection: x-a\r\n", "x-forwarded-proto: https\r\n",
        ]),
    ) {
        let head = [
            &[which][..], line.as_bytes(), b" /", &path, b" HTTP/1.1\r\nhost: ", host.as_bytes(), b"\r\n", &fields, b"\r\n",
        ];
        filters::check_filters(&head.concat());
    }

    #[test]
    fn no_stranger_is_taken_for_a_trusted_proxy(
        list in soup(&[
            "10.0.0.1", "10.0.0.2, ", "203.0.113.9", ",", " ", ":", ":80", "[", "]", "fd00::1", "[fd00::1]:1",
            "unknown", "_a", "\"", "::ffff:10.0.0.3", "%1", "0", ".",
        ]),
    ) {
        routing::check_client(&list);
    }
}

/// The fuzzers' seeds, and what they have found, hold at every run.
#[test]
fn the_corpus_holds() {
    let corpus = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds"));
    let mut exchange = Exchange::new();
    let mut count = 0;
    let mut each = |target: &str, check: &mut dyn FnMut(&[u8])| {
        for entry in std::fs::read_dir(corpus.join(target)).unwrap() {
            check(&std::fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
    };
    each("request_head", &mut heads::check_request_head);
    each("response_head", &mut |input| {
        heads::check_response_head(&input[1..], input[0] == b'H');
    });
    each("chunked", &mut |input| {
        let (cuts, body) = input[1..].split_at(usize::from(input[0] % 8));
        heads::check_chunked(body, cuts);
    });
    each("paths", &mut routing::check_path);
    each("clients", &mut routing::check_client);
    each("filters", &mut filters::check_filters);
    each("forwarded", &mut |input| {
        exchange.check_requests(&input[1..], usize::from(input[0]));
    });
    each("responses", &mut |input| {
        let request = REQUESTS[usize::from(input[0]) % REQUESTS.len()];
        exchange.check_responses(request, &input[2..], usize::from(input[1]));
    });
    assert!(count > 80, "only {count} seeds were found");
}
