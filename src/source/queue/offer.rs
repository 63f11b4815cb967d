//! An offer that waits for its place.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as Task, Poll, Waker};

use super::Offered;
use super::shared::{Life, Shared, Ticket, Tried};
use crate::chunk::Meta;
use crate::outcome::Reason;
use crate::sync::wake_lock;
use crate::time::{Sleep, Time, poll_until};

/// An offer that waits for its place: see [`Queue::offer`](super::Queue::offer).
#[must_use = "a future offers nothing until it is awaited"]
pub struct Offer<T> {
    shared: Arc<Shared<T>>,
    value: Option<(T, Meta)>,
    ticket: Option<Ticket>,
    /// Until it has waited enough.
    timer: Option<Sleep>,
}

/// What a look at the queue came to.
pub(super) enum Turn<T> {
    Ready(Offered<T>),
    /// The waker is called when it is its turn; it waits until then at most.
    Wait(Time),
}

impl<T> fmt::Debug for Offer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer")
            .field("ticket", &self.ticket)
            .finish_non_exhaustive()
    }
}

impl<T> Unpin for Offer<T> {}

impl<T> Offer<T> {
    pub(super) fn new(shared: Arc<Shared<T>>, value: T, meta: Meta) -> Offer<T> {
        Offer {
            shared,
            value: Some((value, meta)),
            ticket: None,
            timer: None,
        }
    }

    /// Steps out of the line, and lets the next one look.
    fn leave(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let mut state = wake_lock(&self.shared.state);
            state.waiting.remove(&ticket);
            let next = state.waiting.values().next().cloned();
            state.wake(next);
        }
    }

    /// Looks whether it is its turn.
    pub(super) fn poll_turn(&mut self, waker: &Waker) -> Turn<T> {
        loop {
            let Some((value, meta)) = self.value.take() else {
                return Turn::Wait(Time::MAX);
            };
            let (value, meta, until) = match self.shared.offer(value, meta, self.ticket) {
                Tried::Done(offered) => {
                    self.leave();
                    return Turn::Ready(offered);
                }
                Tried::Wait(value, meta, until) => (value, meta, until),
            };
            let mut state = wake_lock(&self.shared.state);
            let new = self.ticket.is_none();
            if new && state.waiting.len() >= self.shared.max_waiting.load(Ordering::Relaxed) {
                Shared::refuse(&mut state, &meta, Reason::Limit);
                return Turn::Ready(Offered::Dropped(Reason::Limit, value));
            }
            let rank = state.store.rank(meta.class.unwrap_or_default());
            let ticket = *self.ticket.get_or_insert_with(|| {
                state.next_ticket += 1;
                (rank, state.next_ticket)
            });
            state.waiting.insert(ticket, waker.clone());
            let first = state.waiting.keys().next() == Some(&ticket);
            // A place may have been made, or the queue have ended, since the first look.
            let look = !matches!(state.life, Life::Open)
                || (first
                    && state
                        .store
                        .has_room(meta.class.unwrap_or_default(), meta.bytes));
            drop(state);
            self.value = Some((value, meta));
            if !look {
                return Turn::Wait(until);
            }
        }
    }
}

impl<T> Future for Offer<T> {
    type Output = Offered<T>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Offered<T>> {
        let this = &mut *self;
        loop {
            let until = match this.poll_turn(task.waker()) {
                Turn::Ready(offered) => return Poll::Ready(offered),
                Turn::Wait(Time::MAX) => return Poll::Pending,
                Turn::Wait(until) => until,
            };
            if poll_until(&mut this.timer, until, task).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl<T> Drop for Offer<T> {
    fn drop(&mut self) {
        self.leave();
    }
}
