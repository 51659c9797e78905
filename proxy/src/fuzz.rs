//! What the fuzzers reach of the inside, and the tests that share their properties. It has no use
//! in the proxy, and may change with anything that it reaches.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use admin_api::{EndpointSpec, SendPath, ServiceSpec};
use arc_swap::ArcSwap;
use http::Version;
use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::config::Config;
use crate::filter::{self, Stopped, Subject};
use crate::server::h1::{Jobs, jobs, serve};
use crate::table::Table;
use crate::table::definition::Definition;
use crate::table::filter::Filters as OwnFilters;
use crate::table::route::is_below;
use crate::table::service::{Drained, Service};
use crate::table::version::Resolved;
use crate::wire::expectation::Expectation;
use crate::wire::forwarding::Onward;
use crate::wire::h1::body::{Decoder, Framing, Piece};
use crate::wire::h1::head::{
    MAX_FIELDS, find_end, find_response_end, read_request, read_response, request_at_once,
    request_framing, response_at_once, response_framing,
};
use crate::wire::h1::write::end_head;
use crate::wire::head::{Head, Message, Span};
use crate::wire::headers::towards_endpoint;
use crate::wire::path::Path;
use crate::wire::peer::{Peer, is_in};
use crate::wire::socket::{Bytestream, HalfClose, Socket};
use crate::wire::target::Target;
use crate::worker::Worker;
use crate::worker::counters::Counters;
use crate::worker::order::ShutdownPhase;

/// Clients of the fuzzers end their half as soon as they have sent what they are to send.
const CONFIG: &str = "[[listeners]]\naddress = \"127.0.0.1:0\"\nhalf_close = \"serve\"\n";

/// How a message says that its body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyEnd {
    /// There is none.
    Empty,
    /// After so many bytes, above 0.
    Length(u64),
    /// After its last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// A head, as it was read.
#[derive(Debug)]
pub struct ReadHead {
    /// Of a request.
    pub method: Vec<u8>,
    /// Of a request; of a response, the reason phrase.
    pub target: Vec<u8>,
    /// Whether it is HTTP/1.0 rather than 1.1.
    pub is_old: bool,
    /// Of a response.
    pub status: u16,
    /// Names and values.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the body ends.
    pub end: BodyEnd,
}

impl ReadHead {
    fn of(message: Message<'_>, framing: Framing, is_response: bool) -> Self {
        let fields = message.fields();
        Self {
            method: message.method().to_vec(),
            target: if is_response {
                message.reason().to_vec()
            } else {
                message.target().to_vec()
            },
            is_old: message.version() == Version::HTTP_10,
            status: message.status(),
            fields: fields
                .map(|line| (line.name.to_vec(), line.value.to_vec()))
                .collect(),
            end: match framing {
                Framing::Empty => BodyEnd::Empty,
                Framing::Length(length) => BodyEnd::Length(length),
                Framing::Chunked => BodyEnd::Chunked,
                Framing::UntilClose => BodyEnd::UntilClose,
            },
        }
    }
}

/// Reads the head of a request that `bytes` begins with. Gives it with its length, if it is all
/// there and is not refused.
pub fn request_head(bytes: &[u8]) -> Option<(ReadHead, usize)> {
    let mut head = Head::default();
    let at_once = request_at_once(bytes, MAX_FIELDS, &mut head);
    let end = find_end(bytes, &mut 0).ok().flatten();
    let end = end.filter(|end| read_request(&bytes[..*end], MAX_FIELDS, &mut head).is_ok());
    assert_eq!(at_once, end, "a head is read in two ways");
    let end = end?;
    let message = head.over(&bytes[..end]);
    let framing = request_framing(message).ok()?;
    Some((ReadHead::of(message, framing, false), end))
}

/// The same of a response; `to_head`: to a HEAD.
pub fn response_head(bytes: &[u8], to_head: bool) -> Option<(ReadHead, usize)> {
    let mut head = Head::default();
    let at_once = response_at_once(bytes, &mut head);
    let end = find_response_end(bytes, &mut 0);
    let end = end.filter(|end| read_response(&bytes[..*end], &mut head).is_ok());
    assert_eq!(at_once, end, "a head is read in two ways");
    let end = end?;
    let message = head.over(&bytes[..end]);
    let framing = response_framing(message, to_head).ok()?;
    Some((ReadHead::of(message, framing, true), end))
}

/// What became of a chunked body.
#[derive(Debug, PartialEq, Eq)]
pub enum Chunks {
    /// It is refused.
    Refused,
    /// Its end is not there.
    Unfinished,
    /// Its data, its trailer section, and how many bytes of the input it takes.
    Whole(Vec<u8>, Vec<u8>, usize),
}

