//! What was found, as it goes into `results.json`.

use serde::Serialize;

use crate::estimate::{Estimate, PairedRound, median};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::peers::{Installed, Peer};
use crate::race::Race;
use crate::rounds::{Effort, Sample};
use crate::work::{Contender, Per, Work};

/// Everything that one run has found.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Results {
    /// How to run it again.
    pub(crate) command: String,
    /// Where it ran.
    pub(crate) machine: Machine,
    /// Rounds of each contender.
    pub(crate) rounds: usize,
    /// How long a round was.
    pub(crate) round_seconds: f64,
    /// Who took part.
    pub(crate) peers: Vec<Program>,
    /// Who is not installed.
    pub(crate) absent: Vec<Peer>,
    /// Each workload.
    pub(crate) workloads: Vec<Workload>,
    /// The memory of each proxy.
    pub(crate) memory: Vec<Memory>,
    /// The rollout race.
    pub(crate) race: Vec<Race>,
    /// How far the ratios of several runs were apart, if there were several.
    pub(crate) repeated: Vec<Repeated>,
    /// What kept a part of it from being measured.
    pub(crate) errors: Vec<String>,
}

/// A program that took part.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Program {
    /// Which.
    pub(crate) peer: Peer,
    /// Its version.
    pub(crate) version: String,
}

/// One workload.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Workload {
    /// Its name on the command line.
    pub(crate) name: &'static str,
    /// What it is.
    pub(crate) title: &'static str,
    /// Whose figures the ratios are to.
    pub(crate) base: String,
    /// CPU is in seconds for a gigabyte, not in microseconds for a request.
    pub(crate) cpu_per_gigabyte: bool,
    /// All have the same rate: requests a second say nothing.
    pub(crate) fixed_rate: bool,
    /// The contenders.
    pub(crate) rows: Vec<Row>,
}

/// One contender.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// What it is called.
    pub(crate) label: String,
    /// The proxy.
    pub(crate) peer: Peer,
    /// CPU time of the proxy; none where there is no proxy.
    pub(crate) cpu: Option<Estimate>,
    /// The part of it in user mode, from 0 to 1.
    pub(crate) user_share: f64,
    /// Pages of memory that it had to ask the kernel for, by request.
    pub(crate) page_faults_per_request: f64,
    /// Requests a second.
    pub(crate) rate: Option<Estimate>,
    /// Latencies in milliseconds.
    pub(crate) p50: Option<Estimate>,
    /// 99 of 100 are faster.
    pub(crate) p99: Option<Estimate>,
    /// 999 of 1,000 are faster.
    pub(crate) p999: Option<Estimate>,
    /// Requests that failed, in all rounds.
    pub(crate) failed: u64,
    /// Swaps of the table a second, as they came out.
    pub(crate) swaps_per_second: f64,
    /// How many cores were busy with something else, in the median.
    pub(crate) busy_elsewhere: f64,
    /// Rounds that were disturbed by it, and could not be had undisturbed.
    pub(crate) disturbed: usize,
    /// In most rounds the load generator was the limit, not the proxy.
    pub(crate) load_was_limit: bool,
}

/// One ratio, as each run found it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Repeated {
    /// The workload.
    pub(crate) work: &'static str,
    /// The contender.
    pub(crate) label: String,
    /// Which of its figures.
    pub(crate) figure: &'static str,
    /// Its ratio to the base, run by run.
    pub(crate) ratios: Vec<f64>,
    /// How much more the largest is than the smallest: 0.05 for 5%.
    pub(crate) apart: f64,
}

