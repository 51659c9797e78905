//! Redirects, fixed responses and maintenance: requests that get a response without an endpoint.

use serde::{Deserialize, Serialize};

use crate::filter::rewrite::begins_like_a_path;
use crate::filter::{Part, Template, Variable};
use crate::names::networks;
use crate::strict::InputError;
use crate::traffic::Setting;
use crate::{NonZeroPeriod, Period};

/// How many bytes a fixed body may have.
const MAX_BODY: usize = 64 * 1024;

/// Requests are sent to another address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedirectSpec {
    /// Where to: an address, or a path on the same host.
    pub to: Template,
    /// 301, 302, 307 or 308. Default 302.
    #[serde(default = "found", skip_serializing_if = "is_found")]
    pub status: u16,
    /// Only requests that came by this scheme. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
}

/// By what a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// Over TLS.
    Https,
}

/// Requests get a fixed response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RespondSpec {
    /// Default 200.
    pub status: u16,
    /// Default: empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// The body's `Content-Type`. Default `text/plain; charset=utf-8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}

/// Requests get a 503 with `Retry-After`, but for those of some clients.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MaintenanceSpec {
    /// Networks whose clients are served as ever.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// When clients may come again. Default 1 min.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<NonZeroPeriod>,
    /// A page of the service's own. Default: a sentence, or JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Its `Content-Type`. Default `text/html; charset=utf-8`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}

