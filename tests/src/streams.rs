//! HTTP/2 as clients and endpoints speak it: streams whose two halves a test moves by hand.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::{wait_until, within};

/// A client's connection.
pub struct StreamClient {
    sender: SendRequest<Bytes>,
    task: JoinHandle<Result<(), h2::Error>>,
}

/// A response that came on a stream, read to its end.
#[derive(Debug)]
pub struct StreamReply {
    /// Its status.
    pub status: StatusCode,
    /// Its header fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: String,
    /// Its trailer fields.
    pub trailers: HeaderMap,
}

impl StreamClient {
    /// Connects with prior knowledge.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the port is open");
        Self::over(stream).await
    }

    /// Speaks HTTP/2 over this.
    pub async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Self {
        let handshake = h2::client::handshake(stream);
        let (sender, connection) = within("a preface", handshake).await.expect("a preface");
        Self {
            sender,
            task: tokio::spawn(connection),
        }
    }

    /// Begins a request for `http://web.test/…`; its body may follow, unless it `ends` here.
    pub async fn begin(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        ends: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let mut request = Request::builder().method(method);
        request = match method {
            "CONNECT" => request.uri("web.test:80"),
            _ => request.uri(format!("http://web.test{path}")),
        };
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(()).expect("the test's request is valid");
        let ready = within("room for a stream", self.sender.clone().ready()).await;
        ready?.send_request(request, ends)
    }

    /// Asks for another protocol by extended CONNECT (RFC 8441, 4), which the server has to offer.
    pub async fn connect_to(
        &self,
        protocol: &str,
        path: &str,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let request = Request::builder()
            .method("CONNECT")
            .uri(format!("http://web.test{path}"))
            .header("sec-websocket-version", "13")
            .extension(h2::ext::Protocol::from(protocol));
        let request = request.body(()).expect("the test's request is valid");
        let ready = within("room for a stream", self.sender.clone().ready()).await;
        let mut sender = ready?;
        wait_until("the server offers it", || async {
            sender.is_extended_connect_protocol_enabled()
        })
        .await;
        sender.send_request(request, false)
    }

    /// Sends a request, and reads its response.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &str,
    ) -> Result<StreamReply, h2::Error> {
        let (response, mut send) = self.begin(method, path, fields, body.is_empty()).await?;
        if !body.is_empty() {
            send.send_data(Bytes::copy_from_slice(body.as_bytes()), true)?;
        }
        let (head, body) = within("a response", response).await?.into_parts();
        let (body, trailers) = read_out(body).await?;
        Ok(StreamReply {
            status: head.status,
            headers: head.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
            trailers,
        })
    }

    /// Waits for the connection's end. Gives whether it was without an error.
    pub async fn closed(self) -> Result<(), h2::Error> {
        let Self { sender, task } = self;
        let ended = within("the end of the connection", task).await;
        drop(sender);
        ended.expect("the connection does not panic")
    }
}

/// Reads a body to its end, with the trailer fields behind it.
pub async fn read_out(mut body: RecvStream) -> Result<(Vec<u8>, HeaderMap), h2::Error> {
    let mut all = Vec::new();
    while let Some(chunk) = within("a chunk", body.data()).await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        all.extend_from_slice(&chunk);
    }
    let trailers = within("trailer fields", body.trailers()).await?;
    Ok((all, trailers.unwrap_or_default()))
}

/// Sends a body, and trailer fields behind it.
pub async fn send_out(send: &mut SendStream<Bytes>, body: &[u8], trailers: &[(&str, &str)]) {
    let body = Bytes::copy_from_slice(body);
    // A client that is gone does not read it.
    let _ = send.send_data(body, false);
    let mut fields = HeaderMap::new();
    for (name, value) in trailers {
        let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
        fields.append(name, HeaderValue::from_str(value).expect("a value"));
    }
    let _ = send.send_trailers(fields);
}

/// What a stream of an endpoint does, by the path that is asked for:
///
/// - `/echo` sends the body back, chunk by chunk as it comes, with `grpc-status: 0` and the
///   request's own trailer fields behind it;
/// - `/fields` responds with the request's pseudo-header and header fields, a line for each;
/// - `/hints` sends a 103 before its response;
/// - `/hang` never responds; `/cut` sends less than it has promised;
/// - CONNECT sends back what comes, whatever the path;
/// - anything else is responded to with the version, or is refused by an endpoint that refuses.
pub struct StreamEndpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its version.
    pub version: &'static str,
    heard: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

/// Streams that an endpoint takes on one connection.
pub const MAX_STREAMS: u32 = 10;

impl StreamEndpoint {
    /// One that responds.
    pub async fn start(version: &'static str) -> Self {
        Self::with(Script::new(version), None).await
    }

    /// One that grants WebSockets (RFC 8441), and sends back what comes on them.
    pub async fn with_websockets(version: &'static str) -> Self {
        let mut script = Script::new(version);
        script.websockets = true;
        Self::with(script, None).await
    }

    /// One that ends a connection, with all that is on it, once so many of its streams were reset, and
    /// 33 more each second: as nghttp2 does against CVE-2023-44487.
    pub async fn strict(version: &'static str, max_resets: usize) -> Self {
        let mut script = Script::new(version);
        script.max_resets = max_resets;
        Self::with(script, None).await
    }

