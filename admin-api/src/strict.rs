//! Strict reading of JSON and TOML: an error says which field, on which line, what is wrong
//! with it, and which key was meant where one looks like a slip of the keyboard.

use std::fmt;
use std::path::Path;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What is wrong with a piece of input, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct InputError {
    /// The line, counted from 1, where the input is a file.
    pub line: Option<usize>,
    /// The field, such as `services[0].split."2.0.0"`.
    pub field: Option<String>,
    /// What is wrong and what would be right.
    pub message: String,
}

impl InputError {
    /// An error about one field of an input that was well-formed.
    pub fn of_field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            line: None,
            field: Some(field.into()),
            message: message.into(),
        }
    }

    /// An error about a whole input, or about a value whose place its reader knows
    /// ([`InputError::inside`]).
    pub fn of_whole(message: impl Into<String>) -> Self {
        Self {
            line: None,
            field: None,
            message: message.into(),
        }
    }

    /// The same error where the value that was checked is at `outer`, such as `health`.
    pub fn inside(mut self, outer: &str) -> Self {
        self.field = Some(match self.field {
            None => outer.to_owned(),
            Some(field) if field.starts_with('[') => format!("{outer}{field}"),
            Some(field) => format!("{outer}.{field}"),
        });
        self
    }

    /// The error as a message about a file: `proxy.toml:3: services[0].split: …`.
    pub fn in_file(&self, path: &Path) -> String {
        let path = path.display();
        let rest = Self {
            line: None,
            ..self.clone()
        };
        match self.line {
            Some(line) => format!("{path}:{line}: {rest}"),
            None => format!("{path}: {rest}"),
        }
    }

    /// The same error with the line at which `toml` has the field.
    pub fn located_in(mut self, toml: &str) -> Self {
        if self.line.is_none() {
            self.line = self.field.as_deref().and_then(|field| line_of(toml, field));
        }
        self
    }
}

/// `line 3: services[0].split: …`, with the parts that are known.
impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Reads JSON.
pub fn from_json<T: DeserializeOwned>(json: &[u8]) -> Result<T, InputError> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value: T = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let field = field_of(error.path());
        let inner = error.into_inner();
        // serde_json appends its own position, which is of no use for JSON on one line.
        let text = inner.to_string();
        let message = text.split(" at line ").next().unwrap_or(&text);
        InputError {
            line: None,
            field,
            message: with_suggestion(message),
        }
    })?;
    deserializer.end().map_err(|_| InputError {
        line: None,
        field: None,
        message: "unexpected text after the JSON value".into(),
    })?;
    Ok(value)
}

/// Reads TOML.
pub fn from_toml<T: DeserializeOwned>(text: &str) -> Result<T, InputError> {
    let of_toml = |field: Option<String>, error: &toml::de::Error| InputError {
        line: error.span().map(|span| line_at(text, span.start)),
        field,
        message: with_suggestion(error.message()),
    };
    let deserializer = toml::Deserializer::parse(text).map_err(|error| of_toml(None, &error))?;
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let field = field_of(error.path());
        of_toml(field, error.inner()).located_in(text)
    })
}

/// Where the error is, in the way a person would write it. `None` for the whole input.
fn field_of(path: &serde_path_to_error::Path) -> Option<String> {
    use serde_path_to_error::Segment;

    let mut field = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => field.push_str(&format!("[{index}]")),
            Segment::Map { key } => push_key(&mut field, key),
            Segment::Enum { variant } => push_key(&mut field, variant),
            Segment::Unknown => {}
        }
    }
    (!field.is_empty()).then_some(field)
}

/// Appends a key to a field path, quoted where TOML would want it quoted.
pub fn push_key(field: &mut String, key: &str) {
    if !field.is_empty() {
        field.push('.');
    }
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !key.is_empty() && key.chars().all(bare) {
        field.push_str(key);
    } else {
        field.push_str(&format!("{key:?}"));
    }
}

/// Adds "did you mean" to serde's message about an unknown field or variant.
fn with_suggestion(message: &str) -> String {
    let message = message.trim_end();
    let Some(rest) = message
        .strip_prefix("unknown field ")
        .or(message.strip_prefix("unknown variant "))
    else {
        return message.to_owned();
    };
    let mut names = rest.split('`').skip(1).step_by(2);
    let Some(unknown) = names.next() else {
        return message.to_owned();
    };
    match closest(unknown, names) {
        Some(meant) => format!("{message}; did you mean `{meant}`?"),
        None => message.to_owned(),
    }
}

