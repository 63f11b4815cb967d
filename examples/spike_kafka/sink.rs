//! A transactional sink: what comes between two barriers is one transaction, which commits the
//! positions of the second with it.
//!
//! The producer blocks, so it has a thread. The sink gives it one order at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::task::{Poll, ready};
use std::time::Duration;

use forebay::chunk::{Chunk, Meta};
use forebay::error::Stop;
use forebay::mark::{Barrier, Commit, CommitToken, Mark};
use forebay::operator::{Context, Control, Demand, Held, Sink};
use forebay::outcome::{Outcome, Reason};
use forebay::position::SourceId;
use forebay::topology::NodeSpec;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::util::Timeout;
use tokio::sync::oneshot;

use super::broker::config;
use super::source::Positions;

/// A record to be written: key and payload.
pub(crate) type Output = (String, String);

/// Where an abort is provoked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    BeforeOffsets,
    AfterOffsets,
}

/// Source, partition, and the offset of the next record.
type Place = (SourceId, i32, i64);
type Offsets = Vec<(TopicPartitionList, ConsumerGroupMetadata)>;

enum Order {
    Produce(Vec<Output>),
    Commit(Offsets, Option<Fault>),
    Abort,
}

/// How an order ended.
enum Reply {
    Done,
    /// The transaction was aborted; all of it has to come again.
    Aborted,
    Fatal(String),
}

/// The producer on its thread.
struct Transactions {
    /// One that polls by itself: an abort waits for delivery reports that nobody else would fetch.
    producer: ThreadedProducer<DefaultProducerContext>,
    topic: &'static str,
    open: bool,
}

impl Transactions {
    fn run(
        bootstrap: &str,
        topic: &'static str,
        orders: &mpsc::Receiver<(Order, oneshot::Sender<Reply>)>,
    ) {
        let producer: ThreadedProducer<DefaultProducerContext> = config(bootstrap)
            .set("transactional.id", format!("forebay-{topic}"))
            .set("transaction.timeout.ms", "10000")
            .set("linger.ms", "5")
            .create()
            .unwrap();
        producer.init_transactions(Duration::from_secs(20)).unwrap();
        let mut transactions = Transactions {
            producer,
            topic,
            open: false,
        };
        while let Ok((order, reply)) = orders.recv() {
            let _ = reply.send(transactions.obey(order));
        }
        // Nobody commits what is open any more.
        let _ = transactions.abort();
    }

    fn obey(&mut self, order: Order) -> Reply {
        let done = match order {
            Order::Produce(records) => self.produce(records),
            Order::Commit(offsets, fault) => self.commit(&offsets, fault),
            Order::Abort => return self.abort(),
        };
        match done {
            Ok(true) => Reply::Done,
            Err(KafkaError::Transaction(error)) if error.is_fatal() => {
                Reply::Fatal(error.to_string())
            }
            Ok(false) | Err(_) => self.abort(),
        }
    }

    fn begin(&mut self) -> Result<(), KafkaError> {
        if !self.open {
            self.producer.begin_transaction()?;
            self.open = true;
        }
        Ok(())
    }

    fn produce(&mut self, records: Vec<Output>) -> Result<bool, KafkaError> {
        self.begin()?;
        for (key, payload) in records {
            let mut record = BaseRecord::to(self.topic).key(&key).payload(&payload);
            while let Err((error, back)) = self.producer.send(record) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    return Err(error);
                }
                std::thread::sleep(Duration::from_millis(5));
                record = back;
            }
        }
        Ok(true)
    }

    /// False where the fault struck: the caller aborts.
    fn commit(&mut self, offsets: &Offsets, fault: Option<Fault>) -> Result<bool, KafkaError> {
        self.begin()?;
        if fault == Some(Fault::BeforeOffsets) {
            return Ok(false);
        }
        for (list, group) in offsets {
            retried(|| {
                self.producer
                    .send_offsets_to_transaction(list, group, Duration::from_secs(10))
            })?;
        }
        if fault == Some(Fault::AfterOffsets) {
            return Ok(false);
        }
        retried(|| self.producer.commit_transaction(Timeout::Never))?;
        self.open = false;
        Ok(true)
    }

    fn abort(&mut self) -> Reply {
        if !std::mem::take(&mut self.open) {
            return Reply::Aborted;
        }
        // What was handed to the client reaches the broker first: an abort that overtakes the
        // registration of a partition is an invalid end of a transaction there.
        let _ = self.producer.flush(Duration::from_secs(10));
        match retried(|| self.producer.abort_transaction(Duration::from_secs(10))) {
            Ok(()) => Reply::Aborted,
            Err(error) => Reply::Fatal(error.to_string()),
        }
    }
}

/// Makes the same call again while the client says that it may.
fn retried(call: impl Fn() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    loop {
        match call() {
            Err(KafkaError::Transaction(error)) if error.is_retriable() => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)) => {}
            result => return result,
        }
    }
}

