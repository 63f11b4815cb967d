//! The state machine: no clock, no lock, no I/O.

use std::time::Duration;

use super::event::{BreakerCounts, BreakerEventKind, EventLog, Trigger};
use super::flight::Flight;
use super::settings::BreakerSettings;
use super::trial::Trial;
use super::window::{SpanWindow, Tally, Window};
use super::{BreakerState, NotPermitted};
use crate::control::{Adjustment, History, Invalid};
use crate::time::Time;

/// A call that was let through, and must be reported once: to the breaker that let it.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "a call that is never reported counts as in flight for ever"]
pub struct Ticket {
    pub(super) generation: u64,
    pub(super) started: Time,
}

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// Well, after so long.
    Success(Duration),
    /// Not well, after so long.
    Failure(Duration),
    /// In a way that says nothing about its destination: the element itself was wrong.
    Ignored,
    /// Nobody knows: its permit was dropped.
    Abandoned,
    /// It was not made after all: no element came. It counts as never let through.
    Unused,
}

/// A circuit breaker, for one owner. Stages share a [`BreakerHandle`](super::BreakerHandle).
///
/// `now` is an argument everywhere; one that is before an earlier one counts as that one.
#[derive(Clone, Debug)]
pub struct Breaker {
    pub(super) settings: BreakerSettings,
    pub(super) state: BreakerState,
    /// How often the state changed: a call of an earlier one judges nothing.
    pub(super) generation: u64,
    pub(super) since: Time,
    /// The latest time seen.
    pub(super) seen: Time,
    /// Open: when it becomes half open.
    pub(super) until: Time,
    /// For how long it was open last.
    pub(super) open_span: Duration,
    pub(super) repeats: u32,
    pub(super) window: Window,
    /// The calls that ended within the time after which a call is slow.
    pub(super) recent: SpanWindow,
    pub(super) flight: Flight,
    /// Calls in flight that were let through before the last change of state.
    pub(super) late: usize,
    pub(super) trial: Trial,
    /// Calls that hang are not judged before that: whoever looks was late itself.
    pub(super) grace_until: Time,
    pub(super) pressure: f64,
    pub(super) high_scores: u32,
    /// Metrics only: which rules are broken.
    pub(super) broken: [bool; Trigger::COUNT],
    pub(super) counts: BreakerCounts,
    pub(super) log: EventLog,
    pub(super) history: History,
}

impl Breaker {
    /// A closed one.
    ///
    /// # Errors
    /// [`Invalid`]: a setting that is out of its range.
    pub fn new(settings: BreakerSettings, now: Time) -> Result<Breaker, Invalid> {
        settings.check()?;
        Ok(Breaker {
            state: BreakerState::Closed,
            generation: 0,
            since: now,
            seen: now,
            until: Time::ZERO,
            open_span: Duration::ZERO,
            repeats: 0,
            window: Window::new(settings.window),
            recent: SpanWindow::new(settings.slow_after, 20),
            flight: Flight::new(settings.slow_after),
            late: 0,
            trial: Trial::new(&settings),
            grace_until: Time::ZERO,
            pressure: 0.0,
            high_scores: 0,
            broken: [false; Trigger::COUNT],
            counts: BreakerCounts::default(),
            log: EventLog::new(settings.log_bound, settings.log_calls),
            history: History::default(),
            settings,
        })
    }

    /// Lets a call begin, or refuses it.
    ///
    /// # Errors
    /// [`NotPermitted`] while it is open, forced open, or half open with as many calls in flight as may be.
    pub fn try_acquire(&mut self, now: Time) -> Result<Ticket, NotPermitted> {
        self.tick(now);
        if let Err(refusal) = self.admits() {
            self.refused(1);
            return Err(refusal);
        }
        self.grant(1);
        Ok(Ticket {
            generation: self.generation,
            started: self.seen,
        })
    }

    /// What [`Breaker::try_acquire`] would answer.
    ///
    /// # Errors
    /// [`NotPermitted`], which is not counted.
    pub fn check(&mut self, now: Time) -> Result<(), NotPermitted> {
        self.tick(now);
        self.admits()
    }

