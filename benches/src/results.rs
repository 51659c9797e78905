//! The results of a run, as written to `results.json`.

use serde::{Deserialize, Serialize};

use crate::estimate::{Estimate, PairedRound, median};
use crate::machine::Machine;
use crate::memory::Memory;
use crate::peers::{Installed, Peer};
use crate::race::Race;
use crate::rounds::{Effort, Sample};
use crate::work::{Contender, Per, Work};

/// The results of one run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Results {
    /// The command that repeats the run.
    pub(crate) command: String,
    /// The machine.
    pub(crate) machine: Machine,
    /// The number of rounds of each contender.
    pub(crate) rounds: usize,
    /// The length of a round.
    pub(crate) round_seconds: f64,
    /// The peers that took part.
    pub(crate) peers: Vec<Program>,
    /// The peers that are not installed.
    pub(crate) absent: Vec<Peer>,
    /// The workloads.
    pub(crate) workloads: Vec<Workload>,
    /// The memory of each proxy.
    pub(crate) memory: Vec<Memory>,
    /// The rollout race.
    pub(crate) race: Vec<Race>,
    /// The differences between the ratios of several runs, if there were several.
    pub(crate) repeated: Vec<Repeated>,
    /// The errors that prevented a measurement.
    pub(crate) errors: Vec<String>,
}

/// A peer that took part.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Program {
    /// The peer.
    pub(crate) peer: Peer,
    /// Its version.
    pub(crate) version: String,
}

/// One workload.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Workload {
    /// Its name on the command line.
    pub(crate) name: String,
    /// Its description.
    pub(crate) title: String,
    /// The label of the contender that ratios are relative to.
    pub(crate) base: String,
    /// Whether CPU is in seconds per gigabyte, rather than in microseconds per request.
    pub(crate) cpu_per_gigabyte: bool,
    /// Whether all have the same rate, so that requests a second say nothing.
    pub(crate) fixed_rate: bool,
    /// The contenders.
    pub(crate) rows: Vec<Row>,
}

/// One contender.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Its label.
    pub(crate) label: String,
    /// The proxy.
    pub(crate) peer: Peer,
    /// CPU time of the proxy; `None` without a proxy.
    pub(crate) cpu: Option<Estimate>,
    /// The share of user mode, from 0 to 1.
    pub(crate) user_share: f64,
    /// Minor page faults per request.
    pub(crate) page_faults_per_request: f64,
    /// Requests a second.
    pub(crate) rate: Option<Estimate>,
    /// The median latency in milliseconds.
    pub(crate) p50: Option<Estimate>,
    /// The 99th percentile of latency in milliseconds.
    pub(crate) p99: Option<Estimate>,
    /// The 99.9th percentile of latency in milliseconds.
    pub(crate) p999: Option<Estimate>,
    /// Failed requests in all rounds.
    pub(crate) failed: u64,
    /// Swaps of the table a second, as measured.
    pub(crate) swaps_per_second: f64,
    /// The cores that were busy with other programs; the median of the rounds.
    pub(crate) busy_elsewhere: f64,
    /// Rounds that other programs disturbed even after repeating them.
    pub(crate) disturbed: usize,
    /// Whether the load generator was the limit in most rounds, rather than the proxy.
    pub(crate) load_was_limit: bool,
}

/// One ratio in each of several runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Repeated {
    /// The workload.
    pub(crate) work: String,
    /// The contender.
    pub(crate) label: String,
    /// The metric. Its key was `figure` up to release 0.1.0.
    #[serde(alias = "figure")]
    pub(crate) metric: String,
    /// The ratio to the base in each run.
    pub(crate) ratios: Vec<f64>,
    /// The difference between the largest and the smallest ratio: 0.05 for 5%.
    pub(crate) apart: f64,
}

impl Results {
    /// Results without workloads.
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

    /// Failed requests of all workloads. Those of the race are part of its results.
    pub(crate) fn failed(&self) -> u64 {
        let rows = self.workloads.iter().flat_map(|workload| &workload.rows);
        rows.map(|row| row.failed).sum()
    }
}

impl Workload {
    /// Estimates the metrics from the samples of all contenders.
    pub(crate) fn of(work: Work, contenders: &[Contender], samples: &[Vec<Sample>]) -> Self {
        let base = Work::base(contenders);
        let empty = Vec::new();
        let base_samples = samples.get(base).unwrap_or(&empty);
        let row = |(contender, samples): (&Contender, &Vec<Sample>)| {
            let estimate = |value: &dyn Fn(&Sample) -> f64| {
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
            let succeeded: u64 = samples.iter().map(|sample| sample.succeeded).sum();
            let count = samples.len().max(1) as f64;
            let elsewhere: Vec<f64> = samples.iter().map(|sample| sample.busy_elsewhere).collect();
            Row {
                label: contender.label.clone(),
                peer: contender.installed.peer,
                cpu: estimate(&|sample| cpu(sample, work.per())).filter(|_| has_cpu),
                user_share: samples.iter().map(|sample| sample.user_share).sum::<f64>() / count,
                page_faults_per_request: faults as f64 / succeeded.max(1) as f64,
                rate: estimate(&|sample| sample.succeeded as f64 / sample.seconds),
                p50: estimate(&|sample| sample.latency[0]),
                p99: estimate(&|sample| sample.latency[1]),
                p999: estimate(&|sample| sample.latency[2]),
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
            name: work.name().into(),
            title: work.title().into(),
            base: contenders
                .get(base)
                .map_or_else(String::new, |contender| contender.label.clone()),
            cpu_per_gigabyte: work.per() == Per::Gigabyte,
            fixed_rate: work == Work::Rate,
            rows: contenders.iter().zip(samples).map(row).collect(),
        }
    }
}

/// The difference between the largest and the smallest ratio: 0.05 for 5%.
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
        Per::Request => seconds * 1e6 / sample.succeeded as f64,
        Per::Gigabyte => seconds * 1e9 / sample.bytes as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_its_own_values_and_ratios_to_nginx() {
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
        let sample = |cpu, succeeded| Sample {
            seconds: 1.0,
            succeeded,
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
    fn large_responses_are_accounted_by_the_gigabyte() {
        let sample = Sample {
            bytes: 2_000_000_000,
            cpu: Some(0.5),
            ..Sample::default()
        };
        assert!((cpu(&sample, Per::Gigabyte) - 0.25).abs() < 1e-9);
    }
}
