//! A boundary whose bytes are on an account that others share.
//!
//! What is free on the account limits what the producer is asked for; what is inside is reserved
//! until the consumer has it. The two sides wrap those of a ring with back-pressure, in which nothing
//! is given up: what came in leaves by the consumer, or all of it at once with a cancellation.

use std::sync::Arc;
use std::task::Poll;

use crate::chunk::Chunk;
use crate::error::Stop;
use crate::host::{Grant, MemoryBudget, Reservation};
use crate::mark::Mark;
use crate::operator::{Context, Control, Demand, Fill, Held, Operator, Sink};
use crate::outcome::Reason;
use crate::sync::{Mutex, lock};

/// The bytes inside.
type Inside = Arc<Mutex<Option<Reservation>>>;

pub(crate) struct BudgetedSink<S> {
    sink: S,
    budget: MemoryBudget,
    /// What was asked for last, and has not come yet.
    grant: Option<Grant>,
    inside: Inside,
}

pub(crate) struct BudgetedSource<O> {
    source: O,
    inside: Inside,
}

/// Puts a boundary on an account.
pub(crate) fn budgeted<S, O>(
    (sink, source): (S, O),
    budget: &MemoryBudget,
) -> (BudgetedSink<S>, BudgetedSource<O>) {
    let inside = Inside::default();
    let sink = BudgetedSink {
        sink,
        budget: budget.clone(),
        grant: None,
        inside: Arc::clone(&inside),
    };
    (sink, BudgetedSource { source, inside })
}

impl<S> BudgetedSink<S> {
    /// As much of what is wanted as there are bytes for. One that holds nothing may have an element
    /// whatever is free: else stages behind one another could wait for what the others hold.
    fn poll_grant(&mut self, cx: &mut Context<'_, '_>, want: Demand) -> Poll<Demand> {
        self.grant = None;
        let is_empty = lock(&self.inside).is_none();
        if is_empty {
            self.grant = self.budget.try_demand(want);
            let granted = self.grant.as_ref().map(|grant| grant.demand);
            return Poll::Ready(granted.unwrap_or_else(|| want.at_most(1)));
        }
        self.budget.poll_demand(cx.task(), want).map(|grant| {
            let demand = grant.demand;
            self.grant = Some(grant);
            demand
        })
    }
}

impl<T, S: Sink<T>> Sink<T> for BudgetedSink<S> {
    type Output = S::Output;

    fn poll_ready(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        match self.sink.poll_ready(cx) {
            Poll::Ready(Ok(Some(want))) => self.poll_grant(cx, want).map(|demand| Ok(Some(demand))),
            other => {
                self.grant = None;
                other
            }
        }
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<T>) {
        let bytes = chunk.bytes();
        let granted = self.grant.take().map(|grant| grant.reservation);
        if bytes > 0
            && let Some(mut reservation) = granted.or_else(|| self.budget.try_reserve(0).ok())
        {
            // What weighs more than was granted is on the account all the same: it is there.
            reservation.resize(bytes);
            let mut inside = lock(&self.inside);
            match &mut *inside {
                Some(all) => all.join(reservation),
                None => *inside = Some(reservation),
            }
        }
        self.sink.accept(cx, chunk);
    }

    fn mark(&mut self, cx: &mut Context<'_, '_>, mark: &Mark) -> Poll<Result<(), Stop>> {
        self.sink.mark(cx, mark)
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<S::Output, Stop>> {
        self.grant = None;
        self.sink.poll_close(cx)
    }

    fn abandon(&mut self, cx: &mut Context<'_, '_>, stop: Option<&Stop>) {
        self.grant = None;
        self.sink.abandon(cx, stop);
    }

    fn cancelled_for(&self) -> Option<Reason> {
        self.sink.cancelled_for()
    }

    fn take_control(&mut self) -> Option<Control> {
        self.sink.take_control()
    }

    fn held(&self) -> Held {
        self.sink.held()
    }
}

impl<T, O: Operator<T>> Operator<T> for BudgetedSource<O> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let before = out.bytes();
        let filled = self.source.fill(cx, out, want);
        let left = out.bytes().saturating_sub(before);
        if left > 0 {
            let mut inside = lock(&self.inside);
            let rest = inside
                .as_ref()
                .map_or(0, |all| all.bytes().saturating_sub(left));
            match &mut *inside {
                Some(all) if rest > 0 => all.resize(rest),
                all => *all = None,
            }
        }
        if matches!(filled, Ok(Fill::Done) | Err(_)) {
            *lock(&self.inside) = None;
        }
        filled
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        self.source.control(cx, signal);
        if signal == Control::Cancel {
            *lock(&self.inside) = None;
        }
    }

    fn held(&self) -> Held {
        self.source.held()
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.source.poll_close(cx)
    }
}

impl<O> Drop for BudgetedSource<O> {
    fn drop(&mut self) {
        *lock(&self.inside) = None;
    }
}
