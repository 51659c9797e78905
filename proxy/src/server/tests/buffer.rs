//! Bodies that wait in the proxy (`buffer`), over either wire.

use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use h2::client::ResponseFuture;
use tokio::io::AsyncWriteExt;

use crate::testing::hot_path::client::{End, Say, response};
use crate::testing::hot_path::clock::Watched;
use crate::testing::hot_path::endpoint::{Script, Speaks, Step};
use crate::testing::hot_path::message::{Reader, field};
use crate::testing::hot_path::waiting::on_all_wires;
use crate::testing::hot_path::{GET, GOOD, GRPC, Http, POST, PUT, Rig, Row, run};

use Step::{Close, Respond, RespondMany, RespondWithTrailers, Stall, Take, TakeHead};

const BUFFERED: &str = r#"{"name":"web","buffer":{"request":"1MiB","response":"1MiB"}}"#;
const LITTLE: &str = r#"{"name":"web","buffer":{"request":"1KiB","response":"64KiB"}}"#;
/// Much longer than anything here takes.
const LONG: Duration = Duration::from_secs(5);

async fn rig(service: &str, speaks: Speaks, script: &[&[Step]]) -> Rig {
    Rig::new("", service, &[("1", speaks)], Script::new(script, &[])).await
}

/// A client that sends its request a part at a time, without saying how long it is, and takes the
/// response when it is told to.
enum Slow {
    One(Reader),
    Two(ResponseFuture, SendStream<Bytes>),
}

impl Slow {
    /// With this window over HTTP/2.
    async fn begin(rig: &Rig, http: Http, fields: &[(&str, &str)], window: u32) -> Self {
        let stream = rig.connect().await;
        if http == Http::One {
            let mut reader = Reader::new(stream);
            let mut head = "POST / HTTP/1.1\r\nhost: a\r\n".to_owned();
            for (name, value) in fields {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            head.push_str("transfer-encoding: chunked\r\n\r\n");
            reader.stream.write_all(head.as_bytes()).await.unwrap();
            return Self::One(reader);
        }
        let mut builder = h2::client::Builder::new();
        let handshake = builder.initial_window_size(window);
        let (mut sender, connection) = handshake
            .handshake::<_, Bytes>(Watched(stream))
            .await
            .unwrap();
        tokio::task::spawn_local(async move { drop(connection.await) });
        let mut head = http::Request::post("http://a/");
        for (name, value) in fields {
            head = head.header(*name, *value);
        }
        let (response, send) = sender.send_request(head.body(()).unwrap(), false).unwrap();
        Self::Two(response, send)
    }

    async fn sends(&mut self, part: &'static str) {
        match self {
            Self::One(reader) => {
                let chunk = format!("{:x}\r\n{part}\r\n", part.len());
                reader.stream.write_all(chunk.as_bytes()).await.unwrap();
            }
            Self::Two(_, send) => send
                .send_data(Bytes::from_static(part.as_bytes()), false)
                .unwrap(),
        }
    }

    async fn ends(&mut self) {
        match self {
            Self::One(reader) => reader.stream.write_all(b"0\r\n\r\n").await.unwrap(),
            Self::Two(_, send) => send.send_data(Bytes::new(), true).unwrap(),
        }
    }

    /// The response: its status, its body and its trailers.
    async fn response(self) -> (u16, Vec<u8>, String) {
        match self {
            Self::One(mut reader) => {
                let response = response(&mut reader, false).await;
                assert!(response.body.is_whole, "{}", response.head);
                (response.status, response.body.data, response.body.trailers)
            }
            Self::Two(response, _) => {
                let response = response.await.unwrap();
                let status = response.status().as_u16();
                let (mut body, mut all) = (response.into_body(), Vec::new());
                while let Some(data) = body.data().await {
                    let data = data.unwrap();
                    all.extend_from_slice(&data);
                    body.flow_control().release_capacity(data.len()).unwrap();
                }
                let trailers = body.trailers().await.unwrap().unwrap_or_default();
                let line = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
                    format!("{name}: {}\r\n", value.to_str().unwrap())
                };
                (status, all, trailers.iter().map(line).collect())
            }
        }
    }
}

