//! Of two endpoints drawn by weight, the one with less in flight for its weight.
//!
//! A worker compares its own claims, not the sums over all workers: those are in cache lines
//! that the others write at every request, and reading them would make each of these writes a
//! miss. Requests reach the workers evenly, so what is even within each worker is even in sum.
//! Two choices and not all of them: it is nearly as even, costs the same for ten endpoints and
//! for ten thousand, and a new endpoint, which has nothing in flight, is not stormed.

use std::sync::Arc;

use super::{DRAWS, Endpoints, PickContext};
use crate::table::endpoint::Endpoint;
use crate::table::rendezvous::mix;

pub(super) fn claim<'v>(
    endpoints: &'v Endpoints,
    context: PickContext<'_>,
) -> Option<&'v Arc<Endpoint>> {
    let first = drawn(endpoints, context, None)?;
    let second = drawn(endpoints, context, Some(first));
    let better = match second {
        Some(second) if is_less(endpoints, context.worker, second, first) => second,
        _ => first,
    };
    endpoints.take(better, context).or_else(|| {
        endpoints
            .usable_after(better, context)
            .find_map(|at| endpoints.take(at, context))
    })
}

/// An endpoint that can be used, other than `not` where there is one.
fn drawn(endpoints: &Endpoints, context: PickContext<'_>, not: Option<usize>) -> Option<usize> {
    let mut at = 0;
    for _ in 0..DRAWS {
        let point = endpoints.sequence.next(context.worker);
        // Neighbours in the sequence would always be the same pairs.
        at = endpoints.ring.at(mix(point))?;
        if Some(at) != not && endpoints.admits(at, context, point) {
            return Some(at);
        }
    }
    endpoints
        .usable_after(at, context)
        .find(|at| Some(*at) != not)
}

/// Whether `one` has less in flight for its weight than `other`.
fn is_less(endpoints: &Endpoints, worker: usize, one: usize, other: usize) -> bool {
    let load = |at: usize| u128::from(endpoints.list[at].claims.own(worker));
    let weight = |at: usize| u128::from(endpoints.weights[at]);
    load(one) * weight(other) < load(other) * weight(one)
}

#[cfg(test)]
mod tests {
    use crate::table::routing_hints::RoutingHints;
    use crate::testing::{picks, service};

    fn spec(weights: &[u32]) -> String {
        let endpoints: Vec<_> = (1..)
            .zip(weights)
            .map(|(i, weight)| {
                let address = format!("10.0.0.{i}:80");
                serde_json::json!({"address": address, "version": "1", "weight": weight})
            })
            .collect();
        serde_json::json!({"name": "web", "balance": "least_in_flight", "endpoints": endpoints})
            .to_string()
    }

    #[test]
    fn with_nothing_in_flight_weights_decide() {
        let service = service(&spec(&[3, 1]), None);
        let counts = picks(&service, 10_000);
        assert!(counts["10.0.0.1:80"].abs_diff(7_500) < 300, "{counts:?}");
    }

    #[test]
    fn what_is_in_flight_stays_even_for_the_weights() {
        let service = service(&spec(&[2, 1, 1, 4]), None);
        for _ in 0..8_000 {
            service.claim(0, &RoutingHints::NONE).unwrap();
        }
        let endpoints: Vec<_> = service.endpoints().collect();
        for (endpoint, want) in endpoints.iter().zip([2_000, 1_000, 1_000, 4_000]) {
            let have = endpoint.claims.own(0);
            assert!(have.abs_diff(want) < 50, "{have}, not {want}");
        }
    }

    #[test]
    fn an_endpoint_that_responds_slowly_gets_little() {
        let service = service(&spec(&[1, 1, 1]), None);
        let slow = service.endpoints().next().unwrap().clone();
        let mut given = 0;
        for _ in 0..9_000 {
            let pick = service.claim(0, &RoutingHints::NONE).unwrap();
            if pick.endpoint.id == slow.id {
                given += 1;
            } else {
                pick.endpoint.claims.release(0);
            }
        }
        // Its claims are never released here: it gets the next one only while it has none.
        assert_eq!(given, 1);
    }

    #[test]
    fn the_only_one_that_is_left_gets_everything() {
        let service = service(&spec(&[1, 1, 1]), None);
        let endpoints: Vec<_> = service.endpoints().cloned().collect();
        endpoints[0].set_health(Err("refused".into()));
        endpoints[1].claims.retire();
        for _ in 0..100 {
            let pick = service.claim(0, &RoutingHints::NONE).unwrap();
            assert_eq!(pick.endpoint.id, endpoints[2].id);
        }
        endpoints[2].claims.retire();
        assert!(service.claim(0, &RoutingHints::NONE).is_none());
    }
}
