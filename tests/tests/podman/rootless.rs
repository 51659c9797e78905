//! Everything here once more, as an ordinary user.

use std::path::Path;

use tokio::process::Command;

use crate::turns::{podman_is_required, say, take};

#[tokio::test]
async fn all_of_this_holds_rootless_too() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    if std::env::var_os("CROSSFADE_ROOTLESS_USER").is_none() {
        assert!(
            !podman_is_required(),
            "CROSSFADE_ROOTLESS_USER must name a user"
        );
        say("not run rootless: CROSSFADE_ROOTLESS_USER names no user");
        return;
    }
    let Some(_turn) = take().await else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/rootless");
    let output = Command::new(script)
        .arg(std::env::current_exe().unwrap())
        .env("CROSSFADE_BIN_DIR", tests::bin_dir())
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    say("the same tests, rootless:");
    text.lines()
        .chain(errors.lines())
        .filter(|line| !line.is_empty())
        .for_each(say);
}
