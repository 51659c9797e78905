//! Servers that send exactly the bytes that a test gives them, and a client to observe.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use sample_client::{Config, RunError, Summary, Target, run};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A complete response that keeps the connection open.
pub(crate) const RESPONSE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 43\r\n\r\n{\"message\":\"Hello World\",\"version\":\"1.0.0\"}";

pub(crate) struct TestServer {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

impl TestServer {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    pub(crate) async fn accept(&self) -> Peer {
        Peer {
            stream: self.listener.accept().await.unwrap().0,
            unread: Vec::new(),
        }
    }

    /// A config for `count` requests, one after the other.
    pub(crate) fn config(&self, count: u64) -> Config {
        Config {
            count: Some(count),
            ..Config::new(target(self.address, "/"))
        }
    }
}

pub(crate) fn target(address: SocketAddr, path: &str) -> Target {
    format!("http://{address}{path}").parse().unwrap()
}

/// The server's end of one connection.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    unread: Vec<u8>,
}

impl Peer {
    /// The head of the next request, or `None` if the client has closed.
    pub(crate) async fn request(&mut self) -> Option<String> {
        loop {
            let end = self.unread.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                let head: Vec<u8> = self.unread.drain(..end + 4).collect();
                return Some(String::from_utf8(head).unwrap());
            }
            match self.stream.read_buf(&mut self.unread).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    pub(crate) async fn send(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// Reads a request and sends these bytes.
    pub(crate) async fn respond(&mut self, bytes: &str) {
        assert!(self.request().await.is_some());
        self.send(bytes).await;
    }

    /// Ends the connection with an RST.
    pub(crate) fn reset(self) {
        SockRef::from(&self.stream)
            .set_linger(Some(std::time::Duration::ZERO))
            .unwrap();
    }
}

/// The output of the client.
#[derive(Clone, Default)]
pub(crate) struct Output(Arc<Mutex<Vec<u8>>>);

impl Output {
    pub(crate) fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().unwrap().clone();
        String::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs the client to its end, together with the server.
pub(crate) async fn watch(
    config: Config,
    server: impl Future<Output = ()>,
) -> (Summary, Vec<String>) {
    let output = Output::default();
    let client = run(config, output.clone(), std::future::pending());
    let (summary, ()) = tokio::join!(client, server);
    (summary.unwrap(), output.lines())
}

/// Runs a client whose standard output is closed.
pub(crate) async fn without_reader(config: Config) -> Result<Summary, RunError> {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    run(config, Gone, std::future::pending()).await
}
