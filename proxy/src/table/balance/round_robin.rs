//! In turn, by weight.
//!
//! Where all weights are the same, each endpoint has its turn once in a round. Where they are
//! not, turns come from the low-discrepancy sequence, which spreads those of a heavy endpoint
//! over the round. An endpoint that cannot be used is passed over, and its turns are shared by
//! the others in the same way.

use std::sync::Arc;

use super::{DRAWS, Endpoints, PickContext};
use crate::table::endpoint::Endpoint;

pub(super) fn claim<'v>(
    endpoints: &'v Endpoints,
    context: PickContext<'_>,
) -> Option<&'v Arc<Endpoint>> {
    let ring = &endpoints.ring;
    let mut at = 0;
    for _ in 0..DRAWS {
        let point = endpoints.sequence.advance(context.worker, ring.step());
        at = ring.at(point)?;
        if endpoints.admits(at, context, point)
            && let Some(endpoint) = endpoints.take(at, context)
        {
            return Some(endpoint);
        }
    }
    endpoints
        .usable_after(at, context)
        .find_map(|at| endpoints.take(at, context))
}
