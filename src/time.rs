//! Time as pipelines see it: the wall clock, or a simulated one.
//!
//! User code in a pipeline takes time from here ([`now`], [`sleep`], [`timeout`], [`work`]), and
//! then runs unchanged in simulated time, where a second takes no time at all and the same seed
//! gives the same run.
//!
//! # Invariants
//! - [`Time`] never goes back on one clock.
//! - A [`Sleep`] is ready no earlier than its time.
//!
//! # What it does not do
//! Policies do not read a clock: they get `now` as an argument.
//!
//! # Example
//! ```
//! use std::time::Duration;
//! use forebay::time::Time;
//!
//! let start = Time::from_nanos(5);
//! assert_eq!((start + Duration::from_nanos(7)).as_nanos(), 12);
//! assert_eq!(start.since(Time::from_nanos(9)), Duration::ZERO, "differences saturate");
//! ```

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::ops::Add;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the clock started.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Time(u64);

impl Time {
    /// The start of the clock.
    pub const ZERO: Time = Time(0);
    /// Later than anything: a deadline that never comes.
    pub const MAX: Time = Time(u64::MAX);

    /// That many nanoseconds after the start.
    #[must_use]
    pub const fn from_nanos(ns: u64) -> Time {
        Time(ns)
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not.
    #[must_use]
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, span: Duration) -> Time {
        Time(
            self.0
                .saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

/// A clock that a runtime of its own drives; absent, time is the wall's and timers are tokio's.
pub(crate) trait Clock: Send + Sync {
    fn now(&self) -> Time;
    /// Wakes the task at that time. Returns a number by which [`Clock::forget`] takes it back.
    fn wake_at(&self, at: Time, waker: &Waker) -> u64;
    fn forget(&self, timer: u64);
    fn work(&self, ns: u64);
    /// Runs one thing that is ready, or goes on to the next timer that is due until then. False if
    /// there is neither.
    #[cfg(feature = "testkit")]
    fn step(&self, until: Time) -> bool;
    /// User code asked for the tokio runtime, which is not there.
    fn lacks_tokio(&self);
}

thread_local! {
    static CLOCK: RefCell<Option<Arc<dyn Clock>>> = const { RefCell::new(None) };
}

/// Keeps a clock the one of this thread; the one before it comes back when this is dropped.
#[cfg(any(test, feature = "testkit"))]
pub(crate) struct Entered {
    before: Option<Arc<dyn Clock>>,
    /// Must be dropped where it was made.
    _thread: std::marker::PhantomData<*const ()>,
}

#[cfg(any(test, feature = "testkit"))]
impl Drop for Entered {
    fn drop(&mut self) {
        CLOCK.with(|slot| *slot.borrow_mut() = self.before.take());
    }
}

/// Makes a clock the one of this thread until the guard is dropped.
#[cfg(any(test, feature = "testkit"))]
pub(crate) fn enter(clock: Arc<dyn Clock>) -> Entered {
    let before = CLOCK.with(|slot| slot.borrow_mut().replace(clock));
    Entered {
        before,
        _thread: std::marker::PhantomData,
    }
}

/// Whether a panic with that message came from tokio, whose runtime simulated time has not; the
/// clock is told then.
pub(crate) fn note_panic(message: &str) {
    let of_tokio = message.contains("there is no reactor running")
        || message.contains("must be called from the context of a Tokio");
    if of_tokio && let Some(clock) = simulated() {
        clock.lacks_tokio();
    }
}

pub(crate) fn simulated() -> Option<Arc<dyn Clock>> {
    CLOCK.with(|slot| slot.borrow().clone())
}

/// Whether this thread runs in simulated time.
pub(crate) fn is_simulated() -> bool {
    CLOCK.with(|slot| slot.borrow().is_some())
}

/// When the wall clock started here, and what the calendar said then.
fn started() -> (Instant, SystemTime) {
    static STARTED: OnceLock<(Instant, SystemTime)> = OnceLock::new();
    *STARTED.get_or_init(|| (Instant::now(), SystemTime::now()))
}

fn epoch() -> Instant {
    started().0
}

/// How long after the start of 1970 (UTC) that was, by the calendar of the machine when the clock
/// started. Simulated time starts with 1970.
#[must_use]
pub fn since_1970(at: Time) -> Duration {
    let start = if is_simulated() {
        Duration::ZERO
    } else {
        started()
            .1
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
    };
    start + Duration::from_nanos(at.0)
}

/// When that was, so long after the start of 1970: the other way round of [`since_1970`]. What was
/// before the clock started is its start.
pub(crate) fn from_1970(span: Duration) -> Time {
    let since_start = span.saturating_sub(since_1970(Time::ZERO));
    Time(u64::try_from(since_start.as_nanos()).unwrap_or(u64::MAX))
}

/// The time now.
#[must_use]
pub fn now() -> Time {
    CLOCK.with(|slot| match &*slot.borrow() {
        Some(clock) => clock.now(),
        None => Time(u64::try_from(epoch().elapsed().as_nanos()).unwrap_or(u64::MAX)),
    })
}

/// The wall clock in nanoseconds since 1970, for what outlives the process. It may go back.
#[must_use]
pub fn unix_ns() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Waits that long. Cancel safe: dropping it forgets the timer.
pub fn sleep(span: Duration) -> Sleep {
    sleep_until(now() + span)
}

/// Waits until then.
pub fn sleep_until(at: Time) -> Sleep {
    Sleep {
        at,
        timer: Timer::Idle,
    }
}

/// Charges that much processor time: in simulated time the clock goes on by it; on the wall clock
/// the calling thread spins, as real work would.
pub fn work(span: Duration) {
    let ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    if let Some(clock) = simulated() {
        clock.work(ns);
        return;
    }
    let until = now() + span;
    while now() < until {
        std::hint::spin_loop();
    }
}

/// The future did not end in time; it was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not ready within {0:?}")]
pub struct TimedOut(pub Duration);

/// Waits for a future for at most that long, from when it first is not ready: one that is ready at
/// once costs no look at the clock. Cancel safe if the future is.
pub async fn timeout<F: Future>(span: Duration, future: F) -> Result<F::Output, TimedOut> {
    let mut future = std::pin::pin!(future);
    let mut waited = None;
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        let sleep = waited.get_or_insert_with(|| sleep(span));
        Pin::new(sleep).poll(cx).map(|()| Err(TimedOut(span)))
    })
    .await
}

/// A timer: ready at its time, and after that at once until it is reset.
pub struct Sleep {
    at: Time,
    timer: Timer,
}

enum Timer {
    /// Not polled yet.
    Idle,
    Wall(Pin<Box<tokio::time::Sleep>>),
    Simulated(Arc<dyn Clock>, u64, Waker),
}

/// Ready when that time has come; the task is woken then. The timer is made when it is first needed,
/// and set anew where it was set for another time.
pub(crate) fn poll_until(timer: &mut Option<Sleep>, at: Time, task: &mut Context<'_>) -> Poll<()> {
    let timer = timer.get_or_insert_with(|| sleep_until(at));
    if timer.deadline() != at {
        timer.reset(at);
    }
    Pin::new(timer).poll(task)
}

impl Sleep {
    /// When it is ready.
    #[must_use]
    pub fn deadline(&self) -> Time {
        self.at
    }

