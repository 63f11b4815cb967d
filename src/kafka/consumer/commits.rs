//! Commits, on a thread of their own: a commit that is known to have come through blocks until then.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::partition::Position;
use super::shared::Shared;
use super::thread::Listener;
use crate::kafka::error::Error;
use crate::kafka::ffi::is_member;
use crate::sync::{AtomicBool, Ordering};

/// One commit at a time, so that none overtakes another.
pub(super) struct Committer {
    orders: Option<SyncSender<Vec<Position>>>,
    busy: Arc<AtomicBool>,
    /// The last one came through.
    came_through: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    pub(super) fn start(
        consumer: &Arc<BaseConsumer<Listener>>,
        shared: &Arc<Shared>,
    ) -> Result<Committer, Error> {
        let (sender, orders) = sync_channel(1);
        let busy = Arc::new(AtomicBool::new(false));
        let (consumer, shared) = (Arc::clone(consumer), Arc::clone(shared));
        let came_through = Arc::new(AtomicBool::new(false));
        let (is_busy, was_good) = (Arc::clone(&busy), Arc::clone(&came_through));
        let caller = thread::current();
        let thread = thread::Builder::new()
            .name("kafka-commits".to_owned())
            .spawn(move || {
                run(&orders, &consumer, &shared, |good| {
                    was_good.store(good, Ordering::Relaxed);
                    is_busy.store(false, Ordering::Release);
                    caller.unpark();
                });
            })
            .map_err(|error| Error::Thread(error.to_string()))?;
        Ok(Committer {
            orders: Some(sender),
            busy,
            came_through,
            thread: Some(thread),
        })
    }

    /// Whether a commit is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// Whether the last commit came through.
    pub(super) fn came_through(&self) -> bool {
        self.came_through.load(Ordering::Relaxed)
    }

    /// Begins a commit; false while there is another.
    pub(super) fn commit(&mut self, positions: Vec<Position>) -> bool {
        if self.is_busy() {
            return false;
        }
        self.busy.store(true, Ordering::Release);
        let sent = self
            .orders
            .as_ref()
            .is_some_and(|orders| orders.try_send(positions).is_ok());
        if !sent {
            self.busy.store(false, Ordering::Release);
        }
        sent
    }

    /// Waits for the commit under way.
    pub(super) fn wait(&self) {
        while self.is_busy()
            && self
                .thread
                .as_ref()
                .is_some_and(|thread| !thread.is_finished())
        {
            thread::park_timeout(std::time::Duration::from_millis(10));
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.orders.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(
    orders: &Receiver<Vec<Position>>,
    consumer: &BaseConsumer<Listener>,
    shared: &Shared,
    over: impl Fn(bool),
) {
    while let Ok(positions) = orders.recv() {
        let mut good = commit(consumer, shared, &positions);
        if let Err(error) = &good
            && is_of_a_topic(error)
        {
            // The client tells of all what it heard of one: asked topic by topic it tells which.
            let topic_of = |position: &Position| Arc::clone(&position.at.topic);
            let topics: BTreeSet<Arc<str>> = positions.iter().map(topic_of).collect();
            for topic in topics {
                let of_it = positions.iter().filter(|one| one.at.topic == topic);
                let of_it: Vec<Position> = of_it.cloned().collect();
                good = good.and(commit(consumer, shared, &of_it));
            }
        }
        over(good.is_ok());
    }
}

/// Whether a commit was refused for what lies with one topic.
fn is_of_a_topic(error: &Error) -> bool {
    let code = match error {
        Error::Client(error) => error.rdkafka_error_code(),
        _ => None,
    };
    code == Some(RDKafkaErrorCode::UnknownTopicOrPartition)
}

/// Commits these, and notes that they are, or that they are not: then they stay to be committed, by whoever
/// owns the partitions then.
fn commit(
    consumer: &BaseConsumer<Listener>,
    shared: &Shared,
    positions: &[Position],
) -> Result<(), Error> {
    let committed = ask(consumer, positions).map_err(|error| {
        let code = error.rdkafka_error_code();
        Error::from(error).concerning(|| shared.settings.concerned(code, ""))
    });
    let mut state = shared.lock();
    match &committed {
        Ok(()) => {
            state.counts.commits += 1;
            for position in positions {
                if let Some(partition) = state.partitions.get_mut(&*position.at) {
                    partition.committed(position);
                }
            }
        }
        Err(error) => {
            state.counts.commits_failed += 1;
            if !comes_again(error) {
                state.fail(error.clone());
            }
        }
    }
    committed
}

fn ask(consumer: &BaseConsumer<Listener>, positions: &[Position]) -> KafkaResult<()> {
    // Whoever was expelled has no name until it joins anew. The commit of somebody without a name is taken
    // as long as the group has no members: it would undo what others committed meanwhile.
    if !is_member(consumer) {
        return Err(KafkaError::ConsumerCommit(
            RDKafkaErrorCode::UnknownMemberId,
        ));
    }
    let mut list = TopicPartitionList::new();
    for position in positions {
        let (topic, number) = (&position.at.topic, position.at.partition);
        list.add_partition_offset(topic, number, Offset::Offset(position.next))?;
    }
    consumer.commit(&list, CommitMode::Sync)
}

/// Whether the same may be committed later: the group is changing, or the brokers did not answer.
fn comes_again(error: &Error) -> bool {
    let Error::Client(error) = error else {
        return false;
    };
    !matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::OffsetMetadataTooLarge | RDKafkaErrorCode::InvalidArgument)
    )
}
