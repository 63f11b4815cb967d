//! The flow's side of a queue: a source.

use std::sync::Arc;
use std::task::Poll;

use super::QueueEnd;
use super::shared::{Life, Shared};
use crate::chunk::{Chunk, Element};
use crate::error::Stop;
use crate::operator::{Context, Control, Demand, Fill, Source};
use crate::outcome::{Outcome, Reason};
use crate::position::Tracker;
use crate::sync::{lock, wake_lock};

/// The flow's side.
pub(super) struct QueueSource<T> {
    pub(super) shared: Arc<Shared<T>>,
    pub(super) tracker: Option<Tracker<()>>,
}

impl<T> QueueSource<T> {
    /// Brings what was refused into the accounts.
    fn account(&self, cx: &mut Context<'_, '_>) {
        if let Some(admission) = self.shared.admission.get() {
            cx.ledger().alert(admission.alerts());
        }
        let refused = std::mem::take(&mut lock(&self.shared.state).refused);
        for ((class, reason), count) in refused {
            let outcome = match reason {
                Reason::Overflow => Outcome::Failed(reason),
                Reason::RunFailed => Outcome::Cancelled(reason),
                reason => Outcome::Shed(reason),
            };
            cx.refuse(self.tracker.as_ref(), Some(class), outcome, count);
        }
    }

    /// What is inside will not be handed over.
    fn cancel(&self, cx: &mut Context<'_, '_>, outcome: Outcome) {
        let mut state = wake_lock(&self.shared.state);
        self.shared.end(&mut state, QueueEnd::Cancelled);
        let left = state.store.take_all();
        drop(state);
        for (_, meta) in left {
            cx.refuse(self.tracker.as_ref(), meta.class, outcome, 1);
        }
        self.account(cx);
    }
}

impl<T: Send> Source<T> for QueueSource<T> {
    type Position = ();

    fn start(&mut self, tracker: &Tracker<()>) {
        self.tracker = Some(tracker.clone());
    }

    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        positions: &mut Vec<()>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        self.account(cx);
        let mut state = wake_lock(&self.shared.state);
        if state.stop.is_some() {
            drop(state);
            return match self.poll_failure(cx) {
                Poll::Ready(stop) => Err(stop),
                Poll::Pending => Ok(Fill::Pending),
            };
        }
        let (now, mut bytes) = (cx.now(), 0_u64);
        while out.len() < want.items {
            // One that alone is too large comes alone.
            let most = if out.is_empty() {
                u64::MAX
            } else {
                want.bytes.saturating_sub(bytes)
            };
            let Some((value, meta)) = state.store.take(now, most) else {
                break;
            };
            bytes += meta.bytes;
            out.push(Element { value, meta });
            positions.push(());
        }
        if !out.is_empty() {
            // The first lets itself in and wakes the next.
            let next = state.waiting.values().next().cloned();
            state.wake(next);
            return Ok(Fill::More);
        }
        if matches!(state.life, Life::Completing) {
            self.shared.end(&mut state, QueueEnd::Completed);
        }
        if matches!(state.life, Life::Ended(_)) {
            return Ok(Fill::Done);
        }
        state.consumer = Some(cx.waker().clone());
        Ok(Fill::Pending)
    }

    fn poll_failure(&mut self, cx: &mut Context<'_, '_>) -> Poll<Stop> {
        self.account(cx);
        let mut state = lock(&self.shared.state);
        let Some(stop) = state.stop.take() else {
            state.resting = Some(cx.waker().clone());
            return Poll::Pending;
        };
        drop(state);
        self.cancel(cx, Outcome::Cancelled(Reason::RunFailed));
        Poll::Ready(stop)
    }

    fn lingers(&self) -> bool {
        true
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        match signal {
            Control::Drain => self.shared.complete(),
            Control::Cancel => {
                let outcome = cx.leftover();
                self.cancel(cx, outcome);
            }
            _ => {}
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.account(cx);
        Poll::Ready(Ok(()))
    }
}

impl<T> Drop for QueueSource<T> {
    fn drop(&mut self) {
        self.shared
            .end(&mut wake_lock(&self.shared.state), QueueEnd::Cancelled);
    }
}
