//! How many calls may be in flight at once: fixed, or found while they run.
//!
//! A service has a *knee*: up to there more calls at once mean more throughput, past it only more
//! waiting, inside the service, where nobody can order or shed what waits. A limit holds the number
//! of calls in flight near the knee, so that the queue stays before the stage, with its classes and
//! deadlines.
//!
//! | limit | goes by | choose it where |
//! | --- | --- | --- |
//! | [`Fixed`] | nothing | the capacity is known and does not change |
//! | [`Aimd`] | drops and timeouts | the other side says when it has too much |
//! | [`Vegas`] | the queue that latency tells of, checked against throughput | capacity is unknown or changes; the default choice |
//! | [`Gradient2`] | latency against its own long average | service times vary over hours, and a queue of a few calls does no harm |
//! | [`MeanLatency`] | fixed thresholds on the average latency | a rule that can be told in one sentence is asked for |
//!
//! # Invariants
//! - A limit never leaves its bounds, whatever it is told.
//! - It is not raised on the word of calls that did not need it: while less than half of the limit
//!   is used, latency says nothing about more.
//! - It is at most changed once a *round*: when about as many calls have ended as may be in flight.
//!   Calls that were begun under another limit do not count for the next round.
//! - Nothing is in absolute time unless it is a setting: a service a million times slower gets the
//!   same limits, a million times later.
//! - No limit is lowered in order to measure: a base of the service time is looked for by raising
//!   the limit and seeing whether throughput follows.
//!
//! Stages that go to the same place share one limit by a [`LimitHandle`].
//!
//! # What it does not do
//! It starts and ends no calls: a stage asks [`Limit::limit`] and tells [`Limit::on_sample`]. It
//! revokes nothing: a limit that falls below what is in flight lets calls end. It does not order,
//! shed or retry.
//!
//! # Example
//! ```
//! use std::time::Duration;
//! use forebay::control::limit::{Aimd, Limit};
//! use forebay::control::Sample;
//! use forebay::time::Time;
//!
//! # fn main() -> Result<(), forebay::control::Invalid> {
//! let mut limit = Aimd::builder().initial(10).bounds(1, 40).build()?;
//! // Of ten calls that ended two were refused by the other side.
//! let sample = Sample {
//!     count: 10,
//!     drops: 2,
//!     service: Duration::from_millis(3),
//!     in_flight_peak: 10,
//!     ..Sample::default()
//! };
//! limit.on_sample(Time::ZERO, &sample);
//! assert_eq!(limit.limit(), 9);
//! let why = limit.adjustments().last().next_back().map(|adjustment| adjustment.because);
//! assert_eq!(why, Some("calls were dropped"));
//! # Ok(()) }
//! ```

/// The setters that the builders of all limits share, with their defaults.
macro_rules! range_setters {
    ($initial:literal, $least:literal, $most:literal) => {
        #[doc = concat!(
            "The limit to begin with, in calls: least to most. Default ", $initial, "."
        )]
        #[must_use]
        pub fn initial(mut self, calls: usize) -> Self {
            self.initial = calls;
            self
        }

        #[doc = concat!(
            "The lowest and the highest limit, in calls: 1 to 1 000 000. Default ", $least, " to ",
            $most, "."
        )]
        #[must_use]
        pub fn bounds(mut self, least: usize, most: usize) -> Self {
            self.least = least;
            self.most = most;
            self
        }
    };
}

mod aimd;
mod base;
mod fixed;
mod gradient2;
mod handle;
mod mean_latency;
mod round;
mod vegas;

use std::fmt;
use std::time::Duration;

pub use aimd::{Aimd, AimdBuilder};
pub use fixed::Fixed;
pub use gradient2::{Gradient2, Gradient2Builder};
pub use handle::{LimitHandle, LimitHandleSnapshot, LimitMember};
pub use mean_latency::{MeanLatency, MeanLatencyBuilder};
pub use vegas::{Vegas, VegasBuilder};

use super::{History, Invalid, Sample};
use crate::time::Time;

/// Decides how many calls may be in flight at once.
///
/// `now` never goes back from one call to the next. Implementations are deterministic: the same
/// samples give the same limits.
pub trait Limit: Send + fmt::Debug {
    /// Takes in what a stage saw since its last sample.
    fn on_sample(&mut self, now: Time, sample: &Sample);

    /// How many calls may be in flight at once: 1 or more.
    fn limit(&self) -> usize;

    /// What was changed of late, and why.
    fn adjustments(&self) -> &History;

    /// What it goes by at the moment.
    fn snapshot(&self) -> LimitSnapshot;

    /// Whether that load is over the limit, so that no call may be begun for the last of it.
    /// `load` counts the call that is asked for: a load equal to the limit is served.
    fn throttles(&self, load: usize) -> bool {
        load > self.limit()
    }
}

/// What a limit goes by at one moment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LimitSnapshot {
    /// The algorithm: `fixed`, `aimd`, `vegas`, `gradient2`, `mean_latency`.
    pub algorithm: &'static str,
    /// Calls that may be in flight.
    pub limit: usize,
    /// The lower bound of it.
    pub least: usize,
    /// The upper bound of it.
    pub most: usize,
    /// The service time it holds for one without a queue, where it estimates one.
    pub base: Option<Duration>,
    /// The average service time that it last went by.
    pub recent: Option<Duration>,
    /// Calls that wait inside the service, as far as it can tell from those two.
    pub queue: Option<f64>,
    /// Rounds that it has judged.
    pub rounds: u64,
    /// Calls that were dropped by where they went, in all.
    pub drops: u64,
}

// A cast of a float saturates, and what is no number becomes 0.
#[allow(clippy::cast_sign_loss)]
fn nanos(ns: f64) -> Duration {
    Duration::from_nanos(ns as u64)
}

fn check_bounds(initial: usize, least: usize, most: usize) -> Result<(), Invalid> {
    Invalid::unless(least >= 1, "least", least, "1 or more")?;
    Invalid::unless(most >= least, "most", most, "least or more")?;
    Invalid::unless(most <= 1_000_000, "most", most, "at most 1000000")?;
    Invalid::unless(
        (least..=most).contains(&initial),
        "initial",
        initial,
        "least to most",
    )
}
