//! The proxy's own answers: a status, a reason that programs can read, and a body.
//!
//! The reason is in `Proxy-Status` (RFC 9209), with the error types of its section 2.3.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};

use crate::body::Body;

static PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Why the proxy answers in an endpoint's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// `Host` is missing, there twice, or not a host (RFC 9112, 3.2).
    BadHost,
    /// `CONNECT` asks for a tunnel, which a reverse proxy does not give.
    Connect,
    /// No service has this host and path.
    NoRoute,
    /// No endpoint of the service is up.
    NoEndpoint,
    /// No connection to an endpoint could be made.
    ConnectFailed,
    /// No connection to an endpoint was made in time.
    ConnectTimedOut,
    /// This machine has no file descriptor, port or memory left for a connection.
    Shortage,
    /// The connection to the endpoint broke before it answered.
    ConnectionBroken,
    /// The endpoint's answer was not HTTP.
    BadAnswer,
    /// The endpoint did not answer in time.
    TimedOut,
    /// The client stopped sending in the middle of its request.
    ClientStalled,
    /// The request was still unanswered when its endpoint's drain ran out of time.
    Cut,
}

impl Refusal {
    /// Every reason there is.
    pub(crate) const ALL: [Self; Self::COUNT] = [
        Self::BadHost,
        Self::Connect,
        Self::NoRoute,
        Self::NoEndpoint,
        Self::ConnectFailed,
        Self::ConnectTimedOut,
        Self::Shortage,
        Self::ConnectionBroken,
        Self::BadAnswer,
        Self::TimedOut,
        Self::ClientStalled,
        Self::Cut,
    ];
    pub(crate) const COUNT: usize = 12;

    /// A word for metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::BadHost => "bad_host",
            Self::Connect => "connect_method",
            Self::NoRoute => "no_route",
            Self::NoEndpoint => "no_endpoint",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectTimedOut => "connect_timed_out",
            Self::Shortage => "shortage",
            Self::ConnectionBroken => "connection_broken",
            Self::BadAnswer => "bad_answer",
            Self::TimedOut => "timed_out",
            Self::ClientStalled => "client_stalled",
            Self::Cut => "cut",
        }
    }

    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::BadHost => StatusCode::BAD_REQUEST,
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::ClientStalled => StatusCode::REQUEST_TIMEOUT,
            Self::NoEndpoint | Self::Shortage => StatusCode::SERVICE_UNAVAILABLE,
            Self::ConnectFailed | Self::ConnectionBroken | Self::BadAnswer => {
                StatusCode::BAD_GATEWAY
            }
            Self::ConnectTimedOut | Self::TimedOut | Self::Cut => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The value of `Proxy-Status`.
    fn reason(self) -> &'static str {
        match self {
            Self::BadHost | Self::Connect | Self::ClientStalled => {
                "crossfade; error=http_request_error"
            }
            Self::NoRoute => "crossfade; error=destination_not_found",
            Self::NoEndpoint => "crossfade; error=destination_unavailable",
            Self::ConnectFailed => "crossfade; error=connection_refused",
            Self::ConnectTimedOut => "crossfade; error=connection_timeout",
            Self::Shortage => "crossfade; error=proxy_internal_error",
            Self::ConnectionBroken => "crossfade; error=connection_terminated",
            Self::BadAnswer => "crossfade; error=http_protocol_error",
            Self::TimedOut => "crossfade; error=http_response_timeout",
            Self::Cut => "crossfade; error=connection_terminated; details=\"drained\"",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::BadHost => "the request needs exactly one valid Host field",
            Self::Connect => "CONNECT is not supported here",
            Self::NoRoute => "no service answers to this host and path",
            Self::NoEndpoint => "no endpoint of this service is up",
            Self::ConnectFailed => "no connection to an endpoint could be made",
            Self::ConnectTimedOut => "no connection to an endpoint was made in time",
            Self::Shortage => "the proxy has run out of file descriptors, ports or memory",
            Self::ConnectionBroken => "the endpoint closed the connection before it answered",
            Self::BadAnswer => "the endpoint's answer was not valid HTTP",
            Self::TimedOut => "the endpoint did not answer in time",
            Self::ClientStalled => "the request's body stopped in the middle",
            Self::Cut => "the endpoint is being removed and did not answer in time",
        }
    }

    /// The answer, in JSON or in plain text.
    pub(crate) fn reply(self, json: bool) -> Response<Body> {
        let (content_type, body) = if json {
            let json = serde_json::json!({
                "error": { "status": self.status().as_u16(), "message": self.message() }
            });
            ("application/json", format!("{json}\n"))
        } else {
            ("text/plain; charset=utf-8", format!("{}\n", self.message()))
        };
        let mut response = Response::new(Body::Full(Bytes::from(body)));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(&PROXY_STATUS, HeaderValue::from_static(self.reason()));
        response
    }
}

/// Whether a client would like its errors in JSON.
pub(crate) fn wants_json(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("application/json"))
}
