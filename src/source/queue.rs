//! A queue for producers outside: other tasks, and threads.
//!
//! Values wait in it until they are asked for. They come into the pipeline when they are handed
//! over; one that was refused or given up counts as in and shed, from the next turn of its island.
//!
//! # Invariants
//! - Never more values in it than its buffer says; offers that wait are served in order.
//! - Every value is handed over, given back to who offered it, given up as the policy says (counted,
//!   and told to [`Queue::on_drop`]), or cancelled with the run.
//!
//! # What it does not do
//! It does not keep producers from running: who does not wait is told that the value was dropped.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context as Task, Poll, Wake, Waker};

use tokio::sync::watch;

use crate::boundary::{Buffer, WhenFull};
use crate::chunk::{Chunk, Element, Meta};
use crate::class::Class;
use crate::error::{BoxError, Cause, Stop};
use crate::flow::Flow;
use crate::operator::{Context, Control, Demand, Fill, Source, guard};
use crate::outcome::{Outcome, Reason};
use crate::position::Tracker;
use crate::sync::{WakeLock, lock, wake_lock};
use crate::time;

/// What became of an offer. A value that was not taken in is handed back.
#[derive(Debug, PartialEq)]
#[must_use = "a value that was not enqueued is in here"]
pub enum Offered<T> {
    /// It is in the queue. (A later offer may still push it out, where the policy says so.)
    Enqueued,
    /// The queue is full; the offer counts as in and shed.
    Dropped(Reason, T),
    /// The queue has failed: by [`Queue::fail`], or because it was full and told to fail then.
    Failed(Arc<str>, T),
    /// The queue was completed, or its flow is gone.
    Closed(T),
}

impl<T> Offered<T> {
    /// Whether it is in the queue.
    #[must_use]
    pub fn is_enqueued(&self) -> bool {
        matches!(self, Offered::Enqueued)
    }

    /// The value, where it was not taken in.
    #[must_use]
    pub fn into_value(self) -> Option<T> {
        match self {
            Offered::Enqueued => None,
            Offered::Dropped(_, value) | Offered::Failed(_, value) | Offered::Closed(value) => {
                Some(value)
            }
        }
    }
}

/// How a queue ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum QueueEnd {
    /// It was completed, and all that was in it was handed over.
    Completed,
    /// It failed, for that reason.
    Failed(Arc<str>),
    /// Its flow wants no more, or is gone.
    Cancelled,
}

enum Life {
    Open,
    /// No more offers; what is inside goes on.
    Completing,
    Ended(QueueEnd),
}

struct State<T> {
    values: VecDeque<(T, Meta)>,
    bytes: u64,
    /// Offers that wait, by their tickets.
    waiting: BTreeMap<u64, Waker>,
    next_ticket: u64,
    life: Life,
    stop: Option<Stop>,
    consumer: Option<Waker>,
    /// The consumer, which nobody asks for values now: it must learn of a failure.
    resting: Option<Waker>,
    /// Values that ended before they were handed over and are not in the accounts yet.
    refused: BTreeMap<(Class, Reason), usize>,
    dropped: u64,
}

type Locked<'a, T> = WakeLock<'a, State<T>>;
type Classify<T> = Box<dyn Fn(&T) -> Class + Send + Sync>;
type Weigh<T> = Box<dyn Fn(&T) -> u64 + Send + Sync>;
type OnDrop<T> = Box<dyn Fn(T, Reason) + Send + Sync>;

struct Shared<T> {
    buffer: Buffer,
    state: Mutex<State<T>>,
    max_waiting: AtomicUsize,
    classify: OnceLock<Classify<T>>,
    weigh: OnceLock<Weigh<T>>,
    on_drop: OnceLock<OnDrop<T>>,
    end: watch::Sender<Option<QueueEnd>>,
}

/// Tells how the queue ended, which wakes those who wait for it: not under the lock either.
struct Telling(watch::Sender<Option<QueueEnd>>, QueueEnd);

impl Wake for Telling {
    fn wake(self: Arc<Self>) {
        self.0.send_replace(Some(self.1.clone()));
    }
}

/// What a try came to: an answer, or the value back because it has to wait.
enum Tried<T> {
    Done(Offered<T>),
    Wait(T, Meta),
}

impl<T> Shared<T> {
    fn full(&self, state: &State<T>, bytes: u64) -> bool {
        state.values.len() >= self.buffer.capacity()
            || (!state.values.is_empty()
                && self.buffer.capacity_bytes() != u64::MAX
                && state.bytes + bytes > self.buffer.capacity_bytes())
    }

