//! The window in which candidate and stable are compared: the readings from which their figures
//! are counted. It is in the journal, so a controller that was killed goes on with what it knew.

use std::sync::Arc;
use std::time::Duration;

use admin_api::VersionStats;
use serde::{Deserialize, Serialize};

use super::counts::{Bounds, Counts, RESPONSES_FOR_P99, since};
use super::evidence::{FAILURES, SLOWNESS, Wealth, Weighed, stakes, won_in_block};
use super::run::{Run, RunKind};
use super::slowness::{self, Slowness, histogram};
use super::{Dealt, Family, Limits, Pair, Sample};

/// How long a burst is looked for before what came is forgotten, and looked for anew.
const RECENT: Duration = Duration::from_secs(10);
/// How long a block of evidence lasts at least. What comes within it may be a single incident.
const BLOCK: Duration = Duration::from_secs(1);
/// Requests of each version that a block has at least: its share is to be known.
const REQUESTS_OF_A_BLOCK: u64 = 2;

/// One reading of the counters of both versions.
pub type Reading = Pair<VersionStats>;

/// The readings from which the figures of a step are counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// When the step began.
    opened: Reading,
    /// When the candidate had warmed up.
    warm: Option<Reading>,
    /// What stable did before, where that is not in the readings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    record: Option<VersionStats>,
    /// Which run of the step this is.
    #[serde(default)]
    run: Run,
    /// What its evidence is counted from.
    #[serde(default)]
    gathering: Gathering,
    /// The bets that come of stable's record.
    #[serde(skip)]
    slowness: Option<Arc<Slowness>>,
    /// A few seconds ago at most, and when that was.
    #[serde(skip)]
    recent: Option<(Reading, Duration)>,
}

/// What the bets have come to, block by block.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Gathering {
    /// When the run began; absent: with the step.
    began: Option<Reading>,
    /// From when on it counts latency; absent: from when the step was warm.
    warm: Option<Reading>,
    /// When the open block began; absent: with the run.
    block: Option<Reading>,
    #[serde(skip)]
    block_at: Duration,
    /// Of the step, but for a run that is a second chance.
    step: Wealths,
    /// Of a second run.
    second: Wealths,
}

/// What the bets of each test have come to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Wealths {
    fails: Wealth,
    fails_at_all: Wealth,
    slower: Wealth,
    over_limit: Wealth,
}

/// What each bet has won in the open block.
struct Open {
    fails: [f64; 5],
    fails_at_all: [f64; 5],
    slower: Vec<f64>,
    over_limit: [f64; 5],
    counts: Pair<Counts>,
}

/// What has come since the step began, since the run began, in the last seconds, and in the open block.
struct Counted {
    step: Pair<Counts>,
    run: Pair<Counts>,
    recent: Pair<Counts>,
    open: Open,
}

/// What has been gathered against the candidate since the run began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Gathered {
    /// It fails more than stable, by more than the tolerance.
    pub fails: Weighed,
    /// It fails more than stable.
    pub fails_at_all: Weighed,
    /// It is slower than stable.
    pub slower: Weighed,
    /// More of its responses than of stable's take longer than `latency_p99`.
    pub over_limit: Weighed,
}

impl Window {
    /// One that begins now.
    pub fn open(now: Reading) -> Self {
        Self {
            opened: now,
            warm: None,
            record: None,
            run: Run::default(),
            gathering: Gathering::default(),
            slowness: None,
            recent: None,
        }
    }

    /// The same, where the readings have nothing of what stable did before.
    pub fn with_record(self, record: VersionStats) -> Self {
        Self {
            record: Some(record),
            ..self
        }
    }

    /// Whether latency is counted by now.
    pub fn is_warm(&self) -> bool {
        self.warm.is_some()
    }

    /// Which run of the step it is.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// The candidate has been accused of this, by this sample, and gets a second chance.
    pub fn set_aside(&mut self, family: Family, why: String, sample: &Sample) {
        self.run = self.run.set_aside(family, why, sample);
    }

