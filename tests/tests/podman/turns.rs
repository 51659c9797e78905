//! Two tests at a time, since each mostly waits; one that times something alone; none where podman
//! does not work.

use std::io::Write;
use std::sync::OnceLock;

use tests::podman;
use tokio::sync::{Semaphore, SemaphorePermit};

/// How many tests run at once.
const AT_ONCE: u32 = 2;
static TURNS: Semaphore = Semaphore::const_new(AT_ONCE as usize);

/// Whether a podman that does not work is a failure here.
pub(crate) fn podman_is_required() -> bool {
    std::env::var("CROSSFADE_REQUIRE_PODMAN").is_ok_and(|value| value == "1")
}

/// Waits for a turn. `None`, with a line that says why, where podman does not work and does not
/// have to.
pub(crate) async fn take() -> Option<SemaphorePermit<'static>> {
    take_of(1).await
}

/// Waits until no other test runs, and keeps them waiting.
pub(crate) async fn take_all() -> Option<SemaphorePermit<'static>> {
    take_of(AT_ONCE).await
}

async fn take_of(turns: u32) -> Option<SemaphorePermit<'static>> {
    let Ok(turn) = TURNS.acquire_many(turns).await else {
        panic!("the semaphore of turns was closed");
    };
    static WORKS: OnceLock<Result<(), String>> = OnceLock::new();
    // Whether containers start is only known when one has.
    let try_one = || {
        let image = "localhost/crossfade-sample-client:latest";
        podman(&["run", "--rm", "--network", "none", image, "--help"]).map(|_| ())
    };
    match WORKS.get_or_init(try_one) {
        Ok(()) => Some(turn),
        Err(why) if !podman_is_required() => {
            say(&format!("skipped, podman does not work here: {why}"));
            None
        }
        Err(why) => panic!("podman must work here (CROSSFADE_REQUIRE_PODMAN): {why}"),
    }
}

/// Prints a line that the test harness does not swallow.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "podman: {line}");
}
