//! What the reading thread, the committing thread, the flow and the handle share.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::thread::Thread;

use rdkafka::consumer::BaseConsumer;

use super::partition::Partition;
use super::settings::{ConsumerSettings, ReadFrom};
use super::thread::Listener;
use crate::flow::Accounts;
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
    /// The flows that partitions are dealt to, by their numbers.
    pub(super) lanes: Vec<Lane>,
    /// The reading thread, to be unparked.
    pub(super) thread: Option<Thread>,
    /// What a user wants, in order.
    pub(super) orders: VecDeque<Order>,
    /// Paused by a user, whoever has them now.
    pub(super) paused: BTreeSet<TopicPartition>,
    /// The thread was started.
    pub(super) started: bool,
    /// No commit is under way whose records are handed over after it.
    pub(super) is_confirmed: bool,
    pub(super) stopping: bool,
    pub(super) ended: bool,
    pub(super) error: Option<Error>,
    pub(super) counts: ConsumerCounts,
}

/// A flow of the consumer.
#[derive(Default)]
pub(super) struct Lane {
    /// The account its partitions are tracked by.
    pub(super) accounts: Option<Accounts>,
    pub(super) waker: Option<Waker>,
    /// Partitions are being taken away: stages that gather are to hand on what they have.
    pub(super) flush: bool,
    /// It is to be handed nothing more.
    pub(super) is_draining: bool,
    /// It wants no more, and all it was handed is settled.
    pub(super) is_over: bool,
}

impl Lane {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// What a user wants of a consumer that runs.
#[derive(Clone, Debug)]
pub(super) enum Order {
    Pause(Vec<TopicPartition>),
    Resume(Vec<TopicPartition>),
    /// Reads these partitions again, or all, from there.
    Replay(Option<Vec<TopicPartition>>, ReadFrom),
}

/// What happened so far in the life of a consumer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ConsumerCounts {
    /// Commits that came through whole.
    pub commits: u64,
    /// Commits that did not, and partitions of one that did not: they are tried again.
    pub commits_failed: u64,
    /// Assignments and revocations.
    pub rebalances: u64,
    /// Revocations that waited in vain for what was inside: it comes again elsewhere.
    pub drained_late: u64,
}

impl Shared {
    pub(super) fn new(settings: ConsumerSettings, lanes: usize) -> Shared {
        let state = State {
            lanes: (0..lanes.max(1)).map(|_| Lane::default()).collect(),
            ..State::default()
        };
        Shared {
            settings,
            state: Mutex::new(state),
            consumer: Mutex::new(None),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    /// A flow is to be woken.
    pub(super) fn register(&mut self, lane: usize, waker: &Waker) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.waker = Some(waker.clone());
        }
    }

    /// Has all flows look.
    pub(super) fn wake(&mut self) {
        self.lanes.iter_mut().for_each(Lane::wake);
    }

    /// Has the flow of a partition look.
    pub(super) fn wake_lane_of(&mut self, at: &TopicPartition) {
        let lane = self.lane_of(at);
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.wake();
        }
    }

    /// Which flow a partition is dealt to.
    pub(super) fn lane_of(&self, at: &TopicPartition) -> usize {
        at.partition.unsigned_abs() as usize % self.lanes.len().max(1)
    }

    /// A flow is to be handed nothing more, and its stages that gather hand on what they have.
    pub(super) fn drain(&mut self, lane: usize) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.is_draining = true;
            lane.flush = true;
            lane.wake();
        }
        self.unpark();
    }

    pub(super) fn is_draining(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_some_and(|lane| lane.is_draining)
    }

    /// Whether a flow may end: the last waits for the client to have left.
    pub(super) fn may_end(&self) -> bool {
        self.ended || !self.stopping
    }

    /// Has stages that gather hand on what they have.
    pub(super) fn flush(&mut self) {
        for lane in &mut self.lanes {
            lane.flush = true;
            lane.wake();
        }
    }

    /// A flow is over; the last has the client leave.
    pub(super) fn end_lane(&mut self, lane: usize) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.is_over = true;
        }
        self.stopping |= self.lanes.iter().all(|lane| lane.is_over);
        self.unpark();
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
            .filter(|partition| partition.is_held())
    }

    pub(super) fn owned(&mut self) -> impl Iterator<Item = &mut Partition> {
        self.partitions
            .values_mut()
            .filter(|partition| partition.is_owned())
    }

    /// Those of a flow.
    pub(super) fn owned_by(&mut self, lane: usize) -> impl Iterator<Item = &mut Partition> {
        self.owned().filter(move |partition| partition.lane == lane)
    }

    pub(super) fn held_mut_by(&mut self, lane: usize) -> impl Iterator<Item = &mut Partition> {
        self.partitions
            .values_mut()
            .filter(move |partition| partition.is_held() && partition.lane == lane)
    }

    pub(super) fn held_by(&self, lane: usize) -> impl Iterator<Item = &Partition> {
        self.held().filter(move |partition| partition.lane == lane)
    }
}
