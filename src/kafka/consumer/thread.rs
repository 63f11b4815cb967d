//! The thread that owns the client: it serves its events, takes records over, answers rebalances.
//!
//! It never blocks for the flow. Where there is no room for a partition's records they stay in that
//! partition's own queue in the client, which fetches until that is full, and no further; the others
//! go on. So back-pressure needs no pause, which would throw away what was fetched.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};

use super::commits::Committer;
use super::partition::{Partition, Phase, Position};
use super::settings::{Commits, ReadFrom};
use super::shared::{Order, Shared};
use crate::kafka::error::Error;
use crate::kafka::ffi::PartitionQueue;
use crate::kafka::record::{Parts, Record, Timestamp, TopicPartition, Writer};
use crate::kafka::throttle::Throttle;
use crate::sync::{Mutex, lock};

/// Records of a partition taken in one go, before the next has its turn.
const TURN: usize = 2048;
/// Events of the client served in one go, before records have their turn.
const EVENTS: usize = 1000;
/// How long the thread sleeps at most: the client wants to be asked now and then.
const REST: Duration = Duration::from_millis(100);
/// How often it looks whether what is taken away has drained.
const LOOK: Duration = Duration::from_millis(2);
/// How long an answer of the brokers is waited for that can be done without.
const A_MOMENT: Duration = Duration::from_millis(500);
/// How long an answer of the brokers is waited for, where the thread has to.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the client tells. It is called by this thread alone, within its `poll`.
pub(super) struct Listener {
    shared: Arc<Shared>,
    changes: Mutex<VecDeque<Change>>,
    /// How often it was told anything.
    told: AtomicU64,
    throttle: Throttle,
    /// The consumer is closed: nobody looks at the changes any more.
    closing: AtomicBool,
}

/// A rebalance. It is carried out after the poll, where it may take its time.
enum Change {
    Assigned(TopicPartitionList),
    Revoked {
        list: TopicPartitionList,
        lost: bool,
    },
}

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.told.fetch_add(1, Ordering::Relaxed);
        crate::kafka::log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.told.fetch_add(1, Ordering::Relaxed);
        self.throttle.hear(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // What is fatal comes where records come as well, and is explained there.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            return;
        }
        let settings = &self.shared.settings;
        if let Some(told) = Error::asynchronous(&error, reason) {
            let told = told.concerning(|| settings.concerned(error.rdkafka_error_code(), reason));
            self.shared.lock().fail(told);
        }
    }
}

impl ConsumerContext for Listener {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        self.told.fetch_add(1, Ordering::Relaxed);
        let change = match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Change::Assigned(list.clone()),
            _ => Change::Revoked {
                list: list.clone(),
                lost: consumer.assignment_lost(),
            },
        };
        if self.closing.load(Ordering::Relaxed) {
            // What there was to commit is committed.
            let _ = match change {
                Change::Revoked { list, .. } => unassign(consumer, &list),
                Change::Assigned(list) => assign(consumer, &list),
            };
            return;
        }
        lock(&self.changes).push_back(change);
    }
}

/// Asks the brokers once more while they have nobody who could answer: a leader or a coordinator moves.
pub(in crate::kafka) fn patiently<V>(ask: impl Fn() -> KafkaResult<V>) -> Result<V, Error> {
    let until = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) if is_passing(&error) && Instant::now() < until => {
                thread::sleep(Duration::from_millis(50));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::NotCoordinator
                | Code::CoordinatorLoadInProgress
                | Code::CoordinatorNotAvailable
                | Code::WaitingForCoordinator
                | Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
                | Code::BrokerTransportFailure
                | Code::OperationTimedOut
                | Code::RequestTimedOut
        )
    )
}

fn is_cooperative(consumer: &BaseConsumer<Listener>) -> bool {
    matches!(
        consumer.rebalance_protocol(),
        RebalanceProtocol::Cooperative
    )
}

fn assign(consumer: &BaseConsumer<Listener>, list: &TopicPartitionList) -> KafkaResult<()> {
    if is_cooperative(consumer) {
        consumer.incremental_assign(list)
    } else {
        consumer.assign(list)
    }
}

