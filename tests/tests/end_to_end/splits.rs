//! The split that clients see is the split that was asked for.

use serde_json::json;
use tests::{Load, TestEndpoint, TestProxy};

const TEN_THOUSAND: [&str; 6] = ["--rate", "0", "--connections", "16", "--count", "10000"];

#[tokio::test]
async fn over_10_000_requests_90_to_10_is_within_a_point() {
    let proxy = TestProxy::start().await;
    let (old, new) = (
        TestEndpoint::start("1.0.0").await,
        TestEndpoint::start("2.0.0").await,
    );
    proxy
        .put_web(&[&old, &new], json!({"1.0.0": 90, "2.0.0": 10}))
        .await;
    let seen = Load::start(proxy.address, &TEN_THOUSAND).finished().await;
    seen.expect_no_failure();
    assert_eq!(seen.ok("1.0.0") + seen.ok("2.0.0"), 10_000);
    assert!(seen.ok("2.0.0").abs_diff(1_000) <= 100, "{seen:?}");
    // Permuted blocks do far better than a point: a few requests a worker.
    assert!(seen.ok("2.0.0").abs_diff(1_000) <= 20, "{seen:?}");
}

#[tokio::test]
async fn a_hundred_to_0_is_exact() {
    let proxy = TestProxy::start().await;
    let (old, new) = (
        TestEndpoint::start("1.0.0").await,
        TestEndpoint::start("2.0.0").await,
    );
    proxy
        .put_web(&[&old, &new], json!({"1.0.0": 0, "2.0.0": 100}))
        .await;
    let seen = Load::start(proxy.address, &TEN_THOUSAND).finished().await;
    seen.expect_no_failure();
    assert_eq!((seen.ok("1.0.0"), seen.ok("2.0.0")), (0, 10_000));
}

#[tokio::test]
async fn a_change_holds_from_the_moment_of_its_response() {
    let proxy = TestProxy::start().await;
    let (old, new) = (
        TestEndpoint::start("1.0.0").await,
        TestEndpoint::start("2.0.0").await,
    );
    proxy.put_web(&[&old, &new], json!({"1.0.0": 1})).await;
    let hundred = ["--rate", "0", "--count", "100"];
    for (split, want) in [
        (json!({"2.0.0": 1}), "2.0.0"),
        (json!({"1.0.0": 1}), "1.0.0"),
    ] {
        proxy.split(split).await;
        let seen = Load::start(proxy.address, &hundred).finished().await;
        assert_eq!(seen.ok(want), 100, "{seen:?}");
    }
}

#[tokio::test]
async fn endpoint_weights_divide_their_version_and_leave_the_split_alone() {
    let proxy = TestProxy::start().await;
    let (a, b) = (
        TestEndpoint::start("a").await,
        TestEndpoint::start("b").await,
    );
    let other = TestEndpoint::start("other").await;
    proxy
        .must(
            "PUT",
            "/v1/services/web",
            json!({"split": {"1": 50, "2": 50}, "endpoints": [
                {"address": a.address.to_string(), "version": "1", "weight": 3},
                {"address": b.address.to_string(), "version": "1", "weight": 1},
                {"address": other.address.to_string(), "version": "2"},
            ]}),
        )
        .await;
    let flags = ["--rate", "0", "--connections", "8", "--count", "8000"];
    let seen = Load::start(proxy.address, &flags).finished().await;
    for (version, want) in [("a", 3_000), ("b", 1_000), ("other", 4_000)] {
        assert!(seen.ok(version).abs_diff(want) <= 20, "{version}: {seen:?}");
    }
}
