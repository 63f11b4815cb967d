//! The smallest batch that is nearly as cheap as the largest, and short enough.

use std::time::Duration;

use super::fit::Fit;
use super::{BatchSample, BatchSize, BatchSizeSnapshot, Bounds, bounds_setters};
use crate::control::bounded::Bounded;
use crate::control::{BatchLimits, History, Invalid};
use crate::time::Time;

/// The settings of a [`LatencyTarget`].
///
/// Defaults: initial 1, 1 to 1000 elements, 0.97 of the throughput of endless batches, no bound for
/// urgent elements, memory 0.98.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LatencyTargetBuilder {
    bounds: Bounds,
    target: Duration,
    blocking: Duration,
    throughput: f64,
    initial: usize,
    memory: f64,
}

impl LatencyTargetBuilder {
    bounds_setters!("1", "1000");

    /// The size to begin with, in elements: least to most. Default 1.
    #[must_use]
    pub fn initial(mut self, items: usize) -> Self {
        self.initial = items;
        self
    }

    /// How long an urgent element may wait behind a batch that has begun: more than 0. Default: no
    /// bound but the target.
    #[must_use]
    pub fn blocking(mut self, budget: Duration) -> Self {
        self.blocking = budget;
        self
    }

    /// Which share of the throughput of endless batches is enough, so that batches do not become
    /// larger than that takes: above 0, below 1. Default 0.97.
    #[must_use]
    pub fn throughput(mut self, share: f64) -> Self {
        self.throughput = share;
        self
    }

    /// What each batch leaves of what was known: 0.5 or more, below 1. Default 0.98, a memory of
    /// about 50 batches.
    #[must_use]
    pub fn memory(mut self, share: f64) -> Self {
        self.memory = share;
        self
    }

    /// The size.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    pub fn build(self) -> Result<LatencyTarget, Invalid> {
        self.bounds.check()?;
        self.bounds.check_initial(self.initial)?;
        let span = |span: Duration| format!("{span:?}");
        Invalid::unless(
            !self.target.is_zero(),
            "target",
            span(self.target),
            "more than 0",
        )?;
        Invalid::unless(
            self.bounds.wait < self.target,
            "wait",
            span(self.bounds.wait),
            "less than the target",
        )?;
        Invalid::unless(
            !self.blocking.is_zero(),
            "blocking",
            span(self.blocking),
            "more than 0",
        )?;
        Invalid::unless(
            self.throughput > 0.0 && self.throughput < 1.0,
            "throughput",
            self.throughput,
            "above 0, below 1",
        )?;
        Invalid::unless(
            (0.5..1.0).contains(&self.memory),
            "memory",
            self.memory,
            "0.5 to below 1",
        )?;
        Ok(LatencyTarget {
            settings: self,
            value: Bounded::new(
                "batch_items",
                self.initial,
                self.bounds.least,
                self.bounds.most,
            ),
            fit: Fit::new(self.memory),
            recent: None,
            batches: 0,
        })
    }
}

/// Fits `T(b) = a + c b` to the batches as they are processed, and takes the least of
///
/// - the size from which on throughput is 0.97 of `1 / c`, what endless batches would reach:
///   `0.97 a / (0.03 c)`;
/// - the size whose wait to fill and processing end within the target: `(target - wait - a) / c`;
/// - the size whose processing ends within what an urgent element may wait: `(blocking - a) / c`.
///
/// A change of less than 10 % is not worth it (Flink's buffer debloater leaves out 25 %); one change
/// at most doubles or halves. It grows only by full batches. Until batches of different sizes have
/// told `a` from `c`, it doubles as long as batches are in time, which makes them differ. After 64
/// full batches of like sizes one of half the size is asked for, lest a wrong fit stands for ever.
///
/// If `a` alone exceeds the target it cannot be met, and the size goes to its lower bound.
#[derive(Clone, Debug)]
pub struct LatencyTarget {
    settings: LatencyTargetBuilder,
    value: Bounded,
    fit: Fit,
    recent: Option<Duration>,
    batches: u64,
}

impl LatencyTarget {
    /// A change of a smaller share is left out.
    const HOLD: f64 = 0.1;
    /// After so many batches of like sizes one of another size is asked for.
    const ALIKE: u32 = 64;

    /// Settings to change: `target` is how long the wait to fill and the processing of a batch may
    /// take together, more than 0.
    #[must_use]
    pub fn builder(target: Duration) -> LatencyTargetBuilder {
        LatencyTargetBuilder {
            bounds: Bounds::new(1, 1000),
            target,
            blocking: Duration::MAX,
            throughput: 0.97,
            initial: 1,
            memory: 0.98,
        }
    }

    /// The best size by what batches cost, and which of the three bounds it comes from.
    fn best(&self, once: f64, each: f64) -> (f64, &'static str) {
        let fits = |span: Duration| {
            let left = span.as_nanos() as f64 - once;
            match left > 0.0 {
                false => 0.0,
                true if each > 0.0 => left / each,
                true => f64::INFINITY,
            }
        };
        let share = self.settings.throughput;
        let enough = if each > 0.0 {
            share * once / ((1.0 - share) * each)
        } else {
            f64::INFINITY
        };
        let target = self
            .settings
            .target
            .saturating_sub(self.settings.bounds.wait);
        let mut best = (enough.ceil(), "larger batches are hardly cheaper");
        for (size, because) in [
            (fits(target), "the latency target"),
            (
                fits(self.settings.blocking),
                "what an urgent element may wait",
            ),
        ] {
            if size.floor() < best.0 {
                best = (size.floor(), because);
            }
        }
        best
    }

