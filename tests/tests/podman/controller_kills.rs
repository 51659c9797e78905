//! The short form of `make soak ROWS=controller-kills-podman`.

use tests::On;
use tests::controller_kills::at_random_moments;

pub(crate) async fn a_controller_killed_at_random_moments_ends_its_rollouts_as_it_would_have() {
    let survived = at_random_moments(On::Podman, 5, std::process::id().into()).await;
    assert_eq!(survived.kills, 5);
    assert!(survived.seen.requests > 0, "nothing was asked");
    assert_eq!(survived.lost(), 0, "{survived:#?}");
}
