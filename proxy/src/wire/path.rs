//! The path of a request, as it came and in its normal form (RFC 3986, 6.2.2).
//!
//! In the normal form, escapes of unreserved characters are decoded and others are in upper case,
//! repeated slashes are one, as nginx merges them, and dot segments are resolved. Routes match it, so
//! that an endpoint which resolves them sees no other path than the one that was routed. `%2F` and
//! `%5C` are no separators, and are never decoded. UTF-8 that is not escaped is so in the normal form,
//! and in whatever goes on: no URI has it (2.1), and it means the same.

use admin_api::SendPath;

/// A path that has no normal form: an escape is broken, or it goes above the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadPath;

/// The path of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Path<'m> {
    original: &'m [u8],
    /// What differs from the original. Most paths come in their normal form.
    changed: Option<Box<Changed>>,
}

/// A path that was put into its normal form.
#[derive(Debug, PartialEq, Eq)]
struct Changed {
    normal: Vec<u8>,
    /// The same before its dot segments were resolved, where it had any.
    dotted: Option<Vec<u8>>,
}

impl<'m> Path<'m> {
    /// Takes the path off the start of a target in origin form. Gives the rest, too: the query with
    /// its `?`.
    pub(crate) fn split_off(target: &'m [u8]) -> Result<(Self, &'m [u8]), BadPath> {
        let (end, is_normal) = scan(target);
        let (original, query) = target.split_at(end);
        let changed = match is_normal {
            true => None,
            false => Changed::of(original)?.map(Box::new),
        };
        Ok((Self { original, changed }, query))
    }

    /// The path in its normal form: it begins with `/`, or is `*`.
    pub(crate) fn normal(&self) -> &[u8] {
        match &self.changed {
            Some(changed) => &changed.normal,
            None if self.original.is_empty() => b"/",
            None => self.original,
        }
    }

    /// The normal form but for its dot segments, if it has any.
    pub(crate) fn dotted(&self) -> Option<&[u8]> {
        self.changed.as_ref()?.dotted.as_deref()
    }

    /// Writes the path that an endpoint gets, in this form, without the prefix that is to be
    /// stripped. It begins with `/`, or is `*`; where something is stripped, with one `/`.
    pub(crate) fn write(&self, form: SendPath, strip: Option<&str>, to: &mut Vec<u8>) {
        if strip.is_none() && self.changed.is_none() {
            // The normal form is ASCII.
            return to.extend_from_slice(self.normal());
        }
        let is_original = match form {
            SendPath::Auto => self.dotted().is_none(),
            // `..` could lead out of what is left.
            SendPath::Original => strip.is_none() || self.dotted().is_none(),
            SendPath::Normalised => false,
        };
        let whole = if is_original {
            self.original
        } else {
            self.normal()
        };
        let stripped = strip.and_then(|prefix| {
            // An original may have the prefix in other words.
            without(whole, prefix).or_else(|| without(self.normal(), prefix))
        });
        match stripped {
            Some(rest) => {
                to.push(b'/');
                write_escaped(rest, to);
            }
            None if whole.is_empty() => to.push(b'/'),
            None => write_escaped(whole, to),
        }
    }
}

/// Writes a part of a target, with escapes in place of what is not ASCII.
pub(crate) fn write_escaped(part: &[u8], to: &mut Vec<u8>) {
    if part.is_ascii() {
        return to.extend_from_slice(part);
    }
    for byte in part {
        match byte {
            0x80.. => to.extend(escape(*byte)),
            _ => to.push(*byte),
        }
    }
}

/// The escape of a byte (RFC 3986, 2.1).
fn escape(byte: u8) -> [u8; 3] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |value: u8| DIGITS[usize::from(value)];
    [b'%', digit(byte >> 4), digit(byte & 0xf)]
}

/// What a path has after a prefix that ends at a `/`, without the slashes that it begins with.
fn without<'p>(path: &'p [u8], prefix: &str) -> Option<&'p [u8]> {
    let rest = path.strip_prefix(prefix.as_bytes())?;
    let slashes = rest.iter().take_while(|byte| **byte == b'/').count();
    (rest.is_empty() || slashes > 0).then(|| &rest[slashes..])
}

/// Where the path of a target ends, and whether it is in its normal form for sure: it has no escape,
/// nothing that needs one, and no slash has another one or a dot behind it.
fn scan(target: &[u8]) -> (usize, bool) {
    let mut is_normal = true;
    for (at, byte) in target.iter().enumerate() {
        match byte {
            b'?' => return (at, is_normal),
            b'%' | 0x80.. => is_normal = false,
            b'/' | b'.' if at > 0 && target[at - 1] == b'/' => is_normal = false,
            _ => {}
        }
    }
    (target.len(), is_normal)
}

