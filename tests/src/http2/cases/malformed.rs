//! RFC 9113, sections 8.2, 8.3 and 8.5: heads that are malformed. None of them may reach an
//! endpoint.

use crate::http2::Step;
use crate::http2::frame::{headers, setting};
use crate::http2::hpack::block;

use super::{AUTHORITY, Case, Connection, METHOD, PATH, SCHEME, WHOLE, case};

/// Requests of which an endpoint must hear nothing.
pub const MALFORMED_HEADS: &[Case] = &[
    case("8.1.1/9", "content-length without DATA is malformed", |c| {
        field(c, "content-length", "1")
    }),
    case(
        "8.1.1/10",
        "content-length that is no number is malformed",
        |c| field(c, "content-length", "none"),
    ),
    case("8.1.1/11", "content-length with a sign is malformed", |c| {
        field(c, "content-length", "+0")
    }),
    case(
        "8.1.1/12",
        "two lengths in content-length are malformed",
        |c| {
            malformed(
                c,
                &with(&[("content-length", "0"), ("content-length", "1")]),
            )
        },
    ),
    case("8.2.1/1", "an upper-case field name is malformed", |c| {
        field(c, "X-TEST", "yes")
    }),
    case(
        "8.2.1/2",
        "one upper-case letter in a field name is malformed",
        |c| field(c, "x-Test", "yes"),
    ),
    case("8.2.1/3", "an empty field name is malformed", |c| {
        field(c, "", "yes")
    }),
    case("8.2.1/4", "a space in a field name is malformed", |c| {
        field(c, "x test", "yes")
    }),
    case("8.2.1/5", "NUL in a field name is malformed", |c| {
        field(c, "x\0test", "yes")
    }),
    case(
        "8.2.1/6",
        "a line break in a field name is malformed",
        |c| field(c, "x: yes\r\nx-test", "yes"),
    ),
    case("8.2.1/7", "a colon in a field name is malformed", |c| {
        field(c, "x:test", "yes")
    }),
    case("8.2.1/8", "DEL in a field name is malformed", |c| {
        field(c, "x\x7ftest", "yes")
    }),
    case(
        "8.2.1/9",
        "an octet above ASCII in a field name is malformed",
        |c| field(c, "x\u{e9}test", "yes"),
    ),
    case("8.2.1/10", "NUL in a field value is malformed", |c| {
        field(c, "x-test", "a\0b")
    }),
    case("8.2.1/11", "LF in a field value is malformed", |c| {
        field(c, "x-test", "a\nb")
    }),
    case("8.2.1/12", "CR in a field value is malformed", |c| {
        field(c, "x-test", "a\rb")
    }),
    case(
        "8.2.1/13",
        "a whole request in a field value is malformed",
        |c| field(c, "x-test", "a\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n"),
    ),
    case(
        "8.2.1/14",
        "a space in front of a field value is malformed",
        |c| field(c, "x-test", " a"),
    ),
    case(
        "8.2.1/15",
        "a space behind a field value is malformed",
        |c| field(c, "x-test", "a "),
    ),
    case(
        "8.2.1/16",
        "a tab in front of a field value is malformed",
        |c| field(c, "x-test", "\ta"),
    ),
    case("8.2.1/17", "a tab behind a field value is malformed", |c| {
        field(c, "x-test", "a\t")
    }),
    case("8.2.2/2", "Connection is malformed", |c| {
        field(c, "connection", "keep-alive")
    }),
    case("8.2.2/3", "Proxy-Connection is malformed", |c| {
        field(c, "proxy-connection", "keep-alive")
    }),
    case("8.2.2/4", "Keep-Alive is malformed", |c| {
        field(c, "keep-alive", "timeout=5")
    }),
    case("8.2.2/5", "Transfer-Encoding is malformed", |c| {
        field(c, "transfer-encoding", "chunked")
    }),
    case("8.2.2/6", "Upgrade is malformed", |c| {
        field(c, "upgrade", "websocket")
    }),
    case(
        "8.2.2/7",
        "TE with anything but trailers is malformed",
        |c| field(c, "te", "trailers, deflate"),
    ),
    case("8.3/1", "an unknown pseudo-header is malformed", |c| {
        malformed(c, &[METHOD, SCHEME, PATH, AUTHORITY, (":test", "yes")])
    }),
    case("8.3/2", "a pseudo-header of responses is malformed", |c| {
        malformed(c, &[METHOD, SCHEME, PATH, AUTHORITY, (":status", "200")])
    }),
    case(
        "8.3/3",
        "a pseudo-header behind a field is malformed",
        |c| malformed(c, &[METHOD, SCHEME, AUTHORITY, ("x-test", "yes"), PATH]),
    ),
    case("8.3/4", "an upper-case pseudo-header is malformed", |c| {
        malformed(c, &[(":Method", "GET"), SCHEME, PATH, AUTHORITY])
    }),
    case("8.3.1/4", "a request without :method is malformed", |c| {
        malformed(c, &[SCHEME, PATH, AUTHORITY])
    }),
    case("8.3.1/5", "a request without :scheme is malformed", |c| {
        malformed(c, &[METHOD, PATH, AUTHORITY])
    }),
    case("8.3.1/6", "a request without :path is malformed", |c| {
        malformed(c, &[METHOD, SCHEME, AUTHORITY])
    }),
    case("8.3.1/7", "two :method are malformed", |c| {
        malformed(c, &[METHOD, METHOD, SCHEME, PATH, AUTHORITY])
    }),
    case("8.3.1/8", "two :scheme are malformed", |c| {
        malformed(c, &[METHOD, SCHEME, SCHEME, PATH, AUTHORITY])
    }),
    case("8.3.1/9", "two :path are malformed", |c| {
        malformed(c, &[METHOD, SCHEME, PATH, PATH, AUTHORITY])
    }),
    case("8.3.1/10", "two :authority are malformed", |c| {
        malformed(
            c,
            &[METHOD, SCHEME, PATH, AUTHORITY, (":authority", "other")],
        )
    }),
    case(
        "8.3.1/11",
        "a request without :authority and Host is refused",
        |c| malformed(c, &[METHOD, SCHEME, PATH]),
    ),
    case("8.3.1/12", "an empty :path is malformed", |c| path(c, "")),
    case("8.3.1/13", "a :path without a slash is malformed", |c| {
        path(c, "index")
    }),
    case(
        "8.3.1/14",
        "an asterisk as :path is malformed but for OPTIONS",
        |c| path(c, "*"),
    ),
    case("8.3.1/15", "a space in :path is malformed", |c| {
        path(c, "/a HTTP/1.1")
    }),
    case("8.3.1/16", "a line break in :path is malformed", |c| {
        path(c, "/ HTTP/1.1\r\nx-test: yes\r\n")
    }),
    case("8.3.1/17", "NUL in :path is malformed", |c| path(c, "/\0")),
    case("8.3.1/18", "a space in :method is malformed", |c| {
        malformed(c, &[(":method", "GET /"), SCHEME, PATH, AUTHORITY])
    }),
    case("8.3.1/19", "a line break in :method is malformed", |c| {
        malformed(c, &[(":method", "GET\r\n"), SCHEME, PATH, AUTHORITY])
    }),
    case("8.3.1/20", "an empty :method is malformed", |c| {
        malformed(c, &[(":method", ""), SCHEME, PATH, AUTHORITY])
    }),
    case("8.3.1/21", "a line break in :authority is malformed", |c| {
        malformed(
            c,
            &[METHOD, SCHEME, PATH, (":authority", "a\r\nx-test: yes")],
        )
    }),
    case("8.3.1/22", "a space in :authority is malformed", |c| {
        malformed(c, &[METHOD, SCHEME, PATH, (":authority", "local host")])
    }),
    case("8.3.1/23", "a line break in :scheme is malformed", |c| {
        malformed(c, &[METHOD, (":scheme", "http\r\n"), PATH, AUTHORITY])
    }),
    case(
        "8.5/1",
        "CONNECT with :scheme and :path is malformed",
        |c| malformed(c, &[(":method", "CONNECT"), SCHEME, PATH, AUTHORITY]),
    ),
    case("8.5/2", "CONNECT without :authority is malformed", |c| {
        malformed(c, &[(":method", "CONNECT")])
    }),
    case(
        "8441, 3/1",
        ":protocol is malformed where the server has not asked for it",
        |c| {
            c.open()?;
            // Where it has, this is a good request.
            if c.server_setting(setting::ENABLE_CONNECT_PROTOCOL) == Some(1) {
                return Ok(());
            }
            let method = (":method", "CONNECT");
            let protocol = (":protocol", "websocket");
            c.send([headers(
                WHOLE,
                1,
                block(&[method, protocol, SCHEME, PATH, AUTHORITY]),
            )]);
            c.malformed(1)
        },
    ),
];

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[METHOD, SCHEME, PATH, AUTHORITY], more].concat()
}

fn field(c: &mut Connection, name: &str, value: &str) -> Step {
    malformed(c, &with(&[(name, value)]))
}

fn path(c: &mut Connection, path: &str) -> Step {
    malformed(c, &[METHOD, SCHEME, (":path", path), AUTHORITY])
}

fn malformed(c: &mut Connection, fields: &[(&str, &str)]) -> Step {
    c.open()?;
    c.send([headers(WHOLE, 1, block(fields))]);
    c.malformed(1)
}
