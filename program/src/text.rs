//! How numbers are written for people, and texts of others.

use std::borrow::Cow;

/// Digits in groups of three: `12,345`.
pub fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A text of another program or user, as one line that a terminal shows as it is: control characters,
/// with them the sequences that steer a terminal, and marks that turn the direction of writing are
/// escaped, such as `\u{1b}`.
pub fn plain(text: &str) -> Cow<'_, str> {
    escaped(text, is_harmless)
}

/// The same for a text of several lines.
pub fn plain_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_harmless(c) || c == '\n')
}

fn escaped(text: &str, may_stay: impl Fn(char) -> bool) -> Cow<'_, str> {
    if text.chars().all(&may_stay) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match may_stay(c) {
            true => plain.push(c),
            false => plain.extend(c.escape_default()),
        }
    }
    Cow::Owned(plain)
}

fn is_harmless(c: char) -> bool {
    let turns_the_direction = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    let ends_a_line = matches!(c, '\u{2028}' | '\u{2029}');
    c == '\t' || !(c.is_control() || turns_the_direction || ends_a_line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_or_forges_a_line_is_escaped() {
        for (text, want) in [
            ("grüße 你好\t\u{1f600}", "grüße 你好\t\u{1f600}"),
            (
                "\u{1b}[2J\u{1b}]0;title\u{7}",
                r"\u{1b}[2J\u{1b}]0;title\u{7}",
            ),
            ("\u{9b}31m", r"\u{9b}31m"),
            ("safe\u{202e}exe.", r"safe\u{202e}exe."),
            (
                "ok\r\n12:00 rollout 1: done",
                r"ok\r\n12:00 rollout 1: done",
            ),
            ("a\u{2028}b\0", r"a\u{2028}b\u{0}"),
        ] {
            assert_eq!(plain(text), want);
        }
        assert_eq!(plain_lines("a\n\u{1b}b\n"), "a\n\\u{1b}b\n");
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, want) in [
            (7, "7"),
            (999, "999"),
            (1_234, "1,234"),
            (10_000_000, "10,000,000"),
        ] {
            assert_eq!(grouped(&number.to_string()), want);
        }
    }
}
