//! What an endpoint is told of who asks, and for what: `X-Forwarded-*`, `X-Real-IP` and, where a
//! service has it, `Forwarded` (RFC 7239).
//!
//! What a stranger sends of these is dropped, so that an endpoint can believe them. A trusted proxy's
//! are passed on and added to, but for `X-Real-IP`: many proxies pass on what a stranger says there.

use std::io::Write;
use std::net::IpAddr;

use crate::wire::expectation::Expectation;
use crate::wire::head::{Known, Message};
use crate::wire::peer::{Peer, scheme_and_port};
use crate::wire::sink::Sink;

/// How an endpoint sees a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Onward<'r> {
    /// What it sees as `Host`.
    pub(crate) host: &'r [u8],
    /// The port in that, if there is one.
    pub(crate) port: &'r [u8],
    /// Whether it sees `Forwarded`, too.
    pub(crate) forwarded: bool,
    /// Whether it sees that this proxy is on the way.
    pub(crate) via: bool,
    /// What it sees as `Expect`.
    pub(crate) expectation: Expectation,
}

/// Whether one of these fields, which a peer has sent, goes on as it came.
pub(crate) fn passes(known: Known, peer: &Peer, onward: &Onward<'_>) -> bool {
    // These two are written anew.
    let is_written = matches!(known, Known::XForwardedFor | Known::XRealIp)
        || known == Known::Forwarded && onward.forwarded;
    peer.is_trusted() && !is_written
}

/// Writes the fields, but for those that go on as they came.
pub(crate) fn write(request: Message<'_>, peer: &Peer, onward: &Onward<'_>, to: &mut Vec<u8>) {
    let says_host = if peer.is_trusted() {
        write_of_trusted(request, peer, onward, to);
        says(request, Known::XForwardedHost)
    } else {
        if onward.port.is_empty() {
            to.extend_from_slice(peer.lines.all());
        } else {
            to.extend_from_slice(peer.lines.without_port());
            to.add(b"x-forwarded-port", &[onward.port]);
        }
        false
    };
    if !says_host && !onward.host.is_empty() {
        to.add(b"x-forwarded-host", &[onward.host]);
    }
    if onward.forwarded {
        write_forwarded(request, peer, onward, to);
    }
}

/// Writes what a trusted proxy has not said, and adds it to the list of those who have passed the
/// request on.
fn write_of_trusted(request: Message<'_>, peer: &Peer, onward: &Onward<'_>, to: &mut Vec<u8>) {
    to.extend_from_slice(b"x-forwarded-for: ");
    write_list(request, Known::XForwardedFor, to);
    to.extend_from_slice(peer.lines.address());
    to.extend_from_slice(b"\r\n");
    if let Some(client) = peer.client(request) {
        to.extend_from_slice(b"x-real-ip: ");
        write_text(format_args!("{client}\r\n"), to);
    }
    let said = request.values(Known::XForwardedProto).next();
    let (scheme, _) = scheme_and_port(peer.tls);
    if said.is_none() {
        to.add(b"x-forwarded-proto", &[scheme.as_bytes()]);
    }
    if !says(request, Known::XForwardedPort) {
        let scheme = said.unwrap_or(scheme.as_bytes());
        let (_, usual) = scheme_and_port(scheme.eq_ignore_ascii_case(b"https"));
        let port = match onward.port {
            b"" => usual.as_bytes(),
            port => port,
        };
        to.add(b"x-forwarded-port", &[port]);
    }
}

/// Writes `Forwarded` (RFC 7239, 4).
fn write_forwarded(request: Message<'_>, peer: &Peer, onward: &Onward<'_>, to: &mut Vec<u8>) {
    to.extend_from_slice(b"forwarded: ");
    if peer.is_trusted() {
        write_list(request, Known::Forwarded, to);
    }
    let (scheme, _) = scheme_and_port(peer.tls);
    match peer.ip {
        IpAddr::V4(ip) => write_text(format_args!("for={ip};proto={scheme}"), to),
        IpAddr::V6(ip) => write_text(format_args!("for=\"[{ip}]\";proto={scheme}"), to),
    }
    if !onward.host.is_empty() {
        // Nothing that a host is made of needs a `\` in quotes.
        to.extend_from_slice(b";host=\"");
        to.extend_from_slice(onward.host);
        to.push(b'"');
    }
    to.extend_from_slice(b"\r\n");
}