    fn go(&mut self, now: Time, full: bool, to: f64, because: &'static str) {
        let size = self.value.get() as f64;
        let to = to.clamp(self.value.least() as f64, self.value.most() as f64);
        if (to - size).abs() < LatencyTarget::HOLD * size || (to > size && !full) {
            return;
        }
        self.value
            .set(now, to.clamp(size / 2.0, size * 2.0), because);
    }
}

impl BatchSize for LatencyTarget {
    fn on_batch(&mut self, now: Time, batch: &BatchSample) {
        self.recent = Some(batch.service);
        self.batches += 1;
        if batch.items == 0 {
            return;
        }
        let size = self.value.get();
        let full = batch.items >= size;
        self.fit.see(batch.items, batch.service.as_nanos() as f64);
        if let Some((once, each)) = self.fit.costs_ns() {
            if full && self.fit.alike() >= LatencyTarget::ALIKE {
                let half = size as f64 / 2.0;
                let to = if size > self.value.least() {
                    half
                } else {
                    4.0 * half
                };
                return self.go(now, full, to, "sizes must differ to be compared");
            }
            let (to, because) = self.best(once, each);
            return self.go(now, full, to, because);
        }
        let limit = self
            .settings
            .target
            .saturating_sub(self.settings.bounds.wait);
        let limit = limit.min(self.settings.blocking);
        if batch.service > limit {
            let to = batch.items.min(size) as f64 / 2.0;
            self.go(now, full, to, "a batch took too long");
        } else {
            self.go(now, full, size as f64 * 2.0, "to learn what batches cost");
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
        let cost = |ns: f64| Duration::try_from_secs_f64(ns / 1e9).unwrap_or_default();
        let costs = self.fit.costs_ns();
        BatchSizeSnapshot {
            once: costs.map(|(once, _)| cost(once)),
            each: costs.map(|(_, each)| cost(each)),
            recent: self.recent,
            batches: self.batches,
            ..bounds.snapshot("latency_target", self.size())
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const US: u64 = 1_000;

    /// Runs batches of `a + c b` microseconds, all full.
    fn run(size: &mut LatencyTarget, batches: usize, once: u64, each: u64) -> usize {
        for _ in 0..batches {
            let items = size.size();
            let service = Duration::from_nanos((once + each * items as u64) * US);
            size.on_batch(
                Time::ZERO,
                &BatchSample {
                    items,
                    bytes: 0,
                    service,
                },
            );
        }
        size.size()
    }

    #[test]
    fn each_of_the_three_bounds_holds() {
        let ms = Duration::from_millis;
        let free = LatencyTarget::builder(ms(1000)).bounds(1, 10_000);
        // 0.97 x 100 / (0.03 x 10) = 323
        let size = run(&mut free.build().unwrap(), 300, 100, 10);
        assert!((291..=324).contains(&size), "{size}");
        // (5 ms - 1 ms of waiting - 1 ms) / 10 us = 300
        let waits = LatencyTarget::builder(ms(5)).wait(ms(1));
        let size = run(&mut waits.build().unwrap(), 300, 1000, 10);
        assert!((270..=300).contains(&size), "{size}");
        // (2 ms - 1 ms) / 10 us = 100
        let urgent = LatencyTarget::builder(ms(5)).blocking(ms(2));
        let size = run(&mut urgent.build().unwrap(), 300, 1000, 10);
        assert!((90..=100).contains(&size), "{size}");
    }

    #[test]
    fn a_target_that_cannot_be_met_means_the_lower_bound() {
        let builder = LatencyTarget::builder(Duration::from_millis(1)).bounds(4, 100);
        let mut size = builder.initial(50).build().unwrap();
        assert_eq!(run(&mut size, 100, 2000, 10), 4);
    }

    #[test]
    fn it_comes_back_when_the_service_is_fast_again() {
        let mut size = LatencyTarget::builder(Duration::from_millis(5))
            .build()
            .unwrap();
        let before = run(&mut size, 300, 1000, 10);
        let slow = run(&mut size, 300, 4000, 40);
        assert!(slow < 40, "{slow}");
        let after = run(&mut size, 600, 1000, 10);
        assert!(
            after.abs_diff(before) <= before / 5,
            "{before}, {slow}, {after}"
        );
    }

    #[test]
    fn settings_that_cannot_be_are_refused() {
        let ms = Duration::from_millis;
        let refused = |builder: LatencyTargetBuilder| builder.build().unwrap_err().field;
        assert_eq!(refused(LatencyTarget::builder(ms(0))), "target");
        assert_eq!(refused(LatencyTarget::builder(ms(1)).wait(ms(1))), "wait");
        assert_eq!(
            refused(LatencyTarget::builder(ms(1)).blocking(ms(0))),
            "blocking"
        );
        assert_eq!(
            refused(LatencyTarget::builder(ms(1)).throughput(1.0)),
            "throughput"
        );
        assert_eq!(
            refused(LatencyTarget::builder(ms(1)).memory(f64::NAN)),
            "memory"
        );
        assert_eq!(refused(LatencyTarget::builder(ms(1)).initial(0)), "initial");
    }
}
