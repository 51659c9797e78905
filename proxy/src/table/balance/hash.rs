//! Always the same endpoint for the same key: weighted rendezvous hashing.
//!
//! Every endpoint draws a number from the key and its own address, and the smallest wins; the
//! numbers of heavier endpoints are smaller ([`crate::table::rendezvous`]). So the shares are
//! exactly the weights, without a ring to build at each swap. When an endpoint goes, its keys move
//! and no others; when one comes, it takes only the keys that it then has. A look at an endpoint
//! costs some ten nanoseconds, so this is for versions with up to some hundred endpoints.

use std::sync::Arc;

use super::{Endpoints, PickContext};
use crate::table::endpoint::{Endpoint, FULL};
use crate::table::rendezvous;

pub(super) fn claim<'v>(
    endpoints: &'v Endpoints,
    context: PickContext<'_>,
    key: u64,
) -> Option<&'v Arc<Endpoint>> {
    // One that was retired since this table was read refuses the claim; the next in line
    // for the key gets it then.
    let mut refused = Vec::new();
    loop {
        let candidates = (0..endpoints.list.len())
            .filter(|at| !refused.contains(at))
            .map(|at| {
                let share = f64::from(endpoints.share(at, context)) / f64::from(FULL);
                let weight = f64::from(endpoints.weights[at]) * share;
                (at, endpoints.list[at].seed, weight)
            });
        let at = rendezvous::winner(key, candidates)?;
        match endpoints.take(at, context) {
            Some(endpoint) => return Some(endpoint),
            None => refused.push(at),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use crate::testing::{key_hints, service};

    /// Where each of `keys` goes.
    fn places(endpoints: &[(&str, u32)], keys: u64) -> HashMap<u64, String> {
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|(address, weight)| {
                serde_json::json!({"address": address, "version": "1", "weight": weight})
            })
            .collect();
        let spec = serde_json::json!({"name": "web", "balance": {"hash": "address"}, "endpoints": endpoints});
        let service = service(&spec.to_string(), None);
        (0..keys)
            .map(|key| {
                let pick = service.claim(0, &key_hints(key)).unwrap();
                pick.endpoint.claims.release(0);
                (key, pick.endpoint.address.to_string())
            })
            .collect()
    }

    const FOUR: [(&str, u32); 4] = [
        ("10.0.0.1:80", 1),
        ("10.0.0.2:80", 1),
        ("10.0.0.3:80", 2),
        ("10.0.0.4:80", 4),
    ];

    #[test]
    fn a_key_has_one_place_and_keys_divide_by_weight() {
        let places = places(&FOUR, 16_000);
        for (address, weight) in FOUR {
            let count = places.values().filter(|place| **place == address).count();
            let want = 2_000 * weight as usize;
            assert!(count.abs_diff(want) < want / 10, "{address}: {count}");
        }
    }

    #[test]
    fn when_an_endpoint_goes_only_its_own_keys_move() {
        let (before, after) = (places(&FOUR, 8_000), places(&FOUR[..3], 8_000));
        for (key, place) in &before {
            if place != "10.0.0.4:80" {
                assert_eq!(after[key], *place, "key {key} moved for nothing");
            }
        }
        let rest = after.values().filter(|place| *place == "10.0.0.3:80");
        assert!(rest.count().abs_diff(4_000) < 300);
    }

    #[test]
    fn a_key_whose_endpoint_is_down_goes_elsewhere_and_comes_back() {
        let endpoints = r#""endpoints":[{"address":"10.0.0.1:80","version":"1"},{"address":"10.0.0.2:80","version":"1"}]"#;
        let spec = format!(r#"{{"name":"web","balance":{{"hash":"address"}},{endpoints}}}"#);
        let service = service(&spec, None);
        let place = || service.claim(0, &key_hints(7)).unwrap().endpoint.id;
        let home = place();
        let endpoint = service.endpoints().find(|e| e.id == home).unwrap();
        endpoint.set_health(Err("refused".into()));
        assert_ne!(place(), home);
        endpoint.set_health(Ok(()));
        assert_eq!(place(), home);
        endpoint.claims.retire();
        assert_ne!(place(), home);
    }
}
