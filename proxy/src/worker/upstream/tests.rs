//! The idle connections of one worker to one endpoint, and its attempts that are under way.

use std::net::TcpListener;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::testing::hot_path::run;
use crate::testing::service;

/// So many idle connections, the one that was kept last at the end: the endpoint's sides of them.
type FarSides = Vec<TcpStream>;

/// An upstream on a clock that runs, with these idle connections.
async fn with_idle(count: usize) -> (Rc<Upstream>, FarSides) {
    let json = r#"{"name":"web","endpoints":[{"address":"10.0.0.1:80","version":"1"}]}"#;
    let endpoint = service(json, None).endpoints().next().unwrap().clone();
    let timers = Timers::new();
    let ticking = timers.clone();
    tokio::task::spawn_local(async move { ticking.run().await });
    let upstream = Rc::new(Upstream::new(endpoint, 0, timers));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut far_sides = Vec::new();
    for _ in 0..count {
        let near = TcpStream::connect(listener.local_addr().unwrap()).await;
        let (far, _) = listener.accept().unwrap();
        far.set_nonblocking(true).unwrap();
        upstream.keep(Link::H1(Socket::plain(near.unwrap())));
        far_sides.push(TcpStream::from_std(far).unwrap());
    }
    (upstream, far_sides)
}

/// Which of the connections this one is.
fn place_of(socket: &Socket, far_sides: &FarSides) -> usize {
    let port = socket.as_plain().unwrap().stream().local_addr().unwrap();
    // One that has ended has no peer.
    let mut peers = far_sides.iter().map(|far| far.peer_addr().ok());
    peers.position(|peer| peer == Some(port)).unwrap()
}

/// Waits until this holds.
async fn until(condition: impl Fn() -> bool) {
    for _ in 0..100_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it never comes");
}

/// Lets so much time go by on the worker's clock.
async fn pass(upstream: &Upstream, time: Millis) {
    // A clock that is looked at by no task stands still.
    let timer = upstream.timers.timer();
    let end = upstream.timers.now() + time;
    until(|| upstream.timers.now() >= end).await;
    drop(timer);
}

#[test]
fn the_connection_that_was_used_last_is_used_next() {
    run(async {
        let (upstream, far_sides) = with_idle(3).await;
        let mut taken = Vec::new();
        for _ in 0..2 {
            let socket = upstream.idle_socket(true).unwrap();
            taken.push(place_of(&socket, &far_sides));
        }
        assert_eq!(taken, [2, 1]);
        let last = upstream.idle_socket(false).unwrap();
        assert_eq!(place_of(&last, &far_sides), 0);
        assert!(upstream.idle_socket(true).is_none());
    });
}

#[test]
fn a_connection_that_the_endpoint_has_ended_is_passed_over() {
    for idempotent in [true, false] {
        run(async {
            let (upstream, mut far_sides) = with_idle(2).await;
            far_sides[1].shutdown().await.unwrap();
            until(|| !upstream.idle.borrow()[1].socket.seems_quiet()).await;
            let socket = upstream.idle_socket(idempotent).unwrap();
            assert_eq!(place_of(&socket, &far_sides), 0);
            assert_eq!(upstream.idle.borrow().len(), 0);
        });
    }
}

#[test]
fn a_connection_on_which_the_endpoint_says_something_unasked_is_passed_over() {
    run(async {
        let (upstream, mut far_sides) = with_idle(1).await;
        far_sides[0].write_all(b"HTTP/1.1 408 \r\n").await.unwrap();
        until(|| !upstream.idle.borrow()[0].socket.seems_quiet()).await;
        assert!(upstream.idle_socket(true).is_none());
    });
}

#[test]
fn a_request_that_must_not_be_sent_twice_leaves_rested_connections_to_others() {
    run(async {
        let (upstream, _far_sides) = with_idle(2).await;
        pass(&upstream, FRESH_FOR + 100).await;
        assert!(upstream.idle_socket(false).is_none());
        assert_eq!(upstream.idle.borrow().len(), 2, "both stay");
        assert!(upstream.idle_socket(true).is_some());
    });
}

