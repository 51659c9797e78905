//! RFC 9113, sections 6.1 to 6.4 and 6.10: DATA, HEADERS, PRIORITY, RST_STREAM, CONTINUATION.

use crate::http2::frame::{
    Code, Frame, continuation, data, dependency, flag, headers, kind, padded, priority, rst_stream,
};

use super::{Case, OPEN, WHOLE, case, get, post, refused, reset, works};

pub(super) const STREAM_FRAMES: &[Case] = &[
    case("6.1/1", "DATA on stream 0 is a PROTOCOL_ERROR", |c| {
        refused(c, [data(flag::NONE, 0, *b"test")], &[Code::PROTOCOL_ERROR])
    }),
    case(
        "6.1/2",
        "DATA that is all padding and more is a PROTOCOL_ERROR",
        |c| {
            refused(
                c,
                [
                    headers(OPEN, 1, post()),
                    data(flag::PADDED, 1, *b"\x06Test1"),
                ],
                &[Code::PROTOCOL_ERROR],
            )
        },
    ),
    case(
        "6.1/3",
        "DATA whose padding is as long as its payload is a PROTOCOL_ERROR",
        |c| {
            refused(
                c,
                [
                    headers(OPEN, 1, post()),
                    data(flag::PADDED, 1, *b"\x05Test"),
                ],
                &[Code::PROTOCOL_ERROR],
            )
        },
    ),
    case(
        "6.1/4",
        "padded DATA without room for its pad length is an error",
        |c| {
            refused(
                c,
                [headers(OPEN, 1, post()), data(flag::PADDED, 1, [])],
                &[Code::PROTOCOL_ERROR, Code::FRAME_SIZE_ERROR],
            )
        },
    ),
    case("6.1/5", "padded DATA is taken", |c| {
        c.open()?;
        c.send([
            headers(OPEN, 1, post()),
            data(flag::PADDED, 1, padded(b"some", 255)),
            data(flag::PADDED, 1, padded(b"", 0)),
            data(flag::PADDED | flag::END_STREAM, 1, padded(b" body", 1)),
        ]);
        c.success(1)?;
        Ok(())
    }),
    case("6.1/6", "empty DATA is taken, and may end a stream", |c| {
        c.open()?;
        c.send([
            headers(OPEN, 1, post()),
            data(flag::NONE, 1, []),
            data(flag::END_STREAM, 1, []),
        ]);
        c.success(1)?;
        Ok(())
    }),
    case("6.2/1", "HEADERS on stream 0 are a PROTOCOL_ERROR", |c| {
        refused(c, [headers(WHOLE, 0, get())], &[Code::PROTOCOL_ERROR])
    }),
    case(
        "6.2/2",
        "HEADERS with more padding than payload are a PROTOCOL_ERROR",
        |c| {
            let mut block = padded(&get(), 0);
            block[0] = block.len() as u8;
            refused(
                c,
                [headers(WHOLE | flag::PADDED, 1, block)],
                &[Code::PROTOCOL_ERROR],
            )
        },
    ),
    case(
        "6.2/3",
        "padded HEADERS without room for their pad length are an error",
        |c| {
            refused(
                c,
                [headers(WHOLE | flag::PADDED, 1, [])],
                &[Code::PROTOCOL_ERROR, Code::FRAME_SIZE_ERROR],
            )
        },
    ),
    case(
        "6.2/4",
        "HEADERS without room for their priority are an error",
        |c| {
            refused(
                c,
                [headers(WHOLE | flag::PRIORITY, 1, *b"\0\0\0")],
                &[Code::PROTOCOL_ERROR, Code::FRAME_SIZE_ERROR],
            )
        },
    ),
    case("6.2/5", "padded HEADERS are taken", |c| {
        c.open()?;
        c.send([headers(WHOLE | flag::PADDED, 1, padded(&get(), 200))]);
        c.success(1)?;
        Ok(())
    }),
    case(
        "6.2/6",
        "HEADERS with padding and priority are taken",
        |c| {
            c.open()?;
            let block = padded(&[dependency(0), get()].concat(), 10);
            c.send([headers(WHOLE | flag::PADDED | flag::PRIORITY, 1, block)]);
            c.success(1)?;
            Ok(())
        },
    ),
    case(
        "6.2/7",
        "END_STREAM counts though CONTINUATION follows",
        |c| {
            c.open()?;
            let block = get();
            let (first, second) = block.split_at(10);
            c.send([
                headers(flag::END_STREAM, 1, first),
                continuation(flag::END_HEADERS, 1, second),
            ]);
            c.success(1)?;
            Ok(())
        },
    ),
    case("6.3/1", "PRIORITY on stream 0 is a PROTOCOL_ERROR", |c| {
        refused(c, [priority(0, 1)], &[Code::PROTOCOL_ERROR])
    }),
    case("6.3/2", "PRIORITY of 4 octets is a FRAME_SIZE_ERROR", |c| {
        let short = Frame::new(kind::PRIORITY, flag::NONE, 1, [0, 0, 0, 0]);
        reset(
            c,
            [headers(OPEN, 1, post()), short],
            &[Code::FRAME_SIZE_ERROR],
        )
    }),
    case("6.3/3", "PRIORITY of 6 octets is a FRAME_SIZE_ERROR", |c| {
        let long = Frame::new(kind::PRIORITY, flag::NONE, 1, [0, 0, 0, 0, 1, 1]);
        reset(
            c,
            [headers(OPEN, 1, post()), long],
            &[Code::FRAME_SIZE_ERROR],
        )
    }),
    case("6.4/1", "RST_STREAM on stream 0 is a PROTOCOL_ERROR", |c| {
        refused(c, [rst_stream(0, Code::CANCEL)], &[Code::PROTOCOL_ERROR])
    }),
    case(
        "6.4/2",
        "RST_STREAM on an idle stream is a PROTOCOL_ERROR",
        |c| {
            c.open()?;
            works(c, 1)?;
            c.send([rst_stream(3, Code::CANCEL)]);
            c.connection_error(&[Code::PROTOCOL_ERROR])
        },
    ),
    case(
        "6.4/3",
        "RST_STREAM of 3 octets is a FRAME_SIZE_ERROR",
        |c| {
            let short = Frame::new(kind::RST_STREAM, flag::NONE, 1, [0, 0, 8]);
            refused(
                c,
                [headers(OPEN, 1, post()), short],
                &[Code::FRAME_SIZE_ERROR],
            )
        },
    ),
    case(
        "6.4/4",
        "RST_STREAM of 5 octets is a FRAME_SIZE_ERROR",
        |c| {
            let long = Frame::new(kind::RST_STREAM, flag::NONE, 1, [0, 0, 0, 8, 0]);
            refused(
                c,
                [headers(OPEN, 1, post()), long],
                &[Code::FRAME_SIZE_ERROR],
            )
        },
    ),
    case("6.10/1", "a field block may be in many parts", |c| {
        c.open()?;
        let block = get();
        let (first, rest) = block.split_at(10);
        let (second, rest) = rest.split_at(10);
        let (third, fourth) = rest.split_at(1);
        c.send([
            headers(flag::END_STREAM, 1, first),
            continuation(flag::NONE, 1, second),
            continuation(flag::NONE, 1, third),
            continuation(flag::END_HEADERS, 1, fourth),
        ]);
        c.success(1)?;
        Ok(())
    }),
    case(
        "6.10/2",
        "CONTINUATION on stream 0 is a PROTOCOL_ERROR",
        |c| {
            refused(
                c,
                [
                    headers(flag::END_STREAM, 1, get()),
                    continuation(flag::END_HEADERS, 0, []),
                ],
                &[Code::PROTOCOL_ERROR],
            )
        },
    ),
    case(
        "6.10/3",
        "CONTINUATION on another stream is a PROTOCOL_ERROR",
        |c| {
            refused(
                c,
                [
                    headers(flag::END_STREAM, 1, get()),
                    continuation(flag::END_HEADERS, 3, []),
                ],
                &[Code::PROTOCOL_ERROR],
            )
        },
    ),
    case(
        "6.10/4",
        "DATA in place of CONTINUATION is a PROTOCOL_ERROR",
        |c| {
            refused(
                c,
                [
                    headers(flag::NONE, 1, post()),
                    data(flag::END_STREAM, 1, *b"body"),
                ],
                &[Code::PROTOCOL_ERROR],
            )
        },
    ),
    case(
        "6.10/5",
        "HEADERS in place of CONTINUATION are a PROTOCOL_ERROR",
        |c| {
            refused(
                c,
                [
                    headers(flag::END_STREAM, 1, get()),
                    headers(flag::END_HEADERS, 1, []),
                ],
                &[Code::PROTOCOL_ERROR],
            )
        },
    ),
    case(
        "6.10/6",
        "CONTINUATION after END_HEADERS is a PROTOCOL_ERROR",
        |c| {
            refused(
                c,
                [
                    headers(OPEN, 1, post()),
                    continuation(flag::END_HEADERS, 1, get()),
                ],
                &[Code::PROTOCOL_ERROR],
            )
        },
    ),
    case(
        "6.10/7",
        "CONTINUATION after the last CONTINUATION is a PROTOCOL_ERROR",
        |c| {
            refused(
                c,
                [
                    headers(flag::NONE, 1, post()),
                    continuation(flag::END_HEADERS, 1, []),
                    continuation(flag::END_HEADERS, 1, []),
                ],
                &[Code::PROTOCOL_ERROR],
            )
        },
    ),
    case(
        "6.10/8",
        "CONTINUATION after DATA is a PROTOCOL_ERROR",
        |c| {
            refused(
                c,
                [
                    headers(OPEN, 1, post()),
                    data(flag::NONE, 1, *b"body"),
                    continuation(flag::END_HEADERS, 1, get()),
                ],
                &[Code::PROTOCOL_ERROR],
            )
        },
    ),
];
