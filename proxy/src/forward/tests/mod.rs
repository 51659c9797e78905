//! The life of a request, in tables.

mod counted;
mod relay;
mod retries;
