//! Whatever a client sends, through the proxy. The first byte says where it is cut in two.
#![no_main]

use std::cell::RefCell;

use crossfade_fuzz::exchange::Exchange;

thread_local! {
    static EXCHANGE: RefCell<Exchange> = RefCell::default();
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let [cut, sent @ ..] = input {
        EXCHANGE.with_borrow_mut(|exchange| exchange.check_requests(sent, usize::from(*cut)));
    }
});
