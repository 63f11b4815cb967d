//! `watch_termination`: tells how a flow ended at a point.

use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::{Context, Control, Demand, Fill, Held, Input, Operator, guard};
use crate::chunk::Chunk;
use crate::error::{Cause, Stop};
use crate::sync::{Mutex, lock};

/// How a flow ended at a point.
#[derive(Clone, Debug)]
pub enum Ended {
    /// All elements came by.
    Completed,
    /// A stage before that point stopped.
    Failed(Cause),
    /// Downstream wanted no more, or the run ended.
    Cancelled,
}

#[derive(Default)]
struct State {
    ended: Option<Ended>,
    waiting: Vec<Waker>,
}

/// How a flow ended at a point, once it has. Clones tell the same.
#[derive(Clone, Default)]
pub struct Termination(Arc<Mutex<State>>);

impl Termination {
    /// How it ended, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        lock(&*self.0).ended.clone()
    }

    /// Waits for the end. Cancel safe. A pipeline that is never run ends cancelled when it is
    /// dropped.
    pub async fn wait(&self) -> Ended {
        std::future::poll_fn(|cx| {
            let mut state = lock(&*self.0);
            if let Some(ended) = &state.ended {
                return Poll::Ready(ended.clone());
            }
            if !state
                .waiting
                .iter()
                .any(|waker| waker.will_wake(cx.waker()))
            {
                state.waiting.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    pub(crate) fn tell(&self, ended: Ended) {
        let mut state = lock(&*self.0);
        state.ended.get_or_insert(ended);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        for waker in waiting {
            waker.wake();
        }
    }
}

impl fmt::Debug for Termination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Termination").field(&self.ended()).finish()
    }
}

pub(crate) struct Watch<T, F: FnOnce(Ended)> {
    input: Input<T>,
    tell: Option<F>,
}

impl<T, F: FnOnce(Ended)> Watch<T, F> {
    pub(crate) fn new(input: Input<T>, tell: F) -> Watch<T, F> {
        Watch {
            input,
            tell: Some(tell),
        }
    }

    fn tell(&mut self, ended: Ended) {
        if let Some(tell) = self.tell.take() {
            // What the closure does with the news is its own affair.
            let _ = guard(|| tell(ended));
        }
    }
}

impl<T: Send, F: FnOnce(Ended) + Send> Operator<T> for Watch<T, F> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let fill = self.input.fill(cx, out, want);
        match &fill {
            Ok(Fill::Done) => self.tell(Ended::Completed),
            Err(stop) => self.tell(Ended::Failed(stop.cause.clone())),
            _ => {}
        }
        fill
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        self.input.control(cx, signal);
        if signal == Control::Cancel {
            self.tell(Ended::Cancelled);
        }
    }

    fn held(&self) -> Held {
        Held::NONE
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.input.poll_close(cx)
    }
}

impl<T, F: FnOnce(Ended)> Drop for Watch<T, F> {
    fn drop(&mut self) {
        self.tell(Ended::Cancelled);
    }
}
