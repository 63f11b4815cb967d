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

mod flow_side;
mod handle;
mod offer;
mod shared;
mod store;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::boundary::Buffer;
use crate::class::Class;
use crate::control::{Invalid, PriorityQueue, PrioritySettings, WhenNoRoom};
use crate::flow::Flow;
use crate::outcome::Reason;
use flow_side::QueueSource;
use handle::Alive;
pub use handle::Queue;
pub use offer::Offer;
use shared::Shared;
use store::Store;

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

/// A queue that tasks and threads outside offer values to, and the flow of what they offer.
///
/// A number is a buffer with back-pressure: [`Queue::offer`] waits for a place, and
/// [`Queue::try_offer`] is told that there is none. With another
/// [`WhenFull`](crate::boundary::WhenFull) nobody waits.
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
    let (queue, flow) = build(Store::InOrder {
        buffer,
        values: VecDeque::new(),
        bytes: 0,
    });
    let policy = buffer.policy();
    let flow = flow.amended(|spec| {
        spec.held = buffer.capacity();
        spec.note = Some(policy.name().to_owned());
        if policy.sheds() {
            spec.loses = Some(format!(
                "sheds ({}) when full: use back-pressure",
                policy.name()
            ));
        }
    });
    (queue, flow)
}

fn build<T: Send + 'static>(store: Store<T>) -> (Queue<T>, Flow<T>) {
    let shared = Arc::new(Shared::new(store));
    let source = QueueSource {
        shared: Arc::clone(&shared),
        tracker: None,
    };
    let flow = Flow::from_source("queue", source);
    (Queue(Arc::new(Alive(shared))), flow)
}

/// A queue like [`queue()`] that knows classes: the dearest value is served first, the cheapest makes
/// way first, and each class waits, is refused or evicts as its settings say.
///
/// [`PrioritySettings::a6`](crate::control::PrioritySettings::a6) is such a queue: 1000 values; HIGH
/// takes the place of the oldest of the lowest class, MEDIUM waits up to a second, LOW is refused at
/// once. Deferral and diversion need a buffer inside the flow, and are refused here.
///
/// - *emits when* a value is in the queue and there is demand.
/// - *back-pressures when* the queue is full, for classes that wait.
/// - *completes when* as [`queue()`] does.
/// - *cancels when* downstream cancels, as [`queue()`] does.
/// - *settles when* its elements are settled downstream; what was refused (no room, timed out, breaker
///   open, overload) or evicted counts as in and shed.
/// - *holds* nothing that has come in; as many values as its settings say wait before it.
/// - *costs* a lock an offer, a lock a chunk, and a decision a value.
///
/// # Errors
/// [`Invalid`]: a setting out of its range, or a policy that has no place here.
///
/// # Example
/// ```
/// use forebay::class::Class;
/// use forebay::control::{PrioritySettings, WhenNoRoom};
/// use forebay::outcome::Reason;
/// use forebay::source::{self, Offered};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let settings = PrioritySettings::items(2).when_no_room(Class::LOW, WhenNoRoom::Refuse);
/// let (queue, flow) = source::queue_by_class(settings)?;
/// assert!(queue.try_offer_as(Class::LOW, "browse").is_enqueued());
/// assert!(queue.try_offer_as(Class::LOW, "look").is_enqueued());
/// let refused = queue.try_offer_as(Class::LOW, "search");
/// assert_eq!(refused, Offered::Dropped(Reason::NoRoom, "search"));
/// assert!(queue.try_offer_as(Class::HIGH, "pay").is_enqueued(), "one makes way");
/// queue.complete();
/// assert_eq!(flow.collect().block_on()?, ["pay", "look"]);
/// # Ok(()) }
/// ```
pub fn queue_by_class<T: Send + 'static>(
    settings: PrioritySettings,
) -> Result<(Queue<T>, Flow<T>), Invalid> {
    for policy in [WhenNoRoom::Defer, WhenNoRoom::Divert] {
        let range = "evict, wait or refuse: put a buffer by class into the flow for this";
        Invalid::unless(
            !settings.any(policy),
            "when_no_room",
            format!("{policy:?}"),
            range,
        )?;
    }
    let (queue, flow) = build(Store::ByClass(Box::new(PriorityQueue::new(settings)?)));
    let sheds = (0..Class::COUNT as u8)
        .filter_map(Class::new)
        .any(|class| settings.may_shed(class));
    let flow = flow.amended(|spec| {
        spec.held = settings.max_items();
        spec.note = Some("by class".to_owned());
        if sheds {
            spec.loses = Some("sheds by class when full: let every class wait".to_owned());
        }
    });
    Ok((queue, flow))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::future::Future;
    use std::pin::Pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context as Task, Poll, Wake, Waker};

    use super::*;
    use crate::boundary::WhenFull;
    use crate::sync::lock;

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
