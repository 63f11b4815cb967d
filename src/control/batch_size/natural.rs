//! Batches as large as what is queued.

use std::time::Duration;

use super::{BatchSample, BatchSize, BatchSizeSnapshot, Bounds, bounds_setters};
use crate::control::{BatchLimits, History, Invalid};
use crate::time::Time;

/// The settings of a [`Natural`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct NaturalBuilder {
    bounds: Bounds,
}

impl NaturalBuilder {
    bounds_setters!("1", "256");

    /// The size.
    ///
    /// # Errors
    /// The first setting that is out of its range.
    pub fn build(self) -> Result<Natural, Invalid> {
        self.bounds.check()?;
        Ok(Natural::with(self))
    }
}

/// Natural batching: take what is queued, up to a bound, and do not wait for more.
///
/// The size regulates itself: while a batch is processed the next one gathers, so batches are of one
/// element when there is nothing to do and full under load. Nothing is measured, nothing can go
/// wrong. The bound is the only setting that matters: it is how long an urgent element may wait
/// behind a batch that has begun.
#[derive(Clone, Debug)]
pub struct Natural {
    settings: NaturalBuilder,
    history: History,
    recent: Option<Duration>,
    batches: u64,
}

impl Default for Natural {
    fn default() -> Self {
        Natural::with(Natural::builder())
    }
}

impl Natural {
    /// Settings to change. Defaults: up to 256 elements, bytes without limit, no waiting.
    #[must_use]
    pub fn builder() -> NaturalBuilder {
        NaturalBuilder {
            bounds: Bounds::new(1, 256),
        }
    }

    fn with(settings: NaturalBuilder) -> Natural {
        Natural {
            settings,
            history: History::new(1),
            recent: None,
            batches: 0,
        }
    }
}

impl BatchSize for Natural {
    fn on_batch(&mut self, _: Time, batch: &BatchSample) {
        self.recent = Some(batch.service);
        self.batches += 1;
    }

    fn size(&self) -> usize {
        self.settings.bounds.most
    }

    fn limits(&self) -> BatchLimits {
        self.settings.bounds.limits(self.size())
    }

    fn adjustments(&self) -> &History {
        &self.history
    }

    fn snapshot(&self) -> BatchSizeSnapshot {
        let bounds = &self.settings.bounds;
        BatchSizeSnapshot {
            recent: self.recent,
            batches: self.batches,
            ..bounds.snapshot("natural", bounds.most)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::control::BatchWindow;

    #[test]
    fn it_takes_what_is_queued_and_waits_only_if_told() {
        let at_once = Natural::builder().bounds(1, 4).build().unwrap();
        let mut window = BatchWindow::new(at_once.limits());
        window.arrive(Time::ZERO, 6, 0);
        window.tick(Time::ZERO);
        assert_eq!((window.emit(), window.emit()), (Some(4), Some(2)));

        let patient = Natural::builder()
            .bounds(1, 4)
            .wait(Duration::from_nanos(5))
            .build()
            .unwrap();
        let mut window = BatchWindow::new(patient.limits());
        window.arrive(Time::ZERO, 2, 0);
        window.tick(Time::from_nanos(4));
        assert_eq!(window.emit(), None);
        window.tick(Time::from_nanos(5));
        assert_eq!(window.emit(), Some(2));
    }

    #[test]
    fn settings_that_cannot_be_are_refused() {
        let refused = |builder: NaturalBuilder| builder.build().unwrap_err().field;
        assert_eq!(refused(Natural::builder().bounds(0, 4)), "least");
        assert_eq!(refused(Natural::builder().bounds(5, 4)), "most");
        assert_eq!(refused(Natural::builder().bytes(0)), "bytes");
    }
}
