//! A chunked body. The first byte says how many of those that follow say how it is cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let [count, rest @ ..] = input {
        let (cuts, body) = rest.split_at(usize::from(*count % 8).min(rest.len()));
        crossfade_fuzz::heads::check_chunked(body, cuts);
    }
});
