//! Everything here that an ordinary user's podman could do otherwise, once more as such a user.

use std::path::Path;

use libtest_mimic::Completion;
use tests::neighbour::{self, Neighbour};
use tokio::process::Command;

use crate::trials::podman_is_required;

/// What the controller decides without asking whose podman it is: these run as root alone, since
/// each of them takes a quarter of a minute.
const SAME_FOR_EVERYBODY: [&str; 29] = [
    "a_candidate_that_cannot_run_is_taken_away_and_says_why",
    "a_candidate_that_crashes_under_load_is_rolled_back_at_once",
    "a_changed_proxy_takes_over_from_the_one_before",
    "a_container_that_crashes_again_and_again_costs_no_more_than_it_had_in_flight",
    "a_container_that_hangs_is_replaced_beside_itself",
    "a_damaged_journal_is_restored_and_what_runs_stays",
    "a_killed_controller_changes_nothing_and_the_next_one_finishes_its_rollout",
    "a_killed_controller_leaves_an_upgrade_of_the_proxy_that_the_next_one_finishes",
    "a_proxy_that_dies_comes_back_and_the_rollout_goes_on",
    "a_release_that_crashes_is_out_of_the_way_within_a_second",
    "a_rollback_is_one_swap_while_the_old_version_is_warm",
    "a_rollback_starts_the_version_before_again",
    "a_service_is_added_and_taken_away_by_the_manifest",
    "a_service_is_scaled_under_load_without_a_failed_request",
    "a_service_that_is_renamed_keeps_its_clients",
    "a_split_by_hand_pauses_the_rollout_and_promote_and_abort_end_it",
    "an_up_does_just_what_has_changed",
    "an_up_that_fails_leaves_nothing",
    "an_upgrade_that_fails_leaves_the_proxy_as_it_was",
    "clients_are_served_over_tls_with_the_manifests_certificates",
    "controller_kills::a_controller_killed_at_random_moments_ends_its_rollouts_as_it_would_have",
    "demo::an_interrupted_demo_leaves_nothing",
    "each_version_is_spoken_to_as_the_manifest_had_it",
    "given::a_rollback_starts_the_image_that_was_though_its_tag_has_moved",
    "given::a_tag_that_was_built_again_is_rolled_out_as_a_revision",
    "logs_are_followed_until_ctrl_c",
    "up_again_changes_nothing_and_what_runs_can_be_looked_at",
    "what_dies_while_a_rollout_runs_is_replaced",
    "what_runs_is_adopted_after_the_journal_was_lost",
];

pub(crate) async fn what_may_depend_on_the_user_holds_rootless_too() -> Completion {
    if !rustix::process::geteuid().is_root() {
        return Completion::ignored_with("only root can run tests as another user");
    }
    if std::env::var_os("CROSSFADE_ROOTLESS_USER").is_none() {
        assert!(
            !podman_is_required(),
            "CROSSFADE_ROOTLESS_USER must name a user"
        );
        return Completion::ignored_with("CROSSFADE_ROOTLESS_USER names no user");
    }
    let clients = Neighbour::find().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/rootless");
    let output = Command::new(script)
        .arg(std::env::current_exe().unwrap())
        .args(SAME_FOR_EVERYBODY.iter().flat_map(|name| ["--skip", name]))
        .env("CROSSFADE_BIN_DIR", tests::bin_dir())
        .env(neighbour::VARIABLE, clients.told())
        .output()
        .await
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    eprintln!("the same tests, rootless:");
    for line in text.lines().chain(errors.lines()) {
        eprintln!("rootless: {line}");
    }
    Completion::Completed
}