fn framing(head: &str) -> (Option<&str>, Option<&str>) {
    (
        field(head, "content-length"),
        field(head, "transfer-encoding"),
    )
}

#[test]
fn a_slow_client_holds_no_endpoint_and_its_body_goes_on_with_a_length() {
    on_all_wires(async |client, speaks| {
        let rig = rig(BUFFERED, speaks, &[&GOOD]).await;
        let mut slow = Slow::begin(&rig, client, &[], 65_535).await;
        slow.sends("so ").await;
        tokio::time::sleep(LONG).await;
        slow.sends("slow").await;
        tokio::time::sleep(LONG).await;
        assert_eq!((rig.script.made(), rig.in_flight()), (0, 0), "{client:?}");
        assert!(rig.worker().pool.buffered.bodies.get() > 0);
        slow.ends().await;
        assert_eq!(slow.response().await.0, 200, "{client:?} {speaks:?}");
        rig.settle().await;
        let seen = &rig.script.seen()[0];
        assert_eq!(seen.body.data, b"so slow", "{client:?} {speaks:?}");
        if speaks == Speaks::Http1 {
            assert_eq!(framing(&seen.head), (Some("7"), None), "{client:?}");
        }
        assert_eq!(rig.worker().pool.buffered.bodies.get(), 0, "{client:?}");
    });
}

#[test]
fn whatever_fits_has_its_length_and_the_connection_goes_on() {
    for client in [Http::One, Http::Two] {
        let row = Row::new("lengths").client(client).service(BUFFERED);
        let row = row.sends(&[POST.streaming(), POST, GET, PUT.streaming()]);
        let (line, outcome) = row
            .script(&[&[Take, Respond(200, "ok"), Take, Respond(200, "ok")]])
            .outcome();
        assert_eq!(line, "200, 200, 200, 200; seen 4; 2xx 4", "{client:?}");
        let lengths: Vec<_> = outcome
            .requests
            .iter()
            .map(|one| framing(&one.head))
            .collect();
        let five = (Some("5"), None);
        assert_eq!(lengths, [five, five, (None, None), five], "{client:?}");
    }
    let empty = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    let next = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let says = [Say::Bytes(empty), Say::Bytes(next)];
    let row = Row::new("an empty one").service(BUFFERED).says(&says);
    let (line, outcome) = row.outcome();
    assert_eq!(line, "200, 200, kept; seen 2; 2xx 2");
    assert_eq!(framing(&outcome.requests[0].head), (Some("0"), None));
}

#[test]
fn what_does_not_fit_goes_on_as_it_comes() {
    const PART: &str = "0123456789abcdef0123456789abcdef";
    on_all_wires(async |client, speaks| {
        let rig = rig(LITTLE, speaks, &[&GOOD]).await;
        let mut slow = Slow::begin(&rig, client, &[], 65_535).await;
        for _ in 0..40 {
            slow.sends(PART).await;
        }
        while rig.script.seen().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        slow.sends(PART).await;
        slow.ends().await;
        assert_eq!(slow.response().await.0, 200, "{client:?} {speaks:?}");
        let seen = &rig.script.seen()[0];
        assert_eq!(seen.body.data, PART.repeat(41).as_bytes(), "{client:?}");
        if speaks == Speaks::Http1 {
            assert_eq!(framing(&seen.head), (None, Some("chunked")), "{client:?}");
        }
    });
    // Its length says so.
    let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2000\r\n\r\n";
    let says = [Say::Bytes(head), Say::Many(2000)];
    let row = Row::new("announced").service(LITTLE).says(&says);
    let (line, outcome) = row.outcome();
    assert_eq!(line, "200, kept; seen 1; 2xx 1");
    assert_eq!(framing(&outcome.requests[0].head), (Some("2000"), None));
}

#[test]
fn trailers_and_calls_of_grpc_are_not_waited_for() {
    let trailed = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\norder\r\n\
        0\r\nx-sum: 1\r\n\r\n";
    let row = Row::new("trailers").service(BUFFERED);
    let (line, outcome) = row.says(&[Say::Bytes(trailed)]).outcome();
    assert_eq!(line, "200, kept; seen 1; 2xx 1");
    assert_eq!(outcome.requests[0].body.trailers, "x-sum: 1\r\n");
    on_all_wires(async |client, speaks| {
        let early: &[Step] = &[TakeHead, Respond(200, "ok"), Stall];
        let rig = rig(BUFFERED, speaks, &[early]).await;
        let mut call = Slow::begin(&rig, client, GRPC.fields, 65_535).await;
        call.sends("order").await;
        // It sends nothing more before it has a response.
        assert_eq!(call.response().await.0, 200, "{client:?} {speaks:?}");
    });
}

