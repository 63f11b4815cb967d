//! The sink: what comes between two barriers is one transaction, which commits the positions of the
//! second with it.
//!
//! Two producers take turns: while one commits a window, the records of the next are gathered, and sent
//! by the other once all records of the first are acknowledged. So the order of a key is kept, and the
//! time of a commit is not lost.

mod window;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::Poll;

use super::lane::{Lane, Order, Reply, Sent};
use super::settings::TransactionSettings;
use crate::chunk::Chunk;
use crate::error::Stop;
use crate::kafka::error::Error;
use crate::kafka::producer::ProducerRecord;
use crate::kafka::record::TopicPartition;
use crate::mark::Mark;
use crate::operator::{Context, Control, Demand, Held, Sink};
use crate::outcome::{Outcome, Reason};
use crate::position::SourceId;
use crate::sync::AtomicWaker;

use window::Closing;

/// What tells the ids of both producers apart.
const LANES: [&str; 2] = ["a", "b"];
/// How many producers are replaced without a commit in between; the next that breaks stops the run.
const BROKEN: u32 = 4;

/// Writes records in transactions, with the positions of their sources.
pub struct TransactionalSink {
    settings: TransactionSettings,
    waker: Arc<AtomicWaker>,
    lanes: Vec<Lane>,
    /// The lane of the open window.
    current: usize,
    /// The receipts of the open window.
    open: Chunk<()>,
    /// Its records that are not handed to the client yet, and the bytes of all that are in the sink.
    pending: VecDeque<ProducerRecord>,
    /// Its transaction holds records.
    dirty: bool,
    /// The window before it, which is being committed.
    closing: Option<Closing>,
    /// An abort is under way: nothing is sent before it has ended.
    aborting: bool,
    /// Sources seen so far, and of those the ones that were asked to go back and have not yet.
    known: BTreeSet<SourceId>,
    awaited: BTreeSet<SourceId>,
    /// The open window cannot be committed: its transaction failed, or an element of a source that goes
    /// back was merged with one that does not. It is given up once the one before it is decided.
    poisoned: bool,
    committed: BTreeMap<(SourceId, TopicPartition), i64>,
    controls: VecDeque<Control>,
    /// A record that no client would take.
    failed: Option<Error>,
    /// Producers that were replaced since the last commit.
    broken: u32,
}

impl std::fmt::Debug for TransactionalSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransactionalSink")
            .field("open", &self.open.len())
            .finish_non_exhaustive()
    }
}

impl TransactionalSink {
    pub(super) fn new(settings: TransactionSettings) -> TransactionalSink {
        TransactionalSink {
            settings,
            waker: Arc::new(AtomicWaker::new()),
            lanes: Vec::new(),
            current: 0,
            open: Chunk::default(),
            pending: VecDeque::new(),
            dirty: false,
            closing: None,
            aborting: false,
            known: BTreeSet::new(),
            awaited: BTreeSet::new(),
            poisoned: false,
            committed: BTreeMap::new(),
            controls: VecDeque::new(),
            failed: None,
            broken: 0,
        }
    }

    fn lane(&self, name: &str) -> Result<Lane, Error> {
        let config = self.settings.checked(name)?;
        Lane::start(&config, self.settings.throttle(), &self.waker)
    }

    fn start(&mut self) -> Result<(), Error> {
        if self.lanes.is_empty() {
            for lane in LANES {
                let lane = self.lane(lane)?;
                self.lanes.push(lane);
            }
        }
        Ok(())
    }

    fn inside(&self) -> usize {
        let closing = self.closing.as_ref();
        self.open.len() + closing.map_or(0, |closing| closing.receipts.len())
    }

    /// Takes what the producers' threads replied, and sends what may be sent.
    fn serve(&mut self, cx: &mut Context<'_, '_>) -> Result<(), Stop> {
        self.waker.register(cx.waker());
        for lane in 0..self.lanes.len() {
            for reply in self.lanes[lane].replies() {
                self.replied(cx, lane, reply)?;
            }
        }
        if let Some(error) = self.failed.take() {
            return Err(Stop::error(error));
        }
        self.send().map_err(Stop::error)?;
        // The window before it may well be committed: that is told first.
        if self.poisoned && self.closing.is_none() {
            self.abort(cx)?;
        }
        Ok(())
    }

    fn replied(&mut self, cx: &mut Context<'_, '_>, lane: usize, reply: Reply) -> Result<(), Stop> {
        match reply {
            Reply::Ready => self.lanes[lane].is_open = true,
            Reply::Flushed => {
                if let Some(closing) = &mut self.closing {
                    closing.flushed = true;
                }
            }
            Reply::Committed => {
                self.lanes[lane].is_open = true;
                self.broken = 0;
                if let Some(closing) = self.closing.take() {
                    for (source, at, next) in closing.places {
                        self.committed.insert((source, at), next);
                    }
                    let mut receipts = closing.receipts;
                    cx.settle_chunk(&mut receipts, Outcome::Delivered);
                    // Only now may a source go back, behind what was committed.
                    drop(closing.commit);
                }
            }
            Reply::Aborted => {
                self.lanes[lane].is_open = true;
                self.aborted(cx, lane)?;
            }
            Reply::Broken(error) => {
                self.broken += 1;
                if self.broken > BROKEN {
                    return Err(Stop::error(error));
                }
                tracing::warn!("a transactional producer is replaced: {error}");
                let fresh = self.lane(LANES[lane]).map_err(Stop::error)?;
                self.lanes[lane] = fresh;
                self.aborted(cx, lane)?;
            }
            Reply::Failed(error) => return Err(Stop::error(error)),
        }
        Ok(())
    }

