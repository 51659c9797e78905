//! A value of `X-Forwarded-For`: who the client is.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| crossfade_fuzz::routing::check_client(input));
