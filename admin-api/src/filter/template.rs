//! A text with variables of a request, such as `https://$host$path`.

use std::fmt;

use http::HeaderName;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::names::check_cookie_name;
use crate::strict::{InputError, closest};

/// How long a template may be.
const MAX_LENGTH: usize = 4096;

/// A text in which `$name` and `${name}` stand for what a request has, and `$$` for a dollar.
///
/// It is ASCII, has no control characters, and neither begins nor ends with a space, so that a header
/// field can have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// As it is written.
    Text(String),
    /// Something of the request.
    Variable(Variable),
}

/// What a template can have of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Variable {
    /// The SHA-256 of the client's certificate.
    CertSha256,
    /// The alternative names of the client's certificate.
    CertSan,
    /// The serial number of the client's certificate.
    CertSerial,
    /// The subject of the client's certificate.
    CertSubject,
    /// The value of this cookie.
    Cookie(String),
    /// The address of the endpoint that responded.
    Endpoint,
    /// The host that the request is for, in lower case and without its port.
    Host,
    /// The values of this header field, separated by commas.
    Http(HeaderName),
    /// What the group of this name has, of the expression that the service has for its path or for a host.
    Match(String),
    /// The path in its normal form.
    Path,
    /// The query, without its `?`.
    Query,
    /// The client's address, as trusted proxies make it known.
    RemoteAddr,
    /// The name of the user whose password came with the request (`basic_auth`).
    RemoteUser,
    /// The request's id.
    RequestId,
    /// The method.
    RequestMethod,
    /// The path in its normal form, and the query with its `?`.
    RequestUri,
    /// What the path has behind the service's `path_prefix`; it begins with one `/`.
    Rest,
    /// `http` or `https`, as trusted proxies make it known.
    Scheme,
    /// The service's name.
    Service,
    /// The version that responded.
    Version,
}

impl Variable {
    /// Those whose names are fixed.
    const NAMED: [(&'static str, Self); 17] = [
        ("client_cert_san", Self::CertSan),
        ("client_cert_serial", Self::CertSerial),
        ("client_cert_sha256", Self::CertSha256),
        ("client_cert_subject", Self::CertSubject),
        ("endpoint", Self::Endpoint),
        ("host", Self::Host),
        ("path", Self::Path),
        ("query", Self::Query),
        ("remote_addr", Self::RemoteAddr),
        ("remote_user", Self::RemoteUser),
        ("request_id", Self::RequestId),
        ("request_method", Self::RequestMethod),
        ("request_uri", Self::RequestUri),
        ("rest", Self::Rest),
        ("scheme", Self::Scheme),
        ("service", Self::Service),
        ("version", Self::Version),
    ];

    fn of(name: &str) -> Result<Self, String> {
        let mut named = Self::NAMED.into_iter();
        if let Some((_, variable)) = named.find(|(known, _)| *known == name) {
            return Ok(variable);
        }
        if let Some(field) = name.strip_prefix("http_") {
            let field = HeaderName::try_from(field.replace('_', "-"));
            return field
                .map(Self::Http)
                .map_err(|_| unknown(name, "`$http_` has the name of a header field after it"));
        }
        if let Some(cookie) = name.strip_prefix("cookie_") {
            let checked = check_cookie_name(cookie);
            return checked
                .map(|()| Self::Cookie(cookie.to_owned()))
                .map_err(|_| unknown(name, "`$cookie_` has the name of a cookie after it"));
        }
        if let Some(group) = name.strip_prefix("match_") {
            return match group {
                "" => Err(unknown(name, "`$match_` has the name of a group after it")),
                group => Ok(Self::Match(group.to_owned())),
            };
        }
        let names = || Self::NAMED.into_iter().map(|(known, _)| known);
        let known: Vec<String> = names().map(|known| format!("`${known}`")).collect();
        let meant = match closest(name, names()) {
            Some(meant) => format!("did you mean `${meant}`? "),
            None => String::new(),
        };
        let known = known.join(", ");
        let there =
            format!("{meant}There are {known}, `$http_NAME`, `$cookie_NAME` and `$match_NAME`");
        Err(unknown(name, &there))
    }

    /// Whether it is known only once an endpoint has responded.
    pub fn is_of_response(&self) -> bool {
        matches!(self, Self::Endpoint | Self::Version)
    }

    /// Whether it is the same for all requests of a service.
    pub fn is_of_service(&self) -> bool {
        matches!(self, Self::Service)
    }

    /// As a template has it.
    fn text(&self) -> String {
        match self {
            Self::Cookie(name) => format!("$cookie_{name}"),
            Self::Http(name) => format!("$http_{}", name.as_str().replace('-', "_")),
            Self::Match(group) => format!("$match_{group}"),
            named => {
                let known = Self::NAMED
                    .into_iter()
                    .find(|(_, variable)| variable == named);
                known.map_or_else(String::new, |(name, _)| format!("${name}"))
            }
        }
    }
}

fn unknown(name: &str, there: &str) -> String {
    format!("unknown variable `${name}`: {there}")
}

impl Template {
    /// Reads a template.
    pub fn new(text: &str) -> Result<Self, String> {
        check_text(text)?;
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            literal.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                literal.push('$');
                rest = after;
                continue;
            }
            let name;
            (name, rest) = split_name(after)?;
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(Part::Variable(Variable::of(name)?));
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        let text = text.to_owned();
        Ok(Self { text, parts })
    }

