//! What a gate, the stage behind it and its calls share: how calls began, and how they ended.
//!
//! All of it happens within the turns of one task, so the lock is there for the compiler's sake and is
//! never waited for. The clock is read once a turn, not once a call: what ended between two readings is
//! told to breaker, limit and admission together, at the second of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Poll;
use std::time::Duration;

use super::aloft::Aloft;
use super::begun::{Begun, How};
use super::{Calls, Places};
use crate::control::{
    AdmissionHandle, BreakerHandle, Call, LimitHandle, LimitMember, Pass, Sample,
};
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

#[derive(Default)]
struct State {
    /// By what the elements were let through that passed the gate and whose calls have not begun yet:
    /// in their order.
    passes: VecDeque<(Pass, usize)>,
    /// Elements that have ended: their places are free.
    freed: usize,
    /// When the clock was read last, and how often it was.
    looked: Time,
    looks: u64,
    /// Calls that began since then.
    begun: usize,
    /// Of those, the ones in flight.
    fresh: usize,
    /// The other calls in flight.
    aloft: Aloft,
    in_flight: usize,
    /// What ended since then.
    ended: Vec<Ended>,
    /// What was seen of calls that limit and admission were not told of yet.
    seen: Seen,
}

/// Room for what has ended, used again at each turn.
#[derive(Default)]
pub(super) struct Ends(Vec<Ended>);

/// How it is when all is told.
pub(super) struct Turn {
    pub(super) now: Time,
    pub(super) in_flight: usize,
}

/// A call that has ended.
struct Ended {
    pass: Option<Pass>,
    begun: Start,
    how: How,
    /// What it took, once the clock was read.
    service_ns: u64,
}

/// When a call began: at which reading of the clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    at: Time,
    look: u64,
}

#[derive(Default)]
struct Seen {
    sample: Sample,
    /// What the calls took that say something about the service time.
    service_ns: u64,
    /// What all calls took that ended.
    busy_ns: u64,
    well: u64,
}

impl State {
    /// The clock was read: what began and ended since the last reading took the time between.
    ///
    /// Of calls that began *and* ended there each takes its part of that time: they ran one after the
    /// other, in this task, and only their sum is known.
    fn look(&mut self, now: Time) {
        let now = now.max(self.looked);
        let now_ns = now.as_nanos();
        let part_ns = (now_ns - self.looked.as_nanos()) / self.begun.max(1) as u64;
        for one in &mut self.ended {
            one.service_ns = if one.begun.look == self.looks {
                part_ns
            } else {
                now_ns - one.begun.at.as_nanos()
            };
            self.seen.add(one.how, one.service_ns);
        }
        self.aloft
            .begin(self.looked, std::mem::take(&mut self.fresh));
        self.begun = 0;
        self.looked = now;
        self.looks += 1;
    }

    fn sample(&mut self, now: Time) -> Seen {
        let mut seen = std::mem::take(&mut self.seen);
        let answered = seen.sample.answered().max(1) as u64;
        seen.sample.service = Duration::from_nanos(seen.service_ns / answered);
        seen.sample.in_flight = self.in_flight;
        seen.sample.oldest = now.since(self.aloft.oldest().unwrap_or(now));
        self.seen.sample.in_flight_peak = self.in_flight;
        seen
    }
}

impl Seen {
    fn add(&mut self, how: How, service_ns: u64) {
        if how == How::Abandoned {
            return;
        }
        self.busy_ns += service_ns;
        self.sample.count += 1;
        match how {
            How::Dropped => self.sample.drops += 1,
            How::Failure => self.sample.failures += 1,
            How::Success | How::Abandoned => self.well += 1,
        }
        if how != How::Dropped {
            self.service_ns += service_ns;
        }
    }
}

impl Ended {
    fn call(&self) -> Call {
        let service = Duration::from_nanos(self.service_ns);
        match self.how {
            How::Success => Call::Success(service),
            How::Failure | How::Dropped => Call::Failure(service),
            How::Abandoned => Call::Abandoned,
        }
    }
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
        let mut state = lock(&self.0.state);
        state.in_flight -= 1;
        if start.look == state.looks {
            state.fresh -= 1;
        } else {
            state.aloft.end(start.at);
        }
        state.end(pass, start, how, frees);
    }

    /// A first call has ended that was never in flight.
    pub(super) fn end_at_once(&self, how: How, frees: bool) {
        let mut state = lock(&self.0.state);
        let (pass, start) = (state.next_pass(), state.start());
        state.end(pass, start, how, frees);
    }

    /// A place is free: that of an element without a call in flight.
    pub(crate) fn free(&self) {
        lock(&self.0.state).freed += 1;
    }
}

impl State {
    fn next_pass(&mut self) -> Option<Pass> {
        let (pass, left) = self.passes.front_mut()?;
        let pass = *pass;
        *left -= 1;
        if *left == 0 {
            self.passes.pop_front();
        }
        Some(pass)
    }

    fn start(&mut self) -> Start {
        self.begun += 1;
        let peak = &mut self.seen.sample.in_flight_peak;
        *peak = (*peak).max(self.in_flight + 1);
        Start {
            at: self.looked,
            look: self.looks,
        }
    }

    fn take_off(&mut self) -> Start {
        let start = self.start();
        self.fresh += 1;
        self.in_flight += 1;
        start
    }

    fn end(&mut self, pass: Option<Pass>, begun: Start, how: How, frees: bool) {
        self.freed += usize::from(frees);
        self.ended.push(Ended {
            pass,
            begun,
            how,
            service_ns: 0,
        });
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
