//! How long elements took, in histograms of bounded size.

use std::sync::{Mutex, MutexGuard};

use hdrhistogram::Histogram;

use crate::class::Class;

/// Recorded values are microseconds with three significant digits, up to an hour: what is longer
/// counts as an hour. A histogram then has at most 180 KiB.
const MAX_US: u64 = 3_600_000_000;

#[derive(Default, Debug)]
pub(crate) struct LatencyLedger {
    classes: Mutex<Vec<Option<Histogram<u64>>>>,
}

impl LatencyLedger {
    fn lock(&self) -> MutexGuard<'_, Vec<Option<Histogram<u64>>>> {
        match self.classes.lock() {
            Ok(classes) => classes,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    pub(crate) fn record(&self, class: usize, ns: u64, count: u64) {
        let mut classes = self.lock();
        if classes.len() <= class {
            classes.resize(Class::COUNT + 1, None);
        }
        let slot = &mut classes[class];
        if slot.is_none() {
            *slot = Histogram::new(3).ok();
        }
        if let Some(histogram) = slot {
            // Cannot fail: the histogram resizes itself, and the value is bounded.
            let _ = histogram.record_n((ns / 1000).min(MAX_US), count);
        }
    }

    pub(crate) fn read(&self) -> Latency {
        Latency {
            classes: self.lock().clone(),
        }
    }
}

/// Latencies from a source to a delivery, in microseconds, by class.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Latency {
    classes: Vec<Option<Histogram<u64>>>,
}

impl Latency {
    /// The histogram of one class (index 8: unclassified), if anything was recorded.
    #[must_use]
    pub fn class(&self, index: usize) -> Option<&Histogram<u64>> {
        self.classes.get(index).and_then(Option::as_ref)
    }

    /// All classes in one histogram.
    #[must_use]
    pub fn all(&self) -> Option<Histogram<u64>> {
        let mut whole: Option<Histogram<u64>> = None;
        for one in self.classes.iter().flatten() {
            match &mut whole {
                None => whole = Some(one.clone()),
                Some(whole) => {
                    let _ = whole.add(one);
                }
            }
        }
        whole
    }

    /// The latency in microseconds below which that share (0..1) of all deliveries lies.
    #[must_use]
    pub fn quantile_us(&self, quantile: f64) -> u64 {
        self.all().map_or(0, |all| all.value_at_quantile(quantile))
    }

    /// The longest latency in microseconds.
    #[must_use]
    pub fn max_us(&self) -> u64 {
        self.all().map_or(0, |all| all.max())
    }

    /// Adds another record to this one.
    pub fn add(&mut self, other: &Latency) {
        let classes = self.classes.len().max(other.classes.len());
        self.classes.resize(classes, None);
        for (mine, theirs) in self.classes.iter_mut().zip(&other.classes) {
            match (mine, theirs) {
                (Some(mine), Some(theirs)) => {
                    let _ = mine.add(theirs);
                }
                (mine @ None, Some(theirs)) => *mine = Some(theirs.clone()),
                (_, None) => {}
            }
        }
    }
}