    /// The figures at `elapsed` since the step began. `None` when a counter went backwards, which
    /// is a proxy that has started again and counts anew: then the window begins anew, too.
    pub fn sample(
        &mut self,
        now: &Reading,
        elapsed: Duration,
        dealt: Dealt,
        limits: &Limits,
    ) -> Option<Sample> {
        if self.warm.is_none() && limits.warm_up.is_zero() {
            self.warm = Some(self.opened.clone());
        }
        let record = self.record.as_ref().unwrap_or(&self.opened.stable);
        let bounds = Bounds::new(record, limits.latency_p99);
        self.know_slowness();
        let Some(counted) = self.counts(now, bounds, dealt, limits) else {
            *self = Self {
                record: self.record.take(),
                ..Self::open(now.clone())
            };
            return None;
        };
        let Counted {
            step,
            run,
            recent,
            open,
        } = counted;
        let wealths = self.gathering.of(self.run.kind());
        let gathered = wealths.with(&open);
        let nothing = VersionStats::default();
        let record = self.record.as_ref().unwrap_or(&self.opened.stable);
        let record = Counts::between(&nothing, Some(&nothing), record, bounds)?;
        let run_kind = self.run.look(elapsed, run.candidate);
        let sample = Sample {
            step,
            run,
            recent,
            gathered,
            record,
            slow: bounds.slow,
            is_warm: self.warm.is_some(),
            dealt,
            kind: run_kind,
            elapsed,
        };
        self.go_on(now, &open, run_kind, limits, elapsed);
        Some(sample)
    }

    /// What is due after a look: another run, another block, the time from which latency counts.
    fn go_on(&mut self, now: &Reading, open: &Open, of: RunKind, limits: &Limits, at: Duration) {
        let warms = self.warm.is_none() && at >= limits.warm_up;
        if warms {
            self.warm = Some(now.clone());
        }
        if warms || self.run.kind() != of || self.gathering.is_over(&open.counts, at) {
            self.gathering.close(open, of, now, at);
        }
        if self.run.kind() != of {
            self.gathering
                .begin(self.run.kind(), now, self.warm.is_some());
            self.recent = None;
        }
        let is_old = |(_, since): &(Reading, Duration)| at.saturating_sub(*since) >= RECENT;
        if self.recent.as_ref().is_none_or(is_old) {
            self.recent = Some((now.clone(), at));
        }
    }

    fn know_slowness(&mut self) {
        let record = self.record.as_ref().unwrap_or(&self.opened.stable);
        let responses: u64 = record.latency.iter().map(|bucket| bucket.count).sum();
        if self.slowness.is_none() && responses >= RESPONSES_FOR_P99 {
            self.slowness = Some(Arc::new(Slowness::of(&histogram(&record.latency))));
        }
    }

    fn counts(
        &self,
        now: &Reading,
        bounds: Bounds,
        dealt: Dealt,
        limits: &Limits,
    ) -> Option<Counted> {
        let between = |opened: &Reading, warm: Option<&Reading>| {
            Some(Pair {
                candidate: Counts::between(
                    &opened.candidate,
                    warm.map(|warm| &warm.candidate),
                    &now.candidate,
                    bounds,
                )?,
                stable: Counts::between(
                    &opened.stable,
                    warm.map(|warm| &warm.stable),
                    &now.stable,
                    bounds,
                )?,
            })
        };
        let step = between(&self.opened, self.warm.as_ref())?;
        let began = self.gathering.began.as_ref().unwrap_or(&self.opened);
        let warm = self.gathering.warm.as_ref().or(self.warm.as_ref());
        let run = between(began, warm)?;
        let block = self.gathering.block.as_ref().unwrap_or(began);
        let is_warm = self.warm.is_some();
        let counts = between(block, is_warm.then_some(block))?;
        let recent = match &self.recent {
            Some((recent, _)) => between(recent, None)?,
            None => run,
        };
        let open = Open {
            slower: self.slower_in(block, now, dealt)?,
            ..Open::of(counts, dealt, limits)
        };
        Some(Counted {
            step,
            run,
            recent,
            open,
        })
    }

