//! RFC 9113, sections 6.5 to 6.8 and 7: SETTINGS, PUSH_PROMISE, PING, GOAWAY, error codes.

use crate::http2::frame::{
    Code, Frame, WINDOW, data, flag, goaway, headers, kind, ping, rst_stream, setting, settings,
};
use crate::http2::{Step, Wrong};

use super::{Case, Connection, OPEN, WHOLE, case, get, ignored, post, refused, works};

pub(super) const CONNECTION_FRAMES: &[Case] = &[
    case(
        "6.5/1",
        "SETTINGS ACK with a payload is a FRAME_SIZE_ERROR",
        |c| {
            let ack = Frame::new(kind::SETTINGS, flag::ACK, 0, [0, 3, 0, 0, 0, 100]);
            refused(c, [ack], &[Code::FRAME_SIZE_ERROR])
        },
    ),
    case("6.5/2", "SETTINGS on a stream are a PROTOCOL_ERROR", |c| {
        let misplaced = Frame::new(kind::SETTINGS, flag::NONE, 1, [0, 3, 0, 0, 0, 100]);
        refused(c, [misplaced], &[Code::PROTOCOL_ERROR])
    }),
    case(
        "6.5/3",
        "SETTINGS with half a parameter are a FRAME_SIZE_ERROR",
        |c| {
            let cut = Frame::new(kind::SETTINGS, flag::NONE, 0, [0, 3, 0]);
            refused(c, [cut], &[Code::FRAME_SIZE_ERROR])
        },
    ),
    case(
        "6.5/4",
        "SETTINGS with a parameter and a half are a FRAME_SIZE_ERROR",
        |c| {
            let cut = Frame::new(kind::SETTINGS, flag::NONE, 0, [0, 3, 0, 0, 0, 100, 0, 3, 0]);
            refused(c, [cut], &[Code::FRAME_SIZE_ERROR])
        },
    ),
    case(
        "6.5.2/1",
        "SETTINGS_ENABLE_PUSH of 2 is a PROTOCOL_ERROR",
        |c| sets(c, setting::ENABLE_PUSH, 2, Code::PROTOCOL_ERROR),
    ),
    case(
        "6.5.2/2",
        "SETTINGS_INITIAL_WINDOW_SIZE of 2^31 is a FLOW_CONTROL_ERROR",
        |c| {
            let size = WINDOW + 1;
            sets(
                c,
                setting::INITIAL_WINDOW_SIZE,
                size,
                Code::FLOW_CONTROL_ERROR,
            )
        },
    ),
    case(
        "6.5.2/3",
        "SETTINGS_INITIAL_WINDOW_SIZE of 2^32-1 is a FLOW_CONTROL_ERROR",
        |c| {
            let size = u32::MAX;
            sets(
                c,
                setting::INITIAL_WINDOW_SIZE,
                size,
                Code::FLOW_CONTROL_ERROR,
            )
        },
    ),
    case(
        "6.5.2/4",
        "SETTINGS_MAX_FRAME_SIZE of 2^14-1 is a PROTOCOL_ERROR",
        |c| {
            sets(
                c,
                setting::MAX_FRAME_SIZE,
                (1 << 14) - 1,
                Code::PROTOCOL_ERROR,
            )
        },
    ),
    case(
        "6.5.2/5",
        "SETTINGS_MAX_FRAME_SIZE of 2^24 is a PROTOCOL_ERROR",
        |c| sets(c, setting::MAX_FRAME_SIZE, 1 << 24, Code::PROTOCOL_ERROR),
    ),
    case("6.5.2/6", "an unknown parameter is ignored", |c| {
        ignored(c, [settings(&[(0x7abc, u32::MAX), (0, 1)])])
    }),
    case("6.5.2/7", "the least values are taken", |c| {
        c.open()?;
        c.change_settings(&[
            (setting::HEADER_TABLE_SIZE, 0),
            (setting::MAX_CONCURRENT_STREAMS, 0),
            (setting::MAX_FRAME_SIZE, 1 << 14),
        ])?;
        works(c, 1)
    }),
    case("6.5.2/8", "the greatest values are taken", |c| {
        c.open()?;
        c.change_settings(&[
            (setting::MAX_CONCURRENT_STREAMS, u32::MAX),
            (setting::INITIAL_WINDOW_SIZE, WINDOW),
            (setting::MAX_FRAME_SIZE, (1 << 24) - 1),
            (setting::MAX_HEADER_LIST_SIZE, u32::MAX),
        ])?;
        works(c, 1)
    }),
    case(
        "6.5.2/9",
        "a header table of the client's size 0 is obeyed",
        |c| {
            // That nothing is indexed is what the decoder sees to.
            c.open_with(&[(setting::HEADER_TABLE_SIZE, 0)])?;
            works(c, 1)?;
            works(c, 3)
        },
    ),
    case(
        "6.5.2/10",
        "a header table that is made smaller later is obeyed",
        |c| {
            c.open()?;
            works(c, 1)?;
            works(c, 3)?;
            c.change_settings(&[(setting::HEADER_TABLE_SIZE, 0)])?;
            works(c, 5)?;
            c.change_settings(&[(setting::HEADER_TABLE_SIZE, 4096)])?;
            works(c, 7)?;
            works(c, 9)
        },
    ),
    case("6.5.3/1", "SETTINGS are acknowledged", |c| {
        c.open()?;
        c.change_settings(&[(setting::MAX_CONCURRENT_STREAMS, 10)])
    }),
    case("6.5.3/2", "empty SETTINGS are acknowledged", |c| {
        c.open()?;
        c.change_settings(&[])
    }),
    case("6.5.3/3", "every SETTINGS frame is acknowledged", |c| {
        c.open()?;
        c.send((0..5).map(|n| settings(&[(setting::MAX_CONCURRENT_STREAMS, 10 + n)])));
        c.settled(6)
    }),
    case(
        "6.5.3/4",
        "of a parameter that comes twice the last value counts",
        |c| {
            c.open()?;
            // That no more than this comes is one of the rules.
            c.change_settings(&[
                (setting::INITIAL_WINDOW_SIZE, 1000),
                (setting::INITIAL_WINDOW_SIZE, 1),
            ])?;
            c.send([headers(WHOLE, 1, get())]);
            c.received(1, 1)?;
            c.alive()
        },
    ),
    case(
        "6.6/1",
        "PUSH_PROMISE of a client is a PROTOCOL_ERROR",
        |c| {
            let promised = [&2_u32.to_be_bytes()[..], &get()].concat();
            let promise = Frame::new(kind::PUSH_PROMISE, flag::END_HEADERS, 1, promised);
            refused(
                c,
                [headers(OPEN, 1, post()), promise],
                &[Code::PROTOCOL_ERROR],
            )
        },
    ),
    case(
        "6.6/2",
        "PUSH_PROMISE on stream 0 is a PROTOCOL_ERROR",
        |c| {
            let promised = [&2_u32.to_be_bytes()[..], &get()].concat();
            let promise = Frame::new(kind::PUSH_PROMISE, flag::END_HEADERS, 0, promised);
            refused(c, [promise], &[Code::PROTOCOL_ERROR])
        },
    ),
    case("6.7/1", "PING comes back with its payload", |c| {
        c.open()?;
        c.send([ping(flag::NONE, *b"\0\xffping\r\n")]);
        c.until("the same payload", |heard| {
            let pong = heard.pongs.first()?;
            let is_same = pong == b"\0\xffping\r\n";
            Some(if is_same {
                Ok(())
            } else {
                Err(Wrong(format!("PING came back with {pong:?}")))
            })
        })
    }),
    case("6.7/2", "PING ACK is not acknowledged", |c| {
        c.open()?;
        c.send([ping(flag::ACK, *b"pingpong")]);
        c.alive()?;
        if c.heard.pongs.len() > 1 {
            return Err(Wrong("PING ACK was acknowledged".to_owned()));
        }
        Ok(())
    }),
    case("6.7/3", "PING on a stream is a PROTOCOL_ERROR", |c| {
        let misplaced = Frame::new(kind::PING, flag::NONE, 1, *b"a PING! ");
        refused(c, [misplaced], &[Code::PROTOCOL_ERROR])
    }),
    case("6.7/4", "PING of 6 octets is a FRAME_SIZE_ERROR", |c| {
        let short = Frame::new(kind::PING, flag::NONE, 0, *b"a PING");
        refused(c, [short], &[Code::FRAME_SIZE_ERROR])
    }),
    case("6.7/5", "PING of 9 octets is a FRAME_SIZE_ERROR", |c| {
        let long = Frame::new(kind::PING, flag::NONE, 0, *b"long PING");
        refused(c, [long], &[Code::FRAME_SIZE_ERROR])
    }),
    case(
        "6.7/6",
        "PING ACK of a wrong size is a FRAME_SIZE_ERROR",
        |c| {
            let short = Frame::new(kind::PING, flag::ACK, 0, *b"a PING");
            refused(c, [short], &[Code::FRAME_SIZE_ERROR])
        },
    ),
    case("6.8/1", "GOAWAY on a stream is a PROTOCOL_ERROR", |c| {
        let misplaced = Frame::new(kind::GOAWAY, flag::NONE, 1, [0; 8]);
        refused(c, [misplaced], &[Code::PROTOCOL_ERROR])
    }),
    case("6.8/2", "GOAWAY of 7 octets is a FRAME_SIZE_ERROR", |c| {
        let short = Frame::new(kind::GOAWAY, flag::NONE, 0, [0; 7]);
        refused(c, [short], &[Code::FRAME_SIZE_ERROR])
    }),
    case("6.8/3", "a request before GOAWAY gets its response", |c| {
        c.open()?;
        c.send([headers(WHOLE, 1, get()), goaway(0, Code::NO_ERROR)]);
        c.success(1)?;
        Ok(())
    }),
    case(
        "6.8/4",
        "a body after GOAWAY is taken, and its request gets a response",
        |c| {
            c.open()?;
            c.send([
                headers(OPEN, 1, post()),
                goaway(0, Code::NO_ERROR),
                data(flag::END_STREAM, 1, *b"body"),
            ]);
            c.success(1)?;
            Ok(())
        },
    ),
    case(
        "7/1",
        "RST_STREAM with an unknown code is one like any other",
        |c| {
            c.open()?;
            c.send([headers(OPEN, 1, post()), rst_stream(1, Code(0xbad))]);
            c.alive()?;
            works(c, 3)
        },
    ),
];

fn sets(c: &mut Connection, id: u16, value: u32, code: Code) -> Step {
    refused(c, [settings(&[(id, value)])], &[code])
}
