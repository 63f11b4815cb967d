//! Demand by hand: a flow that hands over what a consumer outside asks for, and no more.
//!
//! A [`Publisher`] and a [`Subscription`] share a store of elements that were asked for and not
//! taken yet. The consumer asks with [`Subscription::request`] and takes with
//! [`Subscription::next`], or lets [`Asking`] ask for it.
//!
//! # Invariants
//! - A flow hands over no more than was asked for.
//! - An element is delivered when it is taken; what is in the store when the consumer leaves is
//!   settled as every leftover is.
//! - [`Asking`]'s check runs when the last element asked for arrives and after each take, and only
//!   while nothing asked for is outstanding.
//!
//! # What it does not do
//! It has no second buffer: what is held is what was asked for.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context as Task, Poll, Waker};

use crate::chunk::{Chunk, Element};
use crate::error::{Cause, Stop};
use crate::mark::Mark;
use crate::operator::{Context, Demand, Held, Sink, Stage};
use crate::outcome::{Outcome, Reason};
use crate::sync::{lock, wake_lock};
use crate::time;

/// How a subscription asks by itself, and how much it may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asking {
    initial: usize,
    more: usize,
    below: usize,
    capacity: usize,
}

impl Default for Asking {
    /// 10 at first, 10 more whenever fewer than 50 are held, 100 at most.
    fn default() -> Asking {
        Asking {
            initial: 10,
            more: 10,
            below: 50,
            capacity: 100,
        }
    }
}

impl Asking {
    /// Asks for nothing by itself; holds at most so many elements, at least 1.
    #[must_use]
    pub fn by_hand(capacity: usize) -> Asking {
        Asking {
            initial: 0,
            more: 0,
            below: 0,
            capacity: capacity.max(1),
        }
    }

    /// So many at first.
    #[must_use]
    pub fn initial(mut self, elements: usize) -> Asking {
        self.initial = elements;
        self
    }

    /// So many more whenever fewer than `below` are held.
    #[must_use]
    pub fn more(mut self, elements: usize, below: usize) -> Asking {
        (self.more, self.below) = (elements, below);
        self
    }

    /// How many it holds at most.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }
}

/// More elements came than may be held: the upstream sent what nobody asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("more than {capacity} elements came")]
pub struct Overflow {
    /// How many may be held.
    pub capacity: usize,
}

struct State<T> {
    held: VecDeque<Element<T>>,
    /// Asked for, and not arrived.
    outstanding: usize,
    asks: u64,
    requested: u64,
    /// The consumer wants no more.
    cancelled: bool,
    /// No more will come.
    done: bool,
    stop: Option<Stop>,
    consumer: Option<Waker>,
    producer: Option<Waker>,
}

impl<T> State<T> {
    /// Asks for more: who is to be woken for it.
    fn ask(&mut self, count: usize, capacity: usize) -> Option<Waker> {
        // What is asked for must have a place when it arrives.
        let room = capacity.saturating_sub(self.held.len() + self.outstanding);
        let count = count.min(room);
        if count == 0 || self.done || self.cancelled {
            return None;
        }
        self.outstanding += count;
        self.requested += count as u64;
        self.asks += 1;
        self.producer.take()
    }

    fn check(&mut self, asking: &Asking) -> Option<Waker> {
        if self.outstanding == 0 && self.held.len() < asking.below {
            return self.ask(asking.more, asking.capacity);
        }
        None
    }

    /// What is asked for. The producer's waker is kept where it has to wait, and in any case if it
    /// wants to hear of a consumer that leaves.
    fn poll_requested(&mut self, waker: Waker, watch: bool) -> Poll<Option<usize>> {
        let requested = if self.cancelled {
            Poll::Ready(None)
        } else if self.outstanding > 0 {
            Poll::Ready(Some(self.outstanding))
        } else {
            Poll::Pending
        };
        if watch || requested.is_pending() {
            self.producer = Some(waker);
        }
        requested
    }
}

struct Shared<T> {
    asking: Asking,
    state: Mutex<State<T>>,
    /// The stage of the sink, where elements end.
    stage: OnceLock<Arc<Stage>>,
}

impl<T> Shared<T> {
    fn settle(&self, element: Element<T>, outcome: Outcome) -> T {
        match self.stage.get() {
            Some(stage) => stage.settle(element.meta, outcome, time::now()),
            None => element.meta.receipt.settle(outcome),
        }
        element.value
    }

    fn settle_all(&self, held: VecDeque<Element<T>>, outcome: Outcome) {
        for element in held {
            drop(self.settle(element, outcome));
        }
    }