    /// What the bets on slowness have won in the open block.
    fn slower_in(&self, block: &Reading, now: &Reading, dealt: Dealt) -> Option<Vec<f64>> {
        let (Some(slowness), true) = (&self.slowness, self.warm.is_some()) else {
            return Some(Vec::new());
        };
        let candidate = since(&block.candidate.latency, &now.candidate.latency)?;
        let stable = since(&block.stable.latency, &now.stable.latency)?;
        let (candidate, stable) = (histogram(&candidate), histogram(&stable));
        Some(slowness.won_in_block(&candidate, &stable, dealt.by_client.is_some()))
    }
}

impl Open {
    fn of(counts: Pair<Counts>, dealt: Dealt, limits: &Limits) -> Self {
        let failed = counts.map(Counts::failed);
        let over_limit = counts.map(|counts| counts.latency.over_limit());
        let share = |of: Pair<super::evidence::Share>| of.candidate.among(of.stable);
        let due = dealt.by_client.unwrap_or_else(|| share(failed));
        let won =
            |tolerance| won_in_block(&FAILURES, failed.candidate, failed.stable, due, tolerance);
        Self {
            fails: won(limits.success_rate_tolerance / 100.0),
            fails_at_all: won(0.0),
            slower: Vec::new(),
            over_limit: won_in_block(
                &SLOWNESS,
                over_limit.candidate,
                over_limit.stable,
                share(over_limit),
                0.0,
            ),
            counts,
        }
    }
}

impl Gathering {
    fn of(&self, run: RunKind) -> &Wealths {
        match run {
            RunKind::First | RunKind::Aside => &self.step,
            RunKind::Second(_) => &self.second,
        }
    }

    fn is_over(&self, block: &Pair<Counts>, at: Duration) -> bool {
        at.saturating_sub(self.block_at) >= BLOCK
            && block.candidate.attempts >= REQUESTS_OF_A_BLOCK
            && block.stable.attempts >= REQUESTS_OF_A_BLOCK
    }

    /// The open block, of this run, is over.
    fn close(&mut self, open: &Open, run: RunKind, now: &Reading, at: Duration) {
        match run {
            RunKind::First | RunKind::Aside => self.step.close(open),
            RunKind::Second(_) => self.second.close(open),
        }
        (self.block, self.block_at) = (Some(now.clone()), at);
    }

    /// Another run begins.
    fn begin(&mut self, run: RunKind, now: &Reading, is_warm: bool) {
        let second = std::mem::take(&mut self.second);
        if run == RunKind::First {
            self.step.forgive(second);
        }
        self.began = Some(now.clone());
        self.warm = is_warm.then(|| now.clone());
    }
}

impl Wealths {
    fn with(&self, open: &Open) -> Gathered {
        let failures = stakes(&FAILURES);
        Gathered {
            fails: self.fails.with(&failures, &open.fails),
            fails_at_all: self.fails_at_all.with(&failures, &open.fails_at_all),
            slower: self.slower.with(&slowness::stakes(), &open.slower),
            over_limit: self.over_limit.with(&stakes(&SLOWNESS), &open.over_limit),
        }
    }

    fn close(&mut self, open: &Open) {
        let failures = stakes(&FAILURES);
        self.fails.close(&failures, &open.fails);
        self.fails_at_all.close(&failures, &open.fails_at_all);
        self.slower.close(&slowness::stakes(), &open.slower);
        self.over_limit.close(&stakes(&SLOWNESS), &open.over_limit);
    }

    fn forgive(&mut self, since: Self) {
        let failures = stakes(&FAILURES);
        self.fails.forgive(&failures, since.fails);
        self.fails_at_all.forgive(&failures, since.fails_at_all);
        self.slower.forgive(&slowness::stakes(), since.slower);
        self.over_limit
            .forgive(&stakes(&SLOWNESS), since.over_limit);
    }
}

impl Gathered {
    /// The same of counts that came in one block, were it no single incident.
    pub fn in_one_block(step: Pair<Counts>, dealt: Dealt, limits: &Limits) -> Self {
        let gathered = Wealths::default().with(&Open::of(step, dealt, limits));
        let at_large = |of: Weighed| Weighed::at_large(of.all);
        Self {
            fails: at_large(gathered.fails),
            fails_at_all: at_large(gathered.fails_at_all),
            slower: at_large(gathered.slower),
            over_limit: at_large(gathered.over_limit),
        }
    }
}
