//! One limit for many stages: a pool of places.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use super::{Limit, LimitSnapshot};
use crate::control::{Adjustment, Sample};
use crate::sync::{WakeLock, wake_lock};
use crate::time::Time;

/// A limit that stages, flows and tasks share. Clones are the same one.
///
/// Calls in flight, summed over all its [members](LimitMember), are at most the limit: a call is begun
/// only in a place that was leased. A limit that falls revokes nothing, it lets calls end.
///
/// # Invariants
/// - A place is leased only while fewer are than the limit allows.
/// - While somebody waits, no place is free: what is given back is handed to who waits longest, and
///   cannot be taken by the one who gave it back. So no member starves another.
/// - Who waits is woken when a place is handed over: because one was given back, or the limit rose.
///
/// # Example
/// ```
/// use forebay::control::limit::{Fixed, LimitHandle};
///
/// # fn main() -> Result<(), forebay::control::Invalid> {
/// let limit = LimitHandle::new(Fixed::new(3)?);
/// let mut one = limit.join();
/// assert_eq!(one.lease(10), 3, "it is alone");
/// let mut other = limit.join();
/// assert_eq!(other.lease(1), 0, "none is left");
/// one.give_back(3);
/// assert_eq!(other.lease(10), 1, "of several nobody takes all at once");
/// assert_eq!(limit.snapshot().leased, 1);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct LimitHandle(Arc<Mutex<Pool>>);

/// How a shared limit stands.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LimitHandleSnapshot {
    /// What the limit goes by.
    pub limit: LimitSnapshot,
    /// Places that are leased: calls in flight, and those about to begin.
    pub leased: usize,
    /// The most that ever were.
    pub peak: usize,
    /// Stages that share it.
    pub members: usize,
    /// Of those, the ones that wait for a place.
    pub waiting: usize,
}

impl LimitHandleSnapshot {
    /// Whether all places came back: to be asked when nothing under this limit runs any more.
    ///
    /// # Errors
    /// What is wrong: a member that was never dropped, with the places it has.
    pub fn check_idle(&self) -> Result<(), String> {
        match (self.members, self.leased) {
            (0, 0) => Ok(()),
            (members, leased) => Err(format!(
                "{members} stages have not left it, and {leased} places are leased"
            )),
        }
    }
}

struct Pool {
    limit: Box<dyn Limit>,
    leased: usize,
    peak: usize,
    /// Calls in flight, as the members told last.
    in_flight: usize,
    members: usize,
    next_id: u64,
    /// Who waits, the longest first: each once, so at most as many as there are members.
    waiting: VecDeque<(u64, Waker)>,
    /// Who was handed a place and has not taken it yet.
    handed: Vec<u64>,
}

impl Pool {
    fn free(&self) -> usize {
        self.limit.limit().saturating_sub(self.leased)
    }

    fn take(&mut self, places: usize) {
        self.leased += places;
        self.peak = self.peak.max(self.leased);
    }

    /// The places handed over to that member.
    fn take_handed(&mut self, id: u64) -> usize {
        let before = self.handed.len();
        self.handed.retain(|other| *other != id);
        before - self.handed.len()
    }

    /// Leases to that member what it wants of what it was handed and of what is free. What was handed
    /// over and is not wanted goes to the next who waits.
    fn lease(pool: &mut WakeLock<'_, Pool>, id: u64, want: usize) -> usize {
        let handed = pool.take_handed(id);
        let kept = handed.min(want);
        pool.leased -= handed - kept;
        hand_over(pool);
        let more = pool.part(want - kept);
        pool.take(more);
        kept + more
    }

    /// What a member may take at once: of several, none takes so much that nothing is left for others.
    fn part(&self, want: usize) -> usize {
        let limit = self.limit.limit();
        let most = if self.members > 1 {
            (limit / (2 * self.members)).max(1)
        } else {
            limit
        };
        want.min(self.free()).min(most)
    }
}

/// Hands free places to who waits longest.
fn hand_over(pool: &mut WakeLock<'_, Pool>) {
    while pool.free() > 0 {
        let Some((id, waker)) = pool.waiting.pop_front() else {
            return;
        };
        pool.take(1);
        pool.handed.push(id);
        pool.wake(Some(waker));
    }
}

impl LimitHandle {
    /// Shares that limit.
    pub fn new(limit: impl Limit + 'static) -> LimitHandle {
        LimitHandle::boxed(Box::new(limit))
    }

    /// Shares that limit.
    #[must_use]
    pub fn boxed(limit: Box<dyn Limit>) -> LimitHandle {
        LimitHandle(Arc::new(Mutex::new(Pool {
            limit,
            leased: 0,
            peak: 0,
            in_flight: 0,
            members: 0,
            next_id: 0,
            waiting: VecDeque::new(),
            handed: Vec::new(),
        })))
    }

    /// One more that begins calls under it: a stage, once.
    #[must_use]
    pub fn join(&self) -> LimitMember {
        let mut pool = wake_lock(&self.0);
        let id = pool.next_id;
        pool.next_id += 1;
        pool.members += 1;
        LimitMember {
            pool: self.clone(),
            id,
            held: 0,
            told: 0,
            waits: false,
            limit: pool.limit.limit(),
        }
    }

