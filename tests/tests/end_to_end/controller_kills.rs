//! The short form of `make soak ROWS=controller-kills`.

use tests::On;
use tests::controller_kills::{Survived, at_every_event, at_random_moments};

#[tokio::test]
async fn a_controller_killed_whenever_something_has_happened_ends_its_rollouts_as_it_would_have() {
    // Events that come at the same moment share a kill, so there are fewer of these than of those.
    check(&at_every_event(On::Processes).await, 8);
}

#[tokio::test]
async fn a_controller_killed_at_random_moments_ends_its_rollouts_as_it_would_have() {
    let seed = std::process::id().into();
    check(&at_random_moments(On::Processes, 12, seed).await, 12);
}

#[track_caller]
fn check(survived: &Survived, kills: usize) {
    assert!(survived.kills >= kills, "{survived:#?}");
    assert!(survived.seen.requests > 0, "nothing was asked");
    assert_eq!(survived.lost(), 0, "{survived:#?}");
}
