//! RFC 9113, sections 3 and 4: how a connection begins, and what a frame is.

use crate::http2::Step;
use crate::http2::connection::{PREFACE, first_settings};
use crate::http2::frame::{
    self, Code, Frame, continuation, data, flag, head, headers, kind, ping, priority, settings,
};
use crate::http2::hpack::{indexed, inserted, literal, string};

use super::{Case, Connection, OPEN, WHOLE, case, get, ignored, post, refused, works};

pub(super) const FRAMING: &[Case] = &[
    case("3.4/1", "the server's preface is a SETTINGS frame", |c| {
        c.raw(PREFACE);
        c.send([first_settings(&[])]);
        // That it is the first frame is one of the rules.
        c.until("SETTINGS", |heard| heard.settings.as_ref().map(|_| Ok(())))
    }),
    case(
        "3.4/2",
        "a client may send requests before it has heard anything",
        |c| {
            c.raw(PREFACE);
            c.send([first_settings(&[]), headers(WHOLE, 1, get())]);
            c.success(1)?;
            c.settled(1)
        },
    ),
    case("3.4/3", "a preface may come in pieces", |c| {
        let bytes = [PREFACE, &first_settings(&[]).bytes()].concat();
        c.heard.sending(&first_settings(&[]));
        for byte in bytes {
            c.raw(&[byte]);
        }
        c.settled(1)?;
        works(c, 1)
    }),
    case("3.4/4", "a wrong preface ends the connection", |c| {
        c.raw(b"INVALID CONNECTION PREFACE\r\n\r\n");
        c.closed()
    }),
    case(
        "3.4/5",
        "a preface that goes wrong at its end ends the connection",
        |c| {
            c.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX");
            c.raw(&first_settings(&[]).bytes());
            c.closed()
        },
    ),
    case(
        "3.4/6",
        "a preface without SETTINGS is a PROTOCOL_ERROR: PING",
        |c| {
            c.raw(PREFACE);
            c.send([ping(flag::NONE, *b"too soon")]);
            c.connection_error(&[Code::PROTOCOL_ERROR])
        },
    ),
    case(
        "3.4/7",
        "a preface without SETTINGS is a PROTOCOL_ERROR: HEADERS",
        |c| {
            c.raw(PREFACE);
            c.send([headers(WHOLE, 1, get())]);
            c.connection_error(&[Code::PROTOCOL_ERROR])
        },
    ),
    case(
        "4.1/1",
        "a frame of an unknown type is ignored on the connection",
        |c| ignored(c, [Frame::new(kind::UNKNOWN, 0xff, 0, *b"whatever")]),
    ),
    case(
        "4.1/2",
        "a frame of an unknown type is ignored on an open stream",
        |c| {
            c.open()?;
            c.send([
                headers(OPEN, 1, post()),
                Frame::new(kind::UNKNOWN, 0xff, 1, *b"whatever"),
                data(flag::END_STREAM, 1, *b"body"),
            ]);
            c.success(1)?;
            Ok(())
        },
    ),
    case(
        "4.1/3",
        "a frame of an unknown type is ignored on an idle stream",
        |c| ignored(c, [Frame::new(kind::UNKNOWN, 0, 5, *b"whatever")]),
    ),
    case(
        "4.1/4",
        "an empty frame of an unknown type is ignored",
        |c| ignored(c, [Frame::new(kind::UNKNOWN, 0, 0, [])]),
    ),
    case("4.1/5", "flags without a meaning are ignored: PING", |c| {
        c.open()?;
        c.send([ping(!flag::ACK, *b"flagged!")]);
        c.until("an acknowledged PING", |heard| {
            heard
                .pongs
                .contains(&b"flagged!".to_vec())
                .then_some(Ok(()))
        })
    }),
    case(
        "4.1/6",
        "flags without a meaning are ignored: SETTINGS, DATA, WINDOW_UPDATE",
        |c| {
            c.open()?;
            c.send([
                Frame::new(kind::SETTINGS, !flag::ACK, 0, []),
                headers(OPEN, 1, post()),
                data(flag::END_STREAM | 0xf6, 1, *b"body"),
                Frame::new(kind::WINDOW_UPDATE, 0xff, 0, 1_u32.to_be_bytes()),
            ]);
            c.settled(2)?;
            c.success(1)?;
            Ok(())
        },
    ),
    case(
        "4.1/7",
        "flags without a meaning are ignored: HEADERS",
        |c| {
            c.open()?;
            c.send([headers(WHOLE | 0xd2, 1, get())]);
            c.success(1)?;
            Ok(())
        },
    ),
    case(
        "4.1/8",
        "the reserved bit of a stream is ignored: PING",
        |c| {
            c.open()?;
            c.raw(&head(8, kind::PING, flag::NONE, 1 << 31));
            c.raw(b"reserved");
            c.until("an acknowledged PING", |heard| {
                heard
                    .pongs
                    .contains(&b"reserved".to_vec())
                    .then_some(Ok(()))
            })
        },
    ),
    case(
        "4.1/9",
        "the reserved bit of a stream is ignored: HEADERS",
        |c| {
            c.open()?;
            let request = headers(WHOLE, 1, get());
            c.heard.sending(&request);
            let mut bytes = request.bytes();
            bytes[5] |= 0x80;
            c.raw(&bytes);
            c.success(1)?;
            Ok(())
        },
    ),
    case("4.2/1", "a payload of 16,384 octets is taken: DATA", |c| {
        c.open()?;
        c.send([
            headers(OPEN, 1, post()),
            data(flag::END_STREAM, 1, vec![b'x'; frame::PAYLOAD]),
        ]);
        c.success(1)?;
        Ok(())
    }),
    case(
        "4.2/2",
        "a payload of 16,384 octets is taken: unknown type",
        |c| {
            ignored(
                c,
                [Frame::new(kind::UNKNOWN, 0, 0, vec![0; frame::PAYLOAD])],
            )
        },
    ),
    case(
        "4.2/3",
        "DATA above SETTINGS_MAX_FRAME_SIZE is a FRAME_SIZE_ERROR",
        |c| {
            c.open()?;
            c.send([headers(OPEN, 1, post())]);
            if !oversized(c, kind::DATA, 1, &[]) {
                return Ok(());
            }
            c.stream_error(1, &[Code::FRAME_SIZE_ERROR])
        },
    ),
    case(
        "4.2/4",
        "HEADERS above SETTINGS_MAX_FRAME_SIZE are a FRAME_SIZE_ERROR",
        |c| {
            c.open()?;
            c.heard.sending(&headers(OPEN, 1, get()));
            let block = [get(), vec![0], string("large"), vec![0x7f]].concat();
            if !oversized(c, kind::HEADERS, 1, &block) {
                return Ok(());
            }
            c.connection_error(&[Code::FRAME_SIZE_ERROR])
        },
    ),
    case(
        "4.2/5",
        "SETTINGS above SETTINGS_MAX_FRAME_SIZE are a FRAME_SIZE_ERROR",
        |c| {
            c.open()?;
            if !oversized(c, kind::SETTINGS, 0, &[]) {
                return Ok(());
            }
            c.connection_error(&[Code::FRAME_SIZE_ERROR])
        },
    ),
    case(
        "4.2/6",
        "an unknown type above SETTINGS_MAX_FRAME_SIZE is a FRAME_SIZE_ERROR",
        |c| {
            c.open()?;
            if !oversized(c, kind::UNKNOWN, 0, &[]) {
                return Ok(());
            }
            c.connection_error(&[Code::FRAME_SIZE_ERROR])
        },
    ),
    case(
        "4.3/1",
        "a field block that cannot be decoded is a COMPRESSION_ERROR",
        |c| {
            refused(
                c,
                [headers(WHOLE, 1, [get(), vec![0x80]].concat())],
                &[Code::COMPRESSION_ERROR],
            )
        },
    ),
    case(
        "4.3/2",
        "a field block that ends inside a field is a COMPRESSION_ERROR",
        |c| {
            let cut = [get(), vec![0], string("name"), vec![5, b'v']].concat();
            refused(c, [headers(WHOLE, 1, cut)], &[Code::COMPRESSION_ERROR])
        },
    ),
    case(
        "4.3/3",
        "trailers that cannot be decoded are a COMPRESSION_ERROR",
        |c| {
            refused(
                c,
                [headers(OPEN, 1, post()), headers(WHOLE, 1, [0x80])],
                &[Code::COMPRESSION_ERROR],
            )
        },
    ),
    case("4.3/4", "a field block is one, wherever it is cut", |c| {
        c.open()?;
        let block = get();
        let (first, rest) = block.split_at(3);
        let (second, third) = rest.split_at(block.len() / 2);
        c.send([
            headers(flag::END_STREAM, 1, first),
            continuation(flag::NONE, 1, second),
            continuation(flag::END_HEADERS, 1, third),
        ]);
        c.success(1)?;
        Ok(())
    }),
    case(
        "4.3/5",
        "the last part of a field block may be empty",
        |c| {
            c.open()?;
            c.send([
                headers(flag::END_STREAM, 1, get()),
                continuation(flag::END_HEADERS, 1, []),
            ]);
            c.success(1)?;
            Ok(())
        },
    ),
    case(
        "4.3/6",
        "nothing may come inside a field block: HEADERS of another stream",
        |c| inside_a_block(c, headers(WHOLE, 3, get())),
    ),
    case(
        "4.3/7",
        "nothing may come inside a field block: PRIORITY",
        |c| inside_a_block(c, priority(1, 0)),
    ),
    case(
        "4.3/8",
        "nothing may come inside a field block: PING",
        |c| inside_a_block(c, ping(flag::NONE, *b"a PING! ")),
    ),
    case(
        "4.3/9",
        "nothing may come inside a field block: SETTINGS",
        |c| inside_a_block(c, settings(&[])),
    ),
    case(
        "4.3/10",
        "nothing may come inside a field block: WINDOW_UPDATE",
        |c| inside_a_block(c, frame::window_update(0, 1)),
    ),
    case(
        "4.3/11",
        "nothing may come inside a field block: an unknown type",
        |c| inside_a_block(c, Frame::new(kind::UNKNOWN, 0, 1, *b"whatever")),
    ),
    case(
        "4.3/12",
        "a request that the client has reset still fills the dynamic table",
        |c| {
            c.open()?;
            let block = [get(), inserted("x-kept", "yes")].concat();
            c.send([
                headers(OPEN, 1, block),
                frame::rst_stream(1, Code::CANCEL),
                headers(WHOLE, 3, [get(), indexed(62)].concat()),
            ]);
            c.success(3)?;
            Ok(())
        },
    ),
    case(
        "4.3/13",
        "a malformed request still fills the dynamic table",
        |c| {
            c.open()?;
            let block = [get(), literal("BAD", ""), inserted("x-kept", "yes")].concat();
            c.send([headers(WHOLE, 1, block)]);
            c.malformed(1)?;
            if c.heard.goaway.is_some() || c.heard.closed {
                return Ok(());
            }
            c.send([headers(WHOLE, 3, [get(), indexed(62)].concat())]);
            c.success(3)?;
            Ok(())
        },
    ),
];

/// Sends a frame that is one octet larger than the server's limit. False: no frame can be.
fn oversized(c: &mut Connection, kind: u8, stream: u32, start: &[u8]) -> bool {
    let size = c.frame_limit() + 1;
    if size >= 1 << 24 {
        return false;
    }
    let mut payload = start.to_vec();
    payload.resize(size, 0);
    c.raw(&head(size, kind, OPEN, stream));
    c.raw(&payload);
    true
}

fn inside_a_block(c: &mut Connection, frame: Frame) -> Step {
    refused(
        c,
        [
            headers(flag::END_STREAM, 1, get()),
            frame,
            continuation(flag::END_HEADERS, 1, []),
        ],
        &[Code::PROTOCOL_ERROR],
    )
}
