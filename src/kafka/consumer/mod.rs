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
pub use shared::ConsumerCounts;
pub(super) use thread::patiently;

use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};

use super::error::Error;
use super::ffi::known_end;
use super::properties::Properties;
use super::record::{Record, TopicPartition};
use crate::flow::Flow;
use crate::operator::Answer;
use crate::position::Lag;
use crate::sync::lock;
use crate::time;
use crate::topology::NodeSpec;
use operator::ConsumerStage;
use partition::Partition;
use settings::Commits;
use shared::{Order, Shared};

/// How long the brokers may take to say what is committed.
const COMMITTED: Duration = Duration::from_secs(10);

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
    let shared = Arc::new(Shared::new(settings, 1));
    let flow = lane(&shared, 0);
    (ConsumerHandle { shared }, flow)
}

/// The records of topics in several flows, so that a partition that is slow or poisoned does not hold up the
/// others: partition number `n` is dealt to flow `n` modulo their number. With as many flows as a topic has
/// partitions each has its own.
///
/// Each flow has its own demand, window and account; one consumer reads for all of them. All of them must be
/// run: what is dealt to one that is not run is not read. Run as one pipeline they end together. Run apart,
/// one that stops with an error does not stop the others: its partitions stay with this consumer, unread from
/// the record it stopped at, until the last flow has ended and the consumer leaves its group. Otherwise as
/// [`source`].
///
/// # Example
/// ```no_run
/// use forebay::flow::Flow;
/// use forebay::kafka::{self, Connection, ConsumerSettings, Record};
///
/// fn handle(flow: Flow<Record>) -> Flow<usize> {
///     flow.map_async(4, |record| async move { record.len() })
/// }
/// let settings = ConsumerSettings::new(Connection::to("localhost:9092"), "sizes").topics(["orders"]);
/// let (_handle, flows) = kafka::partitioned(settings, 6);
/// let mut flows = flows.into_iter().map(handle);
/// if let Some(first) = flows.next() {
///     first.merge(flows).for_each(|bytes| println!("{bytes}")).block_on()?;
/// }
/// # Ok::<(), forebay::error::RunError>(())
/// ```
pub fn partitioned(
    settings: ConsumerSettings,
    flows: usize,
) -> (ConsumerHandle, Vec<Flow<Record>>) {
    let flows = flows.max(1);
    let shared = Arc::new(Shared::new(settings, flows));
    let flows = (0..flows).map(|number| lane(&shared, number).named(format!("kafka {number}")));
    let flows = flows.collect();
    (ConsumerHandle { shared }, flows)
}

/// One of the flows of a consumer.
fn lane(shared: &Arc<Shared>, number: usize) -> Flow<Record> {
    let settings = &shared.settings;
    let own = Arc::clone(shared);
    let mut flow = Flow::from_operator(spec(settings.commits), move |accounts| {
        let shared = Arc::downgrade(&own);
        accounts.tells_lag(move || {
            let lag = shared.upgrade().map(|shared| {
                let lag = lag_where(&shared, |partition| partition.lane == number);
                lag.into_iter().map(Lag::from).collect()
            });
            lag.unwrap_or_default()
        });
        ConsumerStage::new(own, number, accounts)
    });
    if settings.origin {
        flow = flow.keeps_origin();
    }
    // What was committed is not read again, however it ends.
    if settings.commits == Commits::Before {
        flow = flow.on_unresolved(Answer::Continue);
    }
    match settings.checked() {
        Ok(_) => flow,
        Err(why) => flow.refused(why.to_string()),
    }
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

/// How far the partitions behind are of which that holds.
fn lag_where(shared: &Shared, counts: impl Fn(&Partition) -> bool) -> Vec<PartitionLag> {
    // Kept, so that the client is not closed here instead of by its own thread.
    let consumer = lock(&shared.consumer);
    let now = time::now();
    let state = shared.lock();
    let of = |partition: &Partition| PartitionLag {
        at: (*partition.at).clone(),
        end: consumer
            .as_ref()
            .and_then(|consumer| known_end(consumer, &partition.at.topic, partition.at.partition)),
        committed: partition.last_committed(),
        processed: partition.next_unsettled(),
        queued: partition.queued() as u64,
        in_flight: partition.tracker.outstanding(),
        oldest_age: partition.oldest_age(now),
    };
    let counted = state.held().filter(|partition| counts(partition));
    counted.map(of).collect()
}

/// How far a partition is behind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionLag {
    /// Which partition.
    pub at: TopicPartition,
    /// Behind its last record, as far as the client has heard: it hears with each fetch. Where only
    /// committed records are read, behind the last of which that is decided.
    pub end: Option<i64>,
    /// The offset that was committed last: by this consumer, or by its group before it had the partition.
    pub committed: Option<i64>,
    /// The first record that is not settled, or the one behind the last; what was committed before it had
    /// the partition, where it reads on from there.
    pub processed: Option<i64>,
    /// Records taken from the client and not handed over.
    pub queued: u64,
    /// Records handed over, from the first that is not settled.
    pub in_flight: u64,
    /// How long the oldest of them has been inside, to 10 ms.
    pub oldest_age: Option<Duration>,
}

impl From<PartitionLag> for Lag {
    fn from(lag: PartitionLag) -> Lag {
        Lag {
            of: lag.at.to_string(),
            end: lag.end,
            committed: lag.committed,
            processed: lag.processed,
            queued: lag.queued,
            in_flight: lag.in_flight,
            oldest_age: lag.oldest_age,
        }
    }
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

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> ConsumerCounts {
        self.shared.lock().counts
    }

    /// How far each partition it has is behind. The snapshot of a run tells the same of its sources.
    #[must_use]
    pub fn lag(&self) -> Vec<PartitionLag> {
        lag_where(&self.shared, |_| true)
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

    /// How often partitions came or went.
    pub(super) fn rebalances(&self) -> u64 {
        self.shared.lock().counts.rebalances
    }

    /// What its client is told.
    pub(super) fn properties(&self) -> Result<Properties, Error> {
        self.shared.settings.properties()
    }

    /// What its group has committed of these, else 0. It asks the brokers, and blocks.
    pub(super) fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<Vec<(TopicPartition, i64)>, Error> {
        let consumer = lock(&self.shared.consumer).clone();
        let (Some(consumer), false) = (consumer, partitions.is_empty()) else {
            return Ok(Vec::new());
        };
        let mut list = TopicPartitionList::new();
        for at in partitions {
            list.add_partition(&at.topic, at.partition);
        }
        let found = patiently(|| consumer.committed_offsets(list.clone(), COMMITTED))?;
        let found = found.elements();
        let found = found.iter().map(|one| {
            let from = match one.offset() {
                Offset::Offset(from) => from,
                _ => 0,
            };
            (TopicPartition::new(one.topic(), one.partition()), from)
        });
        Ok(found.collect())
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
