//! Heads and trailer fields between the crate's form and ours.
//!
//! What came is put into bytes, as if it had come over HTTP/1.1, so that everything behind reads
//! one form. What goes is made of what was written for HTTP/1.1 (RFC 9113, 8.2 and 8.3).

use std::io;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http::{request, response, uri};

use super::fields::Fields;
use crate::wire::h1::body::Framing;
use crate::wire::h1::head::{
    BadHead, MAX_FIELDS, find_end, read_request as read_lines, read_trailers, response_framing,
};
use crate::wire::head::{Head, Known, Message, Span};
use crate::wire::headers;
use crate::wire::reply::LocalReply;
use crate::wire::sink::Sink;

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

/// Reads a client's request into `to`, at most so many fields.
pub(crate) fn read_request(
    request: &request::Parts,
    most: usize,
    to: &mut Vec<u8>,
    head: &mut Head,
) -> Result<(), Unfit> {
    let method = put(to, request.method.as_str().as_bytes());
    let path = request
        .uri
        .path_and_query()
        .map_or("", PathAndQuery::as_str);
    let target = put(to, path.as_bytes());
    head.request(Version::HTTP_2, method, target);
    let is_path = path.starts_with('/') || path == "*" || request.method == Method::CONNECT;
    let may_have = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    if !is_path || !path.bytes().all(may_have) {
        return Err(LocalReply::BadTarget.into());
    }
    if request.headers.len() > most {
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
    Ok(())
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

/// Reads an endpoint's response into `to`. `is_over`: no body follows.
pub(crate) fn read_response(
    response: &response::Parts,
    is_over: bool,
    to_head: bool,
    to: &mut Vec<u8>,
    head: &mut Head,
) -> Result<Framing, BadHead> {
    let reason = response.status.canonical_reason().unwrap_or_default();
    let reason = put(to, reason.as_bytes());
    head.response(Version::HTTP_2, response.status.as_u16(), reason);
    for (name, value) in &response.headers {
        push(head, to, name.as_str().as_bytes(), value.as_bytes());
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
/// form has and a URI has not is refused, and not put right (RFC 9112, 3.2).
pub(crate) fn read_sent_request(text: &[u8], scheme: &Scheme) -> Result<Request<()>, LocalReply> {
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
    *request.method_mut() =
        Method::from_bytes(message.method()).map_err(|_| LocalReply::BadSyntax)?;
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| LocalReply::BadTarget)?;
    let mut fields = Fields::default();
    for line in message.fields() {
        let stays = matches!(
            line.known,
            Known::Connection | Known::Host | Known::TransferEncoding | Known::Upgrade
        );
        if !stays {
            fields.pass(line);
        }
    }
    *request.headers_mut() = fields.into_map();
    Ok(request)
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
    fn what_could_be_read_in_two_ways_is_not_passed_on() {
        #[track_caller]
        fn check(request: request::Builder, want: impl Into<Unfit>) {
            assert_eq!(read(request), Err(want.into()));
        }
        let get = || Request::get("http://a.test/");
        check(get().header("host", "b.test"), LocalReply::BadHost);
        check(get().header("x", " a"), Unfit::Malformed);
        check(get().header("x", "a\t"), Unfit::Malformed);
        check(Request::get("http://a.test/é"), LocalReply::BadTarget);
        let many = (0..5).fold(get(), |request, n| request.header(format!("x-{n}"), "1"));
        check(many, LocalReply::HeadTooLong);
    }

    #[test]
    fn a_head_for_an_endpoint_becomes_fields() {
        let text = b"POST /a?b HTTP/1.1\r\nhost: a.test:1\r\nte: trailers\r\nconnection: te\r\n\
            transfer-encoding: chunked\r\n\r\n5\r\n";
        let request = read_sent_request(text, &Scheme::HTTP).unwrap();
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
        let request = read_sent_request(star, &Scheme::HTTPS).unwrap();
        assert_eq!(request.uri().path(), "*");
    }

    #[test]
    fn only_what_may_be_a_trailer_is_one() {
        let trailers = trailers_of(b"x-sum: 1\r\ncontent-length: 5\r\nhost: a\r\n\r\n").unwrap();
        assert_eq!(trailers.len(), 1);
        assert_eq!(trailers["x-sum"], "1");
    }
}
