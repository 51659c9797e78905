//! A regular expression that a text has to match as a whole.

use std::fmt;
use std::hash::{Hash, Hasher};

use regex::bytes::{Captures, Regex, RegexBuilder};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How many characters an expression may have.
const MAX_LENGTH: usize = 1_000;
/// What it may take when it is compiled, and what a thread may set aside for its states.
const MAX_COMPILED: usize = 256 * 1024;
/// How deep its groups may be.
const MAX_DEPTH: u32 = 20;

/// A regular expression of the `regex` crate, which a text has to match as a whole. It takes time in
/// proportion to the text, whatever both are.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    /// Reads an expression.
    pub fn new(text: &str) -> Result<Self, String> {
        let length = text.len();
        if !(1..=MAX_LENGTH).contains(&length) {
            return Err(format!(
                "has {length} bytes: a regular expression has from 1 to {MAX_LENGTH}"
            ));
        }
        // By itself first: a parenthesis too many would close the one around it.
        for whole in [text.to_owned(), format!("^(?:{text})$")] {
            let built = build(&whole);
            let regex = built.map_err(|error| says(text, &error))?;
            if whole != text {
                let text = text.to_owned();
                return Ok(Self { text, regex });
            }
        }
        Err(format!("`{text}` is no regular expression"))
    }

    /// As it is written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether all of a text matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.regex.is_match(text)
    }

    /// What the groups have of a text, if all of it matches.
    pub fn captures<'t>(&self, text: &'t [u8]) -> Option<Captures<'t>> {
        self.regex.captures(text)
    }

    /// The names of its groups.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.regex.capture_names().flatten()
    }
}

fn build(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text)
        // Paths and hosts are ASCII, and classes are smaller so.
        .unicode(false)
        .size_limit(MAX_COMPILED)
        .dfa_size_limit(MAX_COMPILED)
        .nest_limit(MAX_DEPTH)
        .build()
}

fn says(text: &str, error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => format!(
            "`{text}` takes more than {} KiB when it is compiled: count less, as by `+` in place of `{{1,500}}`",
            MAX_COMPILED / 1024
        ),
        error => {
            // The crate draws where it is wrong; the last line says what.
            let whole = error.to_string();
            let last = whole.lines().last().unwrap_or_default();
            let why = last.strip_prefix("error: ").unwrap_or(last);
            format!("`{text}` is no regular expression: {why}")
        }
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

/// In the order in which they are tried: the longest first.
impl Ord for Pattern {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let longest_first = other.text.len().cmp(&self.text.len());
        longest_first.then_with(|| self.text.cmp(&other.text))
    }
}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PatternVisitor;

        impl Visitor<'_> for PatternVisitor {
            type Value = Pattern;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a regular expression, such as \"/items/[0-9]+\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Pattern, E> {
                Pattern::new(text).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(PatternVisitor)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_text_matches_as_a_whole() {
        for (pattern, text, want) in [
            ("/a", "/a", true),
            ("/a", "/ab", false),
            ("/a", "x/a", false),
            ("/a|/b", "/b", true),
            ("/a|/b", "/bc", false),
            ("/items/[0-9]+", "/items/12", true),
            ("/items/[0-9]+", "/items/12/", false),
            ("(?i)/A", "/a", true),
            ("/.*", "/a/b", true),
            (r"\w+", "caf\u{e9}", false),
            ("^/a$", "/a", true),
        ] {
            let read = Pattern::new(pattern).expect(pattern);
            assert_eq!(read.matches(text.as_bytes()), want, "{pattern} {text}");
        }
        let named = Pattern::new("/(?<id>[0-9]+)/(?<rest>.*)").expect("a pattern");
        assert_eq!(named.groups().collect::<Vec<_>>(), ["id", "rest"]);
        let captures = named.captures(b"/12/a/b").expect("a match");
        assert_eq!(&captures["rest"], b"a/b");
    }

    #[test]
    fn what_is_no_expression_or_too_large_is_refused_with_the_reason() {
        #[track_caller]
        fn check(pattern: &str, says: &str) {
            let error = Pattern::new(pattern).expect_err(pattern);
            assert!(error.contains(says), "{error}");
        }
        check("", "has 0 bytes");
        check(&"a".repeat(1_001), "has 1001 bytes");
        check("/(a", "`/(a` is no regular expression: unclosed group");
        check("/a)|(/b", "is no regular expression: unopened group");
        check("/[z-a]", "is no regular expression");
        check("(a{1000}){1000}", "takes more than 256 KiB");
        check("((a{100}){100}){100}", "takes more than 256 KiB");
        check(
            &format!("{}a{}", "(".repeat(30), ")".repeat(30)),
            "no regular expression",
        );
        check(r"\p{Greek}", "no regular expression");
        check(r"(a)\1", "backreferences are not supported");
    }

    #[test]
    fn no_text_takes_long() {
        // Engines that go back take ages for these.
        let text = "a".repeat(64 * 1024);
        for pattern in ["(a+)+b", "(a|a)*b", "(a|aa)+$b", "(.*)*x", "a{0,50}a{50}b"] {
            let read = Pattern::new(pattern).expect(pattern);
            let begun = Instant::now();
            assert!(!read.matches(text.as_bytes()), "{pattern}");
            assert!(begun.elapsed() < Duration::from_secs(5), "{pattern}");
        }
    }
}
