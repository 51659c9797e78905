//! Endpoints that do what a script tells them, a connection at a time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::clock::moved;
use super::h2_endpoint;
use super::message::{Body, Length, Reader, length_of_request};

/// One thing that an endpoint does on a connection. At the end of its script it closes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Reads a whole request.
    Take,
    /// Reads the head of a request.
    TakeHead,
    /// HTTP/1.1: reads the body of the request whose head it read last.
    TakeBody,
    /// Responds to the request that it took last, with this status and body.
    Respond(u16, &'static str),
    /// Responds with a body of so many times `x`.
    RespondMany(usize),
    /// Responds with a 413 whose body has so many times `x`.
    RefuseWithMany(usize),
    /// Responds with a body of unknown length, and a trailer section of one field.
    RespondWithTrailers(u16, &'static str, (&'static str, &'static str)),
    /// Sends the first bytes of a response's head.
    BeginHead,
    /// Sends the head of a 200 whose body has so many bytes, and the first of them.
    BeginBody(usize, &'static str),
    /// Sends these bytes as they are.
    Say(&'static str),
    /// Does nothing for so long.
    Wait(Duration),
    /// Does nothing until the proxy ends the connection.
    Stall,
    /// Closes the connection as a program does that ends: with a reset, if something is unread.
    Close,
    /// Resets the connection.
    Reset,
    /// HTTP/2: says that the connection ends, and that no stream was looked at after the one
    /// before the last (`false`), or after the last one (`true`).
    GoAway(bool),
    /// HTTP/2: resets the last stream with this code.
    ResetStream(u32),
}

/// What an endpoint speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    Http2,
    /// Nothing: connections are refused.
    Nothing,
    /// Nothing: connections are never made, and never refused.
    Silence,
}

/// A request that came to an endpoint, as far as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) endpoint: usize,
    /// Counted over all endpoints, from 0.
    pub(crate) connection: usize,
    /// Empty over HTTP/2.
    pub(crate) head: String,
    pub(crate) body: Body,
}

/// What the endpoint does on each of its connections.
pub(crate) type Connections<'s> = &'s [&'s [Step]];

/// What all endpoints of a test are to do, and what came to them. The scripts are those of
/// connections in the order in which they are made, to whatever endpoint: so a script says
/// what becomes of a request's first attempt without knowing which endpoint that goes to.
#[derive(Debug, Default)]
pub(crate) struct Script {
    connections: Mine,
    /// Of those endpoints that have scripts of their own.
    own: BTreeMap<usize, Mine>,
    made: Cell<usize>,
    seen: RefCell<Vec<Seen>>,
    ends: RefCell<Vec<ProxyEnd>>,
}

/// How the proxy ended what an endpoint had not responded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyEnd {
    /// HTTP/1.1: it ended the connection.
    Connection,
    /// HTTP/2: it reset the stream, with this code.
    Stream(u32),
}

/// The scripts of connections, and how many were made.
#[derive(Debug, Default)]
struct Mine {
    scripts: Vec<Vec<Step>>,
    made: Cell<usize>,
}

impl Mine {
    fn new(connections: Connections<'_>) -> Self {
        Self {
            scripts: connections.iter().map(|steps| steps.to_vec()).collect(),
            made: Cell::new(0),
        }
    }

    fn next(&self) -> Vec<Step> {
        let number = self.made.get();
        self.made.set(number + 1);
        let steps = self.scripts.get(number).or(self.scripts.last());
        steps.cloned().unwrap_or_default()
    }
}

impl Script {
    /// A connection beyond the last of these does what the last one does. `own` has the scripts
    /// of endpoints that do not take part in this.
    pub(crate) fn new(connections: Connections<'_>, own: &[(usize, Connections<'_>)]) -> Rc<Self> {
        let own = own
            .iter()
            .map(|(number, script)| (*number, Mine::new(script)));
        Rc::new(Self {
            connections: Mine::new(connections),
            own: own.collect(),
            ..Self::default()
        })
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    /// What the proxy has ended while its endpoint stalled.
    pub(crate) fn ends(&self) -> Vec<ProxyEnd> {
        self.ends.borrow().clone()
    }

    pub(super) fn ended(&self, end: ProxyEnd) {
        self.ends.borrow_mut().push(end);
    }

    /// Connections that were made so far.
    pub(crate) fn made(&self) -> usize {
        self.made.get()
    }

    /// Notes a request. Gives its place, for [`Script::came`].
    pub(super) fn begins(&self, endpoint: usize, connection: usize, head: String) -> usize {
        let mut seen = self.seen.borrow_mut();
        seen.push(Seen {
            endpoint,
            connection,
            head,
            body: Body::default(),
        });
        seen.len() - 1
    }

    /// The body of that request was read.
    pub(super) fn came(&self, place: usize, body: Body) {
        self.seen.borrow_mut()[place].body = body;
    }

    fn next(&self, endpoint: usize) -> (usize, Vec<Step>) {
        let number = self.made.get();
        self.made.set(number + 1);
        let mine = self.own.get(&endpoint).unwrap_or(&self.connections);
        (number, mine.next())
    }
}

