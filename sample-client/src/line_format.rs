//! The quoting of the text line format: each line is a Python dict literal, so strings are written
//! as Python's `repr` writes them.

use std::fmt::Write as _;

/// Returns `text` in quotes, as Python 3 prints a `str` inside a `dict`.
///
/// Python escapes characters by their Unicode category. This function covers the categories that
/// occur in practice: controls, spaces and format marks.
pub(crate) fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut shown = String::with_capacity(text.len() + 2);
    shown.push(quote);
    for c in text.chars() {
        match c {
            '\\' => shown.push_str("\\\\"),
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            c if c == quote => {
                shown.push('\\');
                shown.push(c);
            }
            c if is_printable(c) => shown.push(c),
            c => push_escaped(&mut shown, c),
        }
    }
    shown.push(quote);
    shown
}

fn push_escaped(shown: &mut String, c: char) {
    let code = u32::from(c);
    // Writing to a String cannot fail.
    let _ = match code {
        0..=0xff => write!(shown, "\\x{code:02x}"),
        0x100..=0xffff => write!(shown, "\\u{code:04x}"),
        _ => write!(shown, "\\U{code:08x}"),
    };
}

fn is_printable(c: char) -> bool {
    match c {
        ' ' => true,
        '\u{ad}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{e000}'..='\u{f8ff}'
        | '\u{feff}' => false,
        c => !c.is_control() && !c.is_whitespace(),
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    // What Python 3 prints for each.
    #[test]
    fn text_is_quoted_as_python_quotes_it() {
        for (text, want) in [
            ("", "''"),
            (
                r#"{"message":"Hello World"}"#,
                r#"'{"message":"Hello World"}'"#,
            ),
            ("it's", r#""it's""#),
            (r#"it's "it""#, r#"'it\'s "it"'"#),
            ("a\\b", r"'a\\b'"),
            ("a\nb\r\tc", r"'a\nb\r\tc'"),
            ("\0\x07\x1b\x7f", r"'\x00\x07\x1b\x7f'"),
            ("\u{85}\u{a0}\u{ad}", r"'\x85\xa0\xad'"),
            ("grüße, 世界 🎚", "'grüße, 世界 🎚'"),
            ("\u{2028}\u{feff}\u{fffd}", "'\\u2028\\ufeff\u{fffd}'"),
        ] {
            assert_eq!(quoted(text), want);
        }
    }
}
