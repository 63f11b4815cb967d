//! What an operator asks of a breaker and tells it: commands, and all there is to see.

use std::time::Duration;

use super::event::{BreakerEvent, BreakerEventKind};
use super::machine::Breaker;
use super::settings::BreakerSettings;
use super::{BreakerSnapshot, BreakerState};
use crate::control::History;
use crate::time::Time;

impl Breaker {
    fn command(&mut self, now: Time, to: BreakerState) {
        self.look(now);
        self.transition(to, "told to");
    }

    /// Opens for its open time, as if a rule had been broken.
    pub fn trip(&mut self, now: Time) {
        self.look(now);
        if self.state != BreakerState::Open {
            self.open("told to");
        }
    }

    /// Refuses everything until told otherwise.
    pub fn force_open(&mut self, now: Time) {
        self.command(now, BreakerState::ForcedOpen);
    }

    /// Lets everything through and records nothing until told otherwise.
    pub fn disable(&mut self, now: Time) {
        self.command(now, BreakerState::Disabled);
    }

    /// Lets everything through, records, and tells when a rule is broken, until told otherwise.
    pub fn metrics_only(&mut self, now: Time) {
        self.command(now, BreakerState::MetricsOnly);
    }

    /// Closes, from whatever state, and forgets the calls seen and how often it opened before. Calls in
    /// flight judge nothing any more.
    pub fn reset(&mut self, now: Time) {
        if self.state == BreakerState::Closed {
            self.look(now);
            self.generation += 1;
            self.late += self.flight.clear();
        }
        self.command(now, BreakerState::Closed);
        self.window.clear();
        self.recent.clear();
        self.repeats = 0;
        self.open_span = Duration::ZERO;
        self.event(BreakerEventKind::Reset);
    }

    /// The state as of the last call of a method.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// What was declared.
    #[must_use]
    pub fn settings(&self) -> &BreakerSettings {
        &self.settings
    }

    /// The last changes of the state and of the calls that half open allows, and why.
    #[must_use]
    pub fn adjustments(&self) -> &History {
        &self.history
    }

    /// The last events, the oldest first: those of the state, and those of calls if declared.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &BreakerEvent> + '_ {
        self.log.last()
    }

    /// Everything there is to see.
    pub fn snapshot(&mut self, now: Time) -> BreakerSnapshot {
        self.look(now);
        let sum = self.window.sum();
        let aged = self.flight.aged();
        let share = |part: usize, of: usize| (of > 0).then(|| part as f64 / of as f64);
        BreakerSnapshot {
            at: self.seen,
            state: self.state,
            since: self.since,
            until: (self.state == BreakerState::Open).then_some(self.until),
            calls: sum.calls,
            failure_rate: share(sum.failed, sum.calls),
            slow_rate: share(sum.slow + aged, sum.calls + aged),
            in_flight: self.flight.in_flight() + self.late,
            late: self.late,
            hung: aged,
            half_open_permits: (self.state == BreakerState::HalfOpen).then(|| self.trial.permits()),
            pressure: self.pressure,
            open_for: self.settings.open_span(self.repeats),
            counts: self.counts,
        }
    }
}
