//! An endpoint that speaks gRPC's health protocol and nothing else.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A server of `grpc.health.v1.Health` that knows the service `shop.Cart`.
pub struct GrpcHealth {
    /// Where it listens.
    pub address: SocketAddr,
    status: Arc<AtomicU8>,
    task: JoinHandle<()>,
}

impl GrpcHealth {
    /// Starts it; what it says is SERVING.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let status = Arc::new(AtomicU8::new(1));
        let shared = status.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let status = shared.clone();
                let service = service_fn(move |request| response(request, status.clone()));
                let connection = http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        Self {
            address,
            status,
            task,
        }
    }

    /// From here on it says this: 1 is SERVING, 2 is NOT_SERVING.
    pub fn say(&self, status: u8) {
        self.status.store(status, Ordering::Relaxed);
    }
}

impl Drop for GrpcHealth {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn response(
    request: Request<Incoming>,
    status: Arc<AtomicU8>,
) -> Result<Response<impl http_body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let path = request.uri().path().to_owned();
    let is_grpc = request
        .headers()
        .get("content-type")
        .is_some_and(|kind| kind == "application/grpc");
    let sent = request.into_body().collect().await;
    let sent = sent.expect("the request is whole").to_bytes();
    let known = is_grpc
        && path == "/grpc.health.v1.Health/Check"
        && sent == b"\0\0\0\0\x0B\x0A\x09shop.Cart"[..];
    let (code, body) = if known {
        let status = status.load(Ordering::Relaxed);
        ("0", Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, status]))
    } else {
        ("5", Bytes::new())
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(code));
    let body = Full::new(body).with_trailers(std::future::ready(Some(Ok(trailers))));
    let response = Response::builder().header("content-type", "application/grpc");
    Ok(response.body(body).expect("the response is valid"))
}
