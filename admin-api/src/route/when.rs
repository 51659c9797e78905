//! What a request has to be like for a service, beside its host and its path.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::names::{check_method, header_name};
use crate::route::Pattern;
use crate::strict::{InputError, push_key};
use crate::traffic::Setting;

/// How many methods, header fields and parameters each may be named.
const MAX_TESTS: usize = 32;
/// How long a value may be.
const MAX_VALUE: usize = 1_000;

/// What a request has to be like. All of it has to be so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WhenSpec {
    /// One of these methods. Default: every method.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Header fields, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, ValueTest>,
    /// Parameters of the query, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, ValueTest>,
}

/// What a value has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueTest {
    /// This text.
    Is(String),
    /// All of it matches.
    Matches(Pattern),
    /// It is there, whatever it is, or not.
    Present(bool),
}

impl ValueTest {
    /// Whether a message with these values passes.
    pub fn passes<V: AsRef<[u8]>>(&self, mut values: impl Iterator<Item = V>) -> bool {
        match self {
            Self::Is(text) => values.any(|value| value.as_ref() == text.as_bytes()),
            Self::Matches(pattern) => values.any(|value| pattern.matches(value.as_ref())),
            Self::Present(wanted) => values.next().is_some() == *wanted,
        }
    }
}

impl Setting for WhenSpec {
    fn check(&self) -> Result<(), InputError> {
        let Self {
            methods,
            headers,
            query,
        } = self;
        if methods.is_empty() && headers.is_empty() && query.is_empty() {
            let message = "needs `methods`, `headers` or `query`";
            return Err(InputError::of_whole(message));
        }
        let counts = [
            ("methods", methods.len()),
            ("headers", headers.len()),
            ("query", query.len()),
        ];
        for (field, count) in counts {
            if count > MAX_TESTS {
                let message = format!("has {count} entries: at most {MAX_TESTS}");
                return Err(InputError::of_field(field, message));
            }
        }
        check_methods(methods)?;
        for (name, test) in headers {
            let checked = header_name(name).map_err(InputError::of_whole);
            let checked = checked.map(drop).and_then(|()| test.check());
            checked.map_err(|error| error.inside(&field_of("headers", name)))?;
        }
        for (name, test) in query {
            let checked = match name.is_empty() || name.len() > MAX_VALUE {
                true => Err(InputError::of_whole("is not the name of a parameter")),
                false => test.check(),
            };
            checked.map_err(|error| error.inside(&field_of("query", name)))?;
        }
        Ok(())
    }
}

impl Setting for ValueTest {
    fn check(&self) -> Result<(), InputError> {
        match self {
            Self::Is(text) if text.len() > MAX_VALUE => {
                let message = format!("has {} bytes: at most {MAX_VALUE}", text.len());
                Err(InputError::of_whole(message))
            }
            _ => Ok(()),
        }
    }
}

fn check_methods(methods: &[String]) -> Result<(), InputError> {
    for (at, method) in methods.iter().enumerate() {
        let wrong = |message: String| InputError::of_field(format!("methods[{at}]"), message);
        check_method(method).map_err(wrong)?;
        if methods[..at].contains(method) {
            return Err(wrong(format!("`{method}` is listed twice")));
        }
    }
    Ok(())
}

fn field_of(key: &str, name: &str) -> String {
    let mut field = key.to_owned();
    push_key(&mut field, name);
    field
}
