//! One breaker for many stages, tasks and threads.
//!
//! The state machine is behind a lock that is held for well under a microsecond, and never while
//! user code runs. Two words beside it spare the lock where nothing but a count changes:
//!
//! - `starts` counts the calls let through since the lock was last taken. It says for which
//!   generation and which bucket of time it counts, and one increment that finds both unchanged lets
//!   a call through. Who takes the lock empties it into the machine, before anything is judged.
//! - `gate` says until when calls are refused, whatever happens: a load and a count refuse.
//!
//! Stages begin and report many calls at once (`batch`), and so take the lock once a turn.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::machine::Breaker;
use super::permit::{Generation, Permit};
use super::settings::{BreakerSettings, WhenOpen};
use super::words::{gate, starts};
use super::{BreakerEvent, BreakerSnapshot, BreakerState, NotPermitted};
use crate::control::{Adjustment, Invalid, Waiters};
use crate::sync::{AtomicU64, Mutex, Ordering, lock};
use crate::time::Time;

type Listener = Box<dyn Fn(&BreakerEvent) + Send + Sync>;

/// A breaker that is shared: clones are the same one.
///
/// A call that is let through while nothing changes costs a load and two increments, a refusal a load
/// and one increment; a report takes the lock. A stage that begins calls on
/// [terms](crate::operator::Calls) takes it once for all calls that end in a turn.
#[derive(Clone)]
pub struct BreakerHandle {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    gate: AtomicU64,
    pub(super) starts: AtomicU64,
    /// Refusals the machine was not told of yet.
    pub(super) refused: AtomicU64,
    /// When somebody must look, in nanoseconds, if calls begin without the lock until then and nothing
    /// else happens.
    pub(super) look_by: AtomicU64,
    /// A bucket of time is 2 to the power of that nanoseconds wide.
    pub(super) shift: u32,
    settings: BreakerSettings,
    inner: Mutex<Inner>,
    listener: Option<Listener>,
}

pub(super) struct Inner {
    pub(super) breaker: Breaker,
    /// The generation and the whole number of the bucket for which `starts` counts.
    generation: u64,
    bucket: u64,
    /// Tasks that wait until a call may begin: one for each stage that pauses at most.
    pub(super) waiting: Waiters,
}

impl BreakerHandle {
    /// A closed breaker.
    ///
    /// # Errors
    /// [`Invalid`]: a setting that is out of its range.
    pub fn new(settings: BreakerSettings, now: Time) -> Result<BreakerHandle, Invalid> {
        BreakerHandle::build(settings, now, None)
    }

    /// A closed breaker that tells of each event, in the thread in which it came about and after the
    /// lock was given back. Events of two threads may be told out of order: they are numbered. What a
    /// listener does must be short; a panic of it is caught.
    ///
    /// # Errors
    /// [`Invalid`]: a setting that is out of its range.
    pub fn with_listener(
        settings: BreakerSettings,
        now: Time,
        listener: impl Fn(&BreakerEvent) + Send + Sync + 'static,
    ) -> Result<BreakerHandle, Invalid> {
        BreakerHandle::build(settings, now, Some(Box::new(listener)))
    }

    fn build(
        settings: BreakerSettings,
        now: Time,
        listener: Option<Listener>,
    ) -> Result<BreakerHandle, Invalid> {
        let mut breaker = Breaker::new(settings, now)?;
        if listener.is_some() {
            breaker.log().listen();
        }
        let shift = breaker.shift();
        let (generation, bucket) = (breaker.generation(), now.as_nanos() >> shift);
        let look_by = breaker.look_by(true).map_or(u64::MAX, Time::as_nanos);
        let shared = Shared {
            gate: AtomicU64::new(gate::NONE),
            starts: AtomicU64::new(starts::none_yet(generation, bucket)),
            refused: AtomicU64::new(0),
            look_by: AtomicU64::new(look_by),
            shift,
            settings,
            inner: Mutex::new(Inner {
                breaker,
                generation,
                bucket,
                waiting: Waiters::default(),
            }),
            listener,
        };
        Ok(BreakerHandle {
            shared: Arc::new(shared),
        })
    }