/// Takes a chunked body apart that arrives in pieces which end at these places.
pub fn chunked(input: &[u8], cuts: impl IntoIterator<Item = usize>) -> Chunks {
    let mut decoder = Decoder::new(Framing::Chunked);
    let mut data = Vec::new();
    let mut start = 0;
    let ends = cuts.into_iter().filter(|cut| *cut <= input.len());
    for end in ends.chain([input.len()]) {
        while start <= end {
            match decoder.next(&input[start..end]) {
                Err(_) => return Chunks::Refused,
                Ok(Piece::More) => break,
                Ok(Piece::Data { skip, data: count }) => {
                    data.extend_from_slice(&input[start + skip..start + skip + count]);
                    start += skip + count;
                }
                Ok(Piece::End { skip, trailers }) => {
                    let end = start + skip + trailers;
                    let trailers = input[start + skip..end].to_vec();
                    return Chunks::Whole(data, trailers, end);
                }
            }
        }
    }
    Chunks::Unfinished
}

/// A path, as it was read.
#[derive(Debug)]
pub struct ReadPath {
    /// In its normal form.
    pub normal: Vec<u8>,
    /// What an endpoint may get of it, by the setting of its service.
    pub sent: [Vec<u8>; 3],
    /// The same with a prefix stripped, if it is below that.
    pub stripped: Option<[Vec<u8>; 3]>,
}

/// Reads the path of a target, of which `prefix` may be stripped. `None`: it is refused.
pub fn path(target: &[u8], prefix: &str) -> Option<ReadPath> {
    let (path, _) = Path::split_off(target).ok()?;
    let sent = |strip: Option<&str>| {
        [SendPath::Auto, SendPath::Original, SendPath::Normalised].map(|form| {
            let mut to = Vec::new();
            path.write(form, strip, &mut to);
            to
        })
    };
    let normal = path.normal();
    Some(ReadPath {
        normal: normal.to_vec(),
        sent: sent(None),
        stripped: is_below(normal, prefix).then(|| sent(Some(prefix))),
    })
}

/// The address of the client of a request that has this value in `X-Forwarded-For`.
pub fn client(peer: &str, trusted: &[&str], list: &[u8]) -> Option<IpAddr> {
    let (ip, name) = (peer.parse().ok()?, b"x-forwarded-for");
    let networks: Arc<[IpNet]> = trusted.iter().flat_map(|net| net.parse()).collect();
    let peer = Peer::new(ip, is_in(&networks, ip).then_some(networks), false);
    let bytes = [name, list].concat();
    let (start, end) = (name.len(), name.len() + list.len());
    let mut head = Head::default();
    head.push(&bytes, Span::new(0, start), Span::new(start, end));
    peer.client(head.over(&bytes))
}

/// The filters of a service.
pub struct Filters {
    definition: Arc<Definition>,
    filters: Arc<OwnFilters>,
}

/// What filters have made of a request's head.
pub enum FilteredHead {
    /// It goes on.
    Forwarded {
        /// The head that an endpoint gets, without what the proxy says of the client.
        request: Vec<u8>,
        /// The head of a response to it.
        response: Vec<u8>,
    },
    /// A filter has responded.
    Replied {
        /// The head of its response.
        response: Vec<u8>,
    },
}

impl Filters {
    /// `None`: this JSON is no service with filters.
    pub fn new(json: &str) -> Option<Self> {
        let spec = admin_api::strict::from_json::<ServiceSpec>(json.as_bytes()).ok()?;
        let definition = Arc::new(Definition::check(&spec).ok()?);
        let filters = OwnFilters::of(&definition, None)?;
        Some(Self {
            definition,
            filters,
        })
    }

    /// `None`: it is no request, or one that waits.
    pub fn apply(&self, bytes: &[u8]) -> Option<FilteredHead> {
        let mut head = Head::default();
        let end = find_end(bytes, &mut 0).ok().flatten()?;
        read_request(&bytes[..end], MAX_FIELDS, &mut head).ok()?;
        let request = head.over(&bytes[..end]);
        let framing = request_framing(request).ok()?;
        let target = Target::of(request).ok()?;
        let peer = Peer::new(IpAddr::V4(Ipv4Addr::LOCALHOST), None, false);
        let subject = Subject::new(request, &target, &peer, &self.definition);
        let mut filtered = None;
        let checked = filter::check(Some(&self.filters), &mut filtered, &subject);
        let filtered = filtered?;
        let mut response = Vec::new();
        match checked {
            Err(Stopped::Unproven) => None,
            Err(Stopped::Replied(reply)) => {
                let status = filtered.status().unwrap_or(reply.status());
                response
                    .extend_from_slice(format!("HTTP/1.1 {} x\r\n", status.as_u16()).as_bytes());
                filtered.write_reply(reply, false, &mut response);
                response.extend_from_slice(b"\r\n");
                Some(FilteredHead::Replied { response })
            }
            Ok(()) => {
                response.extend_from_slice(b"HTTP/1.1 200 OK\r\nserver: a\r\n");
                filtered.change_response(None, &mut response);
                response.extend_from_slice(b"\r\n");
                let mut to = Vec::new();
                to.extend_from_slice(request.method());
                to.push(b' ');
                if !filtered.write_target(&subject, &mut to) {
                    target.write_origin_form(SendPath::Auto, None, &mut to);
                }
                to.extend_from_slice(b" HTTP/1.1\r\n");
                let onward = Onward {
                    host: target.authority,
                    port: target.port,
                    forwarded: false,
                    via: true,
                    expectation: Expectation::Nothing,
                };
                towards_endpoint(request, &peer, &onward, false, &mut to);
                filtered.change_request(&subject, &mut to);
                end_head(framing, &mut to, true);
                let request = to;
                Some(FilteredHead::Forwarded { request, response })
            }
        }
    }
}

