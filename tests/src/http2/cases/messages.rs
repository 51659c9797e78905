//! RFC 9113, section 8.1: requests and responses as wholes. Heads that are malformed have a file of
//! their own.

use crate::http2::frame::{Code, data, flag, headers};
use crate::http2::hpack::{block, literal};
use crate::http2::{Step, Wrong};

use super::{
    AUTHORITY, Case, Connection, OPEN, PATH, SCHEME, WHOLE, case, get, get_with, post, post_with,
};

pub(super) const MESSAGES: &[Case] = &[
    case("8.1/1", "a request gets a response", |c| {
        c.open()?;
        c.send([headers(WHOLE, 1, get())]);
        let response = c.success(1)?;
        if response.body.is_empty() {
            return Err(Wrong("without a body".to_owned()));
        }
        Ok(())
    }),
    case(
        "8.1/2",
        "requests that overlap all get their responses",
        |c| {
            c.open()?;
            c.send((0..10).map(|n| headers(WHOLE, 2 * n + 1, get())));
            for n in (0..10).rev() {
                c.success(2 * n + 1)?;
            }
            Ok(())
        },
    ),
    case("8.1/3", "bodies that overlap are kept apart", |c| {
        c.open()?;
        let length = |length| post_with(&[("content-length", length)]);
        c.send([
            headers(OPEN, 1, length("8")),
            headers(OPEN, 3, length("4")),
            data(flag::NONE, 1, *b"half"),
            data(flag::END_STREAM, 3, *b"whol"),
            data(flag::END_STREAM, 1, *b"half"),
        ]);
        c.success(1)?;
        c.success(3)?;
        Ok(())
    }),
    case("8.1/4", "trailers end a request", |c| {
        c.open()?;
        c.send([
            headers(OPEN, 1, post()),
            data(flag::NONE, 1, *b"body"),
            headers(WHOLE, 1, block(&[("x-trailer", "yes")])),
        ]);
        c.success(1)?;
        Ok(())
    }),
    case("8.1/5", "trailers may come without a body", |c| {
        c.open()?;
        c.send([
            headers(OPEN, 1, post()),
            headers(WHOLE, 1, block(&[("x-trailer", "yes")])),
        ]);
        c.success(1)?;
        Ok(())
    }),
    case(
        "8.1/6",
        "a second HEADERS frame without END_STREAM is malformed",
        |c| {
            c.open()?;
            c.send([
                headers(OPEN, 1, post()),
                data(flag::NONE, 1, *b"body"),
                headers(OPEN, 1, block(&[("x-trailer", "yes")])),
            ]);
            c.malformed(1)
        },
    ),
    case(
        "8.1/7",
        "trailers with a pseudo-header are malformed",
        |c| trailers(c, literal(":method", "POST")),
    ),
    case(
        "8.1/8",
        "trailers with an upper-case name are malformed",
        |c| trailers(c, literal("X-Trailer", "yes")),
    ),
    case(
        "8.1/9",
        "trailers with a line break in a value are malformed",
        |c| trailers(c, literal("x-trailer", "yes\r\nx-second: yes")),
    ),
    case(
        "8.1/10",
        "trailers with a connection-specific field are malformed",
        |c| trailers(c, literal("transfer-encoding", "chunked")),
    ),
    case("8.1/11", "a response to HEAD has no body", |c| {
        c.open()?;
        let head = block(&[(":method", "HEAD"), SCHEME, PATH, AUTHORITY]);
        c.send([headers(WHOLE, 1, head)]);
        let response = c.success(1)?;
        if !response.body.is_empty() {
            return Err(Wrong(format!("{} bytes of body", response.body.len())));
        }
        Ok(())
    }),
    case(
        "8.1/12",
        "a client that breaks off a request harms no other",
        |c| {
            c.open()?;
            c.send([
                headers(OPEN, 1, post_with(&[("content-length", "100")])),
                data(flag::NONE, 1, *b"part"),
                crate::http2::frame::rst_stream(1, Code::CANCEL),
                headers(WHOLE, 3, get()),
            ]);
            c.success(3)?;
            Ok(())
        },
    ),
    case("8.1.1/1", "content-length that is right is taken", |c| {
        c.open()?;
        c.send([
            headers(OPEN, 1, post_with(&[("content-length", "8")])),
            data(flag::NONE, 1, *b"some"),
            data(flag::END_STREAM, 1, *b"body"),
        ]);
        c.success(1)?;
        Ok(())
    }),
    case("8.1.1/2", "content-length above DATA is malformed", |c| {
        body(c, "5", &[b"body"])
    }),
    case("8.1.1/3", "content-length below DATA is malformed", |c| {
        body(c, "3", &[b"body"])
    }),
    case(
        "8.1.1/4",
        "content-length above several DATA is malformed",
        |c| body(c, "9", &[b"some", b"body"]),
    ),
    case(
        "8.1.1/5",
        "content-length below several DATA is malformed",
        |c| body(c, "7", &[b"some", b"body"]),
    ),
    case(
        "8.1.1/6",
        "content-length of 0 with DATA is malformed",
        |c| body(c, "0", &[b"body"]),
    ),
    case(
        "8.1.1/7",
        "content-length with empty DATA is malformed",
        |c| body(c, "1", &[b""]),
    ),
    case(
        "8.1.1/8",
        "content-length above DATA with trailers behind is malformed",
        |c| {
            c.open()?;
            c.send([
                headers(OPEN, 1, post_with(&[("content-length", "5")])),
                data(flag::NONE, 1, *b"body"),
                headers(WHOLE, 1, block(&[("x-trailer", "yes")])),
            ]);
            c.malformed(1)
        },
    ),
    case("8.2.2/1", "TE with trailers is taken", |c| {
        c.open()?;
        c.send([headers(WHOLE, 1, get_with(&[("te", "trailers")]))]);
        c.success(1)?;
        Ok(())
    }),
    case("8.2.3/1", "Cookie may come in crumbs", |c| {
        c.open()?;
        let crumbs = [("cookie", "a=b"), ("cookie", "c=d"), ("cookie", "e=f")];
        c.send([headers(WHOLE, 1, get_with(&crumbs))]);
        c.success(1)?;
        Ok(())
    }),
    case("8.3.1/1", "pseudo-headers may come in any order", |c| {
        c.open()?;
        let fields = [AUTHORITY, PATH, SCHEME, (":method", "GET")];
        c.send([headers(WHOLE, 1, block(&fields))]);
        c.success(1)?;
        Ok(())
    }),
    case("8.3.1/2", "Host may stand in for :authority", |c| {
        c.open()?;
        let fields = [(":method", "GET"), SCHEME, PATH, ("host", "localhost")];
        c.send([headers(WHOLE, 1, block(&fields))]);
        c.success(1)?;
        Ok(())
    }),
    case(
        "8.3.1/3",
        "field values may have tabs, octets above ASCII, or nothing",
        |c| {
            c.open()?;
            let more = [
                ("x-high", "\u{e9}\u{ff}"),
                ("x-tab", "a\tb"),
                ("x-empty", ""),
            ];
            c.send([headers(WHOLE, 1, get_with(&more))]);
            c.success(1)?;
            Ok(())
        },
    ),
];

/// A request with these trailers, which are malformed.
fn trailers(c: &mut Connection, trailers: Vec<u8>) -> Step {
    c.open()?;
    c.send([
        headers(OPEN, 1, post()),
        data(flag::NONE, 1, *b"body"),
        headers(WHOLE, 1, trailers),
    ]);
    c.malformed(1)
}

/// A request whose body is not as long as it says.
fn body(c: &mut Connection, length: &str, parts: &[&[u8]]) -> Step {
    c.open()?;
    c.send([headers(OPEN, 1, post_with(&[("content-length", length)]))]);
    let last = parts.len() - 1;
    c.send(parts.iter().enumerate().map(|(n, part)| {
        let flags = if n == last {
            flag::END_STREAM
        } else {
            flag::NONE
        };
        data(flags, 1, *part)
    }));
    c.malformed(1)
}
