//! Heads and trailer fields between the crate's form and ours.
//!
//! What came is put into bytes, as if it had come over HTTP/1.1, so that everything behind reads
//! one form. What goes is made of what was written for HTTP/1.1 (RFC 9113, 8.2 and 8.3).

use std::io;

use h2::ext::Protocol;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http::{request, response, uri};

use super::fields::Fields;
use crate::wire::h1::body::Framing;
use crate::wire::h1::head::{
    BadHead, MAX_FIELDS, find_end, is_in_target, read_request as read_lines, read_trailers,
    response_framing,
};
use crate::wire::head::{Head, Known, Message, Span};
use crate::wire::headers;
use crate::wire::reply::LocalReply;
use crate::wire::sink::Sink;
use crate::wire::websocket::{self, Accept};

/// Why a request is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It is malformed: an error of its stream (RFC 9113, 8.1.1).
    Malformed,
    Refused(LocalReply),
}

impl From<LocalReply> for Unfit {
    fn from(reply: LocalReply) -> Self {
        Self::Refused(reply)
    }
}

/// Reads a client's request into `to`, at most so many fields. One that asks for a WebSocket
/// (RFC 8441) is read as if it had come over HTTP/1.1; gives what its endpoint has to say then.
pub(crate) fn read_request(
    request: &request::Parts,
    most: usize,
    to: &mut Vec<u8>,
    head: &mut Head,
) -> Result<Option<Accept>, Unfit> {
    let is_websocket = match request.extensions.get::<Protocol>() {
        None => false,
        Some(protocol) if protocol.as_str() == websocket::PROTOCOL => true,
        Some(_) => return Err(LocalReply::UpgradeOverHttp2.into()),
    };
    let method = if is_websocket {
        Method::GET.as_str()
    } else {
        request.method.as_str()
    };
    let is_connect = method == Method::CONNECT;
    let method = put(to, method.as_bytes());
    let path = request
        .uri
        .path_and_query()
        .map_or("", PathAndQuery::as_str);
    let target = put(to, path.as_bytes());
    head.request(Version::HTTP_2, method, target);
    let is_path = path.starts_with('/') || path == "*" || is_connect;
    if !is_path || !path.bytes().all(is_in_target) {
        return Err(LocalReply::BadTarget.into());
    }
    if count(&request.headers) > most {
        return Err(LocalReply::HeadTooLong.into());
    }
    if let Some(authority) = request.uri.authority() {
        push(head, to, b"host", authority.as_str().as_bytes());
    }
    for (name, value) in &request.headers {
        if is_padded(value) {
            return Err(Unfit::Malformed);
        }
        match *name {
            // Joined below (RFC 9113, 8.2.3).
            http::header::COOKIE => {}
            // It gets another one below.
            http::header::SEC_WEBSOCKET_KEY if is_websocket => {}
            http::header::HOST if request.uri.authority().is_some() => {
                // It may say the same once more (8.3.1).
                let authority = request.uri.authority().map_or("", Authority::as_str);
                if !value.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) {
                    return Err(LocalReply::BadHost.into());
                }
            }
            _ => push(head, to, name.as_str().as_bytes(), value.as_bytes()),
        }
    }
    push_cookies(&request.headers, to, head);
    Ok(is_websocket.then(|| push_upgrade(to, head)))
}

/// Adds the fields that ask for a WebSocket. Gives what the endpoint has to say.
fn push_upgrade(to: &mut Vec<u8>, head: &mut Head) -> Accept {
    let key = websocket::new_key();
    push(head, to, b"connection", b"upgrade");
    push(head, to, b"upgrade", websocket::PROTOCOL.as_bytes());
    push(head, to, websocket::KEY.as_bytes(), &key);
    Accept::of(&key)
}

/// How many fields there are, once cookies are one of them.
fn count(fields: &HeaderMap) -> usize {
    let cookies = fields.get_all(http::header::COOKIE).iter().count();
    fields.len() - cookies.saturating_sub(1)
}

