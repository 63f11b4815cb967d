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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::boundary::by_hand::{NoSpawn, Task};
    use crate::boundary::ring::{RingSink, RingSource, ring};
    use crate::boundary::{Buffer, WhenFull};
    use crate::chunk::Element;
    use crate::operator::{Stage, Turn};
    use crate::outcome::Outcome;
    use crate::position::{Generation, SourceId};

    /// A ring on an account, driven by hand.
    struct Pair {
        sink: BudgetedSink<RingSink<u64>>,
        source: BudgetedSource<RingSource<u64>>,
        stage: Arc<Stage>,
        turn: Turn,
        task: Arc<Task>,
        budget: MemoryBudget,
    }

    impl Pair {
        fn new(items: usize, budget: u64) -> Pair {
            let stage = Arc::new(Stage::new(1, false, false));
            let buffer = Buffer::items(items).when_full(WhenFull::Backpressure);
            let budget = MemoryBudget::new(budget);
            let (sink, source) = budgeted(ring(buffer, &stage), &budget);
            Pair {
                sink,
                source,
                stage,
                turn: Turn::new(Arc::new(NoSpawn)),
                task: Arc::default(),
                budget,
            }
        }

        fn with<R>(
            &mut self,
            f: impl FnOnce(
                &mut BudgetedSink<RingSink<u64>>,
                &mut BudgetedSource<RingSource<u64>>,
                &mut Context<'_, '_>,
            ) -> R,
        ) -> R {
            let waker = Waker::from(Arc::clone(&self.task));
            let mut task = std::task::Context::from_waker(&waker);
            let mut cx = Context::new(&mut task, &self.stage, &self.turn);
            f(&mut self.sink, &mut self.source, &mut cx)
        }

        fn ready(&mut self) -> Poll<Option<Demand>> {
            self.with(|sink, _, cx| sink.poll_ready(cx))
                .map(Result::unwrap)
        }

        fn send(&mut self, weights: impl IntoIterator<Item = u64>) {
            let mut chunk = Chunk::default();
            for bytes in weights {
                let mut element = Element::new(bytes);
                element.meta.bytes = bytes;
                chunk.push(element);
            }
            self.with(|sink, _, cx| sink.accept(cx, &mut chunk));
        }

        fn take(&mut self, items: usize) -> Result<Fill, Stop> {
            let mut chunk = Chunk::default();
            self.with(|_, source, cx| {
                let filled = source.fill(cx, &mut chunk, Demand::items(items));
                cx.settle_chunk(&mut chunk, Outcome::Delivered);
                filled
            })
        }

        fn control(&mut self, signal: Control) {
            self.with(|_, source, cx| source.control(cx, signal));
        }
    }

    #[test]
    fn what_is_asked_for_and_what_is_inside_is_on_the_account() {
        let mut pair = Pair::new(10, 100);
        let Poll::Ready(Some(demand)) = pair.ready() else {
            panic!("there is room");
        };
        assert_eq!(
            (demand.items, demand.bytes),
            (10, 50),
            "half of what is free"
        );
        assert_eq!(pair.budget.used_bytes(), 50, "promised");
        pair.send([20, 30, 10]);
        assert_eq!(pair.budget.used_bytes(), 60);
        assert_eq!(
            pair.with(|sink, source, _| (sink.held().items, source.held().items)),
            (3, 3)
        );
        let Poll::Ready(Some(demand)) = pair.ready() else {
            panic!("there is room");
        };
        assert_eq!((demand.items, demand.bytes), (7, 20));
        pair.send([5]);
        assert_eq!(pair.budget.used_bytes(), 65);
        assert!(matches!(pair.take(1), Ok(Fill::More)));
        assert_eq!(pair.budget.used_bytes(), 45);
        assert!(matches!(pair.take(10), Ok(Fill::More)));
        assert_eq!(pair.budget.used_bytes(), 0);
        assert!(matches!(pair.take(10), Ok(Fill::Pending)));
        pair.send([0, 0]);
        assert_eq!(pair.budget.used_bytes(), 0, "they weigh nothing");
    }

    #[test]
    fn one_that_holds_nothing_may_have_an_element_and_others_wait_for_bytes() {
        let mut pair = Pair::new(10, 100);
        let all = pair.budget.try_reserve(100).unwrap();
        let Poll::Ready(Some(demand)) = pair.ready() else {
            panic!("it holds nothing");
        };
        assert_eq!(demand.items, 1);
        pair.send([7]);
        assert_eq!(pair.budget.used_bytes(), 107, "it is there all the same");
        assert!(pair.ready().is_pending());
        drop(all);
        assert_eq!(pair.task.woken(), 1);
        let Poll::Ready(Some(demand)) = pair.ready() else {
            panic!("there is room");
        };
        assert_eq!(demand.bytes, 47, "half of what is free");
    }

    #[test]
    fn a_full_ring_keeps_no_promise_and_neither_does_an_end() {
        let mut pair = Pair::new(1, 100);
        assert!(pair.ready().is_ready());
        pair.send([9]);
        assert!(pair.ready().is_pending());
        assert_eq!(pair.budget.used_bytes(), 9);
        assert!(matches!(pair.take(1), Ok(Fill::More)));
        assert!(pair.ready().is_ready());
        assert_eq!(pair.budget.used_bytes(), 50);
        let closed = pair.with(|sink, _, cx| sink.poll_close(cx));
        assert!(matches!(closed, Poll::Ready(Ok(()))));
        assert_eq!(pair.budget.used_bytes(), 0);
        assert!(matches!(pair.take(1), Ok(Fill::Done)));
        let closed = pair.with(|_, source, cx| source.poll_close(cx));
        assert!(matches!(closed, Poll::Ready(Ok(()))));
    }

    #[test]
    fn messages_marks_and_cancellations_pass() {
        let mut pair = Pair::new(4, 100);
        pair.send([5, 5]);
        let mark = Mark::Rewind(SourceId::new(0), Generation(1));
        let told = pair.with(|sink, _, cx| sink.mark(cx, &mark));
        assert!(matches!(told, Poll::Ready(Ok(()))));
        assert!(matches!(pair.take(9), Ok(Fill::More)));
        assert!(matches!(pair.take(9), Ok(Fill::Mark(Mark::Rewind(..)))));
        pair.send([5, 5]);
        pair.control(Control::Pause);
        assert_eq!(pair.sink.take_control(), Some(Control::Pause));
        assert_eq!(pair.sink.take_control(), None);
        assert_eq!(pair.budget.used_bytes(), 10);
        assert_eq!(pair.sink.cancelled_for(), None);
        pair.with(|_, source, cx| {
            cx.cancelling(Some(Reason::RunFailed), |cx| {
                source.control(cx, Control::Cancel);
            });
        });
        assert_eq!(pair.budget.used_bytes(), 0);
        assert_eq!(pair.sink.cancelled_for(), Some(Reason::RunFailed));
        assert_eq!(pair.ready(), Poll::Ready(None));
    }

    #[test]
    fn an_error_passes_and_frees_what_is_inside() {
        let mut pair = Pair::new(4, 100);
        pair.send([5, 5]);
        assert!(pair.ready().is_ready());
        pair.with(|sink, _, cx| sink.abandon(cx, Some(&Stop::error("as planned"))));
        assert_eq!(pair.budget.used_bytes(), 10, "nothing is promised any more");
        assert!(pair.take(1).unwrap_err().to_string().contains("as planned"));
        assert_eq!(pair.budget.used_bytes(), 0);
    }

    #[test]
    fn a_consumer_that_goes_away_frees_what_is_inside() {
        let mut pair = Pair::new(4, 100);
        pair.send([5, 5]);
        let budget = pair.budget.clone();
        pair.source = Pair::new(1, 1).source;
        assert_eq!(budget.used_bytes(), 0);
    }
}