const fn found() -> u16 {
    302
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_found(status: &u16) -> bool {
    *status == found()
}

impl Scheme {
    /// As an address has it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl Default for RespondSpec {
    fn default() -> Self {
        Self {
            status: 200,
            body: String::new(),
            content_type: None,
        }
    }
}

impl RespondSpec {
    /// The body's type.
    pub fn content_type(&self) -> &str {
        let own = self.content_type.as_deref();
        own.unwrap_or("text/plain; charset=utf-8")
    }
}

impl MaintenanceSpec {
    /// When clients may come again.
    pub fn retry_after(&self) -> Period {
        let own = self.retry_after.map(|period| Period(period.get()));
        own.unwrap_or(Period::from_secs(60))
    }

    /// The page's type.
    pub fn content_type(&self) -> &str {
        let own = self.content_type.as_deref();
        own.unwrap_or("text/html; charset=utf-8")
    }
}

impl Setting for RedirectSpec {
    fn check(&self) -> Result<(), InputError> {
        let status = self.status;
        if !matches!(status, 301 | 302 | 307 | 308) {
            let message = format!("{status} is no redirect: 301, 302, 307 or 308");
            return Err(InputError::of_field("status", message));
        }
        let known = self.to.check_of_request("");
        known.map_err(|error| error.inside("to"))?;
        if !leads_to_a_place(&self.to) {
            let message = format!(
                "`{}` is no address: begin with `https://`, `http://`, `$scheme://` or one `/`",
                self.to
            );
            return Err(InputError::of_field("to", message));
        }
        Ok(())
    }
}

/// Whether it is an address with its scheme, or a path. What begins with `//` would be another host.
fn leads_to_a_place(to: &Template) -> bool {
    let is_url = match to.parts() {
        [Part::Text(text), ..] => ["https://", "http://"].iter().any(|scheme| {
            let rest = text.strip_prefix(scheme);
            rest.is_some_and(|rest| !rest.starts_with('/'))
        }),
        [Part::Variable(Variable::Scheme), Part::Text(text), ..] => text.starts_with("://"),
        _ => false,
    };
    is_url || begins_like_a_path(to)
}

impl Setting for RespondSpec {
    fn check(&self) -> Result<(), InputError> {
        let status = self.status;
        if !(200..=599).contains(&status) || status == 304 {
            let message = format!("{status} is out of range: from 200 to 599, without 304");
            return Err(InputError::of_field("status", message));
        }
        if matches!(status, 204 | 205) && !self.body.is_empty() {
            let message = format!("is of no use: a {status} has no body");
            return Err(InputError::of_field("body", message));
        }
        check_body(&self.body)?;
        check_type(self.content_type.as_deref())
    }
}

impl Setting for MaintenanceSpec {
    fn check(&self) -> Result<(), InputError> {
        networks(&self.allow).map_err(|error| error.inside("allow"))?;
        if self.body.is_none() && self.content_type.is_some() {
            let message = "is of no use without `body`";
            return Err(InputError::of_field("content_type", message));
        }
        check_body(self.body.as_deref().unwrap_or_default())?;
        check_type(self.content_type.as_deref())
    }
}

pub(super) fn check_body(body: &str) -> Result<(), InputError> {
    let length = body.len();
    if length > MAX_BODY {
        let message = format!("has {length} bytes: at most {MAX_BODY}");
        return Err(InputError::of_field("body", message));
    }
    Ok(())
}

pub(super) fn check_type(content_type: Option<&str>) -> Result<(), InputError> {
    let Some(written) = content_type else {
        return Ok(());
    };
    let is_text = written.chars().all(|c| matches!(c, ' '..='~')) && written.trim() == written;
    if !is_text || !written.contains('/') {
        let message = format!("{written:?} is no type: write it as \"text/html; charset=utf-8\"");
        return Err(InputError::of_field("content_type", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::ServiceSpec;
    use crate::filter::testing::check_refused;
    use crate::strict::from_toml;

    #[test]
    fn a_redirect_leads_to_an_address_or_a_path() {
        for to in [
            "https://b.test$request_uri",
            "http://b.test/",
            "$scheme://$host$rest",
            "${scheme}://b.test",
            "/new",
            "/new$rest",
            "$path/",
            "https://$host$request_uri",
        ] {
            let text = format!("name = \"web\"\nredirect = {{ to = \"{to}\" }}");
            let spec = from_toml::<ServiceSpec>(&text).expect(to);
            assert_eq!(spec.traffic.check(), Ok(()), "{to}");
        }
        for to in [
            "",
            "b.test",
            "//b.test",
            "/$http_referer",
            "https:///b.test",
            "https:b.test",
            "javascript:1",
            "$http_referer",
            "$host/a",
            "ftp://b.test",
        ] {
            check_refused(
                &format!("redirect = {{ to = \"{to}\" }}"),
                "redirect.to",
                "is no address: begin with",
            );
        }
    }

    #[test]
    fn what_is_wrong_with_a_fixed_response_is_named_with_its_field() {
        check_refused("redirect = {}", "redirect", "missing field `to`");
        check_refused(
            "redirect = { to = \"/a\", status = 200 }",
            "redirect.status",
            "200 is no redirect: 301, 302, 307 or 308",
        );
        check_refused(
            "redirect = { to = \"/a/$version\" }",
            "redirect.to",
            "not known before an endpoint has responded",
        );
        check_refused(
            "redirect = { to = \"/a\\r\\nset-cookie: b\" }",
            "redirect.to",
            "U+000D",
        );
        check_refused(
            "redirect = { to = \"/a\", scheme = \"htp\" }",
            "redirect.scheme",
            "did you mean `http`?",
        );
        check_refused(
            "redirect = { too = \"/a\" }",
            "redirect.too",
            "did you mean `to`?",
        );
        check_refused(
            "respond = { status = 101 }",
            "respond.status",
            "from 200 to 599",
        );
        check_refused(
            "respond = { status = 304 }",
            "respond.status",
            "without 304",
        );
        check_refused(
            "respond = { status = 204, body = \"x\" }",
            "respond.body",
            "a 204 has no body",
        );
        check_refused(
            "respond = { content_type = \"html\" }",
            "respond.content_type",
            "is no type",
        );
        check_refused(
            "respond = { content_type = \"text/html\\r\\nx: 1\" }",
            "respond.content_type",
            "is no type",
        );
        let long = "x".repeat(65_537);
        check_refused(
            &format!("respond = {{ body = \"{long}\" }}"),
            "respond.body",
            "has 65537 bytes: at most 65536",
        );
        check_refused(
            "maintenance = { allow = [\"10.0.0.0/8\", \"office\"] }",
            "maintenance.allow[1]",
            "`office` is not a network",
        );
        check_refused(
            "maintenance = { content_type = \"text/html\" }",
            "maintenance.content_type",
            "without `body`",
        );
        check_refused(
            "maintenance = { retry_after = \"0s\" }",
            "maintenance.retry_after",
            "0s is out of range",
        );
    }
}
