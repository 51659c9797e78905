//! The rounds of a workload: A B C, C B A, … Rounds are short, so that other activity of the machine
//! affects all contenders alike, and values are compared within a round. Every second round is in
//! reverse order, so that a machine that slows down favours no contender. Processes are restarted
//! after every four rounds, since the memory layout of a process can be fast or slow.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::accounting::{CoreTime, CpuTime, busy_elsewhere};
use crate::contender::Contender;
use crate::error::{Error, Result};
use crate::load::Load;
use crate::plan::{End, Exchange, Outcome};
use crate::progress::Progress;
use crate::swapper::Swapper;
use crate::test_env::{Started, TestEnv};
use crate::work::Work;

/// The number of rounds between two restarts.
const GROUP: usize = 4;
/// Load before a round, which is not measured: it opens connections and fills caches.
const WARM_UP: Duration = Duration::from_millis(150);
/// The same for a process that has just started.
const FIRST_WARM_UP: Duration = Duration::from_millis(400);

/// The most cores that may be busy with other programs in a round; on an idle machine it is up to
/// 0.03. A round with more is repeated: CPU time is counted by process, but caches are shared.
const BUSY_ELSEWHERE: f64 = 0.08;

/// How long a response may take after the end of a round.
const FINISH_TIMEOUT: Duration = Duration::from_secs(5);

/// The amount of measurement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// The number of rounds of each contender.
    pub(crate) rounds: usize,
    /// The length of a round.
    pub(crate) round: Duration,
}

impl Effort {
    /// The same for a workload that needs long rounds: a quarter as many, four times as long.
    pub(crate) fn of(self, work: Work) -> Self {
        if !work.needs_long_rounds() {
            return self;
        }
        Self {
            rounds: self.rounds.div_ceil(4),
            round: self.round * 4,
        }
    }

    /// The sizes of the groups between restarts.
    pub(crate) fn groups(self) -> Vec<usize> {
        let mut left = self.rounds;
        let mut groups = Vec::new();
        while left > 0 {
            let group = left.min(GROUP);
            groups.push(group);
            left -= group;
        }
        groups
    }
}

/// One round of one contender.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    /// The start of the processes that it belongs to.
    pub(crate) start: usize,
    /// Its length.
    pub(crate) seconds: f64,
    /// Requests with a response of status 200.
    pub(crate) succeeded: u64,
    /// Bytes of request and response bodies.
    pub(crate) bytes: u64,
    /// Requests without a response of status 200.
    pub(crate) failed: u64,
    /// CPU time of the proxy's processes in seconds; `None` without a proxy.
    pub(crate) cpu: Option<f64>,
    /// The share of user mode.
    pub(crate) user_share: f64,
    /// Minor page faults of the proxy.
    pub(crate) page_faults: u64,
    /// Latencies in milliseconds: p50, p99 and p99.9.
    pub(crate) latency: [f64; 3],
    /// Swaps of the table.
    pub(crate) swaps: u64,
    /// Whether the load's core was the limit, and the proxy's was not.
    pub(crate) load_was_limit: bool,
    /// The cores that were busy with other programs.
    pub(crate) busy_elsewhere: f64,
}

impl Sample {
    /// Whether other programs may have influenced the round.
    pub(crate) fn is_disturbed(&self) -> bool {
        self.busy_elsewhere > BUSY_ELSEWHERE
    }
}