    /// Lets a call begin, or refuses it. The permit is to be reported when the call has ended; one
    /// that is dropped without counts as abandoned, and gives its place back.
    ///
    /// # Errors
    /// [`NotPermitted`] while it is open, forced open, or half open with as many calls in flight as may be.
    pub fn try_acquire(&self, now: Time) -> Result<Permit, NotPermitted> {
        let shared = &self.shared;
        let bucket = now.as_nanos() >> shared.shift;
        let mut word = shared.starts.load(Ordering::Acquire);
        while starts::admits(word, bucket) {
            let more = shared.starts.compare_exchange_weak(
                word,
                word + 1,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            match more {
                Ok(_) => return Ok(self.permit(Generation::Low(starts::generation(word)), now)),
                Err(changed) => word = changed,
            }
        }
        if let Some(refusal) = shared.refusal(now) {
            shared.refused.fetch_add(1, Ordering::Relaxed);
            return Err(refusal);
        }
        let ticket = self.locked(|breaker| breaker.try_acquire(now))?;
        Ok(self.permit(Generation::Whole(ticket.generation), ticket.started))
    }

    /// Lets a call begin as soon as it may: for a stage that pauses its demand. The task is woken when
    /// there is a place or the state changes so that there are; it sets a timer for
    /// [`BreakerHandle::deadline`] besides and calls [`BreakerHandle::tick`] then, because the open time
    /// ends without anybody's doing. Waiting is no refusal, and is not counted. Cancel safe.
    pub fn poll_acquire(&self, task: &mut Context<'_>, now: Time) -> Poll<Permit> {
        let (ticket, displaced) =
            self.shared
                .locked_whole(|inner| match inner.breaker.check(now) {
                    Ok(()) => (inner.breaker.try_acquire(now).ok(), None),
                    Err(_) => (None, inner.waiting.add(task.waker())),
                });
        displaced.into_iter().for_each(Waker::wake);
        ticket.map_or(Poll::Pending, |ticket| {
            Poll::Ready(self.permit(Generation::Whole(ticket.generation), ticket.started))
        })
    }

    /// What [`BreakerHandle::try_acquire`] would answer, without letting a call begin. Another stage may
    /// be faster all the same.
    ///
    /// # Errors
    /// [`NotPermitted`], which is not counted.
    pub fn check(&self, now: Time) -> Result<(), NotPermitted> {
        let shared = &self.shared;
        let bucket = now.as_nanos() >> shared.shift;
        if starts::admits(shared.starts.load(Ordering::Acquire), bucket) {
            return Ok(());
        }
        if let Some(refusal) = shared.refusal(now) {
            return Err(refusal);
        }
        self.locked(|breaker| breaker.check(now))
    }

    fn permit(&self, generation: Generation, started: Time) -> Permit {
        Permit::new(Arc::clone(&self.shared), generation, started)
    }

    fn locked<R>(&self, f: impl FnOnce(&mut Breaker) -> R) -> R {
        self.shared.locked(f)
    }

    /// Looks at what only time changes; to be called at [`BreakerHandle::deadline`].
    pub fn tick(&self, now: Time) {
        self.locked(|breaker| breaker.tick(now));
    }

    /// When [`BreakerHandle::tick`] must be called if nothing happens before. A stage asks after each
    /// fill and sets its timer.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.locked(Breaker::deadline)
    }

    /// The score of the pressure, 0 to 1. It matters only where
    /// [`pressure`](BreakerSettings::pressure) was declared.
    pub fn on_pressure(&self, now: Time, score: f64) {
        self.locked(|breaker| breaker.on_pressure(now, score));
    }

    /// Opens for its open time, as if a rule had been broken.
    pub fn trip(&self, now: Time) {
        self.locked(|breaker| breaker.trip(now));
    }

    /// Refuses everything until told otherwise.
    pub fn force_open(&self, now: Time) {
        self.locked(|breaker| breaker.force_open(now));
    }

    /// Lets everything through and records nothing until told otherwise.
    pub fn disable(&self, now: Time) {
        self.locked(|breaker| breaker.disable(now));
    }

    /// Lets everything through, records, and tells when a rule is broken, until told otherwise.
    pub fn metrics_only(&self, now: Time) {
        self.locked(|breaker| breaker.metrics_only(now));
    }

    /// Closes, from whatever state, and forgets the calls seen and how often it opened before.
    pub fn reset(&self, now: Time) {
        self.locked(|breaker| breaker.reset(now));
    }

