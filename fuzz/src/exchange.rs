//! A client, the proxy's own wire and an endpoint, on one thread: what goes in on one side is
//! compared with what comes out on the other, both read by [`strict`](crate::strict).

use std::cell::RefCell;
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use proxy::fuzz::Wire;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::LocalSet;

use crate::strict::{self, Body, End, Fault, Fields, LineEnd, RequestHead, ResponseHead, values};

/// Nothing here waits for anything.
const HANG: Duration = Duration::from_secs(20);
/// What the endpoint says where it is not told anything else.
const GOOD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Fields that no client may send in other words.
const OURS: [&str; 3] = ["x-real-ip", "content-length", "transfer-encoding"];

/// What the clients request whose responses are checked.
pub const REQUESTS: [&[u8]; 4] = [
    b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nok",
];

/// All three of them.
pub struct Exchange {
    runtime: Runtime,
    local: LocalSet,
    wire: Wire,
    endpoint: Rc<RefCell<Endpoint>>,
}

/// What the endpoint is to say, and what it has heard.
#[derive(Default)]
struct Endpoint {
    /// In pieces; the connection ends after them. `None`: it is a good endpoint.
    script: Option<Vec<Vec<u8>>>,
    requests: Vec<(RequestHead, Body)>,
}

impl Exchange {
    /// A proxy that has served no client yet.
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            // Each piece that is sent is seen before the next one is.
            .event_interval(1)
            .build()
            .expect("a runtime");
        let local = LocalSet::new();
        let endpoint = Rc::new(RefCell::new(Endpoint::default()));
        let address = local.block_on(&runtime, listen(endpoint.clone()));
        let wire = Wire::before(address).expect("a proxy of one service");
        let clock = wire.clock();
        local.spawn_local(clock);
        Self {
            runtime,
            local,
            wire,
            endpoint,
        }
    }

    /// Whatever a client sends: what the endpoint gets of it is strictly valid and means the
    /// same, and so are the responses.
    pub fn check_requests(&mut self, input: &[u8], cut: usize) {
        self.endpoint.borrow_mut().script = None;
        let (first, rest) = input.split_at(cut.min(input.len()));
        let responses = self.run(&[first, rest]);
        let heard = std::mem::take(&mut self.endpoint.borrow_mut().requests);
        let mut rest = input;
        for (head, body) in &heard {
            // RFC 9112, 2.2: empty lines before a request are nothing.
            while let Some(after) = rest.strip_prefix(b"\r\n") {
                rest = after;
            }
            match strict::request(rest) {
                Ok(((sent, sent_body), end)) => {
                    check_same_request(&sent, &sent_body, head, body);
                    rest = &rest[end..];
                }
                Err(fault) => panic!("passed on, and {fault:?}: {}", rest.escape_ascii()),
            }
        }
        check_responses(&responses, &heard);
    }

    /// Whatever an endpoint responds to this request: the client gets something strictly valid,
    /// and if it looks complete, it is.
    pub fn check_responses(&mut self, request: &[u8], input: &[u8], cut: usize) {
        let to_head = request.starts_with(b"HEAD");
        let (first, rest) = input.split_at(cut.min(input.len()));
        self.endpoint.borrow_mut().script = Some(vec![first.to_vec(), rest.to_vec()]);
        let got = self.run(&[request]);
        self.endpoint.borrow_mut().requests.clear();
        let ours = last_response(&got, to_head, LineEnd::Crlf);
        let (ours, ours_body) = match ours {
            // A refusal of the proxy's own, or what was cut.
            Ok(((head, _), _)) if is_local_reply(&head) => return,
            Err(Fault::More) => return,
            Ok((response, _)) => response,
            Err(Fault::Bad(why)) => panic!("{why}: {}", got.escape_ascii()),
        };
        match last_response(&with_reasons(input), to_head, LineEnd::Lf) {
            Ok(((theirs, theirs_body), _)) => {
                assert_eq!(ours.status, theirs.status, "{}", got.escape_ascii());
                assert!(ours.reason == theirs.reason || ours.reason.is_empty());
                assert_eq!(ours_body.data, theirs_body.data, "{}", got.escape_ascii());
                check_added(&theirs.fields, &ours.fields, &["date", "via", "connection"]);
                check_added(&theirs_body.trailers, &ours_body.trailers, &[]);
            }
            // A client that knows no chunks is told by a reset, which this pair of sockets has
            // not. What it got of the body, it got with a good head.
            Err(fault) if ours.end == End::UntilClose => {
                let heads_are_good = last_head(&with_reasons(input), to_head).is_ok();
                assert!(heads_are_good, "{fault:?}: {}", input.escape_ascii());
            }
            Err(fault) => panic!("looks complete, and {fault:?}: {}", input.escape_ascii()),
        }
    }

    /// Sends these pieces as a client that then ends its half, and gives all that it gets.
    fn run(&mut self, pieces: &[&[u8]]) -> Vec<u8> {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        // A stream of bytes is one, and this one takes no port.
        let theirs = std::net::TcpStream::from(OwnedFd::from(theirs));
        let wire = &self.wire;
        self.local.block_on(&self.runtime, async move {
            let served = wire.serve(theirs).expect("a socket like any other");
            let served = tokio::task::spawn_local(served);
            let exchange = async {
                ours.set_nonblocking(true).expect("a socket");
                let mut client = tokio::net::UnixStream::from_std(ours).expect("a socket");
                for piece in pieces {
                    // A connection that was closed before all was sent is a response, too.
                    let _ = client.write_all(piece).await;
                    tokio::task::yield_now().await;
                    tokio::task::yield_now().await;
                }
                let _ = client.shutdown().await;
                let mut got = Vec::new();
                let _ = client.read_to_end(&mut got).await;
                drop(client);
                let _ = served.await;
                got
            };
            let exchange = tokio::time::timeout(HANG, exchange);
            exchange.await.expect("an exchange comes to an end")
        })
    }
}