    /// Sets it anew; a later poll waits for that time instead.
    pub fn reset(&mut self, at: Time) {
        self.at = at;
        match &mut self.timer {
            Timer::Wall(sleep) => sleep
                .as_mut()
                .reset((epoch() + Duration::from_nanos(at.0)).into()),
            _ => self.forget(),
        }
    }

    fn forget(&mut self) {
        if let Timer::Simulated(clock, timer, _) = &self.timer {
            clock.forget(*timer);
            self.timer = Timer::Idle;
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(clock) = simulated() {
            if clock.now() >= self.at {
                self.forget();
                return Poll::Ready(());
            }
            if let Timer::Simulated(_, _, waker) = &self.timer
                && waker.will_wake(cx.waker())
            {
                return Poll::Pending;
            }
            self.forget();
            let timer = clock.wake_at(self.at, cx.waker());
            self.timer = Timer::Simulated(clock, timer, cx.waker().clone());
            return Poll::Pending;
        }
        let at = self.at;
        if let Timer::Idle = self.timer {
            if at <= now() {
                return Poll::Ready(());
            }
            let deadline = epoch() + Duration::from_nanos(at.0.min(u64::MAX / 4));
            self.timer = Timer::Wall(Box::pin(tokio::time::sleep_until(deadline.into())));
        }
        match &mut self.timer {
            Timer::Wall(sleep) => sleep.as_mut().poll(cx),
            _ => Poll::Ready(()),
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.forget();
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}
