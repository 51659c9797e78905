//! When the reconciler acts: at once when the runtime tells of a change, and less and less often on
//! a service whose containers die again and again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::runtime::Runtime;

/// How long to wait before a service is healed again: a container that dies again and again is
/// not replaced as fast as it dies.
#[derive(Debug, Default)]
pub(super) struct Backoff(HashMap<String, (Instant, Duration)>);

impl Backoff {
    const FIRST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(60);

    /// Whether it is time.
    pub(super) fn may(&self, service: &str) -> bool {
        let last = self.0.get(service);
        last.is_none_or(|(last, wait)| last.elapsed() >= *wait)
    }

    /// It was healed now.
    pub(super) fn healed(&mut self, service: &str) {
        let next = match self.0.get(service) {
            // It did not hold for long.
            Some((last, wait)) if last.elapsed() < *wait * 4 => (*wait * 2).min(Self::LONGEST),
            _ => Self::FIRST,
        };
        self.0.insert(service.to_owned(), (Instant::now(), next));
    }
}

/// Has `changed` told whenever the runtime tells of a change. Ended by dropping.
#[derive(Debug)]
pub(super) struct RuntimeWatch(tokio::task::JoinHandle<()>);

impl RuntimeWatch {
    pub(super) fn start(runtime: Arc<dyn Runtime>, changed: Arc<Notify>) -> Self {
        Self(tokio::spawn(async move { runtime.watch(&changed).await }))
    }
}

impl Drop for RuntimeWatch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_dies_again_and_again_is_replaced_more_and_more_slowly() {
        let mut backoff = Backoff::default();
        let mut waits = Vec::new();
        for _ in 0..9 {
            let began = Instant::now();
            while !backoff.may("web") {
                sleep(Duration::from_millis(100)).await;
            }
            waits.push(began.elapsed().as_secs());
            backoff.healed("web");
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(backoff.may("api"), "each service has its own");
        sleep(Duration::from_secs(600)).await;
        backoff.healed("web");
        sleep(Backoff::FIRST).await;
        assert!(backoff.may("web"), "it held for a while");
    }
}
