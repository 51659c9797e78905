//! Which header fields go on, and which a proxy adds.
//!
//! Hop-by-hop fields end here (RFC 9110, 7.6.1), in both directions, and so do fields that would be
//! taken for others ([`Known::Underscored`]). `Via` names every proxy on the way (7.6.3). Who asked for
//! what is said by [`forwarding`].

use http::Version;

use crate::wire::expectation::Expectation;
use crate::wire::forwarding::{self, Onward};
use crate::wire::head::{Known, Line, Message};
use crate::wire::max_forwards;
use crate::wire::peer::Peer;
use crate::wire::sink::Sink;

/// Whether a request asks for another protocol (RFC 9110, 7.8). `h2c` does not count: passed
/// on, it would be a tunnel around everything that the proxy does with single requests.
pub(crate) fn requests_upgrade(request: Message<'_>) -> bool {
    let mut protocols = request.elements(Known::Upgrade).peekable();
    // Over HTTP/2 it is the proxy itself that has read it so.
    request.version() >= Version::HTTP_11
        && protocols.peek().is_some()
        && !protocols.any(|name| name.len() >= 3 && name[..3].eq_ignore_ascii_case(b"h2c"))
        && request.says_upgrade()
}

/// Writes what an endpoint should see of a client's header fields.
pub(crate) fn towards_endpoint(
    request: Message<'_>,
    peer: &Peer,
    onward: &Onward<'_>,
    upgrade: bool,
    to: &mut Vec<u8>,
) {
    to.add(b"host", &[onward.host]);
    for line in request.fields() {
        let Line {
            known, name, value, ..
        } = line;
        let stays = never_goes_on(known)
            || matches!(known, Known::Host | Known::ContentLength | Known::Expect)
            || if known.is_forwarding() {
                !forwarding::passes(known, peer, onward)
            } else {
                request.names(name)
            };
        if stays {
            continue;
        }
        if known == Known::MaxForwards
            && let Some(left) = max_forwards::less_one(request, value)
        {
            let mut digits = itoa::Buffer::new();
            to.add(name, &[digits.format(left).as_bytes()]);
            continue;
        }
        to.pass(line);
    }
    if upgrade {
        add_upgrade(request, to);
    } else if request.has(Known::Te, "trailers") {
        to.add(b"te", &[b"trailers"]);
        to.add(b"connection", &[b"te"]);
    }
    if onward.expectation != Expectation::Nothing {
        to.add(b"expect", &[b"100-continue"]);
    }
    if onward.via {
        to.add(b"via", &[via(request.version())]);
    }
    forwarding::write(request, peer, onward, to);
}

/// Whether a field goes on in neither direction: it is about one connection alone, or would be taken
/// for another one.
fn never_goes_on(known: Known) -> bool {
    known.is_hop_by_hop() || known == Known::Underscored
}

/// Writes what a client should see of an endpoint's header fields. `now` is the time as `Date`
/// says it, for a response without one (RFC 9110, 6.6.1).
pub(crate) fn towards_client(response: Message<'_>, upgrade: bool, now: &[u8], to: &mut impl Sink) {
    let mut says_date = response.status() < 200;
    for line in response.fields() {
        let stays = never_goes_on(line.known)
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
    use crate::wire::h1::head::read_response;
    use crate::wire::head::{Head, Span};

    fn peer(trusted: bool) -> Peer {
        let networks = || ["192.0.2.0/24".parse().unwrap()].into();
        Peer::new([192, 0, 2, 1].into(), trusted.then(networks), false)
    }

    const APP: Onward<'_> = Onward {
        host: b"app",
        port: b"",
        forwarded: false,
        via: true,
        expectation: Expectation::Nothing,
    };

    #[track_caller]
    fn check(trusted: bool, upgrade: bool, sent: &str, want: &str) {
        let mut written = Vec::new();
        with_request(sent, |request| {
            towards_endpoint(request, &peer(trusted), &APP, upgrade, &mut written);
        });
        assert_eq!(String::from_utf8(written).unwrap(), want);
    }

    const FROM_STRANGER: &str = "via: 1.1 crossfade\r\nx-forwarded-for: 192.0.2.1\r\n\
        x-real-ip: 192.0.2.1\r\nx-forwarded-proto: http\r\nx-forwarded-port: 80\r\n\
        x-forwarded-host: app\r\n";

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
        let forged = [
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-proto: https",
            "x-forwarded-host: admin",
            "X-Forwarded-Port: 443",
            "X-Forwarded-Prefix: /admin",
            "x-forwarded-ssl: on",
            "x-forwarded-client-cert: By=spiffe",
            "x-real-ip: 127.0.0.1",
            "forwarded: for=127.0.0.1",
        ];
        for line in forged {
            check(
                false,
                false,
                &format!("{line}\r\n"),
                &format!("host: app\r\n{FROM_STRANGER}"),
            );
        }
    }

    #[test]
    fn what_would_be_taken_for_another_field_does_not_go_on() {
        for name in [
            "X_Forwarded_For",
            "x-forwarded_proto",
            "X_Real_IP",
            "Content_Length",
            "Transfer_Encoding",
            "x_forwarded_prefix",
        ] {
            for trusted in [false, true] {
                check(
                    trusted,
                    false,
                    &format!("{name}: 6.6.6.6\r\nx_own: 1\r\n"),
                    &format!("host: app\r\nx_own: 1\r\n{FROM_STRANGER}"),
                );
            }
            let text = format!("HTTP/1.1 200 OK\r\n{name}: 5\r\ndate: now\r\n\r\n");
            let (mut head, mut written) = (Head::default(), Vec::new());
            read_response(text.as_bytes(), &mut head).unwrap();
            towards_client(head.over(text.as_bytes()), false, b"", &mut written);
            assert_eq!(written, b"date: now\r\nvia: 1.1 crossfade\r\n", "{name}");
        }
    }

    #[test]
    fn a_trusted_proxy_is_believed_and_added_to() {
        check(
            true,
            false,
            "via: 1.0 edge\r\nx-forwarded-for: 203.0.113.9\r\nx-forwarded-proto: https\r\n\
             x-forwarded-host: app.example.com\r\nx-forwarded-prefix: /app\r\n",
            "host: app\r\nvia: 1.0 edge\r\nx-forwarded-proto: https\r\n\
             x-forwarded-host: app.example.com\r\nx-forwarded-prefix: /app\r\n\
             via: 1.1 crossfade\r\nx-forwarded-for: 203.0.113.9, 192.0.2.1\r\n\
             x-real-ip: 203.0.113.9\r\nx-forwarded-port: 443\r\n",
        );
    }

    #[test]
    fn what_a_trusted_proxy_says_is_not_taken_off_by_connection() {
        check(
            true,
            false,
            "x-forwarded-for: 203.0.113.9\r\nx-forwarded-proto: https\r\n\
             connection: x-forwarded-for, x-forwarded-proto\r\n",
            "host: app\r\nx-forwarded-proto: https\r\nvia: 1.1 crossfade\r\n\
             x-forwarded-for: 203.0.113.9, 192.0.2.1\r\nx-real-ip: 203.0.113.9\r\n\
             x-forwarded-port: 443\r\nx-forwarded-host: app\r\n",
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