    /// One that refuses every stream, without having looked at it (RFC 9113, 8.7).
    pub async fn refusing(version: &'static str) -> Self {
        let mut script = Script::new(version);
        script.refuses = true;
        Self::with(script, None).await
    }

    /// One that speaks TLS.
    pub async fn with_tls(version: &'static str, tls: TlsAcceptor) -> Self {
        Self::with(Script::new(version), Some(tls)).await
    }

    async fn with(script: Script, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (version, heard) = (script.version, script.heard.clone());
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let stream = Arc::new(script);
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let (script, tls) = (stream.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => script.serve(tcp).await,
                        Some(tls) => match tls.accept(tcp).await {
                            Ok(stream) => script.serve(stream).await,
                            Err(_) => Ok(()),
                        },
                    }
                });
            }
        });
        Self {
            address,
            version,
            heard,
            connections,
            task,
        }
    }

    /// How many connections were made to it.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// The paths of all requests so far.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("no script panics").clone()
    }
}

impl Drop for StreamEndpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Script {
    version: &'static str,
    refuses: bool,
    max_resets: usize,
    websockets: bool,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Script {
    fn new(version: &'static str) -> Self {
        Self {
            version,
            refuses: false,
            max_resets: usize::MAX,
            websockets: false,
            heard: Arc::default(),
        }
    }

    async fn serve(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin,
    ) -> Result<(), h2::Error> {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(MAX_STREAMS);
        if self.websockets {
            builder.enable_connect_protocol();
        }
        let mut connection = builder.handshake(stream).await?;
        let (resets, too_many) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let began = Instant::now();
        loop {
            let stream = tokio::select! {
                stream = connection.accept() => stream,
                () = too_many.notified() => {
                    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    continue;
                }
            };
            let Some(stream) = stream else { return Ok(()) };
            let (request, respond) = stream?;
            let (script, resets, too_many) = (self.clone(), resets.clone(), too_many.clone());
            tokio::spawn(async move {
                // What fails, fails for the one who asked.
                if let Err(error) = script.response(request, respond).await
                    && error.is_reset()
                    && resets.fetch_add(1, Ordering::Relaxed)
                        >= script
                            .max_resets
                            .saturating_add(33 * began.elapsed().as_secs() as usize)
                {
                    too_many.notify_one();
                }
            });
        }
    }

    async fn response(
        &self,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
    ) -> Result<(), h2::Error> {
        let (head, body) = request.into_parts();
        let path = head.uri.path().to_owned();
        self.heard
            .lock()
            .expect("no script panics")
            .push(path.clone());
        if self.refuses {
            respond.send_reset(Reason::REFUSED_STREAM);
            return Ok(());
        }
        match &*path {
            _ if head.method == http::Method::CONNECT => {
                let mut send = respond.send_response(Response::new(()), false)?;
                echo_data(body, &mut send).await?;
                send.send_data(Bytes::new(), true)
            }
            "/echo" => echo(body, respond).await,
            "/hang" => std::future::pending().await,
            "/fields" => {
                let mut text = format!("{} {}\n", head.method, head.uri);
                for (name, value) in &head.headers {
                    text += &format!("{name}: {}\n", value.to_str().unwrap_or("(not text)"));
                }
                let mut send = respond.send_response(Response::new(()), false)?;
                send.send_data(text.into(), true)
            }
            "/hints" => {
                let hints = Response::builder().status(103).header("link", "</a.css>");
                respond.send_informational(hints.body(()).expect("it is valid"))?;
                respond.send_response(Response::new(()), true).map(drop)
            }
            "/cut" => {
                let response = Response::builder().header("content-length", "10");
                let response = response.body(()).expect("it is valid");
                let mut send = respond.send_response(response, false)?;
                send.send_data(Bytes::from_static(b"half"), true)
            }
            _ => {
                read_out(body).await?;
                let mut send = respond.send_response(Response::new(()), false)?;
                send.send_data(self.version.into(), true)
            }
        }
    }
}

/// Sends back what comes, as it comes.
async fn echo(body: RecvStream, mut respond: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let response = Response::builder().header("content-type", "application/grpc");
    let response = response.body(()).expect("it is valid");
    let mut send = respond.send_response(response, false)?;
    let mut trailers = echo_data(body, &mut send).await?;
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    send.send_trailers(trailers)
}

/// The same of the data alone. Gives the trailer fields.
async fn echo_data(
    mut body: RecvStream,
    send: &mut SendStream<Bytes>,
) -> Result<HeaderMap, h2::Error> {
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        let mut rest = chunk.clone();
        while !rest.is_empty() {
            send.reserve_capacity(rest.len());
            let room = loop {
                match send.capacity() {
                    0 => match std::future::poll_fn(|cx| send.poll_capacity(cx)).await {
                        Some(room) => room?,
                        None => return Ok(HeaderMap::new()),
                    },
                    room => break room,
                };
            };
            send.send_data(rest.split_to(room.min(rest.len())), false)?;
        }
        body.flow_control().release_capacity(chunk.len())?;
    }
    Ok(body.trailers().await?.unwrap_or_default())
}
