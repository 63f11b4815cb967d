//! What the reading thread, the committing thread, the flow and the handle share.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::thread::Thread;

use rdkafka::consumer::BaseConsumer;

use super::partition::{Partition, Phase};
use super::settings::{ConsumerSettings, ReadFrom};
use super::thread::Listener;
use crate::kafka::error::Error;
use crate::kafka::record::TopicPartition;
use crate::sync::{Mutex, MutexGuard, lock};

pub(super) struct Shared {
    pub(super) settings: ConsumerSettings,
    state: Mutex<State>,
    /// For the metadata of the group; none before the thread began and after it ended.
    pub(super) consumer: Mutex<Option<Arc<BaseConsumer<Listener>>>>,
}

#[derive(Default)]
pub(super) struct State {
    /// By topic and number; one that was lost stays, for its tracker.
    pub(super) partitions: BTreeMap<TopicPartition, Partition>,
    /// Wakes the flow.
    pub(super) waker: Option<Waker>,
    /// The reading thread, to be unparked.
    pub(super) thread: Option<Thread>,
    /// Partitions are being taken away: stages that gather are to hand on what they have.
    pub(super) flush: bool,
    /// What a user wants, in order.
    pub(super) orders: VecDeque<Order>,
    /// Paused by a user, whoever has them now.
    pub(super) paused: BTreeSet<TopicPartition>,
    /// Nothing more is to be read.
    pub(super) draining: bool,
    /// No commit is under way whose records are handed over after it.
    pub(super) is_confirmed: bool,
    pub(super) stopping: bool,
    pub(super) ended: bool,
    pub(super) error: Option<Error>,
    pub(super) counts: Counts,
}

/// What a user wants of a consumer that runs.
#[derive(Clone, Debug)]
pub(super) enum Order {
    Pause(Vec<TopicPartition>),
    Resume(Vec<TopicPartition>),
    /// Reads these partitions again, or all, from there.
    Replay(Option<Vec<TopicPartition>>, ReadFrom),
}

/// What happened so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Counts {
    pub(super) commits: u64,
    pub(super) commits_failed: u64,
    pub(super) rebalances: u64,
    /// Revocations that waited in vain for what was inside.
    pub(super) drained_late: u64,
}

impl Shared {
    pub(super) fn new(settings: ConsumerSettings) -> Shared {
        Shared {
            settings,
            state: Mutex::new(State::default()),
            consumer: Mutex::new(None),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    /// Has the flow look.
    pub(super) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Has the reading thread look.
    pub(super) fn unpark(&self) {
        if let Some(thread) = &self.thread {
            thread.unpark();
        }
    }

    pub(super) fn fail(&mut self, error: Error) {
        self.error.get_or_insert(error);
        self.wake();
    }

    /// Those of which something may be inside that can still be settled.
    pub(super) fn held(&self) -> impl Iterator<Item = &Partition> {
        self.partitions
            .values()
            .filter(|partition| partition.phase != Phase::Lost)
    }

    pub(super) fn owned(&mut self) -> impl Iterator<Item = &mut Partition> {
        self.partitions
            .values_mut()
            .filter(|partition| partition.is_owned())
    }
}
