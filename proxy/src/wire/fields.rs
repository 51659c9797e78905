//! What may be read of a request's header fields to choose where it goes.

use crate::wire::head::{Known, Message};

/// The value of a cookie (RFC 6265, 5.4). The first one, where it is there twice.
pub(crate) fn cookie<'m>(request: Message<'m>, name: &str) -> Option<&'m [u8]> {
    request
        .values(Known::Cookie)
        .flat_map(|line| line.split(|byte| *byte == b';'))
        .find_map(|pair| {
            let value = pair.trim_ascii().strip_prefix(name.as_bytes())?;
            value.strip_prefix(b"=")
        })
        .map(|value| value.trim_ascii())
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::with_request;

    #[test]
    fn a_cookie_is_found_by_its_whole_name() {
        let lines = "cookie: xid=1; id2=2;id=\r\nCookie:   id = no; id=3 ; id=4\r\n";
        with_request(lines, |request| {
            assert_eq!(cookie(request, "id2"), Some(&b"2"[..]));
            assert_eq!(cookie(request, "xid"), Some(&b"1"[..]));
            assert_eq!(cookie(request, "id"), None, "the first one is empty");
            assert_eq!(cookie(request, "none"), None);
        });
    }
}
