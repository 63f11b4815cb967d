//! `restarting`: a flow that is built anew when it fails.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use super::pace::Patience;
use super::part::{AnyPosition, Part, Positions};
use super::{Context, Control, Demand, Fill, Held, Input, Operator};
use crate::chunk::Chunk;
use crate::error::{Cause, Stop};
use crate::outcome::Reason;
use crate::time::{self, Sleep, Time};

/// When and how often a flow is built anew.
///
/// The wait doubles from `min_backoff` up to `max_backoff`, each time longer by a random part of up
/// to `random_factor`; it begins anew once the flow has run for `within`. Defaults: 100 ms, 10 s,
/// 0.2, seed 0, any number of restarts, within 30 s.
#[derive(Clone, PartialEq, Debug)]
pub struct Restart {
    min_backoff: Duration,
    max_backoff: Duration,
    random_factor: f64,
    seed: u64,
    max_restarts: u64,
    within: Duration,
    on_completion: bool,
}

impl Default for Restart {
    fn default() -> Restart {
        Restart {
            min_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(10),
            random_factor: 0.2,
            seed: 0,
            max_restarts: u64::MAX,
            within: Duration::from_secs(30),
            on_completion: false,
        }
    }
}

impl Restart {
    /// The first wait and the longest; the longest is at least the first.
    #[must_use]
    pub fn backoff(min: Duration, max: Duration) -> Restart {
        Restart {
            min_backoff: min,
            max_backoff: max.max(min),
            ..Restart::default()
        }
    }

    /// Up to which part of itself each wait is made longer at random, 0 to 1, so that many flows do
    /// not restart together.
    #[must_use]
    pub fn random_factor(mut self, factor: f64) -> Restart {
        self.random_factor = if factor.is_finite() {
            factor.clamp(0.0, 1.0)
        } else {
            0.0
        };
        self
    }

    /// What the random waits follow from: the same seed gives the same waits.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Restart {
        self.seed = seed;
        self
    }

    /// At most so many restarts, none of which is followed by `within` without a failure; after
    /// that the failure stops the run.
    #[must_use]
    pub fn max_restarts(mut self, count: u64, within: Duration) -> Restart {
        self.max_restarts = count;
        self.within = within;
        self
    }

    /// Builds the flow anew when it has completed as well: only cancelling or draining ends it.
    #[must_use]
    pub fn on_completion(mut self) -> Restart {
        self.on_completion = true;
        self
    }
}

/// The waits of a [`Restart`]: decides, without a clock.
struct Waits {
    settings: Restart,
    restarts: u64,
    random: u64,
}

impl Waits {
    fn new(settings: Restart) -> Waits {
        let random = settings.seed;
        Waits {
            settings,
            restarts: 0,
            random,
        }
    }

    /// A number from 0 to 1 (splitmix64).
    fn random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as f64 / u64::MAX as f64
    }

    /// How long to wait after a flow that ran for so long ended; `None` if that was the last.
    fn next(&mut self, ran: Duration) -> Option<Duration> {
        if ran >= self.settings.within {
            self.restarts = 0;
        }
        if self.restarts >= self.settings.max_restarts {
            return None;
        }
        let doublings = u32::try_from(self.restarts.min(31)).unwrap_or(31);
        self.restarts += 1;
        let wait = self
            .settings
            .min_backoff
            .saturating_mul(1 << doublings)
            .min(self.settings.max_backoff);
        let longer = wait.as_secs_f64() * self.random() * self.settings.random_factor;
        Some(wait.saturating_add(Duration::try_from_secs_f64(longer).unwrap_or(wait)))
    }
}

/// Where a flow that is built anew goes on from.
#[derive(Clone, Default)]
pub struct Resume {
    restarts: u64,
    cause: Option<Cause>,
    positions: Positions,
}

fn find<P: Any + Clone>(positions: &[AnyPosition]) -> Option<P> {
    positions.iter().find_map(|position| {
        let position = position.lock().ok()?;
        position.downcast_ref::<P>().cloned()
    })
}

impl Resume {
    /// How often it was built before: 0 the first time.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// What the one before failed with; `None` the first time, and after it completed.
    #[must_use]
    pub fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// The position of the last element the source before handed over: reading on behind it neither
    /// repeats nor skips one, if nothing between the source and this stage holds elements. `None` if
    /// there was none, or positions are of another type. Of several sources, the first with that
    /// type.
    #[must_use]
    pub fn position<P: Any + Clone>(&self) -> Option<P> {
        find(&self.positions.handed_over)
    }

    /// The position up to which all elements were settled: reading on behind it skips none, and
    /// repeats those that were on their way.
    #[must_use]
    pub fn settled<P: Any + Clone>(&self) -> Option<P> {
        find(&self.positions.settled)
    }
}

impl fmt::Debug for Resume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resume")
            .field("restarts", &self.restarts)
            .field("cause", &self.cause)
            .finish_non_exhaustive()
    }
}

/// A flow that runs, and the part of the graph it is.
pub(crate) type Live<T> = (Input<T>, Box<dyn Part>);

pub(crate) struct Restarting<T, G> {
    make: G,
    waits: Waits,
    resume: Resume,
    live: Option<Live<T>>,
    started: Time,
    /// The one before gives back what it uses.
    closing: Option<Live<T>>,
    sleep: Option<Sleep>,
    paused: bool,
    done: bool,
}

