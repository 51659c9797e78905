//! The client's side of HTTP/1.1 and HTTP/2, in tables.

mod buffer;
mod h1;
mod h2;
mod held;
mod resets;
mod waiting;
