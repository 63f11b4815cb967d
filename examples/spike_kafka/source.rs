//! A topic as a source: its own consumer on its own thread, a tracker for each partition.
//!
//! The thread polls, hands records over in queues of a bounded length, and commits what is settled.
//! When partitions are revoked it stops their intake, waits a bounded while for what is inside,
//! commits, and makes the receipts that are still out inert.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use forebay::chunk::{Chunk, Element, Meta};
use forebay::error::{BoxError, Cause, Stop};
use forebay::flow::{Accounts, Flow};
use forebay::mark::{Barrier, CommitToken, Mark};
use forebay::operator::{Answer, Context, Control, Demand, Fill, Held, Operator};
use forebay::position::{Epoch, Generation, Tracker, Unresolved};
use forebay::time::{self, Sleep};
use forebay::topology::NodeSpec;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{
    BaseConsumer, CommitMode, Consumer, ConsumerContext, ConsumerGroupMetadata,
};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};

use super::broker::config;

/// Records of a partition that wait to be handed over.
const QUEUE: usize = 512;
/// For how long the thread does not poll before it pauses the partitions that are full.
const PATIENCE: Duration = Duration::from_millis(20);
/// When a barrier follows one that was not committed.
const BARRIER_AGAIN: Duration = Duration::from_secs(1);
const COMMIT_EVERY: Duration = Duration::from_millis(50);

/// One record.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) payload: Vec<u8>,
}

/// Who commits.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Commits {
    /// The source, what is settled.
    Settled,
    /// A transactional sink, at barriers so far apart.
    AtBarriers(Duration),
}

/// What the proof hears of.
pub(crate) type Hear = Arc<dyn Fn(Event) + Send + Sync>;

/// Something that happened in a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// A record was delivered: partition, offset.
    Delivered(i32, i64),
    /// A partition was revoked, and what lies before the offset is committed.
    Revoked(i32, i64),
}

#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) bootstrap: String,
    pub(crate) group: &'static str,
    pub(crate) topic: &'static str,
    pub(crate) commits: Commits,
    /// How long a revocation waits for what is inside.
    pub(crate) drain: Duration,
    pub(crate) hear: Hear,
}

/// A partition the consumer has, or once had: its tracker is kept.
struct Partition {
    tracker: Tracker<i64>,
    owned: bool,
    /// Being revoked: nothing more is handed over.
    revoking: bool,
    paused: bool,
    queue: VecDeque<Record>,
    /// Where to read again; what arrives before that is done is of the time before.
    seek: Option<i64>,
    /// The first offset received since it was assigned.
    first: Option<i64>,
    /// How far the tracker had settled when it was assigned: elements of other owners' times.
    assigned_at: u64,
    /// How far it had settled at the last commit, and the offset that was committed.
    committed: (u64, Option<i64>),
}

impl Partition {
    fn new(tracker: Tracker<i64>) -> Partition {
        Partition {
            tracker,
            owned: false,
            revoking: false,
            paused: false,
            queue: VecDeque::new(),
            seek: None,
            first: None,
            assigned_at: 0,
            committed: (0, None),
        }
    }

    fn assign(&mut self) {
        let settled = self.tracker.settled().sequence;
        *self = Partition {
            owned: true,
            assigned_at: settled,
            committed: (settled, None),
            ..Partition::new(self.tracker.clone())
        };
    }

    /// The offset to commit, if more is settled than was committed, and how far that is.
    fn to_commit(&self) -> Option<(u64, i64)> {
        let settled = self.tracker.settled();
        if settled.sequence <= self.committed.0 {
            return None;
        }
        let outstanding = self.tracker.position_of(settled.sequence);
        let next = outstanding.or(settled.position.map(|last| last + 1))?;
        Some((settled.sequence, next))
    }

    fn is_quiet(&self) -> bool {
        let settled = self.tracker.settled().sequence;
        self.tracker.position_of(settled).is_none()
    }
}

