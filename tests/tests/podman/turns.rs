//! One test at a time, and none where podman does not work.

use std::io::Write;
use std::sync::OnceLock;

use tests::podman;
use tokio::sync::{Mutex, MutexGuard};

static TURN: Mutex<()> = Mutex::const_new(());

/// Whether a podman that does not work is a failure here.
pub(crate) fn podman_is_required() -> bool {
    std::env::var("CROSSFADE_REQUIRE_PODMAN").is_ok_and(|value| value == "1")
}

/// Waits until no other test runs. `None`, with a line that says why, where podman does not
/// work and does not have to.
pub(crate) async fn take() -> Option<MutexGuard<'static, ()>> {
    let turn = TURN.lock().await;
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
