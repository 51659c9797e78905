//! A request's head.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| crossfade_fuzz::heads::check_request_head(input));
