//! The proxy's own responses: a status, a reason that programs can read, and a body.
//!
//! The reason is in `Proxy-Status` (RFC 9209), with the error types of its section 2.3.

use http::StatusCode;

use crate::wire::head::{Known, Message};
use crate::wire::sink::Sink;

/// In seconds: a hold, as a service without an endpoint, is meant to be short, and who waited already
/// may wait again.
const WAITED_RETRY_AFTER: &[u8] = b"1";

/// The reason of every refusal that is the client's doing.
const REQUEST_ERROR: &str = "crossfade; error=http_request_error";

/// Reasons that got a new word in this release: the old one, and the present one. Dashboards and
/// processes of the release before know the old ones.
const RENAMED: [(&str, &str); 3] = [
    ("bad_answer", "bad_response"),
    ("held_well", "held_health_check"),
    ("shortage", "resource_exhausted"),
];

/// Declares the enum, and the list of its variants: none can be forgotten there.
macro_rules! listed {
    (
        $(#[$of_enum:meta])*
        pub(crate) enum $name:ident {
            $($(#[$of_variant:meta])* $variant:ident,)*
        }
    ) => {
        $(#[$of_enum])*
        pub(crate) enum $name {
            $($(#[$of_variant])* $variant,)*
        }

        impl $name {
            /// Every reason there is.
            pub(crate) const ALL: [Self; Self::COUNT] = [$(Self::$variant,)*];
            pub(crate) const COUNT: usize = [$(Self::$variant,)*].len();
        }
    };
}

listed! {
    /// Why the proxy sends a response of its own.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum LocalReply {
        /// It is not HTTP, or not strictly (RFC 9112, 2.2 to 5).
        BadSyntax,
        /// Its body's length is ambiguous, or its chunks are broken (RFC 9112, 6.3 and 7.1).
        BadFraming,
        /// Its target has none of the forms of RFC 9112, 3.2.
        BadTarget,
        /// Its path has a broken escape, or leads above the root or out of the prefix that it begins
        /// with (RFC 3986, 2.1 and 5.2.4).
        BadPath,
        /// `Host` is missing, there twice, or not a host (RFC 9112, 3.2).
        BadHost,
        /// It came without TLS, where that is spoken.
        PlainHttp,
        /// A transfer coding other than chunked (RFC 9112, 6.1).
        UnknownCoding,
        /// A version of HTTP that is not spoken here (RFC 9110, 15.6.6).
        UnknownVersion,
        /// The target is longer than `limits.request_line` (RFC 9112, 3).
        TargetTooLong,
        /// The head is longer than `limits.header_bytes`, or has more than `limits.header_count`
        /// fields (RFC 6585, 5).
        HeadTooLong,
        /// The body is longer than `limits.body` (RFC 9110, 15.5.14).
        BodyTooLong,
        /// The head was not there in `timeouts.header`.
        HeadTimedOut,
        /// `CONNECT` asks for a tunnel, which a reverse proxy does not give.
        Connect,
        /// `TRACE`, which the service does not allow. It would disclose internal header fields.
        Trace,
        /// It asks for another protocol than HTTP/2 can change to, or than the endpoint does.
        UpgradeOverHttp2,
        /// `OPTIONS` that may not be passed on further (RFC 9110, 7.6.2).
        LastOptions,
        /// `TRACE` that may not be passed on further. It would disclose internal header fields.
        LastTrace,
        /// The client's address may not have this service.
        AccessDenied,
        /// The client has sent more requests than `limits.requests` has.
        TooManyRequests,
        /// More requests than `limits.in_flight` are under way.
        TooManyInFlight,
        /// The service is under maintenance.
        Maintenance,
        /// The service is elsewhere.
        Redirected,
        /// A browser wants to know whether a page of another site may use the service.
        Preflight,
        /// The request has no password, or a wrong one (RFC 9110, 15.5.2).
        Unauthorized,
        /// Too many passwords wait for their check.
        PasswordsWait,
        /// The service has a fixed response.
        Responded,
        /// No service has this host and path.
        NoRoute,
        /// No endpoint of the service is up.
        NoEndpoint,
        /// No endpoint of the service came up in `timeouts.wait_for_endpoint`, or too many requests wait
        /// for one.
        NoEndpointInTime,
        /// The service is held, and the request waited too long or found the queue full.
        ServiceHeld,
        /// The service is held, and the request asked whether it is well: it is.
        HeldHealthCheck,
        /// No connection to an endpoint could be made.
        ConnectFailed,
        /// No connection to an endpoint was made in time.
        ConnectTimedOut,
        /// This machine has no file descriptor, port or memory left for a connection.
        ResourceExhausted,
        /// The connection to the endpoint broke before it responded.
        ConnectionBroken,
        /// The endpoint's response was not HTTP.
        BadResponse,
        /// The endpoint did not respond in time.
        TimedOut,
        /// The endpoint went down while it was waited for: its health check gets no response either.
        EndpointSilent,
        /// The request got no response within `timeouts.request`, by whatever endpoints it was sent to.
        RequestTimedOut,
        /// The client stopped sending in the middle of its request.
        ClientStalled,
        /// The client has gone: there is no one to respond to.
        ClientGone,
        /// The request had no response yet when its endpoint's drain ran out of time.
        Cut,
    }
}

impl LocalReply {
    /// A word for metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::BadSyntax => "bad_syntax",
            Self::BadFraming => "bad_framing",
            Self::BadTarget => "bad_target",
            Self::BadPath => "bad_path",
            Self::BadHost => "bad_host",
            Self::PlainHttp => "plain_http",
            Self::UnknownCoding => "unknown_coding",
            Self::UnknownVersion => "unknown_version",
            Self::TargetTooLong => "target_too_long",
            Self::HeadTooLong => "head_too_long",
            Self::BodyTooLong => "body_too_long",
            Self::HeadTimedOut => "head_timed_out",
            Self::Connect => "connect_method",
            Self::Trace => "trace_method",
            Self::UpgradeOverHttp2 => "upgrade_over_http2",
            Self::LastOptions => "last_options",
            Self::LastTrace => "last_trace",
            Self::AccessDenied => "access_denied",
            Self::TooManyRequests => "too_many_requests",
            Self::TooManyInFlight => "too_many_in_flight",
            Self::Maintenance => "maintenance",
            Self::Redirected => "redirected",
            Self::Preflight => "preflight",
            Self::Unauthorized => "unauthorized",
            Self::PasswordsWait => "passwords_wait",
            Self::Responded => "responded",
            Self::NoRoute => "no_route",
            Self::NoEndpoint => "no_endpoint",
            Self::NoEndpointInTime => "no_endpoint_in_time",
            Self::ServiceHeld => "held",
            Self::HeldHealthCheck => "held_health_check",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectTimedOut => "connect_timed_out",
            Self::ResourceExhausted => "resource_exhausted",
            Self::ConnectionBroken => "connection_broken",
            Self::BadResponse => "bad_response",
            Self::TimedOut => "timed_out",
            Self::EndpointSilent => "endpoint_silent",
            Self::RequestTimedOut => "request_timed_out",
            Self::ClientStalled => "client_stalled",
            Self::ClientGone => "client_gone",
            Self::Cut => "cut",
        }
    }

    /// The word of this release for a reason, given one of this release or of the one before.
    pub(crate) fn present_label(label: &str) -> &str {
        let renamed = RENAMED.iter().find(|(old, _)| *old == label);
        renamed.map_or(label, |(_, present)| present)
    }

    /// The word of the release before for a reason.
    pub(crate) fn old_label(label: &str) -> &str {
        let renamed = RENAMED.iter().find(|(_, present)| *present == label);
        renamed.map_or(label, |(old, _)| old)
    }

    /// The status of the response.
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::BadSyntax
            | Self::BadFraming
            | Self::BadTarget
            | Self::BadPath
            | Self::BadHost
            | Self::PlainHttp => StatusCode::BAD_REQUEST,
            Self::UnknownCoding | Self::UpgradeOverHttp2 => StatusCode::NOT_IMPLEMENTED,
            Self::UnknownVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLong => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyTooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Connect | Self::Trace | Self::LastTrace => StatusCode::METHOD_NOT_ALLOWED,
            Self::AccessDenied => StatusCode::FORBIDDEN,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::NoRoute => StatusCode::NOT_FOUND,
            // Where the service says nothing else.
            Self::Redirected => StatusCode::FOUND,
            Self::Preflight => StatusCode::NO_CONTENT,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::HeldHealthCheck | Self::LastOptions | Self::Responded => StatusCode::OK,
            Self::HeadTimedOut | Self::ClientStalled | Self::ClientGone => {
                StatusCode::REQUEST_TIMEOUT
            }
            Self::NoEndpoint
            | Self::NoEndpointInTime
            | Self::ServiceHeld
            | Self::Maintenance
            | Self::TooManyInFlight
            | Self::PasswordsWait
            | Self::ResourceExhausted => StatusCode::SERVICE_UNAVAILABLE,
            Self::ConnectFailed | Self::ConnectionBroken | Self::BadResponse => {
                StatusCode::BAD_GATEWAY
            }
            Self::ConnectTimedOut
            | Self::TimedOut
            | Self::EndpointSilent
            | Self::RequestTimedOut
            | Self::Cut => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// Whether where the next request begins can no longer be known.
    pub(crate) fn ends_connection(self) -> bool {
        self == Self::Cut || self.reason() == REQUEST_ERROR
    }

    /// The value of `Proxy-Status`.
    fn reason(self) -> &'static str {
        match self {
            Self::BadSyntax
            | Self::BadFraming
            | Self::BadTarget
            | Self::BadPath
            | Self::BadHost
            | Self::PlainHttp
            | Self::UnknownCoding
            | Self::UnknownVersion
            | Self::TargetTooLong
            | Self::HeadTooLong
            | Self::BodyTooLong
            | Self::HeadTimedOut
            | Self::Connect
            | Self::Trace
            | Self::UpgradeOverHttp2
            | Self::LastTrace
            | Self::ClientStalled
            | Self::ClientGone => REQUEST_ERROR,
            Self::LastOptions => "crossfade; details=\"max-forwards\"",
            Self::AccessDenied => "crossfade; error=http_request_denied",
            Self::TooManyRequests => "crossfade; error=http_request_denied; details=\"rate\"",
            Self::TooManyInFlight => {
                "crossfade; error=destination_unavailable; details=\"in-flight\""
            }
            Self::Maintenance => {
                "crossfade; error=destination_unavailable; details=\"maintenance\""
            }
            Self::Redirected => "crossfade; details=\"redirect\"",
            Self::Preflight => "crossfade; details=\"preflight\"",
            Self::Unauthorized => "crossfade; error=http_request_denied; details=\"password\"",
            Self::PasswordsWait => {
                "crossfade; error=destination_unavailable; details=\"passwords\""
            }
            Self::Responded => "crossfade; details=\"respond\"",
            Self::NoRoute => "crossfade; error=destination_not_found",
            Self::NoEndpoint => "crossfade; error=destination_unavailable",
            Self::NoEndpointInTime => {
                "crossfade; error=destination_unavailable; details=\"waited\""
            }
            Self::ServiceHeld => "crossfade; error=destination_unavailable; details=\"held\"",
            Self::HeldHealthCheck => "crossfade; details=\"held\"",
            Self::ConnectFailed => "crossfade; error=connection_refused",
            Self::ConnectTimedOut => "crossfade; error=connection_timeout",
            Self::ResourceExhausted => "crossfade; error=proxy_internal_error",
            Self::ConnectionBroken => "crossfade; error=connection_terminated",
            Self::BadResponse => "crossfade; error=http_protocol_error",
            Self::TimedOut => "crossfade; error=http_response_timeout",
            Self::EndpointSilent => "crossfade; error=http_response_timeout; details=\"down\"",
            Self::RequestTimedOut => "crossfade; error=http_response_timeout; details=\"request\"",
            Self::Cut => "crossfade; error=connection_terminated; details=\"drained\"",
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::BadSyntax => "the request is not valid HTTP/1.1",
            Self::BadFraming => "the length of the request's body is ambiguous or wrong",
            Self::BadTarget => "the request's target is neither a path nor an http URL",
            Self::BadPath => {
                "the request's path has a broken escape, or leads above the root or out of its prefix"
            }
            Self::PlainHttp => "a plain HTTP request was sent to an HTTPS port",
            Self::UnknownCoding => "the only supported transfer coding is `chunked`",
            Self::UnknownVersion => "this version of HTTP is not supported here",
            Self::TargetTooLong => "the request's target is too long",
            Self::HeadTooLong => "the request's header fields are too long or too many",
            Self::BodyTooLong => "the request's body is too long",
            Self::HeadTimedOut => "the request's head did not arrive in time",
            Self::BadHost => "the request needs exactly one valid Host field",
            Self::Connect => "CONNECT is not supported here",
            Self::UpgradeOverHttp2 => "this change of protocol is not supported over HTTP/2",
            Self::LastOptions => "this proxy is the request's final recipient (Max-Forwards: 0)",
            Self::Trace | Self::LastTrace => "TRACE is not supported here",
            Self::AccessDenied => "this address has no access here",
            Self::TooManyRequests => "there were too many requests; try again later",
            Self::TooManyInFlight => "too many requests are under way; try again soon",
            Self::Maintenance => "the service is under maintenance; try again later",
            Self::Redirected => "the resource is elsewhere: see Location",
            Self::Preflight => "see the Access-Control fields",
            Self::Unauthorized => "a name and its password are needed",
            Self::PasswordsWait => "too many passwords wait for their check; try again soon",
            Self::Responded => "this is all that there is",
            Self::NoRoute => "no service has this host and path",
            Self::NoEndpoint => "no endpoint of this service is up",
            Self::NoEndpointInTime => "no endpoint of this service came up in time; try again soon",
            Self::ServiceHeld => "the service is on hold; try again soon",
            Self::HeldHealthCheck => "the service is on hold, and healthy",
            Self::ConnectFailed => "cannot connect to an endpoint",
            Self::ConnectTimedOut => "connecting to an endpoint timed out",
            Self::ResourceExhausted => "the proxy has run out of file descriptors, ports or memory",
            Self::ConnectionBroken => "the endpoint closed the connection before it responded",
            Self::BadResponse => "the endpoint's response was not valid HTTP",
            Self::TimedOut => "the endpoint did not respond in time",
            Self::EndpointSilent => "the endpoint went down before it responded",
            Self::RequestTimedOut => "the request got no response within timeouts.request",
            Self::ClientStalled => "the request's body stalled",
            Self::ClientGone => "the client closed the connection",
            Self::Cut => "the endpoint is being removed and did not respond in time",
        }
    }

    /// The response's header fields and its body: in JSON where that is wanted, or in plain text.
    pub(crate) fn write(self, json: bool, fields: &mut impl Sink) -> String {
        let (content_type, body) = if json {
            let json = serde_json::json!({
                "error": { "status": self.status().as_u16(), "message": self.message() }
            });
            ("application/json", format!("{json}\n"))
        } else {
            ("text/plain; charset=utf-8", format!("{}\n", self.message()))
        };
        self.write_fields(content_type, body.len(), fields);
        body
    }

    /// The header fields of a response with a body of this type and length.
    pub(crate) fn write_fields(self, content_type: &str, length: usize, fields: &mut impl Sink) {
        fields.add(b"content-type", &[content_type.as_bytes()]);
        let mut digits = itoa::Buffer::new();
        fields.add(b"content-length", &[digits.format(length).as_bytes()]);
        if matches!(self, Self::ServiceHeld | Self::NoEndpointInTime) {
            fields.add(b"retry-after", &[WAITED_RETRY_AFTER]);
        }
        self.write_reason(fields);
    }

    /// Writes the field that has the reason.
    pub(crate) fn write_reason(self, fields: &mut impl Sink) {
        fields.add(b"proxy-status", &[self.reason().as_bytes()]);
    }
}

/// Whether a client would like its errors in JSON.
pub(crate) fn wants_json(request: Message<'_>) -> bool {
    let json = b"application/json";
    request
        .values(Known::Accept)
        .any(|value| value.windows(json.len()).any(|part| part == json))
}