    /// What `try_acquire` would answer if no time had passed.
    pub(super) fn admits(&self) -> Result<(), NotPermitted> {
        let refuse = |retry_at| {
            Err(NotPermitted {
                state: self.state,
                retry_at,
            })
        };
        match self.state {
            BreakerState::Open => refuse(Some(self.until)),
            BreakerState::ForcedOpen => refuse(None),
            BreakerState::HalfOpen if self.flight.in_flight() >= self.trial.permits() => {
                refuse(None)
            }
            _ => Ok(()),
        }
    }

    /// So many calls were let through then, in that generation.
    pub(super) fn started(&mut self, generation: u64, at: Time, calls: usize) {
        self.counts.permitted += calls as u64;
        if generation == self.generation {
            self.flight.start(at, calls);
        } else {
            self.late += calls;
        }
    }

    pub(super) fn refused(&mut self, calls: u64) {
        self.counts.not_permitted += calls;
        self.event(BreakerEventKind::NotPermitted { calls });
    }

    /// So many calls begin now, as far as there is room for them: 1 or more where one
    /// [is let through](Breaker::check).
    pub(super) fn grant(&mut self, want: usize) -> usize {
        let calls = match self.state {
            BreakerState::HalfOpen => {
                let room = self.trial.permits().saturating_sub(self.flight.in_flight());
                want.min(room)
            }
            _ => want,
        };
        if calls > 0 {
            if self.state == BreakerState::HalfOpen {
                self.trial.on_start(self.seen);
            }
            self.started(self.generation, self.seen, calls);
        }
        calls
    }

    /// A call ended.
    pub fn report(&mut self, now: Time, ticket: Ticket, call: Call) {
        self.look(now);
        self.ended(ticket.generation, ticket.started, call);
    }

    /// A call ended, at the time that was looked at last. Each is judged by itself: the call that
    /// breaks a rule opens it, and those reported behind it are late.
    pub(super) fn ended(&mut self, generation: u64, started: Time, call: Call) {
        let (failed, service) = match call {
            Call::Success(service) => {
                self.counts.success += 1;
                self.event(BreakerEventKind::Success { service });
                (false, Some(service))
            }
            Call::Failure(service) => {
                self.counts.error += 1;
                self.event(BreakerEventKind::Error { service });
                (true, Some(service))
            }
            Call::Ignored => {
                self.counts.ignored += 1;
                self.event(BreakerEventKind::Ignored);
                (false, None)
            }
            Call::Abandoned => {
                self.counts.abandoned += 1;
                self.event(BreakerEventKind::Abandoned);
                (false, None)
            }
            Call::Unused => {
                self.counts.permitted -= 1;
                (false, None)
            }
        };
        if generation != self.generation {
            self.late = self.late.saturating_sub(1);
            self.counts.late += u64::from(call != Call::Unused);
            return;
        }
        self.flight.end(started, 1);
        if call == Call::Unused && self.flight.in_flight() == 0 {
            self.trial.on_unused();
        }
        if let Some(service) = service
            && self.state != BreakerState::Disabled
        {
            let one = Tally::one(failed, service > self.settings.slow_after);
            self.window.add(self.seen, one);
            self.recent.add(self.seen, one);
            self.trial.on_end(one);
        }
        self.judge();
    }

    /// Whether calls of that generation may end well without being judged: nothing was seen that can
    /// break a rule, and no log tells of each.
    pub(super) fn is_indifferent(&self, generation: u64) -> bool {
        self.state == BreakerState::Closed
            && generation == self.generation
            && self.is_spotless()
            && !self.log.tells_of_calls()
    }

    /// So many calls ended well, none of them slow, at the time that was looked at last: while it
    /// [is indifferent](Breaker::is_indifferent).
    pub(super) fn ended_well(&mut self, started: Time, calls: usize) {
        let well = Tally {
            calls,
            ..Tally::default()
        };
        self.counts.success += calls as u64;
        self.log.skip(calls as u64);
        self.flight.end(started, calls);
        self.window.add(self.seen, well);
        self.recent.add(self.seen, well);
    }

    /// The score of the pressure, 0 to 1. It matters only where
    /// [`pressure`](BreakerSettings::pressure) was declared.
    pub fn on_pressure(&mut self, now: Time, score: f64) {
        self.look(now);
        self.pressure = score;
        let high = self.settings.pressure.is_some_and(|(at, _)| score >= at);
        self.high_scores = if high {
            self.high_scores.saturating_add(1)
        } else {
            0
        };
        self.judge();
    }