    /// What a lane had is not committed, and will not be.
    fn aborted(&mut self, cx: &mut Context<'_, '_>, lane: usize) -> Result<(), Stop> {
        let closing = self.closing.as_ref();
        if closing.is_some_and(|closing| closing.lane == lane) {
            // What follows stands on what was not committed.
            return self.abort(cx);
        }
        self.aborting = false;
        Ok(())
    }

    /// Sends what waits, in order: never before all records of the window before are acknowledged.
    fn send(&mut self) -> Result<(), Error> {
        let Some(lane) = self.lanes.get_mut(self.current) else {
            return Ok(());
        };
        let waits = self
            .closing
            .as_ref()
            .is_some_and(|closing| !closing.flushed);
        if waits || !lane.is_open || self.aborting || self.poisoned {
            return Ok(());
        }
        while let Some(record) = self.pending.front() {
            match lane.send(record)? {
                Sent::Taken => {
                    self.dirty = true;
                    self.pending.pop_front();
                }
                // It is woken by the next reply, or asked again with the next chunk.
                Sent::Full => break,
                // A record could not be written in time, or the coordinator gave the transaction up.
                Sent::Over => {
                    self.dirty = true;
                    self.poisoned = true;
                    break;
                }
            }
        }
        Ok(())
    }

    /// What is inside has to come again: all sources go back. Until one has, what comes from it is of
    /// the time before and is refused.
    fn abort(&mut self, cx: &mut Context<'_, '_>) -> Result<(), Stop> {
        let closing = self.closing.take();
        let (mut receipts, commit) = match closing {
            Some(closing) => (closing.receipts, Some(closing.commit)),
            None => (Chunk::default(), None),
        };
        receipts.append(&mut self.open);
        cx.settle_chunk(&mut receipts, Outcome::Cancelled(Reason::Rewound));
        self.pending.clear();
        self.poisoned = false;
        self.awaited.clone_from(&self.known);
        self.controls.push_back(Control::RequestRewind);
        drop(commit);
        cx.waker().wake_by_ref();
        if std::mem::take(&mut self.dirty) {
            self.aborting = true;
            let order = self.lanes[self.current].order(Order::Abort);
            order.map_err(Stop::error)?;
        }
        Ok(())
    }
}

impl Sink<ProducerRecord> for TransactionalSink {
    type Output = ();

    fn poll_ready(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        self.start().map_err(Stop::error)?;
        self.serve(cx)?;
        if self.poisoned {
            return Poll::Pending;
        }
        match self.settings.held.saturating_sub(self.inside()) {
            0 => Poll::Pending,
            room => Poll::Ready(Ok(Some(Demand::items(room)))),
        }
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<ProducerRecord>) {
        let (records, mut metas) = chunk.split();
        if self.admits_all(&metas) {
            self.pending.extend(records);
            self.open.append(&mut metas);
        } else {
            for (record, element) in records.zip(metas.drain()) {
                if self.admits(&element.meta) {
                    self.pending.push_back(record);
                    self.open.push(element);
                } else {
                    cx.settle(element.meta, Outcome::Cancelled(Reason::Rewound));
                }
            }
        }
        // What it comes to is told at the next call.
        cx.waker().wake_by_ref();
        if let Err(error) = self.send() {
            self.failed = Some(error);
        }
    }

    fn mark(&mut self, cx: &mut Context<'_, '_>, mark: &Mark) -> Poll<Result<(), Stop>> {
        self.start().map_err(Stop::error)?;
        self.serve(cx)?;
        match mark {
            Mark::Barrier(barrier) => self.poll_barrier(cx, barrier),
            Mark::Rewind(source, _) => {
                if self.closing.is_some() {
                    return Poll::Pending;
                }
                self.known.insert(*source);
                let expected = self.awaited.remove(source);
                let standings = self.open.standings();
                if !expected && standings.iter().any(|at| at.source == *source) {
                    return Poll::Ready(self.abort(cx));
                }
                Poll::Ready(Ok(()))
            }
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        if self.lanes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.serve(cx)?;
        if self.closing.is_some() || self.aborting {
            return Poll::Pending;
        }
        self.abandon(cx, None);
        Poll::Ready(Ok(()))
    }

    fn abandon(&mut self, cx: &mut Context<'_, '_>, _: Option<&Stop>) {
        let outcome = cx.leftover();
        let closing = self.closing.take();
        let mut receipts = closing.map(|closing| closing.receipts).unwrap_or_default();
        receipts.append(&mut self.open);
        cx.settle_chunk(&mut receipts, outcome);
        self.pending.clear();
        self.lanes.clear();
    }

    fn take_control(&mut self) -> Option<Control> {
        self.controls.pop_front()
    }

    fn held(&self) -> Held {
        Held::items(self.inside())
    }
}
