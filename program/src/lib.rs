//! What each of our programs does the same way: its log, and how it is told to stop.

pub mod log;
pub mod signals;