fn unassign(consumer: &BaseConsumer<Listener>, list: &TopicPartitionList) -> KafkaResult<()> {
    if is_cooperative(consumer) {
        consumer.incremental_unassign(list)
    } else {
        consumer.unassign()
    }
}

/// The partitions of a list.
fn places(list: &TopicPartitionList) -> Vec<TopicPartition> {
    let elements = list.elements();
    let places = elements
        .iter()
        .map(|element| TopicPartition::new(element.topic(), element.partition()));
    places.collect()
}

/// A partition's queue in the client, and what its records are written with.
struct Intake {
    queue: PartitionQueue<Listener>,
    writer: Writer,
}

/// Partitions on their way to other members.
struct Revocation {
    list: TopicPartitionList,
    places: Vec<TopicPartition>,
    until: Instant,
    /// All that can be committed is being committed.
    committing: bool,
}

/// Whatever the thread ends with, the flow hears of it.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.ended = true;
        state.thread = None;
        if thread::panicking() {
            let what = "the reading thread panicked".to_owned();
            state.error.get_or_insert(Error::Thread(what));
        }
        state.wake();
    }
}

/// Starts the thread.
pub(super) fn start(shared: &Arc<Shared>) -> Result<(), Error> {
    let own = Arc::clone(shared);
    let name = "kafka-consumer".to_owned();
    let started = thread::Builder::new().name(name).spawn(move || {
        let ending = Ending(Arc::clone(&own));
        if let Err(error) = Reader::run(&own) {
            own.lock().fail(error);
        }
        drop(ending);
    });
    match started {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::Thread(error.to_string())),
    }
}

struct Reader<'a> {
    shared: &'a Arc<Shared>,
    consumer: Arc<BaseConsumer<Listener>>,
    intakes: BTreeMap<TopicPartition, Intake>,
    revocations: Vec<Revocation>,
    committer: Committer,
    last_commit: Instant,
    /// How many partitions each topic had when this consumer came to its group; none before.
    at_first: Option<BTreeMap<String, i32>>,
    /// Under at-most-once: records whose positions are to be committed before they are handed over, and
    /// those whose positions are being committed.
    unconfirmed: BTreeMap<TopicPartition, Vec<Record>>,
    confirming: BTreeMap<TopicPartition, Vec<Record>>,
}

impl<'a> Reader<'a> {
    fn run(shared: &'a Arc<Shared>) -> Result<(), Error> {
        let listener = Listener {
            shared: Arc::clone(shared),
            changes: Mutex::new(VecDeque::new()),
            told: AtomicU64::new(0),
            throttle: Throttle::new(shared.settings.pressure.as_ref()),
            closing: AtomicBool::new(false),
        };
        let config = shared.settings.checked()?;
        let mut consumer: BaseConsumer<Listener> = config.create_with_context(listener)?;
        let this = thread::current();
        shared.lock().thread = Some(this.clone());
        consumer.set_nonempty_callback(move || this.unpark());
        consumer.subscribe(&shared.settings.topics.subscription())?;
        let consumer = Arc::new(consumer);
        *lock(&shared.consumer) = Some(Arc::clone(&consumer));
        let committer = Committer::start(&consumer, shared)?;
        let mut reader = Reader {
            shared,
            consumer,
            intakes: BTreeMap::new(),
            revocations: Vec::new(),
            committer,
            last_commit: Instant::now(),
            at_first: None,
            unconfirmed: BTreeMap::new(),
            confirming: BTreeMap::new(),
        };
        let served = reader.serve();
        reader.close();
        served
    }

    fn serve(&mut self) -> Result<(), Error> {
        loop {
            self.serve_events()?;
            self.serve_orders();
            self.serve_revocations();
            self.seek();
            let took = self.take_records()?;
            self.confirm();
            self.commit();
            if self.shared.lock().stopping {
                return Ok(());
            }
            if !took {
                let rest = if self.revocations.is_empty() {
                    REST.min(self.shared.settings.commit_every)
                } else {
                    LOOK
                };
                thread::park_timeout(rest);
            }
        }
    }

