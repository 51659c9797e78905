//! Real containers: the scenarios of rollouts, and what only podman has. As the user who runs the
//! tests; and, where that is root, once more as an ordinary user.
//!
//! A test that is not listed in `main` is dead code, and fails the lints.

#![expect(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking; clippy knows only functions marked as tests"
)]

mod controller_kills;
mod demo;
mod engine;
mod given;
mod healing;
mod neighbours;
mod ports;
mod rootless;
#[path = "../../src/trials.rs"]
mod trials;

use std::process::ExitCode;
use std::sync::OnceLock;

use libtest_mimic::Trial;
use tests::{On, latency_limits, listening, manifests, podman, recovery, scenarios, upgrades};
use trials::{Group, trials};

/// Each test mostly waits for podman; with more of them at once, short time limits are missed on two
/// cores.
const AT_ONCE: usize = 3;

/// The longest by far begins first.
fn main() -> ExitCode {
    let side_by_side = [
        trials![podman_works; rootless::what_may_depend_on_the_user_holds_rootless_too],
        on_podman! { scenarios:
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
            the_admin_api_wants_the_token,
        },
        on_podman! { manifests:
            an_up_does_just_what_has_changed,
            a_service_is_added_and_taken_away_by_the_manifest,
            a_service_that_is_renamed_keeps_its_clients,
            a_secret_is_given_by_file_and_shown_nowhere,
            clients_are_served_over_tls_with_the_manifests_certificates,
            each_version_is_spoken_to_as_the_manifest_had_it,
            containers_serve_by_unix_socket,
        },
        on_podman! { recovery:
            what_dies_while_a_rollout_runs_is_replaced,
            a_machine_that_starts_again_goes_on_where_it_was,
            a_proxy_that_dies_comes_back_and_the_rollout_goes_on,
            when_all_of_a_release_die_while_it_bakes_clients_notice_next_to_nothing,
            a_container_that_crashes_again_and_again_costs_no_more_than_it_had_in_flight,
            a_container_that_hangs_is_replaced_beside_itself,
            what_runs_is_adopted_after_the_journal_was_lost,
            a_damaged_journal_is_restored_and_what_runs_stays,
        },
        on_podman! { listening:
            clients_are_known_by_their_own_addresses,
            addresses_come_and_go_without_a_down,
            a_new_controller_gets_its_sockets_back_from_the_proxy,
            clients_of_a_killed_proxy_wait_for_the_next_one,
        },
        vec![trials::trial(
            "clients_of_another_network_are_known_by_their_own_addresses",
            neighbour_works,
            || listening::clients_of_another_network_are_known_by_their_own_addresses(On::Podman),
        )],
        on_podman! { upgrades:
            the_proxy_is_upgraded_under_load_and_no_client_notices,
            a_changed_proxy_takes_over_from_the_one_before,
            a_killed_controller_leaves_an_upgrade_of_the_proxy_that_the_next_one_finishes,
            an_upgrade_that_fails_leaves_the_proxy_as_it_was,
        },
        trials![podman_works;
            controller_kills::a_controller_killed_at_random_moments_ends_its_rollouts_as_it_would_have,
            demo::the_demo_keeps_its_promises_and_leaves_nothing,
            demo::an_interrupted_demo_leaves_nothing,
            engine::auto_takes_podman_where_it_works_and_says_so,
            engine::doctor_starts_a_container_to_see_that_one_starts,
            given::a_container_has_its_volumes_its_limits_and_its_labels_and_no_secret_in_sight,
            given::a_rollback_starts_the_image_that_was_though_its_tag_has_moved,
            given::a_tag_that_was_built_again_is_rolled_out_as_a_revision,
            given::images_that_are_no_longer_kept_are_removed,
            healing::a_holder_that_dies_or_is_taken_away_is_made_again_and_the_proxy_with_it,
            healing::a_stray_with_our_labels_is_taken_away_and_a_stranger_whose_name_we_want_stays,
            healing::an_api_that_is_killed_in_the_middle_of_a_rollout_is_started_again_and_no_version_is_judged,
            ports::nothing_is_published_but_an_admin_port_on_loopback_by_request,
        ],
    ];
    trials::run(vec![
        Group {
            at_once: AT_ONCE,
            trials: side_by_side.into_iter().flatten().collect(),
        },
        Group {
            at_once: 1,
            trials: alone().into_iter().flatten().collect(),
        },
    ])
}

/// These compare all that the machine has before and after, or measure a time.
fn alone() -> [Vec<Trial>; 2] {
    [
        on_podman! { latency_limits:
            a_release_that_crashes_is_out_of_the_way_within_a_second,
        },
        trials![podman_works;
            neighbours::down_leaves_everything_as_it_was_before_up_a_container_with_a_look_alike_name_too,
            neighbours::a_name_that_another_container_has_is_an_error_and_nothing_is_left,
        ],
    ]
}

/// Scenarios that are written once for every runtime, as tests on podman.
macro_rules! on_podman {
    ($from:ident: $($scenario:ident,)*) => {
        vec![$(
            trials::trial(stringify!($scenario), podman_works, || $from::$scenario(On::Podman))
        ),*]
    };
}
use on_podman;

/// Whether there can be a network of a test's own.
fn neighbour_works() -> Result<(), String> {
    podman_works()?;
    tests::neighbour::Neighbour::find().map(drop)
}

/// Starts a container, once: nothing else shows that containers start.
fn podman_works() -> Result<(), String> {
    static WORKS: OnceLock<Result<(), String>> = OnceLock::new();
    let try_one = || {
        let image = "localhost/crossfade-sample-client:latest";
        podman(&["run", "--rm", "--network", "none", image, "--help"]).map(|_| ())
    };
    let works = WORKS.get_or_init(try_one).clone();
    works.map_err(|why| format!("podman does not work here: {why}"))
}
