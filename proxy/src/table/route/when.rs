//! Whether a request is what a service wants beside its host and its path.

use std::borrow::Cow;

use admin_api::WhenSpec;

use crate::wire::head::Message;

/// What a request has beside its host and its path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rest<'r> {
    pub(crate) request: Message<'r>,
    /// With its `?`, empty where there is none.
    pub(crate) query: &'r [u8],
}

/// How much is wanted: who wants more goes first. A method counts most, then header fields.
pub(super) fn specificity(when: &WhenSpec) -> (bool, usize, usize) {
    let has_methods = !when.methods.is_empty();
    (has_methods, when.headers.len(), when.query.len())
}

/// Whether a request has all that is wanted.
pub(super) fn passes(when: &WhenSpec, rest: Rest<'_>) -> bool {
    let request = rest.request;
    let method = request.method();
    let is_method = |one: &String| one.as_bytes() == method;
    let has_method = when.methods.is_empty() || when.methods.iter().any(is_method);
    let mut headers = when.headers.iter();
    let mut query = when.query.iter();
    has_method
        && headers.all(|(name, test)| test.passes(request.named(name)))
        && query.all(|(name, test)| test.passes(values(rest.query, name)))
}

/// The values that a query has for a parameter.
fn values<'q>(query: &'q [u8], name: &'q str) -> impl Iterator<Item = Cow<'q, [u8]>> {
    let query = query.strip_prefix(b"?").unwrap_or(query);
    let pairs = query.split(|byte| *byte == b'&');
    pairs.filter_map(move |pair| {
        let equals = memchr::memchr(b'=', pair);
        let (key, value) = pair.split_at(equals.unwrap_or(pair.len()));
        // One without `=` is there, and empty.
        let is_it = !pair.is_empty() && *decoded(key) == *name.as_bytes();
        is_it.then(|| decoded(value.strip_prefix(b"=").unwrap_or(value)))
    })
}

/// A part of a query as a form means it. What is no escape stands for itself.
fn decoded(part: &[u8]) -> Cow<'_, [u8]> {
    if !part.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(part);
    }
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut text = Vec::with_capacity(part.len());
    let mut rest = part;
    while let [byte, after @ ..] = rest {
        rest = after;
        match (byte, after) {
            (b'+', _) => text.push(b' '),
            (b'%', [high, low, after @ ..]) => match (digit(high), digit(low)) {
                (Some(high), Some(low)) => {
                    text.push((high << 4 | low) as u8);
                    rest = after;
                }
                _ => text.push(b'%'),
            },
            _ => text.push(*byte),
        }
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use admin_api::strict::from_json;

    use super::*;
    use crate::testing::with_request;

    #[track_caller]
    fn check(when: &str, query: &str, want: bool) {
        let spec = from_json::<WhenSpec>(when.as_bytes()).unwrap();
        with_request("x-a: 1\r\nX-A: 2\r\nx-b:\r\n", |request| {
            let query = query.as_bytes();
            let rest = Rest { request, query };
            assert_eq!(passes(&spec, rest), want, "{when}");
        });
    }

    #[test]
    fn all_that_is_wanted_has_to_be_there() {
        for (when, want) in [
            (r#"{"methods":["POST","GET"]}"#, true),
            (r#"{"methods":["POST"]}"#, false),
            (r#"{"headers":{"X-a":"2"}}"#, true),
            (r#"{"headers":{"x-a":"3"}}"#, false),
            (r#"{"headers":{"x-a":"1, 2"}}"#, false),
            (r#"{"headers":{"x-a":{"regex":"[0-9]"}}}"#, true),
            (r#"{"headers":{"x-a":{"regex":"[3-9]"}}}"#, false),
            (r#"{"headers":{"x-b":true}}"#, true),
            (r#"{"headers":{"x-b":""}}"#, true),
            (r#"{"headers":{"x-b":false}}"#, false),
            (r#"{"headers":{"x-c":false}}"#, true),
            (r#"{"headers":{"x-c":true}}"#, false),
            (r#"{"headers":{"x-a":"1","x-c":"1"}}"#, false),
            (r#"{"methods":["POST"],"headers":{"x-a":"1"}}"#, false),
        ] {
            check(when, "", want);
        }
    }

    #[test]
    fn a_query_is_read_as_forms_write_it() {
        for (when, query, want) in [
            (r#"{"query":{"a":"1"}}"#, "?a=1", true),
            (r#"{"query":{"a":"1"}}"#, "?b=1&a=1&c", true),
            (r#"{"query":{"a":"1"}}"#, "?a=2&a=1", true),
            (r#"{"query":{"a":"1"}}"#, "?aa=1&b=a=1", false),
            (r#"{"query":{"a":"1"}}"#, "?A=1", false),
            (r#"{"query":{"a":true}}"#, "?a", true),
            (r#"{"query":{"a":""}}"#, "?a&b", true),
            (r#"{"query":{"a":false}}"#, "?b=a", true),
            (r#"{"query":{"a":true}}"#, "", false),
            (r#"{"query":{"a b":"c d&"}}"#, "?a+b=c%20d%26", true),
            (r#"{"query":{"%a%zz%":"1"}}"#, "?%a%zz%=1", true),
            (r#"{"query":{"a":{"regex":"[0-9]+"}}}"#, "?a=%31%32", true),
            (r#"{"query":{"a":{"regex":"[0-9]+"}}}"#, "?a=12x", false),
        ] {
            check(when, query, want);
        }
    }
}