    /// Has the client call back, and carries out what that came to.
    fn serve_events(&mut self) -> Result<(), Error> {
        let consumer = Arc::clone(&self.consumer);
        let told = &consumer.context().told;
        for _ in 0..EVENTS {
            let before = told.load(Ordering::Relaxed);
            let Some(polled) = consumer.poll(Duration::ZERO) else {
                // Nothing is given also where the listener was told something: more may wait behind it.
                if told.load(Ordering::Relaxed) == before {
                    break;
                }
                self.serve_changes()?;
                continue;
            };
            match polled {
                // It was there before its partition had a queue of its own.
                Ok(message) => self.stray(&message),
                Err(KafkaError::MessageConsumptionFatal(code)) => {
                    return Err(Error::Fatal(code.to_string()).explained(consumer.client()));
                }
                Err(error) => {
                    if let Some(code) = error.rdkafka_error_code() {
                        self.is_fatal(code, None)?;
                    }
                }
            }
            self.serve_changes()?;
        }
        self.serve_changes()
    }

    fn serve_changes(&mut self) -> Result<(), Error> {
        loop {
            let change = lock(&self.consumer.context().changes).pop_front();
            match change {
                None => return Ok(()),
                Some(Change::Assigned(list)) => self.assigned(list)?,
                Some(Change::Revoked { list, lost }) => self.revoked(list, lost)?,
            }
        }
    }

    /// What an error means that came where records come: most are noise of the transport, which the
    /// client tries again by itself.
    fn is_fatal(&self, code: RDKafkaErrorCode, at: Option<&TopicPartition>) -> Result<(), Error> {
        let place = at.map(ToString::to_string);
        let topics = || self.shared.settings.topics.subscription().join(", ");
        match code {
            // Topics of a pattern come and go.
            RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownPartition
                if self.shared.settings.topics.is_pattern() =>
            {
                Ok(())
            }
            RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition => {
                let topic = at.map_or_else(topics, |at| at.topic.to_string());
                Err(Error::UnknownTopic { topic })
            }
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::NoOffset => {
                Err(Error::NoOffset {
                    at: place.unwrap_or_else(topics),
                    why: code.to_string(),
                })
            }
            RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed => Err(Error::Authorization {
                what: place.unwrap_or_else(|| self.shared.settings.concerned(Some(code), "")),
                why: code.to_string(),
            }),
            _ => Ok(()),
        }
    }

    fn assigned(&mut self, mut list: TopicPartitionList) -> Result<(), Error> {
        let places = places(&list);
        self.begin(&mut list, &places)?;
        let mut paused = TopicPartitionList::new();
        for place in &places {
            let at = Arc::new(place.clone());
            let wakes = thread::current();
            let (topic, number) = (&place.topic, place.partition);
            // Before the assignment: then nothing comes out where all partitions do.
            let Some(queue) = PartitionQueue::split(&self.consumer, topic, number, wakes) else {
                return Err(Error::UnknownTopic {
                    topic: topic.to_string(),
                });
            };
            let writer = Writer::new(Arc::clone(&at));
            self.intakes.insert(place.clone(), Intake { queue, writer });
            let mut state = self.shared.lock();
            if state.paused.contains(place) {
                paused.add_partition(&place.topic, place.partition);
            }
            match state.partitions.get_mut(place) {
                Some(partition) => partition.assign(),
                None => {
                    let lane = state.lane_of(place);
                    let accounts = state.lanes.get(lane).and_then(|lane| lane.accounts.clone());
                    let Some(accounts) = accounts else {
                        continue;
                    };
                    let partition = Partition::new(at, lane, accounts.tracker());
                    state.partitions.insert(place.clone(), partition);
                }
            }
        }
        assign(&self.consumer, &list)?;
        if paused.count() > 0 {
            self.consumer.pause(&paused)?;
        }
        self.ask_for_committed(&places);
        let mut state = self.shared.lock();
        state.counts.rebalances += 1;
        state.wake();
        Ok(())
    }