/// Whether a value has white space around it, which it must not have (RFC 9113, 8.2.1).
fn is_padded(value: &HeaderValue) -> bool {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    is_space(value.as_bytes().first()) || is_space(value.as_bytes().last())
}

/// Cookies may come as crumbs, in fields of their own.
fn push_cookies(fields: &HeaderMap, to: &mut Vec<u8>, head: &mut Head) {
    let mut crumbs = fields.get_all(http::header::COOKIE).iter();
    let Some(first) = crumbs.next() else { return };
    let name = put(to, b"cookie");
    let start = to.len();
    to.extend_from_slice(first.as_bytes());
    for crumb in crumbs {
        to.extend_from_slice(b"; ");
        to.extend_from_slice(crumb.as_bytes());
    }
    head.push(to, name, Span::new(start, to.len()));
}

/// Reads an endpoint's response into `to`. `is_over`: no body follows. One that grants a WebSocket
/// is read as if it had come over HTTP/1.1, with this in it.
pub(crate) fn read_response(
    response: &response::Parts,
    is_over: bool,
    to_head: bool,
    accept: Option<&Accept>,
    to: &mut Vec<u8>,
    head: &mut Head,
) -> Result<Framing, BadHead> {
    let accept = accept.filter(|_| response.status.is_success());
    let status = match accept {
        Some(_) => StatusCode::SWITCHING_PROTOCOLS,
        None => response.status,
    };
    let reason = status.canonical_reason().unwrap_or_default();
    let reason = put(to, reason.as_bytes());
    head.response(Version::HTTP_2, status.as_u16(), reason);
    for (name, value) in &response.headers {
        push(head, to, name.as_str().as_bytes(), value.as_bytes());
    }
    if let Some(accept) = accept {
        push(head, to, b"connection", b"upgrade");
        push(head, to, b"upgrade", websocket::PROTOCOL.as_bytes());
        push(head, to, websocket::ACCEPT.as_bytes(), accept.as_bytes());
    }
    match response_framing(head.over(to), to_head)? {
        _ if is_over => Ok(Framing::Empty),
        framing => Ok(framing),
    }
}

/// Adds a field to a head, and its bytes to what the head is over.
fn push(head: &mut Head, to: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    let at = put(to, name);
    let value = put(to, value);
    head.push(to, at, value);
}

fn put(to: &mut Vec<u8>, bytes: &[u8]) -> Span {
    let start = to.len();
    to.extend_from_slice(bytes);
    Span::new(start, to.len())
}

/// A response with the status of `response`, and the fields that `write` writes.
pub(crate) fn response_of(message: Message<'_>, write: impl FnOnce(&mut Fields)) -> Response<()> {
    let mut response = Response::new(());
    // Whatever was read as a status is one.
    *response.status_mut() = StatusCode::from_u16(message.status()).unwrap_or_default();
    let mut fields = Fields::default();
    write(&mut fields);
    *response.headers_mut() = fields.into_map();
    response
}

