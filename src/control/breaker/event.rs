//! What happened to a breaker: counted, kept in a bounded log, handed to a listener.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use super::BreakerState;
use crate::time::Time;

/// Which rule of a breaker was broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    /// Too large a share of the calls failed.
    Failures,
    /// Too large a share of the calls was slow, those counted that still hang.
    SlowCalls,
    /// Calls hang, and too few others end.
    HungCalls,
    /// The score of the pressure was too high too long.
    Pressure,
}

impl Trigger {
    pub(super) const COUNT: usize = 4;

    /// The reason in words.
    #[must_use]
    pub fn because(self) -> &'static str {
        match self {
            Trigger::Failures => "too many calls fail",
            Trigger::SlowCalls => "too many calls are slow",
            Trigger::HungCalls => "calls hang and too few others end",
            Trigger::Pressure => "the pressure is too high",
        }
    }
}

/// What happened.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum BreakerEventKind {
    /// A call ended well.
    Success {
        /// How long it took.
        service: Duration,
    },
    /// A call failed.
    Error {
        /// How long it took.
        service: Duration,
    },
    /// A call ended in a way that says nothing about its destination.
    Ignored,
    /// So many calls were refused since the last such event.
    NotPermitted {
        /// How many.
        calls: u64,
    },
    /// A permit was dropped without a report.
    Abandoned,
    /// The state changed.
    Transition {
        /// What it was.
        from: BreakerState,
        /// What it is.
        to: BreakerState,
        /// Why.
        because: &'static str,
    },
    /// A rule was broken: once, until it is kept again.
    RateExceeded {
        /// Which.
        trigger: Trigger,
        /// The share or score seen.
        value: f64,
        /// The one at which it is broken.
        limit: f64,
    },
    /// Everything was forgotten by hand.
    Reset,
}

/// What happened, and when.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct BreakerEvent {
    /// Counted from 0 without a gap: a gap in what one sees is what was dropped.
    pub number: u64,
    /// When.
    pub at: Time,
    /// What.
    pub kind: BreakerEventKind,
}

impl fmt::Display for BreakerEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} s: ", self.at.as_nanos() as f64 / 1e9)?;
        match self.kind {
            BreakerEventKind::Success { service } => write!(f, "success after {service:?}"),
            BreakerEventKind::Error { service } => write!(f, "error after {service:?}"),
            BreakerEventKind::Ignored => f.write_str("ignored"),
            BreakerEventKind::NotPermitted { calls } => write!(f, "{calls} not permitted"),
            BreakerEventKind::Abandoned => f.write_str("abandoned"),
            BreakerEventKind::Transition { from, to, because } => {
                write!(f, "{from} -> {to}: {because}")
            }
            BreakerEventKind::RateExceeded {
                trigger,
                value,
                limit,
            } => write!(f, "{}: {value:.3} of {limit:.3}", trigger.because()),
            BreakerEventKind::Reset => f.write_str("reset"),
        }
    }
}

/// How often each thing happened since the breaker was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BreakerCounts {
    /// Calls that were let through.
    pub permitted: u64,
    /// Calls that ended well.
    pub success: u64,
    /// Calls that failed.
    pub error: u64,
    /// Calls that were ignored.
    pub ignored: u64,
    /// Calls that were refused; in a stage, elements.
    pub not_permitted: u64,
    /// Permits that were dropped without a report.
    pub abandoned: u64,
    /// Of the calls that ended, those let through before the last change of state: they are counted,
    /// but judge nothing any more.
    pub late: u64,
    /// How often it opened.
    pub trips: u64,
}

impl BreakerCounts {
    /// Permits that are out: permitted less ended.
    #[must_use]
    pub fn outstanding(&self) -> u64 {
        self.permitted - self.success - self.error - self.ignored - self.abandoned
    }
}

/// The last events, and those not handed to the listener yet. Both are bounded: the oldest leave.
#[derive(Clone, Debug)]
pub(super) struct EventLog {
    last: VecDeque<BreakerEvent>,
    bound: usize,
    with_calls: bool,
    /// What a listener has not got yet; `None` without a listener.
    outbox: Option<VecDeque<BreakerEvent>>,
    next: u64,
}

impl EventLog {
    pub(super) fn new(bound: usize, with_calls: bool) -> EventLog {
        EventLog {
            last: VecDeque::new(),
            bound,
            with_calls,
            outbox: None,
            next: 0,
        }
    }

    pub(super) fn listen(&mut self) {
        self.outbox = Some(VecDeque::new());
    }

    pub(super) fn add(&mut self, at: Time, kind: BreakerEventKind) {
        let event = BreakerEvent {
            number: self.next,
            at,
            kind,
        };
        self.next += 1;
        let of_state = matches!(
            kind,
            BreakerEventKind::Transition { .. }
                | BreakerEventKind::RateExceeded { .. }
                | BreakerEventKind::Reset
        );
        if of_state || self.with_calls {
            if self.last.len() == self.bound {
                self.last.pop_front();
            }
            self.last.push_back(event);
        }
        if let Some(outbox) = &mut self.outbox {
            if outbox.len() == self.bound.max(16) {
                outbox.pop_front();
            }
            outbox.push_back(event);
        }
    }

    /// Whether somebody sees the events of single calls.
    pub(super) fn tells_of_calls(&self) -> bool {
        self.with_calls || self.outbox.is_some()
    }

    /// Numbers so many events that nobody sees.
    pub(super) fn skip(&mut self, events: u64) {
        self.next += events;
    }

    pub(super) fn last(&self) -> impl DoubleEndedIterator<Item = &BreakerEvent> + '_ {
        self.last.iter()
    }

    pub(super) fn take(&mut self) -> VecDeque<BreakerEvent> {
        self.outbox.as_mut().map(std::mem::take).unwrap_or_default()
    }
}
