//! `kill_switch`: ends flows from outside.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use super::{Context, Control, Demand, Fill, Held, Input, Operator};
use crate::chunk::Chunk;
use crate::error::{BoxError, Stop};
use crate::outcome::Reason;
use crate::sync::{Mutex, lock};

#[derive(Default)]
struct Shared {
    thrown: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The error to fail with; `None` to complete.
    error: Option<Stop>,
    /// Who is to be woken, by the number of the stage.
    waiting: Vec<(u32, Waker)>,
}

/// Ends the flows it was built into, from outside. Clones are one switch; the first call counts.
///
/// ```
/// use forebay::flow::KillSwitch;
/// use forebay::source;
///
/// let switch = KillSwitch::new();
/// let handle = switch.clone();
/// let seen = source::iter(0_u64..).kill_switch(&switch).map(move |n| {
///     if n == 10 {
///         handle.shutdown();
///     }
///     n
/// });
/// assert!(seen.collect().block_on()?.len() > 10);
/// # Ok::<(), forebay::error::RunError>(())
/// ```
#[derive(Clone, Default)]
pub struct KillSwitch(Arc<Shared>);

impl KillSwitch {
    /// A switch that was not thrown.
    #[must_use]
    pub fn new() -> KillSwitch {
        KillSwitch::default()
    }

    /// Completes the flows: what passed the switch is finished, what is before it is cancelled
    /// ([`Reason::Killed`]; filtered in a branch, whose source goes on), and so are the sources.
    pub fn shutdown(&self) {
        self.throw(None);
    }

    /// Fails the flows with that error; what is before the switch is cancelled.
    pub fn abort(&self, error: impl Into<BoxError>) {
        self.throw(Some(Stop::error(error)));
    }

    /// Whether it was thrown, in one way or the other.
    #[must_use]
    pub fn is_thrown(&self) -> bool {
        self.0.thrown.load(Ordering::Acquire)
    }

    fn throw(&self, error: Option<Stop>) {
        let mut state = lock(&self.0.state);
        if self.is_thrown() {
            return;
        }
        state.error = error;
        self.0.thrown.store(true, Ordering::Release);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        for (_, waker) in waiting {
            waker.wake();
        }
    }

    fn register(&self, stage: u32, waker: &Waker) {
        let mut state = lock(&self.0.state);
        state.waiting.retain(|(of, _)| *of != stage);
        state.waiting.push((stage, waker.clone()));
    }

    fn forget(&self, stage: u32) {
        lock(&self.0.state).waiting.retain(|(of, _)| *of != stage);
    }
}

impl fmt::Debug for KillSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KillSwitch")
            .field("thrown", &self.is_thrown())
            .finish()
    }
}

pub(crate) struct Killable<T> {
    input: Input<T>,
    switch: KillSwitch,
    registered: Option<(u32, Waker)>,
}

impl<T> Killable<T> {
    pub(crate) fn new(input: Input<T>, switch: KillSwitch) -> Killable<T> {
        Killable {
            input,
            switch,
            registered: None,
        }
    }
}

impl<T: Send> Operator<T> for Killable<T> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let known = self.registered.as_ref();
        if known.is_none_or(|(_, waker)| !waker.will_wake(cx.waker())) {
            let stage = cx.stage().id;
            self.switch.register(stage, cx.waker());
            self.registered = Some((stage, cx.waker().clone()));
        }
        if self.switch.is_thrown() {
            if !self.input.is_done() {
                let input = &mut self.input;
                cx.cancelling(Some(Reason::Killed), |cx| {
                    input.control(cx, Control::Cancel);
                });
            }
            let error = lock(&self.switch.0.state).error.clone();
            return error.map_or(Ok(Fill::Done), Err);
        }
        self.input.fill(cx, out, want)
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

impl<T> Drop for Killable<T> {
    fn drop(&mut self) {
        if let Some((stage, _)) = self.registered {
            self.switch.forget(stage);
        }
    }
}
