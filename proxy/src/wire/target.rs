//! What a request is for: its target and its host (RFC 9112, 3.2 and 3.3).

use http::Version;

use crate::wire::head::{Known, Message};
use crate::wire::reply::LocalReply;

/// A request's target, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target<'m> {
    /// The host without its port, empty where there is none.
    pub(crate) host: &'m [u8],
    /// The host with its port, as `Host` should say it.
    pub(crate) authority: &'m [u8],
    /// The path and the query, or `*`.
    origin: &'m [u8],
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
        let field_host = host_of(field).ok_or(LocalReply::BadHost)?;
        let target = request.target();
        if target.starts_with(b"/") || target == b"*" && method == b"OPTIONS" {
            return Ok(Self {
                host: field_host,
                authority: field,
                origin: target,
            });
        }
        let (authority, origin) = absolute(target).ok_or(LocalReply::BadTarget)?;
        let host = host_of(authority).filter(|host| !host.is_empty());
        Ok(Self {
            host: host.ok_or(LocalReply::BadHost)?,
            authority,
            origin: if origin.is_empty() && method == b"OPTIONS" {
                b"*"
            } else {
                origin
            },
        })
    }

    /// The path alone.
    pub(crate) fn path(&self) -> &'m [u8] {
        let query = self.origin.iter().position(|byte| *byte == b'?');
        match &self.origin[..query.unwrap_or(self.origin.len())] {
            b"" => b"/",
            path => path,
        }
    }

    /// The target as an origin server gets it (RFC 9112, 3.2.1), with `strip` taken off its
    /// start.
    pub(crate) fn write_origin_form(&self, strip: &str, to: &mut Vec<u8>) {
        let rest = self.origin.strip_prefix(strip.as_bytes());
        let rest = rest.unwrap_or(self.origin);
        if !rest.starts_with(b"/") && rest != b"*" {
            to.push(b'/');
        }
        to.extend_from_slice(rest);
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

/// The host of an authority, which has no user information in HTTP (RFC 9110, 4.2.4). `None`:
/// it is no authority.
fn host_of(authority: &[u8]) -> Option<&[u8]> {
    let end = if authority.starts_with(b"[") {
        literal_length(authority)?
    } else {
        let is_over = |byte: &u8| !IN_NAME[usize::from(*byte)];
        authority
            .iter()
            .position(is_over)
            .unwrap_or(authority.len())
    };
    let (host, port) = authority.split_at(end);
    let is_port = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    is_port.then_some(host)
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
                    (target.host, target.authority, target.path()),
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
    }

    #[test]
    fn a_target_is_sent_in_origin_form_without_its_prefix() {
        #[track_caller]
        fn check(target: &str, strip: &str, want: &str) {
            let method = if target == "*" { "OPTIONS" } else { "GET" };
            with_target(&format!("{method} {target} HTTP/1.1\nHost: h"), |target| {
                let mut written = Vec::new();
                target.unwrap().write_origin_form(strip, &mut written);
                assert_eq!(String::from_utf8(written).unwrap(), want);
            });
        }
        check("/a?b=c", "", "/a?b=c");
        check("http://host/a?b", "", "/a?b");
        check("http://host", "", "/");
        check("/api/v1", "/api", "/v1");
        check("/api", "/api", "/");
        check("/api?x", "/api", "/?x");
        check("*", "", "*");
    }
}