/// Writes the values of a field as the beginning of a list that goes on.
fn write_list(request: Message<'_>, known: Known, to: &mut Vec<u8>) {
    for value in request.values(known).filter(|value| !value.is_empty()) {
        to.extend_from_slice(value);
        to.extend_from_slice(b", ");
    }
}

fn write_text(text: std::fmt::Arguments<'_>, to: &mut Vec<u8>) {
    // Memory takes whatever is written.
    let _ = to.write_fmt(text);
}

fn says(request: Message<'_>, known: Known) -> bool {
    request.values(known).next().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::with_request;

    const APP: Onward<'_> = Onward {
        host: b"app.test",
        port: b"",
        forwarded: false,
        via: true,
        expectation: Expectation::Nothing,
    };

    /// What is written for a request with these fields, in one line.
    fn written(ip: &str, trusted: bool, tls: bool, fields: &str, onward: &Onward<'_>) -> String {
        let networks = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().unwrap());
        let trusted = trusted.then(|| networks.into());
        let peer = Peer::new(ip.parse().unwrap(), trusted, tls);
        let mut to = Vec::new();
        with_request(fields, |request| write(request, &peer, onward, &mut to));
        let text = String::from_utf8(to).unwrap();
        let lines = text.strip_suffix("\r\n").unwrap().replace("\r\n", " | ");
        lines.replace("x-forwarded-", "~")
    }

    #[test]
    fn a_port_is_that_of_the_host_or_of_the_scheme() {
        let of = |tls, port: &'static [u8]| {
            written("192.0.2.1", false, tls, "", &Onward { port, ..APP })
        };
        let line = |proto: &str, port: &str| {
            format!(
                "~for: 192.0.2.1 | x-real-ip: 192.0.2.1 | ~proto: {proto} | ~port: {port} | ~host: app.test"
            )
        };
        assert_eq!(of(false, b""), line("http", "80"));
        assert_eq!(of(true, b""), line("https", "443"));
        assert_eq!(of(false, b"8080"), line("http", "8080"));
    }

    #[test]
    fn a_trusted_proxy_says_the_rest_and_not_who_the_client_is() {
        let of = |fields: &str| written("10.0.0.1", true, false, fields, &APP);
        assert_eq!(
            of(""),
            "~for: 10.0.0.1 | x-real-ip: 10.0.0.1 | ~proto: http | ~port: 80 | ~host: app.test"
        );
        assert_eq!(
            of(
                "x-forwarded-for: 203.0.113.9:1\r\nx-real-ip: 6.6.6.6\r\nx-forwarded-proto: HTTPS\r\n"
            ),
            "~for: 203.0.113.9:1, 10.0.0.1 | x-real-ip: 203.0.113.9 | ~port: 443 | ~host: app.test"
        );
        assert_eq!(
            of("x-forwarded-for: unknown\r\nx-forwarded-port: 1\r\nx-forwarded-host: a\r\n"),
            "~for: unknown, 10.0.0.1 | ~proto: http"
        );
    }

    #[test]
    fn forwarded_is_written_where_the_service_has_it() {
        let onward = Onward {
            host: b"app.test:81",
            port: b"81",
            forwarded: true,
            ..APP
        };
        let of = |ip: &str, trusted, fields: &str| {
            let all = written(ip, trusted, true, fields, &onward);
            let (_, forwarded) = all.split_once("forwarded: ").unwrap();
            forwarded.to_owned()
        };
        let forged = "forwarded: for=6.6.6.6\r\n";
        assert_eq!(
            of("192.0.2.1", false, forged),
            "for=192.0.2.1;proto=https;host=\"app.test:81\""
        );
        assert_eq!(
            of("2001:db8::1", false, ""),
            "for=\"[2001:db8::1]\";proto=https;host=\"app.test:81\""
        );
        assert_eq!(
            of(
                "10.0.0.1",
                true,
                "forwarded: for=203.0.113.9\r\nforwarded: for=_a\r\n"
            ),
            "for=203.0.113.9, for=_a, for=10.0.0.1;proto=https;host=\"app.test:81\""
        );
    }
}
