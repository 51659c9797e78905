//! Clients that leave before they have their response: the work at the endpoint ends with them.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::client::ResponseFuture;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::testing::hot_path::client::Say;
use crate::testing::hot_path::clock::Watched;
use crate::testing::hot_path::endpoint::{ProxyEnd, Script, Speaks, Step};
use crate::testing::hot_path::{Http, LISTENER, Rig, Row, run};

use Speaks::{Http1, Http2, Silence};
use Step::{BeginBody, Respond, Stall, Take, TakeBody, TakeHead, Wait};

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const SERVES: &str = "half_close = \"serve\"";
/// No timeout ends what these tests are about.
const PATIENT: &str = "[timeouts]\nfirst_byte = \"48h\"\nbody_idle = \"48h\"\nconnect = \"48h\"\n";
/// One endpoint stands for all that cannot be connected to.
const ALONE: &str = r#"{"name":"web","retry":{"attempts":1}}"#;
/// The code by which a stream is given up (RFC 9113, 7).
const CANCEL: u32 = 8;
const MEGABYTE: usize = 1 << 20;

/// How a client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It ends its half. Over HTTP/2: it resets the stream.
    End,
    /// It resets the connection. Over HTTP/2: it ends it.
    Reset,
}

const WAYS: [Way; 2] = [Way::End, Way::Reset];

/// A client that waits.
enum Caller {
    One(TcpStream),
    Two(h2::SendStream<Bytes>, ResponseFuture, JoinHandle<()>),
}

impl Caller {
    /// Sends a GET.
    async fn new(rig: &Rig, http: Http) -> Self {
        let mut stream = rig.connect().await;
        if http == Http::One {
            stream.write_all(GET.as_bytes()).await.unwrap();
            return Self::One(stream);
        }
        let (mut sender, connection) = h2::client::handshake(Watched(stream)).await.unwrap();
        let task = tokio::task::spawn_local(async move { drop(connection.await) });
        let head = http::Request::get("http://a/").body(()).unwrap();
        let (response, send) = sender.send_request(head, true).unwrap();
        Self::Two(send, response, task)
    }

