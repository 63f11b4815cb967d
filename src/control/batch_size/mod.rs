//! How many elements are handed over at once: what is there, or what a target allows.
//!
//! A batch costs `T(b) = a + c b`: something once, and something for each element. Larger batches
//! spread `a`; past a few dozen times `a / c` there is nothing left to spread, and what grows is the
//! time that an urgent element waits behind a batch that has begun.
//!
//! | size | goes by | choose it where |
//! | --- | --- | --- |
//! | [`Natural`] | what is queued | nothing is known; batches grow by themselves under load |
//! | [`LatencyTarget`] | a fitted `T(b)` | a batch may take so long, and throughput matters |
//! | [`Aimd`] | whether the last batch was in time | `T(b)` is no straight line |
//! | [`UnderPressure`] | pressure alone | a batch is to shrink when the process is short of resources |
//!
//! # Invariants
//! - A size never leaves its bounds, whatever it is told.
//! - **What elements waited before their batch began is no part of the signal.** Under overload the
//!   queue makes every element late, whatever the batch's size; who shrinks batches for that takes
//!   capacity away when it is needed most. [`BatchSample`] has no such figure.
//! - Nobody waits for a batch to fill unless told to.
//! - Nothing is in absolute time unless it is a setting.
//!
//! # What it does not do
//! It holds no elements and forms no groups: a [`BatchWindow`](super::BatchWindow) does, by
//! [`BatchSize::limits`].
//!
//! # Example
//! ```
//! use std::time::Duration;
//! use forebay::control::batch_size::{BatchSample, BatchSize, LatencyTarget};
//! use forebay::time::Time;
//!
//! # fn main() -> Result<(), forebay::control::Invalid> {
//! let mut size = LatencyTarget::builder(Duration::from_millis(5)).bounds(1, 1000).build()?;
//! let mut now = Time::ZERO;
//! for _ in 0..200 {
//!     // A batch of this service takes 1 ms, and 10 us for each element.
//!     let items = size.size();
//!     let service = Duration::from_micros(1000 + 10 * items as u64);
//!     now = now + service;
//!     size.on_batch(now, &BatchSample { items, bytes: 0, service });
//! }
//! // (5 ms - 1 ms) / 10 us
//! assert!((380..=400).contains(&size.size()), "{}", size.size());
//! # Ok(()) }
//! ```

mod aimd;
mod fit;
mod handle;
mod latency_target;
mod natural;
mod under_pressure;

use std::fmt;
use std::time::Duration;

pub use aimd::{Aimd, AimdBuilder};
pub use handle::BatchHandle;
pub use latency_target::{LatencyTarget, LatencyTargetBuilder};
pub use natural::{Natural, NaturalBuilder};
pub use under_pressure::{UnderPressure, UnderPressureBuilder};

use super::{BatchLimits, History, Invalid};
use crate::time::Time;

/// A batch that was processed.
///
/// Each try of a batch is a batch of its own: recorded as one slow success, retries would look like
/// a service that became slow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BatchSample {
    /// Its elements.
    pub items: usize,
    /// Their bytes; 0 where nobody weighs them.
    pub bytes: u64,
    /// From when it began to be processed until it was done: what its elements waited before, in a
    /// queue or for the batch to fill, is left out.
    pub service: Duration,
}

/// Decides how large batches may be.
///
/// `now` never goes back from one call to the next. Implementations are deterministic: the same
/// batches give the same sizes.
pub trait BatchSize: Send + fmt::Debug {
    /// Takes in a batch that was processed.
    fn on_batch(&mut self, now: Time, batch: &BatchSample);

    /// Takes in the pressure, 0 (none) to 1 (too much). Most sizes do not go by it.
    fn on_pressure(&mut self, now: Time, pressure: f64) {
        let _ = (now, pressure);
    }

    /// How many elements a batch may have: 1 or more.
    fn size(&self) -> usize;

    /// All bounds of the next batch: elements, bytes, and how long to wait for it to fill.
    fn limits(&self) -> BatchLimits;

    /// What was changed of late, and why.
    fn adjustments(&self) -> &History;

    /// What it goes by at the moment.
    fn snapshot(&self) -> BatchSizeSnapshot;
}

/// What a batch size goes by at one moment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct BatchSizeSnapshot {
    /// The algorithm: `natural`, `latency_target`, `aimd`, `under_pressure`.
    pub algorithm: &'static str,
    /// Elements that a batch may have.
    pub size: usize,
    /// The lower bound of it.
    pub least: usize,
    /// The upper bound of it.
    pub most: usize,
    /// Bytes that a batch may have; `u64::MAX` if they are not limited.
    pub bytes: u64,
    /// How long a batch may wait to fill.
    pub wait: Duration,
    /// What a batch costs once, where that is estimated.
    pub once: Option<Duration>,
    /// What each element of it costs, where that is estimated.
    pub each: Option<Duration>,
    /// How long the last batch took.
    pub recent: Option<Duration>,
    /// Batches that were taken in.
    pub batches: u64,
}

/// The bounds that all sizes have.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Bounds {
    least: usize,
    most: usize,
    bytes: u64,
    wait: Duration,
}

impl Bounds {
    fn new(least: usize, most: usize) -> Bounds {
        Bounds {
            least,
            most,
            bytes: u64::MAX,
            wait: Duration::ZERO,
        }
    }

    fn check(&self) -> Result<(), Invalid> {
        Invalid::unless(self.least >= 1, "least", self.least, "1 or more")?;
        Invalid::unless(self.most >= self.least, "most", self.most, "least or more")?;
        let most = self.most <= 10_000_000;
        Invalid::unless(most, "most", self.most, "at most 10000000")?;
        Invalid::unless(self.bytes >= 1, "bytes", self.bytes, "1 or more")
    }

    fn check_initial(&self, initial: usize) -> Result<(), Invalid> {
        let within = (self.least..=self.most).contains(&initial);
        Invalid::unless(within, "initial", initial, "least to most")
    }

    /// How a size within these bounds stands that estimates no costs.
    fn snapshot(&self, algorithm: &'static str, size: usize) -> BatchSizeSnapshot {
        BatchSizeSnapshot {
            algorithm,
            size,
            least: self.least,
            most: self.most,
            bytes: self.bytes,
            wait: self.wait,
            once: None,
            each: None,
            recent: None,
            batches: 0,
        }
    }

    fn limits(&self, size: usize) -> BatchLimits {
        BatchLimits::new(size, self.wait).bytes(self.bytes)
    }
}

/// The setters that all builders of sizes have.
macro_rules! bounds_setters {
    ($least:literal, $most:literal) => {
        #[doc = concat!(
                    "The fewest and the most elements of a batch: 1 to 10 000 000. Default ",
                    $least, " to ", $most, "."
                )]
        #[must_use]
        pub fn bounds(mut self, least: usize, most: usize) -> Self {
            self.bounds.least = least;
            self.bounds.most = most;
            self
        }

        /// The most bytes of a batch, but for an element that alone has more: 1 or more. Default: no
        /// limit.
        #[must_use]
        pub fn bytes(mut self, bytes: u64) -> Self {
            self.bounds.bytes = bytes;
            self
        }

        /// How long a batch waits to fill, from its first element on. Default 0: it takes what is
        /// there.
        #[must_use]
        pub fn wait(mut self, wait: Duration) -> Self {
            self.bounds.wait = wait;
            self
        }
    };
}
use bounds_setters;