/// Measures a workload. Returns the samples of each contender, by round.
pub(crate) fn measure(
    env: &TestEnv,
    work: Work,
    contenders: &[Contender],
    effort: Effort,
    progress: &Progress,
    start_contender: &dyn Fn(usize, &Contender) -> Result<Started>,
) -> Result<Vec<Vec<Sample>>> {
    let effort = effort.of(work);
    let mut samples = vec![Vec::new(); contenders.len()];
    // On a busy machine the repetitions run out: the report then names the disturbed rounds.
    let mut again = contenders.len() * effort.rounds / 2;
    for (start, group) in effort.groups().into_iter().enumerate() {
        let mut started = Vec::new();
        for (number, contender) in contenders.iter().enumerate() {
            env.check_interrupted()?;
            progress.set_message(work.name(), &format!("starting {}", contender.label));
            started.push(start_contender(number, contender)?);
        }
        for round in 0..group {
            let warm_up = if round == 0 { FIRST_WARM_UP } else { WARM_UP };
            let mut each: Vec<_> = contenders.iter().zip(&started).zip(&mut samples).collect();
            if round % 2 == 1 {
                each.reverse();
            }
            for ((contender, started), samples) in each {
                progress.set_message(work.name(), &contender.label);
                let mut failed = 0;
                let sample = loop {
                    let round = one_round(env, work, contender, started, warm_up, effort.round)?;
                    failed += round.failed;
                    if !round.is_disturbed() || again == 0 {
                        break round;
                    }
                    again -= 1;
                };
                samples.push(Sample {
                    start,
                    failed,
                    ..sample
                });
                progress.step();
            }
        }
    }
    Ok(samples)
}

fn one_round(
    env: &TestEnv,
    work: Work,
    contender: &Contender,
    started: &Started,
    warm_up: Duration,
    round: Duration,
) -> Result<Sample> {
    let plan = work.plan(contender, started.target)?;
    let mut load = Load::new(plan, &env.interrupted)?;
    let mut tally = Tally::new(work.request_body())?;
    // Failures count from the first request on; everything else only after the warm-up. An upload
    // is long enough without one.
    if work != Work::Upload {
        load.run(End::After(warm_up), &mut |request| tally.add(request))?;
        tally.reset_successes();
    }
    let swapper = (contender.swaps > 0).then(|| Swapper::start(started.admin, contender.swaps));

    let root = started.root();
    let cpu_before = root.map(CpuTime::of_tree).transpose()?;
    let ours_before = CpuTime::of_tree(std::process::id())?;
    let cores_before = CoreTime::of_all()?;
    let begin = std::time::Instant::now();
    let end = load.run(end_of_round(work, round), &mut |request| tally.add(request))?;
    let cpu_after = root.map(CpuTime::of_tree).transpose()?;
    let cores_after = CoreTime::of_all()?;
    let ours_after = CpuTime::of_tree(std::process::id())?;

    let swaps = swapper.as_ref().map_or(0, Swapper::swaps);
    swapper.map_or(Ok(()), Swapper::stop)?;
    if work.has_fixed_rate() {
        // Requests without a response yet count with the time that they have waited.
        for due in load.outstanding() {
            tally.record(end.saturating_duration_since(due));
        }
    }
    let mut failed = 0;
    let hung = load.finish(FINISH_TIMEOUT, &mut |request| {
        failed += u64::from(!is_success(request));
    })?;
    tally.failed += failed + hung as u64;
    let busy = |core: usize| match (cores_before.get(core), cores_after.get(core)) {
        (Some(before), Some(after)) => after.busy_since(before),
        _ => 0.0,
    };
    let cpu = cpu_before.zip(cpu_after);
    let proxy_idled = env
        .cores
        .of_workers(contender.workers)
        .iter()
        .any(|&core| core != env.cores.load && busy(core) < 0.95);
    let seconds = end.duration_since(begin).as_secs_f64();
    Ok(Sample {
        start: 0,
        seconds,
        succeeded: tally.succeeded,
        bytes: tally.bytes,
        failed: tally.failed,
        cpu: cpu.map(|(before, after)| after.seconds_since(&before)),
        user_share: cpu.map_or(0.0, |(before, after)| after.user_share_since(&before)),
        page_faults: cpu.map_or(0, |(before, after)| after.page_faults_since(&before)),
        latency: tally.latency(),
        swaps,
        load_was_limit: cpu.is_some()
            && !work.has_fixed_rate()
            && busy(env.cores.load) > 0.97
            && proxy_idled,
        busy_elsewhere: busy_elsewhere(
            (&cores_before, &cores_after),
            (&ours_before, &ours_after),
            seconds,
        ),
    })
}

/// A round lasts for some time; one of uploads, until each connection has sent one.
const fn end_of_round(work: Work, round: Duration) -> End {
    match work {
        Work::Upload => End::Exactly(work.connections() as u64),
        _ => End::After(round),
    }
}

