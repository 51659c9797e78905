//! Rollouts on child processes: what the tests on podman have on containers.

use tests::{On, latency_limits, listening, manifests, recovery, scenarios, upgrades};

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
    failing_requests_of_one_client_do_not_roll_a_release_back_and_those_of_many_do,
    a_killed_controller_changes_nothing_and_the_next_one_finishes_its_rollout,
    a_split_by_hand_pauses_the_rollout_and_promote_and_abort_end_it,
    a_rolling_rollout_replaces_containers_one_by_one,
    a_gate_holds_a_rollout_until_it_is_approved,
    a_rollback_is_one_swap_while_the_old_version_is_warm,
    a_wait_starts_a_controller_that_has_died_and_goes_on,
    a_rollback_starts_the_version_before_again,
    a_service_is_scaled_under_load_without_a_failed_request,
    up_again_changes_nothing_and_what_runs_can_be_looked_at,
    logs_are_followed_until_ctrl_c,
    a_candidate_that_cannot_run_is_taken_away_and_says_why,
    a_candidate_that_crashes_under_load_is_rolled_back_at_once,
    an_up_that_fails_leaves_nothing,
    the_admin_api_wants_the_token,
}

on_processes! { manifests:
    containers_serve_by_unix_socket,
    an_up_does_just_what_has_changed,
    an_edit_after_an_aborted_rollout_is_seen_and_what_was_set_by_hand_stays,
    a_service_is_added_and_taken_away_by_the_manifest,
    a_service_that_is_renamed_keeps_its_clients,
    a_secret_is_given_by_file_and_shown_nowhere,
    clients_are_served_over_tls_with_the_manifests_certificates,
    each_version_is_spoken_to_as_the_manifest_had_it,
}

on_processes! { recovery:
    what_dies_while_a_rollout_runs_is_replaced,
    a_machine_that_starts_again_goes_on_where_it_was,
    a_proxy_that_dies_comes_back_and_the_rollout_goes_on,
    when_all_of_a_release_die_while_it_bakes_clients_notice_next_to_nothing,
    a_container_that_crashes_again_and_again_costs_no_more_than_it_had_in_flight,
    a_container_that_hangs_is_replaced_beside_itself,
    what_runs_is_adopted_after_the_journal_was_lost,
    a_damaged_journal_is_restored_and_what_runs_stays,
}

on_processes! { listening:
    clients_are_known_by_their_own_addresses,
    addresses_come_and_go_without_a_down,
    a_new_controller_gets_its_sockets_back_from_the_proxy,
    clients_of_a_killed_proxy_wait_for_the_next_one,
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
