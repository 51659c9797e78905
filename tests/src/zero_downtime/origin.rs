//! An origin: an endpoint that responds to each request as its path says, and reports what it saw.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use super::request::{Kind, Request, chunked};
use super::websocket;
use super::wire::{RequestHead, Wire};
use super::witness::Sight;

/// Where health checks ask.
pub const HEALTH: &str = "/healthz";

/// An origin inside this process. Ends when dropped.
pub struct Origin {
    /// Its number, which every response carries.
    pub number: u32,
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

struct State {
    number: u32,
    saw: Box<dyn Fn(u32, Sight) + Send + Sync>,
    receipt: AtomicBool,
    breaks_posts: AtomicBool,
    open: AtomicUsize,
    stop: Notify,
}

impl Origin {
    /// Listens on loopback. Port 0: any that is free.
    pub async fn start(
        number: u32,
        port: u16,
        saw: impl Fn(u32, Sight) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            number,
            saw: Box::new(saw),
            receipt: AtomicBool::new(false),
            breaks_posts: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            stop: Notify::new(),
        });
        let accepting = tokio::spawn(accept(listener, state.clone()));
        Ok(Self {
            number,
            address,
            state,
            accepting,
        })
    }

    /// The proxy has given its receipt: whatever comes from now on should not.
    pub fn has_its_receipt(&self) {
        self.state.receipt.store(true, Ordering::SeqCst);
    }

    /// From now on it closes the connection in place of a response to a POST that
    /// [`Request::is_to_break`].
    pub fn breaks_posts(&self) {
        self.state.breaks_posts.store(true, Ordering::SeqCst);
    }

    /// Ends every connection, as the end of a process does. It goes on listening only to tell
    /// what still comes.
    pub fn stop(&self) {
        self.state.stop.notify_one();
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // One that was gone before it was accepted.
                let Ok((stream, _)) = accepted else { continue };
                connections.spawn(serve(stream, state.clone()));
            }
            () = state.stop.notified() => connections.abort_all(),
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Counts a connection for as long as its task lives, however that ends.
struct Open(Arc<State>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    state.open.fetch_add(1, Ordering::SeqCst);
    let open = Open(state);
    // How it ended is the proxy's to judge: what matters here was told when it was seen.
    let _ = converse(stream, &open.0).await;
}

async fn converse(stream: TcpStream, state: &State) -> io::Result<()> {
    let mut wire = Wire::new(stream)?;
    while let Some(head) = wire.head().await? {
        let head = RequestHead::parse(&head)?;
        if head.path == HEALTH {
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .await?;
        } else if let Some(request) = Request::from_path(&head.path) {
            state.tell(Sight::Came(request));
            if state.receipt.load(Ordering::SeqCst) {
                state.tell(Sight::AfterReceipt(request));
            }
            match wire.body(head.length).await {
                Ok(body) if body == request.upload() => {}
                Ok(body) => {
                    let why = format!("{} bytes, not {}", body.len(), request.upload().len());
                    state.tell(Sight::BadUpload(request, why));
                }
                Err(error) => {
                    state.tell(Sight::BadUpload(request, error.to_string()));
                    return Err(error);
                }
            }
            if request.is_to_break() && state.breaks_posts.load(Ordering::SeqCst) {
                break;
            }
            response(&mut wire, state.number, request).await?;
        } else {
            wire.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                .await?;
        }
        if head.close {
            break;
        }
    }
    Ok(())
}

impl State {
    fn tell(&self, sight: Sight) {
        (self.saw)(self.number, sight);
    }
}

async fn response(wire: &mut Wire, number: u32, request: Request) -> io::Result<()> {
    if request.kind == Kind::WebSocket {
        wire.send(&websocket::granted(number)).await?;
        loop {
            let payload = websocket::payload(wire).await?;
            wire.send(&websocket::plain(&payload)).await?;
        }
    }
    let body = request.response();
    let in_chunks = request.is_response_chunked();
    let length = if in_chunks {
        "Transfer-Encoding: chunked".to_owned()
    } else {
        format!("Content-Length: {}", body.len())
    };
    let mut bytes =
        format!("HTTP/1.1 200 OK\r\n{length}\r\nX-Endpoint: {number}\r\n\r\n").into_bytes();
    let head = bytes.len();
    if in_chunks {
        chunked(&body, request.chunk(), &mut bytes);
    } else {
        bytes.extend(body);
    }
    let pause = request.pause();
    if pause.is_zero() {
        return wire.send(&bytes).await;
    }
    // Before the head, or in the middle of the body.
    let (first, second) = match request.id % 3 {
        0 => (pause, Duration::ZERO),
        1 => (Duration::ZERO, pause),
        _ => (pause / 2, pause / 2),
    };
    let middle = head + (bytes.len() - head) / 2;
    tokio::time::sleep(first).await;
    wire.send(&bytes[..middle]).await?;
    tokio::time::sleep(second).await;
    wire.send(&bytes[middle..]).await
}
