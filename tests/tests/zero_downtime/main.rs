//! The short form of `make soak`: each row of the zero-downtime table for seconds, and nothing
//! that a client notices.

use std::path::PathBuf;
use std::time::Duration;

use tests::zero_downtime::{Extent, Limits, Row, TestEnv};

/// One row at a time: each of them keeps the machine busy.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn check(row: Row, seconds: u64, rounds: usize) {
    let _turn = TURN.lock().await;
    let program = PathBuf::from(env!("CARGO_BIN_EXE_crossfade-soak"));
    let env = TestEnv::new(program, Limits::SHARED);
    let extent = Extent {
        time: Duration::from_secs(seconds),
        rounds,
        seed: 0,
    };
    let outcome = row.run(&env, extent).await;
    assert!(outcome.requests > 0, "nothing was asked: {outcome:#?}");
    let problems = outcome.problems();
    assert!(problems.is_empty(), "{problems:?}: {outcome:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_notices_50_swaps_a_second() {
    check(Row::Swaps, 3, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_notices_1_000_swaps_a_second() {
    check(Row::Storm, 2, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_notices_endpoints_that_come_and_go() {
    check(Row::Endpoints, 2, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_dies_costs_no_more_than_it_must() {
    check(Row::Kills, 4, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_whose_host_is_gone_costs_no_more_than_it_must() {
    check(Row::Blackholes, 5, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_freezes_costs_no_more_than_it_must() {
    check(Row::Freezes, 5, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_post_without_a_response_is_seen_and_counted_once() {
    check(Row::BrokenPosts, 3, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_a_request_whose_client_went_away() {
    check(Row::Leaves, 3, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_notices_a_config_file_that_is_rewritten_and_broken() {
    check(Row::ConfigFile, 3, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_sigterm_what_is_in_flight_gets_its_response() {
    check(Row::Stops, 0, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_sigkill_the_last_table_is_there_with_the_first_response() {
    check(Row::Restarts, 0, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_a_killed_proxy_wait_for_the_next_one() {
    check(Row::ProxyKills, 0, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_notices_that_the_proxy_is_replaced() {
    check(Row::Upgrades, 0, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets_stay_open_through_1_000_swaps_and_a_drain() {
    check(Row::WebSockets, 0, 1).await;
}
