//! The origin: the server behind every proxy. One thread, with responses encoded beforehand, since
//! it shares its core with the load generator.

use std::collections::VecDeque;
use std::fs::Permissions;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use signal_hook::consts::SIGTERM;
use signal_hook::flag::register_conditional_shutdown;
use slab::Slab;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::error::{Context, Result};
use crate::h2;
use crate::mixed;
use crate::poll::Poll;

/// The size of one read: a whole 16 KiB request and more.
const READ: usize = 64 * 1024;
/// The longest head of a request.
const MAX_HEAD: usize = 16 * 1024;
/// The first poll number of listening sockets. The numbers of connections begin at 0.
const LISTENERS: usize = 1 << 32;

/// The options of an origin.
#[derive(Debug, clap::Args)]
pub(crate) struct OriginOptions {
    #[arg(long, default_value_t = Ipv4Addr::LOCALHOST)]
    address: Ipv4Addr,
    #[arg(long)]
    port: u16,
    #[arg(long, default_value_t = 0)]
    endpoints: u16,
    #[arg(long)]
    path: Option<PathBuf>,
    #[arg(long)]
    version: String,
}

/// The address of endpoint `number`: one IP address from 127.0.1.1 on for each, with the origin's
/// port.
pub(crate) fn endpoint(number: u16, port: u16) -> SocketAddrV4 {
    let [high, low] = (number / 250 * 256 + number % 250 + 257).to_be_bytes();
    SocketAddrV4::new(Ipv4Addr::new(127, 0, high, low), port)
}

/// Serves on its address, on the addresses of this many endpoints, and on a unix socket, without end.
pub(crate) fn serve(options: &OriginOptions) -> Result<()> {
    // The first process of a container ignores this signal unless it handles it.
    let always = Arc::new(AtomicBool::new(true));
    register_conditional_shutdown(SIGTERM, 0, always).context(|| "signals".into())?;
    let port = options.port;
    let mut addresses = vec![SocketAddrV4::new(options.address, port)];
    addresses.extend((0..options.endpoints).map(|number| endpoint(number, port)));
    let mut origin = Origin {
        poll: Poll::new()?,
        listeners: Vec::with_capacity(addresses.len()),
        connections: Slab::new(),
        responses: Responses::of(&options.version),
        buffer: vec![0; READ],
    };
    for address in addresses {
        let listener = listen(address.into()).context(|| format!("listen on {address}"))?;
        origin.add(listener)?;
    }
    if let Some(path) = &options.path {
        let listener = listen_at(path).context(|| format!("listen on {}", path.display()))?;
        origin.add(listener)?;
    }
    origin.run()
}

/// Opens a listening socket that does not block.
fn listen(address: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    // Accepted connections inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Opens a unix socket that does not block, for all users: nginx's workers are another user.
fn listen_at(path: &Path) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o666))?;
    socket.listen(4096)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// All responses, head and body, ready to send.
struct Responses {
    small: Vec<u8>,
    ten_k: Vec<u8>,
    one_m: Vec<u8>,
    unknown: Vec<u8>,
    bad: Vec<u8>,
    switched: Vec<u8>,
    frame: Vec<u8>,
    mixed: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResponseKind {
    Small,
    TenK,
    OneM,
    Unknown,
    Bad,
    Switched,
    Frame,
    /// One of the sizes of `mixed`.
    Mixed(usize),
}

impl Responses {
    fn of(version: &str) -> Self {
        let padding = "abcdefghijklmnopqrstuvwxyz0123456789";
        let small = format!(
            "{{\"message\":\"Hello World\",\"version\":\"{version}\",\"padding\":\"{padding}\"}}"
        );
        let body = |length: usize| "crossfade-".repeat(length.div_ceil(10))[..length].to_owned();
        Self {
            small: response("200 OK", version, &small),
            ten_k: response("200 OK", version, &body(10 * 1024)),
            one_m: response("200 OK", version, &body(1024 * 1024)),
            unknown: response("404 Not Found", version, "no such path\n"),
            bad: response("400 Bad Request", version, "not understood\n"),
            // The accept value for the key of the load generator: RFC 6455, section 1.3.
            switched: b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n".to_vec(),
            frame: vec![0x81, 2, b'o', b'k'],
            mixed: (0..mixed::SIZES)
                .map(|index| response("200 OK", version, &body(mixed::size(index))))
                .collect(),
        }
    }