impl Results {
    /// Of a run that has found nothing yet.
    pub(crate) fn new(
        command: String,
        effort: Effort,
        peers: &[Installed],
        absent: Vec<Peer>,
        machine: Machine,
    ) -> Self {
        Self {
            command,
            machine,
            rounds: effort.rounds,
            round_seconds: effort.round.as_secs_f64(),
            peers: peers
                .iter()
                .map(|installed| Program {
                    peer: installed.peer,
                    version: installed.version.clone(),
                })
                .collect(),
            absent,
            workloads: Vec::new(),
            memory: Vec::new(),
            race: Vec::new(),
            repeated: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// Requests that failed where none should have. Those of the race are what it measures.
    pub(crate) fn failed(&self) -> u64 {
        let rows = self.workloads.iter().flat_map(|workload| &workload.rows);
        rows.map(|row| row.failed).sum()
    }
}

impl Workload {
    /// From the samples of all contenders.
    pub(crate) fn of(work: Work, contenders: &[Contender], samples: &[Vec<Sample>]) -> Self {
        let base = Work::base(contenders);
        let empty = Vec::new();
        let base_samples = samples.get(base).unwrap_or(&empty);
        let row = |(contender, samples): (&Contender, &Vec<Sample>)| {
            let figure = |value: &dyn Fn(&Sample) -> f64| {
                let pair = |(own, base): (&Sample, &Sample)| PairedRound {
                    start: own.start,
                    own: value(own),
                    base: value(base),
                };
                let rounds: Vec<PairedRound> = samples.iter().zip(base_samples).map(pair).collect();
                Estimate::of(&rounds)
            };
            let has_cpu = samples.iter().all(|sample| sample.cpu.is_some());
            let limited = samples
                .iter()
                .filter(|sample| sample.load_was_limit)
                .count();
            let seconds: f64 = samples.iter().map(|sample| sample.seconds).sum();
            let faults: u64 = samples.iter().map(|sample| sample.page_faults).sum();
            let answered: u64 = samples.iter().map(|sample| sample.answered).sum();
            let count = samples.len().max(1) as f64;
            let elsewhere: Vec<f64> = samples.iter().map(|sample| sample.busy_elsewhere).collect();
            Row {
                label: contender.label.clone(),
                peer: contender.installed.peer,
                cpu: figure(&|sample| cpu(sample, work.per())).filter(|_| has_cpu),
                user_share: samples.iter().map(|sample| sample.user_share).sum::<f64>() / count,
                page_faults_per_request: faults as f64 / answered.max(1) as f64,
                rate: figure(&|sample| sample.answered as f64 / sample.seconds),
                p50: figure(&|sample| sample.latency[0]),
                p99: figure(&|sample| sample.latency[1]),
                p999: figure(&|sample| sample.latency[2]),
                failed: samples.iter().map(|sample| sample.failed).sum(),
                swaps_per_second: samples
                    .iter()
                    .map(|sample| sample.swaps as f64)
                    .sum::<f64>()
                    / seconds.max(1e-9),
                busy_elsewhere: median(&elsewhere).unwrap_or(0.0),
                disturbed: samples
                    .iter()
                    .filter(|sample| sample.is_disturbed())
                    .count(),
                load_was_limit: limited * 2 > samples.len(),
            }
        };
        Self {
            name: work.name(),
            title: work.title(),
            base: contenders
                .get(base)
                .map_or_else(String::new, |contender| contender.label.clone()),
            cpu_per_gigabyte: work.per() == Per::Gigabyte,
            fixed_rate: work == Work::Rate,
            rows: contenders.iter().zip(samples).map(row).collect(),
        }
    }
}

/// How much more the largest of these ratios is than the smallest: 0.05 for 5%.
pub(crate) fn apart(ratios: &[f64]) -> f64 {
    let most = ratios.iter().copied().fold(f64::MIN, f64::max);
    let least = ratios.iter().copied().fold(f64::MAX, f64::min);
    most / least - 1.0
}

fn cpu(sample: &Sample, per: Per) -> f64 {
    let Some(seconds) = sample.cpu else {
        return f64::NAN;
    };
    match per {
        Per::Request => seconds * 1e6 / sample.answered as f64,
        Per::Gigabyte => seconds * 1e9 / sample.bytes as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_its_own_figures_and_ratios_to_nginx() {
        let installed = |peer| Installed {
            peer,
            program: None,
            version: String::new(),
        };
        let contenders = Work::Small.contenders(&[
            installed(Peer::Crossfade),
            installed(Peer::Nginx),
            installed(Peer::Origin),
        ]);
        let sample = |cpu, answered| Sample {
            seconds: 1.0,
            answered,
            cpu,
            latency: [1.0, 2.0, 3.0],
            ..Sample::default()
        };
        let samples = [
            vec![sample(Some(0.9), 60_000); 3],
            vec![sample(Some(1.0), 50_000); 3],
            vec![sample(None, 100_000); 3],
        ];
        let workload = Workload::of(Work::Small, &contenders, &samples);
        assert_eq!(workload.base, "nginx");
        let [ours, nginx, origin] = &workload.rows[..] else {
            panic!("three rows");
        };
        let cpu = ours.cpu.unwrap();
        assert!((cpu.value - 15.0).abs() < 1e-9 && (cpu.ratio - 0.75).abs() < 1e-9);
        assert!((ours.rate.unwrap().ratio - 1.2).abs() < 1e-9);
        assert!((nginx.cpu.unwrap().ratio - 1.0).abs() < 1e-9);
        assert!(origin.cpu.is_none());
    }

    #[test]
    fn large_answers_are_paid_for_by_the_gigabyte() {
        let sample = Sample {
            bytes: 2_000_000_000,
            cpu: Some(0.5),
            ..Sample::default()
        };
        assert!((cpu(&sample, Per::Gigabyte) - 0.25).abs() < 1e-9);
    }
}
