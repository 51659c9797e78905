//! What the fuzzers check. `proxy/tests/wire.rs` checks the same, with fewer cases.

pub mod exchange;
pub mod filters;
pub mod heads;
pub mod routing;
pub mod strict;