    /// Looks at what only time changes: calls that hang, the end of the open time, the deadline of
    /// half open. To be called at [`Breaker::deadline`]; `try_acquire` does it as well.
    pub fn tick(&mut self, now: Time) {
        self.look(now);
        if self.state == BreakerState::Open && self.seen >= self.until {
            self.transition(BreakerState::HalfOpen, "its open time is over");
            return;
        }
        self.judge();
    }

    /// When [`Breaker::tick`] must be called, if nothing happens before.
    pub fn deadline(&mut self) -> Option<Time> {
        let aging = self.flight.next_aged_at();
        let hung = (self.flight.aged() > 0).then(|| {
            let turns = (self.recent.sum().calls > 0).then(|| self.recent.turns_at());
            let grace = (self.grace_until > self.seen).then_some(self.grace_until);
            turns.into_iter().chain(grace).min()
        });
        let aging = aging.into_iter().chain(hung.flatten()).min();
        match self.state {
            BreakerState::Open => Some(self.until),
            BreakerState::HalfOpen => self.trial.deadline().into_iter().chain(aging).min(),
            BreakerState::Closed | BreakerState::MetricsOnly => aging,
            BreakerState::ForcedOpen | BreakerState::Disabled => None,
        }
    }

    /// The same, and where calls may begin unseen in this bucket of time, when those will have aged.
    pub(super) fn look_by(&mut self, unseen: bool) -> Option<Time> {
        let aging = (unseen && self.state != BreakerState::Disabled)
            .then(|| self.flight.aged_at(self.seen));
        self.deadline().into_iter().chain(aging).min()
    }

    /// Brings everything up to `now`.
    pub(super) fn look(&mut self, now: Time) {
        let (due, aged) = (self.flight.next_aged_at(), self.flight.aged());
        self.seen = self.seen.max(now);
        self.flight.advance(self.seen);
        self.window.advance(self.seen);
        self.recent.advance(self.seen);
        // Who comes late to see the first calls age was perhaps held up together with those who
        // report them: they get some time to do so before calls that hang are judged.
        let late = due.map_or(Duration::ZERO, |due| self.seen.since(due));
        if aged == 0 && self.flight.aged() > 0 && late > self.settings.slow_after / 20 {
            self.grace_until = self.seen + self.settings.slow_after / 10;
        }
    }

    /// Opens for a time: the longer the sooner it had to after it closed.
    pub(super) fn open(&mut self, because: &'static str) {
        let soon = self.state == BreakerState::HalfOpen
            || (self.counts.trips > 0 && self.seen.since(self.since) < self.open_span);
        self.repeats = if soon {
            self.repeats.saturating_add(1)
        } else {
            0
        };
        self.open_span = self.settings.open_span(self.repeats);
        self.until = self.seen + self.open_span;
        self.counts.trips += 1;
        self.transition(BreakerState::Open, because);
    }

    pub(super) fn transition(&mut self, to: BreakerState, because: &'static str) {
        let from = self.state;
        if from == to {
            return;
        }
        self.state = to;
        self.since = self.seen;
        self.generation += 1;
        self.late += self.flight.clear();
        // What was seen last stays to be read while it is open.
        if !matches!(to, BreakerState::Open | BreakerState::ForcedOpen) {
            self.window.clear();
        }
        self.recent.clear();
        self.trial = Trial::new(&self.settings);
        self.broken = [false; Trigger::COUNT];
        self.high_scores = 0;
        self.grace_until = Time::ZERO;
        self.adjust("state", from as usize, to as usize, because);
        self.event(BreakerEventKind::Transition { from, to, because });
    }

    pub(super) fn adjust(
        &mut self,
        what: &'static str,
        from: usize,
        to: usize,
        because: &'static str,
    ) {
        self.history.add(Adjustment {
            at: self.seen,
            what,
            from: from as f64,
            to: to as f64,
            because,
        });
    }

    pub(super) fn event(&mut self, kind: BreakerEventKind) {
        self.log.add(self.seen, kind);
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn seen(&self) -> Time {
        self.seen
    }

    /// The calls let through in one bucket of 2 to the power of that nanoseconds are one count.
    pub(super) fn shift(&self) -> u32 {
        self.flight.shift()
    }

    pub(super) fn log(&mut self) -> &mut EventLog {
        &mut self.log
    }
}
