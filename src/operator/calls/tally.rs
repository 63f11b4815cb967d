//! What a gate, the stage behind it and its calls share: how calls began, and how they ended.
//!
//! All of it happens within the turns of one task, so the lock is there for the compiler's sake and is
//! never waited for. The clock is read once a turn, not once a call: what ended between two readings is
//! told to breaker, limit and admission together, at the second of them.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Poll;
use std::time::Duration;

use super::begun::{Begun, How};
use super::seen::{Ended, Start, State};
use super::{Calls, Places};
use crate::control::{AdmissionHandle, BreakerHandle, Call, LimitHandle, LimitMember, Pass};
use crate::operator::Context;
use crate::sync::{AtomicBool, Mutex, Ordering, lock};
use crate::time::Time;

/// Shared by the gate of a stage, the stage, and its calls.
#[derive(Clone)]
pub(crate) struct Tally(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    draining: AtomicBool,
    member: Option<Mutex<LimitMember>>,
    /// How many may run at once, as the limit was last seen.
    workers: AtomicUsize,
    breaker: Option<BreakerHandle>,
    admission: Option<AdmissionHandle>,
}

/// Room for what has ended, used again at each turn.
#[derive(Default)]
pub(super) struct Ends(Vec<Ended>);

/// How it is when all is told.
pub(super) struct Turn {
    pub(super) now: Time,
    pub(super) in_flight: usize,
}

impl Shared {
    fn report(&self, now: Time, ended: &[Ended]) {
        if let Some(breaker) = &self.breaker
            && !ended.is_empty()
        {
            let of = |one: &Ended| one.pass.map(|pass| (pass, one.call()));
            breaker.report(now, ended.iter().filter_map(of));
        }
    }
}

impl Tally {
    pub(super) fn new(calls: &Calls) -> Tally {
        let member = match &calls.limit {
            Places::Fixed(_) => None,
            Places::Shared(limit) => Some(LimitHandle::join(limit)),
        };
        let workers = member.as_ref().map_or(calls.most(), LimitMember::limit);
        Tally(Arc::new(Shared {
            state: Mutex::new(State::default()),
            draining: AtomicBool::new(false),
            member: member.map(Mutex::new),
            workers: AtomicUsize::new(workers),
            breaker: calls.breaker.clone(),
            admission: calls.admission.clone(),
        }))
    }

    pub(super) fn breaker(&self) -> Option<&BreakerHandle> {
        self.0.breaker.as_ref()
    }

    pub(super) fn admission(&self) -> Option<&AdmissionHandle> {
        self.0.admission.as_ref()
    }

    /// How many may run at once.
    pub(super) fn workers(&self) -> usize {
        self.0.workers.load(Ordering::Relaxed)
    }

    pub(super) fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    /// The stage gets its turn.
    pub(super) fn look(&self, now: Time) {
        lock(&self.0.state).look(now);
    }

    /// Tells what has ended since the clock was read last, and gives back the places of it. The clock is
    /// read if something has. `always`: the limit is told of the calls in flight, too.
    pub(super) fn tell(&self, cx: &Context<'_, '_>, buf: &mut Ends, always: bool) -> Turn {
        let shared = &self.0;
        let mut state = lock(&shared.state);
        let in_flight = state.in_flight;
        let none = state.ended.is_empty();
        let now = if none { cx.now() } else { cx.clock() };
        let turn = Turn { now, in_flight };
        if none && state.freed == 0 && !(always && in_flight > 0) {
            return turn;
        }
        state.look(now);
        std::mem::swap(&mut state.ended, &mut buf.0);
        let freed = std::mem::take(&mut state.freed);
        let seen = state.sample(now);
        drop(state);
        shared.report(now, &buf.0);
        buf.0.clear();
        if let Some(admission) = &shared.admission
            && seen.sample.count > 0
        {
            admission.served_together(Duration::from_nanos(seen.busy_ns), seen.well);
        }
        if let Some(member) = &shared.member {
            let mut member = lock(member);
            member.turn(now, freed, &seen.sample);
            shared.workers.store(member.limit(), Ordering::Relaxed);
        }
        turn
    }