    /// Asks what the group has committed of these, so that their lag is known before a record comes. Nothing
    /// else depends on it.
    fn ask_for_committed(&self, places: &[TopicPartition]) {
        let mut list = TopicPartitionList::new();
        for place in places {
            list.add_partition(&place.topic, place.partition);
        }
        if list.count() == 0 {
            return;
        }
        let Ok(list) = self.consumer.committed_offsets(list, A_MOMENT) else {
            return;
        };
        let begins = self.shared.settings.start.from == ReadFrom::Committed;
        let mut state = self.shared.lock();
        for element in list.elements() {
            let place = TopicPartition::new(element.topic(), element.partition());
            if let (Offset::Offset(next), Some(partition)) =
                (element.offset(), state.partitions.get_mut(&place))
            {
                partition.was_committed(next, begins);
            }
        }
    }

    /// Where partitions are begun that this process has for the first time.
    fn begin(
        &mut self,
        list: &mut TopicPartitionList,
        places: &[TopicPartition],
    ) -> Result<(), Error> {
        let from = self.shared.settings.start.from;
        let known = |place: &&TopicPartition| !self.shared.lock().partitions.contains_key(*place);
        let new: Vec<TopicPartition> = places.iter().filter(known).cloned().collect();
        let at_first = self.partitions_at_first()?;
        let is_grown = |place: &TopicPartition| {
            let count = at_first.get(&*place.topic).copied().unwrap_or(0);
            matches!(from, ReadFrom::Committed | ReadFrom::Latest) && place.partition >= count
        };
        let (grown, old): (Vec<_>, Vec<_>) = new.into_iter().partition(is_grown);
        for (place, offset) in self.offsets(&grown, ReadFrom::Committed)? {
            // What was written before anybody had noticed it came after all that was there at first.
            let offset = match offset {
                Offset::Stored => Offset::Beginning,
                committed => committed,
            };
            list.set_partition_offset(&place.topic, place.partition, offset)?;
        }
        if from == ReadFrom::Committed {
            return Ok(());
        }
        for (place, offset) in self.offsets(&old, from)? {
            list.set_partition_offset(&place.topic, place.partition, offset)?;
        }
        Ok(())
    }

    /// Asks for the number of partitions of each topic, the first time.
    fn partitions_at_first(&mut self) -> Result<&BTreeMap<String, i32>, Error> {
        if self.at_first.is_none() {
            let metadata = patiently(|| self.consumer.fetch_metadata(None, PATIENCE))?;
            let topics = metadata.topics().iter();
            let counts = topics.map(|topic| {
                let count = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
                (topic.name().to_owned(), count)
            });
            self.at_first = Some(counts.collect());
        }
        Ok(self.at_first.get_or_insert_default())
    }

    /// Where that is in each of the partitions.
    fn offsets(
        &self,
        places: &[TopicPartition],
        from: ReadFrom,
    ) -> Result<Vec<(TopicPartition, Offset)>, Error> {
        if places.is_empty() {
            return Ok(Vec::new());
        }
        let all = |offset: Offset| places.iter().cloned().map(|at| (at, offset)).collect();
        let mut list = TopicPartitionList::new();
        let found = match from {
            ReadFrom::Earliest => return Ok(all(Offset::Beginning)),
            ReadFrom::Latest => return Ok(all(Offset::End)),
            ReadFrom::Offset(offset) => return Ok(all(Offset::Offset(offset))),
            ReadFrom::Time(at) => {
                for place in places {
                    let (topic, number) = (&place.topic, place.partition);
                    list.add_partition_offset(topic, number, Offset::Offset(at))?;
                }
                patiently(|| self.consumer.offsets_for_times(list.clone(), PATIENCE))?
            }
            ReadFrom::Committed => {
                for place in places {
                    list.add_partition(&place.topic, place.partition);
                }
                patiently(|| self.consumer.committed_offsets(list.clone(), PATIENCE))?
            }
        };
        let offset = |offset| match offset {
            // Nothing is so late, or was committed.
            Offset::Invalid => Offset::Stored,
            offset => offset,
        };
        let offsets = found.elements();
        let offsets = offsets.iter().map(|one| {
            let place = TopicPartition::new(one.topic(), one.partition());
            (place, offset(one.offset()))
        });
        Ok(offsets.collect())
    }