#[derive(Default)]
struct State {
    partitions: BTreeMap<i32, Partition>,
    waker: Option<Waker>,
    /// A revocation waits: stages that gather are to hand on what they have.
    flush: bool,
    stopping: bool,
    ended: bool,
    error: Option<String>,
}

impl State {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn owned(&mut self) -> impl Iterator<Item = (i32, &mut Partition)> {
        self.partitions
            .iter_mut()
            .filter(|(_, partition)| partition.owned)
            .map(|(number, partition)| (*number, partition))
    }
}

/// What the thread and the operator share.
struct Shared {
    state: Mutex<State>,
    /// The thread waits for room, or for something to do.
    room: Condvar,
    /// For the group metadata of a transaction; empty before the thread began and after it ended.
    consumer: Mutex<Option<Arc<BaseConsumer<Rebalances>>>>,
    settings: Settings,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// The positions of a barrier, and who may commit them.
pub(crate) struct Positions {
    shared: Arc<Shared>,
    next: Vec<(i32, i64)>,
}

impl Positions {
    pub(crate) fn offsets(&self) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (partition, next) in &self.next {
            let topic = self.shared.settings.topic;
            list.add_partition_offset(topic, *partition, Offset::Offset(*next))?;
        }
        Ok(list)
    }

    pub(crate) fn next(&self) -> &[(i32, i64)] {
        &self.next
    }

    /// The group as it is now.
    pub(crate) fn group(&self) -> Option<ConsumerGroupMetadata> {
        let consumer = self.shared.consumer.lock().unwrap();
        consumer.as_ref().and_then(|one| one.group_metadata())
    }
}

/// What the consumer calls on the thread when its assignment changes.
struct Rebalances {
    shared: Arc<Shared>,
    accounts: Accounts,
}

impl ClientContext for Rebalances {
    fn error(&self, error: KafkaError, reason: &str) {
        if let KafkaError::Global(code) = &error
            && matches!(code, rdkafka::types::RDKafkaErrorCode::Authentication)
        {
            self.fail(format!("{error}: {reason}"));
        }
    }
}

impl ConsumerContext for Rebalances {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        err: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let numbers: Vec<i32> = list
            .elements()
            .iter()
            .map(TopicPartitionListElem::partition)
            .collect();
        let done = match err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                self.assigned(&numbers);
                consumer.incremental_assign(list)
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => {
                self.revoked(consumer, &numbers);
                consumer.incremental_unassign(list)
            }
            other => Err(KafkaError::Rebalance(other.into())),
        };
        if let Err(error) = done {
            self.fail(error.to_string());
        }
    }
}

impl Rebalances {
    fn fail(&self, error: String) {
        let mut state = self.shared.lock();
        state.error.get_or_insert(error);
        state.wake();
    }

    fn assigned(&self, numbers: &[i32]) {
        let mut state = self.shared.lock();
        for number in numbers {
            state
                .partitions
                .entry(*number)
                .or_insert_with(|| Partition::new(self.accounts.tracker()))
                .assign();
        }
        state.wake();
    }

    /// Stops the intake, drains for a bounded while, commits, and lets go.
    fn revoked(&self, consumer: &BaseConsumer<Self>, numbers: &[i32]) {
        let mut state = self.shared.lock();
        for number in numbers {
            if let Some(partition) = state.partitions.get_mut(number) {
                partition.revoking = true;
                partition.queue.clear();
                partition.seek = None;
            }
        }
        state.flush = true;
        state.wake();
        let until = Instant::now() + self.shared.settings.drain;
        let is_quiet = |state: &State| {
            let revoked = numbers
                .iter()
                .filter_map(|number| state.partitions.get(number));
            let mut revoked = revoked;
            revoked.all(Partition::is_quiet)
        };
        while !is_quiet(&state)
            && !state.stopping
            && !consumer.assignment_lost()
            && Instant::now() < until
        {
            drop(state);
            std::thread::sleep(Duration::from_millis(2));
            state = self.shared.lock();
        }
        drop(state);
        if !consumer.assignment_lost() {
            commit(consumer, &self.shared);
        }
        let mut state = self.shared.lock();
        for number in numbers {
            if let Some(partition) = state.partitions.get_mut(number) {
                // From here on, settling what is still inside changes nothing.
                let _ = partition.tracker.rewind();
                partition.owned = false;
                if let Some(next) = partition.committed.1.or(partition.first) {
                    (self.shared.settings.hear)(Event::Revoked(*number, next));
                }
            }
        }
        state.wake();
    }
}

