//! Which header fields go on, and which a proxy adds.
//!
//! Hop-by-hop fields end here (RFC 9110, 7.6.1), in both directions. `Via` names every proxy
//! on the way (7.6.3). `X-Forwarded-*` say who asked for what; from peers that are not
//! trusted they are replaced, so that an endpoint can believe them.

use std::net::IpAddr;

use http::Version;

use crate::wire::head::{Known, Line, Message};
use crate::wire::max_forwards;
use crate::wire::sink::Sink;

/// Who sent a request.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) ip: IpAddr,
    /// The same, as text.
    address: Box<str>,
    /// Whether its `X-Forwarded-*` are believed.
    pub(crate) trusted: bool,
    /// Whether it speaks TLS with us.
    tls: bool,
}

impl Peer {
    pub(crate) fn new(ip: IpAddr, trusted: bool, tls: bool) -> Self {
        Self {
            ip,
            address: ip.to_string().into(),
            trusted,
            tls,
        }
    }
}

/// Whether a request asks for another protocol (RFC 9110, 7.8). `h2c` does not count: passed
/// on, it would be a tunnel around everything that the proxy does with single requests.
pub(crate) fn requests_upgrade(request: Message<'_>) -> bool {
    let mut protocols = request.elements(Known::Upgrade).peekable();
    request.version() == Version::HTTP_11
        && protocols.peek().is_some()
        && !protocols.any(|name| name.len() >= 3 && name[..3].eq_ignore_ascii_case(b"h2c"))
        && request.says_upgrade()
}

/// Writes what an endpoint should see of a client's header fields. `host` is what it should
/// see as `Host`.
pub(crate) fn towards_endpoint(
    request: Message<'_>,
    peer: &Peer,
    host: &[u8],
    upgrade: bool,
    to: &mut impl Sink,
) {
    to.add(b"host", &[host]);
    let mut chain: Option<Vec<u8>> = None;
    let (mut says_proto, mut says_host) = (false, false);
    for line in request.fields() {
        let Line {
            known, name, value, ..
        } = line;
        let is_forwarding = matches!(
            known,
            Known::Forwarded
                | Known::XRealIp
                | Known::XForwardedFor
                | Known::XForwardedHost
                | Known::XForwardedProto
        );
        let stays = known.is_hop_by_hop()
            || matches!(known, Known::Host | Known::ContentLength | Known::Expect)
            || is_forwarding && !peer.trusted
            || request.names(name);
        if stays {
            continue;
        }
        match known {
            Known::MaxForwards => {
                if let Some(left) = max_forwards::less_one(request, value) {
                    let mut digits = itoa::Buffer::new();
                    to.add(name, &[digits.format(left).as_bytes()]);
                    continue;
                }
            }
            Known::XForwardedFor if value.is_empty() => continue,
            Known::XForwardedFor => {
                let chain = chain.get_or_insert_default();
                chain.extend_from_slice(value);
                chain.extend_from_slice(b", ");
                continue;
            }
            Known::XForwardedProto => says_proto = true,
            Known::XForwardedHost => says_host = true,
            _ => {}
        }
        to.pass(line);
    }
    if upgrade {
        add_upgrade(request, to);
    } else if request.has(Known::Te, "trailers") {
        to.add(b"te", &[b"trailers"]);
        to.add(b"connection", &[b"te"]);
    }
    to.add(b"via", &[via(request.version())]);
    let chain = chain.unwrap_or_default();
    to.add(b"x-forwarded-for", &[&chain, peer.address.as_bytes()]);
    if !says_proto {
        let scheme: &[u8] = if peer.tls { b"https" } else { b"http" };
        to.add(b"x-forwarded-proto", &[scheme]);
    }
    if !says_host && !host.is_empty() {
        to.add(b"x-forwarded-host", &[host]);
    }
}

/// Writes what a client should see of an endpoint's header fields. `now` is the time as `Date`
/// says it, for a response without one (RFC 9110, 6.6.1).
pub(crate) fn towards_client(response: Message<'_>, upgrade: bool, now: &[u8], to: &mut impl Sink) {
    let mut says_date = response.status() < 200;
    for line in response.fields() {
        let stays = line.known.is_hop_by_hop()
            || line.known == Known::ContentLength
            || response.names(line.name);
        if !stays {
            says_date |= line.known == Known::Date;
            to.pass(line);
        }
    }
    if upgrade {
        add_upgrade(response, to);
    }
    if !says_date {
        to.add(b"date", &[now]);
    }
    to.add(b"via", &[via(response.version())]);
}

