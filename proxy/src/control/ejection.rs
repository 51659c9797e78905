//! Which endpoints of a version are left out for a while because of their responses:
//! a pure function of counts and of time.
//!
//! ```text
//!          failures in a row, or their rate          its time is over, or
//!   in use ───────────────────────────────► ejected ──────────────────────► in use
//!          (a sibling does better, and             no other is left
//!           enough of them are left)
//! ```
//!
//! What all endpoints of a version fail at alike is the version's doing, which the split has to
//! response, and ejecting them one by one would only crowd those that are left.

use std::time::{Duration, Instant};

use admin_api::EjectionSpec;

use crate::table::counts::claim::Outcomes;

/// What is known of one endpoint from one look to the next.
#[derive(Debug)]
pub(crate) struct Record {
    /// At the look before.
    seen: Outcomes,
    /// Failures without a success between them.
    streak: u64,
    /// When the window of the failure rate began, and the counts at that time.
    window: (Instant, Outcomes),
    ejected_until: Option<Instant>,
    /// Ejections that followed each other soon.
    in_a_row: u32,
    readmitted: Option<Instant>,
}

/// One endpoint at one look.
#[derive(Debug)]
pub(crate) struct Member<'r> {
    pub(crate) record: &'r mut Record,
    pub(crate) outcomes: Outcomes,
    /// Its health check passes, or it has none.
    pub(crate) up: bool,
}

/// What a look has come to, for the endpoint at a place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Eject { at: usize, reason: String },
    Readmit { at: usize },
}

impl Record {
    /// An endpoint that is looked at for the first time.
    pub(crate) fn new(now: Instant, outcomes: Outcomes) -> Self {
        Self {
            seen: outcomes,
            streak: 0,
            window: (now, outcomes),
            ejected_until: None,
            in_a_row: 0,
            readmitted: None,
        }
    }

    /// An endpoint that was ejected before this monitor saw it.
    pub(crate) fn ejected(now: Instant, outcomes: Outcomes, spec: &EjectionSpec) -> Self {
        let mut record = Self::new(now, outcomes);
        record.eject(now, spec);
        record
    }

    fn take_in(&mut self, outcomes: Outcomes) {
        let since = outcomes.since(self.seen);
        self.streak = if since.good > 0 {
            0
        } else {
            self.streak.saturating_add(since.bad)
        };
        self.seen = outcomes;
    }

    fn in_window(&self) -> Outcomes {
        self.seen.since(self.window.1)
    }

    /// For how long it is ejected now.
    fn eject(&mut self, now: Instant, spec: &EjectionSpec) -> Duration {
        let longest = spec.max_duration.get();
        let soon = |at: Instant| now.saturating_duration_since(at) < longest;
        self.in_a_row = match self.readmitted {
            Some(at) if soon(at) => self.in_a_row.saturating_add(1),
            _ => 1,
        };
        let doublings = (self.in_a_row - 1).min(20);
        let lasts = (spec.duration.get() * (1 << doublings)).min(longest);
        self.ejected_until = Some(now + lasts);
        lasts
    }

    fn readmit(&mut self, now: Instant) {
        self.ejected_until = None;
        self.readmitted = Some(now);
        self.streak = 0;
        self.window = (now, self.seen);
    }
}

