//! How a run went over time: what is plotted.

use super::quantile;
use crate::run::Ran;
use crate::scenario::{ByClass, Rank};
use crate::system::BreakerState;
use crate::trace::{Fate, NEVER};

/// Stretches of equal length a run is cut into.
const BINS: u64 = 120;

/// One stretch.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Bin {
    /// Its middle.
    pub(crate) at_s: f64,
    /// Offers, in multiples of the capacity.
    pub(crate) offered: f64,
    /// Completions in time, in multiples of the capacity.
    pub(crate) goodput: f64,
    /// The part done in time of HIGH that was offered then.
    pub(crate) high_in_time: Option<f64>,
    /// Latency, 99th percentile, of what ended then.
    pub(crate) p99_us: ByClass<Option<f64>>,
}

/// A run over time.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Series {
    pub(crate) bins: Vec<Bin>,
    /// Seconds and value.
    pub(crate) limit: Vec<(f64, f64)>,
    pub(crate) batch: Vec<(f64, f64)>,
    pub(crate) reject_ratio: Vec<(f64, f64)>,
    /// 0 closed, 1 half-open, 2 open.
    pub(crate) breaker: Vec<(f64, f64)>,
}

pub(super) fn series(ran: &Ran, duration_ns: u64) -> Series {
    let width = (duration_ns / BINS).max(1);
    let bin = |at: u64| ((at / width) as usize).min(BINS as usize - 1);
    let mut offered = vec![0_u64; BINS as usize];
    let mut in_time = vec![0_u64; BINS as usize];
    let mut high = vec![(0_u64, 0_u64); BINS as usize];
    let mut latencies = vec![ByClass::make(|_| Vec::<u64>::new()); BINS as usize];
    for record in &ran.records {
        if record.offered != NEVER && record.offered < duration_ns {
            offered[bin(record.offered)] += 1;
            if record.arrival.rank == Rank::High {
                let (all, served) = &mut high[bin(record.offered)];
                let in_time = record.fate == Fate::Done
                    && record.ended - record.arrival.at_ns <= record.deadline_ns;
                *all += 1;
                *served += u64::from(in_time);
            }
        }
        if record.fate == Fate::Done && record.ended < duration_ns {
            let latency = record.ended - record.arrival.at_ns;
            let at = bin(record.ended);
            in_time[at] += u64::from(latency <= record.deadline_ns);
            let class = &mut latencies[at];
            match record.arrival.rank {
                Rank::High => class.high.push(latency),
                Rank::Medium => class.medium.push(latency),
                Rank::Low => class.low.push(latency),
            }
        }
    }
    let capacity = ran.capacity_per_s * width as f64 / 1e9;
    let bins = latencies.iter_mut().enumerate().map(|(number, latencies)| {
        let p99 = |values: &mut Vec<u64>| quantile(values, 0.99).map(|ns| ns as f64 / 1e3);
        Bin {
            at_s: (number as f64 + 0.5) * width as f64 / 1e9,
            offered: offered[number] as f64 / capacity,
            goodput: in_time[number] as f64 / capacity,
            high_in_time: (high[number].0 > 0)
                .then(|| high[number].1 as f64 / high[number].0 as f64),
            p99_us: ByClass {
                high: p99(&mut latencies.high),
                medium: p99(&mut latencies.medium),
                low: p99(&mut latencies.low),
            },
        }
    });
    let bins = bins.collect();
    let over_time = |of: &dyn Fn(&crate::system::Observation) -> Option<f64>| {
        ran.samples
            .iter()
            .filter_map(|sample| Some((sample.at_ns as f64 / 1e9, of(&sample.observed)?)))
            .collect()
    };
    Series {
        bins,
        limit: over_time(&|observed| observed.limit),
        batch: over_time(&|observed| observed.batch),
        reject_ratio: over_time(&|observed| observed.reject_ratio),
        breaker: over_time(&|observed| {
            observed.breaker.map(|state| match state {
                BreakerState::Closed => 0.0,
                BreakerState::HalfOpen => 1.0,
                BreakerState::Open => 2.0,
            })
        }),
    }
}
