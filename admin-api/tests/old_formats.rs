//! What the proxy of release 0.1.0 of November 2026 responds is still read. `old_formats/` has its
//! responses.

use admin_api::{DrainReceipt, OutcomeStats, ServiceStats, ServiceView, Status};

#[test]
fn statistics_of_that_release_are_read() {
    let stats: ServiceStats =
        serde_json::from_str(include_str!("old_formats/stats.json")).expect("statistics");
    assert_eq!(stats.versions["1.0.0"].responses.success, 55);
    assert_eq!(stats.versions["1.0.0"].forced, OutcomeStats::default());
    let requests = stats.versions["1.0.0"].requests();
    assert_eq!(
        requests,
        stats.versions["1.0.0"].attempts(),
        "it knows of no other unit"
    );
    let latency = &stats.versions["1.0.0"].latency;
    let count: u64 = latency.iter().map(|bucket| bucket.count).sum();
    assert_eq!(count, 55);
    assert_eq!(stats.mirror.expect("it has a mirror").version, "2.0.0");
}

#[test]
fn services_and_receipts_of_that_release_are_read() {
    let service: ServiceView =
        serde_json::from_str(include_str!("old_formats/service.json")).expect("a service");
    assert_eq!(service.split["2.0.0"], 10);
    let receipt: DrainReceipt =
        serde_json::from_str(include_str!("old_formats/receipt.json")).expect("a receipt");
    assert!(receipt.drained && !receipt.forced);
}

#[test]
fn the_status_of_that_release_is_read_and_of_this_one_has_the_old_key_too() {
    let mut status: Status =
        serde_json::from_str(include_str!("old_formats/status.json")).expect("a status");
    assert_eq!((status.generation, status.elders), (4, 0));
    (status.draining_processes, status.elders) = (2, 2);
    let written = serde_json::to_value(&status).expect("JSON");
    assert_eq!(
        (&written["draining_processes"], &written["elders"]),
        (&2.into(), &2.into())
    );
}
