//! A circuit breaker: cuts a destination off that fails, is slow, or hangs, and tries it again.
//!
//! [`BreakerSettings`] is the declaration, [`Breaker`] the state machine, [`BreakerHandle`] one
//! breaker shared by stages, tasks and threads, [`Permit`] the right to make one call.
//!
//! # The states
//! ```text
//!            a rule is broken             its open time is over
//!   closed ------------------> open <----------------------------> half open
//!      ^                            a call fails, is slow, hangs,      |
//!      |                            or none reports in time            |
//!      +---------------------------------------------------------------+
//!                  as many calls as may be in flight went well
//! ```
//! Besides, by hand: *forced open* refuses everything, *disabled* lets everything through and records
//! nothing, *metrics only* lets everything through and tells which rules are broken.
//!
//! # The rules
//! 1. *Failures*: their share of the calls in the window, if there are enough of them.
//! 2. *Slow calls*: the same; calls **still in flight** for longer than a call may take are counted
//!    as slow, because a call that hangs never ends to be counted.
//! 3. *Hung calls*: those alone, against the calls that ended within the time a call may take. Where
//!    only 8 calls are in flight at once, 8 that hang are few against the last 100 that went well:
//!    rule 2 would never see them.
//! 4. *Pressure*: a [score](crate::control::Pressure) that stays too high. Off unless declared:
//!    load alone should shed, not cut off.
//!
//! Service time is what the caller measured around the call alone. What an element waited before it
//! does not count, so a queue in front does not open the breaker.
//!
//! # Invariants
//! - Half open, never more calls are in flight than the step allows, whoever asks, and each call is
//!   let through by the one state that all stages share.
//! - It never stays half open without a call to try it: a permit that is dropped gives its place
//!   back, and one that is neither dropped nor reported is overruled by the deadline.
//! - A call let through before a change of state judges nothing after it.
//! - Permits that are out = permitted - (success + error + ignored + abandoned), always.
//! - Memory is bounded by the settings: a byte a call of the window, or 20 buckets; up to 1003
//!   buckets for the ages of calls in flight, whatever their number; the log.
//!
//! # Where it comes from
//! States, windows, slow calls and events: resilience4j's `CircuitBreaker`. That calls in flight
//! count, permits that end by themselves, and steps of half open are answers to its issues 903, 935
//! and 1389, and to the herd that Rust's `recloser` and `failsafe` let through half open.
//!
//! # What it does not do
//! It takes no element away: a stage obeys [`WhenOpen`]. It makes no retries.
//!
//! # Example
//! ```
//! use std::time::Duration;
//! use forebay::control::{BreakerHandle, BreakerSettings, BreakerState, BreakerWindow};
//! use forebay::time::Time;
//!
//! # fn main() -> Result<(), forebay::control::Invalid> {
//! let settings = BreakerSettings::new()
//!     .window(BreakerWindow::Calls(10), 4)
//!     .open(Duration::from_secs(1), 2.0, Duration::from_secs(60));
//! let at = |ms: u64| Time::from_nanos(ms * 1_000_000);
//! let breaker = BreakerHandle::new(settings, at(0))?;
//! for call in 0..4 {
//!     let permit = breaker.try_acquire(at(call)).expect("closed");
//!     permit.failure(at(call), Duration::from_micros(300));
//! }
//! assert_eq!(breaker.state(), BreakerState::Open);
//! let refusal = breaker.try_acquire(at(4)).expect_err("open");
//! assert_eq!(refusal.retry_at, Some(at(1003)));
//!
//! let trial = breaker.try_acquire(at(1003)).expect("half open: one call");
//! assert!(breaker.try_acquire(at(1003)).is_err(), "and no second one");
//! drop(trial); // as when its future is cancelled
//! assert!(breaker.try_acquire(at(1004)).is_ok(), "its place is free again");
//! # Ok(()) }
//! ```

use std::fmt;

