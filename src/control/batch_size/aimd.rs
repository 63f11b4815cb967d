//! Up by a step while batches are in time, down by a share when one is late.

use std::time::Duration;

use super::{BatchSample, BatchSize, BatchSizeSnapshot, Bounds, bounds_setters};
use crate::control::bounded::Bounded;
use crate::control::{BatchLimits, History, Invalid};
use crate::time::Time;

/// The settings of an [`Aimd`].
///
/// Defaults: initial 1, 1 to 1000 elements, up by 1 after each full batch, down by 10 % as in
/// Clipper, no growth past 0.9 of the target, 5 batches between two changes as in faucet-stream.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AimdBuilder {
    bounds: Bounds,
    target: Duration,
    initial: usize,
    step: usize,
    backoff: f64,
    hold: f64,
    cool_down: u32,
}

impl AimdBuilder {
    bounds_setters!("1", "1000");

    /// The size to begin with, in elements: least to most. Default 1.
    #[must_use]
    pub fn initial(mut self, items: usize) -> Self {
        self.initial = items;
        self
    }

    /// How many elements are added at once: 1 or more. Default 1.
    #[must_use]
    pub fn step(mut self, items: usize) -> Self {
        self.step = items;
        self
    }

    /// What a cut leaves of the size: 0.1 or more, below 1. Default 0.9.
    #[must_use]
    pub fn backoff(mut self, share: f64) -> Self {
        self.backoff = share;
        self
    }

    /// From which share of the target on the size is left as it is: above 0, at most 1. Default 0.9.
    /// With 1 there is no such band, and the size swings up and down for ever.
    #[must_use]
    pub fn hold(mut self, share: f64) -> Self {
        self.hold = share;
        self
    }

    /// How many batches must have been processed since the last change before the next. Default 5:
    /// batches that were under way at a change are not judged by it.
    #[must_use]
    pub fn cool_down(mut self, batches: u32) -> Self {
        self.cool_down = batches;
        self
    }

    /// The size.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    pub fn build(self) -> Result<Aimd, Invalid> {
        self.bounds.check()?;
        self.bounds.check_initial(self.initial)?;
        Invalid::unless(
            !self.target.is_zero(),
            "target",
            format!("{:?}", self.target),
            "more than 0",
        )?;
        Invalid::unless(self.step >= 1, "step", self.step, "1 or more")?;
        Invalid::unless(
            (0.1..1.0).contains(&self.backoff),
            "backoff",
            self.backoff,
            "0.1 to below 1",
        )?;
        Invalid::unless(
            self.hold > 0.0 && self.hold <= 1.0,
            "hold",
            self.hold,
            "above 0, at most 1",
        )?;
        Ok(Aimd {
            settings: self,
            value: Bounded::new(
                "batch_items",
                self.initial,
                self.bounds.least,
                self.bounds.most,
            ),
            since: self.cool_down,
            recent: None,
            batches: 0,
        })
    }
}

/// Additive increase until a batch takes longer than the target, then a cut: Clipper's batching
/// (NSDI'17).
///
/// Only full batches let it grow: one that was closed early says nothing about a larger one. It is
/// cut from the size of the batch that was late, at most once a cool-down. Between `hold` and the
/// whole of the target it stays where it is.
///
/// If a batch of one element is late, the target cannot be met and the size goes to its lower bound,
/// with the throughput of that. [`LatencyTarget`](super::LatencyTarget) does the same; where
/// throughput matters more, set the lower bound accordingly.
#[derive(Clone, Debug)]
pub struct Aimd {
    settings: AimdBuilder,
    value: Bounded,
    /// Batches since the last change.
    since: u32,
    recent: Option<Duration>,
    batches: u64,
}

impl Aimd {
    /// Settings to change: `target` is how long a batch may take to be processed, more than 0.
    #[must_use]
    pub fn builder(target: Duration) -> AimdBuilder {
        AimdBuilder {
            bounds: Bounds::new(1, 1000),
            target,
            initial: 1,
            step: 1,
            backoff: 0.9,
            hold: 0.9,
            cool_down: 5,
        }
    }

