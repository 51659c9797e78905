//! What a line looks like: JSON, or a text with variables, named as those who know nginx know them.

use serde::Deserialize;

use crate::names::header_name;
use crate::strict::closest;

/// What nginx and Apache call so.
const COMBINED: &str = "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" \"$http_user_agent\"";
/// What comes before the name of a header field.
const FIELD: &str = "http_";
/// Fields that prove who a client is, and that no log is to have.
const SECRET: [&str; 3] = ["authorization", "proxy-authorization", "cookie"];

/// What a line looks like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum LogFormat {
    /// An object for each request.
    #[default]
    Json,
    /// A text.
    Text {
        /// As it was written: `combined`, or a template.
        text: String,
        /// What it is made of.
        pieces: Vec<Piece>,
    },
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it is.
    Literal(String),
    /// What is known of a request.
    Variable(Variable),
    /// The value of a header field of a request, whose name is in lower case.
    Field(String),
}

/// Declares the enum, and the names of its variants: none can be forgotten there.
macro_rules! named {
    (
        $(#[$of_enum:meta])*
        pub enum $enum:ident {
            $($(#[$of_variant:meta])* $variant:ident = $name:literal,)*
        }
    ) => {
        $(#[$of_enum])*
        pub enum $enum {
            $($(#[$of_variant])* $variant,)*
        }

        impl $enum {
            /// Every variable with its name.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$variant, $name),)*];
        }
    };
}

named! {
    /// What is known of a request that has ended.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Variable {
        /// How many endpoints it was sent to.
        Attempts = "attempts",
        /// Its query.
        Args = "args",
        /// Bytes of the response's body.
        BodyBytesSent = "body_bytes_sent",
        /// Bytes of its own body.
        BytesIn = "bytes_in",
        /// Its host, with the port.
        Host = "host",
        /// Seconds since 1970, with milliseconds.
        Msec = "msec",
        /// The same as `args`.
        QueryString = "query_string",
        /// The peer on the connection.
        RealipRemoteAddr = "realip_remote_addr",
        /// The client's address.
        RemoteAddr = "remote_addr",
        /// Always `-`.
        RemoteUser = "remote_user",
        /// Method, target and protocol.
        Request = "request",
        /// `X-Request-Id`.
        RequestId = "request_id",
        /// Bytes of its head and its body.
        RequestLength = "request_length",
        /// Its method.
        RequestMethod = "request_method",
        /// From its head to the end of its response, in seconds with milliseconds.
        RequestTime = "request_time",
        /// Its target.
        RequestUri = "request_uri",
        /// `http` or `https`.
        Scheme = "scheme",
        /// `HTTP/1.1`
        ServerProtocol = "server_protocol",
        /// The name of its service.
        Service = "service",
        /// The TLS version of the connection.
        SslProtocol = "ssl_protocol",
        /// The status of its response.
        Status = "status",
        /// Who ended it, in which phase.
        Termination = "termination",
        /// When it ended, in ISO 8601.
        TimeIso8601 = "time_iso8601",
        /// When it ended, as combined has it.
        TimeLocal = "time_local",
        /// The trace id in `traceparent`.
        TraceId = "trace_id",
        /// The endpoint of its last attempt.
        UpstreamAddr = "upstream_addr",
        /// How long connections to endpoints took to open.
        UpstreamConnectTime = "upstream_connect_time",
        /// From the first attempt to the head of the response.
        UpstreamHeaderTime = "upstream_header_time",
        /// From the first attempt to the end of the response.
        UpstreamResponseTime = "upstream_response_time",
        /// The status of its response, if that is an endpoint's.
        UpstreamStatus = "upstream_status",
        /// The path of its target.
        Uri = "uri",
        /// The version that served it.
        Version = "version",
        /// How long it waited before its first attempt.
        WaitTime = "wait_time",
    }
}

impl TryFrom<String> for LogFormat {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let template = match text.as_str() {
            "json" => return Ok(Self::Json),
            "combined" => COMBINED,
            other => other,
        };
        if !template.contains('$') {
            return Err(unknown_format(&text));
        }
        if let Some(control) = template.chars().find(|c| c.is_control() && *c != '\t') {
            return Err(format!(
                "a template is one line: it cannot have the control character {control:?}"
            ));
        }
        let pieces = pieces_of(template)?;
        Ok(Self::Text { text, pieces })
    }
}

impl From<LogFormat> for String {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Json => "json".to_owned(),
            LogFormat::Text { text, .. } => text,
        }
    }
}

fn unknown_format(text: &str) -> String {
    let message = format!(
        "`{text}` is neither `json` nor `combined`, and no template: that has variables such as `$remote_addr`"
    );
    match closest(text, ["json", "combined"]) {
        Some(meant) => format!("{message}; did you mean `{meant}`?"),
        None => message,
    }
}

fn pieces_of(template: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((literal, behind)) = rest.split_once('$') {
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal.to_owned()));
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (name, after) = match behind.strip_prefix('{') {
            Some(inner) => inner
                .split_once('}')
                .ok_or_else(|| format!("`${behind}`: the `}}` is missing"))?,
            None => behind.split_at(behind.find(|c| !is_name(c)).unwrap_or(behind.len())),
        };
        if name.is_empty() {
            return Err("a `$` has no name behind it, such as `$status`".to_owned());
        }
        pieces.push(piece_of(name)?);
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest.to_owned()));
    }
    Ok(pieces)
}

