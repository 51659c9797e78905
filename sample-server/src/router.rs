//! The life of a request: count, route, respond.

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
use crate::response::{ResponseBody, Responses, full, json, text};
use crate::websocket;

/// The state that all connections share.
#[derive(Debug)]
pub(crate) struct Router {
    config: Config,
    started: Instant,
    faults: Faults,
    responses: Responses,
    /// Notified when a request crashes the server.
    pub(crate) crash: Notify,
}

/// Holds the upgrade after a WebSocket handshake, for the connection to take.
pub(crate) type UpgradeSlot = Arc<Mutex<Option<OnUpgrade>>>;

impl Router {
    pub(crate) fn new(config: Config, now: Instant) -> Self {
        Self {
            started: now,
            faults: Faults::new(&config),
            responses: Responses::new(&config),
            crash: Notify::new(),
            config,
        }
    }

    pub(crate) fn version(&self) -> &str {
        &self.config.version
    }

    /// Responds to one request. An error means that the client did not complete its body.
    pub(crate) async fn respond(
        &self,
        request: Request<Incoming>,
        upgrades: &UpgradeSlot,
    ) -> Result<Response<ResponseBody>, hyper::Error> {
        if request.uri().path() == "/healthz" {
            return Ok(self.health());
        }
        if self.faults.crashes() {
            self.crash.notify_one();
            // The process ends now: there is no response.
            return std::future::pending().await;
        }
        match request.uri().path() {
            "/echo" => Ok(echo(request)),
            "/ws" => Ok(websocket_handshake(request, upgrades)),
            "/headers" => {
                let (head, body) = request.into_parts();
                discard(body).await?;
                Ok(echo_head(&head))
            }
            "/slow" => {
                let (head, body) = request.into_parts();
                discard(body).await?;
                match wait_in_query(head.uri.query()) {
                    Some(wait) => {
                        sleep(wait).await;
                        Ok(self.hello().await)
                    }
                    None => Ok(text(
                        StatusCode::BAD_REQUEST,
                        "write a time, such as /slow?for=2s or /slow?for=500ms\n",
                    )),
                }
            }
            _ => {
                discard(request.into_body()).await?;
                Ok(self.hello().await)
            }
        }
    }

    fn health(&self) -> Response<ResponseBody> {
        if is_healthy(&self.config, self.started.elapsed()) {
            text(StatusCode::OK, "ok")
        } else {
            text(StatusCode::SERVICE_UNAVAILABLE, "not ready")
        }
    }

    async fn hello(&self) -> Response<ResponseBody> {
        if !self.config.latency.is_zero() {
            sleep(self.config.latency).await;
        }
        self.responses.with(self.faults.next())
    }
}

/// Reads a body and discards it, so that the connection can be kept.
async fn discard(mut body: Incoming) -> Result<(), hyper::Error> {
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(())
}

/// The value of `for=` in a query.
fn wait_in_query(query: Option<&str>) -> Option<Duration> {
    let text = query?
        .split('&')
        .find_map(|pair| pair.strip_prefix("for="))?;
    humantime::parse_duration(text).ok()
}

fn echo(request: Request<Incoming>) -> Response<ResponseBody> {
    if request.method() != Method::POST {
        let mut response = text(
            StatusCode::METHOD_NOT_ALLOWED,
            "POST something to be echoed\n",
        );
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("POST"));
        return response;
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

fn echo_head(head: &Parts) -> Response<ResponseBody> {
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
    // Strings always serialize.
    json(
        StatusCode::OK,
        full(serde_json::to_vec(&shown).unwrap_or_default()),
    )
}

fn websocket_handshake(
    mut request: Request<Incoming>,
    slot: &UpgradeSlot,
) -> Response<ResponseBody> {
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
        assert_eq!(wait_in_query(Some("for=2s")), Some(Duration::from_secs(2)));
        assert_eq!(
            wait_in_query(Some("a=b&for=50ms")),
            Some(Duration::from_millis(50))
        );
        assert_eq!(wait_in_query(Some("for=two")), None);
        assert_eq!(wait_in_query(Some("before=2s")), None);
        assert_eq!(wait_in_query(None), None);
    }
}
