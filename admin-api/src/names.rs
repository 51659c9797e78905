//! Names of header fields and cookies, as settings have them.

use http::HeaderName;

/// Reads the name of a header field.
pub fn header_name(name: &str) -> Result<HeaderName, String> {
    HeaderName::try_from(name).map_err(|_| format!("`{name}` is not the name of a header field"))
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
