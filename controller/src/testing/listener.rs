//! A listener that responds what a test says.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;

/// Responds with these, one after the other, and gives what it was sent.
pub(crate) async fn listener(
    responses: Vec<(u16, &'static str)>,
) -> (String, mpsc::UnboundedReceiver<String>) {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = socket.local_addr().expect("bound");
    let (heard, hear) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for (status, text) in responses {
            let (stream, _) = socket.accept().await.expect("accepted");
            let heard = heard.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let heard = heard.clone();
                async move {
                    let token = request.headers().get("authorization");
                    let token = token
                        .map_or("-", |token| token.to_str().expect("text"))
                        .to_owned();
                    let body = request.into_body().collect().await?.to_bytes();
                    let body = String::from_utf8_lossy(&body).into_owned();
                    let _ = heard.send(format!("{token} {body}"));
                    let mut response = Response::new(Full::<Bytes>::from(text));
                    *response.status_mut() = status.try_into().expect("a status");
                    Ok::<_, hyper::Error>(response)
                }
            });
            let serve = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // The client may be gone before the response is.
            let _ = serve.await;
        }
    });
    (format!("http://{address}/secret-path"), hear)
}
