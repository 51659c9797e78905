//! Rollouts on child processes: what the tests on podman have on containers.

use tests::{On, stories};

/// Each story as a test, on processes.
macro_rules! on_processes {
    ($($story:ident,)*) => {$(
        #[tokio::test]
        async fn $story() {
            stories::$story(On::Processes).await;
        }
    )*};
}

on_processes! {
    a_good_release_goes_all_the_way_and_a_bad_one_comes_back_by_itself,
    a_killed_controller_changes_nothing_and_the_next_one_finishes_its_rollout,
    a_split_by_hand_pauses_the_rollout_and_promote_and_abort_end_it,
    a_rollback_is_one_swap_while_the_old_version_is_warm,
    a_rollback_starts_the_version_before_again,
    a_service_is_scaled_under_load_without_a_failed_request,
    up_again_changes_nothing_and_what_runs_can_be_looked_at,
    logs_are_followed_until_ctrl_c,
    a_candidate_that_cannot_run_is_taken_away_and_says_why,
    a_candidate_that_crashes_under_load_is_rolled_back_at_once,
    an_up_that_fails_leaves_nothing,
    the_admin_port_wants_the_token,
}