    fn end(&self, stop: Option<Stop>) {
        let mut state = wake_lock(&self.state);
        if !state.done {
            state.done = true;
            state.stop = stop;
        }
        let consumer = state.consumer.take();
        state.wake(consumer);
    }
}

/// Makes both sides of a subscription, for an upstream that is no flow.
#[must_use]
pub fn subscription<T: Send + 'static>(asking: Asking) -> (Publisher<T>, Subscription<T>) {
    let mut state = State {
        held: VecDeque::new(),
        outstanding: 0,
        asks: 0,
        requested: 0,
        cancelled: false,
        done: false,
        stop: None,
        consumer: None,
        producer: None,
    };
    // Nobody waits yet.
    let _ = state.ask(asking.initial, asking.capacity);
    let shared = Arc::new(Shared {
        asking,
        state: Mutex::new(state),
        stage: OnceLock::new(),
    });
    (Publisher(Arc::clone(&shared)), Subscription(shared))
}

/// The upstream's side.
pub struct Publisher<T>(Arc<Shared<T>>);

impl<T> fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Publisher")
    }
}

impl<T> Publisher<T> {
    /// How many elements are asked for and were not sent.
    #[must_use]
    pub fn requested(&self) -> usize {
        lock(&self.0.state).outstanding
    }

    /// Whether the consumer wants no more.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        lock(&self.0.state).cancelled
    }

    /// Waits until elements are asked for; `None` once no more are wanted.
    pub fn poll_requested(&self, task: &mut Task<'_>) -> Poll<Option<usize>> {
        lock(&self.0.state).poll_requested(task.waker().clone(), false)
    }

    /// Sends an element. Once cancelled, it ends as not wanted.
    ///
    /// # Errors
    /// There was no place: the subscription is cancelled, the consumer is told, and what was held
    /// ends failed, this element with it.
    pub fn send(&self, element: Element<T>) -> Result<(), Overflow> {
        let shared = &self.0;
        let mut state = wake_lock(&shared.state);
        if state.cancelled || state.done {
            drop(state);
            drop(shared.settle(element, Outcome::Cancelled(Reason::NotWanted)));
            return Ok(());
        }
        let capacity = shared.asking.capacity;
        if state.held.len() >= capacity {
            let mut held = std::mem::take(&mut state.held);
            held.push_back(element);
            state.cancelled = true;
            state.done = true;
            state.stop = Some(Stop::cause(Cause::Overflow { capacity }));
            let consumer = state.consumer.take();
            state.wake(consumer);
            drop(state);
            shared.settle_all(held, Outcome::Failed(Reason::Overflow));
            return Err(Overflow { capacity });
        }
        state.held.push_back(element);
        if state.outstanding > 0 {
            state.outstanding -= 1;
            let producer = state.check(&shared.asking);
            state.wake(producer);
        }
        let consumer = state.consumer.take();
        state.wake(consumer);
        Ok(())
    }

    /// No more elements; the consumer takes those that are held.
    pub fn complete(&self) {
        self.0.end(None);
    }

    /// No more elements; the consumer is told at once, and what is held is cancelled.
    pub fn fail(&self, stop: Stop) {
        let held = std::mem::take(&mut lock(&self.0.state).held);
        self.0
            .settle_all(held, Outcome::Cancelled(Reason::RunFailed));
        self.0.end(Some(stop));
    }
}

impl<T> Drop for Publisher<T> {
    fn drop(&mut self) {
        self.0.end(Some(Stop::cause(Cause::Broken)));
    }
}

/// The consumer's side. Dropping it cancels.
pub struct Subscription<T>(Arc<Shared<T>>);

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = lock(&self.0.state);
        f.debug_struct("Subscription")
            .field("held", &state.held.len())
            .field("outstanding", &state.outstanding)
            .finish_non_exhaustive()
    }
}

impl<T> Subscription<T> {
    /// Asks for so many elements more; for fewer where not all would have a place.
    pub fn request(&self, elements: usize) {
        let mut state = wake_lock(&self.0.state);
        let producer = state.ask(elements, self.0.asking.capacity);
        state.wake(producer);
    }

    /// The next element, or pending until there is one; `None` at the end.
    ///
    /// # Errors
    /// What stopped the upstream: told once, then `None`.
    pub fn poll_next(&mut self, task: &mut Task<'_>) -> Poll<Option<Result<T, Stop>>> {
        let mut state = wake_lock(&self.0.state);
        let Some(element) = state.held.pop_front() else {
            if let Some(stop) = state.stop.take() {
                return Poll::Ready(Some(Err(stop)));
            }
            if state.done || state.cancelled {
                return Poll::Ready(None);
            }
            state.consumer = Some(task.waker().clone());
            return Poll::Pending;
        };
        let mut producer = state.check(&self.0.asking);
        if state.held.is_empty() && producer.is_none() {
            // A sink at its end waits until all is taken.
            producer = state.producer.take();
        }
        state.wake(producer);
        drop(state);
        Poll::Ready(Some(Ok(self.0.settle(element, Outcome::Delivered))))
    }

