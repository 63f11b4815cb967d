//! What a controller changed of late, and why.

use std::collections::VecDeque;
use std::fmt;

use crate::time::Time;

/// One change that a controller made.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Adjustment {
    /// When.
    pub at: Time,
    /// Which value was changed, as the controller names it: `"limit"`, `"batch_items"`, `"state"`.
    pub what: &'static str,
    /// Its value before, in its own unit; of a state, its number.
    pub from: f64,
    /// Its value from then on.
    pub to: f64,
    /// What it was changed for, in words.
    pub because: &'static str,
}

impl fmt::Display for Adjustment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.3} s: {} {} -> {}: {}",
            self.at.as_nanos() as f64 / 1e9,
            self.what,
            self.from,
            self.to,
            self.because
        )
    }
}

/// The last adjustments of a controller, and how many there were in all. Bounded: an adjustment past
/// the bound drops the oldest.
#[derive(Clone, Debug)]
pub struct History {
    last: VecDeque<Adjustment>,
    bound: usize,
    total: u64,
}

impl Default for History {
    /// Keeps 64 adjustments.
    fn default() -> History {
        History::new(64)
    }
}

impl History {
    /// Keeps that many adjustments; 0 counts as 1.
    #[must_use]
    pub fn new(bound: usize) -> History {
        History {
            last: VecDeque::new(),
            bound: bound.max(1),
            total: 0,
        }
    }

    /// Adds an adjustment, unless it changes nothing.
    pub fn add(&mut self, adjustment: Adjustment) {
        if adjustment.from.total_cmp(&adjustment.to).is_eq() {
            return;
        }
        if self.last.len() == self.bound {
            self.last.pop_front();
        }
        self.last.push_back(adjustment);
        self.total += 1;
    }

    /// The adjustments that are still known, the oldest first.
    pub fn last(&self) -> impl DoubleEndedIterator<Item = &Adjustment> + '_ {
        self.last.iter()
    }

    /// How many there were in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(to: f64) -> Adjustment {
        Adjustment {
            at: Time::from_nanos(1_500_000_000),
            what: "limit",
            from: 1.0,
            to,
            because: "a test",
        }
    }

    #[test]
    fn it_keeps_the_last_and_counts_all() {
        let mut history = History::new(2);
        for to in [2.0, 3.0, 1.0, 4.0] {
            history.add(step(to));
        }
        let kept: Vec<f64> = history.last().map(|adjustment| adjustment.to).collect();
        assert_eq!(kept, [3.0, 4.0], "1.0 changes nothing, 2.0 was the oldest");
        assert_eq!(history.total(), 3);
        assert_eq!(step(2.0).to_string(), "1.500 s: limit 1 -> 2: a test");
    }
}
