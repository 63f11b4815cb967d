//! One pressure for many stages.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::{Explanation, Pressure, PressureSettings, Reading, Signal};
use crate::control::{Adjustment, Invalid};
use crate::sync::{WakeLock, wake_lock};
use crate::time::Time;

/// A pressure that stages, flows and the host's readings share. Clones are the same one.
///
/// What is the same for all (processor, memory, lag) is [read](PressureHandle::read) by anybody. What a
/// stage knows of itself it reads as a [member](PressureHandle::join): of the queue delays, slow calls and
/// throttles of the members the greatest counts, and what waits is summed up, so that a stage at ease does
/// not hide one in trouble.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use forebay::control::{PressureHandle, PressureSettings, Reading};
/// use forebay::time::Time;
///
/// # fn main() -> Result<(), forebay::control::Invalid> {
/// let pressure = PressureHandle::new(PressureSettings::new())?;
/// let (mut slow, mut idle) = (pressure.join(), pressure.join());
/// let now = Time::ZERO;
/// slow.read(now, Reading::QueueDelay(Duration::from_millis(200)));
/// idle.read(now, Reading::QueueDelay(Duration::ZERO));
/// assert_eq!(pressure.score(now), 1.0);
/// drop(slow);
/// assert_eq!(pressure.score(now), 0.0);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct PressureHandle(Arc<Mutex<Shared>>);

struct Shared {
    pressure: Pressure,
    members: BTreeMap<u64, Told>,
    next_id: u64,
    /// The latest time of a reading.
    seen: Time,
    /// Who waits for a score below that: each member once.
    waiting: BTreeMap<u64, (f64, Waker)>,
}

/// What a member read last.
#[derive(Clone, Copy, Default)]
struct Told {
    queue_delay: Option<(Time, Duration)>,
    slow_calls: Option<(Time, f64)>,
    throttle: Option<(Time, Duration)>,
    queued: usize,
}

impl Shared {
    fn read(&mut self, now: Time, reading: Reading) {
        self.seen = self.seen.max(now);
        self.pressure.read(now, reading);
    }

    fn tell(&mut self, now: Time, id: u64, reading: Reading) {
        self.seen = self.seen.max(now);
        let told = self.members.entry(id).or_default();
        match reading {
            Reading::QueueDelay(delay) => told.queue_delay = Some((now, delay)),
            Reading::SlowCalls(share) if !share.is_nan() => told.slow_calls = Some((now, share)),
            Reading::Throttle(wait) => told.throttle = Some((now, wait)),
            Reading::Queued(queued) => told.queued = queued,
            other => return self.read(now, other),
        }
        self.combine(now);
    }

    /// What that member told counts no more.
    fn leave(&mut self, id: u64) {
        self.waiting.remove(&id);
        if self.members.remove(&id).is_some() {
            for signal in [Signal::QueueDelay, Signal::SlowCalls, Signal::Throttle] {
                self.pressure.levels[signal as usize] = None;
            }
            self.combine(self.seen);
        }
    }

    /// Reads what the members told of late, taken together. What counts keeps the time at which it was
    /// told.
    fn combine(&mut self, now: Time) {
        let stale_after = self.pressure.settings.stale_after;
        let is_fresh = |at: Time| now.since(at) <= stale_after;
        let members = self.members.values();
        let queued = members.clone().map(|told| told.queued).sum();
        let longest = |all: &mut dyn Iterator<Item = (Time, Duration)>| {
            let fresh = all.filter(|(at, _)| is_fresh(*at));
            fresh.max_by_key(|(at, span)| (*span, *at))
        };
        let delay = longest(&mut members.clone().filter_map(|told| told.queue_delay))
            .map(|(at, delay)| (at, Reading::QueueDelay(delay)));
        let throttle = longest(&mut members.clone().filter_map(|told| told.throttle))
            .map(|(at, wait)| (at, Reading::Throttle(wait)));
        let shares = members.filter_map(|told| told.slow_calls);
        let slow = shares
            .filter(|(at, _)| is_fresh(*at))
            .max_by(|one, other| one.1.total_cmp(&other.1).then(one.0.cmp(&other.0)))
            .map(|(at, share)| (at, Reading::SlowCalls(share)));
        self.pressure.read(now, Reading::Queued(queued));
        for (at, reading) in delay.into_iter().chain(slow).chain(throttle) {
            self.pressure.read(now, reading);
            let signal = reading.value().map(|(signal, _)| signal as usize);
            if let Some(level) = signal.and_then(|signal| self.pressure.levels[signal].as_mut()) {
                level.at = at;
            }
        }
    }

    fn is_below(&self, now: Time, level: f64) -> bool {
        !self.pressure.gate_is_shut() && self.pressure.score(now) < level
    }
}

