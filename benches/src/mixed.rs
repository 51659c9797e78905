//! The sizes and think times of `mixed`: a model that was fitted to traces of web users.
//!
//! Barford and Crovella, "Generating Representative Web Workloads for Network and Server
//! Performance Evaluation" (SURGE), SIGMETRICS 1998, fit these distributions to the traces of web
//! users at Boston University (Cunha, Bestavros and Crovella, "Characteristics of WWW Client-based
//! Traces", BU-CS-95-010):
//!
//! - size of a response: Pareto, k = 1,000 bytes, α = 1.0
//! - files of a page: Pareto, k = 1, α = 2.43
//! - time between the files of a page: Weibull, scale 1.46 s, shape 0.382
//! - time between pages: Pareto, k = 1 s, α = 1.5
//!
//! Sizes end at 1 MiB and times at a minute: the tails have no mean. Times are divided by 100, so
//! that 128 connections send some thousand requests a second.

use std::time::Duration;

use crate::rng::Rng;

/// The connections: users of the model.
pub(crate) const USERS: usize = 128;
/// The number of different sizes. They are prepared by the origin.
pub(crate) const SIZES: usize = 32;
const SMALLEST: f64 = 1_000.0;
const LARGEST: f64 = 1_048_576.0;
/// The number of requests after which the script repeats.
const REQUESTS: usize = 8_192;
const LONGEST_SECONDS: f64 = 60.0;
const SPEED: f64 = 100.0;

/// One request of the script.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    /// The time before it.
    pub(crate) think: Duration,
    /// The index of the size of its response.
    pub(crate) size: usize,
}

/// The bytes of a response. The sizes are equally far apart on a logarithmic scale.
pub(crate) fn size(index: usize) -> usize {
    let part = index as f64 / (SIZES - 1) as f64;
    (SMALLEST * (LARGEST / SMALLEST).powf(part)) as usize
}

/// The same script for every proxy and every run.
pub(crate) fn script() -> Vec<Step> {
    let mut rng = Rng::new(1998);
    let mut steps = Vec::with_capacity(REQUESTS);
    while steps.len() < REQUESTS {
        let files = pareto(rng.uniform(), 1.0, 2.43) as usize;
        for file in 0..files.min(REQUESTS - steps.len()) {
            let seconds = match file {
                0 => pareto(rng.uniform(), 1.0, 1.5),
                _ => weibull(rng.uniform(), 1.46, 0.382),
            };
            steps.push(Step {
                think: Duration::from_secs_f64(seconds.min(LONGEST_SECONDS) / SPEED),
                size: nearest(pareto(rng.uniform(), SMALLEST, 1.0)),
            });
        }
    }
    steps
}

/// The index of the nearest size, on a logarithmic scale.
fn nearest(bytes: f64) -> usize {
    let part = (bytes.min(LARGEST) / SMALLEST).ln() / (LARGEST / SMALLEST).ln();
    (part * (SIZES - 1) as f64).round() as usize
}

/// By inversion, from a number in [0, 1).
fn pareto(uniform: f64, k: f64, alpha: f64) -> f64 {
    k / (1.0 - uniform).powf(1.0 / alpha)
}

fn weibull(uniform: f64, scale: f64, shape: f64) -> f64 {
    scale * (-(1.0 - uniform).ln()).powf(1.0 / shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
        values.sort_by(f64::total_cmp);
        values[(values.len() as f64 * part) as usize]
    }

    #[test]
    fn sizes_run_from_the_smallest_to_the_largest() {
        assert_eq!((size(0), size(SIZES - 1)), (1_000, 1_048_576));
        for index in 0..SIZES {
            assert_eq!(nearest(size(index) as f64), index);
        }
        assert_eq!(nearest(1e12), SIZES - 1);
    }

    #[test]
    fn the_script_follows_the_model() {
        let steps = script();
        assert_eq!(steps.len(), REQUESTS);
        let sizes: Vec<f64> = steps.iter().map(|step| size(step.size) as f64).collect();
        // Half of a Pareto distribution with α = 1 lies below 2 k, and nine tenths below 10 k.
        let (half, most) = (quantile(sizes.clone(), 0.5), quantile(sizes, 0.9));
        assert!((1_700.0..2_300.0).contains(&half), "{half}");
        assert!((8_500.0..12_000.0).contains(&most), "{most}");
        let think: f64 = steps.iter().map(|step| step.think.as_secs_f64()).sum();
        // 128 users send some thousand requests a second.
        let rate = USERS as f64 * REQUESTS as f64 / think;
        assert!((2_000.0..6_000.0).contains(&rate), "{rate}");
        assert!(
            steps
                .iter()
                .all(|step| step.think <= Duration::from_millis(600))
        );
    }

    #[test]
    fn the_script_is_the_same_in_every_run() {
        assert_eq!(script(), script());
    }
}
