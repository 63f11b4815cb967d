//! Policies: state machines without a clock and without I/O.
//!
//! Time, samples and elements' sizes come in as arguments; decisions come out. The stages that ask
//! them are thin shells, so what a pipeline decides can be tested without running one, and the same
//! input always gives the same decisions.
//!
//! | question | policy | stages share it by |
//! | --- | --- | --- |
//! | who is let in | [`Admission`], [`Gate`], [`Forecast`] | [`AdmissionHandle`] |
//! | and when there is far too much | [`Emergency`] | [`EmergencyHandle`] |
//! | who waits, makes way, is served next | [`PriorityQueue`], [`Scheduler`] | |
//! | who has waited in vain | [`Codel`] | |
//! | who is put aside, and comes back | [`Deferral`] | |
//! | how many calls at once | [`limit`] | [`LimitHandle`] |
//! | whether a destination is called at all | [`Breaker`] | [`BreakerHandle`] |
//! | whether a call is tried again | [`Retrying`] | |
//! | how many at once in a batch | [`batch_size`], [`BatchWindow`] | [`BatchHandle`] |
//! | how many a second | [`Throttle`] | |
//! | how much pressure there is | [`Pressure`], [`Thresholds`] | [`PressureHandle`] |
//!
//! # Invariants
//! - A policy reads no clock: `now` is an argument, and never goes back.
//! - Its state is bounded by what it was configured with.
//! - What it changes it explains: in a [`History`] of its last adjustments. How it stands is in its
//!   snapshot.
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

pub mod admission;
pub mod batch_size;
mod batch_window;
mod bounded;
pub mod breaker;
pub mod deferral;
pub mod emergency;
mod history;
mod invalid;
pub mod limit;
pub mod pressure;
pub mod priority;
mod retry;
mod sample;
pub mod throttle;
mod waiters;

pub use admission::{
    Admission, AdmissionHandle, AdmissionSettings, AdmissionSnapshot, AdmissionWindow, Aging,
    Codel, CodelSnapshot, Forecast, Gate, Scheduler, Turn,
};
pub use batch_size::{BatchHandle, BatchSample, BatchSize};
pub use batch_window::{BatchLimits, BatchWindow, Room};
pub(crate) use breaker::Pass;
pub use breaker::{
    Breaker, BreakerCounts, BreakerEvent, BreakerEventKind, BreakerHandle, BreakerSettings,
    BreakerSnapshot, BreakerState, BreakerWindow, Call, NotPermitted, Permit, Ticket, Trigger,
    WhenOpen,
};
pub use deferral::{Aside, Deferral, DeferralSettings, DeferralSnapshot, Deferred, Leaving};
pub use emergency::{
    Emergency, EmergencyEvent, EmergencyHandle, EmergencyMode, EmergencySettings, EmergencySnapshot,
};
pub use history::{Adjustment, History};
pub use invalid::Invalid;
pub use limit::{Limit, LimitHandle, LimitHandleSnapshot, LimitMember};
pub use pressure::{
    Band, Breach, ConsumerReading, Consumption, Explanation, Pressure, PressureHandle,
    PressureMember, PressureSettings, Reading, Signal, Thresholds,
};
pub(crate) use priority::Store;
pub use priority::{
    Away, Entry, Evicted, LaneOrder, LaneSnapshot, Offer, OfferRefusal, Placed, PriorityQueue,
    PrioritySettings, PrioritySnapshot, Served, Victims, WhenNoRoom,
};
pub use retry::{Budget, Next, Retry, RetrySnapshot, Retrying, WhenSpent};
pub use sample::Sample;
pub use throttle::{Throttle, ThrottleMode, ThrottleSnapshot, Throttled, TooFast};
pub(crate) use waiters::Waiters;
