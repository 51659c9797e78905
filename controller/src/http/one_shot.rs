//! POST to a configured address: hooks, webhooks, queries.
//!
//! Such an address often is a secret by itself, so nothing here ever shows more of it than the
//! host; nor does it show the token. What the other side says is shown without these, too.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use admin_api::Period;
use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use program::text::plain;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

use crate::http::exchange::send;

/// More of a response than that is not read.
const MAX_RESPONSE: usize = 64 << 10;
/// How much of a refusing response is shown.
const MAX_SAID: usize = 200;
/// What stands for a secret in what is shown.
const HIDDEN: &str = "[hidden]";
/// A part of an address that has so many bytes may be a secret by itself.
const LONG_PART: usize = 6;

/// An address: `http://host:port/path`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Url(Uri);

/// Where to post, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// The address.
    pub url: Url,
    /// A file with a token for `Authorization: Bearer`, read anew for every call.
    pub token_file: Option<PathBuf>,
    /// How long a call may take.
    pub timeout: Period,
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// The token could not be read.
    #[error("{}: {source}", path.display())]
    Token {
        /// Its file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There was no response.
    #[error("{url} cannot be reached: {source}")]
    Unreachable {
        /// As much of the address as may be shown.
        url: Url,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There was no response in time.
    #[error("{url} did not respond within {timeout}")]
    TimedOut {
        /// As much of the address as may be shown.
        url: Url,
        /// How long it had.
        timeout: Period,
    },
    /// It said no.
    #[error("{url} responded with {status}{}{said}", if said.is_empty() { "" } else { ": " })]
    Refused {
        /// As much of the address as may be shown.
        url: Url,
        /// The response's status.
        status: StatusCode,
        /// The first line of its body.
        said: String,
    },
}

impl PostError {
    /// Whether the same call may go better a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            Self::Refused { status, .. } => matches!(status.as_u16(), 429 | 502..=504),
            Self::Token { .. } => false,
        }
    }
}

impl Target {
    /// Posts JSON once. `folder`: where a relative token file is meant. Gives the first line of
    /// the response.
    pub async fn post(&self, folder: &Path, body: Bytes) -> Result<String, PostError> {
        let token = self.token(folder).await?;
        let body = self.exchange(token.as_deref(), "application/json", body);
        Ok(self.shown(token.as_deref(), &body.await?))
    }

    /// Posts once, and gives the response.
    pub async fn send(
        &self,
        folder: &Path,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<Bytes, PostError> {
        let token = self.token(folder).await?;
        self.exchange(token.as_deref(), content_type, body).await
    }

    async fn token(&self, folder: &Path) -> Result<Option<String>, PostError> {
        let Some(path) = &self.token_file else {
            return Ok(None);
        };
        let path = folder.join(path);
        let read = tokio::fs::read_to_string(&path).await;
        let token = read.map_err(|source| PostError::Token { path, source })?;
        Ok(Some(token.trim().to_owned()))
    }

    async fn exchange(
        &self,
        token: Option<&str>,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<Bytes, PostError> {
        let authorization = token.map(|token| format!("Bearer {token}"));
        let exchange = self
            .url
            .exchange(authorization.as_deref(), content_type, body);
        let body = tokio::time::timeout(self.timeout.get(), exchange).await;
        let (status, body) = match body {
            Ok(Ok(body)) => body,
            Ok(Err(source)) => {
                let url = self.url.clone();
                return Err(PostError::Unreachable { url, source });
            }
            Err(_) => {
                return Err(PostError::TimedOut {
                    url: self.url.clone(),
                    timeout: self.timeout,
                });
            }
        };
        if status.is_success() {
            return Ok(body);
        }
        let (url, said) = (self.url.clone(), self.shown(token, &body));
        Err(PostError::Refused { url, status, said })
    }

    /// The first line of a response, without what it may repeat of the token and the address.
    fn shown(&self, token: Option<&str>, body: &[u8]) -> String {
        let text = String::from_utf8_lossy(body);
        let line = text.lines().find(|line| !line.trim().is_empty());
        let mut line = plain(line.unwrap_or_default().trim()).into_owned();
        let mut secrets: Vec<&str> = token.into_iter().chain(self.url.secrets()).collect();
        secrets.retain(|secret| !secret.is_empty());
        // A secret may begin as another one does.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        for secret in secrets {
            line = line.replace(secret, HIDDEN);
        }
        line.chars().take(MAX_SAID).collect()
    }

    /// Posts until there is a response, for as long as the time-out lasts.
    pub async fn post_until_success(
        &self,
        folder: &Path,
        body: Bytes,
    ) -> Result<String, PostError> {
        let until = tokio::time::Instant::now() + self.timeout.get();
        loop {
            let error = match self.post(folder, body.clone()).await {
                Err(error) if error.is_passing() => error,
                done => return done,
            };
            let next = tokio::time::Instant::now() + Duration::from_secs(1);
            if next >= until {
                return Err(error);
            }
            tokio::time::sleep_until(next).await;
        }
    }
}

impl Url {
    /// What is not to be shown of it: path, query, and the longer parts of both.
    fn secrets(&self) -> impl Iterator<Item = &str> {
        let path = self.0.path();
        let all = self.0.path_and_query().map_or("", |all| all.as_str());
        let query = self.0.query().unwrap_or("");
        let parts = path.split('/').chain(query.split(['&', '=']));
        let parts = parts.filter(|part| part.len() >= LONG_PART);
        let whole = [all, path, query].into_iter();
        whole.filter(|text| *text != "/").chain(parts)
    }