    fn push(state: &mut Locked<'_, T>, value: T, meta: Meta) {
        state.bytes += meta.bytes;
        state.values.push_back((value, meta));
        let consumer = state.consumer.take();
        state.wake(consumer);
    }

    /// Counts a value that ends here.
    fn refuse(state: &mut Locked<'_, T>, meta: &Meta, reason: Reason) {
        *state
            .refused
            .entry((meta.class.unwrap_or_default(), reason))
            .or_default() += 1;
        state.dropped += 1;
        let consumer = state.consumer.take();
        state.wake(consumer);
    }

    /// Gives up a value that was in the queue.
    fn evict(state: &mut Locked<'_, T>, which: Option<(T, Meta)>, why: Reason, out: &mut Vec<T>) {
        if let Some((value, meta)) = which {
            state.bytes -= meta.bytes;
            Self::refuse(state, &meta, why);
            out.push(value);
        }
    }

    /// Offers a value as the policy says. `ticket`: it waited, and its turn is known.
    fn offer(&self, value: T, meta: Meta, ticket: Option<u64>) -> Tried<T> {
        let mut evicted = Vec::new();
        let policy = self.buffer.policy();
        let mut state = wake_lock(&self.state);
        let tried = match &state.life {
            Life::Ended(QueueEnd::Failed(why)) => {
                Tried::Done(Offered::Failed(Arc::clone(why), value))
            }
            Life::Completing | Life::Ended(_) => Tried::Done(Offered::Closed(value)),
            Life::Open if policy == WhenFull::Backpressure => {
                let turn = state
                    .waiting
                    .keys()
                    .next()
                    .is_none_or(|first| Some(*first) == ticket);
                if turn && !self.full(&state, meta.bytes) {
                    Self::push(&mut state, value, meta);
                    Tried::Done(Offered::Enqueued)
                } else {
                    Tried::Wait(value, meta)
                }
            }
            Life::Open if !self.full(&state, meta.bytes) => {
                Self::push(&mut state, value, meta);
                Tried::Done(Offered::Enqueued)
            }
            Life::Open => match policy {
                WhenFull::DropNew | WhenFull::Backpressure => {
                    Self::refuse(&mut state, &meta, Reason::DropNew);
                    Tried::Done(Offered::Dropped(Reason::DropNew, value))
                }
                WhenFull::Fail => {
                    let capacity = self.buffer.capacity();
                    let stop = Stop::cause(Cause::Overflow { capacity });
                    Self::refuse(&mut state, &meta, Reason::Overflow);
                    let why = self.fail(&mut state, stop);
                    Tried::Done(Offered::Failed(why, value))
                }
                WhenFull::DropHead | WhenFull::DropTail | WhenFull::DropBuffer => {
                    while self.full(&state, meta.bytes) {
                        let given_up = match policy {
                            WhenFull::DropTail => state.values.pop_back(),
                            _ => state.values.pop_front(),
                        };
                        Self::evict(&mut state, given_up, policy.reason(), &mut evicted);
                    }
                    while policy == WhenFull::DropBuffer && !state.values.is_empty() {
                        let given_up = state.values.pop_front();
                        Self::evict(&mut state, given_up, policy.reason(), &mut evicted);
                    }
                    Self::push(&mut state, value, meta);
                    Tried::Done(Offered::Enqueued)
                }
            },
        };
        drop(state);
        if let Some(on_drop) = self.on_drop.get() {
            for value in evicted {
                let _ = guard(|| on_drop(value, policy.reason()));
            }
        }
        tried
    }

    /// The queue fails: what is inside is cancelled at the next turn.
    fn fail(&self, state: &mut Locked<'_, T>, stop: Stop) -> Arc<str> {
        let why: Arc<str> = Arc::from(stop.to_string());
        state.stop.get_or_insert(stop);
        self.end(state, QueueEnd::Failed(Arc::clone(&why)));
        why
    }

    fn end(&self, state: &mut Locked<'_, T>, end: QueueEnd) {
        if matches!(state.life, Life::Ended(_)) {
            return;
        }
        state.life = Life::Ended(end.clone());
        let telling = Telling(self.end.clone(), end);
        state.wake(Some(Waker::from(Arc::new(telling))));
        Self::wake_all(state);
    }

    fn wake_all(state: &mut Locked<'_, T>) {
        for (_, waker) in std::mem::take(&mut state.waiting) {
            state.wake(Some(waker));
        }
        for waker in [state.consumer.take(), state.resting.take()] {
            state.wake(waker);
        }
    }

