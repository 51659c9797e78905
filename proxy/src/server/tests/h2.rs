//! A connection of HTTP/2: its streams, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::client::{Connection, ResponseFuture, SendRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::testing::hot_path::client::Request;
use crate::testing::hot_path::clock::Watched;
use crate::testing::hot_path::endpoint::{Script, Speaks, Step};
use crate::testing::hot_path::message::field;
use crate::testing::hot_path::{GET, GOOD, Http, Outcome, POST, Rig, Row, SERVICE, run};
use crate::worker::order::ShutdownPhase;

use Step::{BeginBody, Close, Respond, Stall, Take};

const OK: Step = Respond(200, "ok");
const MEGABYTE: usize = 1 << 20;
/// More than any test waits for a request to arrive.
const LONG: Duration = Duration::from_secs(60);

/// A client that is told what to do, stream by stream.
struct Client {
    sender: SendRequest<Bytes>,
    connection: Connection<Watched, Bytes>,
}

impl Client {
    async fn new(rig: &Rig) -> Self {
        let (sender, connection) = h2::client::handshake(Watched(rig.connect().await))
            .await
            .unwrap();
        Self { sender, connection }
    }

    /// Begins a stream, with this field, that goes on if it has a body.
    fn begin(
        &mut self,
        field: (&str, &str),
        has_body: bool,
    ) -> (ResponseFuture, h2::SendStream<Bytes>) {
        let head = http::Request::builder()
            .method(if has_body { "POST" } else { "GET" })
            .uri("http://a/")
            .header(field.0, field.1);
        self.sender
            .send_request(head.body(()).unwrap(), !has_body)
            .unwrap()
    }

    /// Moves the connection's bytes until something is there.
    async fn until<T>(&mut self, future: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            output = future => output,
            ended = &mut self.connection => panic!("the connection has ended: {ended:?}"),
        }
    }
}

/// A rig whose one endpoint does this.
async fn rig(config: &str, script: &[&[Step]]) -> Rig {
    Rig::new(
        config,
        SERVICE,
        &[("1", Speaks::Http1)],
        Script::new(script, &[]),
    )
    .await
}

async fn outcome(rig: &Rig) -> Outcome {
    rig.settle().await;
    rig.outcome(Vec::new(), 1)
}

