//! What may be read of a request's header fields to choose where it goes.

use std::net::IpAddr;

use crate::wire::head::{Known, Message};
use crate::wire::headers::Peer;

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

/// The client's address: of a peer that is trusted, what it says it was connected from.
pub(crate) fn client_address(request: Message<'_>, peer: &Peer) -> IpAddr {
    if !peer.trusted {
        return peer.ip;
    }
    let last = request.elements(Known::XForwardedFor).last();
    last.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok())
        .map_or(peer.ip, |ip: IpAddr| ip.to_canonical())
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

    #[test]
    fn only_a_trusted_peer_says_who_the_client_is() {
        let of = |value: &str, trusted| {
            let peer = Peer::new("127.0.0.1".parse().unwrap(), trusted, false);
            with_request(&format!("x-forwarded-for: {value}\r\n"), |request| {
                client_address(request, &peer).to_string()
            })
        };
        assert_eq!(of("10.9.9.9, 10.0.0.7", false), "127.0.0.1");
        assert_eq!(of("10.9.9.9, 10.0.0.7", true), "10.0.0.7");
        assert_eq!(of("unknown", true), "127.0.0.1");
    }
}