#[test]
fn a_client_that_waits_for_a_100_gets_it_from_the_proxy() {
    let head = "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    let says = [Say::Bytes(head), Say::Read, Say::Bytes("order")];
    let script: &[Step] = &[
        Take,
        Step::Say("HTTP/1.1 100 Continue\r\n\r\n"),
        Respond(200, "ok"),
    ];
    let row = Row::new("expects").service(BUFFERED).says(&says);
    let (line, outcome) = row.script(&[script]).outcome();
    assert_eq!(line, "100, 200, kept; seen 1; 2xx 1");
    assert_eq!(field(&outcome.requests[0].head, "expect"), None);
    assert_eq!(outcome.requests[0].body.data, b"order");
}

#[test]
fn a_body_that_ends_too_early_or_is_broken_takes_no_endpoint() {
    const HEAD: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nor";
    const CHUNKS: &str = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    for (says, want) in [
        (
            vec![Say::Bytes(HEAD)],
            "408 error=http_request_error, closed; seen 0; nothing counted",
        ),
        (
            vec![
                Say::Bytes(CHUNKS),
                Say::Wait(Duration::from_millis(50)),
                Say::Bytes("x\r\n"),
            ],
            "400 error=http_request_error, closed; seen 0; nothing counted",
        ),
        (
            vec![
                Say::Bytes(HEAD),
                Say::Wait(Duration::from_millis(50)),
                Say::End,
            ],
            "closed; seen 0; nothing counted",
        ),
        (
            vec![
                Say::Bytes(HEAD),
                Say::Wait(Duration::from_millis(50)),
                Say::Reset,
            ],
            "left; seen 0; nothing counted",
        ),
    ] {
        let row = Row::new("too early").service(BUFFERED).says(&says);
        row.config("[timeouts]\nbody_idle = \"2s\"").check(want);
    }
    let long = Row::new("longer than allowed").service(BUFFERED);
    let long = long.config("[limits]\nbody = \"4B\"");
    for client in [Http::One, Http::Two] {
        let row = long.clone().client(client).sends(&[POST.streaming()]);
        row.check("413 error=http_request_error; seen 0; nothing counted");
    }
}

#[test]
fn what_was_read_is_sent_again_whole() {
    let head = "PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nord\r\n";
    let says = [
        Say::Bytes(head),
        Say::Wait(Duration::from_millis(100)),
        Say::Bytes("2\r\ner\r\n0\r\n\r\n"),
    ];
    let row = Row::new("again").service(BUFFERED).says(&says);
    let row = row.endpoints(2, Speaks::Http1);
    let (line, outcome) = row.script(&[&[Take, Close], &GOOD]).outcome();
    assert_eq!(line, "200, kept; seen 1+1; 2xx 1, reset 1");
    for request in &outcome.requests {
        assert_eq!(request.body.data, b"order");
        assert_eq!(framing(&request.head), (Some("5"), None));
    }
    assert_eq!(outcome.end, Some(End::Kept));
}

