//! How long it takes to settle after a step, and to recover from a spike.
//!
//! A few workers complete a few elements in a service time, too few to tell whether they do 95 % of
//! what they could. So a scenario can repeat its step or its spike: the repeats are laid over each
//! other, aligned at its beginning (its end), and the stretches that are judged are as short as the
//! number of completions (starts) in all of them together allows. What is told is the *end* of the
//! first stretch from which on it stays settled: the true time is at most that, and never shorter than
//! one stretch, the resolution.

mod convergence;
mod recovery;

pub(super) use convergence::convergence;
pub(super) use recovery::recovery;

use serde::Serialize;

const MS: u64 = 1_000_000;

/// How long it took, and how well that is known.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct Settled {
    /// At most that long. As long as the resolution: no longer than can be told.
    pub(crate) ms: f64,
    /// The length of the stretches that were judged.
    pub(crate) resolution_ms: f64,
    /// How many steps or spikes were laid over each other.
    pub(crate) repeats: u64,
    /// The standard error of what a stretch was judged by, as a share of what it was compared with.
    pub(crate) standard_error: f64,
}

impl Settled {
    fn new(ns: u64, resolution_ns: u64, repeats: usize, standard_error: f64) -> Settled {
        Settled {
            ms: ns as f64 / MS as f64,
            resolution_ms: resolution_ns as f64 / MS as f64,
            repeats: repeats as u64,
            standard_error: super::round(standard_error, 4),
        }
    }

    pub(crate) fn resolution(self) -> f64 {
        self.resolution_ms
    }

    /// Whether it was settled in the first stretch: how fast cannot be told.
    pub(crate) fn is_below_resolution(&self) -> bool {
        self.ms <= self.resolution_ms
    }
}

/// The beginnings of a thing that lasts so long and comes again after so long, as far as all of it is
/// in the run.
fn repeats(first_ns: u64, length_ns: u64, every_ms: Option<u64>, end_ns: u64) -> Vec<u64> {
    let step = every_ms.map_or(u64::MAX, |ms| ms.max(1) * MS);
    std::iter::successors(Some(first_ns), |at| at.checked_add(step))
        .take_while(|at| at.saturating_add(length_ns) <= end_ns)
        .collect()
}

/// The mean over the repeats, and its standard error; of a single one only what `alone` says.
fn mean_and_error(values: &[f64], alone: impl FnOnce(f64) -> f64) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    if values.len() < 2 {
        return (mean, alone(mean));
    }
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0) / count).sqrt())
}
