//! `crossfade demo` on containers.

use tests::{On, TestDemo};

pub(crate) async fn the_demo_keeps_its_promises_and_leaves_nothing() {
    let demo = TestDemo::start(On::Podman, " up: web 1.0.0 × 4").await;
    let finished = demo.finished().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert!(
        finished
            .stdout
            .contains("all stages completed; 0 requests failed"),
        "{finished:#?}"
    );
}

pub(crate) async fn an_interrupted_demo_leaves_nothing() {
    let finished = TestDemo::interrupt_at_once(On::Podman).await;
    assert_eq!(finished.code, Some(1), "{finished:#?}");
    for text in ["listening on", "▶ 2.0.0 canary"] {
        let demo = TestDemo::start(On::Podman, "listening on").await;
        let finished = demo.interrupt_at(text).await;
        assert_eq!(finished.code, Some(1), "{finished:#?}");
        assert!(finished.stderr.contains("interrupted"), "{finished:#?}");
    }
}
