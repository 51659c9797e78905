//! Tests that need a part of the machine that may be missing, such as podman.
//!
//! Where the part is missing, these tests are reported as ignored, with the reason. `#[test]` decides
//! that when it is compiled, so these tests have a `main` of their own, with `harness = false`. The
//! arguments of `cargo test` (filters, `--list`, `--exact`, `--skip`, `--test-threads`) work the same.
//!
//! `tests/tests/podman` and `controller/tests/podman_runtime.rs` include this file by path, so that
//! the controller does not have to build the whole harness for it.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// Checks that a part is there. The error says why it is not.
pub(crate) type Need = fn() -> Result<(), String>;

/// What a test returns: nothing, or the reason for which it could not run.
pub(crate) trait Report {
    /// As the harness counts it.
    fn completion(self) -> Completion;
}

impl Report for () {
    fn completion(self) -> Completion {
        Completion::Completed
    }
}

impl Report for Completion {
    fn completion(self) -> Completion {
        self
    }
}

/// Tests that run side by side: `at_once`, or fewer where `--test-threads` says so.
pub(crate) struct Group {
    pub(crate) at_once: usize,
    pub(crate) trials: Vec<Trial>,
}

/// Whether a podman that does not work is a failure here.
pub(crate) fn podman_is_required() -> bool {
    std::env::var("CROSSFADE_REQUIRE_PODMAN").is_ok_and(|value| value == "1")
}

/// An asynchronous test by its path below the crate, as `#[tokio::test]` runs one. It is ignored
/// where `need` is not met, or fails there if podman is required.
pub(crate) fn trial<F>(path: &str, need: Need, test: impl FnOnce() -> F + Send + 'static) -> Trial
where
    F: Future<Output: Report>,
{
    let thread = std::thread::Builder::new().name(path.to_owned());
    let run = move || -> Result<Completion, Failed> {
        match need() {
            Err(why) if podman_is_required() => {
                return Err(
                    format!("podman must work here (CROSSFADE_REQUIRE_PODMAN): {why}").into(),
                );
            }
            Err(why) => return Ok(Completion::ignored_with(why)),
            Ok(()) => {}
        }
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        Ok(runtime.enable_all().build()?.block_on(test()).completion())
    };
    // A thread of its own gives a panic message the name of its test.
    Trial::ignorable_test(path, move || match thread.spawn(run)?.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Trials by the paths of their functions.
macro_rules! trials {
    ($need:expr; $($path:path),* $(,)?) => {
        vec![$(crate::trials::trial(stringify!($path), $need, $path)),*]
    };
}
pub(crate) use trials;

/// Runs the groups one after the other, as the arguments of this process say.
pub(crate) fn run(mut groups: Vec<Group>) -> ExitCode {
    let arguments = Arguments::from_args();
    let is_wanted = |trial: &Trial| !arguments.is_filtered_out(trial);
    if groups
        .iter()
        .any(|group| group.trials.iter().any(is_wanted))
    {
        groups.retain(|group| group.trials.iter().any(is_wanted));
    } else {
        groups.truncate(1);
    }
    if arguments.list {
        let all = groups.into_iter().flat_map(|group| group.trials).collect();
        return libtest_mimic::run(&arguments, all).exit_code();
    }
    let wanted = arguments.test_threads.unwrap_or(usize::MAX);
    let mut exit = ExitCode::SUCCESS;
    for Group { at_once, trials } in groups {
        let mut arguments = arguments.clone();
        arguments.test_threads = Some(wanted.min(at_once));
        if libtest_mimic::run(&arguments, trials).has_failed() {
            exit = ExitCode::from(101);
        }
    }
    exit
}
