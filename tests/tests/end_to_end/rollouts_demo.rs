//! `crossfade demo` on child processes.

use tests::{On, TestDemo};

#[tokio::test]
async fn the_demo_keeps_its_promises_and_leaves_nothing() {
    let demo = TestDemo::start(On::Processes, " up: web 1.0.0 × 4").await;
    let finished = demo.finished().await;
    assert_eq!(finished.code, Some(0), "{finished:#?}");
    assert!(
        finished
            .stdout
            .contains("all stages completed; 0 requests failed"),
        "{finished:#?}"
    );
}

#[tokio::test]
async fn a_demo_that_is_interrupted_anywhere_leaves_nothing() {
    let finished = TestDemo::interrupt_at_once(On::Processes).await;
    assert_eq!(finished.code, Some(1), "{finished:#?}");
    let interrupted = async |begun: &str, text: &str| {
        let demo = TestDemo::start(On::Processes, begun).await;
        let finished = demo.interrupt_at(text).await;
        assert_eq!(finished.code, Some(1), "{finished:#?}");
        assert!(finished.stderr.contains("interrupted"), "{finished:#?}");
    };
    let up = " up: web 1.0.0 × 4";
    tokio::join!(
        interrupted(up, "back to 2.0.0"),
        interrupted(up, "▶ 2.0.0 canary"),
        interrupted("listening on", "listening on"),
    );
}
