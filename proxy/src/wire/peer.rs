//! Who sent a request: the peer on the connection, and the client behind proxies that are trusted.
//!
//! A trusted proxy adds to `X-Forwarded-For` whom it was connected from. So the list is read from its
//! end, past the trusted proxies: the first address that is not one is the client. What comes before
//! it is what a stranger says.

use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;

use ipnet::IpNet;

use crate::wire::head::{Known, Message};
use crate::wire::tls::{ClientIdentity, Version};

/// Who sent a request.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) ip: IpAddr,
    /// The trusted proxies, where it is one itself.
    trusted: Option<Arc<[IpNet]>>,
    /// Whether it speaks TLS with us.
    pub(crate) tls: bool,
    /// Which version of it, once that is agreed on.
    pub(crate) tls_version: Option<Version>,
    /// Who it is by its certificate, where its listener asks for one.
    pub(crate) identity: Option<Box<ClientIdentity>>,
    /// What an endpoint is told of it, which is the same for all its requests.
    pub(crate) lines: Lines,
}

/// Header fields that say who a peer is, as lines.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    text: String,
    /// Where the address is in the text.
    address: Range<usize>,
    /// Where the last line begins, which has the port.
    port: usize,
}

/// Bytes of the lines of a peer with an IPv4 address.
const USUAL_LINES: usize = 112;

impl Lines {
    fn of(ip: IpAddr, tls: bool) -> Self {
        let (scheme, port) = scheme_and_port(tls);
        // Written for every connection.
        let mut text = String::with_capacity(USUAL_LINES);
        text.push_str("x-forwarded-for: ");
        let start = text.len();
        // Text takes whatever is written.
        let _ = write!(text, "{ip}");
        let address = start..text.len();
        text.push_str("\r\nx-real-ip: ");
        text.extend_from_within(address.clone());
        text.push_str("\r\nx-forwarded-proto: ");
        text.push_str(scheme);
        text.push_str("\r\n");
        let port_line = text.len();
        text.push_str("x-forwarded-port: ");
        text.push_str(port);
        text.push_str("\r\n");
        Self {
            text,
            address,
            port: port_line,
        }
    }

    /// `X-Forwarded-For`, `X-Real-IP`, `X-Forwarded-Proto` and `X-Forwarded-Port`.
    pub(crate) fn all(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// All but `X-Forwarded-Port`.
    pub(crate) fn without_port(&self) -> &[u8] {
        &self.all()[..self.port]
    }

    /// The address alone.
    pub(crate) fn address(&self) -> &[u8] {
        &self.all()[self.address.clone()]
    }
}

/// The scheme of a connection, and the port that a URL with it has where it names none.
pub(crate) fn scheme_and_port(tls: bool) -> (&'static str, &'static str) {
    if tls {
        ("https", "443")
    } else {
        ("http", "80")
    }
}

impl Peer {
    /// The peer with this address. The trusted proxies are given where it is one of them.
    pub(crate) fn new(ip: IpAddr, trusted: Option<Arc<[IpNet]>>, tls: bool) -> Self {
        Self {
            ip,
            trusted,
            tls,
            tls_version: None,
            identity: None,
            lines: Lines::of(ip, tls),
        }
    }

    /// Whether it is a trusted proxy: what it says about its client is believed.
    pub(crate) fn is_trusted(&self) -> bool {
        self.trusted.is_some()
    }

    /// The address of the client that a request is from. `None`: a trusted proxy sent something else
    /// than addresses, so who the client is cannot be known.
    pub(crate) fn client(&self, request: Message<'_>) -> Option<IpAddr> {
        let Some(trusted) = &self.trusted else {
            return Some(self.ip);
        };
        let lists = request.values(Known::XForwardedFor).rev();
        let elements = lists.flat_map(|list| list.rsplit(|byte| *byte == b','));
        walk(self.ip, trusted, elements)
    }
}

/// Whether an address is in one of these networks.
pub(crate) fn is_in(networks: &[IpNet], ip: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&ip))
}

/// The first of these elements, the last in the list before all others, that is no trusted proxy. Where
/// all of them are, it is the one that is farthest away.
fn walk<'e>(
    peer: IpAddr,
    trusted: &[IpNet],
    elements: impl Iterator<Item = &'e [u8]>,
) -> Option<IpAddr> {
    let mut client = peer;
    for element in elements {
        client = address(element)?;
        if !is_in(trusted, client) {
            break;
        }
    }
    Some(client)
}