/// Commits what is settled. What could not be committed stays to be: the group may be changing.
fn commit(consumer: &BaseConsumer<Rebalances>, shared: &Shared) {
    if !matches!(shared.settings.commits, Commits::Settled) {
        return;
    }
    let mut list = TopicPartitionList::new();
    let mut sequences = Vec::new();
    for (number, partition) in shared.lock().owned() {
        if let Some((sequence, next)) = partition.to_commit() {
            let offset = Offset::Offset(next);
            let added = list.add_partition_offset(shared.settings.topic, number, offset);
            if added.is_ok() {
                sequences.push((number, sequence, next));
            }
        }
    }
    if sequences.is_empty() || consumer.commit(&list, CommitMode::Sync).is_err() {
        return;
    }
    let mut state = shared.lock();
    for (number, sequence, next) in sequences {
        if let Some(partition) = state.partitions.get_mut(&number) {
            partition.committed = (sequence, Some(next));
        }
    }
}

/// Whatever the thread ends with, the operator hears of it.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        let mut state = match self.0.state.lock() {
            Ok(state) => state,
            Err(poisoned) => poisoned.into_inner(),
        };
        state.ended = true;
        if std::thread::panicking() {
            state.error = Some("the consumer's thread panicked".to_owned());
        }
        state.wake();
    }
}

fn poll_until_stopped(shared: &Arc<Shared>, accounts: Accounts) -> KafkaResult<()> {
    let context = Rebalances {
        shared: Arc::clone(shared),
        accounts,
    };
    let consumer: Arc<BaseConsumer<Rebalances>> = Arc::new(
        config(&shared.settings.bootstrap)
            .set("group.id", shared.settings.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "200")
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.wait.max.ms", "20")
            .create_with_context(context)?,
    );
    consumer.subscribe(&[shared.settings.topic])?;
    *shared.consumer.lock().unwrap() = Some(Arc::clone(&consumer));
    let mut committed = Instant::now();
    while !shared.lock().stopping {
        seek(&consumer, shared);
        balance(&consumer, shared)?;
        if committed.elapsed() >= COMMIT_EVERY {
            commit(&consumer, shared);
            committed = Instant::now();
        }
        let mut patience = Duration::from_millis(5);
        while let Some(polled) = consumer.poll(patience) {
            patience = Duration::ZERO;
            match polled {
                Ok(message) => {
                    if take(shared, &message) {
                        break;
                    }
                }
                Err(error @ KafkaError::MessageConsumptionFatal(_)) => return Err(error),
                // Noise of the transport: the client tries again by itself.
                Err(_) => break,
            }
        }
    }
    commit(&consumer, shared);
    // Nobody else has the consumer now: it is closed here, on its thread.
    shared.consumer.lock().unwrap().take();
    drop(consumer);
    Ok(())
}

/// Puts a record into its partition's queue; says whether that is full.
fn take(shared: &Shared, message: &impl Message) -> bool {
    let mut state = shared.lock();
    let Some(partition) = state.partitions.get_mut(&message.partition()) else {
        return false;
    };
    if !partition.owned || partition.revoking || partition.seek.is_some() {
        return false;
    }
    partition.first.get_or_insert(message.offset());
    partition.queue.push_back(Record {
        partition: message.partition(),
        offset: message.offset(),
        payload: message.payload().unwrap_or_default().to_vec(),
    });
    let full = partition.queue.len() >= QUEUE;
    state.wake();
    full
}

