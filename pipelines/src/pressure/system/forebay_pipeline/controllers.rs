//! What the controllers of the pipeline show of themselves.

use std::sync::Arc;

use forebay::boundary::ClassQueueView;
use forebay::control::limit::LimitHandle;
use forebay::control::{
    Adjustment, AdmissionHandle, BatchHandle, BreakerEventKind, BreakerHandle,
    BreakerState as State, EmergencyHandle,
};
use forebay::flow::Rate;
use forebay::time::Time;

use super::memory::MemoryGate;
use super::{BreakerState, Observation, Transition};
use crate::scenario::{ByClass, Rank};
use crate::trace::Trace;

/// The controllers, as far as the policies have them.
pub(super) struct Controllers {
    pub(super) trace: Arc<Trace>,
    pub(super) queue: Option<ClassQueueView>,
    pub(super) admission: Option<AdmissionHandle>,
    pub(super) emergency: Option<EmergencyHandle>,
    pub(super) limit: Option<LimitHandle>,
    pub(super) breaker: Option<BreakerHandle>,
    pub(super) batch: Option<BatchHandle>,
    pub(super) throttle: Option<Rate>,
    pub(super) memory: Option<MemoryGate>,
}

impl Controllers {
    pub(super) fn observe(&self) -> Observation {
        let mut observed = Observation::default();
        if let Some(seen) = self.queue.as_ref().and_then(ClassQueueView::snapshot) {
            let lane = |rank: Rank| seen.queue.lane(rank.class());
            observed.aging_grants = Rank::ALL.map(|rank| lane(rank).aged).iter().sum();
            observed.deferrals = Some(ByClass::make(|rank| {
                lane(rank).deferred + lane(rank).evicted_elsewhere
            }));
        }
        if let Some(admission) = &self.admission {
            observed.reject_ratio = Some(admission.snapshot().reject_ratio);
            observed.adjustments.extend(admission.adjustments());
        }
        if let Some(limit) = &self.limit {
            observed.limit = Some(limit.limit() as f64);
            observed.adjustments.extend(limit.adjustments());
        }
        if let Some(breaker) = &self.breaker {
            observed.breaker = Some(shown(breaker.state()));
            observed.adjustments.extend(breaker.adjustments());
            observed.transitions = self.transitions(breaker);
        }
        if let Some(emergency) = &self.emergency {
            observed.adjustments.extend(emergency.adjustments());
        }
        if let Some(batch) = &self.batch {
            observed.batch = Some(batch.snapshot().size as f64);
            observed.adjustments.extend(batch.adjustments());
        }
        if let Some(throttle) = &self.throttle {
            observed.adjustments.extend(throttle.adjustments());
        }
        if let Some(memory) = &self.memory {
            observed.turned_away = Some(memory.turned_away());
            observed.adjustments.extend(memory.adjustments());
        }
        let since = |at: Time| Time::from_nanos(self.at_ns(at));
        for adjustment in &mut observed.adjustments {
            *adjustment = Adjustment {
                at: since(adjustment.at),
                ..*adjustment
            };
        }
        observed.adjustments.sort_by_key(|adjustment| adjustment.at);
        observed
    }

    /// Nanoseconds after the start of the run.
    fn at_ns(&self, at: Time) -> u64 {
        let since = at.since(self.trace.clock(0));
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn transitions(&self, breaker: &BreakerHandle) -> Vec<Transition> {
        let events = breaker.events().into_iter();
        let transitions = events.filter_map(|event| match event.kind {
            BreakerEventKind::Transition { to, .. } => Some(Transition {
                at_ns: self.at_ns(event.at),
                to: shown(to),
            }),
            _ => None,
        });
        transitions.collect()
    }
}

fn shown(state: State) -> BreakerState {
    match state {
        State::Open | State::ForcedOpen => BreakerState::Open,
        State::HalfOpen => BreakerState::HalfOpen,
        _ => BreakerState::Closed,
    }
}