/// Writes trailer fields, but for those that only a head may have (RFC 9110, 6.5.1).
pub(crate) fn trailers(fields: Message<'_>, to: &mut impl Sink) {
    for line in fields.fields() {
        if line.known == Known::Other {
            to.pass(line);
        }
    }
}

fn add_upgrade(message: Message<'_>, to: &mut impl Sink) {
    for protocol in message.values(Known::Upgrade) {
        to.add(b"upgrade", &[protocol]);
    }
    to.add(b"connection", &[b"upgrade"]);
}

fn via(version: Version) -> &'static [u8] {
    match version {
        Version::HTTP_10 => b"1.0 crossfade",
        Version::HTTP_2 => b"2 crossfade",
        _ => b"1.1 crossfade",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::with_request;
    use crate::wire::head::{Head, Span};

    fn stranger(trusted: bool) -> Peer {
        Peer::new(IpAddr::from([192, 0, 2, 1]), trusted, false)
    }

    #[track_caller]
    fn check(trusted: bool, upgrade: bool, sent: &str, want: &str) {
        let mut written = Vec::new();
        with_request(sent, |request| {
            towards_endpoint(request, &stranger(trusted), b"app", upgrade, &mut written);
        });
        assert_eq!(String::from_utf8(written).unwrap(), want);
    }

    const FROM_STRANGER: &str = "via: 1.1 crossfade\r\nx-forwarded-for: 192.0.2.1\r\n\
        x-forwarded-proto: http\r\nx-forwarded-host: app\r\n";

    #[test]
    fn hop_by_hop_fields_end_here_and_so_do_those_that_connection_names() {
        check(
            false,
            false,
            "Connection: close, X-Private, \u{fc}\r\nconnection: host\r\nX-private: 1\r\n\
             Host: other\r\nkeep-alive: timeout=5\r\nproxy-connection: keep-alive\r\nte: gzip\r\n\
             transfer-encoding: chunked\r\nupgrade: websocket\r\nAccept: */*\r\n",
            &format!("host: app\r\nAccept: */*\r\n{FROM_STRANGER}"),
        );
    }

    #[test]
    fn an_upgrade_keeps_its_two_fields() {
        check(
            false,
            true,
            "connection: keep-alive, Upgrade\r\nupgrade: websocket\r\n",
            &format!("host: app\r\nupgrade: websocket\r\nconnection: upgrade\r\n{FROM_STRANGER}"),
        );
        let upgrades = |lines: &str| with_request(lines, requests_upgrade);
        assert!(upgrades(
            "connection: keep-alive, Upgrade\r\nupgrade: websocket\r\n"
        ));
        assert!(!upgrades(
            "connection: keep-alive\r\nupgrade: websocket\r\n"
        ));
        assert!(!upgrades(
            "connection: upgrade, http2-settings\r\nupgrade: h2c\r\n"
        ));
        assert!(!upgrades(
            "connection: upgrade\r\nupgrade: websocket, H2C/1\r\n"
        ));
        assert!(!upgrades("connection: upgrade\r\n"));
    }

    #[test]
    fn a_stranger_cannot_name_another_client() {
        check(
            false,
            false,
            "x-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: https\r\nx-forwarded-host: admin\r\n\
             x-real-ip: 127.0.0.1\r\nforwarded: for=127.0.0.1\r\n",
            &format!("host: app\r\n{FROM_STRANGER}"),
        );
    }

    #[test]
    fn a_trusted_proxy_is_believed_and_added_to() {
        check(
            true,
            false,
            "via: 1.0 edge\r\nx-forwarded-for: 203.0.113.9\r\nx-forwarded-proto: https\r\n\
             x-forwarded-host: app.example.com\r\n",
            "host: app\r\nvia: 1.0 edge\r\nx-forwarded-proto: https\r\n\
             x-forwarded-host: app.example.com\r\nvia: 1.1 crossfade\r\n\
             x-forwarded-for: 203.0.113.9, 192.0.2.1\r\n",
        );
    }

    #[test]
    fn of_te_only_trailers_goes_on() {
        check(
            false,
            false,
            "te: gzip, trailers\r\nconnection: te\r\n",
            &format!("host: app\r\nte: trailers\r\nconnection: te\r\n{FROM_STRANGER}"),
        );
    }

    #[test]
    fn a_response_gets_a_date_where_it_has_none() {
        let mut head = Head::default();
        head.response(Version::HTTP_10, 200, Span::default());
        let mut written = Vec::new();
        towards_client(head.over(b""), false, b"now", &mut written);
        assert_eq!(written, b"date: now\r\nvia: 1.0 crossfade\r\n");
    }
}