    fn complete(&self) {
        let mut state = wake_lock(&self.state);
        if matches!(state.life, Life::Open) {
            state.life = Life::Completing;
            Self::wake_all(&mut state);
        }
    }
}

/// Completes the queue when the last handle is gone.
struct Alive<T>(Arc<Shared<T>>);

impl<T> Drop for Alive<T> {
    fn drop(&mut self) {
        self.0.complete();
    }
}

/// Offers values to a flow. Cloning gives another handle; the queue completes when the last is
/// dropped.
pub struct Queue<T>(Arc<Alive<T>>);

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Queue(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Queue<T> {
    /// Gives each offered value its class. To be set once, before the first offer; without it a
    /// value is of [`Class::MEDIUM`].
    #[must_use]
    pub fn classify(self, f: impl Fn(&T) -> Class + Send + Sync + 'static) -> Queue<T> {
        let _ = self.shared().classify.set(Box::new(f));
        self
    }

    /// Weighs each offered value in bytes, for a buffer with a bound of bytes. To be set once.
    #[must_use]
    pub fn weigh(self, f: impl Fn(&T) -> u64 + Send + Sync + 'static) -> Queue<T> {
        let _ = self.shared().weigh.set(Box::new(f));
        self
    }

    /// Is told of each value that was in the queue and was given up for another. To be set once.
    #[must_use]
    pub fn on_drop(self, f: impl Fn(T, Reason) + Send + Sync + 'static) -> Queue<T> {
        let _ = self.shared().on_drop.set(Box::new(f));
        self
    }

    /// How many offers may wait at once; one more is dropped for [`Reason::Limit`]. Default: 1024.
    #[must_use]
    pub fn max_waiting(self, offers: usize) -> Queue<T> {
        self.shared().max_waiting.store(offers, Ordering::Relaxed);
        self
    }

    fn meta(&self, value: &T, class: Option<Class>) -> Meta {
        let shared = self.shared();
        let class = class.or_else(|| {
            let classify = shared.classify.get()?;
            guard(|| classify(value)).ok()
        });
        let bytes = shared
            .weigh
            .get()
            .and_then(|weigh| guard(|| weigh(value)).ok());
        Meta {
            class: Some(class.unwrap_or_default()),
            since: time::now(),
            bytes: bytes.unwrap_or_default(),
            ..Meta::default()
        }
    }

    /// Offers a value, and waits for a place if the buffer is to back-pressure. Cancel safe: a
    /// future that is dropped has offered nothing.
    pub fn offer(&self, value: T) -> Offer<T> {
        let meta = self.meta(&value, None);
        self.offer_meta(value, meta)
    }

    /// The same, for a value of that class.
    pub fn offer_as(&self, class: Class, value: T) -> Offer<T> {
        let meta = self.meta(&value, Some(class));
        self.offer_meta(value, meta)
    }

    fn offer_meta(&self, value: T, meta: Meta) -> Offer<T> {
        Offer {
            shared: Arc::clone(self.shared()),
            value: Some((value, meta)),
            ticket: None,
        }
    }

    /// Offers a value without waiting: a full queue that back-pressures drops it.
    pub fn try_offer(&self, value: T) -> Offered<T> {
        let meta = self.meta(&value, None);
        self.try_offer_meta(value, meta)
    }

    /// The same, for a value of that class.
    pub fn try_offer_as(&self, class: Class, value: T) -> Offered<T> {
        let meta = self.meta(&value, Some(class));
        self.try_offer_meta(value, meta)
    }

    fn try_offer_meta(&self, value: T, meta: Meta) -> Offered<T> {
        match self.shared().offer(value, meta, None) {
            Tried::Done(offered) => offered,
            Tried::Wait(value, meta) => {
                Shared::refuse(&mut wake_lock(&self.shared().state), &meta, Reason::DropNew);
                Offered::Dropped(Reason::DropNew, value)
            }
        }
    }

    /// Offers a value and blocks the calling thread until there is a place. Not for tasks.
    pub fn offer_blocking(&self, value: T) -> Offered<T> {
        struct Unpark(std::thread::Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut offer = self.offer(value);
        loop {
            match Pin::new(&mut offer).poll(&mut Task::from_waker(&waker)) {
                Poll::Ready(offered) => return offered,
                Poll::Pending => std::thread::park(),
            }
        }
    }
}

impl<T> Queue<T> {
    fn shared(&self) -> &Arc<Shared<T>> {
        &self.0.0
    }

    /// No more offers; what is in the queue goes on, then the flow completes.
    pub fn complete(&self) {
        self.shared().complete();
    }

    /// The flow stops with this error, whether or not there is demand; what is in the queue is
    /// cancelled.
    pub fn fail(&self, error: impl Into<BoxError>) {
        let shared = self.shared();
        shared.fail(&mut wake_lock(&shared.state), Stop::error(error));
    }

    /// Waits until the queue has ended, and tells how. Cancel safe.
    pub fn watch_completion(&self) -> impl Future<Output = QueueEnd> + Send + use<T> {
        let mut end = self.shared().end.subscribe();
        async move {
            match end.wait_for(Option::is_some).await {
                Ok(end) => end.clone().unwrap_or(QueueEnd::Cancelled),
                Err(_) => QueueEnd::Cancelled,
            }
        }
    }

    /// How many values are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.shared().state).values.len()
    }

    /// Whether none is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many values were refused or given up so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        lock(&self.shared().state).dropped
    }
}

