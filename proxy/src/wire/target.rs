//! What a request is for: its target and its host (RFC 9112, 3.2 and 3.3).

use admin_api::SendPath;
use http::Version;

use crate::wire::head::{Known, Message};
use crate::wire::path::{Path, write_escaped};
use crate::wire::reply::LocalReply;

/// A request's target, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target<'m> {
    /// The host without its port and without the dot that it may end with, empty where there is none.
    pub(crate) host: &'m [u8],
    /// The port of the host, empty where there is none.
    pub(crate) port: &'m [u8],
    /// The host with its port, as `Host` should say it.
    pub(crate) authority: &'m [u8],
    pub(crate) path: Path<'m>,
    /// With its `?`, empty where there is none.
    query: &'m [u8],
}

impl<'m> Target<'m> {
    /// The target of a request; what is no valid one is refused.
    pub(crate) fn of(request: Message<'m>) -> Result<Self, LocalReply> {
        let method = request.method();
        if method == b"CONNECT" {
            return Err(LocalReply::Connect);
        }
        let mut fields = request.values(Known::Host);
        let field = match (fields.next(), fields.next()) {
            (None, _) if request.version() != Version::HTTP_10 => return Err(LocalReply::BadHost),
            (_, Some(_)) => return Err(LocalReply::BadHost),
            (field, None) => field.unwrap_or_default(),
        };
        // Checked even where another authority outranks it.
        let of_field = host_of(field).ok_or(LocalReply::BadHost)?;
        let target = request.target();
        if target.starts_with(b"/") || target == b"*" && method == b"OPTIONS" {
            return Self::new(of_field, field, target);
        }
        let (authority, origin) = absolute(target).ok_or(LocalReply::BadTarget)?;
        let host = host_of(authority).filter(|(host, _)| !host.is_empty());
        let host = host.ok_or(LocalReply::BadHost)?;
        if origin.is_empty() && method == b"OPTIONS" {
            return Self::new(host, authority, b"*");
        }
        Self::new(host, authority, origin)
    }

    fn new(
        (host, port): (&'m [u8], &'m [u8]),
        authority: &'m [u8],
        origin: &'m [u8],
    ) -> Result<Self, LocalReply> {
        let (path, query) = Path::split_off(origin).map_err(|_| LocalReply::BadPath)?;
        Ok(Self {
            host: host.strip_suffix(b".").unwrap_or(host),
            port,
            authority,
            path,
            query,
        })
    }

    /// The query with its `?`, empty where there is none.
    pub(crate) fn query(&self) -> &'m [u8] {
        self.query
    }

    /// Writes the target as an origin server gets it (RFC 9112, 3.2.1), with its path in this form,
    /// and without the prefix that is to be stripped. It is ASCII, whatever came.
    pub(crate) fn write_origin_form(&self, form: SendPath, strip: Option<&str>, to: &mut Vec<u8>) {
        self.path.write(form, strip, to);
        write_escaped(self.query, to);
    }
}

/// The authority, and the path and query, of an absolute-form target.
fn absolute(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = target.iter().position(|byte| *byte == b':')?;
    let (scheme, rest) = target.split_at(colon);
    let rest = rest.strip_prefix(b"://")?;
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return None;
    }
    let end = rest.iter().position(|byte| b"/?".contains(byte));
    Some(rest.split_at(end.unwrap_or(rest.len())))
}

/// What a host's name is made of: of what RFC 3986 allows, nothing that a list could be made of.
/// A table, since every byte of every request's host is looked up.
const IN_NAME: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        allowed[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"-._~%!$&'()*+;=";
    let mut at = 0;
    while at < others.len() {
        allowed[others[at] as usize] = true;
        at += 1;
    }
    allowed
};

/// The host and the port of an authority, which has no user information in HTTP (RFC 9110, 4.2.4).
/// `None`: it is no authority.
fn host_of(authority: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = if authority.starts_with(b"[") {
        literal_length(authority)?
    } else {
        let is_over = |byte: &u8| !IN_NAME[usize::from(*byte)];
        authority
            .iter()
            .position(is_over)
            .unwrap_or(authority.len())
    };
    match authority.split_at(end) {
        (host, []) => Some((host, b"")),
        (host, [b':', port @ ..]) => {
            let is_port = port.len() <= 5 && port.iter().all(u8::is_ascii_digit);
            is_port.then_some((host, port))
        }
        _ => None,
    }
}