    /// The figures of faucet-stream: 100 to 50 000 elements, up by 250, down by half, 5 batches
    /// between two changes.
    #[must_use]
    pub fn faucet(target: Duration) -> AimdBuilder {
        Aimd::builder(target)
            .bounds(100, 50_000)
            .initial(100)
            .step(250)
            .backoff(0.5)
            .cool_down(5)
    }
}

impl BatchSize for Aimd {
    fn on_batch(&mut self, now: Time, batch: &BatchSample) {
        self.recent = Some(batch.service);
        self.batches += 1;
        self.since = self.since.saturating_add(1);
        if batch.items == 0 || self.since <= self.settings.cool_down {
            return;
        }
        let size = self.value.get();
        let changed = if batch.service > self.settings.target {
            let late = batch.items.min(size) as f64;
            // At least by one: a share of a small batch would round to nothing.
            let to = (late * self.settings.backoff)
                .floor()
                .min(size as f64 - 1.0);
            self.value
                .set(now, to, "a batch took longer than the target")
        } else if batch.items >= size
            && batch.service < self.settings.target.mul_f64(self.settings.hold)
        {
            let to = size.saturating_add(self.settings.step) as f64;
            self.value.set(now, to, "a full batch was in time")
        } else {
            false
        };
        if changed {
            self.since = 0;
        }
    }

    fn size(&self) -> usize {
        self.value.get()
    }

    fn limits(&self) -> BatchLimits {
        self.settings.bounds.limits(self.size())
    }

    fn adjustments(&self) -> &History {
        self.value.history()
    }

    fn snapshot(&self) -> BatchSizeSnapshot {
        let bounds = &self.settings.bounds;
        BatchSizeSnapshot {
            recent: self.recent,
            batches: self.batches,
            ..bounds.snapshot("aimd", self.size())
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(10);

    fn batch(items: usize, ms: u64) -> BatchSample {
        BatchSample {
            items,
            bytes: 0,
            service: Duration::from_millis(ms),
        }
    }

    #[test]
    fn full_batches_in_time_add_and_late_ones_cut() {
        let mut size = Aimd::builder(TARGET)
            .initial(20)
            .cool_down(0)
            .build()
            .unwrap();
        size.on_batch(Time::ZERO, &batch(20, 5));
        assert_eq!(size.size(), 21);
        size.on_batch(Time::ZERO, &batch(20, 5));
        assert_eq!(size.size(), 21, "that one was not full");
        size.on_batch(Time::ZERO, &batch(21, 9));
        assert_eq!(size.size(), 21, "near the target it stays");
        size.on_batch(Time::ZERO, &batch(21, 11));
        assert_eq!(size.size(), 18);
        size.on_batch(Time::ZERO, &batch(10, 11));
        assert_eq!(size.size(), 9, "from what was too much");
    }

    #[test]
    fn it_changes_at_most_once_a_cool_down() {
        let mut size = Aimd::faucet(TARGET).initial(1000).build().unwrap();
        for _ in 0..6 {
            size.on_batch(Time::ZERO, &batch(1000, 99));
        }
        assert_eq!(size.size(), 500);
        size.on_batch(Time::ZERO, &batch(500, 99));
        assert_eq!(size.size(), 250, "five batches later");
    }

    #[test]
    fn settings_that_cannot_be_are_refused() {
        let refused = |builder: AimdBuilder| builder.build().unwrap_err().field;
        assert_eq!(refused(Aimd::builder(Duration::ZERO)), "target");
        assert_eq!(refused(Aimd::builder(TARGET).initial(0)), "initial");
        assert_eq!(refused(Aimd::builder(TARGET).step(0)), "step");
        assert_eq!(refused(Aimd::builder(TARGET).backoff(1.0)), "backoff");
        assert_eq!(refused(Aimd::builder(TARGET).hold(f64::NAN)), "hold");
    }
}
