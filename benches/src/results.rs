//! The results of a run, as written to `results.json`.

use serde::{Deserialize, Serialize};

use crate::estimate::Estimate;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::metric::{Estimates, Metric};
use crate::peers::{Installed, Peer};
use crate::race::Race;
use crate::rounds::Effort;
use crate::work::Work;

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
    /// The memory of each proxy with idle TLS connections.
    #[serde(default)]
    pub(crate) memory_tls: Vec<Memory>,
    /// The memory of each proxy with idle HTTP/2 connections.
    #[serde(default)]
    pub(crate) memory_h2: Vec<Memory>,
    /// The memory of each proxy with stalled HTTP/2 connections.
    #[serde(default)]
    pub(crate) memory_stalled: Vec<Memory>,
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
    /// Whether contenders are compared by latency though the rate is not fixed.
    #[serde(default)]
    pub(crate) compare_latency: bool,
    /// Remarks, such as why a peer does not take part.
    #[serde(default)]
    pub(crate) notes: Vec<String>,
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
    /// The estimates, with ratios to the base.
    #[serde(flatten)]
    pub(crate) estimates: Estimates,
    /// The share of user mode, from 0 to 1.
    pub(crate) user_share: f64,
    /// Minor page faults per request.
    pub(crate) page_faults_per_request: f64,
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
    /// The best rivals.
    #[serde(default)]
    pub(crate) best: Best,
    /// Ratios to nginx, to HAProxy, to the best rivals and to the same proxy as a process; those of
    /// crossfade to every rival.
    #[serde(default)]
    pub(crate) versus: Vec<Versus>,
}

/// The rivals that are best by a metric, as labels.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Best {
    /// By CPU time.
    pub(crate) cpu: Option<String>,
    /// By requests a second.
    pub(crate) rate: Option<String>,
    /// By the 99th percentile of latency.
    pub(crate) p99: Option<String>,
}

/// The ratios of a row to another row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Versus {
    /// The other row.
    pub(crate) label: String,
    /// The estimates, with ratios to the other row.
    #[serde(flatten)]
    pub(crate) estimates: Estimates,
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
            memory_tls: Vec::new(),
            memory_h2: Vec::new(),
            memory_stalled: Vec::new(),
            race: Vec::new(),
            repeated: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// The rows of a workload that measures memory.
    pub(crate) fn memory_of(&self, work: Work) -> &[Memory] {
        match work {
            Work::IdleTls => &self.memory_tls,
            Work::IdleH2 => &self.memory_h2,
            Work::Stalled => &self.memory_stalled,
            _ => &self.memory,
        }
    }

    /// Failed requests of all workloads. Those of the race are part of its results.
    pub(crate) fn failed(&self) -> u64 {
        let rows = self.workloads.iter().flat_map(|workload| &workload.rows);
        rows.map(|row| row.failed).sum()
    }
}

impl Workload {
    /// The metrics that contenders are compared by. In a closed loop latency follows from the
    /// rate, and at a fixed rate the rate is the same for all.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let mut metrics = vec![Metric::Cpu];
        if !self.fixed_rate {
            metrics.push(Metric::Rate);
        }
        if self.fixed_rate || self.compare_latency {
            metrics.extend([Metric::P50, Metric::P99, Metric::P999]);
        }
        metrics
    }
}

impl Row {
    /// What its label has beside the name of the peer: the number of workers, for example.
    pub(crate) fn shape(&self) -> &str {
        self.label
            .strip_prefix(self.peer.name())
            .unwrap_or_default()
    }

    /// Whether it is a rival of the other row, in the same shape. The best of them may be nginx;
    /// crossfade is no rival of others.
    pub(crate) fn is_rival_of(&self, other: &Self) -> bool {
        self.peer.is_rival()
            && self.peer != Peer::Crossfade
            && self.peer != other.peer
            && self.shape() == other.shape()
    }

    /// Whether it is the same proxy as the other row, as a process rather than in a container.
    pub(crate) fn is_process_of(&self, other: &Self) -> bool {
        self.peer == other.peer && self.shape().is_empty() && !other.shape().is_empty()
    }

    /// The ratio to another row.
    pub(crate) fn to(&self, label: &str, metric: Metric) -> Option<Estimate> {
        let versus = self.versus.iter().find(|versus| versus.label == label)?;
        versus.estimates.get(metric)
    }
}

impl Best {
    /// The best rival by this metric.
    pub(crate) fn get(&self, metric: Metric) -> Option<&str> {
        match metric {
            Metric::Cpu => self.cpu.as_deref(),
            Metric::Rate => self.rate.as_deref(),
            Metric::P50 | Metric::P99 | Metric::P999 => self.p99.as_deref(),
        }
    }

    /// Whether this rival is the best by any metric.
    pub(crate) fn names(&self, label: &str) -> bool {
        let all = [&self.cpu, &self.rate, &self.p99];
        all.iter().any(|best| best.as_deref() == Some(label))
    }
}

/// The difference between the largest and the smallest ratio: 0.05 for 5%.
pub(crate) fn apart(ratios: &[f64]) -> f64 {
    let most = ratios.iter().copied().fold(f64::MIN, f64::max);
    let least = ratios.iter().copied().fold(f64::MAX, f64::min);
    most / least - 1.0
}

/// Rows and workloads for tests.
#[cfg(test)]
pub(crate) mod examples {
    use super::*;

    pub(crate) fn row(peer: Peer, estimates: Estimates) -> Row {
        Row {
            label: peer.name().into(),
            peer,
            estimates,
            user_share: 0.3,
            page_faults_per_request: 0.0,
            failed: 0,
            swaps_per_second: 0.0,
            busy_elsewhere: 0.0,
            disturbed: 0,
            load_was_limit: false,
            best: Best::default(),
            versus: Vec::new(),
        }
    }

    pub(crate) fn workload(rows: Vec<Row>) -> Workload {
        Workload {
            name: "small".into(),
            title: "small JSON".into(),
            base: "nginx".into(),
            cpu_per_gigabyte: false,
            fixed_rate: false,
            compare_latency: false,
            notes: Vec::new(),
            rows,
        }
    }

    /// An estimate with an interval of this width on either side of its ratio.
    pub(crate) fn estimate(ratio: f64, spread: f64) -> Option<Estimate> {
        Some(Estimate {
            value: ratio,
            ratio,
            low: ratio - spread,
            high: ratio + spread,
        })
    }
}
