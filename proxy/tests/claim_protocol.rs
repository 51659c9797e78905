//! The claim protocol under every interleaving: `src/table/counts/claim.rs` itself, compiled
//! against loom's atomics in place of std's.

#[expect(
    dead_code,
    reason = "what the protocol does not need is not called here"
)]
#[path = "../src/table/counts/claim.rs"]
mod claim;

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
}

use claim::{Claims, InFlight};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

/// Requests are "sent" to a container that the drain stops as soon as it has its receipt.
/// A request that is sent to a stopped container is what must never happen.
#[test]
fn no_claim_is_held_at_an_endpoint_that_was_seen_drained() {
    loom::model(|| {
        let claims = Arc::new(Claims::new(2));
        let stopped = Arc::new(AtomicBool::new(false));

        let workers: Vec<_> = (0..2)
            .map(|worker| {
                let (claims, stopped) = (claims.clone(), stopped.clone());
                thread::spawn(move || {
                    if claims.take(worker) {
                        assert!(
                            !stopped.load(Ordering::Relaxed),
                            "sent to a stopped container"
                        );
                        claims.release(worker);
                    }
                })
            })
            .collect();

        claims.retire();
        if claims.in_flight().is_empty() {
            stopped.store(true, Ordering::Relaxed);
        }
        for worker in workers {
            worker.join().unwrap();
        }
        assert!(claims.in_flight().is_empty());
        assert!(!claims.take(0));
    });
}

/// While a request becomes an upgraded connection, a drain sees one or the other.
#[test]
fn an_upgrade_is_never_seen_as_nothing_in_flight() {
    loom::model(|| {
        let claims = Arc::new(Claims::new(1));
        let stopped = Arc::new(AtomicBool::new(false));
        assert!(claims.take(0));

        let worker = {
            let (claims, stopped) = (claims.clone(), stopped.clone());
            thread::spawn(move || {
                claims.upgrade(0);
                assert!(!stopped.load(Ordering::Relaxed), "cut while it was open");
                claims.release_upgraded(0);
            })
        };

        claims.retire();
        if claims.in_flight().is_empty() {
            stopped.store(true, Ordering::Relaxed);
        }
        worker.join().unwrap();
        assert!(claims.in_flight().is_empty());
    });
}

/// While a request becomes a stream, a drain sees one or the other.
#[test]
fn a_stream_is_never_seen_as_nothing_in_flight() {
    loom::model(|| {
        let claims = Arc::new(Claims::new(1));
        let stopped = Arc::new(AtomicBool::new(false));
        assert!(claims.take(0));

        let worker = {
            let (claims, stopped) = (claims.clone(), stopped.clone());
            thread::spawn(move || {
                claims.stream(0);
                assert!(!stopped.load(Ordering::Relaxed), "cut while it was open");
                claims.release_stream(0);
            })
        };

        claims.retire();
        if claims.in_flight().is_empty() {
            stopped.store(true, Ordering::Relaxed);
        }
        worker.join().unwrap();
        assert!(claims.in_flight().is_empty());
    });
}

#[test]
fn claims_are_counted_by_kind() {
    loom::model(|| {
        let claims = Claims::new(2);
        assert!(claims.take(0));
        assert!(claims.take(1));
        claims.retire();
        assert!(claims.is_retired());
        assert!(!claims.take(0));
        assert_eq!(
            claims.in_flight(),
            InFlight {
                requests: 2,
                streams: 0,
                upgraded: 0
            }
        );
        claims.release(0);
        claims.upgrade(1);
        assert_eq!(
            claims.in_flight(),
            InFlight {
                requests: 0,
                streams: 0,
                upgraded: 1
            }
        );
        claims.release_upgraded(1);
        assert!(claims.in_flight().is_empty());
        assert_eq!(claims.taken(), 2);
    });
}
