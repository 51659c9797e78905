//! Which header fields are set, added and removed.

use std::collections::{BTreeMap, HashMap};

use http::HeaderName;
use serde::{Deserialize, Serialize};

use crate::filter::Template;
use crate::names::{header_name, host};
use crate::strict::{InputError, push_key};
use crate::traffic::Setting;

/// How many rules one direction may have.
const MAX_RULES: usize = 100;

/// The rules of a service, for what its endpoints and what its clients get.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeadersSpec {
    /// Of what an endpoint gets.
    #[serde(skip_serializing_if = "HeaderRules::is_default")]
    pub request: HeaderRules,
    /// Of what a client gets.
    #[serde(skip_serializing_if = "HeaderRules::is_default")]
    pub response: HeaderRules,
}

/// The rules of one direction. What is set replaces what was there; a value that comes out empty is
/// not written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderRules {
    /// In place of whatever has this name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, Template>,
    /// Beside what has this name already.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub add: BTreeMap<String, Template>,
    /// Whatever has one of these names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Request,
    Response,
}

impl HeadersSpec {
    /// Whether there are no rules.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl HeaderRules {
    /// Whether there are no rules.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Each value with its field, relative to the rules.
    pub(crate) fn templates(&self) -> impl Iterator<Item = (String, &Template)> {
        let both = [("set", &self.set), ("add", &self.add)];
        both.into_iter().flat_map(|(key, rules)| {
            let all = rules.iter();
            all.map(move |(name, value)| (field_of(key, name), value))
        })
    }

    fn check(&self, direction: Direction) -> Result<(), InputError> {
        let count = self.set.len() + self.add.len() + self.remove.len();
        if count > MAX_RULES {
            let message = format!("has {count} rules: at most {MAX_RULES}");
            return Err(InputError::of_whole(message));
        }
        let mut replaced = HashMap::new();
        for (key, rules) in [("set", &self.set), ("add", &self.add)] {
            let mut seen = HashMap::new();
            for (name, template) in rules {
                let field = field_of(key, name);
                let read = match key == "set" && is_host(name, direction) {
                    true => check_host(template),
                    false => check_name(name, direction),
                };
                let read = read.map_err(|error| error.inside(&field))?;
                if let Some(other) = seen.insert(read.clone(), name) {
                    let message = format!("is listed twice: `{other}` is the same");
                    return Err(InputError::of_field(field, message));
                }
                check_value(template, direction).map_err(|error| error.inside(&field))?;
                if key == "set" {
                    replaced.insert(read, name);
                }
            }
        }
        for (at, name) in self.remove.iter().enumerate() {
            let field = format!("remove[{at}]");
            let read = check_name(name, direction).map_err(|error| error.inside(&field))?;
            if replaced.insert(read, name).is_some() {
                let message = format!("`{name}` is there twice, or in `set`, which replaces it");
                return Err(InputError::of_field(field, message));
            }
        }
        Ok(())
    }
}

fn field_of(key: &str, name: &str) -> String {
    let mut field = key.to_owned();
    push_key(&mut field, name);
    field
}

fn check_value(template: &Template, direction: Direction) -> Result<(), InputError> {
    if template.text().is_empty() {
        return Err(InputError::of_whole("is empty: use `remove`"));
    }
    match direction {
        Direction::Request => template.check_of_request(": use it in `headers.response`"),
        Direction::Response => Ok(()),
    }
}

/// Whether a field says what a request is for.
fn is_host(name: &str, direction: Direction) -> bool {
    direction == Direction::Request && name.eq_ignore_ascii_case("host")
}

/// Checks what endpoints get as `Host`, and gives its name.
fn check_host(template: &Template) -> Result<HeaderName, InputError> {
    let text = template.text();
    let name = match text.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => text,
    };
    let is_fixed = template.variables().next().is_none() && !text.starts_with('*');
    if !is_fixed || host(name).is_err() || !name.is_ascii() {
        let message = format!(
            "`{text}` is no host: write a name such as `app.internal`, with or without port, and without variables"
        );
        return Err(InputError::of_whole(message));
    }
    Ok(http::header::HOST)
}

/// Reads the name of a field that a rule may be about.
pub(crate) fn check_name(name: &str, direction: Direction) -> Result<HeaderName, InputError> {
    let read = header_name(name).map_err(InputError::of_whole)?;
    match kept_from_rules(&read, direction) {
        Some(reason) => Err(InputError::of_whole(format!("`{name}` {reason}"))),
        None => Ok(read),
    }
}