/// Looks at all endpoints of one version.
pub(crate) fn sample(members: &mut [Member<'_>], now: Instant, spec: &EjectionSpec) -> Vec<Change> {
    for member in &mut *members {
        member.record.take_in(member.outcomes);
    }
    let mut changes = Vec::new();
    let mut readmit = |members: &mut [Member<'_>], is_over: &dyn Fn(&Member<'_>) -> bool| {
        for (at, member) in members.iter_mut().enumerate() {
            if member.record.ejected_until.is_some() && is_over(member) {
                member.record.readmit(now);
                changes.push(Change::Readmit { at });
            }
        }
    };
    readmit(members, &|member| {
        member
            .record
            .ejected_until
            .is_some_and(|until| until <= now)
    });
    if !members.iter().any(Member::is_in_use) {
        readmit(members, &|member| member.up);
    }
    let most = members.len() * spec.max_share as usize / 100;
    for at in 0..members.len() {
        let in_use = members.iter().filter(|member| member.is_in_use()).count();
        let ejected = members.iter().filter(|member| member.is_ejected()).count();
        if !members[at].is_in_use() || in_use < 2 || ejected >= most {
            continue;
        }
        if let Some(why) = guilt(members, at, spec) {
            let lasts = members[at].record.eject(now, spec);
            let reason = format!("ejected for {lasts:?}: {why}");
            changes.push(Change::Eject { at, reason });
        }
    }
    for Member { record, .. } in members {
        if now.saturating_duration_since(record.window.0) >= spec.window.get() {
            record.window = (now, record.seen);
        }
    }
    changes
}

/// Why an endpoint is to be ejected, if it is.
fn guilt(members: &[Member<'_>], at: usize, spec: &EjectionSpec) -> Option<String> {
    let others = || {
        let all = members.iter().enumerate();
        all.filter(move |(other, member)| *other != at && member.is_in_use())
            .map(|(_, member)| &*member.record)
    };
    let own = &members[at].record;
    let limit = u64::from(spec.consecutive);
    let has_streak = |record: &Record| limit > 0 && record.streak >= limit;
    if has_streak(own) && !others().all(has_streak) {
        return Some(format!("{} failures in a row", own.streak));
    }
    let own = own.in_window();
    let siblings = others().fold(Outcomes::default(), |sum, record| sum + record.in_window());
    let rate = u64::from(spec.failure_rate);
    let is_failing = rate > 0
        && own.total() >= u64::from(spec.min_tries).max(1)
        && own.bad * 100 >= rate * own.total();
    let is_worse = own.bad * siblings.total() >= 2 * siblings.bad * own.total();
    (is_failing && is_worse).then(|| format!("{} of {} attempts failed", own.bad, own.total()))
}

impl Member<'_> {
    fn is_ejected(&self) -> bool {
        self.record.ejected_until.is_some()
    }

    fn is_in_use(&self) -> bool {
        self.up && !self.is_ejected()
    }
}

#[cfg(test)]
mod tests {
    use admin_api::Period;

    use super::*;

    /// A version whose endpoints are looked at once a second.
    struct TestVersion {
        now: Instant,
        spec: EjectionSpec,
        records: Vec<Record>,
        outcomes: Vec<Outcomes>,
        up: Vec<bool>,
    }

    impl TestVersion {
        fn of(endpoints: usize) -> Self {
            let now = Instant::now();
            let new = || Record::new(now, Outcomes::default());
            Self {
                now,
                spec: EjectionSpec::default(),
                records: (0..endpoints).map(|_| new()).collect(),
                outcomes: vec![Outcomes::default(); endpoints],
                up: vec![true; endpoints],
            }
        }

        /// A second later, each endpoint has so many more good and bad responses. Gives who was
        /// ejected or readmitted.
        fn sample(&mut self, more: &[(u64, u64)]) -> String {
            self.now += Duration::from_secs(1);
            for (outcomes, (good, bad)) in self.outcomes.iter_mut().zip(more) {
                outcomes.good += good;
                outcomes.bad += bad;
            }
            let records = self.records.iter_mut().zip(&self.outcomes).zip(&self.up);
            let mut members: Vec<Member<'_>> = records
                .map(|((record, outcomes), up)| Member {
                    record,
                    outcomes: *outcomes,
                    up: *up,
                })
                .collect();
            let changes = sample(&mut members, self.now, &self.spec);
            let text = changes.iter().map(|change| match change {
                Change::Eject { at, .. } => format!("-{at}"),
                Change::Readmit { at } => format!("+{at}"),
            });
            text.collect::<Vec<_>>().join(" ")
        }

        /// How many looks it takes until `at` is readmitted.
        fn seconds_out(&mut self, at: usize) -> u64 {
            let idle = vec![(0, 0); self.records.len()];
            (1..)
                .find(|_| self.sample(&idle) == format!("+{at}"))
                .unwrap()
        }
    }

    #[test]
    fn failures_in_a_row_eject_one_of_two_for_a_growing_time() {
        let mut version = TestVersion::of(2);
        assert_eq!(version.sample(&[(10, 4), (10, 0)]), "", "not in a row");
        assert_eq!(version.sample(&[(0, 4), (10, 0)]), "");
        assert_eq!(version.sample(&[(0, 1), (10, 0)]), "-0");
        assert_eq!(version.seconds_out(0), 10);
        assert_eq!(version.sample(&[(0, 5), (10, 0)]), "-0");
        assert_eq!(version.seconds_out(0), 20);
        // After long enough in use, it begins anew.
        version.now += Duration::from_secs(300);
        assert_eq!(version.sample(&[(0, 5), (10, 0)]), "-0");
        assert_eq!(version.seconds_out(0), 10);
    }

    #[test]
    fn a_time_grows_to_its_maximum() {
        let mut version = TestVersion::of(2);
        version.spec.max_duration = Period::from_secs(15);
        for want in [10, 15, 15] {
            assert_eq!(version.sample(&[(0, 5), (1, 0)]), "-0");
            assert_eq!(version.seconds_out(0), want);
        }
    }

    #[test]
    fn the_last_one_and_more_than_the_share_are_never_ejected() {
        let mut one = TestVersion::of(1);
        assert_eq!(one.sample(&[(0, 100)]), "");
        let mut two = TestVersion::of(2);
        two.up[1] = false;
        assert_eq!(two.sample(&[(0, 100), (0, 0)]), "", "the other one is down");
        let mut five = TestVersion::of(5);
        let three_fail = [(0, 9), (0, 9), (0, 9), (9, 0), (9, 0)];
        assert_eq!(five.sample(&three_fail), "-0 -1");
        five.spec.max_share = 100;
        assert_eq!(five.sample(&three_fail), "-2");
    }

    #[test]
    fn when_the_others_go_down_the_ejected_one_is_readmitted() {
        let mut version = TestVersion::of(2);
        assert_eq!(version.sample(&[(0, 5), (1, 0)]), "-0");
        version.up[1] = false;
        assert_eq!(version.sample(&[(0, 0), (0, 0)]), "+0");
    }

    #[test]
    fn what_all_fail_at_alike_is_the_versions_doing() {
        let mut version = TestVersion::of(4);
        for _ in 0..5 {
            assert_eq!(version.sample(&[(0, 9); 4]), "");
            assert_eq!(version.sample(&[(9, 11); 4]), "");
        }
    }

    #[test]
    fn a_high_failure_rate_ejects_once_there_are_enough_attempts() {
        let mut version = TestVersion::of(3);
        let one_is_bad = [(4, 5), (9, 0), (9, 1)];
        assert_eq!(version.sample(&one_is_bad), "", "9 attempts");
        assert_eq!(version.sample(&one_is_bad), "", "18 attempts");
        assert_eq!(version.sample(&one_is_bad), "-0", "27 attempts");
    }

    #[test]
    fn zero_switches_a_reason_off() {
        let mut version = TestVersion::of(2);
        version.spec.consecutive = 0;
        version.spec.failure_rate = 0;
        assert_eq!(version.sample(&[(0, 1_000), (1_000, 0)]), "");
    }
}