/// The name that `unknown` was probably meant to be.
pub fn closest<'a>(unknown: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Such a long name is not a typing error, and the distance takes time.
    if unknown.len() > 64 {
        return None;
    }
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(unknown, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len().min(unknown.len()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// The line, counted from 1, on which `toml` has `field`, or the nearest table around it.
fn line_of(toml: &str, field: &str) -> Option<usize> {
    let table = DeTable::parse(toml).ok()?;
    let mut at = None;
    let mut value: Option<&Spanned<DeValue<'_>>> = None;
    for segment in segments(field) {
        let found = match (value.map(Spanned::as_ref), &segment) {
            (None, Segment::Key(key)) => entry(table.get_ref(), key),
            (Some(DeValue::Table(inner)), Segment::Key(key)) => entry(inner, key),
            (Some(DeValue::Array(items)), Segment::Index(index)) => {
                items.get(*index).map(|item| (item.span().start, item))
            }
            _ => None,
        };
        let Some((start, next)) = found else { break };
        at = Some(start);
        value = Some(next);
    }
    at.map(|start| line_at(toml, start))
}

fn entry<'a, 'i>(table: &'a DeTable<'i>, key: &str) -> Option<(usize, &'a Spanned<DeValue<'i>>)> {
    let (name, value) = table.iter().find(|(name, _)| name.get_ref() == key)?;
    Some((name.span().start, value))
}

enum Segment {
    Key(String),
    Index(usize),
}

/// Takes `services[0].split."2.0.0"` apart.
fn segments(field: &str) -> Vec<Segment> {
    let mut found = Vec::new();
    let mut rest = field;
    while let Some(first) = rest.chars().next() {
        if first == '.' {
            rest = &rest[1..];
        } else if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted.find('"').unwrap_or(quoted.len());
            found.push(Segment::Key(quoted[..end].to_owned()));
            rest = quoted.get(end + 1..).unwrap_or_default();
        } else if let Some(index) = rest.strip_prefix('[') {
            let end = index.find(']').unwrap_or(index.len());
            found.extend(index[..end].parse().ok().map(Segment::Index));
            rest = index.get(end + 1..).unwrap_or_default();
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            found.push(Segment::Key(rest[..end].to_owned()));
            rest = &rest[end..];
        }
    }
    found
}

fn line_at(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    before.bytes().filter(|byte| *byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::{ServiceSpec, SplitRequest};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Config {
        #[expect(dead_code, reason = "read for its errors")]
        services: Vec<ServiceSpec>,
    }

    #[track_caller]
    fn check_toml(text: &str, line: usize, field: &str, says: &str) {
        let error = from_toml::<Config>(text).expect_err("this input is wrong");
        assert_eq!(error.line, Some(line), "{error}");
        assert_eq!(error.field.as_deref(), Some(field), "{error}");
        assert!(error.message.contains(says), "{error}");
    }

    #[test]
    fn a_typo_in_a_key_is_named_with_the_key_that_was_meant() {
        check_toml(
            "[[services]]\nname = \"web\"\nhots = [\"a\"]\n",
            3,
            "services[0].hots",
            "did you mean `hosts`?",
        );
    }

    #[test]
    fn a_negative_weight_is_named_with_its_line() {
        check_toml(
            "[[services]]\nname = \"web\"\n\n[services.split]\n\"1.0.0\" = 90\n\"2.0.0\" = -1\n",
            6,
            "services[0].split.\"2.0.0\"",
            "a whole number from 0 to 1000000",
        );
    }

    #[test]
    fn a_duration_without_a_unit_is_refused_with_an_example() {
        check_toml(
            "[[services]]\nname = \"web\"\nhealth = { path = \"/\", interval = \"5\" }\n",
            3,
            "services[0].health.interval",
            "500ms or 30s",
        );
    }

    #[test]
    fn broken_toml_names_its_line() {
        let error = from_toml::<Config>("[[services]]\nname = \n").expect_err("broken");
        assert_eq!(error.line, Some(2), "{error}");
    }

    #[track_caller]
    fn check_json(json: &str, field: Option<&str>, says: &str) {
        let error = from_json::<SplitRequest>(json.as_bytes()).expect_err("this input is wrong");
        assert_eq!(error.field.as_deref(), field, "{error}");
        assert!(error.message.contains(says), "{error}");
    }

    #[test]
    fn json_errors_name_the_field() {
        check_json(
            r#"{"split":{"1.0.0":"ten"}}"#,
            Some("split.\"1.0.0\""),
            "a whole number from 0",
        );
        check_json(
            r#"{"split":{"1.0.0":1.5}}"#,
            Some("split.\"1.0.0\""),
            "a whole number from 0",
        );
        check_json(r#"{"spilt":{}}"#, Some("spilt"), "did you mean `split`?");
        check_json(
            r#"{"split":{"1":1,"1":2}}"#,
            Some("split"),
            "`1` is listed twice",
        );
        check_json(r#"{"split":{}} x"#, None, "unexpected text after");
        check_json(r#"{"split":"#, Some("split"), "EOF");
    }

    #[test]
    fn the_line_of_a_field_is_found_through_tables_and_arrays() {
        let text = "a = 1\n[[services]]\nname = \"x\"\n[[services]]\nname = \"y\"\nsplit = { \"1.0\" = 1 }\n";
        for (field, line) in [
            ("a", 1),
            ("services[1].name", 5),
            ("services[1].split.\"1.0\"", 6),
            ("services[1].missing", 4),
        ] {
            let error = InputError::of_field(field, "wrong").located_in(text);
            assert_eq!(error.line, Some(line), "{field}");
        }
    }
}
