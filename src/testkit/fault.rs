//! Faults, planned: a stage that delays, fails, panics or stalls, and futures that are dropped.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use super::planned_panic;
use crate::chunk::Chunk;
use crate::error::Stop;
use crate::flow::Flow;
use crate::operator::{Context, Control, Demand, Fill, Held, Input, Operator};
use crate::random::Seeded;
use crate::time::{Sleep, sleep_until};
use crate::topology::NodeSpec;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    Error,
    Panic,
    Stall,
}

/// Faults to put between two stages. Elements pass through it unchanged, and none is held.
///
/// ```
/// use std::time::Duration;
/// use forebay::source;
/// use forebay::testkit::{Faults, Simulation};
///
/// let simulation = Simulation::new(1);
/// let faults = Faults::new(1).delay(4, Duration::from_millis(5)).error_at(70);
/// let pipeline = source::iter(0..100).through(|flow| faults.inject(flow)).named("wire").collect();
/// let error = simulation.run(pipeline).unwrap_err();
/// assert_eq!(error.to_string(), "stage `wire`: a planned error before element 70");
/// ```
#[derive(Clone, Debug)]
#[must_use = "faults do nothing until they are injected"]
pub struct Faults {
    seeded: Seeded,
    delay: Option<(usize, Duration)>,
    /// The element before which it happens.
    at: Option<(u64, Fault)>,
}

impl Faults {
    /// No fault yet; delays will be drawn from the seed.
    pub fn new(seed: u64) -> Faults {
        Faults {
            seeded: Seeded::new(seed),
            delay: None,
            at: None,
        }
    }

    /// Once in so many chunks (0 counts as 1), waits for up to that long before it asks for one.
    pub fn delay(mut self, one_in: usize, up_to: Duration) -> Faults {
        self.delay = Some((one_in.max(1), up_to));
        self
    }

    /// Fails before the element of that number, counted from 0. The last of `error_at`, `panic_at`
    /// and `stall_at` counts.
    pub fn error_at(mut self, element: u64) -> Faults {
        self.at = Some((element, Fault::Error));
        self
    }

    /// Panics before the element of that number, as a bug in a stage would.
    pub fn panic_at(mut self, element: u64) -> Faults {
        self.at = Some((element, Fault::Panic));
        self
    }

    /// Hands over nothing more from the element of that number on, and wakes nobody, until it is
    /// cancelled.
    pub fn stall_at(mut self, element: u64) -> Faults {
        self.at = Some((element, Fault::Stall));
        self
    }

    /// A fault before one of the first `elements`, both drawn from the seed.
    pub fn any_within(mut self, elements: u64) -> Faults {
        let element = self.seeded.next() % elements.max(1);
        let fault = match self.seeded.below(3) {
            0 => Fault::Error,
            1 => Fault::Panic,
            _ => Fault::Stall,
        };
        self.at = Some((element, fault));
        self
    }

    /// Puts the faults behind a flow.
    pub fn inject<T: Send + 'static>(self, flow: Flow<T>) -> Flow<T> {
        flow.stage(NodeSpec::new("faults"), |input| Inject {
            input,
            faults: self,
            passed: 0,
            rested: false,
            rest: None,
        })
    }
}

struct Inject<T> {
    input: Input<T>,
    faults: Faults,
    passed: u64,
    rested: bool,
    rest: Option<Sleep>,
}

impl<T> Inject<T> {
    fn poll_rest(&mut self, cx: &mut Context<'_, '_>) -> Poll<()> {
        let Some((one_in, up_to)) = self.faults.delay else {
            return Poll::Ready(());
        };
        let seeded = &mut self.faults.seeded;
        if self.rest.is_none() && !self.rested && seeded.one_in(one_in) {
            let ns = u64::try_from(up_to.as_nanos())
                .unwrap_or(u64::MAX)
                .saturating_add(1);
            let span = Duration::from_nanos(seeded.next() % ns.max(1));
            self.rest = Some(sleep_until(cx.clock() + span));
        }
        if let Some(rest) = &mut self.rest
            && Pin::new(rest).poll(cx.task()).is_pending()
        {
            return Poll::Pending;
        }
        // No two rests in a row: a chunk follows each.
        self.rested = self.rest.take().is_some();
        Poll::Ready(())
    }
}

impl<T: Send + 'static> Operator<T> for Inject<T> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let mut want = want;
        if let Some((element, fault)) = self.faults.at {
            if self.passed >= element {
                match fault {
                    Fault::Stall => return Ok(Fill::Pending),
                    Fault::Panic => planned_panic(),
                    Fault::Error => {
                        let what = format!("a planned error before element {element}");
                        return Err(Stop::error(what));
                    }
                }
            }
            want = want.at_most(usize::try_from(element - self.passed).unwrap_or(usize::MAX));
        }
        if self.poll_rest(cx).is_pending() {
            return Ok(Fill::Pending);
        }
        let fill = self.input.fill(cx, out, want);
        self.passed += out.len() as u64;
        fill
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        self.input.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held::NONE
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.input.poll_close(cx)
    }
}

/// A future that is dropped at one of its awaits: see [`drop_at`].
#[must_use = "futures do nothing unless polled"]
pub struct DropAt<F> {
    future: Option<Pin<Box<F>>>,
    left: usize,
}

impl<F> fmt::Debug for DropAt<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DropAt")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

/// Polls a future at most so many times, then drops it where it waits and gives `None`. 0 drops it
/// before it was polled at all. Count up until there is a result, and the future was dropped at each
/// of its awaits: what it borrowed, sent or held must be whole each time.
///
/// ```
/// use forebay::testkit::{Simulation, drop_at};
/// use forebay::time::sleep;
/// use std::time::Duration;
///
/// let simulation = Simulation::new(1);
/// let naps = || async {
///     sleep(Duration::from_secs(1)).await;
///     sleep(Duration::from_secs(1)).await;
///     "done"
/// };
/// let results: Vec<_> =
///     (0..4).map(|polls| simulation.block_on(drop_at(polls, naps())).unwrap()).collect();
/// assert_eq!(results, [None, None, None, Some("done")]);
/// ```
pub fn drop_at<F: Future>(polls: usize, future: F) -> DropAt<F> {
    DropAt {
        future: Some(Box::pin(future)),
        left: polls,
    }
}

/// As [`drop_at`], at one of the first `most` polls, drawn from the seed.
pub fn drop_somewhere<F: Future>(seed: u64, most: usize, future: F) -> DropAt<F> {
    drop_at(Seeded::new(seed).below(most), future)
}

impl<F: Future> Future for DropAt<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let Some(left) = self.left.checked_sub(1) else {
            self.future = None;
            return Poll::Ready(None);
        };
        self.left = left;
        let Some(future) = &mut self.future else {
            return Poll::Ready(None);
        };
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => {
                self.future = None;
                Poll::Ready(Some(output))
            }
            Poll::Pending if left == 0 => {
                // It waits now; here it ends.
                self.future = None;
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}
