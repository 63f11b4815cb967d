//! From a step of the load until goodput stays where it ends.

use super::{MS, Settled, mean_and_error, repeats};
use crate::run::Ran;
use crate::scenario::Scenario;
use crate::trace::Fate;

/// Completions in a stretch, over all steps: their scatter is then 1 %, a fifth of what is to be told.
const COMPLETIONS: f64 = 10_000.0;
/// Stretches begin that often within one.
const GRID: usize = 4;
/// What of the final mean goodput is to stay above.
const SETTLED: f64 = 0.95;

/// How long after the step goodput stays at .95 of its mean over the step's last third, over stretches
/// of so many completions. Never: the whole step.
pub(in crate::measure) fn convergence(scenario: &Scenario, ran: &Ran) -> Option<Settled> {
    let at = scenario.measure.step_at_ms? * MS;
    let length = scenario.measure.step_until_ms? * MS - at;
    let end = scenario.duration_ms * MS;
    let steps = repeats(at, length, scenario.measure.step_every_ms, end);
    let done = ran.records.iter().filter(|record| {
        record.fate == Fate::Done && record.ended - record.arrival.at_ns <= record.deadline_ns
    });
    let mut ends: Vec<u64> = done.map(|record| record.ended).collect();
    ends.sort_unstable();
    over(&steps, length, &ends, ran.capacity_per_s)
}

/// The same of completions at those times.
fn over(steps: &[u64], length: u64, ends: &[u64], capacity_per_s: f64) -> Option<Settled> {
    let count = steps.len();
    let needed = COMPLETIONS / (capacity_per_s * count as f64) * 1e9;
    let grid = ((needed as u64).min(length / 4) / GRID as u64).max(1);
    let width = grid * GRID as u64;
    let cells = (length / grid) as usize;
    // What each step completed in each cell.
    let mut done = vec![vec![0_u32; cells]; count];
    for (cells, step) in done.iter_mut().zip(steps) {
        let within = ends.partition_point(|end| end < step)..;
        for end in ends[within].iter().take_while(|end| **end < step + length) {
            if let Some(cell) = cells.get_mut(((end - step) / grid) as usize) {
                *cell += 1;
            }
        }
    }
    let in_cells = |from: usize, to: usize| -> Vec<f64> {
        let sums = done.iter().map(|cells| cells[from..to].iter().sum::<u32>());
        sums.map(f64::from).collect()
    };
    let last_third = cells - cells / 3;
    let (end_mean, _) = mean_and_error(&in_cells(last_third, cells), f64::sqrt);
    let wanted = end_mean * GRID as f64 / (cells - last_third) as f64;
    if wanted <= 0.0 {
        return None;
    }
    let (_, error) = mean_and_error(&in_cells(cells - GRID, cells), f64::sqrt);
    let mut first = None;
    for from in (0..=cells - GRID).rev() {
        let (mean, _) = mean_and_error(&in_cells(from, from + GRID), f64::sqrt);
        if mean < SETTLED * wanted {
            break;
        }
        first = Some(from);
    }
    let ns = first.map_or(length, |from| from as u64 * grid + width);
    Some(Settled::new(ns, width, count, error / wanted))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::random::Random;

    /// Completions of 8 workers of 1 ms: `goodput` of the time since the step, many times.
    fn run(steps: u64, goodput: impl Fn(f64) -> f64) -> Settled {
        let (length, every) = (90 * MS, 150 * MS);
        let begins: Vec<u64> = (0..steps).map(|step| step * every).collect();
        let mut random = Random::new(1, "completions");
        let mut ends = Vec::new();
        let mut now = 0.0;
        while now < (steps * every) as f64 {
            now += random.exponential() * 125_000.0;
            let since_ms = (now as u64 % every) as f64 / 1e6;
            if random.happens(goodput(since_ms)) {
                ends.push(now as u64);
            }
        }
        over(&begins, length, &ends, 8000.0).unwrap()
    }

    #[test]
    fn with_a_thousand_steps_a_millisecond_can_be_told_from_five_and_twenty() {
        for (settles_ms, tells_ms) in [(1.0, 1.0..3.5), (5.0, 5.0..7.5), (20.0, 20.0..22.5)] {
            let settled = run(1000, |ms| if ms < settles_ms { 0.85 } else { 1.0 });
            assert!(tells_ms.contains(&settled.ms), "{settles_ms}: {settled:?}");
            assert!(settled.resolution_ms < 1.3, "{settled:?}");
            assert!(settled.standard_error < 0.013, "{settled:?}");
            assert_eq!(settled.repeats, 1000);
        }
    }

    #[test]
    fn what_is_settled_at_once_is_told_as_the_resolution_and_never_as_nothing() {
        let settled = run(1000, |_| 1.0);
        assert!(settled.is_below_resolution(), "{settled:?}");
        assert!(settled.ms > 1.0);
        let coarse = run(1, |_| 1.0);
        assert!(coarse.ms > 20.0, "one step tells nothing finer: {coarse:?}");
    }

    #[test]
    fn a_dip_late_in_the_step_has_not_converged_before_it() {
        let settled = run(
            1000,
            |ms| if (30.0..33.0).contains(&ms) { 0.9 } else { 1.0 },
        );
        assert!((33.0..36.0).contains(&settled.ms), "{settled:?}");
        let never = run(1000, |ms| if ms < 87.0 { 1.0 } else { 0.2 });
        assert!((never.ms - 90.0).abs() < 1e-9, "{never:?}");
    }
}
