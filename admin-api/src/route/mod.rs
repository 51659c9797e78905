//! Which requests a service is for, beside its hosts and its path prefix.

mod pattern;
mod text;
mod when;

pub use pattern::Pattern;
pub use when::{ValueTest, WhenSpec};

use crate::strict::InputError;
use crate::traffic::Setting;
use crate::{TrafficSettings, names};

/// With what a host begins that is a regular expression.
const PATTERN_MARK: char = '~';

/// The paths of a service that has no prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathSpec {
    /// This path alone.
    Is(String),
    /// Those that match as a whole.
    Matches(Pattern),
}

impl PathSpec {
    /// The expression, if it is one.
    pub fn pattern(&self) -> Option<&Pattern> {
        match self {
            Self::Is(_) => None,
            Self::Matches(pattern) => Some(pattern),
        }
    }
}

impl Setting for PathSpec {
    fn check(&self) -> Result<(), InputError> {
        match self {
            Self::Is(path) => check_path(path),
            Self::Matches(_) => Ok(()),
        }
    }
}

/// Checks what a path in a setting may look like. Whether it has a normal form is the proxy's to say.
pub fn check_path(path: &str) -> Result<(), InputError> {
    let allowed = |c: char| c.is_ascii_graphic() && !matches!(c, '?' | '#');
    if !path.starts_with('/') || !path.chars().all(allowed) {
        let message = format!("`{path}` is not a path: begin with `/`, without `?`, `#` or spaces");
        return Err(InputError::of_whole(message));
    }
    Ok(())
}

/// A host of a service, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A name, or `*.` before one, as [`names::host`] gives it.
    Name(String),
    /// An expression that names have to match as a whole.
    Pattern(Pattern),
}

/// Reads a host as people write it: a name, or `~` with a regular expression.
pub fn host(text: &str) -> Result<Host, String> {
    match text.strip_prefix(PATTERN_MARK) {
        Some(pattern) => Pattern::new(pattern).map(Host::Pattern),
        None => names::host(text).map(Host::Name),
    }
}

/// Checks the hosts and the path of a service together with its settings, which were checked each. The
/// error's field is relative to the service.
pub fn check(
    hosts: &[String],
    path_prefix: &str,
    traffic: &TrafficSettings,
) -> Result<(), InputError> {
    let has_prefix = !path_prefix.trim_end_matches('/').is_empty();
    if traffic.path.is_some() && has_prefix {
        let message = "`path_prefix` is set, too: leave one of the two out";
        return Err(InputError::of_field("path", message));
    }
    let mut groups: Vec<String> = Vec::new();
    for (at, written) in hosts.iter().enumerate() {
        let read = host(written);
        let read = read.map_err(|message| InputError::of_field(format!("hosts[{at}]"), message))?;
        if let Host::Pattern(pattern) = read {
            groups.extend(pattern.groups().map(str::to_owned));
        }
    }
    let of_path = traffic.path.as_ref().and_then(PathSpec::pattern);
    let of_path = of_path.into_iter().flat_map(Pattern::groups);
    groups.extend(of_path.map(str::to_owned));
    check_groups(&groups, traffic)
}

/// Every `$match_NAME` is the name of a group.
fn check_groups(groups: &[String], traffic: &TrafficSettings) -> Result<(), InputError> {
    for (field, template) in traffic.templates() {
        for name in template.groups() {
            if groups.iter().any(|group| group == name) {
                continue;
            }
            let there = match groups {
                [] => "no `regex` of `path` and no host with `~` has a group with a name, such as `(?<id>[0-9]+)`".to_owned(),
                groups => format!("there are {}", groups.iter().map(|group| format!("`$match_{group}`")).collect::<Vec<_>>().join(", ")),
            };
            let message = format!("`$match_{name}` is unknown: {there}");
            return Err(InputError::of_field(field, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ServiceSpec;
    use crate::strict::from_toml;

    fn check_all(keys: &str) -> Result<(), InputError> {
        let spec: ServiceSpec = from_toml(&format!("name = \"web\"\n{keys}\n"))?;
        spec.traffic.check()?;
        check(&spec.hosts, &spec.path_prefix, &spec.traffic)
    }

    #[test]
    fn a_route_is_a_path_an_expression_or_a_prefix() {
        for keys in [
            "path = \"/a\"",
            "path = \"/a/\"\npath_prefix = \"/\"",
            "path.regex = \"/items/(?<id>[0-9]+)\"\nredirect.to = \"/i?id=$match_id\"",
            "hosts = ['~(?<tenant>[a-z]+)\\.example\\.com']\nheaders.request.set.x-t = \"$match_tenant\"",
            "when = { methods = [\"GET\", \"PURGE\"], headers = { x-a = \"1\", x-b = true }, query = { c = { regex = \"[0-9]\" }, d = false } }",
        ] {
            assert_eq!(check_all(keys), Ok(()), "{keys}");
        }
        for (keys, field, says) in [
            ("path = \"a\"", "path", "begin with `/`"),
            ("path = \"/a?b\"", "path", "without `?`"),
            (
                "path = \"/a\"\npath_prefix = \"/b\"",
                "path",
                "`path_prefix` is set, too",
            ),
            ("path = { regex = \"/(\" }", "path.regex", "unclosed group"),
            (
                "path = { regx = \"/\" }",
                "path.regx",
                "did you mean `regex`?",
            ),
            ("path = true", "path", "a text or { regex"),
            ("hosts = [\"a.test\", \"~(\"]", "hosts[1]", "unclosed group"),
            ("hosts = [\"a~b\"]", "hosts[0]", "is not a host"),
            (
                "redirect.to = \"/i?id=$match_id\"",
                "redirect.to",
                "no `regex` of `path`",
            ),
            (
                "path.regex = \"/(?<id>.)\"\nheaders.response.set.x-a = \"$match_ix\"",
                "headers.response.set.x-a",
                "`$match_ix` is unknown: there are `$match_id`",
            ),
            ("when = {}", "when", "needs `methods`, `headers` or `query`"),
            (
                "when = { methods = [\"GET\", \"get it\"] }",
                "when.methods[1]",
                "is not a method",
            ),
            (
                "when = { methods = [\"GET\", \"GET\"] }",
                "when.methods[1]",
                "is listed twice",
            ),
            (
                "when = { headers = { \"a b\" = \"1\" } }",
                "when.headers.\"a b\"",
                "not the name of a header field",
            ),
            (
                "when = { headers = { x-a = 1 } }",
                "when.headers.x-a",
                "a text, true, false or { regex",
            ),
            (
                "when = { query = { a = { regx = \"b\" } } }",
                "when.query.a.regx",
                "did you mean `regex`?",
            ),
            (
                "when = { query = { a = { regex = \"(\" } } }",
                "when.query.a.regex",
                "unclosed group",
            ),
        ] {
            let error = check_all(keys).expect_err(keys);
            assert_eq!(error.field.as_deref(), Some(field), "{error}");
            assert!(error.message.contains(says), "{error}");
        }
    }
}