    /// The state as of the last call of a method.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.locked(|breaker| breaker.state())
    }

    /// What was declared.
    #[must_use]
    pub fn settings(&self) -> &BreakerSettings {
        &self.shared.settings
    }

    /// What stages do while it refuses.
    #[must_use]
    pub fn when_open(&self) -> WhenOpen {
        self.shared.settings.when_open
    }

    /// Everything there is to see.
    #[must_use]
    pub fn snapshot(&self, now: Time) -> BreakerSnapshot {
        self.locked(|breaker| breaker.snapshot(now))
    }

    /// The last changes of the state and of the calls that half open allows, the oldest first.
    #[must_use]
    pub fn adjustments(&self) -> Vec<Adjustment> {
        self.locked(|breaker| breaker.adjustments().last().copied().collect())
    }

    /// The last events, the oldest first: those of the state, and those of calls if declared.
    #[must_use]
    pub fn events(&self) -> Vec<BreakerEvent> {
        self.locked(|breaker| breaker.events().copied().collect())
    }

    /// Whether both are the same breaker.
    #[must_use]
    pub fn is_same(&self, other: &BreakerHandle) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Shared {
    /// The refusal that holds at that time, if it can be told without the lock.
    fn refusal(&self, now: Time) -> Option<NotPermitted> {
        let (state, until) = gate::refusing(self.gate.load(Ordering::Acquire), now)?;
        let retry_at = (state == BreakerState::Open).then_some(until);
        Some(NotPermitted { state, retry_at })
    }

    pub(super) fn locked<R>(&self, f: impl FnOnce(&mut Breaker) -> R) -> R {
        self.locked_whole(|inner| f(&mut inner.breaker))
    }

    /// Brings the machine up to date, changes it, and publishes what follows for those who do without
    /// the lock; then wakes who waits, and tells the listener.
    pub(super) fn locked_whole<R>(&self, f: impl FnOnce(&mut Inner) -> R) -> R {
        let mut inner = lock(&self.inner);
        self.gather(&mut inner);
        let result = f(&mut inner);
        self.publish(&mut inner);
        let may_begin = !inner.waiting.is_empty() && inner.breaker.admits().is_ok();
        let woken = may_begin.then(|| inner.waiting.take());
        let events = inner.breaker.log().take();
        drop(inner);
        woken.into_iter().flatten().for_each(Waker::wake);
        if let Some(listener) = &self.listener {
            for event in &events {
                let _ = catch_unwind(AssertUnwindSafe(|| listener(event)));
            }
        }
        result
    }

    /// Tells the machine of the calls that were let through and refused without it.
    fn gather(&self, inner: &mut Inner) {
        let refused = self.refused.load(Ordering::Relaxed);
        if refused > 0 {
            let refused = self.refused.swap(0, Ordering::Relaxed);
            inner.breaker.refused(refused);
        }
        let calls = self.take_starts();
        self.count_starts(inner, calls);
    }

    /// How many were let through without the lock; those after it are counted from 0.
    #[cfg(not(forebay_loom_bug))]
    fn take_starts(&self) -> u64 {
        self.starts.fetch_and(!starts::COUNT_MASK, Ordering::AcqRel) & starts::COUNT_MASK
    }

    /// Loses a call that is let through in between: the models must find that.
    #[cfg(forebay_loom_bug)]
    fn take_starts(&self) -> u64 {
        let word = self.starts.load(Ordering::Acquire);
        self.starts
            .store(word & !starts::COUNT_MASK, Ordering::Release);
        word & starts::COUNT_MASK
    }

    fn count_starts(&self, inner: &mut Inner, calls: u64) {
        if calls > 0 {
            let at = Time::from_nanos(inner.bucket << self.shift);
            let generation = inner.generation;
            inner.breaker.started(generation, at, calls as usize);
        }
    }

    fn publish(&self, inner: &mut Inner) {
        let breaker = &mut inner.breaker;
        let (generation, bucket) = (
            breaker.generation(),
            breaker.seen().as_nanos() >> self.shift,
        );
        let refuses = match breaker.admits() {
            Ok(()) => gate::NONE,
            Err(refusal) => {
                // A half-open breaker that is full frees its places by reports, which come with the
                // lock, and else by its deadline.
                let until = refusal.retry_at.or_else(|| breaker.deadline());
                gate::refuses(refusal.state, until.unwrap_or(Time::MAX))
            }
        };
        if self.gate.load(Ordering::Relaxed) != refuses {
            self.gate.store(refuses, Ordering::Release);
        }
        let without_lock = matches!(
            breaker.state(),
            BreakerState::Closed | BreakerState::Disabled | BreakerState::MetricsOnly
        );
        let look_by = breaker
            .look_by(without_lock)
            .map_or(u64::MAX, Time::as_nanos);
        if self.look_by.load(Ordering::Relaxed) != look_by {
            self.look_by.store(look_by, Ordering::Release);
        }
        if (generation, bucket) == (inner.generation, inner.bucket) {
            return;
        }
        let word = if without_lock {
            starts::none_yet(generation, bucket)
        } else {
            starts::NONE
        };
        // Some may have been let through since they were gathered: in the old bucket or generation.
        let calls = self.starts.swap(word, Ordering::AcqRel) & starts::COUNT_MASK;
        self.count_starts(inner, calls);
        (inner.generation, inner.bucket) = (generation, bucket);
    }
}

impl fmt::Debug for BreakerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerHandle")
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}
