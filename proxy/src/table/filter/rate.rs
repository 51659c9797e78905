//! How many requests of one client are taken in a time: the generic cell rate algorithm (GCRA), with
//! memory that is bounded, however many clients there are.
//!
//! Of a client one number is kept: until when its requests of the past suffice by the rate. That moves
//! on by one interval with each request that is taken, from the present at least; a request is taken
//! while it is not more than the burst ahead of the present.
//!
//! All workers share these numbers: a client may have one connection, at any of them, so to divide the
//! rate by the workers would give most clients a part of it. A request touches the cache line of its own
//! key alone. Keys of all services are in one table of fixed size, by a hash with a random secret. Where
//! a key has no place among the eight of its cache line, it takes that of the key which is the least
//! ahead: in a flood of new keys, that is another of these, and those that send much stay.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use admin_api::{LimitKey, RequestRateSpec};
use http::HeaderName;

use crate::table::key::KeySource;
use crate::table::rendezvous::hash;

/// Two mebibytes in all, once a service has such a limit.
const LINES: usize = 1 << 15;
/// Keys in a cache line.
const IN_LINE: usize = 8;
/// A key's number is in the lower bits, in microseconds: enough for 8 years. The upper ones have a
/// part of its hash, which is never 0.
const TIME_BITS: u32 = 48;
const TIME: u64 = (1 << TIME_BITS) - 1;

/// The keys of all services.
static CELLS: LazyLock<Cells> = LazyLock::new(Cells::default);

/// The limit of a service.
#[derive(Debug)]
pub(crate) struct RequestRate {
    spec: RequestRateSpec,
    pub(crate) by: KeyOfLimit,
    pace: Pace,
    /// Its keys are no other limit's.
    id: u64,
}

/// Which requests count together.
#[derive(Debug)]
pub(crate) enum KeyOfLimit {
    Host,
    Of(KeySource),
}

/// What a request counts by.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Key<'k> {
    /// The bytes of an address.
    Address(&'k [u8]),
    /// A host, or the value of a header field or a cookie.
    Value(&'k [u8]),
}

/// The limit in microseconds.
#[derive(Debug, Clone, Copy)]
struct Pace {
    interval: u64,
    /// How far ahead of the present a key may be for its next request to be taken.
    ahead: u64,
}

/// Where the keys are.
#[derive(Debug)]
struct Cells {
    begun: Instant,
    secret: (u64, u64),
    lines: Box<[Line]>,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU64; IN_LINE]);

/// A request that is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany {
    /// When the next one is taken.
    pub(crate) wait: Duration,
}

impl RequestRate {
    /// Of a setting that was checked. What `previous` knows of the same limit goes on.
    pub(super) fn of(spec: &RequestRateSpec, previous: Option<&Self>) -> Self {
        let same = previous.filter(|previous| previous.spec == *spec);
        let interval = (spec.rate.interval().as_micros() as u64).max(1);
        Self {
            by: KeyOfLimit::of(&spec.by),
            pace: Pace {
                interval,
                ahead: interval * u64::from(spec.burst() - 1),
            },
            id: same.map_or_else(rand::random, |same| same.id),
            spec: spec.clone(),
        }
    }

    /// Takes one request with this key, or says when it may come again.
    pub(crate) fn take(&self, key: Key<'_>) -> Result<(), TooMany> {
        let now = CELLS.begun.elapsed().as_micros() as u64;
        let (kind, value) = match key {
            Key::Address(ip) => (b"a", ip),
            Key::Value(value) => (b"v", value),
        };
        let key = hash(CELLS.secret, &[&self.id.to_ne_bytes(), kind, value]);
        CELLS.take(key, now, self.pace)
    }

    /// How many requests are taken at once.
    pub(crate) fn burst(&self) -> u32 {
        self.spec.burst()
    }

    /// How long it takes until that many are taken again.
    pub(crate) fn window(&self) -> Duration {
        self.spec.rate.interval() * self.burst()
    }
}

impl KeyOfLimit {
    fn of(key: &LimitKey) -> Self {
        Self::Of(match key {
            LimitKey::Host => return Self::Host,
            LimitKey::Address => KeySource::Address,
            LimitKey::Header(name) => match HeaderName::try_from(name) {
                Ok(name) => KeySource::Header(name),
                // It was checked.
                Err(_) => KeySource::Address,
            },
            LimitKey::Cookie(name) => KeySource::Cookie(name.as_str().into()),
        })
    }
}

impl Default for Cells {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            secret: rand::random(),
            lines: (0..LINES).map(|_| Line::default()).collect(),
        }
    }
}

