//! Whatever an endpoint responds, through the proxy. The first byte says to which request, and
//! the second where it is cut in two.
#![no_main]

use std::cell::RefCell;

use crossfade_fuzz::exchange::{Exchange, REQUESTS};

thread_local! {
    static EXCHANGE: RefCell<Exchange> = RefCell::default();
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let [request, cut, response @ ..] = input {
        let request = REQUESTS[usize::from(*request) % REQUESTS.len()];
        EXCHANGE.with_borrow_mut(|exchange| {
            exchange.check_responses(request, response, usize::from(*cut));
        });
    }
});
