//! What a client has sent, as a line may have it: nothing in it can end the line, a field of it, or be
//! taken by a terminal for a command.

use std::io::Write;

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGHS: u64 = ONES << 7;

/// Adds a text to a string of JSON (RFC 8259, 7). What is not UTF-8 becomes U+FFFD.
pub(super) fn json(text: &[u8], to: &mut Vec<u8>) {
    if is_plain(text) {
        return to.extend_from_slice(text);
    }
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => to.extend_from_slice(&[b'\\', c as u8]),
                // Those of C1 are commands to some terminals.
                c if c.is_control() => {
                    // Writing to memory does not fail.
                    let _ = write!(to, "\\u{:04x}", u32::from(c));
                }
                c => to.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            to.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// Adds a text to a line as nginx does: `"`, `\` and what is not printable ASCII as `\xHH`. One that is
/// empty is `-`.
pub(super) fn text(text: &[u8], to: &mut Vec<u8>) {
    if text.is_empty() {
        return to.push(b'-');
    }
    if is_plain(text) {
        return to.extend_from_slice(text);
    }
    for byte in text {
        if is_plain_byte(*byte) {
            to.push(*byte);
        } else {
            // Writing to memory does not fail.
            let _ = write!(to, "\\x{byte:02X}");
        }
    }
}

fn is_plain_byte(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// Whether it can stand in a line as it is. Nearly every text can, and each request has several.
fn is_plain(text: &[u8]) -> bool {
    let (words, rest) = text.as_chunks();
    let all = words
        .iter()
        .all(|word| are_plain_bytes(u64::from_ne_bytes(*word)));
    all && rest.iter().all(|byte| is_plain_byte(*byte))
}

/// The same of eight bytes at once.
fn are_plain_bytes(word: u64) -> bool {
    let has_zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let has = |byte: u8| has_zero(word ^ (ONES * u64::from(byte)));
    let has_control = word.wrapping_sub(ONES * 0x20) & !word;
    (has_control | has(b'"') | has(b'\\') | has(0x7f) | word) & HIGHS == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(escape: fn(&[u8], &mut Vec<u8>), bytes: &[u8]) -> String {
        let mut to = Vec::new();
        escape(bytes, &mut to);
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn what_could_end_a_string_or_a_line_is_escaped() {
        for (bytes, in_json, in_text) in [
            (&b"plain text"[..], "plain text", "plain text"),
            (b"", "", "-"),
            (b"a\"b\\c", r#"a\"b\\c"#, r"a\x22b\x5Cc"),
            (
                b"a\r\nb\0\x1b[31m",
                r"a\u000d\u000ab\u0000\u001b[31m",
                r"a\x0D\x0Ab\x00\x1B[31m",
            ),
            (
                "é\u{9b}\u{7f}".as_bytes(),
                r"é\u009b\u007f",
                r"\xC3\xA9\xC2\x9B\x7F",
            ),
            (b"\xff\xfeok", "\u{fffd}\u{fffd}ok", r"\xFF\xFEok"),
        ] {
            assert_eq!(escaped(json, bytes), in_json);
            assert_eq!(escaped(text, bytes), in_text);
        }
    }

    #[test]
    fn every_byte_is_plain_by_itself_or_in_a_word_or_in_neither() {
        for byte in 0..=u8::MAX {
            for at in 0..8 {
                let mut word = *b"abcdefgh";
                word[at] = byte;
                assert_eq!(is_plain(&word), is_plain_byte(byte), "{byte} at {at}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn whatever_comes_is_one_string_of_json_and_one_line(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let quoted = format!("\"{}\"", escaped(json, &bytes));
            let read: String = serde_json::from_str(&quoted).unwrap();
            prop_assert_eq!(read, String::from_utf8_lossy(&bytes));
            prop_assert!(!quoted.chars().any(char::is_control));
            let line = escaped(text, &bytes);
            prop_assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'"'));
        }
    }
}