fn piece_of(name: &str) -> Result<Piece, String> {
    let known = Variable::ALL.iter().find(|(_, known)| *known == name);
    if let Some((variable, _)) = known {
        return Ok(Piece::Variable(*variable));
    }
    if let Some(field) = name.strip_prefix(FIELD)
        && let Ok(field) = header_name(&field.replace('_', "-"))
    {
        let field = field.as_str().to_owned();
        return match SECRET.contains(&field.as_str()) {
            true => Err(format!(
                "`${name}` is never logged: it proves who a client is"
            )),
            false => Ok(Piece::Field(field)),
        };
    }
    let names = Variable::ALL.iter().map(|(_, name)| *name);
    let message = format!("`${name}` is no variable of the access log");
    Err(match closest(name, names) {
        Some(meant) => format!("{message}; did you mean `${meant}`?"),
        None => message,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, part: &str) {
        let error = LogFormat::try_from(text.to_owned()).unwrap_err();
        assert!(error.contains(part), "{error}");
    }

    fn pieces(text: &str) -> Vec<Piece> {
        match LogFormat::try_from(text.to_owned()) {
            Ok(LogFormat::Text { pieces, .. }) => pieces,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_template_is_literals_variables_and_fields() {
        let literal = |text: &str| Piece::Literal(text.to_owned());
        let field = |text: &str| Piece::Field(text.to_owned());
        assert_eq!(
            pieces("a$status ${request}b$http_X_Real_Ip"),
            [
                literal("a"),
                Piece::Variable(Variable::Status),
                literal(" "),
                Piece::Variable(Variable::Request),
                literal("b"),
                field("x-real-ip"),
            ]
        );
        assert_eq!(pieces("combined").len(), 16);
    }

    #[test]
    fn an_unknown_name_is_an_error_that_says_which_was_meant() {
        refused("$remote_adr", "did you mean `$remote_addr`?");
        refused("$stauts $request", "`$stauts` is no variable");
        refused("$zzzzzzzzz", "`$zzzzzzzzz` is no variable");
        refused("100$", "has no name behind it");
        refused("$ status", "has no name behind it");
        refused("${status", "the `}` is missing");
        refused("jsn", "did you mean `json`?");
        refused("plain", "is neither `json` nor `combined`");
        refused("", "is neither `json` nor `combined`");
    }

    #[test]
    fn what_proves_who_a_client_is_cannot_be_logged() {
        refused("$http_authorization", "is never logged");
        refused("$http_Cookie", "is never logged");
        refused("$http_proxy_authorization", "is never logged");
    }

    #[test]
    fn a_template_is_one_line() {
        refused("$status\n$request", "control character '\\n'");
        refused("$status\u{9b}", "control character");
        assert_eq!(pieces("$status\t$request").len(), 3);
    }
}
