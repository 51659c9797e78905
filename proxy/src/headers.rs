//! Which header fields go on, and which a proxy adds.
//!
//! Hop-by-hop fields end here (RFC 9110, 7.6.1), in both directions. `Via` names every proxy
//! on the way (7.6.3). `X-Forwarded-*` say who asked for what; from peers that are not
//! trusted they are replaced, so that an endpoint can believe them.

use std::net::IpAddr;

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, HeaderName, HeaderValue, TE,
    TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, Version};

static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Who sent a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) ip: IpAddr,
    /// Whether its `X-Forwarded-*` are believed.
    pub(crate) trusted: bool,
}

/// Whether a request asks for another protocol (RFC 9110, 7.8). `h2c` does not count: passed
/// on, it would be a tunnel around everything that the proxy does with single requests.
pub(crate) fn asks_for_upgrade(headers: &HeaderMap, version: Version) -> bool {
    let mut protocols = tokens(headers, &UPGRADE).peekable();
    version == Version::HTTP_11
        && protocols.peek().is_some()
        && !protocols
            .any(|protocol| protocol.len() >= 3 && protocol[..3].eq_ignore_ascii_case(b"h2c"))
        && tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case(b"upgrade"))
}

/// Makes a client's header fields what an endpoint should see.
pub(crate) fn towards_endpoint(
    headers: &mut HeaderMap,
    peer: Peer,
    host: Option<&HeaderValue>,
    version: Version,
    upgrade: bool,
) {
    let wants_trailers =
        tokens(headers, &TE).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
    remove_hop_by_hop(headers, upgrade);
    // hyper has answered it with a 100 by the time a body is read.
    headers.remove(EXPECT);
    if wants_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.append(CONNECTION, HeaderValue::from_static("te"));
    }
    add_via(headers, version);
    add_forwarded(headers, peer, host);
}

/// Makes an endpoint's header fields what a client should see.
pub(crate) fn towards_client(headers: &mut HeaderMap, version: Version, upgrade: bool) {
    remove_hop_by_hop(headers, upgrade);
    add_via(headers, version);
}

