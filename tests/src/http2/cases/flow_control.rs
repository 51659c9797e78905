//! RFC 9113, section 6.9: WINDOW_UPDATE and what it is for. That no DATA comes for which there is
//! no window is one of the rules that hold in every case.

use crate::http2::frame::{
    Code, Frame, WINDOW, data, flag, headers, kind, rst_stream, setting, settings, window_update,
};
use crate::http2::hpack::block;
use crate::http2::{Step, Wrong};

use super::{
    AUTHORITY, Case, Connection, OPEN, PATH, SCHEME, WHOLE, case, get, post, refused, reset, works,
};

pub(super) const FLOW_CONTROL: &[Case] = &[
    case(
        "6.9/1",
        "WINDOW_UPDATE by 0 on the connection is a PROTOCOL_ERROR",
        |c| refused(c, [window_update(0, 0)], &[Code::PROTOCOL_ERROR]),
    ),
    case(
        "6.9/2",
        "WINDOW_UPDATE by 0 on a stream is a PROTOCOL_ERROR",
        |c| {
            reset(
                c,
                [headers(OPEN, 1, post()), window_update(1, 0)],
                &[Code::PROTOCOL_ERROR],
            )
        },
    ),
    case(
        "6.9/3",
        "WINDOW_UPDATE of 3 octets is a FRAME_SIZE_ERROR",
        |c| {
            let short = Frame::new(kind::WINDOW_UPDATE, flag::NONE, 0, [0, 0, 1]);
            refused(c, [short], &[Code::FRAME_SIZE_ERROR])
        },
    ),
    case(
        "6.9/4",
        "WINDOW_UPDATE of 5 octets is a FRAME_SIZE_ERROR",
        |c| {
            let long = Frame::new(kind::WINDOW_UPDATE, flag::NONE, 1, [0, 0, 0, 1, 0]);
            refused(
                c,
                [headers(OPEN, 1, post()), long],
                &[Code::FRAME_SIZE_ERROR],
            )
        },
    ),
    case(
        "6.9.1/1",
        "a stream's window above 2^31-1 is a FLOW_CONTROL_ERROR",
        |c| {
            reset(
                c,
                [headers(OPEN, 1, post()), window_update(1, WINDOW)],
                &[Code::FLOW_CONTROL_ERROR],
            )
        },
    ),
    case(
        "6.9.1/2",
        "the connection's window above 2^31-1 is a FLOW_CONTROL_ERROR",
        |c| refused(c, [window_update(0, WINDOW)], &[Code::FLOW_CONTROL_ERROR]),
    ),
    case(
        "6.9.1/3",
        "many updates may make a window too large, too",
        |c| {
            refused(
                c,
                [
                    window_update(0, 1 << 30),
                    window_update(0, (1 << 30) - 65_536),
                    window_update(0, 1),
                ],
                &[Code::FLOW_CONTROL_ERROR],
            )
        },
    ),
    case("6.9.1/4", "windows of exactly 2^31-1 are taken", |c| {
        c.open()?;
        c.send([
            headers(OPEN, 1, post()),
            window_update(1, WINDOW - 65_535),
            window_update(0, WINDOW - 65_535),
            data(flag::END_STREAM, 1, *b"body"),
        ]);
        c.success(1)?;
        Ok(())
    }),
    case(
        "6.9.1/5",
        "a window of 1 lets 1 octet through, and the rest comes with the window",
        |c| {
            c.open_with(&[(setting::INITIAL_WINDOW_SIZE, 1)])?;
            c.send([headers(WHOLE, 1, get())]);
            c.received(1, 1)?;
            c.alive()?;
            c.send([window_update(1, 5)]);
            c.received(1, 6)?;
            c.alive()?;
            c.send([window_update(1, 1 << 20)]);
            c.success(1)?;
            Ok(())
        },
    ),
    case(
        "6.9.1/6",
        "a stream without a window holds up no other",
        |c| {
            c.open_with(&[(setting::INITIAL_WINDOW_SIZE, 0)])?;
            c.send([
                headers(WHOLE, 1, get()),
                headers(WHOLE, 3, get()),
                window_update(3, 1 << 20),
            ]);
            c.success(3)?;
            c.send([window_update(1, 1 << 20)]);
            c.success(1)?;
            Ok(())
        },
    ),
    case(
        "6.9.1/7",
        "all streams together keep to the connection's window",
        |c| {
            c.open()?;
            exhausts_the_connection(c)
        },
    ),
    case(
        "6.9.1/8",
        "a response without a body needs no window",
        |c| {
            c.open_with(&[(setting::INITIAL_WINDOW_SIZE, 0)])?;
            let head = block(&[(":method", "HEAD"), SCHEME, PATH, AUTHORITY]);
            c.send([headers(WHOLE, 1, head)]);
            c.success(1)?;
            Ok(())
        },
    ),
    case(
        "6.9.1/9",
        "the server gives back the windows of what it has taken",
        |c| {
            c.open()?;
            c.send([headers(OPEN, 1, post())]);
            c.send_body(1, 32, 16_000, 0)?;
            c.send([data(flag::END_STREAM, 1, [])]);
            c.success(1)?;
            Ok(())
        },
    ),
    case("6.9.1/10", "padding is given back, too", |c| {
        c.open()?;
        c.send([headers(OPEN, 1, post())]);
        c.send_body(1, 800, 1, 255)?;
        c.send([data(flag::END_STREAM, 1, [])]);
        c.success(1)?;
        Ok(())
    }),
    case(
        "6.9.1/11",
        "what came on streams that were reset is given back to the connection",
        |c| {
            c.open()?;
            for stream in (1..40).step_by(2) {
                c.send([headers(OPEN, stream, post())]);
                c.send_body(stream, 1, 16_000, 0)?;
                c.send([rst_stream(stream, Code::CANCEL)]);
            }
            c.send([headers(OPEN, 41, post())]);
            c.send_body(41, 1, 16_000, 0)?;
            c.send([data(flag::END_STREAM, 41, [])]);
            c.success(41)?;
            Ok(())
        },
    ),
    case(
        "6.9.2/1",
        "a new initial window counts for streams that are open",
        |c| {
            c.open_with(&[(setting::INITIAL_WINDOW_SIZE, 0)])?;
            c.send([headers(WHOLE, 1, get())]);
            c.alive()?;
            c.change_settings(&[(setting::INITIAL_WINDOW_SIZE, 1)])?;
            c.received(1, 1)?;
            c.alive()?;
            c.change_settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 20)])?;
            c.success(1)?;
            Ok(())
        },
    ),
    case("6.9.2/2", "a window may become negative", |c| {
        c.open_with(&[(setting::INITIAL_WINDOW_SIZE, 100)])?;
        c.send([headers(WHOLE, 1, get())]);
        c.received(1, 100)?;
        c.change_settings(&[(setting::INITIAL_WINDOW_SIZE, 50)])?;
        // From 50 below to exactly nothing, and then to 10.
        c.send([window_update(1, 50)]);
        c.alive()?;
        c.send([window_update(1, 10)]);
        c.received(1, 110)?;
        c.alive()?;
        c.send([window_update(1, 1 << 20)]);
        c.success(1)?;
        Ok(())
    }),
    case(
        "6.9.2/3",
        "an initial window that makes a window too large is a FLOW_CONTROL_ERROR",
        |c| {
            c.open_with(&[(setting::INITIAL_WINDOW_SIZE, 0)])?;
            c.send([
                headers(OPEN, 1, post()),
                window_update(1, WINDOW),
                settings(&[(setting::INITIAL_WINDOW_SIZE, 1)]),
            ]);
            c.connection_error(&[Code::FLOW_CONTROL_ERROR])
        },
    ),
    case(
        "6.9.2/4",
        "an initial window changes nothing in the connection's",
        |c| {
            c.open_with(&[(setting::INITIAL_WINDOW_SIZE, WINDOW)])?;
            exhausts_the_connection(c)
        },
    ),
    case(
        "6.9.2/5",
        "an initial window of 2^31-1 is taken while streams are open",
        |c| {
            c.open()?;
            c.send([headers(OPEN, 1, post())]);
            c.change_settings(&[(setting::INITIAL_WINDOW_SIZE, WINDOW)])?;
            c.send([data(flag::END_STREAM, 1, *b"body")]);
            c.success(1)?;
            works(c, 3)
        },
    ),
];

/// Asks for more than the connection's window of 65,535 lets through.
fn exhausts_the_connection(c: &mut Connection) -> Step {
    c.send([headers(WHOLE, 1, get())]);
    let length = c.success(1)?.body.len();
    let more = 65_535 / length.max(1) + 1;
    if more > 100 {
        return Err(Wrong(format!(
            "a body of {length} bytes is too short for this"
        )));
    }
    let streams = || (0..more as u32).map(|n| 2 * n + 3);
    c.send(streams().map(|stream| headers(WHOLE, stream, get())));
    c.until("65,535 bytes of DATA", |heard| {
        (heard.data_received() == 65_535).then_some(Ok(()))
    })?;
    c.alive()?;
    c.send([window_update(0, 1 << 20)]);
    for stream in streams() {
        c.success(stream)?;
    }
    Ok(())
}
