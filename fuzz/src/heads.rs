//! What is read at once, without any sockets: heads and chunks.

use proxy::fuzz::{BodyEnd, Chunks, ReadHead, chunked, request_head, response_head};

use crate::strict::{self, End, Fault, Fields, LineEnd};

/// A request's head that is accepted is valid, and was read as it has to be.
pub fn check_request_head(mut input: &[u8]) {
    // RFC 9112, 2.2: empty lines before a request are nothing.
    while let Some(after) = input.strip_prefix(b"\r\n") {
        input = after;
    }
    let Some((read, end)) = request_head(input) else {
        return;
    };
    // How many there are of `Host` is looked at later.
    let strict = match strict::request_head(input) {
        Err(Fault::Bad("a request has one Host")) => return,
        strict => strict,
    };
    let (strict, strict_end) = strict.expect("an accepted head is valid");
    assert_eq!(end, strict_end);
    assert_eq!(read.method, strict.method);
    assert_eq!(read.target, strict.target);
    check_same(&read, strict.is_old, &strict.fields, strict.end);
}

/// A response's head that is accepted is valid, and was read as it has to be.
pub fn check_response_head(input: &[u8], to_head: bool) {
    let Some((read, mut end)) = response_head(input, to_head) else {
        return;
    };
    let mut input = input.to_vec();
    // A space before a reason that is not there may be missing.
    if matches!(input.get(12), Some(b'\r' | b'\n')) {
        input.insert(12, b' ');
        end += 1;
    }
    let strict = strict::response_head(&input, to_head, LineEnd::Lf);
    let (strict, strict_end) = strict.expect("an accepted head is valid");
    assert_eq!(end, strict_end);
    assert_eq!(read.status, strict.status);
    // A reason that is not ASCII is left out.
    assert!(read.target == strict.reason || read.target.is_empty());
    check_same(&read, strict.is_old, &strict.fields, strict.end);
}

fn check_same(read: &ReadHead, is_old: bool, fields: &Fields, end: End) {
    assert_eq!(read.is_old, is_old);
    assert_eq!(&read.fields, fields);
    let same = match (read.end, end) {
        (BodyEnd::Length(length), End::Length(other)) => length == other,
        (BodyEnd::Empty, End::Empty | End::Length(0)) => true,
        (BodyEnd::Chunked, End::Chunked) | (BodyEnd::UntilClose, End::UntilClose) => true,
        _ => false,
    };
    assert!(same, "{:?} and {end:?}", read.end);
}

/// However a chunked body is cut into pieces, the same comes of it, and it is what it has to be.
pub fn check_chunked(input: &[u8], cuts: &[u8]) {
    let whole = chunked(input, []);
    let mut at = 0;
    let places = cuts.iter().map(|step| {
        at += usize::from(*step);
        at
    });
    assert_eq!(whole, chunked(input, places), "cut into pieces");
    assert_eq!(whole, chunked(input, 0..input.len()), "byte by byte");
    let strict = strict::chunked(input, 0);
    match whole {
        // There are limits on what may be read before anything is known.
        Chunks::Refused => {}
        Chunks::Unfinished => match strict {
            Err(Fault::More) => {}
            Err(Fault::Bad(why)) => assert!(is_of_trailers(why), "{why}"),
            Ok(_) => panic!("it has ended"),
        },
        Chunks::Whole(data, trailers, end) => match strict {
            Ok((body, strict_end)) => {
                assert_eq!((data, end), (body.data, strict_end));
                assert_eq!(trailers.is_empty(), body.trailers.is_empty());
            }
            Err(Fault::Bad(why)) => assert!(is_of_trailers(why), "{why}"),
            Err(Fault::More) => panic!("it has not ended"),
        },
    }
}

/// What is in trailer fields is looked at when they are passed on, and not where chunks are.
fn is_of_trailers(why: &str) -> bool {
    why.starts_with("a field")
}
