//! A response to requests that the crate refuses before anything of ours sees them: it resets their
//! streams, since it has no form for them, such as `"` in a query. A client would not learn from that
//! what is wrong. So the frames that go to a client are looked at, and before such a reset goes a 400
//! (RFC 9113, 8.1.1).

use std::io::IoSlice;

/// A frame's head: its length in 3 bytes, its kind, its flags and its stream.
const HEAD: usize = 9;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PROTOCOL_ERROR: [u8; 4] = [0, 0, 0, 1];
/// `:status: 400`, an entry of the static table (RFC 7541, appendix A).
const STATUS_400: u8 = 0x80 | 12;

/// A 400 without fields and without a body, as a frame.
pub(super) type Response = [u8; HEAD + 1];

/// What was seen of the frames that go to a client.
#[derive(Default)]
pub(super) struct Refusals {
    /// Bytes of the last frame that are still to come.
    left: usize,
    /// The last stream whose response has begun, by its number. One that is refused comes after it.
    highest: u32,
}

/// What comes next of bytes that are to be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// All of them.
    All,
    /// So many of them, which are in the first slice.
    Bytes(usize),
    /// This, before them: [`Refusals::responded`] is to be called when it is written.
    Response(Response),
}

/// A frame's head.
struct Frame<'b> {
    kind: u8,
    stream: [u8; 4],
    /// With its head.
    length: usize,
    payload: &'b [u8],
}

impl<'b> Frame<'b> {
    /// The frame at the front of `bytes`. The crate writes no part of a head.
    fn at(bytes: &'b [u8]) -> Option<Self> {
        let (head, payload) = bytes.split_first_chunk::<HEAD>()?;
        let [high, middle, low, kind, _, stream @ ..] = *head;
        Some(Self {
            kind,
            stream,
            length: HEAD + u32::from_be_bytes([0, high, middle, low]) as usize,
            payload,
        })
    }
}

impl Refusals {
    /// Looks at what is about to be written.
    pub(super) fn next(&self, slices: &[IoSlice<'_>]) -> Next {
        // A reset is never behind a payload that has a slice of its own.
        let Some(bytes) = slices.first() else {
            return Next::All;
        };
        let mut at = self.left;
        while let Some(frame) = bytes.get(at..).and_then(Frame::at) {
            let is_refused = frame.kind == RST_STREAM
                && frame.payload.starts_with(&PROTOCOL_ERROR)
                && u32::from_be_bytes(frame.stream) > self.highest;
            match (is_refused, at) {
                (true, 0) => return Next::Response(response(frame.stream)),
                (true, at) => return Next::Bytes(at),
                (false, _) => at += frame.length,
            }
        }
        Next::All
    }

    /// Takes note of a response that was written.
    pub(super) fn responded(&mut self, response: &Response) {
        if let Some(frame) = Frame::at(response) {
            self.highest = u32::from_be_bytes(frame.stream);
        }
    }

    /// Takes note of what was written of it.
    pub(super) fn wrote(&mut self, slices: &[IoSlice<'_>], count: usize) {
        let mut begins = 0;
        for slice in slices {
            while let Some(at) = self.left.checked_sub(begins).filter(|at| *at < slice.len()) {
                if begins + at >= count {
                    break;
                }
                let Some(frame) = Frame::at(&slice[at..]) else {
                    break;
                };
                if frame.kind == HEADERS {
                    self.highest = self.highest.max(u32::from_be_bytes(frame.stream));
                }
                self.left += frame.length;
            }
            begins += slice.len();
        }
        self.left = self.left.saturating_sub(count);
    }
}

fn response(stream: [u8; 4]) -> Response {
    let [a, b, c, d] = stream;
    let flags = END_STREAM | END_HEADERS;
    [0, 0, 1, HEADERS, flags, a, b, c, d, STATUS_400]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, 0, 0, 0, 0, stream], payload].concat()
    }

    /// What goes out of these bytes where so many are taken at once.
    fn written(bytes: &[u8], step: usize) -> Vec<u8> {
        let (mut refusals, mut out, mut at) = (Refusals::default(), Vec::new(), 0);
        while at < bytes.len() {
            let slices = [IoSlice::new(&bytes[at..])];
            let count = match refusals.next(&slices) {
                Next::Response(response) => {
                    out.extend_from_slice(&response);
                    refusals.responded(&response);
                    continue;
                }
                Next::Bytes(count) => count.min(step),
                Next::All => step.min(bytes.len() - at),
            };
            refusals.wrote(&slices, count);
            out.extend_from_slice(&bytes[at..at + count]);
            at += count;
        }
        out
    }

    #[test]
    fn a_stream_that_is_refused_gets_a_response_and_no_other() {
        let reset = |stream| frame(RST_STREAM, stream, &PROTOCOL_ERROR);
        let headers = |stream| frame(HEADERS, stream, b"fields");
        let data = |stream| frame(0, stream, &reset(9));
        let refused = |stream| [&response([0, 0, 0, stream])[..], &reset(stream)].concat();
        for (name, frames, want) in [
            ("alone", vec![reset(1)], vec![refused(1)]),
            (
                "behind others",
                vec![headers(1), data(1), reset(3), headers(5)],
                vec![headers(1), data(1), refused(3), headers(5)],
            ),
            (
                "two",
                vec![reset(1), reset(3), headers(5)],
                vec![refused(1), refused(3), headers(5)],
            ),
            (
                "has one",
                vec![headers(1), reset(1)],
                vec![headers(1), reset(1)],
            ),
            (
                "may have",
                vec![headers(5), reset(1)],
                vec![headers(5), reset(1)],
            ),
            (
                "another code",
                vec![frame(RST_STREAM, 1, &[0, 0, 0, 8])],
                vec![frame(RST_STREAM, 1, &[0, 0, 0, 8])],
            ),
        ] {
            for step in [1, 5, 9, 13, 1000] {
                let got = written(&frames.concat(), step);
                assert_eq!(got, want.concat(), "{name}, {step} at a time");
            }
        }
    }

    #[test]
    fn a_payload_may_have_a_slice_of_its_own() {
        let mut refusals = Refusals::default();
        let (head, payload) = ([0, 0, 20, 0, 0, 0, 0, 0, 1], [7; 20]);
        let slices = [IoSlice::new(&head), IoSlice::new(&payload)];
        assert_eq!(refusals.next(&slices), Next::All);
        refusals.wrote(&slices, 12);
        let rest = [IoSlice::new(&payload[3..])];
        assert_eq!(refusals.next(&rest), Next::All);
        refusals.wrote(&rest, 17);
        let reset = frame(RST_STREAM, 3, &PROTOCOL_ERROR);
        let next = refusals.next(&[IoSlice::new(&reset)]);
        assert_eq!(next, Next::Response(response([0, 0, 0, 3])));
    }
}