/// Waits until so many requests have come to the endpoints.
async fn seen(rig: &Rig, count: usize) {
    let limit = tokio::time::Instant::now() + LONG;
    while rig.script.seen().len() < count && tokio::time::Instant::now() < limit {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn reason(error: &h2::Error) -> Option<Reason> {
    error.reason()
}

#[test]
fn streams_of_one_connection_do_not_wait_for_each_other() {
    run(async {
        let slow: &[Step] = &[Take, Step::Wait(Duration::from_secs(5)), Respond(201, "")];
        let rig = rig("", &[slow, &[Take, Respond(202, "")]]).await;
        let mut client = Client::new(&rig).await;
        let (first, _) = client.begin(("x", "1"), false);
        client.until(seen(&rig, 1)).await;
        let (second, _) = client.begin(("x", "2"), false);
        let started = tokio::time::Instant::now();
        assert_eq!(client.until(second).await.unwrap().status(), 202);
        assert!(started.elapsed() < Duration::from_secs(3));
        assert_eq!(client.until(first).await.unwrap().status(), 201);
        let outcome = outcome(&rig).await;
        assert_eq!(outcome.line(), "; seen 2; 2xx 2");
    });
}

#[test]
fn cookies_are_one_field_however_many_fields_a_browser_sends_them_in() {
    const CRUMBS: Request = GET.fields(&[("cookie", "a=1"); 150]);
    for speaks in [Speaks::Http1, Speaks::Http2] {
        let row = Row::new("150 cookies").client(Http::Two);
        let row = row.endpoints(1, speaks).sends(&[CRUMBS]);
        let (line, outcome) = row.outcome();
        assert_eq!(line, "200; seen 1; 2xx 1", "{speaks:?}");
        if speaks == Speaks::Http1 {
            let head = &outcome.requests[0].head;
            let cookies = field(head, "cookie").unwrap();
            assert_eq!(cookies.split("; ").count(), 150, "{head}");
        }
    }
    const MANY: Request = GET.fields(&[("x-own", "1"); 101]);
    let row = Row::new("101 fields").client(Http::Two).sends(&[MANY]);
    row.check("431 error=http_request_error; seen 0; nothing counted");
}

#[test]
fn requests_share_a_connection_to_an_endpoint_of_http2() {
    Row::new("three")
        .client(Http::Two)
        .endpoints(1, Speaks::Http2)
        .sends(&[GET, POST, GET])
        .script(&[&[Take, OK, Take, OK, Take, OK]])
        .check("200, 200, 200; seen 3; 2xx 3");
}

#[test]
fn a_stream_that_its_client_resets_is_no_failure_and_the_others_go_on() {
    run(async {
        let rig = rig(
            "",
            &[
                &[Take, Stall],
                &[Take, Step::Wait(Duration::from_secs(5)), OK],
            ],
        )
        .await;
        let mut client = Client::new(&rig).await;
        let (first, mut send) = client.begin(("x", "1"), false);
        client.until(seen(&rig, 1)).await;
        let (second, _) = client.begin(("x", "2"), false);
        client.until(seen(&rig, 2)).await;
        send.send_reset(Reason::CANCEL);
        drop(first);
        assert_eq!(client.until(second).await.unwrap().status(), 200);
        let outcome = outcome(&rig).await;
        assert_eq!(outcome.line(), "; seen 2; 2xx 1, client gone 1");
    });
}

#[test]
fn a_connection_that_begins_with_a_slow_request_is_not_told_to_go() {
    run(async {
        let slow: &[Step] = &[Take, Step::Wait(Duration::from_secs(30)), OK, Take, OK];
        let rig = rig("[timeouts]\nheader = \"1s\"", &[slow]).await;
        let mut client = Client::new(&rig).await;
        for number in ["1", "2"] {
            let (response, _) = client.begin(("x", number), false);
            assert_eq!(client.until(response).await.unwrap().status(), 200);
        }
        let ready = std::future::poll_fn(|cx| client.sender.poll_ready(cx));
        assert!(ready.await.is_ok(), "it was not told to go away");
    });
}

#[test]
fn a_connection_that_ends_takes_its_streams_with_it() {
    run(async {
        let rig = rig("", &[&[Take, Stall]]).await;
        let mut client = Client::new(&rig).await;
        let streams = [
            client.begin(("x", "1"), false),
            client.begin(("x", "2"), false),
        ];
        client.until(seen(&rig, 2)).await;
        drop((streams, client));
        let outcome = outcome(&rig).await;
        assert_eq!(outcome.line(), "; seen 2; client gone 2");
    });
}

#[test]
fn a_response_that_breaks_off_resets_its_stream_alone() {
    run(async {
        let rig = rig(
            "",
            &[
                &[
                    Take,
                    BeginBody(100, "half"),
                    Step::Wait(Duration::from_secs(1)),
                    Close,
                ],
                &GOOD,
            ],
        )
        .await;
        let mut client = Client::new(&rig).await;
        let (first, _) = client.begin(("x", "1"), false);
        let mut body = client.until(first).await.unwrap().into_body();
        assert_eq!(
            &client.until(body.data()).await.unwrap().unwrap()[..],
            b"half"
        );
        let error = client.until(body.data()).await.unwrap().unwrap_err();
        assert_eq!(reason(&error), Some(Reason::INTERNAL_ERROR));
        let (second, _) = client.begin(("x", "2"), false);
        assert_eq!(client.until(second).await.unwrap().status(), 200);
        let outcome = outcome(&rig).await;
        assert_eq!(outcome.line(), "; seen 2; 2xx 1, body 1");
    });
}

#[test]
fn a_request_whose_length_is_wrong_is_refused_and_no_failure() {
    run(async {
        let rig = rig("", &[&[Take, OK]]).await;
        let mut client = Client::new(&rig).await;
        let (response, mut send) = client.begin(("content-length", "10"), true);
        send.send_data(Bytes::from_static(b"short"), true).unwrap();
        assert_eq!(client.until(response).await.unwrap().status(), 400);
        let outcome = outcome(&rig).await;
        assert_eq!(
            (outcome.failures(), outcome.in_flight),
            (0, 0),
            "{outcome:?}"
        );
    });
}

#[test]
fn a_body_that_is_too_long_is_refused() {
    let limits = "[limits]\nbody = \"4B\"";
    Row::new("as announced")
        .client(Http::Two)
        .config(limits)
        .sends(&[POST])
        .check("413 error=http_request_error; seen 0; nothing counted");
    Row::new("as it turns out")
        .client(Http::Two)
        .config(limits)
        .sends(&[POST.streaming()])
        .script(&[&[Take]])
        .check("413 error=http_request_error; seen 0; client gone 1");
}

/// What a client gets that sends a body of so many bytes, and only then reads: the status, the length of
/// the body, and how its stream ends.
fn early_response(
    config: &str,
    speaks: Speaks,
    script: &[&[Step]],
    upload: usize,
) -> ((u16, usize, Option<Reason>), Outcome) {
    run(async {
        let script = Script::new(script, &[]);
        let rig = Rig::new(config, SERVICE, &[("1", speaks)], script).await;
        let mut client = Client::new(&rig).await;
        let (response, mut send) = client.begin(("x", "1"), true);
        let mut left = upload;
        let sent = async {
            while left > 0 {
                send.reserve_capacity(left);
                let room = std::future::poll_fn(|cx| send.poll_capacity(cx)).await;
                let Some(Ok(room)) = room else { break };
                send.send_data(Bytes::from(vec![b'x'; room]), false)?;
                left -= room;
            }
            Ok::<_, h2::Error>(left)
        };
        let sent = tokio::time::timeout(LONG, client.until(sent)).await;
        let left = sent.expect("the proxy takes all of it").unwrap();
        assert_eq!(left, 0, "the stream was reset while its client was sending");
        let response = client.until(response).await.unwrap();
        let status = response.status().as_u16();
        let (mut body, mut length) = (response.into_body(), 0);
        while let Some(data) = client.until(body.data()).await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            length += data.len();
        }
        let reset = std::future::poll_fn(|cx| send.poll_reset(cx));
        let reset = client.until(reset).await.ok();
        ((status, length, reset), outcome(&rig).await)
    })
}

#[test]
fn a_client_that_sends_first_and_reads_later_gets_its_early_response() {
    let early: &[Step] = &[Step::TakeHead, Respond(413, "no"), Stall];
    let resets: &[Step] = &[
        Step::TakeHead,
        Respond(413, "no"),
        Step::ResetStream(0),
        Stall,
    ];
    let empty: &[Step] = &[
        Step::TakeHead,
        Respond(413, ""),
        Step::ResetStream(0),
        Stall,
    ];
    let waits: &[Step] = &[Step::TakeHead, Stall];
    let limit = "[limits]\nbody = \"1KiB\"";
    for (config, speaks, script, want) in [
        ("", Speaks::Http1, early, "; seen 1; 4xx 1"),
        ("", Speaks::Http2, early, "; seen 1; 4xx 1"),
        // A complete response, and then a reset that is no error (RFC 9113, 8.1).
        ("", Speaks::Http2, resets, "; seen 1; 4xx 1"),
        ("", Speaks::Http2, empty, "; seen 1; 4xx 1"),
        // What the endpoint saw of it depends on what came along with the head.
        (limit, Speaks::Http1, waits, ""),
    ] {
        let ((status, _, reset), outcome) = early_response(config, speaks, &[script], 4 * MEGABYTE);
        let name = format!("{config} {speaks:?} {script:?}");
        assert_eq!((status, reset), (413, Some(Reason::NO_ERROR)), "{name}");
        assert!(
            want.is_empty() || outcome.line() == want,
            "{name}: {outcome:?}"
        );
    }
}

#[test]
fn a_client_that_begins_with_hardly_any_window_may_have_few_streams() {
    for (window, want) in [(65_535, 100), (16 * 1024, 100), (16 * 1024 - 1, 2), (0, 2)] {
        run(async {
            let rig = rig("", &[&GOOD]).await;
            let mut builder = h2::client::Builder::new();
            builder.initial_window_size(window);
            let stream = Watched(rig.connect().await);
            let (sender, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
            let mut client = Client { sender, connection };
            let (response, _) = client.begin(("x", "1"), false);
            assert_eq!(client.until(response).await.unwrap().status(), 200);
            let streams = client.connection.max_concurrent_send_streams();
            assert_eq!(streams, want, "with a window of {window} bytes");
        });
    }
}

#[test]
fn such_a_client_gets_an_early_response_that_is_larger_than_its_window_too() {
    // Of what is sent, more than the system's buffers hold on the way to an endpoint.
    for (speaks, length, upload) in [
        (Speaks::Http1, 100_000, 32 * MEGABYTE),
        (Speaks::Http1, 8 * MEGABYTE, 32 * MEGABYTE),
        (Speaks::Http2, 100_000, 4 * MEGABYTE),
    ] {
        let early: &[Step] = &[Step::TakeHead, Step::RefuseWithMany(length), Stall];
        let (got, outcome) = early_response("", speaks, &[early], upload);
        let name = format!("{speaks:?} {length}");
        assert_eq!(got, (413, length, Some(Reason::NO_ERROR)), "{name}");
        assert_eq!(outcome.line(), "; seen 1; 4xx 1", "{name}");
    }
}

/// As curl does: it ends its request as soon as it sees the head of an error, with less than the length
/// that it has said, for which the crate resets the stream.
#[test]
fn a_client_that_stops_sending_when_it_sees_an_error_gets_all_of_that() {
    let apart: &[Step] = &[
        Step::TakeHead,
        Step::Say("HTTP/1.1 501 No\r\ncontent-length: 12\r\nconnection: close\r\n\r\n"),
        Step::Wait(Duration::from_millis(5)),
        Step::Say("not so"),
        Step::Wait(Duration::from_millis(5)),
        Step::Say(" early"),
        Close,
    ];
    run(async {
        let rig = rig("", &[apart]).await;
        let mut client = Client::new(&rig).await;
        let (response, mut send) = client.begin(("content-length", "100000"), true);
        send.send_data(Bytes::from_static(b"begun"), false).unwrap();
        let response = client.until(response).await.unwrap();
        assert_eq!(response.status(), 501);
        send.send_data(Bytes::new(), true).unwrap();
        let (mut body, mut all) = (response.into_body(), Vec::new());
        while let Some(data) = client.until(body.data()).await {
            all.extend_from_slice(&data.unwrap());
        }
        assert_eq!(all, b"not so early");
    });
}

/// The interim response that a client gets which waits for one before it sends its body, and the
/// status of the response.
fn expecting(script: &[&[Step]]) -> (Option<u16>, u16) {
    run(async {
        let rig = rig("", script).await;
        let mut client = Client::new(&rig).await;
        let (mut response, mut send) = client.begin(("expect", "100-continue"), true);
        let interim = std::future::poll_fn(|cx| response.poll_informational(cx));
        let interim = client.until(interim).await;
        let interim = interim.map(|interim| interim.unwrap().status().as_u16());
        if interim.is_some() {
            send.send_data(Bytes::from_static(b"order"), true).unwrap();
        }
        let response = client.until(response).await.unwrap();
        if interim.is_some() {
            assert_eq!(rig.script.seen()[0].body.data, b"order");
        }
        (interim, response.status().as_u16())
    })
}

#[test]
fn the_endpoint_decides_whether_a_client_that_waits_sends_its_body() {
    let go_on = Step::Say("HTTP/1.1 100 Continue\r\n\r\n");
    let wants: &[Step] = &[Step::TakeHead, go_on, Step::TakeBody, OK];
    assert_eq!(expecting(&[wants]), (Some(100), 200));
    let refuses: &[Step] = &[Step::TakeHead, Respond(401, "who?"), Stall];
    assert_eq!(expecting(&[refuses]), (None, 401));
    assert_eq!(expecting(&[&GOOD]), (Some(100), 200), "it says nothing");
}

/// What comes of a request with this target, in the frames of its stream: kinds, each with the last
/// byte of its payload.
fn frames_of_refused(target: &str) -> Vec<(u8, u8)> {
    let literal = |name: u8, value: &str| {
        let length = u8::try_from(value.len()).unwrap();
        [&[name, length], value.as_bytes()].concat()
    };
    // GET, http, and literals for `:path` and `:authority`.
    let block = [vec![0x82, 0x86], literal(0x04, target), literal(0x01, "a")].concat();
    let length = u8::try_from(block.len()).unwrap();
    let says = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        &[0, 0, length, 1, 5, 0, 0, 0, 1][..],
        &block,
    ];
    run(async {
        let rig = rig("", &[&GOOD]).await;
        let mut stream = Watched(rig.connect().await);
        stream.write_all(&says.concat()).await.unwrap();
        let mut frames = Vec::new();
        // To the reset, or the end of DATA.
        while !matches!(frames.last(), Some((0 | 3, _))) {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            stream.read_exact(&mut payload).await.unwrap();
            if head[8] == 1 {
                frames.push((head[3], payload.last().copied().unwrap_or_default()));
            }
        }
        frames
    })
}

#[test]
fn a_target_that_is_none_gets_a_response() {
    for target in ["/?q=\"x\"", "/<", "/>", "/?<", "/?>", "/a b", "/\x7f"] {
        // HEADERS with nothing but `:status: 400`, and RST_STREAM.
        assert_eq!(frames_of_refused(target), [(1, 0x8c), (3, 1)], "{target}");
    }
    let passes = frames_of_refused("/\"a\"{}");
    assert_eq!(
        passes.last(),
        Some(&(0, b'k')),
        "a path may have them: {passes:?}"
    );
}

/// How a connection ends on which one request was served, and in what time after that.
async fn end_of(rig: &Rig, phase: Option<ShutdownPhase>) -> (Option<Reason>, Duration) {
    let mut client = Client::new(rig).await;
    let (response, _) = client.begin(("x", "1"), false);
    let served = async {
        let response = response.await.unwrap();
        drop(response);
        phase.into_iter().for_each(|phase| rig.enter(phase));
        tokio::time::Instant::now()
    };
    let (served, ended) = tokio::join!(served, &mut client.connection);
    let reason = ended
        .as_ref()
        .map_or_else(reason, |()| Some(Reason::NO_ERROR));
    (reason, served.elapsed())
}

#[test]
fn a_connection_without_a_request_has_the_time_of_a_head() {
    run(async {
        let rig = rig(
            "[timeouts]\nheader = \"2s\"\nkeep_alive = \"20s\"",
            &[&GOOD],
        )
        .await;
        let mut client = Client::new(&rig).await;
        let began = tokio::time::Instant::now();
        let ended = (&mut client.connection).await;
        assert!(ended.is_ok(), "{ended:?}");
        let took = began.elapsed();
        assert!(took < Duration::from_secs(10), "{took:?}");
    });
}

#[test]
fn a_connection_ends_with_its_time_its_requests_or_its_process() {
    let keeps = "[timeouts]\nkeep_alive = \"20s\"";
    let counts = "[limits]\nrequests_per_connection = 1\n[timeouts]\nkeep_alive = \"20s\"";
    let (soon, late) = (
        Duration::ZERO..Duration::from_secs(5),
        Duration::from_secs(19)..Duration::from_secs(30),
    );
    for (name, config, phase, time) in [
        ("time", keeps, None, &late),
        ("requests", counts, None, &soon),
        (
            "leaving",
            keeps,
            Some(ShutdownPhase::Leaving(Arc::new([]))),
            &soon,
        ),
        ("stopping", keeps, Some(ShutdownPhase::Stopping), &soon),
    ] {
        run(async {
            let rig = rig(config, &[&GOOD]).await;
            let (reason, took) = end_of(&rig, phase).await;
            assert_eq!(reason, Some(Reason::NO_ERROR), "{name}");
            assert!(time.contains(&took), "{name}: {took:?}");
        });
    }
}

/// How an endpoint is told of the body of a request that does not end with its head, but with this,
/// and after so long.
fn framing_of(method: &str, field: (&str, &str), data: &'static str, after: Duration) -> String {
    run(async {
        let rig = rig("", &[&GOOD]).await;
        let mut client = Client::new(&rig).await;
        let head = http::Request::builder().method(method).uri("http://a/");
        let head = head.header(field.0, field.1).body(()).unwrap();
        let (response, mut send) = client.sender.send_request(head, false).unwrap();
        if !after.is_zero() {
            client.until(tokio::time::sleep(after)).await;
        }
        send.send_data(Bytes::from_static(data.as_bytes()), true)
            .unwrap();
        assert_eq!(client.until(response).await.unwrap().status(), 200);
        let seen = &rig.script.seen()[0];
        assert_eq!(seen.body.data, data.as_bytes());
        let is_framing = |line: &&str| {
            line.starts_with("transfer-encoding: ") || line.starts_with("content-length: ")
        };
        let mut lines = seen.head.lines().filter(is_framing);
        lines.next().unwrap_or("no body").to_owned()
    })
}

#[test]
fn a_request_that_ends_with_an_empty_frame_goes_on_without_a_body() {
    let (at_once, soon, late) = (
        Duration::ZERO,
        Duration::from_millis(500),
        Duration::from_secs(5),
    );
    let (no_field, empty) = (("x", "1"), ("content-length", "0"));
    let (none, zero, chunked) = ("no body", "content-length: 0", "transfer-encoding: chunked");
    for (method, field, data, after, want) in [
        ("GET", no_field, "", at_once, none),
        ("GET", no_field, "", soon, none),
        ("DELETE", no_field, "", soon, none),
        ("DELETE", no_field, "order", soon, chunked),
        ("GET", no_field, "", late, chunked),
        ("POST", no_field, "", at_once, zero),
        ("POST", empty, "", soon, zero),
        ("POST", no_field, "order", at_once, chunked),
        // One that sends its body later may wait for its response until then.
        ("POST", no_field, "", soon, chunked),
    ] {
        let got = framing_of(method, field, data, after);
        assert_eq!(got, want, "{method} {field:?} {data:?} after {after:?}");
    }
}