/// Goes back where the operator said so.
fn seek(consumer: &BaseConsumer<Rebalances>, shared: &Shared) {
    let topic = shared.settings.topic;
    let seeks: Vec<(i32, i64)> = shared
        .lock()
        .owned()
        .filter_map(|(number, partition)| Some((number, partition.seek?)))
        .collect();
    for (number, to) in seeks {
        // It fails while the partition is not being fetched yet: tried again at the next round.
        let done = consumer.seek(topic, number, Offset::Offset(to), Duration::from_secs(2));
        if done.is_ok()
            && let Some(partition) = shared.lock().partitions.get_mut(&number)
            && partition.seek == Some(to)
        {
            partition.seek = None;
        }
    }
}

/// Back-pressure: does not poll for a moment while a queue is full, then pauses its partition; and
/// lets those go on whose queue is half empty.
fn balance(consumer: &BaseConsumer<Rebalances>, shared: &Shared) -> KafkaResult<()> {
    let is_full = |partition: &Partition| !partition.paused && partition.queue.len() >= QUEUE;
    let (mut pause, mut resume) = (TopicPartitionList::new(), TopicPartitionList::new());
    let mut state = shared.lock();
    if state.owned().any(|(_, partition)| is_full(partition)) {
        state = shared.room.wait_timeout(state, PATIENCE).unwrap().0;
    }
    for (number, partition) in state.owned() {
        if is_full(partition) {
            partition.paused = true;
            pause.add_partition(shared.settings.topic, number);
        } else if partition.paused && partition.queue.len() <= QUEUE / 2 {
            partition.paused = false;
            resume.add_partition(shared.settings.topic, number);
        }
    }
    drop(state);
    if pause.count() > 0 {
        consumer.pause(&pause)?;
    }
    if resume.count() > 0 {
        consumer.resume(&resume)?;
    }
    Ok(())
}

/// The operator: hands over what the thread queued, and answers for it.
struct Topic {
    shared: Arc<Shared>,
    accounts: Accounts,
    started: bool,
    marks: VecDeque<Mark>,
    /// When the next barrier is due.
    due: Option<Pin<Box<Sleep>>>,
    /// The ends of the last barrier's sequences, until they are settled: only then does the time to
    /// the next begin, so that slow commits make larger transactions.
    last_ends: Vec<(i32, u64)>,
    epoch: u64,
    generation: u64,
    /// Going back: the partitions that have.
    going_back: Option<BTreeSet<i32>>,
    /// The last element for which it went back, and how often.
    rewinds: (i32, u64, u32),
    draining: bool,
    paused: bool,
    /// The partition that had its turn last.
    last: i32,
}

/// The flow of a topic's records.
pub(crate) fn topic(settings: Settings) -> Flow<Record> {
    let note = match settings.commits {
        Commits::Settled => "commits what is settled",
        Commits::AtBarriers(_) => "commits at barriers",
    };
    // Records in the hand-off are not in the flow yet: the stage itself holds no element.
    Flow::from_operator(
        NodeSpec::new("kafka").threads().note(note),
        move |accounts| Topic {
            shared: Arc::new(Shared {
                state: Mutex::default(),
                room: Condvar::new(),
                consumer: Mutex::new(None),
                settings,
            }),
            accounts,
            started: false,
            marks: VecDeque::new(),
            due: None,
            last_ends: Vec::new(),
            epoch: 0,
            generation: 0,
            going_back: None,
            rewinds: (0, 0, 0),
            draining: false,
            paused: false,
            last: -1,
        },
    )
}

impl Topic {
    fn start(&mut self) -> Result<(), Stop> {
        if std::mem::replace(&mut self.started, true) {
            return Ok(());
        }
        let (shared, accounts) = (Arc::clone(&self.shared), self.accounts.clone());
        std::thread::Builder::new()
            .name(format!("kafka {}", self.shared.settings.topic))
            .spawn(move || {
                let ending = Ending(Arc::clone(&shared));
                if let Err(error) = poll_until_stopped(&shared, accounts) {
                    shared.lock().error = Some(error.to_string());
                }
                drop(ending);
            })
            .map(drop)
            .map_err(|error| Stop::error(BoxError::from(error)))
    }

