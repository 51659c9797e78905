//! A response's head; the first byte says to which method.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let [method, head @ ..] = input {
        crossfade_fuzz::heads::check_response_head(head, *method == b'H');
    }
});
