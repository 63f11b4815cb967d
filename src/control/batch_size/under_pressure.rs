//! Smaller batches while the process is short of resources.

use std::time::Duration;

use super::{BatchSample, BatchSize, BatchSizeSnapshot, Bounds, bounds_setters};
use crate::control::bounded::Bounded;
use crate::control::{BatchLimits, History, Invalid};
use crate::time::Time;

/// The settings of an [`UnderPressure`]. Defaults: those of [`UnderPressure::a7`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct UnderPressureBuilder {
    bounds: Bounds,
    initial: usize,
    shrink: f64,
    grow: usize,
    under: f64,
}

impl UnderPressureBuilder {
    bounds_setters!("10", "500");

    /// The size to begin with, in elements: least to most. Default 100.
    #[must_use]
    pub fn initial(mut self, items: usize) -> Self {
        self.initial = items;
        self
    }

    /// What a batch under pressure leaves of the size: 0.1 or more, below 1. Default 0.5.
    #[must_use]
    pub fn shrink(mut self, share: f64) -> Self {
        self.shrink = share;
        self
    }

    /// How many elements each full batch without pressure adds: 1 or more. Default 10.
    #[must_use]
    pub fn grow(mut self, items: usize) -> Self {
        self.grow = items;
        self
    }

    /// From which pressure on the size shrinks: above 0, at most 1. Default 1.
    #[must_use]
    pub fn under(mut self, pressure: f64) -> Self {
        self.under = pressure;
        self
    }

    /// The size.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    pub fn build(self) -> Result<UnderPressure, Invalid> {
        self.bounds.check()?;
        self.bounds.check_initial(self.initial)?;
        Invalid::unless(
            (0.1..1.0).contains(&self.shrink),
            "shrink",
            self.shrink,
            "0.1 to below 1",
        )?;
        Invalid::unless(self.grow >= 1, "grow", self.grow, "1 or more")?;
        Invalid::unless(
            self.under > 0.0 && self.under <= 1.0,
            "under",
            self.under,
            "above 0, at most 1",
        )?;
        Ok(UnderPressure::with(self))
    }
}

/// Each batch under pressure shrinks the next; each full batch without pressure adds to it.
///
/// It goes by pressure alone, as the last [`BatchSize::on_pressure`] told it: what makes pressure is
/// measured elsewhere. How long a batch took matters to it as far as that is part of the pressure.
#[derive(Clone, Debug)]
pub struct UnderPressure {
    settings: UnderPressureBuilder,
    value: Bounded,
    pressure: f64,
    recent: Option<Duration>,
    batches: u64,
}

impl Default for UnderPressure {
    fn default() -> Self {
        UnderPressure::a7()
    }
}

impl UnderPressure {
    /// Elements of the first batch of [`UnderPressure::a7`].
    pub const A7_INITIAL: usize = 100;
    /// Fewest elements of its batches.
    pub const A7_LEAST: usize = 10;
    /// Most elements of its batches.
    pub const A7_MOST: usize = 500;
    /// What a batch under pressure leaves of its size.
    pub const A7_SHRINK: f64 = 0.5;
    /// Elements that a full batch without pressure adds.
    pub const A7_GROW: usize = 10;

    /// Settings to change.
    #[must_use]
    pub fn builder() -> UnderPressureBuilder {
        UnderPressureBuilder {
            bounds: Bounds::new(UnderPressure::A7_LEAST, UnderPressure::A7_MOST),
            initial: UnderPressure::A7_INITIAL,
            shrink: UnderPressure::A7_SHRINK,
            grow: UnderPressure::A7_GROW,
            under: 1.0,
        }
    }

    /// The batch size of the back-pressure-aware consumer: it starts at 100 elements; each batch
    /// under pressure halves it, not below 10; each full one without pressure adds 10, not above
    /// 500.
    #[must_use]
    pub fn a7() -> UnderPressure {
        UnderPressure::with(UnderPressure::builder())
    }

    fn with(settings: UnderPressureBuilder) -> UnderPressure {
        let bounds = settings.bounds;
        UnderPressure {
            settings,
            value: Bounded::new("batch_items", settings.initial, bounds.least, bounds.most),
            pressure: 0.0,
            recent: None,
            batches: 0,
        }
    }

    /// Whether the pressure is such that batches shrink.
    #[must_use]
    pub fn is_under_pressure(&self) -> bool {
        self.pressure >= self.settings.under
    }
}

impl BatchSize for UnderPressure {
    fn on_batch(&mut self, now: Time, batch: &BatchSample) {
        self.recent = Some(batch.service);
        self.batches += 1;
        let size = self.value.get();
        if self.is_under_pressure() {
            let to = (size as f64 * self.settings.shrink).floor();
            self.value.set(now, to, "there is pressure");
        } else if batch.items >= size {
            let to = size.saturating_add(self.settings.grow) as f64;
            self.value.set(now, to, "a full batch, and no pressure");
        }
    }

    /// What is no number is taken as no pressure.
    fn on_pressure(&mut self, _: Time, pressure: f64) {
        self.pressure = if pressure.is_nan() { 0.0 } else { pressure };
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
            ..bounds.snapshot("under_pressure", self.size())
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn it_shrinks_under_pressure_and_grows_by_full_batches() {
        let mut size = UnderPressure::a7();
        let mut sizes = Vec::new();
        for pressure in [0.0, 0.99, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, f64::NAN] {
            size.on_pressure(Time::ZERO, pressure);
            let items = size.size();
            size.on_batch(
                Time::ZERO,
                &BatchSample {
                    items,
                    ..BatchSample::default()
                },
            );
            sizes.push(size.size());
        }
        assert_eq!(sizes, [110, 120, 60, 30, 15, 10, 10, 20, 30]);
        size.on_batch(
            Time::ZERO,
            &BatchSample {
                items: 29,
                ..BatchSample::default()
            },
        );
        assert_eq!(size.size(), 30, "that batch was not full");
        assert!(
            size.adjustments()
                .last()
                .any(|one| one.because == "there is pressure")
        );
    }

    #[test]
    fn settings_that_cannot_be_are_refused() {
        let refused = |builder: UnderPressureBuilder| builder.build().unwrap_err().field;
        assert_eq!(refused(UnderPressure::builder().initial(501)), "initial");
        assert_eq!(refused(UnderPressure::builder().shrink(1.0)), "shrink");
        assert_eq!(refused(UnderPressure::builder().grow(0)), "grow");
        assert_eq!(refused(UnderPressure::builder().under(0.0)), "under");
    }
}
