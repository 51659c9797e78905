//! In turn, by weight.
//!
//! Where all weights are the same, each endpoint has its turn once in a round. Where they are
//! not, turns come from the low-discrepancy sequence, which spreads those of a heavy endpoint
//! over the round. An endpoint that cannot be used is passed over, and its turns are shared by
//! the others in the same way.

use std::sync::Arc;

use super::{DRAWS, Draw, Endpoints};
use crate::table::endpoint::Endpoint;

pub(super) fn claim<'v>(endpoints: &'v Endpoints, draw: Draw<'_>) -> Option<&'v Arc<Endpoint>> {
    let wheel = &endpoints.wheel;
    let mut at = 0;
    for _ in 0..DRAWS {
        let point = endpoints.sequence.advance(draw.worker, wheel.step());
        at = wheel.at(point)?;
        if endpoints.admits(at, draw, point)
            && let Some(endpoint) = endpoints.take(at, draw)
        {
            return Some(endpoint);
        }
    }
    endpoints
        .usable_after(at, draw)
        .find_map(|at| endpoints.take(at, draw))
}