#[test]
fn a_connection_that_ended_while_it_rested_is_found_out_before_it_is_used() {
    run(async {
        let (upstream, mut far_sides) = with_idle(1).await;
        pass(&upstream, FRESH_FOR + 100).await;
        far_sides[0].shutdown().await.unwrap();
        // The system knows, whether this process was told or not.
        until(|| !upstream.idle.borrow()[0].socket.is_quiet()).await;
        assert!(upstream.idle_socket(true).is_none());
    });
}

#[test]
fn connections_that_are_idle_for_long_are_closed() {
    run(async {
        let (upstream, mut far_sides) = with_idle(1).await;
        pass(&upstream, IDLE_FOR - 1_000).await;
        assert!(!upstream.tidy(), "one is left");
        pass(&upstream, 1_100).await;
        assert!(upstream.tidy(), "none is left");
        assert_eq!(far_sides[0].read(&mut [0; 1]).await.unwrap(), 0);
    });
}

#[test]
fn connections_that_ended_are_closed_before_their_time() {
    run(async {
        let (upstream, mut far_sides) = with_idle(2).await;
        far_sides[0].shutdown().await.unwrap();
        until(|| !upstream.idle.borrow()[0].socket.seems_quiet()).await;
        assert!(!upstream.tidy());
        let left = upstream.idle_socket(true).unwrap();
        assert_eq!(place_of(&left, &far_sides), 1);
    });
}

#[test]
fn there_are_so_many_idle_connections_and_no_more() {
    run(async {
        let (upstream, _far_sides) = with_idle(2).await;
        let socket = || upstream.idle.borrow_mut().remove(0).socket;
        let (one, other) = (socket(), socket());
        let limit = getrlimit(Resource::Nofile);
        let most = Rlimit {
            current: limit.maximum,
            ..limit
        };
        setrlimit(Resource::Nofile, most).unwrap();
        // None of these is used, so they need no peers.
        for _ in 0..MAX_IDLE - 1 {
            let unconnected = socket2::Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            unconnected.set_nonblocking(true).unwrap();
            upstream.keep(Link::H1(Socket::plain(
                TcpStream::from_std(unconnected.into()).unwrap(),
            )));
        }
        upstream.keep(Link::H1(one));
        assert_eq!(upstream.idle.borrow().len(), MAX_IDLE);
        upstream.keep(Link::H1(other));
        assert_eq!(upstream.idle.borrow().len(), MAX_IDLE);
    });
}

#[test]
fn an_endpoint_that_is_retired_keeps_no_connection() {
    run(async {
        let (upstream, mut far_sides) = with_idle(2).await;
        let busy = upstream.idle_socket(true).unwrap();
        upstream.endpoint.claims.retire();
        upstream.close_idle();
        assert_eq!(far_sides[0].read(&mut [0; 1]).await.unwrap(), 0);
        upstream.keep(Link::H1(busy));
        assert_eq!(far_sides[1].read(&mut [0; 1]).await.unwrap(), 0);
        assert!(upstream.tidy(), "none is left");
    });
}

#[test]
fn an_attempt_is_there_until_it_is_dropped_and_is_cut_by_its_kind() {
    run(async {
        let (upstream, _) = with_idle(0).await;
        let timer = upstream.timers.timer();
        assert!(upstream.endpoint.claims.take(0));
        let mut attempt = upstream.clone().begin(&timer);
        assert!(!upstream.tidy(), "an attempt is under way");
        attempt.stream();
        upstream.cut(Kind::Request);
        assert!(!timer.is_cut(), "it is a stream");
        upstream.cut(Kind::Stream);
        assert!(timer.is_cut());
        drop(attempt);
        assert!(!timer.is_cut(), "the task may wait again");
        assert!(upstream.tidy() && upstream.endpoint.claims.in_flight().is_empty());
        assert_eq!(upstream.endpoint.counts().cut_streams, 1);
    });
}
