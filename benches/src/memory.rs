//! What idle keep-alive connections cost in memory, and whether it comes back.

use std::thread::sleep;
use std::time::Duration;

use serde::Serialize;

use crate::accounting::pss_kib;
use crate::client::open_idle;
use crate::error::Result;
use crate::estimate::median;
use crate::progress::Progress;
use crate::test_env::TestEnv;
use crate::work::{Contender, Work};

/// How often each proxy is started and looked at.
pub(crate) const REPEATS: usize = 2;
/// From the last connection to the look.
const SETTLE: Duration = Duration::from_millis(500);
/// From the last close to the look: collectors and caches need a moment.
const AFTER: Duration = Duration::from_secs(3);

/// One proxy's memory: PSS of all its processes, in KiB.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Memory {
    /// Whose.
    pub(crate) label: String,
    /// Without a client.
    pub(crate) none: f64,
    /// With 1,000 connections that have had one answer each.
    pub(crate) thousand: f64,
    /// With 8,000.
    pub(crate) eight_thousand: f64,
    /// After they have closed.
    pub(crate) after: f64,
}

impl Memory {
    /// KiB for each idle connection.
    pub(crate) fn of_connection(&self) -> f64 {
        (self.eight_thousand - self.none) / 8_000.0
    }
}

/// Measures every contender.
pub(crate) fn measure(
    env: &TestEnv,
    contenders: &[Contender],
    progress: &Progress,
) -> Result<Vec<Memory>> {
    let mut all = Vec::new();
    for (number, contender) in contenders.iter().enumerate() {
        let mut looks = [const { Vec::new() }; 4];
        for _ in 0..REPEATS {
            progress.set_message("memory", &contender.label);
            let four = look(env, number, contender)?;
            for (looks, look) in looks.iter_mut().zip(four) {
                looks.push(look as f64);
            }
            progress.step();
        }
        let [none, thousand, eight_thousand, after] =
            looks.map(|looks| median(&looks).unwrap_or(f64::NAN));
        all.push(Memory {
            label: contender.label.clone(),
            none,
            thousand,
            eight_thousand,
            after,
        });
    }
    Ok(all)
}

fn look(env: &TestEnv, number: usize, contender: &Contender) -> Result<[u64; 4]> {
    env.check_interrupted()?;
    let started = env.start(number, contender)?;
    let Some(running) = &started.running else {
        return Ok([0; 4]);
    };
    let requests = Work::Memory.requests(contender);
    let request = requests.first().map_or(&[][..], Vec::as_slice);
    sleep(SETTLE);
    let none = pss_kib(running.id())?;
    let mut clients = open_idle(started.target, 1_000, request)?;
    sleep(SETTLE);
    let thousand = pss_kib(running.id())?;
    env.check_interrupted()?;
    clients.extend(open_idle(started.target, 7_000, request)?);
    sleep(SETTLE);
    let eight_thousand = pss_kib(running.id())?;
    drop(clients);
    sleep(AFTER);
    let after = pss_kib(running.id())?;
    Ok([none, thousand, eight_thousand, after])
}
