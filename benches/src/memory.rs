//! The memory of connections that are held, idle or stalled, and whether it is released after they
//! close.

use std::thread::sleep;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::accounting::pss_kib;
use crate::contender::Contender;
use crate::error::Result;
use crate::estimate::median;
use crate::idle::Protocol;
use crate::progress::Progress;
use crate::test_env::TestEnv;
use crate::work::Work;

/// The number of measurements of each proxy, each on a new process.
pub(crate) const REPEATS: usize = 2;
/// The time from the last new connection to the measurement.
const SETTLE: Duration = Duration::from_millis(500);
/// The same where all requests of all connections come at once.
const SETTLE_STALLED: Duration = Duration::from_secs(4);
/// The time from the last close to the measurement. Garbage collectors and caches need a moment.
const AFTER: Duration = Duration::from_secs(3);

/// The memory of one proxy: PSS of all its processes, in KiB.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// The proxy.
    pub(crate) label: String,
    /// Without connections.
    pub(crate) none: f64,
    /// With the smaller number of connections.
    #[serde(alias = "thousand")]
    pub(crate) few: f64,
    /// With the larger one.
    #[serde(alias = "eight_thousand")]
    pub(crate) many: f64,
    /// After they closed.
    pub(crate) after: f64,
}

impl Memory {
    /// KiB per connection.
    pub(crate) fn of_connection(&self, work: Work) -> f64 {
        let [_, many] = work.held_connections();
        (self.many - self.none) / many as f64
    }
}

/// Measures every contender.
pub(crate) fn measure(
    env: &TestEnv,
    work: Work,
    contenders: &[Contender],
    progress: &Progress,
) -> Result<Vec<Memory>> {
    let mut all = Vec::new();
    for (number, contender) in contenders.iter().enumerate() {
        let mut samples = [const { Vec::new() }; 4];
        for _ in 0..REPEATS {
            progress.set_message(work.name(), &contender.label);
            let four = sample(env, work, number, contender)?;
            for (samples, sample) in samples.iter_mut().zip(four) {
                samples.push(sample as f64);
            }
            progress.step();
        }
        let [none, few, many, after] = samples.map(|samples| median(&samples).unwrap_or(f64::NAN));
        all.push(Memory {
            label: contender.label.clone(),
            none,
            few,
            many,
            after,
        });
    }
    Ok(all)
}

fn sample(env: &TestEnv, work: Work, number: usize, contender: &Contender) -> Result<[u64; 4]> {
    env.check_interrupted()?;
    let started = env.start(number, contender)?;
    let Some(running) = &started.running else {
        return Ok([0; 4]);
    };
    let requests = work.requests(contender);
    let protocol = Protocol::of(work, requests.first().map_or(&[], Vec::as_slice))?;
    let settle = match work {
        Work::Stalled => SETTLE_STALLED,
        _ => SETTLE,
    };
    sleep(settle);
    let none = pss_kib(running.id())?;
    let [first, all] = work.held_connections();
    let mut held = protocol.open(started.target, first)?;
    sleep(settle);
    let few = pss_kib(running.id())?;
    env.check_interrupted()?;
    held.extend(protocol.open(started.target, all - first)?);
    sleep(settle);
    let many = pss_kib(running.id())?;
    drop(held);
    sleep(AFTER);
    let after = pss_kib(running.id())?;
    Ok([none, few, many, after])
}