use crate::time::Time;

mod batch;
mod event;
mod flight;
mod handle;
mod judge;
mod machine;
mod operate;
mod permit;
mod settings;
mod trial;
mod window;
mod words;

#[cfg(all(test, forebay_loom))]
mod loom_models;
#[cfg(test)]
mod tests;

pub(crate) use batch::Pass;
pub use event::{BreakerCounts, BreakerEvent, BreakerEventKind, Trigger};
pub use handle::BreakerHandle;
pub use machine::{Breaker, Call, Ticket};
pub use permit::Permit;
pub use settings::{BreakerSettings, BreakerWindow, WhenOpen};

/// What a breaker does with calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BreakerState {
    /// Lets calls through and looks at how they end.
    Closed,
    /// Refuses all calls for a time.
    Open,
    /// Lets a few calls through to try.
    HalfOpen,
    /// Refuses all calls until told otherwise.
    ForcedOpen,
    /// Lets all calls through and looks at nothing until told otherwise.
    Disabled,
    /// Lets all calls through, and only tells what it sees, until told otherwise.
    MetricsOnly,
}

impl BreakerState {
    pub(super) const ALL: [BreakerState; 6] = [
        BreakerState::Closed,
        BreakerState::Open,
        BreakerState::HalfOpen,
        BreakerState::ForcedOpen,
        BreakerState::Disabled,
        BreakerState::MetricsOnly,
    ];

    /// The name reports use: `closed`, `open`, `half_open` and so on.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            BreakerState::Closed => "closed",
            BreakerState::Open => "open",
            BreakerState::HalfOpen => "half_open",
            BreakerState::ForcedOpen => "forced_open",
            BreakerState::Disabled => "disabled",
            BreakerState::MetricsOnly => "metrics_only",
        }
    }
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A call that was not let through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the circuit breaker is {state}")]
pub struct NotPermitted {
    /// Open, forced open, or half open with all its places taken.
    pub state: BreakerState,
    /// When it is worth trying again, if that is known: open, the end of the open time.
    pub retry_at: Option<Time>,
}

/// A breaker as it was at one moment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct BreakerSnapshot {
    /// When.
    pub at: Time,
    /// The state.
    pub state: BreakerState,
    /// Since when it is in it.
    pub since: Time,
    /// Open: until when.
    pub until: Option<Time>,
    /// The calls in the window.
    pub calls: usize,
    /// The share of them that failed; open, what it was when it opened. `None` without a call.
    pub failure_rate: Option<f64>,
    /// The share of slow calls, those that hang counted.
    pub slow_rate: Option<f64>,
    /// Calls in flight, whenever they were let through.
    pub in_flight: usize,
    /// Of those, the ones let through before the last change of state.
    pub late: usize,
    /// Of the others, those in flight for longer than a call may take.
    pub hung: usize,
    /// Half open: how many calls may be in flight.
    pub half_open_permits: Option<usize>,
    /// The last score of the pressure it was told.
    pub pressure: f64,
    /// How long it is open, or will be at the next broken rule after half open.
    pub open_for: std::time::Duration,
    /// How often each thing happened.
    pub counts: BreakerCounts,
}

impl BreakerSnapshot {
    /// Whether every call that was let through was reported once: to be asked when nothing under this
    /// breaker runs any more.
    ///
    /// # Errors
    /// What is wrong: permits that somebody keeps or lost, or more reports than permits.
    pub fn check_idle(&self) -> Result<(), String> {
        let counts = &self.counts;
        let ended = counts.success + counts.error + counts.ignored + counts.abandoned;
        if ended > counts.permitted {
            let more = ended - counts.permitted;
            return Err(format!(
                "{more} calls were reported that were never let through"
            ));
        }
        let out = (counts.permitted - ended).max(self.in_flight as u64);
        match out {
            0 => Ok(()),
            out => Err(format!("{out} permits were never reported")),
        }
    }
}