impl<T: Send, G: FnMut(Resume) -> Result<Live<T>, Stop> + Send> Restarting<T, G> {
    pub(crate) fn new(settings: Restart, make: G) -> Restarting<T, G> {
        Restarting {
            make,
            waits: Waits::new(settings),
            resume: Resume::default(),
            live: None,
            started: Time::ZERO,
            closing: None,
            sleep: None,
            paused: false,
            done: false,
        }
    }

    /// Waits until the flow may be built, and builds it.
    fn poll_live(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        if self.live.is_some() {
            return Poll::Ready(Ok(()));
        }
        if let Some((input, _)) = &mut self.closing {
            // It failed already: what closing it says changes nothing.
            let _ = std::task::ready!(input.poll_close(cx));
            self.closing = None;
        }
        if let Some(sleep) = &mut self.sleep {
            std::task::ready!(Pin::new(sleep).poll(cx.task()));
            self.sleep = None;
        }
        let mut live = (self.make)(self.resume.clone())?;
        self.started = cx.clock();
        if self.paused {
            live.0.control(cx, Control::Pause);
        }
        self.live = Some(live);
        Poll::Ready(Ok(()))
    }

    /// The flow ended: with the error, if it failed.
    fn again(&mut self, cx: &mut Context<'_, '_>, stop: Option<Stop>) -> Result<(), Stop> {
        let Some((mut input, part)) = self.live.take() else {
            return Ok(());
        };
        if stop.is_some() {
            cx.cancelling(Some(Reason::RunFailed), |cx| {
                input.control(cx, Control::Cancel);
            });
        }
        let positions = part.give_up();
        self.closing = Some((input, part));
        let ran = cx.clock().since(self.started);
        // What was refused would be refused again.
        let is_refused = stop.as_ref().is_some_and(Stop::is_refusal);
        let Some(wait) = self.waits.next(ran).filter(|_| !is_refused) else {
            self.done = true;
            return stop.map_or(Ok(()), Err);
        };
        self.resume.restarts += 1;
        self.resume.cause = stop.map(|stop| stop.cause);
        // One that failed before it handed anything over says nothing new.
        if !positions.handed_over.is_empty() {
            self.resume.positions.handed_over = positions.handed_over;
        }
        if !positions.settled.is_empty() {
            self.resume.positions.settled = positions.settled;
        }
        self.sleep = Some(time::sleep_until(cx.now() + wait));
        Ok(())
    }
}

impl<T, G> Operator<T> for Restarting<T, G>
where
    T: Send,
    G: FnMut(Resume) -> Result<Live<T>, Stop> + Send,
{
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let mut patience = Patience::default();
        loop {
            if self.done {
                return Ok(Fill::Done);
            }
            if self.poll_live(cx)?.is_pending() {
                return Ok(Fill::Pending);
            }
            let Some((input, part)) = &mut self.live else {
                return Ok(Fill::Pending);
            };
            match part.poll_failure(cx.waker()) {
                Some(stop) => self.again(cx, Some(stop))?,
                None => match input.fill(cx, out, want) {
                    Ok(Fill::Done) if self.waits.settings.on_completion => self.again(cx, None)?,
                    Err(stop) => self.again(cx, Some(stop))?,
                    fill => return fill,
                },
            }
            if !out.is_empty() {
                return Ok(Fill::More);
            }
            // Without a wait, one that ends at once would be built for ever.
            if patience.is_over(cx) {
                return Ok(Fill::Pending);
            }
        }
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        match signal {
            Control::Pause => self.paused = true,
            Control::Resume => self.paused = false,
            Control::Cancel => self.done = true,
            Control::Drain => {
                self.waits.settings.on_completion = false;
                self.waits.settings.max_restarts = 0;
                self.done = self.live.is_none();
                cx.waker().wake_by_ref();
            }
            Control::RequestRewind => {}
        }
        if let Some((input, _)) = &mut self.live {
            input.control(cx, signal);
        }
    }

    fn held(&self) -> Held {
        Held::NONE
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        match self.live.as_mut().or(self.closing.as_mut()) {
            Some((input, _)) => input.poll_close(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew() {
        let mut waits = Waits::new(Restart::backoff(10 * MS, 50 * MS).random_factor(0.0));
        let next: Vec<_> = (0..4).map(|_| waits.next(MS).unwrap_or_default()).collect();
        assert_eq!(next, [10 * MS, 20 * MS, 40 * MS, 50 * MS]);
        assert_eq!(waits.next(Duration::from_mins(1)), Some(10 * MS));
    }

    #[test]
    fn random_waits_stay_in_range_and_follow_from_the_seed() {
        let waits = |seed| {
            let settings = Restart::backoff(10 * MS, 10 * MS)
                .random_factor(0.5)
                .seed(seed);
            let mut waits = Waits::new(settings);
            (0..50)
                .map(|_| waits.next(MS).unwrap_or_default())
                .collect::<Vec<_>>()
        };
        assert!(
            waits(1)
                .iter()
                .all(|wait| (10 * MS..=15 * MS).contains(wait))
        );
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }

    #[test]
    fn restarts_are_counted_within_a_time() {
        let mut waits = Waits::new(Restart::default().max_restarts(2, 100 * MS));
        assert!(waits.next(MS).is_some() && waits.next(MS).is_some());
        assert!(waits.next(200 * MS).is_some(), "it had run for long enough");
        assert!(waits.next(MS).is_some());
        assert!(waits.next(MS).is_none());
    }
}