    /// The same server, and this path below the address's own.
    pub fn below(&self, path: &str) -> Result<Self, http::uri::InvalidUri> {
        let scheme_and_host = self.to_string();
        let own = self.0.path().trim_end_matches('/');
        format!("{scheme_and_host}{own}{path}").parse().map(Self)
    }

    async fn exchange(
        &self,
        authorization: Option<&str>,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
        let authority = self.0.authority().ok_or("it has no host")?;
        let port = authority.port_u16().unwrap_or(80);
        let host = authority.host().trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, port)).await?;
        let path = self.0.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, authority.as_str())
            .header(
                header::USER_AGENT,
                concat!("crossfade/", env!("CARGO_PKG_VERSION")),
            )
            .header(header::CONTENT_TYPE, content_type);
        if let Some(authorization) = authorization {
            let mut value = header::HeaderValue::from_str(authorization)?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        let response = send(stream, request.body(Full::new(body))?).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_RESPONSE)
            .collect()
            .await?;
        Ok((status, body.to_bytes()))
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The text may be a secret: it is not repeated.
        let uri: Uri = text
            .parse()
            .map_err(|error| format!("not a URL such as http://host:port/path: {error}"))?;
        if uri.scheme_str() != Some("http") {
            return Err("the URL must begin with http://".into());
        }
        let Some(authority) = uri.authority() else {
            return Err("the URL has no host: write it as http://host:port/path".into());
        };
        if authority.as_str().contains('@') {
            return Err("a URL may not contain a user or password: use token_file".into());
        }
        Ok(Self(uri))
    }
}

impl TryFrom<String> for Url {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Url> for String {
    fn from(url: Url) -> Self {
        url.0.to_string()
    }
}

/// Scheme and host only: paths and queries often hold a secret.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.scheme_str().unwrap_or("http");
        let host = self.0.authority().map_or("", |host| host.as_str());
        write!(f, "{scheme}://{host}")
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shows_no_more_than_its_host() {
        let url: Url = "http://127.0.0.1:99/services/T0/SECRET?key=SECRET"
            .parse()
            .expect("an address");
        assert_eq!(url.to_string(), "http://127.0.0.1:99");
        assert_eq!(format!("{url:?}"), "http://127.0.0.1:99");
        let read: Url =
            serde_json::from_str(&serde_json::to_string(&url).expect("JSON")).expect("an address");
        assert_eq!(read, url, "the journal has all of it");
    }

    #[test]
    fn what_the_other_side_says_is_shown_without_token_path_and_query() {
        let target = Target {
            url: "http://host/services/T0/SECRET?key=SECRET2&v=1"
                .parse()
                .expect("an address"),
            token_file: None,
            timeout: Period::from_secs(1),
        };
        let shown = |said: &str| target.shown(Some("TOKEN"), said.as_bytes());
        let echoed = shown("\nno POST /services/T0/SECRET?key=SECRET2&v=1 for Bearer TOKEN\nmore");
        assert_eq!(echoed, "no POST [hidden] for Bearer [hidden]");
        assert_eq!(shown("SECRET2 and SECRET"), "[hidden] and [hidden]");
        assert_eq!(shown("ok \u{1b}[2J"), r"ok \u{1b}[2J");
        let bare = Target {
            url: "http://host/".parse().expect("an address"),
            ..target.clone()
        };
        assert_eq!(bare.shown(None, b"a/b and v1"), "a/b and v1");
    }

    #[track_caller]
    fn check_wrong(text: &str, says: &str) {
        let error = text.parse::<Url>().expect_err("no address");
        assert!(error.contains(says), "{error}");
        assert!(!error.contains("SECRET"), "{error}");
    }

    #[test]
    fn what_is_not_an_address_is_refused_without_repeating_it() {
        check_wrong("SECRET", "must begin with http://");
        check_wrong("ftp://host/SECRET", "must begin with http://");
        check_wrong("http://user:SECRET@host/", "token_file");
        check_wrong("/SECRET", "must begin with http://");
        check_wrong("http://a b/SECRET", "not a URL");
    }
}