    fn bytes(&self, kind: ResponseKind) -> &[u8] {
        match kind {
            ResponseKind::Small => &self.small,
            ResponseKind::TenK => &self.ten_k,
            ResponseKind::OneM => &self.one_m,
            ResponseKind::Unknown => &self.unknown,
            ResponseKind::Bad => &self.bad,
            ResponseKind::Switched => &self.switched,
            ResponseKind::Frame => &self.frame,
            ResponseKind::Mixed(index) => self.mixed.get(index).unwrap_or(&self.unknown),
        }
    }
}

fn response(status: &str, version: &str, body: &str) -> Vec<u8> {
    // Some proxies add a missing Date. With one, all do the same work.
    let date = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let date = crate::machine::http_date(date);
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Type: application/json\r\nX-Version: {version}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

struct Origin {
    poll: Poll,
    listeners: Vec<Socket>,
    connections: Slab<Connection>,
    responses: Responses,
    buffer: Vec<u8>,
}

impl Origin {
    fn add(&mut self, listener: Socket) -> Result<()> {
        self.poll.add(&listener, LISTENERS + self.listeners.len())?;
        self.listeners.push(listener);
        Ok(())
    }

    fn run(mut self) -> Result<()> {
        let mut ready = Vec::new();
        loop {
            self.poll.wait(None, &mut ready)?;
            for &number in &ready {
                if number >= LISTENERS {
                    self.accept(number - LISTENERS)?;
                } else if let Some(client) = self.connections.get_mut(number) {
                    let open =
                        client.step(number, &self.poll, &self.responses, &mut self.buffer)?;
                    if !open {
                        self.connections.remove(number);
                    }
                }
            }
        }
    }

    fn accept(&mut self, listener: usize) -> Result<()> {
        let Some(listener) = self.listeners.get(listener) else {
            return Ok(());
        };
        // A batch for each wake-up: at the start of a round many connections arrive at once.
        for _ in 0..16 {
            let Ok((socket, _)) = listener.accept() else {
                break;
            };
            socket
                .set_nonblocking(true)
                .context(|| "a client's socket".into())?;
            let entry = self.connections.vacant_entry();
            self.poll.add(&socket, entry.key())?;
            entry.insert(Connection::of(socket));
        }
        Ok(())
    }
}

struct Connection {
    socket: Socket,
    /// The beginning of a head that is not complete.
    head: Vec<u8>,
    /// The missing bytes of a request's body.
    body_left: usize,
    /// Responses to send, and how many bytes of the first are sent.
    out: VecDeque<ResponseKind>,
    sent: usize,
    waits_for_room: bool,
    upgraded: bool,
    /// Close after the last response.
    last: bool,
    http2: Option<Box<Http2>>,
}

/// A connection over HTTP/2, with the bytes to send and how many of them are sent.
struct Http2 {
    server: h2::Server,
    out: Vec<u8>,
    sent: usize,
}

impl Connection {
    fn of(socket: Socket) -> Self {
        Self {
            socket,
            head: Vec::new(),
            body_left: 0,
            out: VecDeque::new(),
            sent: 0,
            waits_for_room: false,
            upgraded: false,
            last: false,
            http2: None,
        }
    }

    /// Reads requests and sends responses. Returns whether the connection stays open.
    fn step(
        &mut self,
        number: usize,
        poll: &Poll,
        responses: &Responses,
        buffer: &mut [u8],
    ) -> Result<bool> {
        if !self.has_unsent() {
            // The body of a large upload is discarded by the kernel.
            let flags = match self.body_left > buffer.len() {
                true => RecvFlags::TRUNC,
                false => RecvFlags::empty(),
            };
            match recv(&self.socket, &mut *buffer, flags) {
                Ok((_, 0)) => return Ok(false),
                Ok((_, length)) if flags == RecvFlags::TRUNC => self.body_left -= length,
                Ok((_, length)) => {
                    if !self.read(&buffer[..length]) {
                        return Ok(false);
                    }
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => return Ok(false),
            }
        }
        if !self.send(responses) {
            return Ok(false);
        }
        let waits = self.has_unsent();
        if waits != self.waits_for_room {
            self.waits_for_room = waits;
            poll.want_write(&self.socket, number, waits)?;
        }
        Ok(!self.last || waits)
    }

    fn has_unsent(&self) -> bool {
        !self.out.is_empty()
            || self
                .http2
                .as_ref()
                .is_some_and(|http2| !http2.out.is_empty())
    }

    /// Parses bytes, and queues the responses. Returns whether they are valid.
    fn read(&mut self, bytes: &[u8]) -> bool {
        let is_first = self.head.is_empty() && self.body_left == 0;
        if self.http2.is_none() && is_first && bytes.starts_with(h2::PREFACE) {
            let mut out = Vec::new();
            let server = h2::Server::new(&mut out);
            self.http2 = Some(Box::new(Http2 {
                server,
                out,
                sent: 0,
            }));
        }
        if let Some(http2) = &mut self.http2 {
            return http2.server.read(bytes, &mut http2.out).is_ok();
        }
        self.read_http1(bytes);
        true
    }

    fn read_http1(&mut self, bytes: &[u8]) {
        let mut joined;
        let mut bytes = bytes;
        if !self.head.is_empty() {
            joined = std::mem::take(&mut self.head);
            joined.extend_from_slice(bytes);
            bytes = &joined;
        }
        while !bytes.is_empty() && !self.last {
            if self.upgraded {
                self.out.push_back(ResponseKind::Frame);
                return;
            }
            if self.body_left > 0 {
                let taken = self.body_left.min(bytes.len());
                self.body_left -= taken;
                bytes = &bytes[taken..];
                if self.body_left == 0 {
                    self.out.push_back(ResponseKind::Small);
                }
                continue;
            }
            let Some(head) = RequestHead::parse(bytes) else {
                if bytes.len() > MAX_HEAD {
                    self.last = true;
                    self.out.push_back(ResponseKind::Bad);
                } else {
                    self.head = bytes.to_vec();
                }
                return;
            };
            bytes = &bytes[head.head_length..];
            self.body_left = head.body_length;
            self.last = head.last;
            self.upgraded = head.kind == ResponseKind::Switched;
            if self.body_left == 0 {
                self.out.push_back(head.kind);
            }
        }
    }

    /// Sends as much as the socket has room for. Returns false if the other side is gone.
    fn send(&mut self, responses: &Responses) -> bool {
        if let Some(http2) = &mut self.http2 {
            return http2.send(&self.socket);
        }
        while let Some(&kind) = self.out.front() {
            let bytes = responses.bytes(kind);
            match send(&self.socket, &bytes[self.sent..], SendFlags::NOSIGNAL) {
                Ok(length) => self.sent += length,
                Err(Errno::AGAIN | Errno::INTR) => return true,
                Err(_) => return false,
            }
            if self.sent == bytes.len() {
                self.sent = 0;
                self.out.pop_front();
            }
        }
        true
    }
}

impl Http2 {
    /// Sends as much as the socket has room for. Returns false if the other side is gone.
    fn send(&mut self, socket: &Socket) -> bool {
        while self.sent < self.out.len() {
            match send(socket, &self.out[self.sent..], SendFlags::NOSIGNAL) {
                Ok(length) => self.sent += length,
                Err(Errno::AGAIN | Errno::INTR) => return true,
                Err(_) => return false,
            }
        }
        self.out.clear();
        self.sent = 0;
        true
    }
}

/// The parts of a request's head that matter here.
#[derive(Debug, PartialEq, Eq)]
struct RequestHead {
    kind: ResponseKind,
    head_length: usize,
    body_length: usize,
    last: bool,
}

impl RequestHead {
    /// Parses a head. `None` if it is not complete.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Request::new(&mut headers);
        let head_length = match parsed.parse(bytes) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return None,
            Err(_) => {
                return Some(Self {
                    kind: ResponseKind::Bad,
                    head_length: bytes.len(),
                    body_length: 0,
                    last: true,
                });
            }
        };
        let mut head = Self {
            kind: match parsed.path.unwrap_or_default() {
                "/small" | "/healthz" => ResponseKind::Small,
                "/10k" => ResponseKind::TenK,
                "/1m" => ResponseKind::OneM,
                "/sink" => ResponseKind::Small,
                path => mixed_size(path).map_or(ResponseKind::Unknown, ResponseKind::Mixed),
            },
            head_length,
            body_length: 0,
            last: parsed.version == Some(0),
        };
        for header in parsed.headers {
            let value = std::str::from_utf8(header.value).unwrap_or_default();
            if header.name.eq_ignore_ascii_case("content-length") {
                head.body_length = value.parse().unwrap_or(0);
            } else if header.name.eq_ignore_ascii_case("connection") {
                head.last |= value.eq_ignore_ascii_case("close");
            } else if header.name.eq_ignore_ascii_case("upgrade") {
                head.kind = ResponseKind::Switched;
            }
        }
        Some(head)
    }
}

/// The index in `/mixed/INDEX`.
fn mixed_size(path: &str) -> Option<usize> {
    let index = path.strip_prefix("/mixed/")?.parse().ok()?;
    (index < mixed::SIZES).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};
    use std::thread::sleep;
    use std::time::Duration;