impl Cells {
    fn take(&self, key: u64, now: u64, pace: Pace) -> Result<(), TooMany> {
        let Line(line) = &self.lines[key as usize % LINES];
        let tag = (key >> TIME_BITS).max(1) << TIME_BITS;
        loop {
            let (cell, before) = find(line, tag);
            // Of a key that had no place, nothing is known.
            let known = if before & !TIME == tag {
                before & TIME
            } else {
                0
            };
            let from = known.max(now);
            let ahead = from - now;
            if ahead > pace.ahead {
                let wait = Duration::from_micros(ahead - pace.ahead);
                return Err(TooMany { wait });
            }
            let after = tag | (from + pace.interval) & TIME;
            // Where another worker was faster, it is looked at again.
            let order = Ordering::Relaxed;
            if cell.compare_exchange(before, after, order, order).is_ok() {
                return Ok(());
            }
        }
    }
}

/// The cell of a key, and what it has; or the one that it takes.
fn find(line: &[AtomicU64; IN_LINE], tag: u64) -> (&AtomicU64, u64) {
    let mut least = (&line[0], TIME);
    for cell in line {
        let has = cell.load(Ordering::Relaxed);
        if has & !TIME == tag {
            return (cell, has);
        }
        if has & TIME < least.1 & TIME {
            least = (cell, has);
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;
    use crate::table::rendezvous::mix;

    /// In microseconds.
    const SECOND: u64 = 1_000_000;

    fn pace(per_second: u64, burst: u64) -> Pace {
        let interval = SECOND / per_second;
        let ahead = interval * (burst - 1);
        Pace { interval, ahead }
    }

    /// How many of so many requests at this time are taken.
    fn taken(cells: &Cells, key: u64, now: u64, pace: Pace, count: usize) -> usize {
        (0..count)
            .filter(|_| cells.take(key, now, pace).is_ok())
            .count()
    }

    #[test]
    fn a_burst_is_taken_at_once_and_then_as_many_as_the_rate_has() {
        let (cells, pace) = (Cells::default(), pace(10, 5));
        assert_eq!(taken(&cells, 7, 0, pace, 20), 5);
        let wait = Duration::from_millis(100);
        assert_eq!(cells.take(7, 0, pace), Err(TooMany { wait }));
        assert_eq!(taken(&cells, 7, SECOND / 10 - 1, pace, 20), 0);
        assert_eq!(taken(&cells, 7, SECOND / 10, pace, 20), 1);
        // What was not used is saved up to the burst, and no further.
        assert_eq!(taken(&cells, 7, 4 * SECOND / 10, pace, 20), 3);
        assert_eq!(taken(&cells, 7, 3600 * SECOND, pace, 20), 5);
        let in_a_minute = (0..60_000).filter(|ms| {
            let now = 7200 * SECOND + ms * 1000;
            cells.take(8, now, pace).is_ok()
        });
        assert_eq!(in_a_minute.count(), 5 + 599);
    }

    #[test]
    fn keys_do_not_count_together() {
        let (cells, pace) = (Cells::default(), pace(1, 2));
        for key in 0..1000 {
            assert_eq!(taken(&cells, mix(key), 0, pace, 5), 2, "{key}");
        }
    }

    #[test]
    fn ten_million_keys_take_no_more_memory_and_hide_none_that_sends_much() {
        let (cells, pace) = (Cells::default(), pace(100, 200));
        let heavy = mix(u64::MAX);
        assert_eq!(taken(&cells, heavy, 0, pace, 1000), 200);
        let bytes = size_of_val(&*cells.lines);
        // Each of them has one request, all within the time that the first has to wait.
        let taken_of_others =
            (0..10_000_000).filter(|n| cells.take(mix(*n), n / 2000, pace).is_ok());
        let count = taken_of_others.count();
        assert!(
            count > 9_999_000,
            "{count}: a few share their key's place and hash"
        );
        assert_eq!(taken(&cells, heavy, 5000, pace, 1000), 0);
        assert_eq!(size_of_val(&*cells.lines), bytes);
        assert_eq!(bytes, 2 << 20);
    }

    #[test]
    fn workers_share_the_limit() {
        let (cells, pace) = (Arc::new(Cells::default()), pace(1, 1000));
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let cells = cells.clone();
                thread::spawn(move || taken(&cells, 7, 0, pace, 2000))
            })
            .collect();
        let all = workers.into_iter().map(|worker| worker.join().unwrap());
        assert_eq!(all.sum::<usize>(), 1000);
    }

    #[test]
    fn the_same_limit_goes_on_in_the_next_table_and_another_begins_anew() {
        let spec = |rate: &str| RequestRateSpec {
            rate: rate.parse().unwrap(),
            burst: Some(1),
            by: LimitKey::Address,
        };
        let (key, other) = (Key::Value(b"a"), Key::Address(b"a"));
        let first = RequestRate::of(&spec("1/h"), None);
        assert!(first.take(key).is_ok() && first.take(key).is_err());
        assert!(first.take(other).is_ok());
        let same = RequestRate::of(&spec("1/h"), Some(&first));
        assert!(same.take(key).is_err());
        assert!(RequestRate::of(&spec("1/h"), None).take(key).is_ok());
        assert!(RequestRate::of(&spec("2/h"), Some(&same)).take(key).is_ok());
    }
}
