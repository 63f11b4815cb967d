//! One batch size for the stages that process batches alike.

use std::fmt;
use std::sync::Arc;

use super::{BatchSample, BatchSize, BatchSizeSnapshot};
use crate::control::{Adjustment, BatchLimits, PressureHandle};
use crate::sync::{Mutex, lock};
use crate::time::Time;

/// A batch size that is shared, and can be changed while stages run. Clones are the same one.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use forebay::control::BatchHandle;
/// use forebay::control::batch_size::{LatencyTarget, Natural};
///
/// # fn main() -> Result<(), forebay::control::Invalid> {
/// let size = BatchHandle::new(Natural::builder().bounds(1, 100).build()?);
/// assert_eq!(size.limits().max_items(), 100);
/// size.replace(LatencyTarget::builder(Duration::from_millis(5)).bounds(1, 100).build()?);
/// assert_eq!(size.snapshot().algorithm, "latency_target");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct BatchHandle(Arc<Shared>);

struct Shared {
    size: Mutex<Box<dyn BatchSize>>,
    pressure: Option<PressureHandle>,
}

impl BatchHandle {
    /// Shares that size.
    pub fn new(size: impl BatchSize + 'static) -> BatchHandle {
        BatchHandle::build(size, None)
    }

    /// The same, and tells it of that pressure whenever a batch is begun.
    pub fn under(size: impl BatchSize + 'static, pressure: &PressureHandle) -> BatchHandle {
        BatchHandle::build(size, Some(pressure.clone()))
    }

    fn build(size: impl BatchSize + 'static, pressure: Option<PressureHandle>) -> BatchHandle {
        BatchHandle(Arc::new(Shared {
            size: Mutex::new(Box::new(size)),
            pressure,
        }))
    }

    /// Goes by another size from now on. No stage makes batches larger than it was declared with.
    pub fn replace(&self, size: impl BatchSize + 'static) {
        *lock(&self.0.size) = Box::new(size);
    }

    /// A batch was processed.
    pub fn on_batch(&self, now: Time, batch: &BatchSample) {
        lock(&self.0.size).on_batch(now, batch);
    }

    /// All bounds of the next batch, at that pressure if it goes by one.
    pub(crate) fn limits_at(&self, now: Time) -> BatchLimits {
        let score = self.0.pressure.as_ref().map(|pressure| pressure.score(now));
        let mut size = lock(&self.0.size);
        if let Some(score) = score {
            size.on_pressure(now, score);
        }
        size.limits()
    }

    /// All bounds of the next batch.
    #[must_use]
    pub fn limits(&self) -> BatchLimits {
        lock(&self.0.size).limits()
    }

    /// The last changes of the size and why, the oldest first.
    #[must_use]
    pub fn adjustments(&self) -> Vec<Adjustment> {
        lock(&self.0.size).adjustments().last().copied().collect()
    }

    /// How it stands.
    #[must_use]
    pub fn snapshot(&self) -> BatchSizeSnapshot {
        lock(&self.0.size).snapshot()
    }
}

impl fmt::Debug for BatchHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BatchHandle")
            .field(&self.snapshot())
            .finish()
    }
}