/// Whether a config file's text is accepted. It must be said to be wrong, or be taken.
pub fn config(text: &str) -> bool {
    Config::parse(text).is_ok()
}

/// Whether the JSON of a service is accepted.
pub fn service(json: &[u8]) -> bool {
    admin_api::strict::from_json::<ServiceSpec>(json)
        .is_ok_and(|spec| Definition::check(&spec).is_ok())
}

/// One worker in front of one endpoint, to be used inside a `LocalSet` of one thread.
pub struct Wire {
    pub(crate) worker: Rc<Worker>,
    jobs: Rc<Jobs>,
    half_close: HalfClose,
    trusted: Arc<[IpNet]>,
    /// What the worker reads, for tests that change it.
    #[cfg(test)]
    pub(crate) table: Arc<ArcSwap<Table>>,
    // While it is there, the worker is not stopping.
    _shutdown_phase: watch::Sender<ShutdownPhase>,
}

impl Wire {
    /// `None`: the endpoint does not pass the checks, which would be a mistake here.
    pub fn before(endpoint: SocketAddr) -> Option<Self> {
        let spec = ServiceSpec {
            name: "web".into(),
            endpoints: vec![EndpointSpec {
                address: endpoint.to_string(),
                version: "1".into(),
                weight: 1,
            }],
            ..ServiceSpec::default()
        };
        Self::with(Config::parse(CONFIG).ok()?, &spec)
    }

    /// One worker with this config, which forwards the requests for one service.
    pub(crate) fn with(config: Config, spec: &ServiceSpec) -> Option<Self> {
        let definition = Arc::new(Definition::check(spec).ok()?);
        let service = Service::new(
            definition,
            &config.timeouts,
            None,
            &Resolved::new(),
            1,
            &Drained::new(),
        );
        let table = Table::empty(config.timeouts.clone())
            .with_all(vec![Arc::new(service)], config.timeouts)
            .ok()?;
        let table = Arc::new(ArcSwap::from_pointee(table));
        #[cfg(test)]
        let shared = table.clone();
        let listener = config.listeners.first()?;
        let (half_close, trusted) = (listener.half_close, listener.trusted_proxies.clone());
        let counters = Arc::new(Counters::new(1));
        let (sender, shutdown_phase) = watch::channel(ShutdownPhase::Serving);
        let worker = Worker::new(0, table, config.limits, &counters, shutdown_phase, None);
        Some(Self {
            worker,
            jobs: Rc::new(jobs()),
            half_close,
            trusted,
            #[cfg(test)]
            table: shared,
            _shutdown_phase: sender,
        })
    }

    /// What the process does next, as the worker and its connections hear of it.
    #[cfg(test)]
    pub(crate) fn enter(&self, phase: ShutdownPhase) {
        self._shutdown_phase.send_replace(phase);
        self.worker.timers.wake_all();
    }

    /// The clock of the worker. Never ends.
    pub fn clock(&self) -> impl Future<Output = ()> + 'static {
        let timers = self.worker.timers.clone();
        async move { timers.run().await }
    }

    /// Serves a client's connection to its end.
    pub fn serve(
        &self,
        stream: std::net::TcpStream,
    ) -> io::Result<impl Future<Output = ()> + 'static> {
        stream.set_nonblocking(true)?;
        let stream = Bytestream::plain(TcpStream::from_std(stream)?);
        let socket = Socket::of_client(stream, self.half_close);
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let trusted = is_in(&self.trusted, ip).then(|| self.trusted.clone());
        let peer = Peer::new(ip, trusted, false);
        let (worker, jobs) = (self.worker.clone(), self.jobs.clone());
        Ok(async move { serve(worker, &jobs, socket, peer).await })
    }
}
