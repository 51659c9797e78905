//! A target: the normal form of its path, and what an endpoint gets of it.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| crossfade_fuzz::routing::check_path(input));
