//! Names of hosts, header fields and cookies, as settings have them.

use std::net::{IpAddr, Ipv6Addr};

use http::HeaderName;
use ipnet::IpNet;

use crate::strict::InputError;

const MAX_HOST: usize = 253;
const MAX_HOST_LABEL: usize = 63;

/// Reads a host as people write it: a name, `*.` before a name, or an IP address. Gives it as requests
/// have it: in lower case and in ASCII (RFC 5890, 2.3.2.1), without a dot at its end, an IPv6 address
/// in brackets.
pub fn host(text: &str) -> Result<String, String> {
    let wrong = || {
        format!(
            "`{text}` is not a host: write a name such as `app.example.com` or `*.example.com`, without scheme, port or path"
        )
    };
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let bare = bare.unwrap_or(text);
    if bare.parse::<Ipv6Addr>().is_ok() {
        return Ok(format!("[{}]", bare.to_ascii_lowercase()));
    }
    let (wildcard, name) = match text.strip_prefix("*.") {
        Some(name) => ("*.", name),
        None => ("", text),
    };
    let ascii = if name.is_ascii() {
        name.to_ascii_lowercase()
    } else {
        idna::domain_to_ascii(name).map_err(|_| wrong())?
    };
    let name = ascii.strip_suffix('.').unwrap_or(&ascii);
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_label = |label: &str| (1..=MAX_HOST_LABEL).contains(&label.len());
    let is_name =
        name.len() <= MAX_HOST && name.chars().all(allowed) && name.split('.').all(is_label);
    is_name
        .then(|| format!("{wildcard}{name}"))
        .ok_or_else(wrong)
}

/// Reads the name of a header field.
pub fn header_name(name: &str) -> Result<HeaderName, String> {
    HeaderName::try_from(name).map_err(|_| format!("`{name}` is not the name of a header field"))
}

/// Reads networks as people write them, such as `10.0.0.0/8`; an address alone is one. The error's
/// field is relative to the list.
pub fn networks(list: &[String]) -> Result<Vec<IpNet>, InputError> {
    let network = |(at, text): (usize, &String)| {
        let network = text.parse();
        let network = network.or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network.map_err(|_| {
            let message =
                format!("`{text}` is not a network: write it as `10.0.0.0/8` or `10.1.2.3`");
            InputError::of_field(format!("[{at}]"), message)
        })
    };
    list.iter().enumerate().map(network).collect()
}

/// Whether this is a method as people write it. Methods have a case (RFC 9110, 9.1), and those in lower
/// case are slips.
pub fn check_method(method: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_uppercase() || byte == b'-' || byte == b'_';
    match (1..=32).contains(&method.len()) && method.bytes().all(allowed) {
        true => Ok(()),
        false => Err(format!(
            "`{method}` is not a method: write it in capitals, such as `GET`"
        )),
    }
}

/// Whether a cookie can have this name (RFC 6265, 4.1.1).
pub fn check_cookie_name(name: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(allowed) {
        return Err(format!(
            "`{name}` is not the name of a cookie: use 1 to 128 letters, digits, `-` and `_`"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read_as_requests_have_it() {
        for (text, want) in [
            ("App.Example.com", "app.example.com"),
            ("app.example.com.", "app.example.com"),
            ("*.Example.com.", "*.example.com"),
            ("my_app", "my_app"),
            ("münchen.example", "xn--mnchen-3ya.example"),
            ("MÜNCHEN.example.", "xn--mnchen-3ya.example"),
            ("XN--MNCHEN-3ya.example", "xn--mnchen-3ya.example"),
            ("*.münchen.example", "*.xn--mnchen-3ya.example"),
            ("例え。テスト", "xn--r8jz45g.xn--zckzah"),
            ("10.0.0.1", "10.0.0.1"),
            ("::1", "[::1]"),
            ("[2001:DB8::1]", "[2001:db8::1]"),
        ] {
            assert_eq!(host(text).as_deref(), Ok(want), "{text}");
        }
        let long = format!("{}.test", "a".repeat(64));
        for text in [
            "",
            ".",
            "..",
            "a..b",
            "a..",
            ".a",
            "*.",
            "*",
            "a.*.b",
            "*.10.0.0.1:80",
            "a:80",
            "a/b",
            "http://a",
            "a b",
            "[a]",
            "[::1",
            "ü b",
            "a\u{0}ü",
            "*.[::1]",
            long.as_str(),
        ] {
            let error = host(text).expect_err(text);
            assert!(error.contains("without scheme"), "{error}");
        }
    }
}
