//! A listener that answers what a test says.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;

/// Answers with these, one after the other, and gives what it was sent.
pub(crate) async fn listener(
    answers: Vec<(u16, &'static str)>,
) -> (String, mpsc::UnboundedReceiver<String>) {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = socket.local_addr().expect("bound");
    let (heard, hear) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for (status, text) in answers {
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
                    let mut answer = Response::new(Full::<Bytes>::from(text));
                    *answer.status_mut() = status.try_into().expect("a status");
                    Ok::<_, hyper::Error>(answer)
                }
            });
            let serve = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            // Whoever asked may be gone before the answer is.
            let _ = serve.await;
        }
    });
    (format!("http://{address}/secret-path"), hear)
}