    /// Waits for the next element and takes it, which delivers it. `None` at the end. Cancel safe.
    ///
    /// # Errors
    /// What stopped the upstream: told once, then `None`.
    #[allow(clippy::should_implement_trait)] // it is asynchronous, and named as streams name it
    pub fn next(&mut self) -> impl Future<Output = Option<Result<T, Stop>>> {
        std::future::poll_fn(|task| self.poll_next(task))
    }

    /// Wants no more: what is held is left over, and the upstream ends.
    pub fn cancel(&mut self) {
        let mut state = wake_lock(&self.0.state);
        if std::mem::replace(&mut state.cancelled, true) {
            return;
        }
        let held = std::mem::take(&mut state.held);
        let producer = state.producer.take();
        state.wake(producer);
        drop(state);
        let branch = self.0.stage.get().is_some_and(|stage| stage.branch);
        let outcome = if branch {
            Outcome::Filtered(Reason::Ended)
        } else {
            Outcome::Cancelled(Reason::NotWanted)
        };
        self.0.settle_all(held, outcome);
    }

    /// How many elements it holds that were not taken.
    #[must_use]
    pub fn held(&self) -> usize {
        lock(&self.0.state).held.len()
    }

    /// How many elements are asked for and have not arrived.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        lock(&self.0.state).outstanding
    }

    /// How many times it asked.
    #[must_use]
    pub fn asks(&self) -> u64 {
        lock(&self.0.state).asks
    }

    /// How many elements it asked for in all.
    #[must_use]
    pub fn requested(&self) -> u64 {
        lock(&self.0.state).requested
    }
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// The sink that feeds a subscription.
pub(crate) struct SubscriptionSink<T> {
    publisher: Publisher<T>,
}

impl<T: Send + 'static> SubscriptionSink<T> {
    pub(crate) fn new(publisher: Publisher<T>) -> SubscriptionSink<T> {
        SubscriptionSink { publisher }
    }

    /// Elements end at this stage from now on.
    pub(crate) fn attach(&self, stage: &Arc<Stage>) {
        let shared = &self.publisher.0;
        let _ = shared.stage.set(Arc::clone(stage));
        let probe = Arc::downgrade(shared);
        stage.ledger.probe(move || {
            probe
                .upgrade()
                .map_or(0, |shared| lock(&shared.state).held.len() as u64)
        });
    }
}

