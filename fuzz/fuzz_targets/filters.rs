//! The head of a request, through the filters of a service. The first byte says which.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| crossfade_fuzz::filters::check_filters(input));
