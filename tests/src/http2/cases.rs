//! The cases, a file for each part of the RFCs.

mod compression;
mod connection_frames;
mod flow_control;
mod framing;
mod malformed;
mod messages;
mod stream_frames;
mod streams;

use super::connection::Connection;
use super::frame::{Code, Frame, flag, headers};
use super::hpack::block;
use super::{Case, Step, case};

pub use malformed::MALFORMED_HEADS;

/// All of them, by section.
pub const SECTIONS: [(&str, &[Case]); 8] = [
    ("starting, and frames", framing::FRAMING),
    ("streams", streams::STREAMS),
    ("frames of streams", stream_frames::STREAM_FRAMES),
    (
        "frames of connections",
        connection_frames::CONNECTION_FRAMES,
    ),
    ("flow control", flow_control::FLOW_CONTROL),
    ("messages", messages::MESSAGES),
    ("malformed heads", MALFORMED_HEADS),
    ("header compression", compression::COMPRESSION),
];

/// Flags of HEADERS that are a whole request.
const WHOLE: u8 = flag::END_HEADERS | flag::END_STREAM;
/// Flags of HEADERS behind which a body comes.
const OPEN: u8 = flag::END_HEADERS;

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "http");
const PATH: (&str, &str) = (":path", "/");
const AUTHORITY: (&str, &str) = (":authority", "localhost");

/// The field block of a good request.
fn get() -> Vec<u8> {
    get_with(&[])
}

/// The same with more fields.
fn get_with(more: &[(&str, &str)]) -> Vec<u8> {
    block(&[&[METHOD, SCHEME, PATH, AUTHORITY], more].concat())
}

/// The field block of a good request that has a body.
fn post() -> Vec<u8> {
    post_with(&[])
}

/// The same with more fields.
fn post_with(more: &[(&str, &str)]) -> Vec<u8> {
    block(&[&[(":method", "POST"), SCHEME, PATH, AUTHORITY], more].concat())
}

/// Sends a good request and expects a response: the connection is as good as before.
fn works(c: &mut Connection, stream: u32) -> Step {
    c.send([headers(WHOLE, stream, get())]);
    c.success(stream)?;
    Ok(())
}

/// Opens the connection, sends frames and expects them to be ignored.
fn ignored(c: &mut Connection, frames: impl IntoIterator<Item = Frame>) -> Step {
    c.open()?;
    c.send(frames);
    c.alive()?;
    works(c, 9)
}

/// Opens the connection, sends frames and expects a connection error.
fn refused(c: &mut Connection, frames: impl IntoIterator<Item = Frame>, codes: &[Code]) -> Step {
    c.open()?;
    c.send(frames);
    c.connection_error(codes)
}

/// Opens the connection, sends frames and expects an error of stream 1.
fn reset(c: &mut Connection, frames: impl IntoIterator<Item = Frame>, codes: &[Code]) -> Step {
    c.open()?;
    c.send(frames);
    c.stream_error(1, codes)
}