    use rustix::process::{Pid, Signal, kill_process};

    use crate::accounting;

    #[track_caller]
    fn check(head: &str, kind: ResponseKind, body_length: usize, last: bool) {
        let want = RequestHead {
            kind,
            head_length: head.len(),
            body_length,
            last,
        };
        assert_eq!(RequestHead::parse(head.as_bytes()), Some(want));
    }

    #[test]
    fn a_request_is_understood_by_its_path_and_headers() {
        check(
            "GET /small HTTP/1.1\r\nHost: a\r\n\r\n",
            ResponseKind::Small,
            0,
            false,
        );
        check(
            "GET /1m HTTP/1.1\r\nConnection: close\r\n\r\n",
            ResponseKind::OneM,
            0,
            true,
        );
        check(
            "POST /sink HTTP/1.1\r\ncontent-length: 16384\r\n\r\n",
            ResponseKind::Small,
            16_384,
            false,
        );
        check(
            "GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
            ResponseKind::Switched,
            0,
            false,
        );
        check(
            "GET /nowhere HTTP/1.1\r\n\r\n",
            ResponseKind::Unknown,
            0,
            false,
        );
        check("what\r\n\r\n", ResponseKind::Bad, 0, true);
        assert_eq!(RequestHead::parse(b"GET /small HTTP/1.1\r\nHo"), None);
    }