    /// Goes by another limit from now on; what is leased stays so. The adjustments are then those of
    /// the new one.
    pub fn replace(&self, limit: impl Limit + 'static) {
        let mut pool = wake_lock(&self.0);
        pool.limit = Box::new(limit);
        hand_over(&mut pool);
    }

    /// How many calls may be in flight at once.
    #[must_use]
    pub fn limit(&self) -> usize {
        wake_lock(&self.0).limit.limit()
    }

    /// The last changes of the limit and why, the oldest first.
    #[must_use]
    pub fn adjustments(&self) -> Vec<Adjustment> {
        let pool = wake_lock(&self.0);
        pool.limit.adjustments().last().copied().collect()
    }

    /// How it stands.
    #[must_use]
    pub fn snapshot(&self) -> LimitHandleSnapshot {
        let pool = wake_lock(&self.0);
        LimitHandleSnapshot {
            limit: pool.limit.snapshot(),
            leased: pool.leased,
            peak: pool.peak,
            members: pool.members,
            waiting: pool.waiting.len(),
        }
    }

    /// Whether both are the same limit.
    #[must_use]
    pub fn is_same(&self, other: &LimitHandle) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for LimitHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LimitHandle")
            .field(&self.snapshot())
            .finish()
    }
}

/// A stage under a [`LimitHandle`]. Dropped, it gives back all that it holds.
///
/// Once a fill it [leases](LimitMember::poll_lease) places, asks upstream for as many elements,
/// begins their calls, and [gives back](LimitMember::give_back) what no element came for and what
/// calls have ended; it [tells](LimitMember::on_sample) what it saw. A fill in which it begins nothing
/// [declines](LimitMember::decline).
pub struct LimitMember {
    pool: LimitHandle,
    id: u64,
    held: usize,
    /// Calls in flight in its last sample.
    told: usize,
    /// It asked for a place in vain and has not asked again since.
    waits: bool,
    /// The limit as it was when the lock was last taken.
    limit: usize,
}

impl LimitMember {
    /// Leases at most so many places, those that are free: alone all of them, of several members at
    /// most its part of half of the limit, and 1 at least.
    pub fn lease(&mut self, want: usize) -> usize {
        let places = Pool::lease(&mut wake_lock(&self.pool.0), self.id, want);
        self.held += places;
        places
    }

    /// The same, but waits for a place: ready with 1 or more. The task is woken when it is its turn.
    /// Pending for ever if none is wanted. Cancel safe, but who does not ask again must
    /// [decline](LimitMember::decline).
    pub fn poll_lease(&mut self, task: &mut Context<'_>, want: usize) -> Poll<usize> {
        let mut pool = wake_lock(&self.pool.0);
        let places = Pool::lease(&mut pool, self.id, want);
        self.limit = pool.limit.limit();
        if want > 0 {
            self.waits = places == 0;
        }
        if places > 0 {
            self.held += places;
            return Poll::Ready(places);
        }
        if want > 0 {
            match pool.waiting.iter_mut().find(|(id, _)| *id == self.id) {
                Some((_, waker)) => waker.clone_from(task.waker()),
                None => pool.waiting.push_back((self.id, task.waker().clone())),
            }
        }
        Poll::Pending
    }

    /// Wants no place now: whom it kept waiting behind it, and what was handed over to it, go on.
    pub fn decline(&mut self) {
        if !std::mem::take(&mut self.waits) {
            // Places are handed over to those that wait alone.
            return;
        }
        let mut pool = wake_lock(&self.pool.0);
        pool.waiting.retain(|(id, _)| *id != self.id);
        let handed = pool.take_handed(self.id);
        pool.leased -= handed;
        hand_over(&mut pool);
    }

    /// Gives back so many places, at most all: their calls have ended, or no element came for them.
    pub fn give_back(&mut self, places: usize) {
        let places = places.min(self.held);
        if places == 0 {
            return;
        }
        self.held -= places;
        let mut pool = wake_lock(&self.pool.0);
        pool.leased -= places;
        hand_over(&mut pool);
    }

    /// What this stage saw since its last sample. To its calls in flight those of the other members are
    /// added, as they told last: the limit judges them all together.
    pub fn on_sample(&mut self, now: Time, sample: &Sample) {
        self.turn(now, 0, sample);
    }

    /// Gives back so many places, and tells what was seen.
    pub(crate) fn turn(&mut self, now: Time, places: usize, sample: &Sample) {
        let places = places.min(self.held);
        self.held -= places;
        let mut pool = wake_lock(&self.pool.0);
        pool.leased -= places;
        let others = pool.in_flight - self.told;
        let all = Sample {
            in_flight: others + sample.in_flight,
            in_flight_peak: others + sample.busiest(),
            ..*sample
        };
        pool.in_flight = all.in_flight;
        self.told = sample.in_flight;
        pool.limit.on_sample(now, &all);
        self.limit = pool.limit.limit();
        hand_over(&mut pool);
    }

    /// The limit when it was last asked for places or told of calls.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// The places it holds.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// The limit it is under.
    #[must_use]
    pub fn handle(&self) -> &LimitHandle {
        &self.pool
    }
}

impl Drop for LimitMember {
    fn drop(&mut self) {
        self.decline();
        self.give_back(self.held);
        let mut pool = wake_lock(&self.pool.0);
        pool.members -= 1;
        pool.in_flight -= self.told;
    }
}

impl fmt::Debug for LimitMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitMember")
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}