/// A request of the head that was written for an endpoint, in the form of HTTP/1.1. What that
/// form has and a URI has not is refused, and not put right (RFC 9112, 3.2). With one that asks for a
/// WebSocket, gives what the response to it says in that form.
pub(crate) fn read_sent_request(
    text: &[u8],
    scheme: &Scheme,
) -> Result<(Request<()>, Option<Accept>), LocalReply> {
    let end = find_end(text, &mut 0)?;
    let text = &text[..end.unwrap_or(text.len())];
    let mut head = Head::default();
    read_lines(text, MAX_FIELDS, &mut head)?;
    let message = head.over(text);
    let mut parts = uri::Parts::default();
    let path = PathAndQuery::try_from(message.target()).map_err(|_| LocalReply::BadTarget)?;
    parts.path_and_query = Some(path);
    let host = message.values(Known::Host).next().unwrap_or_default();
    parts.authority = Some(Authority::try_from(host).map_err(|_| LocalReply::BadHost)?);
    parts.scheme = Some(scheme.clone());
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_11;
    let accept = accept_of(message)?;
    if accept.is_some() {
        *request.method_mut() = Method::CONNECT;
        let protocol = Protocol::from_static(websocket::PROTOCOL);
        request.extensions_mut().insert(protocol);
    } else {
        *request.method_mut() =
            Method::from_bytes(message.method()).map_err(|_| LocalReply::BadSyntax)?;
    }
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| LocalReply::BadTarget)?;
    let mut fields = Fields::default();
    for line in message.fields() {
        let stays = matches!(
            line.known,
            Known::Connection | Known::Host | Known::TransferEncoding | Known::Upgrade
        );
        let is_key = accept.is_some() && line.name.eq_ignore_ascii_case(websocket::KEY.as_bytes());
        if !stays && !is_key {
            fields.pass(line);
        }
    }
    *request.headers_mut() = fields.into_map();
    Ok((request, accept))
}

/// What is to be said to one who asks for a WebSocket; `None`: it asks for no other protocol.
fn accept_of(request: Message<'_>) -> Result<Option<Accept>, LocalReply> {
    if request.values(Known::Upgrade).next().is_none() {
        return Ok(None);
    }
    let mut keys = request.named(websocket::KEY);
    match (keys.next(), keys.next()) {
        (Some(key), None) if websocket::is_named(request) && request.method() == b"GET" => {
            Ok(Some(Accept::of(key)))
        }
        _ => Err(LocalReply::UpgradeOverHttp2),
    }
}

/// The trailer fields that came as lines, without those that only a head may have.
pub(crate) fn trailers_of(lines: &[u8]) -> io::Result<HeaderMap> {
    let mut head = Head::default();
    read_trailers(lines, &mut head).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let mut fields = Fields::default();
    headers::trailers(head.over(lines), &mut fields);
    Ok(fields.into_map())
}