/// Why no rule may be about a field.
fn kept_from_rules(name: &HeaderName, direction: Direction) -> Option<&'static str> {
    // CGI, WSGI and PHP take the two for one field.
    let name = name.as_str().replace('_', "-");
    match name.as_str() {
        "content-length" | "transfer-encoding" | "trailer" => {
            Some("says where a body ends (RFC 9112, 6): the proxy writes it itself")
        }
        "connection" | "http2-settings" | "keep-alive" | "proxy-connection" | "te" | "upgrade" => {
            Some("is about one connection alone (RFC 9110, 7.6.1): the proxy writes it itself")
        }
        "expect" | "max-forwards" if direction == Direction::Request => {
            Some("is for the proxies on the way, too: the proxy writes it itself")
        }
        "host" if direction == Direction::Request => {
            Some("is there exactly once (RFC 9112, 3.2): use `set`")
        }
        _ => None,
    }
}

impl Setting for HeadersSpec {
    fn check(&self) -> Result<(), InputError> {
        let request = self.request.check(Direction::Request);
        request.map_err(|error| error.inside("request"))?;
        let response = self.response.check(Direction::Response);
        response.map_err(|error| error.inside("response"))
    }
}

#[cfg(test)]
mod tests {
    use crate::ServiceSpec;
    use crate::filter::testing::check_refused;
    use crate::strict::from_toml;

    #[track_caller]
    fn check(headers: &str, field: &str, says: &str) {
        check_refused(&format!("headers = {headers}"), field, says);
    }

    #[test]
    fn what_frames_a_message_or_is_about_one_connection_has_no_rule() {
        for name in [
            "Content-Length",
            "transfer-encoding",
            "content_length",
            "Connection",
            "keep-alive",
            "proxy-connection",
            "TE",
            "trailer",
            "Upgrade",
            "http2-settings",
        ] {
            for direction in ["request", "response"] {
                for rule in ["set", "add"] {
                    check(
                        &format!("{{ {direction}.{rule}.{name} = \"x\" }}"),
                        &format!("headers.{direction}.{rule}.{name}"),
                        "the proxy writes it itself",
                    );
                }
                check(
                    &format!("{{ {direction}.remove = [\"x-own\", \"{name}\"] }}"),
                    &format!("headers.{direction}.remove[1]"),
                    "the proxy writes it itself",
                );
            }
        }
        for host in ["$host", "*.a.test", "a b", "a.test/b", "http://a", ""] {
            check(
                &format!("{{ request.set.host = \"{host}\" }}"),
                "headers.request.set.host",
                "is no host",
            );
        }
        for key in ["add.host = \"a\"", "remove = [\"Host\"]"] {
            let text = format!("name = \"web\"\nheaders = {{ request.{key} }}");
            let error = from_toml::<ServiceSpec>(&text).and_then(|spec| spec.traffic.check());
            let error = error.expect_err(key);
            assert!(error.message.contains("is there exactly once"), "{error}");
        }
        for host in ["app.internal", "app.internal:8080", "10.0.0.1", "[::1]:80"] {
            let text = format!("name = \"web\"\nheaders.request.set.Host = \"{host}\"");
            let spec = from_toml::<ServiceSpec>(&text).expect(host);
            assert_eq!(spec.traffic.check(), Ok(()), "{host}");
        }
        check(
            "{ request.remove = [\"Expect\"] }",
            "headers.request.remove[0]",
            "for the proxies on the way",
        );
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_named_with_its_field() {
        check(
            "{ request.set.\"a b\" = \"x\" }",
            "headers.request.set.\"a b\"",
            "not the name of a header field",
        );
        check(
            "{ response.set.x-a = \"$hots\" }",
            "headers.response.set.x-a",
            "did you mean `$host`?",
        );
        check(
            "{ response.set.x-a = \"a\\r\\nx-b: c\" }",
            "headers.response.set.x-a",
            "U+000D",
        );
        check(
            "{ response.add.x-a = 5 }",
            "headers.response.add.x-a",
            "expected a text",
        );
        check(
            "{ request.set.x-a = \"\" }",
            "headers.request.set.x-a",
            "use `remove`",
        );
        check(
            "{ request.set.x-a = \"to $version\" }",
            "headers.request.set.x-a",
            "`$version` is not known before an endpoint has responded: use it in `headers.response`",
        );
        check(
            "{ request.set = { x-a = \"1\", X-A = \"2\" } }",
            "headers.request.set.x-a",
            "is listed twice: `X-A` is the same",
        );
        check(
            "{ request = { set = { x-a = \"1\" }, remove = [\"X-A\"] } }",
            "headers.request.remove[0]",
            "`X-A` is there twice, or in `set`",
        );
        check(
            "{ requst = {} }",
            "headers.requst",
            "did you mean `request`?",
        );
        check(
            "{ request.sett = {} }",
            "headers.request.sett",
            "did you mean `set`?",
        );
    }

    #[test]
    fn there_are_not_too_many_rules() {
        let names: Vec<String> = (0..101).map(|n| format!("\"x-{n}\"")).collect();
        check(
            &format!("{{ response.remove = [{}] }}", names.join(", ")),
            "headers.response",
            "has 101 rules: at most 100",
        );
    }
}