impl Changed {
    /// `None`: the path is in its normal form.
    fn of(path: &[u8]) -> Result<Option<Self>, BadPath> {
        let flat = flatten(path)?;
        let mut segments = flat.split(|byte| *byte == b'/');
        if segments.any(|segment| matches!(segment, b"." | b"..")) {
            return Ok(Some(Self {
                normal: resolve(&flat)?,
                dotted: Some(flat),
            }));
        }
        Ok((flat != path).then_some(Self {
            normal: flat,
            dotted: None,
        }))
    }
}

/// Decodes the escapes of unreserved characters (RFC 3986, 2.3), escapes what is not ASCII, and merges
/// slashes.
fn flatten(path: &[u8]) -> Result<Vec<u8>, BadPath> {
    let mut flat = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [byte, after @ ..] = rest {
        rest = after;
        match (byte, after) {
            (b'%', [high, low, after @ ..]) => {
                rest = after;
                match hex(*high)? << 4 | hex(*low)? {
                    byte if is_unreserved(byte) => flat.push(byte),
                    _ => flat.extend([b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]),
                }
            }
            // What is decoded twice could become a dot.
            (b'%', _) => return Err(BadPath),
            (b'/', _) if flat.last() == Some(&b'/') => {}
            (0x80.., _) => flat.extend(escape(*byte)),
            _ => flat.push(*byte),
        }
    }
    Ok(flat)
}

/// Resolves the dot segments (RFC 3986, 5.2.4) of a path without repeated slashes. One that goes above
/// the root is refused.
fn resolve(flat: &[u8]) -> Result<Vec<u8>, BadPath> {
    let mut path = Vec::with_capacity(flat.len());
    let below_root = flat.strip_prefix(b"/").ok_or(BadPath)?;
    let mut segments = below_root.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            b"." => {}
            b".." => {
                let parent = path.iter().rposition(|byte| *byte == b'/');
                path.truncate(parent.ok_or(BadPath)?);
            }
            _ => {
                path.push(b'/');
                path.extend_from_slice(segment);
                continue;
            }
        }
        // What a dot segment stands for is a folder.
        if is_last {
            path.push(b'/');
        }
    }
    Ok(path)
}