/// Wakes those for whom the score is low enough.
fn wake(shared: &mut WakeLock<'_, Shared>, now: Time) {
    if shared.waiting.is_empty() || shared.pressure.gate_is_shut() {
        return;
    }
    let score = shared.pressure.score(now);
    let due = shared
        .waiting
        .extract_if(.., |_, (level, _)| score < *level);
    let due: Vec<Waker> = due.map(|(_, (_, waker))| waker).collect();
    for waker in due {
        shared.wake(Some(waker));
    }
}

impl PressureHandle {
    /// No pressure yet.
    ///
    /// # Errors
    /// [`Invalid`]: a setting that is out of its range.
    pub fn new(settings: PressureSettings) -> Result<PressureHandle, Invalid> {
        Ok(PressureHandle(Arc::new(Mutex::new(Shared {
            pressure: Pressure::new(settings)?,
            members: BTreeMap::new(),
            next_id: 0,
            seen: Time::ZERO,
            waiting: BTreeMap::new(),
        }))))
    }

    /// One more stage that reads something of itself, or waits.
    #[must_use]
    pub fn join(&self) -> PressureMember {
        let mut shared = wake_lock(&self.0);
        let id = shared.next_id;
        shared.next_id += 1;
        PressureMember {
            pressure: self.clone(),
            id,
        }
    }

    /// Something of the whole process was measured: what a sample of the host
    /// [tells](crate::host::HostSample::readings).
    pub fn read(&self, now: Time, reading: Reading) {
        let mut shared = wake_lock(&self.0);
        shared.read(now, reading);
        wake(&mut shared, now);
    }

    /// 0 to 1.
    #[must_use]
    pub fn score(&self, now: Time) -> f64 {
        wake_lock(&self.0).pressure.score(now)
    }

    /// Whether memory allows nothing more to be taken in.
    #[must_use]
    pub fn gate_is_shut(&self) -> bool {
        wake_lock(&self.0).pressure.gate_is_shut()
    }

    /// The score, and where it comes from.
    #[must_use]
    pub fn explain(&self, now: Time) -> Explanation {
        wake_lock(&self.0).pressure.explain(now)
    }

    /// The last changes of the score and of the gate and why, the oldest first.
    #[must_use]
    pub fn adjustments(&self) -> Vec<Adjustment> {
        let shared = wake_lock(&self.0);
        shared.pressure.adjustments().last().copied().collect()
    }

    /// Whether both are the same pressure.
    #[must_use]
    pub fn is_same(&self, other: &PressureHandle) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Whether both are the same one.
impl PartialEq for PressureHandle {
    fn eq(&self, other: &PressureHandle) -> bool {
        self.is_same(other)
    }
}

impl fmt::Debug for PressureHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = wake_lock(&self.0);
        f.debug_struct("PressureHandle")
            .field("members", &shared.members.len())
            .field("gate_is_shut", &shared.pressure.gate_is_shut())
            .finish_non_exhaustive()
    }
}

/// A stage under a [`PressureHandle`]. Dropped, what it read counts no more.
pub struct PressureMember {
    pressure: PressureHandle,
    id: u64,
}

impl PressureMember {
    /// Something was measured. Queue delay, slow calls, throttle and what waits are this stage's own.
    pub fn read(&mut self, now: Time, reading: Reading) {
        let mut shared = wake_lock(&self.pressure.0);
        shared.tell(now, self.id, reading);
        wake(&mut shared, now);
    }

    /// Ready once the score is below that and the gate of the memory is open. The task is woken when a
    /// reading makes it so; it looks again at [`PressureMember::stale_at`] besides, because a reading
    /// that nobody repeats ceases to count without anybody's doing. Cancel safe.
    pub fn poll_below(&mut self, task: &mut Context<'_>, now: Time, level: f64) -> Poll<()> {
        let mut shared = wake_lock(&self.pressure.0);
        if shared.is_below(now, level) {
            shared.waiting.remove(&self.id);
            return Poll::Ready(());
        }
        let waker = task.waker().clone();
        shared.waiting.insert(self.id, (level, waker));
        Poll::Pending
    }

    /// When the reading that makes the score counts no more, if it is not repeated; `None` at 0.
    #[must_use]
    pub fn stale_at(&self, now: Time) -> Option<Time> {
        wake_lock(&self.pressure.0).pressure.stale_at(now)
    }

    /// The pressure it is under.
    #[must_use]
    pub fn handle(&self) -> &PressureHandle {
        &self.pressure
    }
}

impl Drop for PressureMember {
    fn drop(&mut self) {
        let mut shared = wake_lock(&self.pressure.0);
        shared.leave(self.id);
        let seen = shared.seen;
        wake(&mut shared, seen);
    }
}

impl fmt::Debug for PressureMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PressureMember").finish_non_exhaustive()
    }
}