/// What happened, for the proof.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) commits: AtomicU64,
    /// Transactions aborted because a fault was provoked.
    pub(crate) faults: AtomicU64,
    /// Transactions aborted because a source went back.
    pub(crate) overtaken: AtomicU64,
    /// Elements refused because their receipt, or a part of it, was not live.
    pub(crate) refused: AtomicU64,
    /// Barriers refused because their positions must not be committed.
    pub(crate) barriers_refused: AtomicU64,
}

pub(crate) struct TransactionalSink {
    orders: mpsc::SyncSender<(Order, oneshot::Sender<Reply>)>,
    reply: Option<Pin<Box<oneshot::Receiver<Reply>>>>,
    /// The commit under way: while it lives the sources do not go back.
    committing: Option<(Commit, Vec<Place>)>,
    /// The receipts of what the open transaction holds.
    open: Vec<Meta>,
    /// Sources seen so far, and of those the ones that were asked to go back and have not yet.
    known: BTreeSet<SourceId>,
    awaited: BTreeSet<SourceId>,
    /// An element of a source that goes back was merged with one that does not.
    poisoned: bool,
    committed: BTreeMap<(SourceId, i32), i64>,
    controls: VecDeque<Control>,
    faults: Box<dyn FnMut() -> Option<Fault> + Send>,
    seen: Arc<Seen>,
}

/// Groups of records the open transaction may hold: what the sources' windows let through.
const HELD: usize = 4096;

pub(crate) fn spec() -> NodeSpec {
    NodeSpec::new("transactions").holds(HELD).threads()
}

impl TransactionalSink {
    pub(crate) fn new(
        bootstrap: &str,
        topic: &'static str,
        faults: impl FnMut() -> Option<Fault> + Send + 'static,
        seen: &Arc<Seen>,
    ) -> TransactionalSink {
        let (orders, receiver) = mpsc::sync_channel(1);
        let bootstrap = bootstrap.to_owned();
        // It ends when the sink is dropped: its orders end then.
        std::thread::spawn(move || Transactions::run(&bootstrap, topic, &receiver));
        TransactionalSink {
            orders,
            reply: None,
            committing: None,
            open: Vec::new(),
            known: BTreeSet::new(),
            awaited: BTreeSet::new(),
            poisoned: false,
            committed: BTreeMap::new(),
            controls: VecDeque::new(),
            faults: Box::new(faults),
            seen: Arc::clone(seen),
        }
    }

    fn order(&mut self, order: Order) -> Result<(), Stop> {
        let (sender, reply) = oneshot::channel();
        self.orders
            .try_send((order, sender))
            .map_err(|_| Stop::error("the producer's thread ended"))?;
        self.reply = Some(Box::pin(reply));
        Ok(())
    }

