//! What people and programs write: a config file, and the JSON of a service. Both are accepted,
//! or refused with a reason.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    proxy::fuzz::service(input);
    if let Ok(text) = std::str::from_utf8(input) {
        proxy::fuzz::config(text);
    }
});
