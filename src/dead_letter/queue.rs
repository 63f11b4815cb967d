//! The queue that stages share before a sink of dead letters.

use std::mem;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::DeadLetter;
use crate::chunk::{Chunk, Element, Queue};
use crate::error::Stop;
use crate::operator::{Context, Control, Demand, Fill, Held, Operator, Stage};
use crate::sync::{AtomicU64, AtomicWaker, Mutex, Ordering, lock};

/// A letter on its way to the sink.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) content: DeadLetter,
    pub(crate) sent: Sent,
}

/// How many letters of one stage are not settled; a letter counts until it is dropped.
#[derive(Debug, Default)]
struct Unsettled {
    count: AtomicU64,
    waiting: AtomicWaker,
}

/// Counts one letter as unsettled while it lives.
#[derive(Debug)]
pub(crate) struct Sent(Arc<Unsettled>);

impl Drop for Sent {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.waiting.wake();
        }
    }
}

struct State {
    queue: Queue<Letter>,
    /// Stages that may still send.
    ports: usize,
    /// Stages that wait for room.
    waiting: Vec<Waker>,
    consumer: Option<Waker>,
    /// The run ends: what is sent now comes back.
    cancelled: bool,
}

struct Shared {
    capacity: usize,
    /// The stage of the queue: the lock makes its counters those of one writer.
    stage: Arc<Stage>,
    state: Mutex<State>,
}

/// The queue as stages see it that are being declared.
#[derive(Clone)]
pub(crate) struct Letters(Arc<Shared>);

impl Letters {
    /// A queue of at most `capacity` letters.
    pub(crate) fn new(capacity: usize, stage: Arc<Stage>) -> (Letters, LetterSource) {
        let shared = Arc::new(Shared {
            capacity: capacity.max(1),
            stage: Arc::clone(&stage),
            state: Mutex::new(State {
                queue: Queue::default(),
                ports: 0,
                waiting: Vec::new(),
                consumer: None,
                cancelled: false,
            }),
        });
        let probe = Arc::downgrade(&shared);
        stage.ledger.probe(move || {
            probe
                .upgrade()
                .map_or(0, |shared| lock(&shared.state).queue.len() as u64)
        });
        (Letters(Arc::clone(&shared)), LetterSource { shared })
    }

    /// A way in for one stage. The queue ends when all of them are closed.
    pub(crate) fn port(&self) -> Port {
        lock(&self.0.state).ports += 1;
        Port {
            shared: Some(Arc::clone(&self.0)),
            unsettled: Arc::default(),
        }
    }
}

/// What a port did with a letter.
pub(crate) enum Offer {
    Sent,
    /// The queue is full, and the task will be woken.
    Full(Element<DeadLetter>),
    /// The run ends.
    Refused(Element<DeadLetter>),
}

/// One stage's way into the queue.
pub(crate) struct Port {
    shared: Option<Arc<Shared>>,
    unsettled: Arc<Unsettled>,
}

impl Port {
    /// Sends a letter, which leaves the stage by that.
    pub(crate) fn offer(&mut self, cx: &mut Context<'_, '_>, letter: Element<DeadLetter>) -> Offer {
        let Some(shared) = &self.shared else {
            return Offer::Refused(letter);
        };
        let mut state = lock(&shared.state);
        if state.cancelled {
            return Offer::Refused(letter);
        }
        if state.queue.len() >= shared.capacity {
            if !state
                .waiting
                .iter()
                .any(|waker| waker.will_wake(cx.waker()))
            {
                state.waiting.push(cx.waker().clone());
            }
            return Offer::Full(letter);
        }
        self.unsettled.count.fetch_add(1, Ordering::AcqRel);
        let sent = Sent(Arc::clone(&self.unsettled));
        let value = Letter {
            content: letter.value,
            sent,
        };
        state.queue.push(Element {
            value,
            meta: letter.meta,
        });
        shared.stage.ledger.enter(1);
        cx.ledger().leave(1);
        let consumer = state.consumer.take();
        drop(state);
        if let Some(consumer) = consumer {
            consumer.wake();
        }
        Offer::Sent
    }

    /// Ready when every letter sent through this port is settled.
    pub(crate) fn poll_settled(&self, cx: &mut Context<'_, '_>) -> Poll<()> {
        let settled = || self.unsettled.count.load(Ordering::Acquire) == 0;
        if settled() {
            return Poll::Ready(());
        }
        self.unsettled.waiting.register(cx.waker());
        if settled() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Nothing more will be sent.
    pub(crate) fn close(&mut self) {
        let Some(shared) = self.shared.take() else {
            return;
        };
        let mut state = lock(&shared.state);
        state.ports -= 1;
        let consumer = if state.ports == 0 {
            state.consumer.take()
        } else {
            None
        };
        drop(state);
        if let Some(consumer) = consumer {
            consumer.wake();
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.close();
    }
}

/// The queue's other end: what the island of the sink starts with.
pub(crate) struct LetterSource {
    shared: Arc<Shared>,
}

impl Operator<Letter> for LetterSource {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<Letter>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        if want.is_none() {
            return Ok(Fill::Pending);
        }
        let mut state = lock(&self.shared.state);
        if state.queue.take(want, out) == 0 {
            if state.ports == 0 {
                return Ok(Fill::Done);
            }
            state.consumer = Some(cx.waker().clone());
            return Ok(Fill::Pending);
        }
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
        Ok(Fill::More)
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        if signal != Control::Cancel {
            return;
        }
        let mut state = lock(&self.shared.state);
        state.cancelled = true;
        let mut rest = state.queue.take_all();
        let waiting = mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
        let outcome = cx.leftover();
        cx.settle_chunk(&mut rest, outcome);
    }

    fn held(&self) -> Held {
        Held::items(lock(&self.shared.state).queue.len())
    }
}