    /// Drives the order under way. Ready when there is none.
    fn poll_reply(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        let Some(reply) = &mut self.reply else {
            return Poll::Ready(Ok(()));
        };
        let reply = ready!(reply.as_mut().poll(cx.task()));
        self.reply = None;
        let commit = self.committing.take();
        match (reply, commit) {
            (Ok(Reply::Done), Some((commit, positions))) => {
                self.seen.commits.fetch_add(1, Ordering::Relaxed);
                for (source, partition, next) in positions {
                    self.committed.insert((source, partition), next);
                }
                for meta in self.open.drain(..) {
                    cx.settle(meta, Outcome::Delivered);
                }
                // Only now may a source go back, behind what was committed.
                drop(commit);
            }
            (Ok(Reply::Done), None) => {}
            (Ok(Reply::Aborted), Some((commit, _))) => {
                self.seen.faults.fetch_add(1, Ordering::Relaxed);
                self.go_back(cx);
                drop(commit);
            }
            // The sink's own abort, or one that producing came to: then it is still to be told.
            (Ok(Reply::Aborted), None) => {
                if !self.open.is_empty() {
                    self.go_back(cx);
                }
            }
            (Ok(Reply::Fatal(error)), _) => return Poll::Ready(Err(Stop::error(error))),
            (Err(_), _) => {
                return Poll::Ready(Err(Stop::error("the producer's thread ended")));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// What the open transaction held has to come again: all sources go back. Until one has, what
    /// comes from it is of the time before and is refused.
    fn go_back(&mut self, cx: &mut Context<'_, '_>) {
        for meta in self.open.drain(..) {
            cx.settle(meta, Outcome::Cancelled(Reason::Rewound));
        }
        self.poisoned = false;
        self.awaited.clone_from(&self.known);
        self.controls.push_back(Control::RequestRewind);
        cx.waker().wake_by_ref();
    }

    fn abort(&mut self, cx: &mut Context<'_, '_>) -> Result<(), Stop> {
        self.seen.overtaken.fetch_add(1, Ordering::Relaxed);
        self.go_back(cx);
        self.order(Order::Abort)
    }

    /// Whether an element belongs into the open transaction.
    fn admits(&mut self, meta: &Meta) -> bool {
        let standings = meta.receipt.standings();
        self.known.extend(standings.iter().map(|at| at.source));
        let awaited = standings.iter().any(|at| self.awaited.contains(&at.source));
        if meta.receipt.is_live() && !awaited {
            return true;
        }
        self.seen.refused.fetch_add(1, Ordering::Relaxed);
        // A part that is live will not come again by itself.
        self.poisoned |= standings
            .iter()
            .any(|at| at.live && !self.awaited.contains(&at.source));
        false
    }

    fn poll_barrier(
        &mut self,
        cx: &mut Context<'_, '_>,
        barrier: &Barrier,
    ) -> Poll<Result<(), Stop>> {
        let was_committing = self.committing.is_some();
        ready!(self.poll_reply(cx))?;
        if was_committing {
            return Poll::Ready(Ok(()));
        }
        let sources = barrier.tokens().iter().map(CommitToken::source);
        self.known.extend(sources.clone());
        if sources.clone().any(|source| self.awaited.contains(&source)) {
            // A barrier of the time before. What the others' elements need is covered by the next.
            self.seen.barriers_refused.fetch_add(1, Ordering::Relaxed);
            return Poll::Ready(Ok(()));
        }
        // The group as it is before the positions are found valid: if the partitions are lost
        // after that, the broker refuses this group's generation.
        let (mut offsets, mut positions) = (Vec::new(), Vec::new());
        for token in barrier.tokens() {
            let Some(detail) = token.detail::<Positions>() else {
                return Poll::Ready(Err(Stop::error("a token of a source that is not Kafka")));
            };
            let fresh: Vec<_> = detail
                .next()
                .iter()
                .map(|(partition, next)| (token.source(), *partition, *next))
                .filter(|(source, partition, next)| {
                    self.committed.get(&(*source, *partition)) != Some(next)
                })
                .collect();
            if fresh.is_empty() {
                continue;
            }
            let Some(group) = detail.group() else {
                return Poll::Ready(Err(Stop::error("the consumer is gone")));
            };
            let list = detail.offsets().map_err(Stop::error)?;
            offsets.push((list, group));
            positions.extend(fresh);
        }
        if self.open.is_empty() && positions.is_empty() {
            return Poll::Ready(Ok(()));
        }
        // A partition that was lost before the barrier is not covered by it: what it gave is dead.
        let live = |_: &Commit| self.open.iter().all(|meta| meta.receipt.is_live());
        let Some(commit) = barrier.begin().filter(live) else {
            self.seen.barriers_refused.fetch_add(1, Ordering::Relaxed);
            return Poll::Ready(self.abort(cx));
        };
        let fault = (self.faults)();
        self.order(Order::Commit(offsets, fault))?;
        self.committing = Some((commit, positions));
        self.poll_barrier(cx, barrier)
    }
}

impl Sink<Vec<Output>> for TransactionalSink {
    type Output = ();

    fn poll_ready(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        ready!(self.poll_reply(cx))?;
        if self.poisoned {
            self.abort(cx)?;
            ready!(self.poll_reply(cx))?;
        }
        match HELD - self.open.len() {
            0 => Poll::Pending,
            room => Poll::Ready(Ok(Some(Demand::items(room)))),
        }
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<Vec<Output>>) {
        let mut records = Vec::new();
        let elements: Vec<_> = chunk.drain().collect();
        for element in elements {
            if self.admits(&element.meta) {
                records.extend(element.value);
                self.open.push(element.meta);
            } else {
                cx.settle(element.meta, Outcome::Cancelled(Reason::Rewound));
            }
        }
        if !records.is_empty() && self.order(Order::Produce(records)).is_err() {
            // The thread is gone: the next call finds no reply, and stops the run.
            let (_, reply) = oneshot::channel();
            self.reply = Some(Box::pin(reply));
        }
    }

    fn mark(&mut self, cx: &mut Context<'_, '_>, mark: &Mark) -> Poll<Result<(), Stop>> {
        match mark {
            Mark::Barrier(barrier) => self.poll_barrier(cx, barrier),
            Mark::Rewind(source, _) => {
                ready!(self.poll_reply(cx))?;
                self.known.insert(*source);
                let expected = self.awaited.remove(source);
                let holds = |meta: &Meta| {
                    let standings = meta.receipt.standings();
                    standings.iter().any(|at| at.source == *source)
                };
                if !expected && self.open.iter().any(holds) {
                    return Poll::Ready(self.abort(cx));
                }
                Poll::Ready(Ok(()))
            }
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        ready!(self.poll_reply(cx))?;
        self.abandon(cx, None);
        Poll::Ready(Ok(()))
    }

    fn abandon(&mut self, cx: &mut Context<'_, '_>, _: Option<&Stop>) {
        let outcome = cx.leftover();
        for meta in self.open.drain(..) {
            cx.settle(meta, outcome);
        }
    }

    fn take_control(&mut self) -> Option<Control> {
        self.controls.pop_front()
    }

    fn held(&self) -> Held {
        Held::items(self.open.len())
    }
}
