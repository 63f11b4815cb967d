//! Many calls at once, for a stage: it asks once a turn, and reports once a turn.

use std::task::{Context, Waker};

use super::NotPermitted;
use super::handle::BreakerHandle;
use super::machine::Call;
use super::permit::Generation;
use super::words::starts;
use crate::sync::Ordering;
use crate::time::Time;

/// When calls were let through together, and by which state: what a report of one must say.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Pass {
    generation: Generation,
    started: Time,
}

impl BreakerHandle {
    /// What calls that begin now are let through by, where that takes no lock: a load. They are
    /// counted when they [begin](BreakerHandle::begin).
    pub(crate) fn pass(&self, now: Time) -> Option<Pass> {
        let word = self.shared.starts.load(Ordering::Acquire);
        let bucket = now.as_nanos() >> self.shared.shift;
        starts::admits(word, bucket).then(|| Pass {
            generation: Generation::Low(starts::generation(word)),
            started: now,
        })
    }

    /// So many calls begin by that pass: an increment. If the state has changed meanwhile they were let
    /// through before it did, and judge nothing.
    pub(crate) fn begin(&self, pass: Pass, calls: usize) {
        let Generation::Low(low) = pass.generation else {
            return;
        };
        let shared = &self.shared;
        let bucket = pass.started.as_nanos() >> shared.shift;
        let mut word = shared.starts.load(Ordering::Acquire);
        while starts::generation(word) == low && starts::admits_many(word, bucket, calls as u64) {
            let more = shared.starts.compare_exchange_weak(
                word,
                word + calls as u64,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match more {
                Ok(_) => return,
                Err(changed) => word = changed,
            }
        }
        shared.locked(|breaker| {
            let generation = starts::whole(low, breaker.generation());
            breaker.started(generation, pass.started, calls);
        });
    }

    /// Lets up to so many calls begin, 1 at least. Where none may and a task is given, that is woken
    /// when one may. Waiting and asking are no refusals, and are not counted.
    ///
    /// # Errors
    /// [`NotPermitted`], as [`BreakerHandle::try_acquire`].
    pub(crate) fn grant(
        &self,
        task: Option<&mut Context<'_>>,
        now: Time,
        want: usize,
    ) -> Result<(Pass, usize), NotPermitted> {
        let (granted, displaced) = self.shared.locked_whole(|inner| {
            let breaker = &mut inner.breaker;
            match breaker.check(now) {
                Ok(()) => {
                    let calls = breaker.grant(want);
                    let pass = Pass {
                        generation: Generation::Whole(breaker.generation()),
                        started: breaker.seen(),
                    };
                    (Ok((pass, calls)), None)
                }
                Err(refusal) => {
                    let displaced = task.and_then(|task| inner.waiting.add(task.waker()));
                    (Err(refusal), displaced)
                }
            }
        });
        displaced.into_iter().for_each(Waker::wake);
        granted
    }

    /// So many of the calls that were let through were not made: no element came for them.
    pub(crate) fn unused(&self, pass: Pass, calls: usize) {
        self.record(None, std::iter::repeat_n((pass, Call::Unused), calls));
    }

    /// Those calls have ended, in that order. Each is judged by itself, under one lock.
    pub(crate) fn report(&self, now: Time, ended: impl Iterator<Item = (Pass, Call)>) {
        self.record(Some(now), ended);
    }

    fn record(&self, now: Option<Time>, ended: impl Iterator<Item = (Pass, Call)>) {
        self.shared.locked(|breaker| {
            breaker.look(now.unwrap_or(breaker.seen()));
            let slow_after = breaker.settings().slow_after;
            let is_well = |call| matches!(call, Call::Success(service) if service <= slow_after);
            let mut ended = ended.peekable();
            while let Some((pass, call)) = ended.next() {
                let generation = pass.generation.whole(breaker.generation());
                // Those that began together and went well are one step.
                if is_well(call) && breaker.is_indifferent(generation) {
                    let like = |other: &(Pass, Call)| other.0 == pass && is_well(other.1);
                    let more = std::iter::from_fn(|| ended.next_if(like)).count();
                    breaker.ended_well(pass.started, 1 + more);
                    continue;
                }
                breaker.ended(generation, pass.started, call);
            }
        });
    }

    /// So many elements were refused because of it.
    pub(crate) fn refuse(&self, calls: usize) {
        self.shared
            .refused
            .fetch_add(calls as u64, Ordering::Relaxed);
    }

    /// When [`BreakerHandle::tick`] must be called by one whose calls are in flight, or, where it does
    /// not let all calls through, by whoever waits for that.
    pub(crate) fn look_by(&self, in_flight: bool) -> Option<Time> {
        let all = starts::is_open_to_all(self.shared.starts.load(Ordering::Acquire));
        let at = Time::from_nanos(self.shared.look_by.load(Ordering::Acquire));
        (at != Time::MAX && (in_flight || !all)).then_some(at)
    }
}
