//! The life of a request: counted, routed, answered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::faults::{Faults, is_healthy};
use crate::options::Config;
use crate::reply::{Replies, ReplyBody, full, json, text};
use crate::websocket;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Router {
    config: Config,
    started: Instant,
    faults: Faults,
    replies: Replies,
    /// Told when a request crashes the server.
    pub(crate) crash: Notify,
}

/// Where a connection finds the WebSocket it has become.
pub(crate) type UpgradeSlot = Arc<Mutex<Option<OnUpgrade>>>;

impl Router {
    pub(crate) fn new(config: Config, now: Instant) -> Self {
        Self {
            started: now,
            faults: Faults::new(&config),
            replies: Replies::new(&config),
            crash: Notify::new(),
            config,
        }
    }

    pub(crate) fn version(&self) -> &str {
        &self.config.version
    }

    /// Answers one request. An error means that the client broke off its body.
    pub(crate) async fn answer(
        &self,
        request: Request<Incoming>,
        upgrades: &UpgradeSlot,
    ) -> Result<Response<ReplyBody>, hyper::Error> {
        if request.uri().path() == "/healthz" {
            return Ok(self.health());
        }
        if self.faults.crashes() {
            self.crash.notify_one();
            // The process is about to end; nobody gets an answer any more.
            return std::future::pending().await;
        }
        match request.uri().path() {
            "/echo" => Ok(echo(request)),
            "/ws" => Ok(websocket_handshake(request, upgrades)),
            "/headers" => {
                let (head, body) = request.into_parts();
                read_out(body).await?;
                Ok(show(&head))
            }
            "/slow" => {
                let (head, body) = request.into_parts();
                read_out(body).await?;
                match wait_asked_for(head.uri.query()) {
                    Some(wait) => {
                        sleep(wait).await;
                        Ok(self.hello().await)
                    }
                    None => Ok(text(
                        StatusCode::BAD_REQUEST,
                        "say for how long, such as /slow?for=2s or /slow?for=500ms\n",
                    )),
                }
            }
            _ => {
                read_out(request.into_body()).await?;
                Ok(self.hello().await)
            }
        }
    }

    fn health(&self) -> Response<ReplyBody> {
        if is_healthy(&self.config, self.started.elapsed()) {
            text(StatusCode::OK, "ok")
        } else {
            text(StatusCode::SERVICE_UNAVAILABLE, "not ready")
        }
    }

    async fn hello(&self) -> Response<ReplyBody> {
        if !self.config.latency.is_zero() {
            sleep(self.config.latency).await;
        }
        self.replies.with(self.faults.next())
    }
}

/// Reads a body that nobody wants: a connection with half a request on it could not be kept.
async fn read_out(mut body: Incoming) -> Result<(), hyper::Error> {
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(())
}

/// `for=2s` in a query.
fn wait_asked_for(query: Option<&str>) -> Option<Duration> {
    let text = query?
        .split('&')
        .find_map(|pair| pair.strip_prefix("for="))?;
    humantime::parse_duration(text).ok()
}

fn echo(request: Request<Incoming>) -> Response<ReplyBody> {
    if request.method() != Method::POST {
        let mut refusal = text(
            StatusCode::METHOD_NOT_ALLOWED,
            "POST something to be echoed\n",
        );
        refusal
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("POST"));
        return refusal;
    }
    let (mut head, body) = request.into_parts();
    let mut response = Response::new(body.map_err(Into::into).boxed_unsync());
    if let Some(kind) = head.headers.remove(CONTENT_TYPE) {
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response
}

#[derive(Serialize)]
struct Head<'a> {
    method: &'a str,
    path: String,
    headers: Vec<(&'a str, String)>,
}

fn show(head: &Parts) -> Response<ReplyBody> {
    let headers = head
        .headers
        .iter()
        .map(|(name, value)| {
            (
                name.as_str(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect();
    let shown = Head {
        method: head.method.as_str(),
        path: head.uri.to_string(),
        headers,
    };
    // Strings are always JSON; nothing here can fail.
    json(
        StatusCode::OK,
        full(serde_json::to_vec(&shown).unwrap_or_default()),
    )
}

fn websocket_handshake(mut request: Request<Incoming>, slot: &UpgradeSlot) -> Response<ReplyBody> {
    match websocket::check(&request) {
        Ok(key) => {
            let upgrade = hyper::upgrade::on(&mut request);
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(upgrade);
            websocket::switch(key, full(""))
        }
        Err(why) => websocket::refuse(full(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_read_from_the_query() {
        assert_eq!(wait_asked_for(Some("for=2s")), Some(Duration::from_secs(2)));
        assert_eq!(
            wait_asked_for(Some("a=b&for=50ms")),
            Some(Duration::from_millis(50))
        );
        assert_eq!(wait_asked_for(Some("for=two")), None);
        assert_eq!(wait_asked_for(Some("before=2s")), None);
        assert_eq!(wait_asked_for(None), None);
    }
}
