//! How old the oldest is that is in flight at an endpoint. No request pays for it: a worker looks
//! through its attempts when it is asked.

use std::time::Duration;

use admin_api::Oldest;
use serde::{Deserialize, Serialize};

use crate::table::counts::claim::{InFlight, Kind};

/// The ages of the oldest, by kind. `None`: nothing of the kind is in flight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ages {
    requests: Option<Duration>,
    #[serde(default)]
    streams: Option<Duration>,
    upgraded: Option<Duration>,
}

impl Ages {
    /// Something of this kind is so old.
    pub(crate) fn note(&mut self, kind: Kind, age: Duration) {
        let oldest = match kind {
            Kind::Request => &mut self.requests,
            Kind::Stream => &mut self.streams,
            Kind::Upgraded => &mut self.upgraded,
        };
        *oldest = (*oldest).max(Some(age));
    }

    /// Adds what another process has in flight.
    pub(crate) fn add(&mut self, other: &Self) {
        self.requests = self.requests.max(other.requests);
        self.streams = self.streams.max(other.streams);
        self.upgraded = self.upgraded.max(other.upgraded);
    }

    /// As a receipt says it that has so much in flight.
    pub(crate) fn oldest(&self, in_flight: InFlight) -> Oldest {
        let millis = |age: Option<Duration>, count: u64| {
            let age = age.filter(|_| count > 0)?;
            u64::try_from(age.as_millis()).ok()
        };
        Oldest {
            requests_ms: millis(self.requests, in_flight.requests),
            streams_ms: millis(self.streams, in_flight.streams),
            upgraded_ms: millis(self.upgraded, in_flight.upgraded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_counts_and_only_while_something_is_in_flight() {
        let seconds = Duration::from_secs;
        let mut ages = Ages::default();
        ages.note(Kind::Request, seconds(2));
        ages.note(Kind::Request, seconds(5));
        let mut remote = Ages::default();
        remote.note(Kind::Request, seconds(3));
        remote.note(Kind::Stream, seconds(7));
        remote.note(Kind::Upgraded, seconds(60));
        ages.add(&remote);
        let at = |requests, streams, upgraded| {
            ages.oldest(InFlight {
                requests,
                streams,
                upgraded,
            })
        };
        let all = Oldest {
            requests_ms: Some(5_000),
            streams_ms: Some(7_000),
            upgraded_ms: Some(60_000),
        };
        assert_eq!(at(3, 1, 1), all);
        let requests_ms = None;
        assert_eq!(at(0, 1, 1), Oldest { requests_ms, ..all });
        assert!(at(0, 0, 0).is_empty());
    }
}
