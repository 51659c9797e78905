//! The load generator's pace, counts and failures, against a server in a thread.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::*;
use crate::plan::Outcome;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// What a server has seen.
#[derive(Default)]
struct Seen {
    connections: AtomicU64,
    requests: AtomicU64,
}

/// A server that sends this many responses on each connection, then closes it.
fn server(responses: usize) -> SocketAddr {
    counting_server(responses).0
}

fn counting_server(responses: usize) -> (SocketAddr, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Seen::default());
    let counts = seen.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let counts = counts.clone();
            counts.connections.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || {
                let mut buffer = [0; 1024];
                for _ in 0..responses {
                    if stream.read(&mut buffer).unwrap_or(0) == 0 {
                        return;
                    }
                    counts.requests.fetch_add(1, Ordering::SeqCst);
                    let _ = stream.write_all(RESPONSE);
                }
                let _ = stream.read(&mut buffer);
            });
        }
    });
    (address, seen)
}

fn plan(target: SocketAddr, pace: Pace) -> Plan {
    Plan {
        target,
        connections: 2,
        requests: Requests::Http1(Rc::new([REQUEST.to_vec()])),
        upload: 0,
        tls: None,
        pace,
        closing: Closing::Never,
    }
}

fn run(target: SocketAddr, pace: Pace, end: End) -> Vec<Exchange> {
    let interrupted = AtomicBool::new(false);
    let mut requests = Vec::new();
    let mut load = Load::new(plan(target, pace), &interrupted).unwrap();
    load.run(end, &mut |request| requests.push(*request))
        .unwrap();
    requests
}

#[test]
fn a_closed_loop_ends_after_its_count() {
    let requests = run(server(usize::MAX), Pace::Closed, End::Requests(100));
    assert!(requests.len() >= 100);
    let succeeded = |request: &Exchange| matches!(request.outcome, Outcome::Response(response) if response.status == 200);
    assert!(requests.iter().all(succeeded));
}

#[test]
fn a_fixed_rate_sends_only_what_is_due() {
    let time = Duration::from_millis(500);
    let requests = run(server(usize::MAX), Pace::Rate(100.0), End::After(time));
    assert!((10..=51).contains(&requests.len()), "{}", requests.len());
    assert!(requests.iter().all(|request| request.due <= request.sent));
}

#[test]
fn a_connection_that_closes_with_a_request_in_flight_is_a_failure_and_opens_again() {
    let requests = run(server(3), Pace::Closed, End::Requests(20));
    let closed = |request: &&Exchange| {
        matches!(
            request.outcome,
            Outcome::Failed(Failure::Closed { reused: true })
        )
    };
    assert!((4..=6).contains(&requests.iter().filter(closed).count()));
}

#[test]
fn finish_waits_for_responses_and_sends_nothing_more() {
    let plan = plan(server(usize::MAX), Pace::Closed);
    let interrupted = AtomicBool::new(false);
    let mut load = Load::new(plan, &interrupted).unwrap();
    load.run(End::Requests(10), &mut |_| {}).unwrap();
    let mut more = 0;
    let left = load.finish(Duration::from_secs(5), &mut |_| more += 1);
    assert_eq!(left.unwrap(), 0);
    assert!(more <= 2);
    assert_eq!(load.outstanding().count(), 0);
}

#[test]
fn no_more_than_the_exact_number_of_requests_is_sent() {
    let (target, seen) = counting_server(usize::MAX);
    let requests = run(target, Pace::Closed, End::Exactly(3));
    assert_eq!(requests.len(), 3);
    assert_eq!(seen.requests.load(Ordering::SeqCst), 3);
}

#[test]
fn an_upload_has_its_length() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    let length = 3 * 1024 * 1024;
    let server = std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut received = vec![0; REQUEST.len() + length];
        stream.read_exact(&mut received).unwrap();
        stream.write_all(RESPONSE).unwrap();
        received
    });
    let plan = Plan {
        connections: 1,
        upload: length as u64,
        ..plan(target, Pace::Closed)
    };
    let interrupted = AtomicBool::new(false);
    let mut load = Load::new(plan, &interrupted).unwrap();
    load.run(End::Exactly(1), &mut |_| {}).unwrap();
    let received = server.join().unwrap();
    let (head, body) = received.split_at(REQUEST.len());
    assert_eq!(head, REQUEST);
    assert!(body.iter().all(|byte| *byte == b'x'));
}

#[test]
fn a_connection_that_thinks_waits_before_each_request() {
    let time = Duration::from_millis(30);
    let pace = Pace::Think([time].into());
    let requests = run(server(usize::MAX), pace, End::Requests(4));
    // Two connections think before each of two requests.
    let [first, .., last] = &requests[..] else {
        panic!("{requests:?}");
    };
    assert!(last.due >= first.done + time);
    assert!(requests.iter().all(|request| request.due <= request.sent));
}

#[test]
fn the_client_closes_after_each_response_if_it_is_to() {
    let (target, seen) = counting_server(usize::MAX);
    let plan = Plan {
        connections: 1,
        closing: Closing::ByClient,
        ..plan(target, Pace::Closed)
    };
    let interrupted = AtomicBool::new(false);
    let mut load = Load::new(plan, &interrupted).unwrap();
    let mut succeeded = 0;
    load.run(End::Exactly(5), &mut |request| {
        succeeded += u64::from(matches!(request.outcome, Outcome::Response(_)));
    })
    .unwrap();
    assert_eq!(succeeded, 5);
    assert_eq!(seen.connections.load(Ordering::SeqCst), 5);
}

#[test]
fn a_refused_connection_is_a_failure_to_connect() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let requests = run(address, Pace::Closed, End::Requests(2));
    let refused = |request: &Exchange| matches!(request.outcome, Outcome::Failed(Failure::Connect));
    assert!(requests.iter().all(refused));
}
