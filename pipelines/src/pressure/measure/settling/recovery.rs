//! From the end of a spike until queue delay stays what it was.

use super::{MS, Settled, mean_and_error, repeats};
use crate::measure::quantile;
use crate::run::Ran;
use crate::scenario::Scenario;
use crate::trace::NEVER;

/// Queue delay is averaged over so many starts, so that one that waited long is no relapse.
const STARTS: f64 = 100.0;
/// What has to be calm for so long, and over so many means, has recovered.
const STAYS_NS: u64 = 100 * MS;
const STAYS_BINS: usize = 20;

/// The delays of what started in a stretch after one spike.
#[derive(Clone, Copy, Default)]
struct Delays {
    sum: u64,
    count: u64,
}

/// How long after the spike the first row of stretches of a tenth of a second (and of twenty) begins
/// in each of which the mean queue delay, over all spikes, is at most what the p99 of queue delay was
/// before the first (at least a tenth of a service). At any load the p99 is passed now and then, so
/// that no run would stay under it for ever. Never: the rest of the run.
pub(in crate::measure) fn recovery(scenario: &Scenario, ran: &Ran, from: u64) -> Option<Settled> {
    let spike_at = scenario.measure.spike_at_ms? * MS;
    let length = scenario.measure.spike_until_ms? * MS - spike_at;
    let end = scenario.duration_ms * MS;
    let every = scenario.measure.spike_every_ms;
    let spikes = repeats(spike_at, length, every, end);
    let calm_ns = every.map_or(u64::MAX, |ms| (ms * MS).saturating_sub(length));
    let begins: Vec<u64> = spikes.iter().map(|at| at + length).collect();
    // As long as it is calm after each of them.
    let span = (end - begins.last()?).min(calm_ns);
    let width = (STARTS / (ran.capacity_per_s * begins.len() as f64) * 1e9) as u64;
    let width = width.max((ran.mean_service_ns / 2.0) as u64).max(1);
    let count = (span / width) as usize;
    let mut before = Vec::new();
    let mut delays = vec![vec![Delays::default(); begins.len()]; count];
    for record in ran.records.iter().filter(|record| record.started != NEVER) {
        let delay = record.started - record.offered;
        if (from..spike_at).contains(&record.started) {
            before.push(delay);
        }
        let spike = begins.partition_point(|begin| *begin <= record.started);
        let Some(spike) = spike.checked_sub(1) else {
            continue;
        };
        let stretch = ((record.started - begins[spike]) / width) as usize;
        if let Some(stretch) = delays.get_mut(stretch) {
            stretch[spike].sum += delay;
            stretch[spike].count += 1;
        }
    }
    let usual = quantile(&mut before, 0.99).unwrap_or_default() as f64;
    let usual = usual.max(ran.mean_service_ns / 10.0);
    // A stretch in which nothing starts is not one in which nothing waits.
    let calm = delays.iter().map(|stretch| {
        let (sum, count) = stretch.iter().fold((0, 0), |(sum, count), one| {
            (sum + one.sum, count + one.count)
        });
        count > 0 && sum as f64 <= usual * count as f64
    });
    let row = ((STAYS_NS / width) as usize).max(STAYS_BINS);
    let first = settles(calm, row);
    let ns = first.map_or(span, |first| (first as u64 + 1) * width);
    let means = first.and_then(|first| delays.get(first)).map(|stretch| {
        let served = stretch.iter().filter(|one| one.count > 0);
        served
            .map(|one| one.sum as f64 / one.count as f64)
            .collect::<Vec<f64>>()
    });
    let (_, error) = mean_and_error(&means.unwrap_or_default(), |mean| mean / STARTS.sqrt());
    Some(Settled::new(ns, width, begins.len(), error / usual))
}

/// Where the first so many in a row begin that are all calm.
fn settles(calm: impl Iterator<Item = bool>, stretch: usize) -> Option<usize> {
    let mut row = 0;
    for (place, calm) in calm.enumerate() {
        row = if calm { row + 1 } else { 0 };
        if row == stretch {
            return Some(place + 1 - stretch);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_settles_where_the_first_long_row_begins() {
        let calm = [true, true, false, true, false, true, true, true, false];
        assert_eq!(settles(calm.into_iter(), 2), Some(0));
        assert_eq!(settles(calm.into_iter(), 3), Some(5));
        assert_eq!(settles(calm.into_iter(), 4), None);
    }
}