/// Writes fields as lines.
pub(crate) fn push_fields(fields: &HeaderMap, to: &mut Vec<u8>) {
    for (name, value) in fields {
        to.add(name.as_str().as_bytes(), &[value.as_bytes()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::head::Line;

    fn read(request: request::Builder) -> Result<String, Unfit> {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let (mut text, mut head) = (Vec::new(), Head::default());
        read_request(&parts, 4, &mut text, &mut head)?;
        let message = head.over(&text);
        let mut lines = String::new();
        for Line { name, value, .. } in message.fields() {
            let field = [name, b"=", value, b";"].concat();
            lines += std::str::from_utf8(&field).unwrap();
        }
        let line = [message.method(), b" ", message.target(), b" "].concat();
        Ok(String::from_utf8(line).unwrap() + &lines)
    }

    #[test]
    fn a_request_is_read_as_if_it_had_come_in_lines() {
        let request = Request::get("http://a.test:80/b?c")
            .header("cookie", "x=1")
            .header("host", "A.test:80")
            .header("cookie", "y=2");
        let want = "GET /b?c host=a.test:80;cookie=x=1; y=2;";
        assert_eq!(read(request).as_deref(), Ok(want));
        let bare = Request::get("/").header("host", "a.test");
        assert_eq!(read(bare).as_deref(), Ok("GET / host=a.test;"));
    }

    #[test]
    fn cookies_are_one_field_however_many_there_are() {
        let crumbs = |count: usize, more: usize| {
            let get = Request::get("http://a.test/");
            let get = (0..count).fold(get, |get, n| get.header("cookie", format!("c{n}=1")));
            read((0..more).fold(get, |get, n| get.header(format!("x-{n}"), "1")))
        };
        let many = crumbs(500, 3).unwrap();
        assert!(
            many.contains("cookie=c0=1; c1=1; ") && many.ends_with("; c499=1;"),
            "{many}"
        );
        assert_eq!(crumbs(500, 4), Err(LocalReply::HeadTooLong.into()));
        assert!(crumbs(0, 4).is_ok() && crumbs(1, 3).is_ok());
        assert!(crumbs(0, 5).is_err() && crumbs(1, 4).is_err());
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not_passed_on() {
        #[track_caller]
        fn check(request: request::Builder, want: impl Into<Unfit>) {
            assert_eq!(read(request), Err(want.into()));
        }
        let get = || Request::get("http://a.test/");
        check(get().header("host", "b.test"), LocalReply::BadHost);
        check(get().header("x", " a"), Unfit::Malformed);
        check(get().header("x", "a\t"), Unfit::Malformed);
        let many = (0..5).fold(get(), |request, n| request.header(format!("x-{n}"), "1"));
        check(many, LocalReply::HeadTooLong);
    }

    #[test]
    fn a_head_for_an_endpoint_becomes_fields() {
        let text = b"POST /a?b HTTP/1.1\r\nhost: a.test:1\r\nte: trailers\r\nconnection: te\r\n\
            transfer-encoding: chunked\r\n\r\n5\r\n";
        let (request, accept) = read_sent_request(text, &Scheme::HTTP).unwrap();
        assert_eq!(accept, None);
        assert_eq!(request.uri(), "http://a.test:1/a?b");
        let names: Vec<&str> = request.headers().keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["te"]);
        let of = |line: &str, host: &str| {
            let text = format!("{line}\r\nhost: {host}\r\n\r\n");
            read_sent_request(text.as_bytes(), &Scheme::HTTP).map(|_| ())
        };
        for target in ["/<", "/?\"", "/`"] {
            let line = format!("GET {target} HTTP/1.1");
            assert_eq!(of(&line, "a"), Err(LocalReply::BadTarget), "{target}");
        }
        assert_eq!(of("GET / HTTP/1.1", "a%4"), Err(LocalReply::BadHost));
        let star = b"OPTIONS * HTTP/1.1\r\nhost: a.test\r\n\r\n";
        let (request, _) = read_sent_request(star, &Scheme::HTTPS).unwrap();
        assert_eq!(request.uri().path(), "*");
    }

    #[test]
    fn a_websocket_is_requested_by_connect_and_by_nothing_else() {
        let of = |fields: &str| {
            let text = format!("GET /chat?x HTTP/1.1\r\nhost: a.test\r\n{fields}\r\n");
            read_sent_request(text.as_bytes(), &Scheme::HTTP)
        };
        let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let upgrade = format!("upgrade: WebSocket\r\nconnection: upgrade\r\n{key}origin: b\r\n");
        let (request, accept) = of(&upgrade).unwrap();
        assert_eq!(
            (request.method(), request.uri().to_string()),
            (&Method::CONNECT, "http://a.test/chat?x".to_owned())
        );
        let protocol = request.extensions().get::<Protocol>().unwrap();
        assert_eq!(protocol.as_str(), "websocket");
        let names: Vec<&str> = request.headers().keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["origin"]);
        let accept = accept.unwrap();
        assert_eq!(accept.as_bytes(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for fields in [
            "upgrade: websocket\r\nconnection: upgrade\r\n".to_owned(),
            format!("upgrade: echo\r\nconnection: upgrade\r\n{key}"),
            format!("upgrade: websocket, echo\r\nconnection: upgrade\r\n{key}"),
        ] {
            let got = of(&fields).map(|_| ());
            assert_eq!(got, Err(LocalReply::UpgradeOverHttp2), "{fields}");
        }
    }

    #[test]
    fn only_what_may_be_a_trailer_is_one() {
        let trailers = trailers_of(b"x-sum: 1\r\ncontent-length: 5\r\nhost: a\r\n\r\n").unwrap();
        assert_eq!(trailers.len(), 1);
        assert_eq!(trailers["x-sum"], "1");
    }
}