    /// Leaves. What is given is not to be dropped before the proxy has seen it.
    async fn leave(self, way: Way) -> Option<Self> {
        match (self, way) {
            (Self::One(mut stream), Way::End) => {
                stream.shutdown().await.unwrap();
                return Some(Self::One(stream));
            }
            (Self::One(stream), Way::Reset) => {
                SockRef::from(&stream)
                    .set_linger(Some(Duration::ZERO))
                    .unwrap();
            }
            (Self::Two(mut send, response, task), Way::End) => {
                send.send_reset(Reason::CANCEL);
                return Some(Self::Two(send, response, task));
            }
            (Self::Two(_, _, task), Way::Reset) => task.abort(),
        }
        None
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let limit = tokio::time::Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(tokio::time::Instant::now() < limit, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A client leaves a second after its request has come to where it waits. Gives what is counted,
/// and how the endpoint saw it end.
async fn left(http: Http, speaks: Speaks, way: Way, script: &[Step]) -> (String, Vec<ProxyEnd>) {
    let script = Script::new(&[script], &[]);
    let config = format!("{PATIENT}{LISTENER}");
    let rig = Rig::with(&config, ALONE, &[("1", speaks)], script.clone()).await;
    let caller = Caller::new(&rig, http).await;
    until("the request is under way", || rig.in_flight() == 1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let left = tokio::time::Instant::now();
    let _kept = caller.leave(way).await;
    until("it ends", || rig.in_flight() == 0).await;
    assert!(left.elapsed() < Duration::from_secs(1), "{http:?} {way:?}");
    if speaks != Silence {
        until("the endpoint sees it", || !script.ends().is_empty()).await;
    }
    (rig.outcome(Vec::new(), 1).line(), script.ends())
}

#[track_caller]
fn check(http: Http, speaks: Speaks, way: Way, script: &[Step]) {
    let name = format!("{http:?} to {speaks:?}, {way:?}, {script:?}");
    let (line, ends) = run(left(http, speaks, way, script));
    let (seen, end) = match speaks {
        Silence => (0, vec![]),
        Http2 => (1, vec![ProxyEnd::Stream(CANCEL)]),
        _ => (1, vec![ProxyEnd::Connection]),
    };
    assert_eq!(line, format!("; seen {seen}; client gone 1"), "{name}");
    assert_eq!(ends, end, "{name}");
}

#[test]
fn a_client_that_leaves_ends_its_request_at_the_endpoint() {
    for http in [Http::One, Http::Two] {
        for speaks in [Http1, Http2] {
            for way in WAYS {
                check(http, speaks, way, &[Take, Stall]);
            }
        }
    }
}

#[test]
fn a_client_that_leaves_ends_a_stream_that_is_silent() {
    let events = Step::Say(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
         5\r\nhello\r\n",
    );
    for http in [Http::One, Http::Two] {
        for way in WAYS {
            check(http, Http1, way, &[Take, events.clone(), Stall]);
            check(
                http,
                Http1,
                way,
                &[Take, BeginBody(MEGABYTE, "half"), Stall],
            );
            check(http, Http2, way, &[Take, BeginBody(100, "half"), Stall]);
        }
    }
}

#[test]
fn a_client_that_leaves_ends_a_connection_that_is_being_made_for_it() {
    for http in [Http::One, Http::Two] {
        for way in WAYS {
            check(http, Silence, way, &[]);
        }
    }
}

#[test]
fn a_client_that_leaves_ends_an_upload_that_its_endpoint_does_not_read() {
    run(async {
        let day = Duration::from_secs(24 * 60 * 60);
        let script = Script::new(&[&[TakeHead, Wait(day)]], &[]);
        let config = format!("{PATIENT}{LISTENER}");
        let rig = Rig::with(&config, ALONE, &[("1", Http1)], script).await;
        let mut stream = rig.connect().await;
        let head = "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 1073741824\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let second = Duration::from_secs(1);
        while let Ok(sent) = tokio::time::timeout(second, stream.write(&[0; 65_536])).await {
            sent.unwrap();
        }
        assert_eq!(rig.in_flight(), 1);
        let _left = Caller::One(stream).leave(Way::Reset).await;
        until("it ends", || rig.in_flight() == 0).await;
        let line = rig.outcome(Vec::new(), 1).line();
        assert_eq!(line, "; seen 1; client gone 1");
    });
}

#[test]
fn a_client_that_leaves_before_its_connection_is_another_protocols_is_no_exception() {
    let sends = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    Row::new("it waits for a 101")
        .says(&[
            Say::Bytes(sends),
            Say::Wait(Duration::from_secs(1)),
            Say::End,
        ])
        .script(&[&[Take, Stall]])
        .check("closed; seen 1; client gone 1");
}

#[test]
fn a_copy_goes_on_without_the_client() {
    let service = r#"{"name":"web","split":{"1":1,"2":0},"mirror":{"version":"2","percent":100}}"#;
    let slow: &[Step] = &[Take, Wait(Duration::from_secs(30)), Respond(200, "ok")];
    for end in [Say::End, Say::Reset] {
        let (_, outcome) = Row::new("the original is given up")
            .service(service)
            .versions(&[("1", Http1), ("2", Http1)])
            .script(&[&[Take, Stall]])
            .script_of(1, &[slow])
            .says(&[Say::Bytes(GET), Say::Wait(Duration::from_secs(1)), end])
            .outcome();
        let copies = outcome.mirror.as_ref().unwrap().copies.responses.success;
        assert_eq!((copies, outcome.failures()), (1, 0), "{outcome:?}");
    }
}

#[test]
fn a_request_that_is_sent_ahead_is_no_sign_of_leaving() {
    // The reactor tells of it once. The endpoint reads none of the body for a while, and the kernel
    // moves it.
    let slow = Wait(Duration::from_secs(5));
    let put = "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 33554432\r\n\r\n";
    for listener in ["", SERVES] {
        let (line, outcome) = Row::new("two more")
            .listener(listener)
            .says(&[
                Say::Bytes(GET),
                Say::Wait(Duration::from_secs(1)),
                Say::Bytes(put),
                Say::Wait(Duration::from_secs(1)),
                Say::Many(32 * MEGABYTE),
                Say::Bytes(GET),
            ])
            .script(&[&[
                Take,
                slow.clone(),
                Respond(201, "one"),
                TakeHead,
                slow.clone(),
                TakeBody,
                slow.clone(),
                Respond(202, "two"),
                Take,
                Respond(203, "three"),
            ]])
            .outcome();
        assert_eq!(line, "201, 202, 203, kept; seen 3; 2xx 3");
        assert_eq!(outcome.requests[1].body.data.len(), 32 * MEGABYTE);
    }
}

#[test]
fn a_client_that_leaves_is_known_by_its_end_whatever_it_has_sent_ahead() {
    let wait = Say::Wait(Duration::from_secs(1));
    // What it has sent is unread, and so the proxy's end is a reset, too.
    for (way, end) in [(Say::End, "reset"), (Say::Reset, "left")] {
        Row::new("a second request")
            .says(&[
                Say::Bytes(GET),
                wait.clone(),
                Say::Bytes(GET),
                wait.clone(),
                way,
            ])
            .script(&[&[Take, Stall]])
            .check(&format!("{end}; seen 1; client gone 1"));
    }
}

#[test]
fn a_client_that_ends_its_half_on_purpose_is_served_where_its_listener_says_so() {
    let slow = Wait(Duration::from_secs(5));
    let script: &[Step] = &[
        Take,
        slow.clone(),
        BeginBody(8, "half"),
        slow,
        Step::Say("half"),
        Take,
        Respond(201, ""),
    ];
    Row::new("it has sent two requests")
        .listener(SERVES)
        .says(&[Say::Bytes(GET), Say::Bytes(GET), Say::End])
        .script(&[script])
        .check("200, 201, closed; seen 2; 2xx 2");
    Row::new("a reset is one all the same")
        .listener(SERVES)
        .says(&[
            Say::Bytes(GET),
            Say::Wait(Duration::from_secs(1)),
            Say::Reset,
        ])
        .script(&[&[Take, Stall]])
        .check("left; seen 1; client gone 1");
}
