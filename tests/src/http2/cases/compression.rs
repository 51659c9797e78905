//! RFC 7541: header compression. That a server has understood a block shows in its response: one
//! to HEAD has no body.

use crate::http2::frame::{Code, headers, setting};
use crate::http2::hpack::{
    block, coded, huffman, indexed, inserted, inserted_under, integer, literal, never_indexed,
    resized, string,
};
use crate::http2::{Step, Wrong};

use super::{AUTHORITY, Case, Connection, PATH, SCHEME, WHOLE, case, get, works};

/// Entries of the static table.
const METHOD_GET: usize = 2;
const PATH_ROOT: usize = 4;
const SCHEME_HTTP: usize = 6;
const AUTHORITY_NAME: usize = 1;
const METHOD_NAME: usize = 2;
/// The first entry of the dynamic table.
const NEWEST: usize = 62;

pub(super) const COMPRESSION: &[Case] = &[
    case(
        "7541, 2.3.2/1",
        "the newest entry of the dynamic table has the lowest index",
        |c| {
            c.open()?;
            let head = inserted_under(METHOD_NAME, "HEAD");
            responds_with_head(c, 1, [head, rest(), inserted("x-newer", "yes")].concat())?;
            responds_with_head(
                c,
                3,
                [indexed(NEWEST + 1), rest(), indexed(NEWEST)].concat(),
            )
        },
    ),
    case(
        "7541, 2.3.3/1",
        "an index beyond the tables is a COMPRESSION_ERROR",
        |c| wrong(c, [get(), indexed(NEWEST)].concat()),
    ),
    case(
        "7541, 2.3.3/2",
        "a name's index beyond the tables is a COMPRESSION_ERROR",
        |c| wrong(c, [get(), inserted_under(NEWEST, "value")].concat()),
    ),
    case(
        "7541, 2.3.3/3",
        "an index beyond what was inserted is a COMPRESSION_ERROR",
        |c| {
            wrong(
                c,
                [get(), inserted("x-one", "yes"), indexed(NEWEST + 1)].concat(),
            )
        },
    ),
    case(
        "7541, 4.2/1",
        "a size update behind a field is a COMPRESSION_ERROR",
        |c| wrong(c, [get(), resized(0)].concat()),
    ),
    case(
        "7541, 4.2/2",
        "a size update in front of a block is taken",
        |c| {
            c.open()?;
            c.send([headers(WHOLE, 1, [resized(100), get()].concat())]);
            c.success(1)?;
            Ok(())
        },
    ),
    case(
        "7541, 4.2/3",
        "two size updates in front of a block are taken",
        |c| {
            c.open()?;
            c.send([headers(
                WHOLE,
                1,
                [resized(0), resized(4096), get()].concat(),
            )]);
            c.success(1)?;
            works(c, 3)
        },
    ),
    case(
        "7541, 4.3/1",
        "a smaller table has lost its oldest entries",
        |c| {
            c.open()?;
            let two = [inserted("x-one", "yes"), inserted("x-two", "yes")].concat();
            c.send([headers(WHOLE, 1, [get(), two].concat())]);
            c.success(1)?;
            // Each has 40 octets.
            c.send([headers(
                WHOLE,
                3,
                [resized(40), get(), indexed(NEWEST)].concat(),
            )]);
            c.success(3)?;
            c.send([headers(WHOLE, 5, [get(), indexed(NEWEST + 1)].concat())]);
            c.connection_error(&[Code::COMPRESSION_ERROR])
        },
    ),
    case(
        "7541, 4.3/2",
        "a table that was made 0 is empty afterwards",
        |c| {
            c.open()?;
            c.send([headers(
                WHOLE,
                1,
                [get(), inserted("x-one", "yes")].concat(),
            )]);
            c.success(1)?;
            let emptied = [resized(0), resized(4096), get(), indexed(NEWEST)].concat();
            c.send([headers(WHOLE, 3, emptied)]);
            c.connection_error(&[Code::COMPRESSION_ERROR])
        },
    ),
    case("7541, 4.4/1", "a new entry evicts the oldest", |c| {
        c.open()?;
        let first = [
            resized(80),
            get(),
            inserted("x-one", "yes"),
            inserted("x-two", "yes"),
        ];
        c.send([headers(WHOLE, 1, first.concat())]);
        c.success(1)?;
        let third = [get(), indexed(NEWEST + 1), inserted("x-six", "yes")];
        c.send([headers(WHOLE, 3, third.concat())]);
        c.success(3)?;
        c.send([headers(WHOLE, 5, [get(), indexed(NEWEST + 2)].concat())]);
        c.connection_error(&[Code::COMPRESSION_ERROR])
    }),
    case(
        "7541, 4.4/2",
        "an entry that is larger than the table empties it, without an error",
        |c| {
            c.open()?;
            let large = "x".repeat(100);
            let parts = [
                resized(100),
                get(),
                inserted("x-one", "yes"),
                inserted("x-large", &large),
            ];
            c.send([headers(WHOLE, 1, parts.concat())]);
            c.success(1)?;
            c.send([headers(WHOLE, 3, [get(), indexed(NEWEST)].concat())]);
            c.connection_error(&[Code::COMPRESSION_ERROR])
        },
    ),
    case(
        "7541, 4.4/3",
        "a new entry may have the name of the one that it evicts",
        |c| {
            c.open()?;
            let first = [
                resized(80),
                get(),
                inserted("x-one", "yes"),
                inserted("x-two", "yes"),
            ];
            c.send([headers(WHOLE, 1, first.concat())]);
            c.success(1)?;
            let renamed = inserted_under(NEWEST + 1, "new");
            c.send([headers(
                WHOLE,
                3,
                [get(), renamed, indexed(NEWEST)].concat(),
            )]);
            c.success(3)?;
            Ok(())
        },
    ),
    case(
        "7541, 5.1/1",
        "an integer without an end is a COMPRESSION_ERROR",
        |c| wrong(c, [get(), vec![0xff, 0x80, 0x80]].concat()),
    ),
    case(
        "7541, 5.1/2",
        "an integer that is too large is a COMPRESSION_ERROR",
        |c| {
            let mut index = vec![0xff];
            index.extend([0xff; 10]);
            index.push(0x7f);
            wrong(c, [get(), index].concat())
        },
    ),
    case(
        "7541, 5.1/3",
        "a length that is too large is a COMPRESSION_ERROR",
        |c| {
            let name = integer(0, 7, 1 << 27);
            wrong(c, [get(), vec![0], name, b"x".to_vec()].concat())
        },
    ),
    case(
        "7541, 5.2/1",
        "a string that is longer than its block is a COMPRESSION_ERROR",
        |c| {
            wrong(
                c,
                [get(), vec![0], string("x-name"), vec![10, b'v']].concat(),
            )
        },
    ),
    case("7541, 5.2/2", "Huffman strings are taken", |c| {
        c.open()?;
        let method = [integer(0, 4, METHOD_NAME), huffman("HEAD")].concat();
        let more = [
            vec![0],
            huffman("x-name"),
            huffman("a value: (1) {2} \u{e9}~|"),
        ]
        .concat();
        responds_with_head(c, 1, [method, rest(), more].concat())
    }),
    case(
        "7541, 5.2/3",
        "Huffman padding of more than 7 bits is a COMPRESSION_ERROR",
        |c| {
            // An `a` has 5 bits.
            huffman_value(c, &[0x1f, 0xff])
        },
    ),
    case(
        "7541, 5.2/4",
        "Huffman padding with a zero is a COMPRESSION_ERROR",
        |c| huffman_value(c, &[0x18]),
    ),
    case(
        "7541, 5.2/5",
        "EOS in a Huffman string is a COMPRESSION_ERROR",
        |c| huffman_value(c, &[0xff, 0xff, 0xff, 0xff]),
    ),
    case(
        "7541, 5.2/6",
        "EOS behind text is a COMPRESSION_ERROR",
        |c| huffman_value(c, &[0x1f, 0xff, 0xff, 0xff, 0xff]),
    ),
    case("7541, 6.1/1", "index 0 is a COMPRESSION_ERROR", |c| {
        wrong(c, [get(), indexed(0)].concat())
    }),
    case("7541, 6.1/2", "fields of the static table are taken", |c| {
        c.open()?;
        let authority = [integer(0, 4, AUTHORITY_NAME), string("localhost")].concat();
        let fields = [
            indexed(METHOD_GET),
            indexed(SCHEME_HTTP),
            indexed(PATH_ROOT),
            authority,
        ];
        c.send([headers(WHOLE, 1, fields.concat())]);
        c.success(1)?;
        Ok(())
    }),
    case(
        "7541, 6.2.1/1",
        "a literal with indexing is found again",
        |c| {
            c.open()?;
            responds_with_head(c, 1, [inserted(":method", "HEAD"), rest()].concat())?;
            responds_with_head(c, 3, [indexed(NEWEST), rest()].concat())
        },
    ),
    case(
        "7541, 6.2.1/2",
        "the name of an entry may be used again",
        |c| {
            c.open()?;
            c.send([headers(
                WHOLE,
                1,
                [inserted(":method", "GET"), rest()].concat(),
            )]);
            c.success(1)?;
            responds_with_head(c, 3, [inserted_under(NEWEST, "HEAD"), rest()].concat())
        },
    ),
    case(
        "7541, 6.2.2/1",
        "a literal without indexing goes into no table",
        |c| {
            c.open()?;
            responds_with_head(c, 1, [literal(":method", "HEAD"), rest()].concat())?;
            c.send([headers(WHOLE, 3, [indexed(NEWEST), rest()].concat())]);
            c.connection_error(&[Code::COMPRESSION_ERROR])
        },
    ),
    case(
        "7541, 6.2.3/1",
        "a literal that is never indexed goes into no table",
        |c| {
            c.open()?;
            responds_with_head(c, 1, [never_indexed(":method", "HEAD"), rest()].concat())?;
            c.send([headers(WHOLE, 3, [indexed(NEWEST), rest()].concat())]);
            c.connection_error(&[Code::COMPRESSION_ERROR])
        },
    ),
    case(
        "7541, 6.3/1",
        "a size update above SETTINGS_HEADER_TABLE_SIZE is a COMPRESSION_ERROR",
        |c| {
            c.open()?;
            let limit = c.server_setting(setting::HEADER_TABLE_SIZE);
            let above = limit.unwrap_or(4096) as usize + 1;
            c.send([headers(WHOLE, 1, [resized(above), get()].concat())]);
            c.connection_error(&[Code::COMPRESSION_ERROR])
        },
    ),
    case(
        "7541, 7.1.3/1",
        "a value is taken however it was written",
        |c| {
            c.open()?;
            let plain = [
                never_indexed("x-name", "value"),
                inserted("x-name", "value"),
            ];
            let coded = [vec![0x10], huffman("x-name"), huffman("value")].concat();
            c.send([headers(WHOLE, 1, [get(), plain.concat(), coded].concat())]);
            c.success(1)?;
            Ok(())
        },
    ),
];

/// What a request has beside its method.
fn rest() -> Vec<u8> {
    block(&[SCHEME, PATH, AUTHORITY])
}

/// A block that cannot be decoded.
fn wrong(c: &mut Connection, block: Vec<u8>) -> Step {
    super::refused(c, [headers(WHOLE, 1, block)], &[Code::COMPRESSION_ERROR])
}

/// A field whose value is said to be Huffman-coded, wrongly.
fn huffman_value(c: &mut Connection, value: &[u8]) -> Step {
    wrong(c, [get(), vec![0], string("x-name"), coded(value)].concat())
}

/// Sends a request and expects it to be taken for one of HEAD.
fn responds_with_head(c: &mut Connection, stream: u32, block: Vec<u8>) -> Step {
    c.send([headers(WHOLE, stream, block)]);
    let response = c.success(stream)?;
    if response.body.is_empty() {
        Ok(())
    } else {
        Err(Wrong("it was not taken for a HEAD".to_owned()))
    }
}
