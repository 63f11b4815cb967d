//! What a gate and the calls behind it share: permits on their way, and how calls ended.

use std::collections::{BTreeMap, VecDeque};
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::{Calls, Places};
use crate::control::{AdmissionHandle, BreakerHandle, LimitHandle, Permit, Sample};
use crate::sync::{AtomicBool, Mutex, Ordering, lock};
use crate::time::{self, Sleep, Time, poll_until};

/// Shared by the gate of a stage and its calls.
#[derive(Clone)]
pub(crate) struct Tally(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    draining: AtomicBool,
    limit: Option<LimitHandle>,
    workers: usize,
    breaker: Option<BreakerHandle>,
    admission: Option<AdmissionHandle>,
}

#[derive(Default)]
struct State {
    /// For the elements that passed the gate and whose calls have not begun yet, in their order.
    permits: VecDeque<Permit>,
    /// Elements that have ended: their places are free.
    freed: usize,
    /// When each call in flight began, by its number.
    flying: BTreeMap<u64, Time>,
    next: u64,
    seen: Sample,
    service: Duration,
}

/// A call in flight. Dropped, it was abandoned.
pub(crate) struct Begun {
    tally: Tally,
    number: u64,
    started: Time,
    permit: Option<Permit>,
    ended: bool,
}

/// The place of an element, for all its tries.
pub(crate) struct Place(Tally);

impl Tally {
    pub(super) fn new(calls: &Calls) -> Tally {
        let limit = match &calls.limit {
            Places::Fixed(_) => None,
            Places::Shared(limit) => Some(limit.clone()),
        };
        Tally(Arc::new(Shared {
            state: Mutex::new(State::default()),
            draining: AtomicBool::new(false),
            limit,
            workers: calls.most(),
            breaker: calls.breaker.clone(),
            admission: calls.admission.clone(),
        }))
    }

    pub(super) fn limit(&self) -> Option<&LimitHandle> {
        self.0.limit.as_ref()
    }

    pub(super) fn breaker(&self) -> Option<&BreakerHandle> {
        self.0.breaker.as_ref()
    }

    pub(super) fn admission(&self) -> Option<&AdmissionHandle> {
        self.0.admission.as_ref()
    }

    /// How many may run at once now.
    pub(super) fn workers(&self) -> usize {
        self.limit().map_or(self.0.workers, LimitHandle::limit)
    }

    pub(super) fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// The permits of elements that pass the gate now.
    pub(super) fn pass(&self, permits: impl IntoIterator<Item = Permit>) {
        lock(&self.0.state).permits.extend(permits);
    }

    /// Places that were freed since it was asked last, and what was seen of calls.
    pub(super) fn take(&self, now: Time) -> (usize, Sample) {
        let mut state = lock(&self.0.state);
        let freed = std::mem::take(&mut state.freed);
        let mut sample = std::mem::take(&mut state.seen);
        let service = std::mem::take(&mut state.service);
        let answered = u32::try_from(sample.answered()).unwrap_or(u32::MAX);
        sample.service = service.checked_div(answered).unwrap_or_default();
        sample.in_flight = state.flying.len();
        let oldest = state.flying.first_key_value();
        sample.oldest = oldest.map_or(Duration::ZERO, |(_, started)| now.since(*started));
        state.seen.in_flight_peak = state.flying.len();
        (freed, sample)
    }

    /// The first call of an element that passed the gate.
    pub(crate) fn begin(&self) -> (Place, Begun) {
        let place = Place(self.clone());
        let mut state = lock(&self.0.state);
        let permit = state.permits.pop_front();
        let begun = self.start(&mut state, permit);
        (place, begun)
    }

    /// Another call for an element that has its place: begins when the breaker permits it. While the
    /// run drains it does not wait for that.
    pub(crate) async fn begin_again(&self) -> Begun {
        let mut permit = None;
        if let Some(breaker) = self.breaker() {
            let mut timer = None;
            permit = poll_fn(|task| self.poll_permit(task, breaker, &mut timer)).await;
        }
        self.start(&mut lock(&self.0.state), permit)
    }

    fn poll_permit(
        &self,
        task: &mut Context<'_>,
        breaker: &BreakerHandle,
        timer: &mut Option<Sleep>,
    ) -> Poll<Option<Permit>> {
        loop {
            let now = time::now();
            if let Poll::Ready(permit) = breaker.poll_acquire(task, now) {
                return Poll::Ready(Some(permit));
            }
            if self.is_draining() {
                return Poll::Ready(None);
            }
            let Some(at) = breaker.deadline() else {
                return Poll::Pending;
            };
            if poll_until(timer, at, task).is_pending() {
                return Poll::Pending;
            }
            breaker.tick(time::now());
        }
    }

    fn start(&self, state: &mut State, permit: Option<Permit>) -> Begun {
        let started = time::now();
        let number = state.next;
        state.next += 1;
        state.flying.insert(number, started);
        state.seen.in_flight_peak = state.seen.in_flight_peak.max(state.flying.len());
        Begun {
            tally: self.clone(),
            number,
            started,
            permit,
            ended: false,
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum How {
    Success,
    Failure,
    /// Too much was asked of where it went: it took too long.
    Dropped,
    Abandoned,
}

impl Begun {
    /// It ended as that result says.
    pub(crate) fn end<U, E>(self, result: &Result<U, E>) {
        if result.is_ok() {
            self.succeed();
        } else {
            self.finish(How::Failure);
        }
    }

    /// It ended well.
    pub(crate) fn succeed(self) {
        self.finish(How::Success);
    }

    /// It took longer than it may, and was given up.
    pub(crate) fn time_out(self) {
        self.finish(How::Dropped);
    }

    fn finish(mut self, how: How) {
        self.tell(how);
    }

    fn tell(&mut self, how: How) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let now = time::now();
        let service = now.since(self.started);
        if let Some(permit) = self.permit.take() {
            match how {
                How::Success => permit.success(now, service),
                How::Failure | How::Dropped => permit.failure(now, service),
                How::Abandoned => drop(permit),
            }
        }
        if how != How::Abandoned
            && let Some(admission) = self.tally.admission()
        {
            admission.served(service, how == How::Success);
        }
        let mut state = lock(&self.tally.0.state);
        state.flying.remove(&self.number);
        if how == How::Abandoned {
            return;
        }
        state.seen.count += 1;
        match how {
            How::Dropped => state.seen.drops += 1,
            How::Failure => state.seen.failures += 1,
            How::Success | How::Abandoned => {}
        }
        if how != How::Dropped {
            state.service += service;
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.tell(How::Abandoned);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.0.0.state).freed += 1;
    }
}

/// A call that cannot fail, with its place.
pub(crate) async fn tallied<F: Future>((_place, begun): (Place, Begun), call: F) -> F::Output {
    let output = call.await;
    begun.succeed();
    output
}