impl Default for Exchange {
    fn default() -> Self {
        Self::new()
    }
}

async fn listen(endpoint: Rc<RefCell<Endpoint>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::task::spawn_local(hear(stream, endpoint.clone()));
        }
    });
    address
}

/// Reads requests, strictly, and responds to them.
async fn hear(mut stream: TcpStream, endpoint: Rc<RefCell<Endpoint>>) {
    let _ = stream.set_nodelay(true);
    let mut bytes = Vec::new();
    loop {
        match strict::request(&bytes) {
            Ok((request, end)) => {
                bytes.drain(..end);
                endpoint.borrow_mut().requests.push(request);
                let script = endpoint.borrow().script.clone();
                let Some(pieces) = script else {
                    let _ = stream.write_all(GOOD).await;
                    continue;
                };
                for piece in pieces {
                    let _ = stream.write_all(&piece).await;
                    tokio::task::yield_now().await;
                }
                // No port is to wait for what may still come on this connection.
                let _ = stream.shutdown().await;
                let _ = stream.read(&mut [0; 16]).await;
                return;
            }
            Err(Fault::More) => match stream.read_buf(&mut bytes).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            },
            Err(Fault::Bad(why)) => {
                // The client's side would not hear of a panic of this task.
                let _ = writeln!(std::io::stderr(), "{why}: {}", bytes.escape_ascii());
                std::process::abort();
            }
        }
    }
}

fn check_same_request(sent: &RequestHead, sent_body: &Body, got: &RequestHead, got_body: &Body) {
    assert_eq!(sent.method, got.method);
    assert!(!got.is_old, "{got:?}");
    assert_eq!(sent_body.data, got_body.data);
    assert!(!got_body.extensions, "{got_body:?}");
    let (authority, origin) = parts(&sent.target);
    let hosts = values(&sent.fields, "host");
    let host = authority.or(hosts.first().copied()).unwrap_or_default();
    let wanted = match origin {
        b"" if sent.method == b"OPTIONS" => b"*".to_vec(),
        b"*" => origin.to_vec(),
        _ => path_to_send(origin),
    };
    assert_eq!(
        got.target.escape_ascii().to_string(),
        wanted.escape_ascii().to_string()
    );
    assert_ne!(got.method, b"TRACE");
    if !host.is_empty() {
        assert_eq!(values(&got.fields, "host"), [host]);
    }
    let added = [
        "host",
        "via",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-real-ip",
        "te",
        "connection",
        "max-forwards",
    ];
    check_added(&sent.fields, &got.fields, &added);
    check_added(&sent_body.trailers, &got_body.trailers, &[]);
}

/// The target that an endpoint gets: as it came, but for dot segments, and for what is not ASCII.
fn path_to_send(target: &[u8]) -> Vec<u8> {
    let end = target.iter().position(|byte| *byte == b'?');
    let (path, query) = target.split_at(end.unwrap_or(target.len()));
    let normal = strict::normal_path(path).expect("a path that goes on has a normal form");
    let path = match path {
        b"" => &normal,
        _ if strict::has_dots(path) => &normal,
        _ => path,
    };
    strict::escaped(&[path, query].concat())
}