fn remove_hop_by_hop(headers: &mut HeaderMap, upgrade: bool) {
    // Fields that a recipient needs to understand the message are never hop-by-hop, whatever
    // `Connection` says of them.
    let keeps = |name: &HeaderName| {
        *name == HOST || *name == CONTENT_LENGTH || (upgrade && *name == UPGRADE)
    };
    let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .filter(|name| !keeps(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
    let protocol = if upgrade {
        headers.remove(UPGRADE)
    } else {
        None
    };
    for name in [
        &CONNECTION,
        &KEEP_ALIVE,
        &PROXY_CONNECTION,
        &TE,
        &TRANSFER_ENCODING,
        &UPGRADE,
    ] {
        headers.remove(name);
    }
    if let Some(protocol) = protocol {
        headers.insert(UPGRADE, protocol);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

fn add_via(headers: &mut HeaderMap, version: Version) {
    let hop = match version {
        Version::HTTP_10 => HeaderValue::from_static("1.0 crossfade"),
        Version::HTTP_2 => HeaderValue::from_static("2 crossfade"),
        _ => HeaderValue::from_static("1.1 crossfade"),
    };
    headers.append(VIA, hop);
}

fn add_forwarded(headers: &mut HeaderMap, peer: Peer, host: Option<&HeaderValue>) {
    let address = peer.ip.to_string();
    if !peer.trusted {
        headers.remove(FORWARDED);
        headers.remove(&X_REAL_IP);
        headers.remove(&X_FORWARDED_FOR);
        headers.remove(&X_FORWARDED_HOST);
        headers.remove(&X_FORWARDED_PROTO);
    }
    let before = headers
        .get_all(&X_FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect::<Vec<_>>()
        .join(", ");
    let chain = if before.is_empty() {
        address
    } else {
        format!("{before}, {address}")
    };
    if let Ok(chain) = HeaderValue::try_from(chain) {
        headers.insert(&X_FORWARDED_FOR, chain);
    }
    if !headers.contains_key(&X_FORWARDED_PROTO) {
        headers.insert(&X_FORWARDED_PROTO, HeaderValue::from_static("http"));
    }
    if let (false, Some(host)) = (headers.contains_key(&X_FORWARDED_HOST), host) {
        headers.insert(&X_FORWARDED_HOST, host.clone());
    }
}

/// The elements of a comma-separated field, over all its lines.
fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRANGER: Peer = Peer {
        ip: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
        trusted: false,
    };

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        headers
    }

    #[track_caller]
    fn check(
        peer: Peer,
        upgrade: bool,
        sent: &[(&'static str, &'static str)],
        want: &[(&'static str, &'static str)],
    ) {
        let mut headers = fields(sent);
        let host = HeaderValue::from_static("app");
        towards_endpoint(&mut headers, peer, Some(&host), Version::HTTP_11, upgrade);
        assert_eq!(headers, fields(want));
    }

    const FROM_STRANGER: [(&str, &str); 4] = [
        ("via", "1.1 crossfade"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "app"),
    ];

    #[test]
    fn hop_by_hop_fields_end_here_and_so_do_those_that_connection_names() {
        check(
            STRANGER,
            false,
            &[
                ("connection", "close, X-Private, \u{fc}"),
                ("connection", "host"),
                ("x-private", "1"),
                ("host", "app"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "keep-alive"),
                ("te", "gzip"),
                ("transfer-encoding", "chunked"),
                ("upgrade", "websocket"),
                ("accept", "*/*"),
            ],
            &[&[("host", "app"), ("accept", "*/*")], &FROM_STRANGER[..]].concat(),
        );
    }

    #[test]
    fn an_upgrade_keeps_its_two_fields() {
        check(
            STRANGER,
            true,
            &[
                ("connection", "keep-alive, Upgrade"),
                ("upgrade", "websocket"),
            ],
            &[
                &[("connection", "upgrade"), ("upgrade", "websocket")],
                &FROM_STRANGER[..],
            ]
            .concat(),
        );
        let asks = |c, u| {
            asks_for_upgrade(
                &fields(&[("connection", c), ("upgrade", u)]),
                Version::HTTP_11,
            )
        };
        assert!(asks("keep-alive, Upgrade", "websocket"));
        assert!(!asks("keep-alive", "websocket"));
        assert!(!asks("upgrade, http2-settings", "h2c"));
        assert!(!asks("upgrade", "websocket, H2C/1"));
        assert!(!asks_for_upgrade(
            &fields(&[("connection", "upgrade")]),
            Version::HTTP_11
        ));
    }

    #[test]
    fn a_stranger_cannot_say_who_asked() {
        check(
            STRANGER,
            false,
            &[
                ("x-forwarded-for", "127.0.0.1"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "admin"),
                ("x-real-ip", "127.0.0.1"),
                ("forwarded", "for=127.0.0.1"),
            ],
            &FROM_STRANGER,
        );
    }

    #[test]
    fn a_trusted_proxy_is_believed_and_added_to() {
        check(
            Peer {
                trusted: true,
                ..STRANGER
            },
            false,
            &[
                ("via", "1.0 edge"),
                ("x-forwarded-for", "203.0.113.9"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "app.example.com"),
            ],
            &[
                ("via", "1.0 edge"),
                ("via", "1.1 crossfade"),
                ("x-forwarded-for", "203.0.113.9, 192.0.2.1"),
                ("x-forwarded-proto", "https"),
                ("x-forwarded-host", "app.example.com"),
            ],
        );
    }

    #[test]
    fn of_te_only_trailers_goes_on() {
        check(
            STRANGER,
            false,
            &[("te", "gzip, trailers"), ("connection", "te")],
            &[
                &[("te", "trailers"), ("connection", "te")],
                &FROM_STRANGER[..],
            ]
            .concat(),
        );
    }
}