/// How long the IP literal in brackets is that an authority begins with.
fn literal_length(authority: &[u8]) -> Option<usize> {
    let end = authority.iter().position(|byte| *byte == b']')?;
    let valid = |byte: &u8| byte.is_ascii_hexdigit() || b":.".contains(byte);
    let literal = &authority[1..end];
    (!literal.is_empty() && literal.iter().all(valid)).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::h1::head::read_request;
    use crate::wire::head::Head;

    fn with_target<T>(head: &str, read: impl FnOnce(Result<Target<'_>, LocalReply>) -> T) -> T {
        let text = format!("{}\r\n\r\n", head.replace('\n', "\r\n"));
        let mut head = Head::default();
        read_request(text.as_bytes(), 100, &mut head).unwrap();
        read(Target::of(head.over(text.as_bytes())))
    }

    #[test]
    fn a_target_is_taken_apart() {
        #[track_caller]
        fn check(head: &str, host: &str, authority: &str, path: &str) {
            with_target(head, |target| {
                let target = target.unwrap_or_else(|reply| panic!("{head:?}: {reply:?}"));
                assert_eq!(
                    (target.host, target.authority, target.path.normal()),
                    (host.as_bytes(), authority.as_bytes(), path.as_bytes())
                );
            });
        }
        check("GET /a?b=/c HTTP/1.1\nHost: h:80", "h", "h:80", "/a");
        check("GET http://r/a HTTP/1.1\nHost: h", "r", "r", "/a");
        check("GET HTTPS://r:8080?q HTTP/1.1\nHost: h", "r", "r:8080", "/");
        check("OPTIONS * HTTP/1.1\nHost: h", "h", "h", "*");
        check("GET / HTTP/1.1\nHost: [::1]:80", "[::1]", "[::1]:80", "/");
        check("GET / HTTP/1.1\nHost: h:", "h", "h:", "/");
        check("GET / HTTP/1.1\nHost: a.h.", "a.h", "a.h.", "/");
        check("GET / HTTP/1.1\nHost: a.h.:80", "a.h", "a.h.:80", "/");
        check("GET http://r./a HTTP/1.1\nHost: h", "r", "r.", "/a");
        check("GET / HTTP/1.1\nHost:", "", "", "/");
        check("GET / HTTP/1.0", "", "", "/");
    }

    #[test]
    fn what_is_no_target_is_refused() {
        #[track_caller]
        fn check(head: &str, want: LocalReply) {
            with_target(head, |target| {
                assert_eq!(target.err(), Some(want), "{head:?}");
            });
        }
        for host in [
            "a b", "user@a", "a/b", "a,b", "a:b", "a:1:2", "[::1", "[x]", "[::1]x", "a\\b", "é",
        ] {
            check(
                &format!("GET / HTTP/1.1\nHost: {host}"),
                LocalReply::BadHost,
            );
        }
        check("GET / HTTP/1.1", LocalReply::BadHost);
        check("GET / HTTP/1.1\nHost: a\nHost: a", LocalReply::BadHost);
        check("GET http://u:p@a/ HTTP/1.1\nHost: a", LocalReply::BadHost);
        check("GET http:///x HTTP/1.1\nHost: a", LocalReply::BadHost);
        check("GET http://b/ HTTP/1.1\nHost: a b", LocalReply::BadHost);
        check("GET a HTTP/1.1\nHost: a", LocalReply::BadTarget);
        check("GET * HTTP/1.1\nHost: a", LocalReply::BadTarget);
        check("GET ftp://a/ HTTP/1.1\nHost: a", LocalReply::BadTarget);
        check("CONNECT a:1 HTTP/1.1\nHost: a", LocalReply::Connect);
        for path in ["/..", "/a/%2e%2e/..", "/%", "/%2", "/%g0"] {
            check(
                &format!("GET {path} HTTP/1.1\nHost: a"),
                LocalReply::BadPath,
            );
            check(
                &format!("GET http://a{path} HTTP/1.1\nHost: a"),
                LocalReply::BadPath,
            );
        }
    }

    #[test]
    fn a_target_is_sent_in_origin_form_without_its_prefix() {
        #[track_caller]
        fn check(target: &str, strip: Option<&str>, want: &str) {
            let method = if target == "*" { "OPTIONS" } else { "GET" };
            with_target(&format!("{method} {target} HTTP/1.1\nHost: h"), |target| {
                let mut written = Vec::new();
                let target = target.unwrap();
                target.write_origin_form(SendPath::Auto, strip, &mut written);
                assert_eq!(String::from_utf8(written).unwrap(), want);
            });
        }
        check("/a?b=c", None, "/a?b=c");
        check("http://host/a?b", None, "/a?b");
        check("http://host", None, "/");
        check("http://host?/../b//%7e", None, "/?/../b//%7e");
        check("/api/v1", Some("/api"), "/v1");
        check("/api", Some("/api"), "/");
        check("/api?x", Some("/api"), "/?x");
        check("/api//evil.test?x", Some("/api"), "/evil.test?x");
        check("/a/../b?../c//d%2e", None, "/b?../c//d%2e");
        check("/é?é=嘊", None, "/%C3%A9?%C3%A9=%E5%98%8A");
        check("http://host?é", None, "/?%C3%A9");
        check("*", None, "*");
    }
}