    #[test]
    fn a_thousand_endpoints_have_a_thousand_addresses() {
        let all: std::collections::HashSet<_> = (0..1000).map(|n| endpoint(n, 80)).collect();
        assert_eq!(all.len(), 1000);
        assert_eq!(endpoint(0, 80).to_string(), "127.0.1.1:80");
        assert_eq!(endpoint(999, 80).to_string(), "127.0.4.250:80");
        assert!(
            all.iter()
                .all(|address| !matches!(address.ip().octets()[3], 0 | 255))
        );
    }

    /// A connection, and its other side.
    fn connection() -> (Connection, Socket) {
        let (own, other) = Socket::pair(Domain::UNIX, Type::STREAM, None).unwrap();
        own.set_nonblocking(true).unwrap();
        (Connection::of(own), other)
    }

    fn exchange(connection: &mut Connection, other: &Socket, request: &[u8]) -> Vec<u8> {
        let poll = Poll::new().unwrap();
        poll.add(&connection.socket, 0).unwrap();
        let responses = Responses::of("1.0.0");
        send(other, request, SendFlags::empty()).unwrap();
        let mut buffer = vec![0; READ];
        assert!(connection.step(0, &poll, &responses, &mut buffer).unwrap());
        let (_, length) = recv(other, &mut *buffer, RecvFlags::empty()).unwrap();
        buffer.truncate(length);
        buffer
    }

