//! Swaps crossfade's table through its admin API at a fixed rate during a measurement.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use crate::client::BlockingClient;
use crate::error::{Error, Result};

/// Each call waits for the disk, and calls that wait share a write. So 1,000 swaps a second need
/// several callers.
const CALLERS: u32 = 16;

/// The threads that swap.
pub(crate) struct Swapper {
    stop: Arc<AtomicBool>,
    swaps: Arc<AtomicU64>,
    callers: Vec<JoinHandle<Result<()>>>,
}

impl Swapper {
    /// Starts the threads.
    pub(crate) fn start(admin: SocketAddr, per_second: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let swaps = Arc::new(AtomicU64::new(0));
        let callers = per_second.div_ceil(50).clamp(1, CALLERS);
        let interval = Duration::from_secs(1) * callers / per_second.max(1);
        let callers = (0..callers)
            .map(|number| {
                let (stop, swaps) = (stop.clone(), swaps.clone());
                let first = interval * number / callers;
                spawn(move || swap(admin, first, interval, &stop, &swaps))
            })
            .collect();
        Self {
            stop,
            swaps,
            callers,
        }
    }

    /// The number of swaps so far.
    pub(crate) fn swaps(&self) -> u64 {
        self.swaps.load(Ordering::Relaxed)
    }

    /// Stops the threads.
    ///
    /// # Errors
    /// If a call failed.
    pub(crate) fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.join().map_err(|_| Error::Program {
                name: "swapper".into(),
                why: "panicked".into(),
            })??;
        }
        Ok(())
    }
}

fn swap(
    admin: SocketAddr,
    first: Duration,
    interval: Duration,
    stop: &AtomicBool,
    swaps: &AtomicU64,
) -> Result<()> {
    let mut client = BlockingClient::connect(admin)?;
    let mut due = Instant::now() + first;
    let mut weight = 1;
    while !stop.load(Ordering::Relaxed) {
        let wait = due.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            sleep(wait.min(Duration::from_millis(20)));
            continue;
        }
        due += interval;
        // Another weight each time, so that every call is a change.
        weight = 3 - weight;
        let split = format!("{{\"split\":{{\"1\":{weight}}}}}");
        client.call("PUT", "/v1/services/web/split", &split)?;
        swaps.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
