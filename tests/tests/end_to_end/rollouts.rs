//! Rollouts on child processes: what the tests on podman have on containers.

use tests::{On, latency_limits, manifests, recovery, scenarios, upgrades};

/// Each story as a test, on processes.
macro_rules! on_processes {
    ($from:ident: $($story:ident,)*) => {$(
        #[tokio::test]
        async fn $story() {
            $from::$story(On::Processes).await;
        }
    )*};
}

on_processes! { scenarios:
    a_good_release_goes_all_the_way_and_a_bad_one_comes_back_by_itself,
    requests_that_are_aimed_at_a_good_release_do_not_roll_it_back,
    a_killed_controller_changes_nothing_and_the_next_one_finishes_its_rollout,
    a_split_by_hand_pauses_the_rollout_and_promote_and_abort_end_it,
    a_rolling_rollout_replaces_containers_one_by_one,
    a_gate_holds_a_rollout_until_it_is_approved,
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

on_processes! { manifests:
    an_up_does_just_what_has_changed,
    a_service_is_added_and_taken_away_by_the_manifest,
    a_secret_is_given_by_file_and_shown_nowhere,
    clients_are_served_over_tls_with_the_manifests_certificates,
    each_version_is_spoken_to_as_the_manifest_had_it,
}

on_processes! { recovery:
    what_dies_while_a_rollout_runs_is_replaced,
    a_machine_that_starts_again_goes_on_where_it_was,
    a_proxy_that_dies_comes_back_and_the_rollout_goes_on,
}

on_processes! { latency_limits:
    a_bad_release_is_out_of_the_way_within_three_seconds,
    a_release_that_crashes_is_out_of_the_way_within_a_second,
    status_is_there_at_once_while_a_rollout_runs,
    a_controller_at_rest_costs_next_to_nothing,
}

on_processes! { upgrades:
    the_proxy_is_upgraded_under_load_and_no_client_notices,
    a_changed_proxy_takes_over_from_the_one_before,
    a_killed_controller_leaves_an_upgrade_of_the_proxy_that_the_next_one_finishes,
    an_upgrade_that_fails_leaves_the_proxy_as_it_was,
}