fn hex(digit: u8) -> Result<u8, BadPath> {
    let value = char::from(digit).to_digit(16).ok_or(BadPath)?;
    Ok(value as u8)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// The normal form of a path that people have written, such as a prefix. `None`: it has dot segments
/// or a broken escape.
pub(crate) fn normal_of(path: &str) -> Option<String> {
    let (path, _) = Path::split_off(path.as_bytes()).ok()?;
    let has_dots = path.dotted().is_some();
    let normal = String::from_utf8(path.normal().to_vec()).ok()?;
    (!has_dots).then_some(normal)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    #[track_caller]
    fn check(target: &str, want: Result<&str, BadPath>) {
        let path = Path::split_off(target.as_bytes());
        let got = path.map(|(path, _)| String::from_utf8(path.normal().to_vec()).unwrap());
        assert_eq!(got.as_deref().map_err(|bad| *bad), want, "{target:?}");
    }

    #[test]
    fn a_path_has_one_normal_form() {
        for (target, want) in [
            ("", "/"),
            ("*", "*"),
            ("/", "/"),
            ("/a/b.c/", "/a/b.c/"),
            ("/a?/../b", "/a"),
            ("//", "/"),
            ("/a//b///c//", "/a/b/c/"),
            ("/%61%2D%2e%5F%7e", "/a-._~"),
            ("/a%2fb%5cc", "/a%2Fb%5Cc"),
            ("/%c3%a9%25%3f%00", "/%C3%A9%25%3F%00"),
            ("/é/../日", "/%E6%97%A5"),
            ("/%252e%252e/", "/%252e%252e/"),
            ("/.", "/"),
            ("/./", "/"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../", "/a/"),
            ("/a/./b/../c", "/a/c"),
            ("/public/../admin", "/admin"),
            ("/public/%2e%2e/admin", "/admin"),
            ("/public/.%2E/admin", "/admin"),
            ("/public//../admin", "/admin"),
            ("/a/...", "/a/..."),
            ("/a/.b/..c", "/a/.b/..c"),
            ("/a/..;/b", "/a/..;/b"),
            ("/a/..%2fb", "/a/..%2Fb"),
            ("/.well-known/x", "/.well-known/x"),
        ] {
            check(target, Ok(want));
        }
    }

    #[test]
    fn what_goes_above_the_root_or_has_a_broken_escape_is_refused() {
        for target in [
            "/..",
            "/../",
            "/../a",
            "/a/../..",
            "/a/../../a",
            "/%2e%2e/a",
            "//..//a",
            "/./..",
            "/%",
            "/%4",
            "/%4?1",
            "/%zz",
            "/%%32e",
            "/%-1",
            "/a%2",
            "/%+1",
        ] {
            check(target, Err(BadPath));
        }
    }

    /// What an endpoint gets of this path in each form, without the prefix.
    #[track_caller]
    fn check_sent(target: &str, strip: Option<&str>, want: [&str; 3]) {
        let (path, _) = Path::split_off(target.as_bytes()).unwrap();
        let sent = [SendPath::Auto, SendPath::Original, SendPath::Normalised].map(|form| {
            let mut to = Vec::new();
            path.write(form, strip, &mut to);
            String::from_utf8(to).unwrap()
        });
        assert_eq!(sent, want, "{target:?} without {strip:?}");
    }

    #[test]
    fn a_path_goes_on_as_it_came_but_for_its_dot_segments() {
        check_sent("/a/b", None, ["/a/b"; 3]);
        check_sent("", None, ["/"; 3]);
        check_sent("*", None, ["*"; 3]);
        check_sent("//a//%62", None, ["//a//%62", "//a//%62", "/a/b"]);
        check_sent("/a/../b", None, ["/b", "/a/../b", "/b"]);
        check_sent("/a//./%62%2f", None, ["/a/b%2F", "/a//./%62%2f", "/a/b%2F"]);
        check_sent(
            "/é%c3%a9",
            None,
            ["/%C3%A9%c3%a9", "/%C3%A9%c3%a9", "/%C3%A9%C3%A9"],
        );
    }

    #[test]
    fn what_is_left_of_a_path_begins_with_one_slash() {
        let api = Some("/api");
        check_sent("/api", api, ["/"; 3]);
        check_sent("/api/", api, ["/"; 3]);
        check_sent("/api/v1", api, ["/v1"; 3]);
        check_sent("/api//evil.test/x", api, ["/evil.test/x"; 3]);
        check_sent("/api///x//y", api, ["/x//y", "/x//y", "/x/y"]);
        check_sent("//evil.test", Some(""), ["/evil.test"; 3]);
        check_sent("/%61pi/v1", api, ["/v1"; 3]);
        check_sent("//api//v1", api, ["/v1"; 3]);
        check_sent("/api/%61", api, ["/%61", "/%61", "/a"]);
        check_sent("/api/../api/./x", api, ["/x"; 3]);
        check_sent("/api/*", api, ["/*"; 3]);
        check_sent("/api/é", api, ["/%C3%A9"; 3]);
        check_sent("*", Some(""), ["*"; 3]);
    }

    /// Paths that are made to go astray.
    fn paths() -> impl Strategy<Value = String> {
        let parts = [
            "/", "//", ".", "..", "/..", "%2e", "%2E%2e", "%2f", "%5c", "%25", "%", "%4", "2e",
            "a", "api", "/api", "%61", "\\", ";", "?", "*", "é",
        ];
        let begins = select(vec!["/", "/api", "/api/", "//api/"]);
        let parts = prop::collection::vec(select(parts.to_vec()), 0..12);
        (begins, parts).prop_map(|(begins, parts)| format!("{begins}{}", parts.concat()))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn a_normal_form_is_its_own_and_has_no_dot_segments(target in paths()) {
            if let Ok((path, query)) = Path::split_off(target.as_bytes()) {
                let normal = path.normal();
                prop_assert!(target.as_bytes().ends_with(query));
                let again = Path::split_off(normal).unwrap().0;
                prop_assert_eq!(again.normal(), normal);
                prop_assert!(again.changed.is_none());
                let has_repeated = normal.windows(2).any(|pair| pair == b"//");
                prop_assert!(normal.starts_with(b"/") && !has_repeated);
                let mut segments = normal.split(|byte| *byte == b'/');
                prop_assert!(!segments.any(|segment| matches!(segment, b"." | b"..")));
            }
        }

        #[test]
        fn what_is_left_without_a_prefix_stays_below_it(target in paths()) {
            let Ok((path, _)) = Path::split_off(target.as_bytes()) else { return Ok(()) };
            if without(path.normal(), "/api").is_none() { return Ok(()) }
            for form in [SendPath::Auto, SendPath::Original, SendPath::Normalised] {
                let mut sent = Vec::new();
                path.write(form, Some("/api"), &mut sent);
                prop_assert!(sent.starts_with(b"/") && !sent.starts_with(b"//"));
                // As the endpoint may read it, it is what is behind the prefix.
                let inside = [b"/api", &sent[..]].concat();
                let read = Path::split_off(&inside).unwrap().0;
                let trimmed = |path: &[u8]| path.strip_suffix(b"/").unwrap_or(path).to_vec();
                prop_assert_eq!(trimmed(read.normal()), trimmed(path.normal()));
            }
        }
    }
}
