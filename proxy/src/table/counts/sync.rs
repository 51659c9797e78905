//! The atomics that [`crate::table::counts::claim`] is written with.
//!
//! They are named in one place so that the claim protocol's test can compile the very same
//! source against loom's model of them.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
