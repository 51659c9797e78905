//! The life of a request, in tables.

mod relay;
mod retries;
