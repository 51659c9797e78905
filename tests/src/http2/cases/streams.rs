//! RFC 9113, section 5: the states of streams, their identifiers, how many there may be, and
//! errors.

use crate::http2::frame::{
    self, Code, Frame, WINDOW, continuation, data, flag, headers, kind, ping, priority, rst_stream,
    setting, window_update,
};
use crate::http2::hpack::block;
use crate::http2::{Step, Wrong};

use super::{Case, Connection, OPEN, WHOLE, case, get, post, refused, reset, works};

pub(super) const STREAMS: &[Case] = &[
    case("5.1/1", "idle: DATA is a PROTOCOL_ERROR", |c| {
        refused(
            c,
            [data(flag::END_STREAM, 1, *b"test")],
            &[Code::PROTOCOL_ERROR],
        )
    }),
    case("5.1/2", "idle: RST_STREAM is a PROTOCOL_ERROR", |c| {
        refused(c, [rst_stream(1, Code::CANCEL)], &[Code::PROTOCOL_ERROR])
    }),
    case("5.1/3", "idle: WINDOW_UPDATE is a PROTOCOL_ERROR", |c| {
        refused(c, [window_update(1, 100)], &[Code::PROTOCOL_ERROR])
    }),
    case("5.1/4", "idle: CONTINUATION is a PROTOCOL_ERROR", |c| {
        refused(
            c,
            [continuation(flag::END_HEADERS, 1, get())],
            &[Code::PROTOCOL_ERROR],
        )
    }),
    case("5.1/5", "idle: PRIORITY changes nothing", |c| {
        c.open()?;
        c.send([priority(5, 0), priority(7, 5)]);
        c.alive()?;
        works(c, 1)?;
        works(c, 5)
    }),
    case(
        "5.1/6",
        "half-closed (remote): DATA is STREAM_CLOSED",
        |c| {
            reset(
                c,
                [
                    headers(WHOLE, 1, get()),
                    data(flag::END_STREAM, 1, *b"late"),
                ],
                &[Code::STREAM_CLOSED],
            )
        },
    ),
    case(
        "5.1/7",
        "half-closed (remote): HEADERS are STREAM_CLOSED",
        |c| {
            reset(
                c,
                [
                    headers(WHOLE, 1, get()),
                    headers(WHOLE, 1, block(&[("x-trailer", "yes")])),
                ],
                &[Code::STREAM_CLOSED],
            )
        },
    ),
    case(
        "5.1/8",
        "half-closed (remote): CONTINUATION is an error",
        |c| {
            refused(
                c,
                [
                    headers(WHOLE, 1, get()),
                    continuation(flag::END_HEADERS, 1, get()),
                ],
                &[Code::PROTOCOL_ERROR, Code::STREAM_CLOSED],
            )
        },
    ),
    case(
        "5.1/9",
        "half-closed (remote) by DATA: DATA is STREAM_CLOSED",
        |c| {
            reset(
                c,
                [
                    headers(OPEN, 1, post()),
                    data(flag::END_STREAM, 1, *b"body"),
                    data(flag::END_STREAM, 1, *b"late"),
                ],
                &[Code::STREAM_CLOSED],
            )
        },
    ),
    case(
        "5.1/10",
        "half-closed (remote): WINDOW_UPDATE and PRIORITY are taken",
        |c| {
            c.open_with(&[(setting::INITIAL_WINDOW_SIZE, 0)])?;
            c.send([
                headers(WHOLE, 1, get()),
                priority(1, 0),
                window_update(1, WINDOW),
            ]);
            c.success(1)?;
            Ok(())
        },
    ),
    case(
        "5.1/11",
        "half-closed (remote): RST_STREAM ends the stream",
        |c| {
            c.open_with(&[(setting::INITIAL_WINDOW_SIZE, 1)])?;
            c.send([headers(WHOLE, 1, get())]);
            c.received(1, 1)?;
            c.send([rst_stream(1, Code::CANCEL)]);
            c.alive()?;
            // A window for what must not come any more.
            c.send([window_update(1, 1000)]);
            c.alive()?;
            if c.heard.response(1).body.len() > 1 {
                return Err(Wrong("DATA went on after RST_STREAM".to_owned()));
            }
            Ok(())
        },
    ),
    case(
        "5.1/12",
        "closed by RST_STREAM: nothing comes of DATA",
        |c| {
            c.open()?;
            c.send([
                headers(OPEN, 1, post()),
                rst_stream(1, Code::CANCEL),
                data(flag::END_STREAM, 1, *b"late"),
            ]);
            c.discarded(1)
        },
    ),
    case(
        "5.1/13",
        "closed by RST_STREAM: nothing comes of HEADERS",
        |c| {
            c.open()?;
            c.send([
                headers(OPEN, 1, post()),
                rst_stream(1, Code::CANCEL),
                headers(WHOLE, 1, get()),
            ]);
            c.discarded(1)
        },
    ),
    case(
        "5.1/14",
        "closed by RST_STREAM: CONTINUATION is an error",
        |c| {
            refused(
                c,
                [
                    headers(OPEN, 1, post()),
                    rst_stream(1, Code::CANCEL),
                    continuation(flag::END_HEADERS, 1, get()),
                ],
                &[Code::PROTOCOL_ERROR, Code::STREAM_CLOSED],
            )
        },
    ),
    case(
        "5.1/15",
        "closed by END_STREAM: nothing comes of DATA",
        |c| {
            c.open()?;
            works(c, 1)?;
            c.send([data(flag::END_STREAM, 1, *b"late")]);
            c.discarded(1)
        },
    ),
    case(
        "5.1/16",
        "closed by END_STREAM: nothing comes of HEADERS",
        |c| {
            c.open()?;
            works(c, 1)?;
            c.send([headers(WHOLE, 1, get())]);
            // That a second response is none is one of the rules.
            c.discarded(1)
        },
    ),
    case(
        "5.1/17",
        "closed by END_STREAM: CONTINUATION is an error",
        |c| {
            c.open()?;
            works(c, 1)?;
            c.send([continuation(flag::END_HEADERS, 1, get())]);
            c.connection_error(&[Code::PROTOCOL_ERROR, Code::STREAM_CLOSED])
        },
    ),
    case(
        "5.1/18",
        "closed by END_STREAM: what may have been on its way is ignored",
        |c| {
            c.open()?;
            works(c, 1)?;
            c.send([
                window_update(1, 100),
                rst_stream(1, Code::CANCEL),
                priority(1, 0),
            ]);
            c.alive()?;
            works(c, 3)
        },
    ),
    case(
        "5.1/19",
        "closed by RST_STREAM: a second RST_STREAM and PRIORITY are ignored",
        |c| {
            c.open()?;
            c.send([
                headers(OPEN, 1, post()),
                rst_stream(1, Code::CANCEL),
                priority(1, 0),
                rst_stream(1, Code::CANCEL),
            ]);
            c.alive()?;
            works(c, 3)
        },
    ),
    case(
        "5.1.1/1",
        "a client's stream with an even number is a PROTOCOL_ERROR",
        |c| refused(c, [headers(WHOLE, 2, get())], &[Code::PROTOCOL_ERROR]),
    ),
    case("5.1.1/2", "a stream below the last one is an error", |c| {
        c.open()?;
        works(c, 5)?;
        c.send([headers(WHOLE, 3, get())]);
        c.connection_error(
            // It was closed when the higher one was opened.
            &[Code::PROTOCOL_ERROR, Code::STREAM_CLOSED],
        )
    }),
    case(
        "5.1.1/3",
        "a stream below the last one is an error while that is open",
        |c| {
            refused(
                c,
                [headers(OPEN, 5, post()), headers(WHOLE, 3, get())],
                // It was closed when the higher one was opened.
                &[Code::PROTOCOL_ERROR, Code::STREAM_CLOSED],
            )
        },
    ),
    case("5.1.1/4", "numbers of streams may be left out", |c| {
        c.open()?;
        works(c, 3)?;
        works(c, 1001)?;
        works(c, 1003)
    }),
    case("5.1.1/5", "the last stream that there is works", |c| {
        c.open()?;
        works(c, WINDOW)
    }),
    case(
        "5.1.2/1",
        "a stream above SETTINGS_MAX_CONCURRENT_STREAMS is refused",
        |c| {
            c.open()?;
            // Without a limit there is none to break.
            let Some(limit) = c.server_setting(setting::MAX_CONCURRENT_STREAMS) else {
                return Ok(());
            };
            let last = 2 * limit + 1;
            c.send((0..=limit).map(|n| headers(OPEN, 2 * n + 1, post())));
            c.stream_error(last, &[Code::PROTOCOL_ERROR, Code::REFUSED_STREAM])
        },
    ),
    case("5.1.2/2", "streams that are done count no more", |c| {
        c.open()?;
        c.send([window_update(0, 1 << 30)]);
        let limit = c.server_setting(setting::MAX_CONCURRENT_STREAMS);
        let limit = limit.unwrap_or(100).min(100);
        for round in 0..3 {
            let streams = || (0..limit).map(|n| 2 * (round * limit + n) + 1);
            c.send(streams().map(|stream| headers(WHOLE, stream, get())));
            for stream in streams() {
                c.success(stream)?;
            }
        }
        Ok(())
    }),
    case(
        "5.1.2/3",
        "streams that the client has reset count no more",
        |c| {
            c.open()?;
            let limit = c.server_setting(setting::MAX_CONCURRENT_STREAMS);
            let limit = limit.unwrap_or(10).min(10);
            let streams = (0..limit).map(|n| 2 * n + 1);
            c.send(streams.flat_map(|stream| {
                [
                    headers(OPEN, stream, post()),
                    rst_stream(stream, Code::CANCEL),
                ]
            }));
            works(c, 2 * limit + 1)
        },
    ),
    case("5.3/1", "priorities in HEADERS are taken", |c| {
        c.open()?;
        let block = [frame::dependency(0), get()].concat();
        c.send([headers(WHOLE | flag::PRIORITY, 1, block)]);
        c.success(1)?;
        let block = [frame::dependency(1 << 31 | 1), get()].concat();
        c.send([headers(WHOLE | flag::PRIORITY, 3, block)]);
        c.success(3)?;
        Ok(())
    }),
    case(
        "5.4.1/1",
        "GOAWAY names the last stream that was worked on",
        |c| {
            c.open()?;
            works(c, 1)?;
            works(c, 3)?;
            c.send([Frame::new(kind::PING, flag::NONE, 0, *b"short")]);
            c.connection_error(&[Code::FRAME_SIZE_ERROR])?;
            match c.heard.goaway {
                Some((last, _)) if last != 3 => Err(Wrong(format!("GOAWAY names {last}, not 3"))),
                _ => Ok(()),
            }
        },
    ),
    case(
        "5.4.1/2",
        "after a connection error nothing is taken",
        |c| {
            c.open()?;
            c.send([
                Frame::new(kind::PING, flag::NONE, 0, *b"short"),
                headers(WHOLE, 1, get()),
                ping(flag::NONE, *b"too late"),
            ]);
            c.connection_error(&[Code::FRAME_SIZE_ERROR])?;
            if c.heard.pongs.is_empty() && c.heard.response(1).status.is_none() {
                return Ok(());
            }
            Err(Wrong("what came after the error got a response".to_owned()))
        },
    ),
    case("5.4.2/1", "RST_STREAM does not cause RST_STREAM", |c| {
        c.open()?;
        c.send([headers(OPEN, 1, post())]);
        c.alive()?;
        c.send([rst_stream(1, Code::CANCEL)]);
        c.alive()?;
        works(c, 3)?;
        not_reset(c, 1)
    }),
    case(
        "5.4.2/2",
        "an error of one stream is none of another",
        |c| {
            c.open()?;
            c.send([
                headers(OPEN, 1, post()),
                headers(OPEN, 3, post()),
                rst_stream(1, Code::CANCEL),
                data(flag::END_STREAM, 3, *b"body"),
            ]);
            c.success(3)?;
            Ok(())
        },
    ),
];

fn not_reset(c: &Connection, stream: u32) -> Step {
    match c.heard.response(stream).reset {
        Some(code) => Err(Wrong(format!("RST_STREAM came back, with {code}"))),
        None => Ok(()),
    }
}