const fn is_success(request: &Exchange) -> bool {
    matches!(request.outcome, Outcome::Response(response) if response.status == 200)
}

/// The counts of the requests of a round.
struct Tally {
    latencies: Histogram<u64>,
    request_body: u64,
    succeeded: u64,
    bytes: u64,
    failed: u64,
}

impl Tally {
    fn new(request_body: u64) -> Result<Self> {
        // From 1 µs to 1 minute, in nanoseconds, to three significant digits.
        let latencies = Histogram::new_with_bounds(1_000, 60_000_000_000, 3)
            .map_err(|error| Error::Usage(error.to_string()))?;
        Ok(Self {
            latencies,
            request_body,
            succeeded: 0,
            bytes: 0,
            failed: 0,
        })
    }

    fn add(&mut self, request: &Exchange) {
        match request.outcome {
            Outcome::Response(response) if is_success(request) => {
                self.succeeded += 1;
                self.bytes += response.length as u64 + self.request_body;
                self.record(request.done.saturating_duration_since(request.due));
            }
            Outcome::Response(_) | Outcome::Failed(_) => self.failed += 1,
        }
    }

    fn record(&mut self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.latencies.saturating_record(nanoseconds);
    }

    fn reset_successes(&mut self) {
        self.latencies.reset();
        self.succeeded = 0;
        self.bytes = 0;
    }

    fn latency(&self) -> [f64; 3] {
        [0.5, 0.99, 0.999].map(|part| self.latencies.value_at_quantile(part) as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    use crate::plan::Failure;
    use crate::response::Response;

    fn request(milliseconds: u64, outcome: Outcome) -> Exchange {
        let due = Instant::now();
        Exchange {
            due,
            sent: due,
            done: due + Duration::from_millis(milliseconds),
            outcome,
        }
    }

    fn response(status: u16) -> Outcome {
        Outcome::Response(Response {
            status,
            length: 100,
            last: false,
            version: b'1',
        })
    }

    #[test]
    fn rounds_are_divided_into_groups() {
        let groups = |rounds| {
            let round = Duration::from_secs(1);
            Effort { rounds, round }.groups()
        };
        assert_eq!(groups(12), [4, 4, 4]);
        assert_eq!(groups(1), [1]);
        assert_eq!(groups(6), [4, 2]);
    }

    #[test]
    fn a_workload_with_long_rounds_is_measured_as_long() {
        let of = |rounds, work| {
            let round = Duration::from_millis(250);
            let effort = Effort { rounds, round }.of(work);
            (effort.rounds, effort.round.as_millis())
        };
        assert_eq!(of(32, Work::Small), (32, 250));
        for long in [
            Work::Rate,
            Work::Churn,
            Work::Mixed,
            Work::Skew,
            Work::Upload,
        ] {
            assert_eq!(of(32, long), (8, 1000), "{}", long.name());
            assert_eq!(of(1, long), (1, 1000), "{}", long.name());
        }
    }

    #[test]
    fn latencies_are_those_of_responses_and_failures_are_counted_separately() {
        let mut tally = Tally::new(0).unwrap();
        for milliseconds in 1..=1000 {
            tally.add(&request(milliseconds, response(200)));
        }
        tally.add(&request(5000, response(502)));
        tally.add(&request(5000, Outcome::Failed(Failure::Cut)));
        assert_eq!(
            (tally.succeeded, tally.failed, tally.bytes),
            (1000, 2, 100_000)
        );
        let [p50, p99, p999] = tally.latency();
        assert!((p50 - 500.0).abs() < 1.0, "{p50}");
        assert!((p99 - 990.0).abs() < 1.0, "{p99}");
        assert!((p999 - 999.0).abs() < 1.0, "{p999}");
    }

    #[test]
    fn failures_of_the_warm_up_are_kept() {
        let mut tally = Tally::new(0).unwrap();
        tally.add(&request(1, response(200)));
        tally.add(&request(1, response(500)));
        tally.reset_successes();
        assert_eq!((tally.succeeded, tally.failed), (0, 1));
    }
}
