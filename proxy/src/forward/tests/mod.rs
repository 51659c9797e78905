//! The life of a request, in tables.

mod counted;
mod mirror;
mod relay;
mod retries;