    /// The value of one variable.
    pub fn of(variable: Variable) -> Self {
        Self {
            text: variable.text(),
            parts: vec![Part::Variable(variable)],
        }
    }

    /// As it is written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its parts, one after the other. Texts do not follow each other.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The variables that it has.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable(variable) => Some(variable),
            Part::Text(_) => None,
        })
    }

    /// The names of the groups that its variables have.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &str> {
        self.variables().filter_map(|variable| match variable {
            Variable::Match(group) => Some(group.as_str()),
            _ => None,
        })
    }

    /// Checks that it is known before an endpoint has responded. The error says where else it may be.
    pub(crate) fn check_of_request(&self, instead: &str) -> Result<(), InputError> {
        match self.variables().find(|one| one.is_of_response()) {
            Some(variable) => Err(InputError::of_whole(format!(
                "`{}` is not known before an endpoint has responded{instead}",
                variable.text()
            ))),
            None => Ok(()),
        }
    }
}

/// What a header field could not have is in no template.
fn check_text(text: &str) -> Result<(), String> {
    if text.len() > MAX_LENGTH {
        let length = text.len();
        return Err(format!("has {length} bytes: at most {MAX_LENGTH}"));
    }
    if let Some(wrong) = text.chars().find(|c| !matches!(c, ' '..='~')) {
        let code = u32::from(wrong);
        return Err(format!(
            "has the character U+{code:04X}: use printable ASCII, on one line"
        ));
    }
    if text.trim_ascii() != text {
        return Err("begins or ends with a space, which a header field does not keep".into());
    }
    Ok(())
}

/// The name of a variable, behind its `$`, and the rest.
fn split_name(text: &str) -> Result<(&str, &str), String> {
    if let Some(braced) = text.strip_prefix('{') {
        let split = braced.split_once('}');
        return split.ok_or_else(|| "has a `${` without a `}`".to_owned());
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = text.find(|c| !is_name(c)).unwrap_or(text.len());
    if end == 0 {
        return Err("has a `$` without the name of a variable: a dollar is written `$$`".into());
    }
    Ok(text.split_at(end))
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TemplateVisitor;

        impl Visitor<'_> for TemplateVisitor {
            type Value = Template;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, such as \"https://$host$path\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Template, E> {
                Template::new(text).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(TemplateVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Part {
        Part::Text(text.into())
    }

    #[test]
    fn a_template_is_texts_and_variables() {
        let field = HeaderName::from_static("x-tenant-id");
        for (written, want) in [
            ("", vec![]),
            ("no variable", vec![text("no variable")]),
            ("$host", vec![Part::Variable(Variable::Host)]),
            (
                "https://${host}x$path",
                vec![
                    text("https://"),
                    Part::Variable(Variable::Host),
                    text("x"),
                    Part::Variable(Variable::Path),
                ],
            ),
            ("5$$ and $$$$", vec![text("5$ and $$")]),
            (
                "$http_x_tenant_id",
                vec![Part::Variable(Variable::Http(field))],
            ),
            (
                "a=${cookie_se-at};",
                vec![
                    text("a="),
                    Part::Variable(Variable::Cookie("se-at".into())),
                    text(";"),
                ],
            ),
        ] {
            let template = Template::new(written).expect(written);
            assert_eq!(template.parts(), want, "{written}");
            let json = serde_json::to_string(&template).expect("JSON");
            assert_eq!(serde_json::from_str::<Template>(&json).ok(), Some(template));
        }
    }

    #[test]
    fn what_is_no_template_is_refused_with_what_would_be_right() {
        #[track_caller]
        fn check(written: &str, says: &str) {
            let error = Template::new(written).expect_err(written);
            assert!(error.contains(says), "{error}");
        }
        check("$hots", "unknown variable `$hots`: did you mean `$host`?");
        check("$zzzzzzzz", "`$endpoint`, `$host`, `$path`");
        check("${host", "a `${` without a `}`");
        check("${}", "unknown variable `$`");
        check("5 $", "written `$$`");
        check("$-a", "written `$$`");
        check("$http_", "the name of a header field after it");
        check("$cookie_", "the name of a cookie after it");
        check("$match_", "the name of a group after it");
        check("a\r\nb", "U+000D");
        check("a\nb", "U+000A");
        check("a\0b", "U+0000");
        check("\u{e9}", "U+00E9");
        check(" a", "begins or ends with a space");
        check(&"a".repeat(5000), "at most 4096");
    }

    #[test]
    fn a_variable_is_written_as_it_is_read() {
        for (name, variable) in Variable::NAMED {
            let template = Template::of(variable);
            assert_eq!(template.text(), format!("${name}"));
            assert_eq!(Template::new(template.text()), Ok(template));
        }
    }
}
