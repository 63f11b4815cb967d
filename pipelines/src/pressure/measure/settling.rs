//! How long it takes to settle after a step, and to recover from a spike.

use super::quantile;
use crate::run::Ran;
use crate::scenario::Scenario;
use crate::trace::{Fate, NEVER};

const MS: u64 = 1_000_000;
/// Goodput is looked at this often.
const GRID_NS: u64 = MS / 2;
/// Goodput is taken over so many completions, so that their scatter is well below 5 %.
const COMPLETIONS: f64 = 5000.0;
/// Queue delay is averaged over so many starts, so that one that waited long is no relapse.
const STARTS: f64 = 100.0;
/// What has to be calm for so long, and over so many means, has recovered.
const STAYS_NS: u64 = 100 * MS;
const STAYS_BINS: usize = 20;

/// How long after the step the first stretch of 5000 completions' length begins from which on no
/// stretch has less than .95 of the goodput of the step's last third. Never: the whole step.
pub(super) fn convergence_ms(scenario: &Scenario, ran: &Ran) -> Option<f64> {
    let at = scenario.measure.step_at_ms? * MS;
    let until = scenario.measure.step_until_ms? * MS;
    let mut ends: Vec<u64> = ran
        .records
        .iter()
        .filter(|record| {
            record.fate == Fate::Done && record.ended - record.arrival.at_ns <= record.deadline_ns
        })
        .map(|record| record.ended)
        .collect();
    ends.sort_unstable();
    let between = |from: u64, to: u64| {
        ends.partition_point(|end| *end < to) - ends.partition_point(|end| *end < from)
    };
    let last_third = (until - at) / 3;
    let wanted = 0.95 * between(until - last_third, until) as f64 / last_third as f64;
    let width = ((COMPLETIONS / ran.capacity_per_s * 1e9) as u64).min((until - at) / 4);
    let mut settled = until;
    let mut from = until - width;
    while between(from, from + width) as f64 >= wanted * width as f64 {
        settled = from;
        if from < at + GRID_NS {
            settled = at;
            break;
        }
        from -= GRID_NS;
    }
    Some((settled - at) as f64 / 1e6)
}

/// How long after the spike the first stretch of a tenth of a second (and of twenty means) begins
/// throughout which the mean queue delay is at most what the p99 of queue delay was before (at least
/// a tenth of a service). At any load the p99 is passed now and then, so that no run would stay under
/// it for ever. Never: the rest of the run.
pub(super) fn recovery_ms(scenario: &Scenario, ran: &Ran, from: u64) -> Option<f64> {
    let spike_at = scenario.measure.spike_at_ms? * MS;
    let spike_until = scenario.measure.spike_until_ms? * MS;
    let end = scenario.duration_ms * MS;
    let mut before = Vec::new();
    let bin_ns = (STARTS / ran.capacity_per_s * 1e9).max(MS as f64) as u64;
    let bins = (end.saturating_sub(spike_until) / bin_ns) as usize;
    let mut delays = vec![(0_u64, 0_u64); bins];
    for record in ran.records.iter().filter(|record| record.started != NEVER) {
        let delay = record.started - record.offered;
        if (from..spike_at).contains(&record.started) {
            before.push(delay);
        } else if record.started >= spike_until {
            let bin = ((record.started - spike_until) / bin_ns) as usize;
            if let Some((sum, count)) = delays.get_mut(bin) {
                *sum += delay;
                *count += 1;
            }
        }
    }
    let usual = quantile(&mut before, 0.99).unwrap_or_default() as f64;
    let usual = usual.max(ran.mean_service_ns / 10.0);
    // A stretch in which nothing starts is not one in which nothing waits.
    let calm = |(sum, count): &(u64, u64)| *count > 0 && *sum as f64 <= usual * *count as f64;
    let stretch = ((STAYS_NS / bin_ns) as usize).max(STAYS_BINS);
    let recovered = settles(delays.iter().map(calm), stretch).unwrap_or(bins);
    Some((recovered as u64 * bin_ns) as f64 / 1e6)
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
