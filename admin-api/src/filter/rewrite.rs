//! Another path for endpoints than the one that clients request.

use serde::{Deserialize, Serialize};

use crate::filter::{Part, Template, Variable};
use crate::strict::InputError;
use crate::traffic::Setting;

/// Endpoints get another path. The query stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewriteSpec {
    /// What they get in place of the path.
    pub path: Template,
}

impl Setting for RewriteSpec {
    fn check(&self) -> Result<(), InputError> {
        let wrong = |says: &str| {
            let message = format!("`{}` {says}", self.path);
            Err(InputError::of_field("path", message))
        };
        if !begins_like_a_path(&self.path) {
            return wrong("is no path: begin with one `/`, `$path` or `$rest`");
        }
        for part in self.path.parts() {
            match part {
                Part::Variable(
                    Variable::Match(_) | Variable::Path | Variable::Rest | Variable::Service,
                ) => {}
                Part::Variable(_) => {
                    return wrong(
                        "may have the variables `$path`, `$rest`, `$service` and `$match_NAME` alone",
                    );
                }
                Part::Text(text) if !is_of_path(text) => {
                    return wrong(
                        "has what no path has as it is: `?`, `#`, spaces and the like, a `%` without two digits after it, or `.` or `..` as a segment",
                    );
                }
                Part::Text(_) => {}
            }
        }
        Ok(())
    }
}

/// Whether it begins with one `/`. Variables that are paths do.
pub(super) fn begins_like_a_path(template: &Template) -> bool {
    match template.parts() {
        // A variable behind the first `/` could begin with another one.
        [Part::Text(text), rest @ ..] => {
            let is_followed = text == "/" && !rest.is_empty();
            text.starts_with('/') && !text.starts_with("//") && !is_followed
        }
        [
            Part::Variable(Variable::Path | Variable::Rest | Variable::RequestUri),
            ..,
        ] => true,
        _ => false,
    }
}

/// Whether a path can have a text as it is (RFC 3986, 3.3).
fn is_of_path(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&byte);
    let is_escaped = |(at, _): (usize, &str)| {
        let digits = text.as_bytes().get(at + 1..at + 3);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    text.bytes().all(allowed)
        && text.match_indices('%').all(is_escaped)
        && !text.split('/').any(|segment| matches!(segment, "." | ".."))
}

#[cfg(test)]
mod tests {
    use crate::ServiceSpec;
    use crate::strict::from_toml;

    #[test]
    fn a_path_is_rewritten_to_a_path() {
        let check = |path: &str| {
            let text = format!("name = \"web\"\nrewrite = {{ path = \"{path}\" }}");
            from_toml::<ServiceSpec>(&text).and_then(|spec| spec.traffic.check())
        };
        for path in [
            "/",
            "/v2$rest",
            "$path/",
            "/index.html",
            "/a%20b/$service$path",
            "/users/$match_id/$match_rest",
        ] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
        for (path, says) in [
            ("", "is no path: begin with one `/`"),
            ("v2", "is no path"),
            ("//v2", "is no path"),
            ("/$rest", "is no path"),
            ("/$match_a", "is no path"),
            ("$match_a", "is no path"),
            ("$host", "is no path"),
            (
                "/a$query",
                "`$path`, `$rest`, `$service` and `$match_NAME` alone",
            ),
            ("/a$http_x", "`$service` and `$match_NAME` alone"),
            ("/a?b", "what no path has"),
            ("/a b", "what no path has"),
            ("/a%2", "what no path has"),
            ("/a/../b", "what no path has"),
            ("/a#b", "what no path has"),
        ] {
            let error = check(path).expect_err(path);
            assert_eq!(error.field.as_deref(), Some("rewrite.path"), "{error}");
            assert!(error.message.contains(says), "{error}");
        }
    }
}