/// Waits until no request is in flight at the endpoint. Gives whether that comes.
async fn is_free(rig: &Rig) -> bool {
    for _ in 0..100 {
        if rig.in_flight() == 0 && !rig.script.seen().is_empty() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    false
}

#[test]
fn an_endpoint_is_free_once_its_response_is_here() {
    const MUCH: &str = r#"{"name":"web","buffer":{"response":"8MiB"}}"#;
    const CHUNKS: &str =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n";
    const UNTIL_CLOSE: &str = "HTTP/1.1 200 OK\r\n\r\nabcdef";
    let many: &[Step] = &[Take, RespondMany(8_000_000), Take, Respond(200, "ok")];
    let much: &[Step] = &[Take, RespondMany(100_000), Take, Respond(200, "ok")];
    let chunks: &[Step] = &[Take, Step::Say(CHUNKS), Take, Respond(200, "ok")];
    let closes: &[Step] = &[Take, Step::Say(UNTIL_CLOSE), Close];
    let small: &[Step] = &[Take, Respond(200, "abcdef"), Take, Respond(200, "ok")];
    for (client, speaks, script, length, connections) in [
        (Http::One, Speaks::Http1, many, 8_000_000, 1),
        (Http::Two, Speaks::Http1, much, 100_000, 1),
        (Http::Two, Speaks::Http1, chunks, 6, 1),
        (Http::Two, Speaks::Http1, closes, 6, 2),
        (Http::Two, Speaks::Http1, small, 6, 1),
        (Http::Two, Speaks::Http2, small, 6, 1),
    ] {
        run(async {
            let name = format!("{client:?} {speaks:?} {script:?}");
            let rig = rig(MUCH, speaks, &[script, &GOOD]).await;
            // A client of HTTP/2 takes a part at a time.
            let window = if length > 6 { 4096 } else { 2 };
            let mut slow = Slow::begin(&rig, client, &[], window).await;
            slow.ends().await;
            assert!(is_free(&rig).await, "{name}");
            let buffered = rig.worker().pool.buffered.bodies.get();
            assert!(length <= 6 || buffered > 0, "{name}");
            let mut next = rig.client(Http::One).await;
            assert_eq!(next.send(&GET).await.0.status, 200, "{name}");
            assert_eq!(rig.script.made(), connections, "{name}");
            let (status, body, _) = slow.response().await;
            assert_eq!((status, body.len()), (200, length), "{name}");
            let outcome = rig.outcome(Vec::new(), 1);
            assert_eq!(outcome.line(), "; seen 2; 2xx 2", "{name}");
            while rig.worker().pool.buffered.bodies.get() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    }
}

#[test]
fn a_response_is_read_ahead_up_to_its_limit() {
    on_all_wires(async |client, speaks| {
        let trailers = ("grpc-status", "0");
        let (script, want, window): (&[Step], _, _) = match (client, speaks) {
            (_, Speaks::Http2) => (&[Take, RespondWithTrailers(200, "reply", trailers)], 5, 2),
            (Http::One, _) => (&[Take, RespondMany(8_000_000)], 8_000_000, 0),
            (Http::Two, _) => (&[Take, RespondMany(300_000)], 300_000, 16_384),
        };
        let rig = rig(LITTLE, speaks, &[script]).await;
        let mut slow = Slow::begin(&rig, client, &[], window).await;
        slow.ends().await;
        tokio::time::sleep(LONG).await;
        // Trailers stay where they are: with the stream.
        if speaks == Speaks::Http1 || client == Http::Two {
            assert_eq!(rig.in_flight(), 1, "{client:?} {speaks:?}");
        }
        let buffered = rig.worker().pool.buffered.bodies.get();
        assert!(buffered <= 128 * 1024, "{client:?} {speaks:?}: {buffered}");
        let (status, body, trailers) = slow.response().await;
        assert_eq!((status, body.len()), (200, want), "{client:?} {speaks:?}");
        if speaks == Speaks::Http2 {
            assert_eq!(trailers, "grpc-status: 0\r\n", "{client:?}");
        }
        rig.settle().await;
        assert_eq!(rig.worker().pool.buffered.bodies.get(), 0);
    });
}

#[test]
fn a_response_that_breaks_off_while_it_is_read_ahead_is_cut_and_counted() {
    let breaks: &[Step] = &[Take, Step::BeginBody(100, "half of it"), Close];
    run(async {
        let rig = rig(BUFFERED, Speaks::Http1, &[breaks]).await;
        let mut slow = Slow::begin(&rig, Http::Two, &[], 2).await;
        slow.ends().await;
        tokio::time::sleep(LONG).await;
        let Slow::Two(response, _) = slow else { return };
        let mut body = response.await.unwrap().into_body();
        let broke_off = loop {
            match body.data().await {
                Some(Ok(data)) => body.flow_control().release_capacity(data.len()).unwrap(),
                Some(Err(_)) => break true,
                None => break false,
            }
        };
        assert!(broke_off);
        rig.settle().await;
        assert_eq!(rig.outcome(Vec::new(), 1).line(), "; seen 1; body 1");
    });
}
