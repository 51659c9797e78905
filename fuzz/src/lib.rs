//! What the fuzzers check. `proxy/tests/wire.rs` checks the same, with less patience.

pub mod exchange;
pub mod heads;
pub mod strict;