/// An address as proxies write it: `ip`, `ip:port`, `[ipv6]` or `[ipv6]:port`, without a zone. Anything
/// else, such as `unknown` or `_hidden` (RFC 7239, 6.2 and 6.3), is none.
fn address(element: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(element.trim_ascii()).ok()?;
    let text = Some(text).filter(|text| !text.contains('%'))?;
    let with_port = || text.parse().ok().map(|address: SocketAddr| address.ip());
    let in_brackets = || {
        let ip = text.strip_prefix('[')?.strip_suffix(']')?;
        ip.parse().ok().map(|ip: Ipv6Addr| IpAddr::V6(ip))
    };
    let bare = text.parse().ok();
    let ip: Option<IpAddr> = bare.or_else(with_port).or_else(in_brackets);
    ip.map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::testing::with_request;

    fn trusted() -> Arc<[IpNet]> {
        ["10.0.0.0/8", "fd00::/8", "127.0.0.1/32"]
            .map(|network| network.parse().unwrap())
            .into()
    }

    /// The client of a request with these fields, from a peer with this address.
    fn client(peer: &str, fields: &str) -> Option<String> {
        let ip = peer.parse().unwrap();
        let trusted = Some(trusted()).filter(|networks| is_in(networks, ip));
        let peer = Peer::new(ip, trusted, false);
        with_request(fields, |request| peer.client(request)).map(|ip| ip.to_string())
    }

    /// The client that a trusted proxy names like this.
    #[track_caller]
    fn check(list: &str, want: Option<&str>) {
        let got = client("10.0.0.1", &format!("x-forwarded-for: {list}\r\n"));
        assert_eq!(got.as_deref(), want, "{list:?}");
    }

    #[test]
    fn only_a_trusted_peer_says_who_the_client_is() {
        let fields = "x-forwarded-for: 10.9.9.9\r\n";
        assert_eq!(client("192.0.2.1", fields).as_deref(), Some("192.0.2.1"));
        assert_eq!(client("10.0.0.1", fields).as_deref(), Some("10.9.9.9"));
        assert_eq!(client("10.0.0.1", "").as_deref(), Some("10.0.0.1"));
    }

    #[test]
    fn the_client_is_the_last_that_is_no_trusted_proxy() {
        check("203.0.113.9", Some("203.0.113.9"));
        check("10.6.6.6, 203.0.113.9", Some("203.0.113.9"));
        check("203.0.113.9, 10.0.0.7 ,10.0.0.8", Some("203.0.113.9"));
        check("6.6.6.6, 203.0.113.9, fd00::1", Some("203.0.113.9"));
        check("garbage, 203.0.113.9, 10.0.0.7", Some("203.0.113.9"));
        check("10.0.0.7, 10.0.0.8", Some("10.0.0.7"));
        let lines = "x-forwarded-for: 203.0.113.9\r\nx-forwarded-for: 10.0.0.7\r\n";
        assert_eq!(client("10.0.0.1", lines).as_deref(), Some("203.0.113.9"));
    }

    #[test]
    fn an_address_may_have_a_port_and_brackets() {
        check("203.0.113.9:4711", Some("203.0.113.9"));
        check(
            "10.6.6.6, 203.0.113.9:4711, 10.0.0.7:80",
            Some("203.0.113.9"),
        );
        check("2001:db8::1", Some("2001:db8::1"));
        check("[2001:db8::1]", Some("2001:db8::1"));
        check("[2001:db8::1]:4711", Some("2001:db8::1"));
        check("6.6.6.6, [fd00::1]:80", Some("6.6.6.6"));
        check("::ffff:203.0.113.9", Some("203.0.113.9"));
        check("6.6.6.6, ::ffff:10.0.0.7", Some("6.6.6.6"));
    }

    #[test]
    fn what_is_no_address_makes_the_client_unknown() {
        for garbage in [
            "",
            " ",
            "unknown",
            "_hidden",
            "localhost",
            "10.0.0.300",
            "010.0.0.1",
            "10.0.0.1:",
            "10.0.0.1:x",
            "10.0.0.1:99999",
            "10.0.0.1:80:80",
            "[10.0.0.1]",
            "[fd00::1",
            "fd00::1]",
            "[fd00::1]x",
            "\"10.0.0.1\"",
            "for=10.0.0.1",
            "10.0.0.1;10.0.0.2",
            "10.0.0.1 10.0.0.2",
            "0x0a.0.0.1",
            "167772161",
            "fd00::1%1",
            "[fd00::1%1]:80",
            "é",
        ] {
            check(garbage, None);
            check(&format!("10.0.0.7, {garbage}"), None);
            check(&format!("10.0.0.7, {garbage}, 10.0.0.8"), None);
            check(&format!("{garbage}, 203.0.113.9"), Some("203.0.113.9"));
        }
        let empty = "x-forwarded-for: 10.0.0.7\r\nx-forwarded-for:\r\n";
        assert_eq!(client("10.0.0.1", empty), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn strangers_and_garbage_are_never_taken_for_a_trusted_proxy(
            forged in prop::collection::vec("[ -~]{0,12}", 0..4),
            stranger in select(vec!["203.0.113.9", "203.0.113.9:1", "[2001:db8::1]:1", "unknown", "_a"]),
            proxies in prop::collection::vec(select(vec!["10.0.0.7", "[fd00::1]:80"]), 0..4),
        ) {
            let list = forged.iter().map(String::as_str).chain([stranger]).chain(proxies);
            let list = list.collect::<Vec<_>>().join(", ");
            let got = client("10.0.0.1", &format!("x-forwarded-for: {list}\r\n"));
            let is_trusted = |ip: &String| is_in(&trusted(), ip.parse().unwrap());
            prop_assert!(!got.as_ref().is_some_and(is_trusted), "{:?} of {:?}", got, list);
        }
    }
}
