//! The text of the state file: a snapshot, and behind it the changes since.
//!
//! ```text
//! {"format":1,"services":{…},"holds":{…}}
//! +9d6f0b7c12a4e358 {"snapshot":"51c0…"}
//! +1f3a27cd90be4468 {"generation":1003,"services":{"web":{…}}}
//! ```
//!
//! The first part is the whole file of releases that knew no more, and of a proxy that was stopped
//! and not killed. What follows are records, one for each write: a line of `+`, the checksum of
//! the rest, and JSON, in which no line begins so. The first record has the checksum of the
//! snapshot. Each of the others says all that is kept of the services in it: what it means depends
//! on no other, so a record that is damaged takes nothing from those after it.

use admin_api::strict::from_json;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::control::saved::{Saved, SavedChanges};

/// What begins a record.
const MARK: u8 = b'+';
/// The mark, sixteen digits and a space.
const HEAD: usize = 18;

/// What a state file says, as far as that is sure.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) saved: Saved,
    /// What of it is not used.
    pub(super) faults: Vec<Fault>,
}

/// A part of the file that is not used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Of its first byte.
    pub(super) offset: usize,
    pub(super) length: usize,
    pub(super) kind: FaultKind,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum FaultKind {
    /// The snapshot, and why.
    Snapshot(String),
    /// A record, and why.
    Record(String),
    /// The last record was not written to its end: no caller was told that it is kept.
    Torn,
}

/// The first record: which snapshot it is behind.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seal {
    snapshot: String,
}

/// The snapshot alone.
pub(super) fn snapshot(saved: &Saved) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(saved)
}

/// Makes a snapshot ready for records behind it.
pub(super) fn seal(text: &mut Vec<u8>) -> serde_json::Result<()> {
    let snapshot = checksum(text);
    text.push(b'\n');
    append_record(text, &Seal { snapshot })
}

/// One record.
pub(super) fn record(changes: &SavedChanges) -> serde_json::Result<Vec<u8>> {
    let mut line = Vec::new();
    append_record(&mut line, changes)?;
    Ok(line)
}

fn append_record(text: &mut Vec<u8>, content: &impl Serialize) -> serde_json::Result<()> {
    let json = serde_json::to_vec(content)?;
    text.push(MARK);
    text.extend_from_slice(checksum(&json).as_bytes());
    text.push(b' ');
    text.extend_from_slice(&json);
    text.push(b'\n');
    Ok(())
}

fn checksum(bytes: &[u8]) -> String {
    format!("{:016x}", SipHasher13::new().hash(bytes))
}

/// Reads a file. What is damaged is left out.
pub(super) fn read(text: &[u8]) -> Read {
    let ends = memchr::memmem::find(text, &[b'\n', MARK]);
    let (snapshot, records) = match ends {
        Some(end) => (&text[..end], &text[end + 1..]),
        None => (text, &[][..]),
    };
    let mut faults = Vec::new();
    let mut base = from_json::<Saved>(snapshot).map_err(|error| error.to_string());
    let mut generation = base.as_ref().map_or(0, |base| base.generation);
    let mut changes: Vec<SavedChanges> = Vec::new();
    let mut offset = text.len() - records.len();
    for (number, line) in records.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let sound = if number == 0 {
            read_record::<Seal>(line).map(|seal| {
                if seal.snapshot != checksum(snapshot) {
                    base = Err("is not what was written".into());
                }
            })
        } else {
            read_changes(line, generation).map(|read| {
                generation = read.generation;
                changes.push(read);
            })
        };
        if let Err(why) = sound {
            let kind = if line.ends_with(b"\n") {
                FaultKind::Record(why)
            } else {
                FaultKind::Torn
            };
            let length = line.len();
            faults.push(Fault {
                offset,
                length,
                kind,
            });
        }
        offset += line.len();
    }
    let mut saved = base.unwrap_or_else(|why| {
        faults.push(Fault {
            offset: 0,
            length: snapshot.len(),
            kind: FaultKind::Snapshot(why),
        });
        Saved::default()
    });
    changes.into_iter().for_each(|read| saved.take_in(read));
    Read { saved, faults }
}

/// SavedChanges of a table later than that of `generation`: a disk may show a part of an older file.
fn read_changes(line: &[u8], generation: u64) -> Result<SavedChanges, String> {
    let changes: SavedChanges = read_record(line)?;
    if changes.generation <= generation {
        return Err("it is older than what is before it".into());
    }
    Ok(changes)
}

/// The content of a line that is whole.
fn read_record<'l, T: Deserialize<'l>>(line: &'l [u8]) -> Result<T, String> {
    let head = line.get(..HEAD).unwrap_or_default();
    let [MARK, sum @ .., b' '] = head else {
        return Err("is not a record".into());
    };
    let json = line.get(HEAD..).and_then(|json| json.strip_suffix(b"\n"));
    let Some(json) = json.filter(|json| checksum(json).as_bytes() == sum) else {
        return Err("its checksum is wrong".into());
    };
    serde_json::from_slice(json).map_err(|error| format!("another release wrote it: {error}"))
}
