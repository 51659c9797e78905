//! TCP's own probes.

use std::time::Duration;

use socket2::TcpKeepalive;

/// TCP's own probes, by which a peer that vanished without a word is noticed.
pub(crate) fn keep_alive() -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
}