    fn revoked(&mut self, list: TopicPartitionList, lost: bool) -> Result<(), Error> {
        let revocation = Revocation {
            places: places(&list),
            list,
            until: Instant::now() + self.shared.settings.drain,
            committing: false,
        };
        if lost {
            return self.let_go(&revocation);
        }
        let before = self.shared.settings.commits == Commits::Before;
        let mut state = self.shared.lock();
        for place in &revocation.places {
            if let Some(partition) = state.partitions.get_mut(place) {
                partition.revoke(before);
            }
            // Not committed: its next owner reads it.
            self.unconfirmed.remove(place);
        }
        state.flush();
        drop(state);
        self.revocations.push(revocation);
        Ok(())
    }

    /// Lets go of what is settled and committed, or has waited long enough.
    fn serve_revocations(&mut self) {
        let mut revocations = std::mem::take(&mut self.revocations);
        revocations.retain_mut(|revocation| match self.poll_revocation(revocation) {
            Ok(over) => !over,
            Err(error) => {
                self.shared.lock().fail(error);
                false
            }
        });
        self.revocations.append(&mut revocations);
    }

    fn poll_revocation(&mut self, revocation: &mut Revocation) -> Result<bool, Error> {
        let mut over = self.consumer.assignment_lost();
        if !over && !revocation.committing {
            let mut state = self.shared.lock();
            let mut partitions = revocation
                .places
                .iter()
                .filter_map(|place| state.partitions.get(place));
            let confirms = |place| self.confirming.contains_key(place);
            let is_quiet =
                partitions.all(Partition::is_quiet) && !revocation.places.iter().any(confirms);
            let late = Instant::now() >= revocation.until;
            if !is_quiet && !late && !state.stopping {
                return Ok(false);
            }
            state.counts.drained_late += u64::from(!is_quiet);
            drop(state);
            // One that is under way might be of a time before the last of them was settled.
            revocation.committing = !self.committer.is_busy() && self.commit_now();
            over = !revocation.committing && !self.committer.is_busy();
        }
        if revocation.committing {
            over |= !self.committer.is_busy();
        }
        if over {
            self.let_go(revocation)?;
        }
        Ok(over)
    }

