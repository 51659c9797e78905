//! The URL that requests go to.

use std::str::FromStr;

use http::HeaderValue;
use http::uri::{PathAndQuery, Uri};

/// A checked URL: `http://host:port/path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The port of the URL, or 80.
    pub port: u16,
    /// Path and query of the requests.
    pub path: PathAndQuery,
    /// The value of the `Host` header.
    pub host_header: HeaderValue,
}

/// A URL that this client cannot use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTarget {
    /// Not a URL with a host.
    #[error("write a complete URL, such as http://crossfade:8080/")]
    NotAUrl,
    /// `https`, or anything else.
    #[error("only http:// and ws:// are supported")]
    Scheme,
    /// `user@host`.
    #[error("remove user and password; send an Authorization with --header")]
    UserInfo,
}

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let uri: Uri = text.parse().map_err(|_| InvalidTarget::NotAUrl)?;
        match uri.scheme_str() {
            Some("http" | "ws") => {}
            Some(_) => return Err(InvalidTarget::Scheme),
            None => return Err(InvalidTarget::NotAUrl),
        }
        let authority = uri.authority().ok_or(InvalidTarget::NotAUrl)?;
        if authority.as_str().contains('@') {
            return Err(InvalidTarget::UserInfo);
        }
        // `host:` and `host:99999` have a colon but no valid port.
        let host = authority.host();
        if host.is_empty()
            || (authority.port_u16().is_none() && authority.as_str().len() != host.len())
        {
            return Err(InvalidTarget::NotAUrl);
        }
        Ok(Self {
            host: host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            port: authority.port_u16().unwrap_or(80),
            path: uri
                .path_and_query()
                .cloned()
                .unwrap_or(PathAndQuery::from_static("/")),
            host_header: HeaderValue::from_str(authority.as_str())
                .map_err(|_| InvalidTarget::NotAUrl)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, host: &str, port: u16, path: &str, host_header: &str) {
        let target: Target = text.parse().unwrap();
        assert_eq!(
            (target.host.as_str(), target.port, target.path.as_str()),
            (host, port, path)
        );
        assert_eq!(target.host_header, host_header);
    }

    #[test]
    fn a_url_is_taken_apart() {
        check(
            "http://crossfade:8080/",
            "crossfade",
            8080,
            "/",
            "crossfade:8080",
        );
        check("http://example.com", "example.com", 80, "/", "example.com");
        check("http://[::1]:80/a?b=c", "::1", 80, "/a?b=c", "[::1]:80");
        check("ws://127.0.0.1:1/ws", "127.0.0.1", 1, "/ws", "127.0.0.1:1");
    }

    #[test]
    fn an_unusable_url_says_why() {
        for (text, want) in [
            ("crossfade:8080", InvalidTarget::NotAUrl),
            ("/path", InvalidTarget::NotAUrl),
            ("http://", InvalidTarget::NotAUrl),
            ("http://host:99999/", InvalidTarget::NotAUrl),
            ("https://host/", InvalidTarget::Scheme),
            ("http://me:secret@host/", InvalidTarget::UserInfo),
        ] {
            assert_eq!(text.parse::<Target>(), Err(want), "{text}");
        }
    }
}
