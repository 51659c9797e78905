//! What systemd itself makes of the units that `crossfade install` writes.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking; clippy knows only functions marked as tests"
)]

#[path = "../../src/trials.rs"]
mod trials;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};

use tempfile::TempDir;
use tests::Running;
use trials::{Group, trials};

fn main() -> ExitCode {
    trials::run(vec![Group {
        at_once: 2,
        trials: trials![systemd_analyzes;
            the_units_are_valid,
            the_system_unit_is_hard_to_abuse,
        ],
    }])
}

/// A unit as `--print` shows it, in a file of its name.
async fn printed(folder: &Path, runtime: &str, flags: &[&str]) -> PathBuf {
    let manifest = folder.join("crossfade.toml");
    let text = format!(
        "project = \"shop\"\nruntime = \"{runtime}\"\n[proxy]\nlisten = [\"127.0.0.1:8080\"]\n\
         [[services]]\nname = \"web\"\nimage = \"web:1\"\n"
    );
    std::fs::write(&manifest, text).unwrap();
    let state = folder.join("state of 100%");
    let (manifest, state) = (manifest.to_str().unwrap(), state.to_str().unwrap());
    let mut args = vec!["--file", manifest, "--state", state, "install", "--print"];
    args.extend(flags);
    let home = [("HOME", folder.to_str().unwrap())];
    let finished = Running::start("crossfade", &args, &home).finished().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    let file = folder.join("crossfade-shop.service");
    std::fs::write(&file, finished.stdout).unwrap();
    file
}

async fn the_units_are_valid() {
    for (runtime, flags) in [
        ("podman", &[][..]),
        ("process", &[]),
        ("podman", &["--user"]),
    ] {
        let folder = TempDir::new().unwrap();
        let file = printed(folder.path(), runtime, flags).await;
        // Other units that it names are not there on machines that systemd has not booted.
        let verify = [
            "verify",
            "--man=no",
            "--recursive-errors=no",
            file.to_str().unwrap(),
        ];
        let said = analyze(&verify).unwrap();
        let errors = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.status.success() && errors.is_empty(), "{errors}");
    }
}

async fn the_system_unit_is_hard_to_abuse() {
    let folder = TempDir::new().unwrap();
    let file = printed(folder.path(), "podman", &[]).await;
    // 0 is safe, 100 is not.
    let threshold = [
        "security",
        "--offline=yes",
        "--threshold=29",
        file.to_str().unwrap(),
    ];
    let said = analyze(&threshold).unwrap();
    let report = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success(), "{report}");
}

fn analyze(args: &[&str]) -> std::io::Result<Output> {
    Command::new("systemd-analyze")
        .args(args)
        .env("SYSTEMD_COLORS", "0")
        .output()
}

fn systemd_analyzes() -> Result<(), String> {
    match analyze(&["--version"]) {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("systemd-analyze does not work: {}", output.status)),
        Err(error) => Err(format!("systemd-analyze: {error}")),
    }
}
