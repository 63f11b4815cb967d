//! Reading topics: a thread that reads, one that commits, and a stage that hands over.

mod commits;
mod operator;
mod partition;
mod settings;
mod shared;
mod thread;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub(super) use operator::Positions;
pub use settings::{Assignment, ConsumerSettings, Isolation, ReadFrom, Start};

use super::ffi::known_end;
use super::record::{Record, TopicPartition};
use crate::flow::Flow;
use crate::operator::Answer;
use crate::sync::lock;
use crate::time;
use crate::topology::NodeSpec;
use operator::ConsumerStage;
use settings::Commits;
use shared::{Order, Shared};

/// The records of topics, and a handle to the consumer.
///
/// - *emits when* records came and there is demand, the partitions in turn.
/// - *back-pressures when* there is no demand, or a whole window of a partition's records is not
///   settled yet: records are left in the client then, which fetches up to
///   [`prefetch`](ConsumerSettings::prefetch) and no further. The group is kept all the while.
/// - *completes when* the run drains: all that was handed over is settled and committed, and the
///   consumer has left its group.
/// - *cancels when* downstream cancels; what is settled by then is committed.
/// - *settles when* its records are settled downstream; the positions follow, and are committed.
/// - *holds* [`hand_over`](ConsumerSettings::hand_over) records of each partition that are not in the
///   flow yet.
/// - *costs* two threads, and an allocation for each batch of records.
///
/// # Errors
/// The run stops with [`kafka::Error`](super::Error) when the settings cannot be, when the brokers do not let it in, or when
/// a topic does not exist.
pub fn source(settings: ConsumerSettings) -> (ConsumerHandle, Flow<Record>) {
    let goes_on = settings.commits == Commits::Before;
    let keeps_origin = settings.origin;
    let refusal = settings.checked().err();
    let shared = Arc::new(Shared::new(settings));
    let own = Arc::clone(&shared);
    let spec = spec(own.settings.commits);
    let flow = Flow::from_operator(spec, move |accounts| ConsumerStage::new(own, accounts));
    let flow = if keeps_origin {
        flow.keeps_origin()
    } else {
        flow
    };
    // What was committed is not read again, however it ends.
    let flow = if goes_on {
        flow.on_unresolved(Answer::Continue)
    } else {
        flow
    };
    let flow = match refusal {
        Some(why) => flow.refused(why.to_string()),
        None => flow,
    };
    (ConsumerHandle { shared }, flow)
}

/// What the stage declares: which guarantee it keeps goes by who commits.
fn spec(commits: Commits) -> NodeSpec {
    let spec = NodeSpec::new("kafka").threads();
    match commits {
        Commits::Settled => spec.note("commits what is settled").repeats(
            "hands over again what was not committed before a crash: declare \
             `ConsumerSettings::at_most_once` or `in_transactions`",
        ),
        Commits::Before => spec.note("commits before it hands over").loses(
            "commits records before they are processed: leave `ConsumerSettings::at_most_once` out",
        ),
        Commits::AtBarriers { .. } => spec.note("commits in transactions"),
    }
}

/// How far a partition is behind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionLag {
    /// Which partition.
    pub at: TopicPartition,
    /// Behind its last record, as far as the client has heard: it hears with each fetch. Where only
    /// committed records are read, behind the last of which that is decided.
    pub end: Option<i64>,
    /// The offset this consumer committed last, since it has the partition.
    pub committed: Option<i64>,
    /// The first record that is not settled, or the one behind the last.
    pub processed: Option<i64>,
    /// Records taken from the client and not handed over.
    pub queued: u64,
    /// Records handed over, from the first that is not settled.
    pub in_flight: u64,
    /// How long the oldest of them has been inside, to 10 ms.
    pub oldest_age: Option<Duration>,
}

impl PartitionLag {
    /// Records from the first that is not settled to the end; none where one of both is not known. Gaps
    /// that compaction and transactions leave count as well.
    #[must_use]
    pub fn records(&self) -> Option<u64> {
        let (end, processed) = (self.end?, self.processed?);
        Some(u64::try_from(end - processed).unwrap_or(0))
    }
}

/// A consumer that runs, as seen from outside.
#[derive(Clone)]
pub struct ConsumerHandle {
    shared: Arc<Shared>,
}

impl ConsumerHandle {
    /// The partitions it has now.
    #[must_use]
    pub fn assignment(&self) -> Vec<TopicPartition> {
        let mut state = self.shared.lock();
        let owned = state.owned().map(|partition| (*partition.at).clone());
        owned.collect()
    }

    /// How far each partition it has is behind.
    #[must_use]
    pub fn lag(&self) -> Vec<PartitionLag> {
        let consumer = lock(&self.shared.consumer).clone();
        let now = time::now();
        let state = self.shared.lock();
        let owned = state.held().map(|partition| PartitionLag {
            at: (*partition.at).clone(),
            end: consumer.as_ref().and_then(|consumer| {
                known_end(consumer, &partition.at.topic, partition.at.partition)
            }),
            committed: partition.last_committed(),
            processed: partition.next_unsettled(),
            queued: partition.queued() as u64,
            in_flight: partition.tracker.outstanding(),
            oldest_age: partition.oldest_age(now),
        });
        owned.collect()
    }

    /// Reads these no further, whoever has them in between: one that goes and comes back stays paused.
    pub fn pause(&self, partitions: impl IntoIterator<Item = TopicPartition>) {
        self.order(Order::Pause(partitions.into_iter().collect()));
    }

    /// Reads these on.
    pub fn resume(&self, partitions: impl IntoIterator<Item = TopicPartition>) {
        self.order(Order::Resume(partitions.into_iter().collect()));
    }

    /// Reads all partitions it has again from there. What is in flight is given up as cancelled, in all
    /// partitions; those that are not replayed go back to what is settled.
    pub fn replay(&self, from: ReadFrom) {
        self.order(Order::Replay(None, from));
    }

    /// Reads these partitions again from there.
    pub fn replay_partitions(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
        from: ReadFrom,
    ) {
        self.order(Order::Replay(Some(partitions.into_iter().collect()), from));
    }

    fn order(&self, order: Order) {
        let mut state = self.shared.lock();
        state.orders.push_back(order);
        state.unpark();
    }
}

impl fmt::Debug for ConsumerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerHandle")
            .field("assignment", &self.assignment())
            .finish_non_exhaustive()
    }
}