    fn let_go(&mut self, revocation: &Revocation) -> Result<(), Error> {
        let mut state = self.shared.lock();
        for place in &revocation.places {
            if let Some(partition) = state.partitions.get_mut(place) {
                partition.lose();
            }
        }
        state.counts.rebalances += 1;
        state.wake();
        drop(state);
        let gone = unassign(&self.consumer, &revocation.list);
        for place in &revocation.places {
            self.intakes.remove(place);
        }
        // Of what is lost already the client need not be told.
        match gone {
            Err(error) if !self.consumer.assignment_lost() => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn serve_orders(&mut self) {
        loop {
            let order = self.shared.lock().orders.pop_front();
            let done = match order {
                None => return,
                Some(Order::Pause(places)) => self.pause(&places),
                Some(Order::Resume(places)) => self.resume(&places),
                Some(Order::Replay(places, from)) => self.replay(places, from),
            };
            if let Err(error) = done {
                self.shared.lock().fail(error);
            }
        }
    }

    fn pause(&mut self, places: &[TopicPartition]) -> Result<(), Error> {
        let list = self.owned_of(places);
        self.shared.lock().paused.extend(places.iter().cloned());
        if list.count() > 0 {
            self.consumer.pause(&list)?;
        }
        Ok(())
    }

    fn resume(&mut self, places: &[TopicPartition]) -> Result<(), Error> {
        let mut state = self.shared.lock();
        let paused: Vec<TopicPartition> = places
            .iter()
            .filter(|place| state.paused.remove(*place))
            .cloned()
            .collect();
        drop(state);
        // One that is not paused would be read twice: the client starts it anew.
        let list = self.owned_of(&paused);
        if list.count() > 0 {
            self.consumer.resume(&list)?;
        }
        Ok(())
    }

    fn is_owned(&self, place: &TopicPartition) -> bool {
        let state = self.shared.lock();
        state.partitions.get(place).is_some_and(Partition::is_owned)
    }

    fn owned_of(&self, places: &[TopicPartition]) -> TopicPartitionList {
        let state = self.shared.lock();
        let mut list = TopicPartitionList::new();
        for place in places {
            if state.partitions.get(place).is_some_and(Partition::is_owned) {
                list.add_partition(&place.topic, place.partition);
            }
        }
        list
    }

    /// Finds where to go to; the flow goes there, so that what it has handed over is given up first.
    fn replay(&mut self, places: Option<Vec<TopicPartition>>, from: ReadFrom) -> Result<(), Error> {
        let owned: Vec<TopicPartition> = {
            let state = self.shared.lock();
            let owned = state.partitions.iter().filter(|(place, partition)| {
                partition.is_owned() && places.as_ref().is_none_or(|some| some.contains(place))
            });
            owned.map(|(place, _)| place.clone()).collect()
        };
        for (place, offset) in self.offsets(&owned, from)? {
            let to = match offset {
                Offset::Offset(offset) => offset,
                end => {
                    let (topic, number) = (&place.topic, place.partition);
                    let (low, high) =
                        patiently(|| self.consumer.fetch_watermarks(topic, number, PATIENCE))?;
                    if end == Offset::Beginning { low } else { high }
                }
            };
            let mut state = self.shared.lock();
            if let Some(partition) = state.partitions.get_mut(&place) {
                partition.replay_from = Some(to);
            }
            state.wake();
        }
        Ok(())
    }

    /// Goes where the flow said.
    fn seek(&mut self) {
        let seeks: Vec<(TopicPartition, i64)> = {
            let mut state = self.shared.lock();
            let seeks = state.owned().filter_map(|partition| {
                let to = partition.seek?;
                Some(((*partition.at).clone(), to))
            });
            seeks.collect()
        };
        for (place, to) in seeks {
            self.unconfirmed.remove(&place);
            self.confirming.remove(&place);
            let (topic, number) = (&place.topic, place.partition);
            let gone = self
                .consumer
                .seek(topic, number, Offset::Offset(to), PATIENCE);
            let mut state = self.shared.lock();
            // It fails as long as the partition is not being fetched: tried again at the next turn.
            if gone.is_ok()
                && let Some(partition) = state.partitions.get_mut(&place)
                && partition.seek == Some(to)
            {
                partition.seek = None;
            }
        }
    }

    /// Takes over what there is room for. Whether it took anything.
    fn take_records(&mut self) -> Result<bool, Error> {
        let mut took = false;
        let capacity = self.shared.settings.hand_over;
        let before = self.shared.settings.commits == Commits::Before;
        for (place, intake) in &mut self.intakes {
            let room = {
                let mut state = self.shared.lock();
                let lane = state.lane_of(place);
                let is_draining = state.is_draining(lane);
                let Some(partition) = state.partitions.get_mut(place) else {
                    continue;
                };
                if is_draining || !partition.takes() {
                    continue;
                }
                let waiting = |some: &BTreeMap<_, Vec<Record>>| some.get(place).map_or(0, Vec::len);
                let waiting = waiting(&self.unconfirmed) + waiting(&self.confirming);
                let room = partition.room(capacity).saturating_sub(waiting);
                // Asked again when half of it is free: a record at a time would cost a turn each.
                partition.is_short = room == 0;
                room.min(TURN)
            };
            if room == 0 {
                continue;
            }
            let mut failed = None;
            let writer = &mut intake.writer;
            let count = intake.queue.take(room, |taken| match taken {
                Ok(parts) => writer.push(parts),
                Err(code) => failed = Some(code),
            });
            took |= count > 0;
            if !intake.writer.is_empty() {
                let (records, _) = intake.writer.finish();
                if before {
                    let unconfirmed = self.unconfirmed.entry(place.clone());
                    unconfirmed.or_default().extend(records);
                } else {
                    hand_over(self.shared, place, records, false);
                }
            }
            if let Some(code) = failed {
                let place = place.clone();
                self.is_fatal(code, Some(&place))?;
                return Ok(true);
            }
        }
        Ok(took)
    }

    /// A record that came where all partitions' do.
    fn stray(&mut self, message: &impl Message) {
        let place = TopicPartition::new(message.topic(), message.partition());
        let mut writer = Writer::new(Arc::new(place.clone()));
        let timestamp = match message.timestamp() {
            rdkafka::Timestamp::NotAvailable => Timestamp::Unknown,
            rdkafka::Timestamp::CreateTime(at) => Timestamp::Created(at),
            rdkafka::Timestamp::LogAppendTime(at) => Timestamp::Appended(at),
        };
        let headers = message.headers();
        writer.push(Parts {
            offset: message.offset(),
            timestamp,
            key: message.key(),
            value: message.payload(),
            headers: headers
                .into_iter()
                .flat_map(rdkafka::message::Headers::iter)
                .map(|header| (header.key.as_bytes(), header.value)),
        });
        let (records, _) = writer.finish();
        if self.shared.settings.commits == Commits::Before {
            self.unconfirmed.entry(place).or_default().extend(records);
        } else {
            hand_over(self.shared, &place, records, false);
        }
    }

    /// Under at-most-once: hands over what is committed, and commits what came meanwhile.
    fn confirm(&mut self) {
        if self.shared.settings.commits != Commits::Before || self.committer.is_busy() {
            return;
        }
        let good = self.committer.came_through();
        for (place, records) in std::mem::take(&mut self.confirming) {
            if good {
                hand_over(self.shared, &place, records, true);
            } else if self.is_owned(&place) {
                // Once more, with what came behind it.
                let behind = self.unconfirmed.entry(place).or_default();
                behind.splice(0..0, records);
            }
        }
        self.confirming = std::mem::take(&mut self.unconfirmed);
        let positions = self.confirming.iter().filter_map(|(place, records)| {
            Some(Position {
                at: Arc::new(place.clone()),
                sequence: None,
                next: records.last()?.offset() + 1,
            })
        });
        let positions: Vec<Position> = positions.collect();
        let is_confirmed = positions.is_empty() || !self.committer.commit(positions);
        let mut state = self.shared.lock();
        if state.is_confirmed != is_confirmed {
            state.is_confirmed = is_confirmed;
            state.wake();
        }
    }

    /// Commits what is settled, if it is time.
    fn commit(&mut self) {
        if self.committer.is_busy() || self.shared.settings.commits != Commits::Settled {
            return;
        }
        let settings = &self.shared.settings;
        let is_due = self.last_commit.elapsed() >= settings.commit_every || {
            let mut state = self.shared.lock();
            let settled: u64 = state.owned().map(|partition| partition.uncommitted()).sum();
            settled >= settings.commit_after
        };
        if is_due {
            self.commit_now();
        }
    }

    /// Begins a commit of what is settled; whether there is anything.
    fn commit_now(&mut self) -> bool {
        self.last_commit = Instant::now();
        if self.shared.settings.commits != Commits::Settled {
            return false;
        }
        let positions: Vec<_> = {
            let state = self.shared.lock();
            state.held().filter_map(Partition::to_commit).collect()
        };
        !positions.is_empty() && self.committer.commit(positions)
    }

    /// Commits what is settled, and leaves the group.
    fn close(mut self) {
        self.committer.wait();
        if !self.consumer.assignment_lost() && self.commit_now() {
            self.committer.wait();
        }
        // The client cannot leave while it waits for these to be let go.
        for revocation in std::mem::take(&mut self.revocations) {
            let _ = unassign(&self.consumer, &revocation.list);
        }
        let mut state = self.shared.lock();
        for partition in state.partitions.values_mut() {
            partition.phase = Phase::Lost;
        }
        drop(state);
        let Reader {
            shared,
            consumer,
            intakes,
            committer,
            ..
        } = self;
        // All of these hold the client; it closes when the last is gone, which is here.
        drop(intakes);
        drop(committer);
        lock(&shared.consumer).take();
        consumer.context().closing.store(true, Ordering::Relaxed);
        drop(consumer);
    }
}

fn hand_over(shared: &Shared, place: &TopicPartition, records: Vec<Record>, committed: bool) {
    let mut state = shared.lock();
    if let Some(partition) = state.partitions.get_mut(place) {
        partition.push(records, committed);
    }
    state.wake_lane_of(place);
}