    /// Leases places for so many calls. Fewer, or none, where there are not so many.
    pub(super) fn lease(&self, cx: &mut Context<'_, '_>, want: usize) -> usize {
        let Some(member) = &self.0.member else {
            return want;
        };
        let mut member = lock(member);
        if want == 0 {
            member.decline();
            return 0;
        }
        let leased = member.poll_lease(cx.task(), want);
        self.0.workers.store(member.limit(), Ordering::Relaxed);
        match leased {
            Poll::Ready(places) => places,
            Poll::Pending => 0,
        }
    }

    /// No element came for so many places.
    pub(super) fn unlease(&self, places: usize) {
        if let Some(member) = &self.0.member
            && places > 0
        {
            lock(member).give_back(places);
        }
    }

    /// So many elements pass the gate now, let through by that.
    pub(super) fn pass(&self, now: Time, pass: Option<Pass>, count: usize) {
        let mut state = lock(&self.0.state);
        state.look(now);
        state.passes.extend(pass.map(|pass| (pass, count)));
    }

    /// An element that passed the gate has to wait for another of this stage: its place and its permit
    /// are free for others meanwhile.
    pub(crate) fn park(&self) {
        self.free();
        self.return_permit();
    }

    /// An element that passed the gate will need a permit later, not now.
    pub(crate) fn return_permit(&self) {
        let pass = lock(&self.0.state).next_pass();
        if let (Some(pass), Some(breaker)) = (pass, self.breaker()) {
            breaker.unused(pass, 1);
        }
    }

    /// A parked element takes over the place of one that has just ended.
    pub(crate) fn take_over(&self) {
        let mut state = lock(&self.0.state);
        state.freed = state.freed.saturating_sub(1);
    }

    /// A parked element has a place again. Ready when the breaker permits its call, too; while the run
    /// drains that is not waited for. The stage is woken as for its gate.
    pub(crate) fn poll_resume(&self, cx: &mut Context<'_, '_>) -> Poll<()> {
        let Some(breaker) = self.breaker() else {
            return Poll::Ready(());
        };
        let now = cx.now();
        match breaker.grant(Some(cx.task()), now, 1) {
            Ok((pass, _)) => lock(&self.0.state).passes.push_front((pass, 1)),
            Err(_) if self.is_draining() => {}
            Err(_) => return Poll::Pending,
        }
        Poll::Ready(())
    }

    /// The first call of an element that passed the gate; it frees its place when it ends.
    pub(crate) fn begin(&self) -> Begun {
        Begun::new(self)
    }

    /// A first call waits, and is in flight.
    pub(super) fn take_off(&self) -> (Option<Pass>, Start) {
        let mut state = lock(&self.0.state);
        (state.next_pass(), state.take_off())
    }

    /// Another call of an element that keeps its place.
    pub(super) fn start(&self) -> Start {
        lock(&self.0.state).take_off()
    }

    /// A call that was in flight has ended.
    pub(super) fn land(&self, pass: Option<Pass>, start: Start, how: How, frees: bool) {
        lock(&self.0.state).land(pass, start, how, frees);
    }

    /// A first call has ended that was never in flight.
    pub(super) fn end_at_once(&self, how: How, frees: bool) {
        lock(&self.0.state).end_at_once(how, frees);
    }

    /// A place is free: that of an element without a call in flight.
    pub(crate) fn free(&self) {
        lock(&self.0.state).freed += 1;
    }
}

impl Drop for Shared {
    /// The run is over: what was not told yet is told, and what passed the gate and never began is given
    /// up.
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        let now = state.looked;
        state.look(now);
        let ended = std::mem::take(&mut state.ended);
        let passes = std::mem::take(&mut state.passes);
        drop(state);
        self.report(now, &ended);
        if let Some(breaker) = &self.breaker {
            for (pass, calls) in passes {
                let given_up = std::iter::repeat_n((pass, Call::Abandoned), calls);
                breaker.report(now, given_up);
            }
        }
    }
}