impl<T: Send + 'static> Sink<T> for SubscriptionSink<T> {
    type Output = ();

    fn poll_ready(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        // A consumer may leave while elements are awaited: it must find the waker from the moment on
        // at which it was seen to be there.
        let requested = lock(&self.publisher.0.state).poll_requested(cx.waker().clone(), true);
        requested.map(|requested| Ok(requested.map(Demand::items)))
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<T>) {
        for element in chunk.drain() {
            if self.publisher.is_cancelled() {
                let outcome = cx.leftover();
                cx.settle(element.meta, outcome);
            } else {
                // Within the demand there is a place.
                let _ = self.publisher.send(element);
            }
        }
    }

    /// Drops what nobody has taken yet of a source that goes back: it was asked for, and comes again.
    fn mark(&mut self, _: &mut Context<'_, '_>, mark: &Mark) -> Poll<Result<(), Stop>> {
        if let Mark::Rewind(source, _) = mark {
            let mut state = lock(&self.publisher.0.state);
            let held = std::mem::take(&mut state.held).into_iter();
            let (gone, kept): (VecDeque<_>, _) =
                held.partition(|element| element.meta.receipt.is_of(*source));
            state.held = kept;
            state.outstanding += gone.len();
            drop(state);
            let rewound = Outcome::Cancelled(Reason::Rewound);
            self.publisher.0.settle_all(gone, rewound);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.publisher.complete();
        let mut state = lock(&self.publisher.0.state);
        if state.held.is_empty() {
            return Poll::Ready(Ok(()));
        }
        state.producer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn abandon(&mut self, cx: &mut Context<'_, '_>, stop: Option<&Stop>) {
        let held = std::mem::take(&mut lock(&self.publisher.0.state).held);
        let outcome = cx.leftover();
        self.publisher.0.settle_all(held, outcome);
        self.publisher
            .0
            .end(Some(stop.cloned().unwrap_or(Stop::cause(Cause::Broken))));
    }

    fn held(&self) -> Held {
        Held::items(lock(&self.publisher.0.state).held.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::operator::{Spawn, Turn};

    struct NoSpawn;

    impl Spawn for NoSpawn {
        fn spawn(&self, _: &str, _: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) {}
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Over so many rounds the consumer leaves at each moment of the producer's look.
    #[test]
    fn a_consumer_that_leaves_while_the_producer_looks_is_not_missed() {
        const ROUNDS: usize = 40_000;
        let slot: Mutex<Option<Subscription<u32>>> = Mutex::default();
        // Odd while the consumer is to leave.
        let phase = AtomicUsize::new(0);
        let wait_for = |wanted: usize| {
            for spins in 0_u32.. {
                if phase.load(Ordering::Acquire) == wanted {
                    return;
                }
                if spins > 1000 {
                    std::thread::yield_now();
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..ROUNDS {
                    wait_for(2 * round + 1);
                    if let Some(mut subscription) = lock(&slot).take() {
                        for _ in 0..round % 16 {
                            std::hint::spin_loop();
                        }
                        subscription.cancel();
                    }
                    phase.store(2 * round + 2, Ordering::Release);
                }
            });
            let mut missed = 0;
            for round in 0..ROUNDS {
                let (publisher, subscription) = subscription::<u32>(Asking::by_hand(1));
                subscription.request(1);
                let mut sink = SubscriptionSink::new(publisher);
                *lock(&slot) = Some(subscription);
                let stage = Stage::new(1, false, false);
                let turn = Turn::new(Arc::new(NoSpawn));
                let count = Arc::new(Count::default());
                let waker = Waker::from(Arc::clone(&count));
                let mut task = Task::from_waker(&waker);
                let mut cx = Context::new(&mut task, &stage, &turn);
                phase.store(2 * round + 1, Ordering::Release);
                for _ in 0..round / 16 % 64 {
                    std::hint::spin_loop();
                }
                let ready = sink.poll_ready(&mut cx);
                wait_for(2 * round + 2);
                let told = matches!(ready, Poll::Ready(Ok(None)));
                missed += usize::from(!told && count.0.load(Ordering::Relaxed) == 0);
            }
            assert_eq!(missed, 0, "of {ROUNDS} consumers that left");
        });
    }

    /// Polls the other side at once when it is woken.
    struct Inline(Mutex<Box<dyn FnMut() + Send>>);

    impl Wake for Inline {
        fn wake(self: Arc<Self>) {
            (lock(&self.0))();
        }
    }

    #[test]
    fn a_consumer_that_takes_when_it_is_woken_and_a_producer_that_sends_then_do_not_meet_themselves()
     {
        let (publisher, consumer) = subscription::<u32>(Asking::by_hand(2));
        let consumer = Arc::new(Mutex::new(consumer));
        let taken = Arc::new(Mutex::new(Vec::new()));
        let (mine, keep) = (Arc::clone(&consumer), Arc::clone(&taken));
        let take = move || {
            let next = lock(&mine).poll_next(&mut Task::from_waker(Waker::noop()));
            if let Poll::Ready(Some(Ok(value))) = next {
                lock(&keep).push(value);
            }
        };
        let taker = Waker::from(Arc::new(Inline(Mutex::new(Box::new(take)))));
        let publisher = Arc::new(publisher);
        let sender = Arc::clone(&publisher);
        let send = move || {
            if let Poll::Ready(Some(_)) =
                sender.poll_requested(&mut Task::from_waker(Waker::noop()))
            {
                sender.send(Element::new(7)).unwrap();
            }
        };
        let send = Waker::from(Arc::new(Inline(Mutex::new(Box::new(send)))));

        let consumer_waits = || {
            let next = lock(&consumer).poll_next(&mut Task::from_waker(&taker));
            assert!(next.is_pending());
        };
        consumer_waits();
        assert!(
            publisher
                .poll_requested(&mut Task::from_waker(&send))
                .is_pending()
        );
        // The request wakes the producer, which sends; that wakes the consumer, which takes.
        let shared = Arc::clone(&lock(&consumer).0);
        std::mem::ManuallyDrop::new(Subscription(shared)).request(1);
        assert_eq!(*lock(&taken), [7]);
        consumer_waits();
        publisher.complete();
        assert!(matches!(
            lock(&consumer).poll_next(&mut Task::from_waker(Waker::noop())),
            Poll::Ready(None)
        ));
    }
}
