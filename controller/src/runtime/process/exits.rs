//! The end of a process, told by the kernel: waiting for it costs nothing.

use std::os::fd::OwnedFd;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::identity::Identity;

/// Until one of them ends. Never where there is none.
pub(super) async fn first(processes: &[Identity]) {
    let mut ends: FuturesUnordered<_> = processes
        .iter()
        .filter_map(Identity::handle)
        .map(end)
        .collect();
    while let Some(ended) = ends.next().await {
        if ended {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// A handle becomes readable when its process has ended (pidfd_open(2)). Whether it did; where
/// it cannot be waited for, it did not.
#[expect(
    deprecated,
    reason = "what is deprecated is file descriptors that others may close; an `OwnedFd` is ours"
)]
async fn end(handle: OwnedFd) -> bool {
    match AsyncFd::with_interest(handle, Interest::READABLE) {
        Ok(handle) => handle.readable().await.is_ok(),
        Err(_) => false,
    }
}
