//! A server on a free port, and clients that see every byte.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use sample_server::{Config, Ended, ListenAddress, bind, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;

pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Ended>,
}

impl TestServer {
    pub(crate) async fn start(config: Config) -> Self {
        let any = ListenAddress::Ip("127.0.0.1:0".parse().unwrap());
        let (listener, address) = bind(any).await.unwrap();
        let ListenAddress::Ip(address) = address else {
            panic!("{address} is not the address that was bound");
        };
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let task = tokio::spawn(run(config, listener, shutdown));
        Self {
            address,
            stop: Some(stop),
            task,
        }
    }

    /// Stops it as a signal would.
    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    pub(crate) async fn ended(self) -> Ended {
        self.task.await.unwrap()
    }

    /// A client with one keep-alive connection.
    pub(crate) async fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Client { sender }
    }

    /// Opens a connection and sends these bytes.
    pub(crate) async fn open(&self, request: &str) -> RawClient {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let mut raw = RawClient {
            stream,
            read: Vec::new(),
        };
        raw.write(request).await;
        raw
    }

    /// Sends these bytes on a new connection and returns everything that comes back.
    pub(crate) async fn exchange(&self, request: &str) -> Vec<u8> {
        self.open(request).await.read_to_end().await.into_bytes()
    }

    pub(crate) async fn websocket(
        &self,
        path: &str,
    ) -> Result<WebSocketStream<TcpStream>, tungstenite::Error> {
        let stream = TcpStream::connect(self.address).await?;
        let url = format!("ws://{}{path}", self.address);
        tokio_tungstenite::client_async(url, stream)
            .await
            .map(|(socket, _)| socket)
    }
}

pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    pub(crate) async fn get(&mut self, path: &str) -> hyper::Result<TestResponse> {
        self.send("GET", path, "").await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &str) -> hyper::Result<TestResponse> {
        self.send("POST", path, body).await
    }

    async fn send(&mut self, method: &str, path: &str, body: &str) -> hyper::Result<TestResponse> {
        self.sender.ready().await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "test")
            .body(Full::from(body.to_owned()))
            .unwrap();
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(TestResponse {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
        })
    }
}

#[derive(Debug)]
pub(crate) struct TestResponse {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl TestResponse {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap().to_str().unwrap()
    }
}

pub(crate) struct RawClient {
    stream: TcpStream,
    read: Vec<u8>,
}

impl RawClient {
    pub(crate) async fn write(&mut self, bytes: &str) {
        self.stream.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// Reads until everything that was read ends with `end`.
    pub(crate) async fn read_until(&mut self, end: &str) {
        while !self.read.ends_with(end.as_bytes()) {
            let read = self.stream.read_buf(&mut self.read).await.unwrap();
            assert!(
                read > 0,
                "closed after {:?}",
                String::from_utf8_lossy(&self.read)
            );
        }
    }

    /// Reads to the end of the connection and returns every byte of it.
    pub(crate) async fn read_to_end(mut self) -> String {
        self.stream.read_to_end(&mut self.read).await.unwrap();
        String::from_utf8(self.read).unwrap()
    }
}