    #[test]
    fn every_size_of_mixed_has_a_response() {
        let responses = Responses::of("1.0.0");
        for index in 0..mixed::SIZES {
            let bytes = responses.bytes(ResponseKind::Mixed(index));
            let head = bytes
                .windows(4)
                .position(|four| four == b"\r\n\r\n")
                .unwrap();
            assert_eq!(bytes.len() - head - 4, mixed::size(index));
        }
    }

    #[test]
    fn a_connection_speaks_http2_after_its_preface() {
        let (mut connection, other) = connection();
        let mut request = h2::PREFACE.to_vec();
        // HEADERS of stream 1, with END_STREAM and END_HEADERS.
        request.extend_from_slice(&[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x83]);
        let response = exchange(&mut connection, &other, &request);
        let contains = |part: &[u8]| response.windows(part.len()).any(|bytes| bytes == part);
        assert!(contains(b"application/grpc") && contains(b"grpc-status"));
    }

    #[test]
    fn a_connection_speaks_http1_without_it() {
        let (mut connection, other) = connection();
        let response = exchange(&mut connection, &other, b"GET /small HTTP/1.1\r\n\r\n");
        assert!(response.starts_with(b"HTTP/1.1 200 OK"));
    }

    #[test]
    fn the_small_response_is_about_100_bytes_of_json() {
        let responses = Responses::of("1.0.0");
        let text = String::from_utf8(responses.small).unwrap();
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        assert!((90..110).contains(&body.len()), "{}", body.len());
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }

    /// Names the socket of the origin that [`serves_if_told_to`] is to be.
    const ORIGIN_PATH: &str = "CROSSFADE_BENCH_TEST_ORIGIN";

    #[test]
    fn serves_if_told_to() {
        if let Some(path) = std::env::var_os(ORIGIN_PATH) {
            let options = OriginOptions {
                address: Ipv4Addr::LOCALHOST,
                port: 0,
                endpoints: 0,
                path: Some(path.into()),
                version: "1.0.0".into(),
            };
            serve(&options).unwrap();
        }
    }

    #[test]
    fn the_first_process_of_a_container_ends_at_sigterm() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("origin.sock");
        // A process namespace of its own, in which this program is the first process.
        let unshare = [
            "20",
            "unshare",
            "--user",
            "--map-root-user",
            "--pid",
            "--fork",
            "--kill-child",
        ];
        let mut child = Command::new("timeout")
            .args(["--signal=KILL"].iter().chain(&unshare))
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "origin::tests::serves_if_told_to"])
            .env(ORIGIN_PATH, &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while UnixStream::connect(&path).is_err() {
            if child.try_wait().unwrap().is_some() {
                // Such a namespace is not permitted here.
                return;
            }
            sleep(Duration::from_millis(5));
        }
        let first = *accounting::tree(child.id()).unwrap().last().unwrap();
        let first = Pid::from_raw(first.try_into().unwrap()).unwrap();
        kill_process(first, Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success());
    }
}
