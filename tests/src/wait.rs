//! Waiting for a condition, with a deadline.

use std::future::Future;
use std::time::{Duration, Instant};

/// How long anything may take that should take no time at all. Machines can be busy.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Asks again and again until `condition` holds. Fails at the deadline, naming `what` was
/// waited for.
#[track_caller]
pub fn wait_until<F>(what: &str, mut condition: impl FnMut() -> F) -> impl Future<Output = ()>
where
    F: Future<Output = bool>,
{
    let caller = std::panic::Location::caller();
    async move {
        let start = Instant::now();
        while !condition().await {
            assert!(
                start.elapsed() < DEADLINE,
                "{caller}: waited for {DEADLINE:?} until {what}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// What `future` gives, which has to be there before the deadline.
#[track_caller]
pub fn within<T>(what: &str, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let result = tokio::time::timeout(DEADLINE, future).await;
        result.unwrap_or_else(|_| panic!("{caller}: waited for {DEADLINE:?}: {what}"))
    }
}
