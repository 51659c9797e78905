//! Copies of requests before the candidate's first share.

use super::*;

const MIRROR: &str = "steps=mirror=20,50,100";

fn mirrored(test: &TestProject) -> Handle {
    spawn(test.project.clone(), test.begin(MIRROR))
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_responds_well_to_copies_goes_on_to_requests() {
    let test = TestProject::new().await;
    // Bad requests of clients get the same response from both.
    test.proxy.send_bad_requests(30);
    let handle = mirrored(&test);
    until_step(&handle, 0).await;
    let mut live = handle.watch();
    live.wait_for(|live| live.candidate.attempts > 0)
        .await
        .expect("copies are seen");
    assert_eq!(test.proxy.mirror(), Some(("2.0.0".into(), 20)));
    assert_eq!(test.proxy.split(), split(&[("1.0.0", 100), ("2.0.0", 0)]));
    until_step(&handle, 1).await;
    handle.ended().await;
    assert_eq!(test.proxy.mirror(), None);
    check_promoted(&test);
    let texts: Vec<String> = test.events().into_iter().map(|event| event.text).collect();
    let says = |words: &str| texts.iter().any(|text| text.contains(words));
    assert!(
        says("step 1 of 3: copies of 20% to 2.0.0 on 1 container"),
        "{texts:#?}"
    );
    assert!(says("(at copies of 20% "), "{texts:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_fails_copies_is_rolled_back_before_it_had_a_request() {
    for refuse in [false, true] {
        let test = TestProject::new().await;
        test.proxy.send_bad_requests(10);
        if refuse {
            test.proxy.refuse("2.0.0", 40);
        } else {
            test.proxy.fail("2.0.0", 33);
        }
        mirrored(&test).ended().await;
        check_rolled_back(&test, "requests failed");
        assert_eq!(test.proxy.mirror(), None);
        let calls = test.calls.all();
        assert!(
            calls.iter().all(|call| !call.contains("\"2.0.0\": 50")),
            "{calls:#?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_starts_again_goes_on_with_the_copies_that_it_knew() {
    let test = TestProject::new().await;
    let handle = mirrored(&test);
    until_step(&handle, 0).await;
    handle.send(Command::Pause).await.expect("paused");
    let mut live = handle.watch();
    live.wait_for(|live| live.candidate.attempts >= 200)
        .await
        .expect("watched");
    handle.stop();
    let handle = test.take_up().expect("unfinished");
    let mut live = handle.watch();
    let first = live
        .wait_for(|live| live.candidate.attempts > 0)
        .await
        .expect("watched")
        .candidate
        .attempts;
    assert!(first >= 200, "{first} are known");
    handle.send(Command::Resume).await.expect("resumed");
    handle.ended().await;
    check_promoted(&test);
}

#[tokio::test(start_paused = true)]
async fn a_split_by_hand_ends_the_copies() {
    let test = TestProject::new().await;
    let handle = mirrored(&test);
    until_step(&handle, 0).await;
    let by_hand = split(&[("1.0.0", 1), ("2.0.0", 1)]);
    handle
        .send(Command::Split(by_hand.clone()))
        .await
        .expect("set");
    assert_eq!((test.proxy.split(), test.proxy.mirror()), (by_hand, None));
}