    fn stop(&self) {
        if let Ok(mut state) = self.shared.state.lock() {
            state.stopping = true;
        }
        self.shared.room.notify_one();
    }

    /// Answers for what ended unresolved, as declared.
    fn answer(&mut self, number: i32, tracker: &Tracker<i64>) -> Result<(), Stop> {
        while let Some(what) = tracker.take_unresolved() {
            if self.accounts.answer() == Answer::Rewind {
                let at = (number, what.sequence);
                let times = match self.rewinds {
                    (partition, sequence, times) if (partition, sequence) == at => times + 1,
                    _ => 1,
                };
                self.rewinds = (at.0, at.1, times);
                if times < 3 {
                    self.going_back.get_or_insert_default();
                    continue;
                }
            }
            return Err(self.unresolved(number, tracker, what));
        }
        Ok(())
    }

    fn unresolved(&self, number: i32, tracker: &Tracker<i64>, what: Unresolved) -> Stop {
        let topic = self.shared.settings.topic;
        let offset = tracker
            .position_of(what.sequence)
            .map_or_else(|| "?".to_owned(), |offset| offset.to_string());
        Stop::cause(Cause::Unresolved {
            source: self.accounts.source(),
            what,
            position: format!("{topic}-{number}@{offset}"),
        })
    }

    /// Has every partition go back to what is settled. Ready when all have: commits under way end
    /// first.
    fn poll_go_back(&mut self, cx: &mut Context<'_, '_>, state: &mut State) -> Poll<()> {
        let Some(gone) = &mut self.going_back else {
            return Poll::Ready(());
        };
        let mut waiting = false;
        for (number, partition) in state.owned() {
            if gone.contains(&number) {
                continue;
            }
            match partition.tracker.poll_rewind(cx.task()) {
                Poll::Pending => waiting = true,
                Poll::Ready(settled) => {
                    gone.insert(number);
                    partition.queue.clear();
                    let behind_own = settled.sequence > partition.assigned_at;
                    let own = settled.position.filter(|_| behind_own);
                    partition.seek = own.map(|last| last + 1).or(partition.first);
                }
            }
        }
        if waiting {
            return Poll::Pending;
        }
        self.going_back = None;
        self.last_ends.clear();
        self.due = None;
        self.generation += 1;
        self.marks.clear();
        let generation = Generation(self.generation);
        let mark = Mark::Rewind(self.accounts.source(), generation);
        self.marks.push_back(mark);
        Poll::Ready(())
    }

    /// The end of an epoch of all partitions.
    fn barrier(&mut self, state: &mut State) -> Mark {
        let mut next = Vec::new();
        let mut ends = Vec::new();
        for (number, partition) in state.owned() {
            let frontier = partition.tracker.barrier();
            if frontier.sequence > partition.assigned_at
                && let Some(last) = frontier.position
            {
                next.push((number, last + 1));
            }
            ends.push((partition.tracker.clone(), frontier));
        }
        let detail = Positions {
            shared: Arc::clone(&self.shared),
            next,
        };
        self.last_ends = ends
            .iter()
            .zip(state.owned())
            .map(|((_, frontier), (number, _))| (number, frontier.sequence))
            .collect();
        // A sink may leave a barrier alone while another source goes back: it gets one more.
        self.due = Some(Box::pin(time::sleep(BARRIER_AGAIN)));
        let mut token = CommitToken::new(self.accounts.source(), Epoch(self.epoch), detail);
        self.epoch += 1;
        for (tracker, frontier) in &ends {
            token = token.covering(tracker, frontier);
        }
        Mark::Barrier(Barrier::new(token))
    }

