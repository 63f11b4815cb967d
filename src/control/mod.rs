//! Policies: state machines without a clock and without I/O.
//!
//! Time, samples and elements' sizes come in as arguments; decisions come out. The stages that ask
//! them are thin shells, so what a pipeline decides can be tested without running one, and the same
//! input always gives the same decisions.
//!
//! # Invariants
//! - A policy reads no clock: `now` is an argument, and never goes back.
//! - Its state is bounded by what it was configured with.
//! - What it changes it explains: in a [`History`] of its last adjustments.
//! - A setting that cannot be is refused as [`Invalid`], before anything runs.
//!
//! # Example
//! ```
//! use std::time::Duration;
//! use forebay::control::{BatchLimits, BatchWindow};
//! use forebay::time::Time;
//!
//! let mut window = BatchWindow::new(BatchLimits::new(3, Duration::from_millis(10)));
//! window.arrive(Time::ZERO, 2, 0);
//! assert_eq!(window.ready(), 0);
//! window.tick(Time::ZERO + Duration::from_millis(10));
//! assert_eq!(window.emit(), Some(2), "its time was up");
//! ```

mod batch_window;
pub mod breaker;
pub mod emergency;
mod history;
mod invalid;
pub mod pressure;
mod retry;
mod sample;
mod waiters;

pub use batch_window::{BatchLimits, BatchWindow, Room};
pub use breaker::{
    Breaker, BreakerCounts, BreakerEvent, BreakerEventKind, BreakerHandle, BreakerSettings,
    BreakerSnapshot, BreakerState, BreakerWindow, Call, Permit, Refusal, Ticket, Trigger, WhenOpen,
};
pub use emergency::{Emergency, EmergencyEvent, EmergencyMode, EmergencySettings};
pub use history::{Adjustment, History};
pub use invalid::Invalid;
pub use pressure::{
    Band, Breach, ConsumerReading, Consumption, Explanation, Pressure, PressureSettings, Reading,
    Signal, Thresholds,
};
pub use retry::{Budget, Next, Retry, Retrying, WhenSpent};
pub use sample::Sample;
pub(crate) use waiters::Waiters;
