//! Time as the journal writes it, driven by tokio's clock, so that a test can pause it; and which
//! start of the machine this is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Milliseconds since 1970.
pub type Millis = i64;

/// Reads the wall clock once and counts on from there: a machine whose clock jumps does not
/// shorten a step.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
    origin_ms: Millis,
}

impl Clock {
    /// A clock that begins now.
    pub fn new() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            origin: Instant::now(),
            origin_ms: millis(since),
        }
    }

    /// Now.
    pub fn now(&self) -> Millis {
        self.origin_ms + millis(self.origin.elapsed())
    }

    /// How long ago `then` was; nothing for what lies ahead.
    pub fn since(&self, then: Millis) -> Duration {
        Duration::from_millis(u64::try_from(self.now() - then).unwrap_or(0))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// Which start of the machine this is; empty where the kernel does not say.
pub(crate) fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.unwrap_or_default().trim().to_owned()
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}
