//! How often the disk is asked to keep what has changed. A call that comes alone is written at once.
//! Where calls come side by side, they wait for one another for a moment: a write costs about as much
//! as all else that a change needs, and one is enough for all of them.

use std::time::Duration;

use tokio::time::Instant;

/// From the beginning of one write to that of the next, while calls come side by side.
const GAP: Duration = Duration::from_millis(8);
/// How long calls count as coming side by side after some did.
const SIDE_BY_SIDE: Duration = Duration::from_millis(100);

/// When writes began, and when calls were last seen side by side.
#[derive(Debug, Default)]
pub(super) struct Pace {
    begun: Option<Instant>,
    side_by_side: Option<Instant>,
}

impl Pace {
    /// Gives when the next write is to begin, which is noted as begun then. `others` says whether
    /// other calls wait for it, too.
    pub(super) fn next(&mut self, now: Instant, others: bool) -> Instant {
        if others {
            self.side_by_side = Some(now);
        }
        let shares = self
            .side_by_side
            .is_some_and(|seen| now - seen <= SIDE_BY_SIDE);
        let due = match self.begun {
            Some(begun) if shares => now.max(begun + GAP),
            _ => now,
        };
        self.begun = Some(due);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_wait_for_one_another_only_where_they_come_side_by_side() {
        let began = Instant::now();
        let at = |millis| began + Duration::from_millis(millis);
        let mut pace = Pace::default();
        for (now, others, want, what) in [
            (0, false, 0, "the first"),
            (1, false, 1, "one after the other"),
            (2, true, 9, "two at once, behind one that was just written"),
            (9, true, 17, "and so on"),
            (30, true, 30, "none was written for a while"),
            (31, false, 38, "others may come"),
            (131, false, 131, "none came for long"),
            (132, false, 132, "one after the other again"),
        ] {
            assert_eq!(pace.next(at(now), others), at(want), "{what}");
        }
    }
}
