//! sample-client