/// Authority, and path and query, of a target.
fn parts(target: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let Some(at) = target.windows(3).position(|part| part == b"://") else {
        return (None, target);
    };
    if target.starts_with(b"/") {
        return (None, target);
    }
    let rest = &target[at + 3..];
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
    let (authority, origin) = rest.split_at(end.unwrap_or(rest.len()));
    (Some(authority), origin)
}

/// No field has been added but these and those that frame a message, and none of those that are
/// for one hop has gone on.
#[track_caller]
fn check_added(before: &Fields, after: &Fields, added: &[&str]) {
    let framing = ["content-length", "transfer-encoding", "upgrade"];
    for (name, value) in after {
        let is_named = |names: &[&str]| {
            names
                .iter()
                .any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
        };
        if !is_named(added) && !is_named(&framing) {
            let is_there = before
                .iter()
                .any(|(other, was)| other.eq_ignore_ascii_case(name) && was == value);
            assert!(is_there, "{} is new", name.escape_ascii());
        }
        for never in ["keep-alive", "proxy-connection", "http2-settings"] {
            assert!(
                !name.eq_ignore_ascii_case(never.as_bytes()),
                "{never} goes on"
            );
        }
        // CGI takes `_` for `-`.
        let name = String::from_utf8_lossy(name).to_lowercase();
        let read = name.replace('_', "-");
        let is_taken = read.starts_with("x-forwarded-") || OURS.contains(&&*read);
        assert!(!(name.contains('_') && is_taken), "{name} goes on");
    }
}

/// Each request that was passed on has its response, and after them comes at most one of the
/// proxy's own.
fn check_responses(mut responses: &[u8], heard: &[(RequestHead, Body)]) {
    for (head, _) in heard {
        match last_response(responses, head.method == b"HEAD", LineEnd::Crlf) {
            Ok(((got, _), end)) => {
                assert!(got.status == 200 || is_local_reply(&got), "{got:?}");
                responses = &responses[end..];
            }
            // The client, who had ended its half too early, was cut.
            Err(Fault::More) => return,
            Err(Fault::Bad(why)) => panic!("{why}: {}", responses.escape_ascii()),
        }
    }
    while !responses.is_empty() {
        match strict::response(responses, false, true, LineEnd::Crlf) {
            Ok(((got, _), end)) => {
                assert!(got.status == 100 || is_local_reply(&got), "{got:?}");
                responses = &responses[end..];
            }
            // To a HEAD.
            Err(Fault::More) => return,
            Err(Fault::Bad(why)) => panic!("{why}: {}", responses.escape_ascii()),
        }
    }
}

/// The first response that is not an interim one, and where it ends.
fn last_response(
    bytes: &[u8],
    to_head: bool,
    lines: LineEnd,
) -> strict::Parsed<(ResponseHead, Body)> {
    let mut start = 0;
    loop {
        let (response, end) = strict::response(&bytes[start..], to_head, true, lines)?;
        start += end;
        if !matches!(response.0.status, 100 | 102..=199) {
            return Ok((response, start));
        }
    }
}

/// The head of that response, where its body is broken or cut.
fn last_head(bytes: &[u8], to_head: bool) -> strict::Parsed<ResponseHead> {
    let mut start = 0;
    loop {
        let (head, end) = strict::response_head(&bytes[start..], to_head, LineEnd::Lf)?;
        if !matches!(head.status, 100 | 102..=199) {
            return Ok((head, start + end));
        }
        start += end;
    }
}

/// The same responses, with the space before a reason that is not there: the proxy does without.
fn with_reasons(input: &[u8]) -> Vec<u8> {
    let mut fixed = Vec::new();
    let mut rest = input;
    while let (Some(line), Some(&after)) = (rest.get(..12), rest.get(12)) {
        fixed.extend_from_slice(line);
        if matches!(after, b'\r' | b'\n') {
            fixed.push(b' ');
        }
        rest = &rest[12..];
        // Another one follows an interim response.
        let ends =
            |at: &usize| matches!(rest[..*at], [.., b'\n', b'\n'] | [.., b'\n', b'\r', b'\n']);
        match (1..=rest.len()).find(ends) {
            Some(end) if line[9] == b'1' && !line.ends_with(b"101") => {
                fixed.extend_from_slice(&rest[..end]);
                rest = &rest[end..];
            }
            _ => break,
        }
    }
    fixed.extend_from_slice(rest);
    fixed
}

fn is_local_reply(head: &ResponseHead) -> bool {
    let reasons = values(&head.fields, "proxy-status");
    reasons
        .iter()
        .any(|reason| reason.starts_with(b"crossfade;"))
}