/// What keeps an endpoint's address its own, and a silent one silent.
pub(crate) struct Address {
    pub(crate) socket: SocketAddr,
    kept: Vec<socket2::Socket>,
}

impl Address {
    /// Serves where connections were refused before.
    pub(super) fn serve(&self, speaks: Speaks, number: usize, script: Rc<Script>) {
        let socket = self.kept[0].try_clone().unwrap();
        socket.listen(128).unwrap();
        socket.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(socket.into()).unwrap();
        tokio::task::spawn_local(serve(listener, speaks, number, script));
    }
}

/// Starts an endpoint, in a task of its own.
pub(crate) async fn start(speaks: Speaks, number: usize, script: Rc<Script>) -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = listener.local_addr().unwrap();
    let kept = match speaks {
        Speaks::Nothing => {
            // Bound and not listened on: its port goes to no one else.
            drop(listener);
            let kept = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
            let kept = kept.unwrap();
            kept.bind(&socket.into()).unwrap();
            vec![kept]
        }
        Speaks::Silence => fill_backlog(&listener),
        Speaks::Http1 | Speaks::Http2 => {
            tokio::task::spawn_local(serve(listener, speaks, number, script));
            Vec::new()
        }
    };
    Address { socket, kept }
}

/// Has a listener drop what asks for a connection: more wait already than it has room for.
fn fill_backlog(listener: &TcpListener) -> Vec<socket2::Socket> {
    let own = SockRef::from(listener);
    own.listen(0).unwrap();
    let address = own.local_addr().unwrap();
    let waiting = (0..3).map(|_| {
        let waiting =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        waiting.set_nonblocking(true).unwrap();
        // In progress, which is all that is wanted.
        let _ = waiting.connect(&address);
        waiting
    });
    waiting.chain([own.try_clone().unwrap()]).collect()
}

async fn serve(listener: TcpListener, speaks: Speaks, number: usize, script: Rc<Script>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        moved();
        let (connection, steps) = script.next(number);
        let script = script.clone();
        tokio::task::spawn_local(async move {
            match speaks {
                Speaks::Http2 => {
                    h2_endpoint::play(stream, &steps, number, connection, &script).await;
                }
                _ => play(stream, &steps, number, connection, &script).await,
            }
        });
    }
}

/// Plays a script over HTTP/1.1, until the proxy has ended the connection.
async fn play(
    stream: TcpStream,
    steps: &[Step],
    endpoint: usize,
    connection: usize,
    script: &Script,
) {
    let mut reader = Reader::new(stream);
    let mut taken = (Length::Bytes(0), 0);
    for step in steps {
        match step {
            Step::Take | Step::TakeHead => {
                let Some(head) = reader.head().await else {
                    return;
                };
                let length = length_of_request(&head);
                taken = (length, script.begins(endpoint, connection, head));
                if *step == Step::Take {
                    script.came(taken.1, reader.body(length).await);
                }
            }
            Step::TakeBody => script.came(taken.1, reader.body(taken.0).await),
            Step::Respond(status, body) => {
                let length = body.len();
                let response =
                    format!("HTTP/1.1 {status} As Told\r\ncontent-length: {length}\r\n\r\n{body}");
                say(&mut reader, &response).await;
            }
            Step::RespondMany(count) => say(&mut reader, &many(200, *count)).await,
            Step::RefuseWithMany(count) => say(&mut reader, &many(413, *count)).await,
            Step::RespondWithTrailers(status, body, (name, value)) => {
                let length = body.len();
                let response = format!(
                    "HTTP/1.1 {status} As Told\r\ntransfer-encoding: chunked\r\n\r\n\
                     {length:x}\r\n{body}\r\n0\r\n{name}: {value}\r\n\r\n"
                );
                say(&mut reader, &response).await;
            }
            Step::BeginHead => say(&mut reader, "HTTP/1.1 200 OK\r\ncontent-le").await,
            Step::BeginBody(length, body) => {
                let response = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
                say(&mut reader, &response).await;
            }
            Step::Say(bytes) => say(&mut reader, bytes).await,
            Step::Wait(time) => tokio::time::sleep(*time).await,
            Step::Stall => {
                let _ = reader.rest().await;
                script.ended(ProxyEnd::Connection);
            }
            Step::Close => return,
            Step::Reset => return reset(&reader.stream.0),
            Step::GoAway(_) | Step::ResetStream(_) => panic!("{step:?} over HTTP/1.1"),
        }
    }
}

fn many(status: u16, count: usize) -> String {
    let head = format!("HTTP/1.1 {status} As Told\r\ncontent-length: {count}\r\n\r\n");
    head + &"x".repeat(count)
}

/// A connection that is gone is no concern of the endpoint's.
async fn say(reader: &mut Reader, bytes: &str) {
    let _ = reader.stream.write_all(bytes.as_bytes()).await;
}

/// Has the connection reset when it is dropped, which the caller does next.
pub(crate) fn reset(stream: &TcpStream) {
    SockRef::from(stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}