    /// Whether a barrier is to be sent now.
    fn is_due(&mut self, cx: &mut Context<'_, '_>, state: &mut State) -> bool {
        let mut due = std::mem::take(&mut state.flush);
        if let Commits::AtBarriers(every) = self.shared.settings.commits {
            if !self.last_ends.is_empty() {
                self.last_ends.retain(|(number, end)| {
                    state.partitions.get(number).is_some_and(|partition| {
                        let _ = partition.tracker.poll_quiet(cx.task());
                        partition.owned && partition.tracker.settled().sequence < *end
                    })
                });
                if self.last_ends.is_empty() {
                    self.due = None;
                }
            }
            let sleep = self.due.get_or_insert_with(|| Box::pin(time::sleep(every)));
            due |= sleep.as_mut().poll(cx.task()).is_ready();
        }
        due
    }

    /// After a drain was asked for: whether all that was handed over is settled, and the thread has
    /// committed that and ended.
    fn poll_finished(cx: &mut Context<'_, '_>, state: &mut State) -> bool {
        for (_, partition) in state.owned() {
            // Asking registers for progress; looking comes after, so that none is missed.
            let _ = partition.tracker.poll_quiet(cx.task());
            if !partition.is_quiet() {
                return false;
            }
        }
        state.stopping = true;
        state.ended
    }

    /// Hands over what is queued for one partition: a tracker numbers a whole chunk.
    fn hand_over(
        &mut self,
        cx: &mut Context<'_, '_>,
        state: &mut State,
        out: &mut Chunk<Record>,
        want: Demand,
    ) {
        let numbers: Vec<i32> = state.owned().map(|(number, _)| number).collect();
        let first = numbers.partition_point(|number| *number <= self.last);
        for number in numbers[first..].iter().chain(&numbers[..first]) {
            let Some(partition) = state.partitions.get_mut(number) else {
                continue;
            };
            if partition.revoking || partition.seek.is_some() || partition.queue.is_empty() {
                continue;
            }
            let Poll::Ready(credit) = partition.tracker.poll_credit(cx.task()) else {
                continue;
            };
            let count = want.items.min(credit).min(partition.queue.len());
            let mut offsets = Vec::with_capacity(count);
            for record in partition.queue.drain(..count) {
                offsets.push(record.offset);
                let meta = Meta {
                    since: cx.now(),
                    ..Meta::default()
                };
                out.push(Element {
                    value: record,
                    meta,
                });
            }
            // Under the lock: a revocation comes wholly before or wholly after.
            cx.track(out, &partition.tracker, offsets);
            self.last = *number;
            self.shared.room.notify_one();
            return;
        }
    }
}

impl Operator<Record> for Topic {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<Record>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        self.start()?;
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        state.waker = Some(cx.waker().clone());
        if let Some(error) = state.error.take() {
            return Err(Stop::error(error));
        }
        for (number, partition) in state.owned() {
            partition.tracker.register(cx.task());
            self.answer(number, &partition.tracker)?;
        }
        if self.poll_go_back(cx, &mut state).is_pending() {
            return Ok(Fill::Pending);
        }
        if let Some(mark) = self.marks.pop_front() {
            shared.room.notify_one();
            return Ok(Fill::Mark(mark));
        }
        if self.is_due(cx, &mut state) {
            return Ok(Fill::Mark(self.barrier(&mut state)));
        }
        if self.draining {
            let finished = Self::poll_finished(cx, &mut state);
            shared.room.notify_one();
            return Ok(if finished { Fill::Done } else { Fill::Pending });
        }
        if want.is_none() || self.paused {
            return Ok(Fill::Pending);
        }
        self.hand_over(cx, &mut state, out, want);
        Ok(if out.is_empty() {
            Fill::Pending
        } else {
            Fill::More
        })
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        match signal {
            Control::Drain => {
                self.draining = true;
                self.shared.lock().flush = true;
            }
            Control::Cancel => self.stop(),
            Control::Pause => self.paused = true,
            Control::Resume => self.paused = false,
            Control::RequestRewind => {
                self.going_back.get_or_insert_default();
            }
        }
        cx.waker().wake_by_ref();
    }

    fn held(&self) -> Held {
        Held::NONE
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        if !self.started {
            return Poll::Ready(Ok(()));
        }
        self.stop();
        let mut state = self.shared.lock();
        if state.ended {
            return Poll::Ready(Ok(()));
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        self.stop();
    }
}