/// An offer that waits for its place: see [`Queue::offer`].
#[must_use = "a future offers nothing until it is awaited"]
pub struct Offer<T> {
    shared: Arc<Shared<T>>,
    value: Option<(T, Meta)>,
    ticket: Option<u64>,
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
    /// Steps out of the line, and lets the next one look.
    fn leave(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let mut state = wake_lock(&self.shared.state);
            state.waiting.remove(&ticket);
            let next = state.waiting.values().next().cloned();
            state.wake(next);
        }
    }
}

impl<T> Future for Offer<T> {
    type Output = Offered<T>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<Offered<T>> {
        let this = &mut *self;
        loop {
            let Some((value, meta)) = this.value.take() else {
                return Poll::Pending;
            };
            let (value, meta) = match this.shared.offer(value, meta, this.ticket) {
                Tried::Done(offered) => {
                    this.leave();
                    return Poll::Ready(offered);
                }
                Tried::Wait(value, meta) => (value, meta),
            };
            let mut state = wake_lock(&this.shared.state);
            let new = this.ticket.is_none();
            if new && state.waiting.len() >= this.shared.max_waiting.load(Ordering::Relaxed) {
                Shared::refuse(&mut state, &meta, Reason::Limit);
                return Poll::Ready(Offered::Dropped(Reason::Limit, value));
            }
            let ticket = *this.ticket.get_or_insert_with(|| {
                state.next_ticket += 1;
                state.next_ticket
            });
            state.waiting.insert(ticket, task.waker().clone());
            let first = state.waiting.keys().next() == Some(&ticket);
            // A place may have been made, or the queue have ended, since the first look.
            let look = !matches!(state.life, Life::Open)
                || (first && !this.shared.full(&state, meta.bytes));
            drop(state);
            this.value = Some((value, meta));
            if !look {
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

/// The flow's side.
struct QueueSource<T> {
    shared: Arc<Shared<T>>,
    tracker: Option<Tracker<()>>,
}

impl<T> QueueSource<T> {
    /// Brings what was refused into the accounts.
    fn account(&self, cx: &mut Context<'_, '_>) {
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
        let left = std::mem::take(&mut state.values);
        state.bytes = 0;
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
        let mut bytes = 0_u64;
        while out.len() < want.items
            && let Some((value, meta)) = state.values.pop_front()
        {
            if !out.is_empty() && bytes + meta.bytes > want.bytes {
                state.values.push_front((value, meta));
                break;
            }
            bytes += meta.bytes;
            state.bytes -= meta.bytes;
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

/// A queue that tasks and threads outside offer values to, and the flow of what they offer.
///
/// A number is a buffer with back-pressure: [`Queue::offer`] waits for a place, and
/// [`Queue::try_offer`] is told that there is none. With another [`WhenFull`] nobody waits.
///
/// - *emits when* a value is in the queue and there is demand.
/// - *back-pressures when* the queue is full, if its buffer says so: offers wait then.
/// - *completes when* it was completed, or its last handle dropped, or the run told to drain, and
///   all that was in it was handed over.
/// - *cancels when* downstream cancels: what is in it counts as cancelled, offers get
///   [`Offered::Closed`].
/// - *settles when* its elements are settled downstream; what was refused or given up counts as in
///   and shed; what is in it when it fails, as cancelled.
/// - *holds* nothing that has come in; as many values as its buffer says wait before it.
/// - *costs* a lock an offer, a lock a chunk.
///
/// # Example
/// ```
/// use forebay::source;
///
/// let (queue, flow) = source::queue(2);
/// let producer = std::thread::spawn(move || {
///     for n in 1..=5 {
///         assert!(queue.offer_blocking(n).is_enqueued());
///     }
/// });
/// assert_eq!(flow.collect().block_on()?, [1, 2, 3, 4, 5]);
/// producer.join().unwrap();
/// # Ok::<(), forebay::error::RunError>(())
/// ```
pub fn queue<T: Send + 'static>(buffer: impl Into<Buffer>) -> (Queue<T>, Flow<T>) {
    let buffer = buffer.into();
    let shared = Arc::new(Shared {
        buffer,
        state: Mutex::new(State {
            values: VecDeque::new(),
            bytes: 0,
            waiting: BTreeMap::new(),
            next_ticket: 0,
            life: Life::Open,
            stop: None,
            consumer: None,
            resting: None,
            refused: BTreeMap::new(),
            dropped: 0,
        }),
        max_waiting: AtomicUsize::new(1024),
        classify: OnceLock::new(),
        weigh: OnceLock::new(),
        on_drop: OnceLock::new(),
        end: watch::channel(None).0,
    });
    let source = QueueSource {
        shared: Arc::clone(&shared),
        tracker: None,
    };
    let policy = buffer.policy();
    let flow = Flow::from_source("queue", source).amended(|spec| {
        spec.held = buffer.capacity();
        spec.note = Some(policy.name().to_owned());
        if policy.sheds() {
            spec.loses = Some(format!(
                "sheds ({}) when full: use back-pressure",
                policy.name()
            ));
        }
    });
    (Queue(Arc::new(Alive(shared))), flow)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::boundary::WhenFull;

    /// Looks into the queue when it is woken, as an executor that polls at once would.
    struct Look(Queue<u32>, AtomicUsize);

    impl Wake for Look {
        fn wake(self: Arc<Self>) {
            let _ = self.0.len();
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Look {
        fn at(queue: &Queue<u32>) -> (Arc<Look>, Waker) {
            let look = Arc::new(Look(queue.clone(), AtomicUsize::new(0)));
            (Arc::clone(&look), Waker::from(look))
        }

        fn times(&self) -> usize {
            self.1.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn whoever_waits_is_woken_after_the_lock_was_let_go() {
        let (queue, _flow) = queue::<u32>(Buffer::items(1));
        let shared = Arc::clone(queue.shared());
        let consumer_waits = || {
            let (look, waker) = Look::at(&queue);
            lock(&shared.state).consumer = Some(waker);
            look
        };
        // Each would wait for ever for the lock it holds.
        let look = consumer_waits();
        assert!(queue.try_offer(1).is_enqueued());
        assert_eq!(look.times(), 1, "a value came");
        let look = consumer_waits();
        assert!(!queue.try_offer(2).is_enqueued());
        assert_eq!(look.times(), 1, "one was refused");

        let (first, waker) = Look::at(&queue);
        let mut offer = queue.offer(3);
        assert!(
            Pin::new(&mut offer)
                .poll(&mut Task::from_waker(&waker))
                .is_pending()
        );
        let (second, waker) = Look::at(&queue);
        let mut later = queue.offer(4);
        assert!(
            Pin::new(&mut later)
                .poll(&mut Task::from_waker(&waker))
                .is_pending()
        );
        drop(offer);
        assert_eq!(
            (first.times(), second.times()),
            (0, 1),
            "the next one's turn"
        );
        let (watcher, waker) = Look::at(&queue);
        let mut end = std::pin::pin!(queue.watch_completion());
        assert!(
            end.as_mut()
                .poll(&mut Task::from_waker(&waker))
                .is_pending()
        );
        queue.fail("broken");
        assert_eq!((second.times(), watcher.times()), (2, 1), "it failed");
        assert!(matches!(
            end.as_mut().poll(&mut Task::from_waker(&waker)),
            Poll::Ready(QueueEnd::Failed(_))
        ));
    }

    #[test]
    fn a_waker_is_called_without_the_lock_when_places_are_made_and_at_the_end() {
        let (queue, _flow) = queue::<u32>(Buffer::items(1).when_full(WhenFull::DropHead));
        let (look, waker) = Look::at(&queue);
        lock(&queue.shared().state).consumer = Some(waker.clone());
        queue.complete();
        assert_eq!(look.times(), 1);
        let source = QueueSource {
            shared: Arc::clone(queue.shared()),
            tracker: None,
        };
        lock(&queue.shared().state).consumer = Some(waker);
        drop(source);
        assert_eq!(look.times(), 2);
    }
}
