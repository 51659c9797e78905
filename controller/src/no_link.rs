//! Files of the state folder are never opened through a link: who could place one there would choose
//! what the controller reads and writes.

use std::fs::OpenOptions;
use std::io::{Read, Result};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Options that open no file through a link, and make one for its owner alone.
pub(crate) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .mode(0o600);
    options
}

/// Reads a file that is not a link.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    options().read(true).open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}
