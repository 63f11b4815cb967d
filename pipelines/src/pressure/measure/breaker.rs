//! What a breaker did, against what went wrong.

use serde::Serialize;

use crate::run::Ran;
use crate::scenario::{Fault, Scenario};
use crate::system::{BreakerState, Transition};
use crate::trace::{Fate, NEVER};

/// What a breaker did. Times are null where it did not, or nothing went wrong.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub(crate) struct Breaker {
    pub(crate) trips: u64,
    /// Trips while no call had a reason to fail, hang or be slow.
    pub(crate) false_trips: u64,
    /// From the start of the first such fault to the first trip.
    pub(crate) trip_ms: Option<f64>,
    /// From its end to the first time closed.
    pub(crate) close_ms: Option<f64>,
}

/// The same, with the calls it took.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Trips {
    pub(crate) breaker: Breaker,
    /// Calls that ended, and calls in flight, between the start of the fault and the trip.
    pub(crate) calls: Option<u64>,
}

/// A breaker may still answer for a fault that long after it.
const AFTERMATH_NS: u64 = 2_000_000_000;

pub(super) fn trips(scenario: &Scenario, ran: &Ran) -> Trips {
    let transitions = &ran.last.transitions;
    let opened: Vec<&Transition> = transitions
        .iter()
        .filter(|transition| transition.to == BreakerState::Open)
        .collect();
    let faults = || scenario.faults.iter().filter(|fault| fault.breaks_calls());
    let has_reason = |at_ns: u64| {
        faults().any(|fault| {
            let (from, to) = fault.window();
            (from..to + AFTERMATH_NS).contains(&at_ns)
        })
    };
    let mut trips = Trips::default();
    trips.breaker.trips = opened.len() as u64;
    trips.breaker.false_trips = opened
        .iter()
        .filter(|transition| !has_reason(transition.at_ns))
        .count() as u64;
    let Some((from, to)) = faults().map(Fault::window).min() else {
        return trips;
    };
    let tripped = opened.iter().find(|transition| transition.at_ns >= from);
    if let Some(tripped) = tripped {
        let at = tripped.at_ns;
        trips.breaker.trip_ms = Some((at - from) as f64 / 1e6);
        let started = ran
            .records
            .iter()
            .filter(|record| record.started != NEVER && (from..=at).contains(&record.started));
        trips.calls = Some(started.filter(|record| record.fate != Fate::Ahead).count() as u64);
        let closed = transitions
            .iter()
            .find(|t| t.to == BreakerState::Closed && t.at_ns >= to.max(at));
        trips.breaker.close_ms = closed.map(|closed| (closed.at_ns - to) as f64 / 1e6);
    }
    trips
}
