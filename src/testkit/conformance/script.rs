//! The source and the sink between which the conformance suite puts a part of a pipeline.

use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use crate::chunk::{Chunk, Meta};
use crate::error::Stop;
use crate::mark::Mark;
use crate::operator::{Context, Control, Demand, Fill, Held, Sink, Source};
use crate::outcome::{Outcome, Reason};
use crate::position::Tracker;
use crate::random::Seeded;
use crate::time::Sleep;

/// When and how the sink says that it wants no more.
#[derive(Clone, Copy, Debug)]
pub(super) struct CancelAt {
    /// After so many elements.
    pub(super) elements: usize,
    /// While it has demand; else after a time without.
    pub(super) with_demand: bool,
}

/// What the source and the sink of one run do.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    pub(super) seed: u64,
    /// Elements the source has: 0, 1, 2, ..
    pub(super) count: u64,
    /// The source fails after that many.
    pub(super) error_at: Option<u64>,
    pub(super) cancel_at: Option<CancelAt>,
    /// A barrier after that many elements each.
    pub(super) barrier_every: usize,
    /// The sink has the source go back when it has taken so many elements.
    pub(super) rewind_at: Option<usize>,
}

/// A barrier as the sink saw it.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeenBarrier {
    pub(super) epoch: u64,
    /// The settled position once the sink had settled all it held.
    pub(super) settled: u64,
}

/// What both ends saw of a run.
pub(super) struct Seen<O> {
    pub(super) out: Vec<O>,
    pub(super) barriers: Vec<SeenBarrier>,
    pub(super) rewinds: usize,
    /// Elements of an older generation that came after the source had gone back.
    pub(super) stale: usize,
    pub(super) more_than_asked: bool,
    /// How far the source has read.
    pub(super) read: u64,
    pub(super) source_ended: bool,
    pub(super) source_cancelled: bool,
    pub(super) source_drained: bool,
    tracker: Option<Tracker<u64>>,
}

impl<O> Default for Seen<O> {
    fn default() -> Self {
        Seen {
            out: Vec::new(),
            barriers: Vec::new(),
            rewinds: 0,
            stale: 0,
            more_than_asked: false,
            read: 0,
            source_ended: false,
            source_cancelled: false,
            source_drained: false,
            tracker: None,
        }
    }
}

impl<O> Seen<O> {
    pub(super) fn settled(&self) -> u64 {
        self.tracker
            .as_ref()
            .map_or(0, |tracker| tracker.settled().sequence)
    }
}

pub(super) type Shared<O> = Arc<Mutex<Seen<O>>>;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    match mutex.lock() {
        Ok(guard) => guard,
        Err(poisoned) => poisoned.into_inner(),
    }
}

/// Now and then a rest of up to 50 microseconds.
struct Rests {
    sleep: Option<Sleep>,
    rested: bool,
}

impl Rests {
    fn new() -> Rests {
        Rests {
            sleep: None,
            rested: false,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_, '_>, seeded: &mut Seeded) -> Poll<()> {
        if self.sleep.is_none() && !self.rested && seeded.one_in(4) {
            let span = Duration::from_nanos(seeded.next() % 50_000);
            self.sleep = Some(crate::time::sleep_until(cx.now() + span));
        }
        if let Some(sleep) = &mut self.sleep {
            if Pin::new(sleep).poll(cx.task()).is_pending() {
                return Poll::Pending;
            }
            self.sleep = None;
            self.rested = true;
            return Poll::Ready(());
        }
        self.rested = false;
        Poll::Ready(())
    }
}

use std::future::Future;
use std::pin::Pin;

/// Hands over 0, 1, 2, .. in pieces and with rests.
pub(super) struct ScriptSource<O> {
    script: Script,
    seeded: Seeded,
    rests: Rests,
    next: u64,
    seen: Shared<O>,
}

impl<O> ScriptSource<O> {
    pub(super) fn new(script: &Script, seen: &Shared<O>) -> ScriptSource<O> {
        ScriptSource {
            script: script.clone(),
            seeded: Seeded::new(script.seed ^ 0x5eed),
            rests: Rests::new(),
            next: 0,
            seen: Arc::clone(seen),
        }
    }
}

impl<O: Send> Source<u64> for ScriptSource<O> {
    type Position = u64;

    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<u64>,
        positions: &mut Vec<u64>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        if self.rests.poll(cx, &mut self.seeded).is_pending() {
            return Ok(Fill::Pending);
        }
        let end = self.script.error_at.unwrap_or(self.script.count);
        let left = usize::try_from(end - self.next).unwrap_or(usize::MAX);
        if left == 0 {
            lock(&self.seen).source_ended = true;
            return match self.script.error_at {
                Some(_) => Err(Stop::error(PLANNED)),
                None => Ok(Fill::Done),
            };
        }
        let most = left.min(want.items).min(64);
        let count = 1 + self.seeded.below(most);
        for _ in 0..count {
            out.push_value(self.next);
            positions.push(self.next);
            self.next += 1;
        }
        let mut seen = lock(&self.seen);
        seen.read = seen.read.max(self.next);
        // The end comes with the last elements or after them.
        if count == left && self.script.error_at.is_none() && self.seeded.one_in(2) {
            seen.source_ended = true;
            return Ok(Fill::Done);
        }
        Ok(Fill::More)
    }

    fn rewind(&mut self, _: &mut Context<'_, '_>, to: Option<&u64>) -> Result<(), Stop> {
        self.next = to.map_or(0, |position| position + 1);
        lock(&self.seen).source_ended = false;
        Ok(())
    }

    fn control(&mut self, _: &mut Context<'_, '_>, signal: Control) {
        match signal {
            Control::Cancel => lock(&self.seen).source_cancelled = true,
            Control::Drain => lock(&self.seen).source_drained = true,
            _ => {}
        }
    }

    fn start(&mut self, tracker: &Tracker<u64>) {
        lock(&self.seen).tracker = Some(tracker.clone());
    }
}

/// The message of the error that the source of a run fails with.
pub(super) const PLANNED: &str = "the planned error of the conformance suite";

/// Takes elements as the seed says, keeps some of them unsettled for a while, and writes down what
/// it sees.
pub(super) struct ScriptSink<O> {
    script: Script,
    seeded: Seeded,
    rests: Rests,
    taken: usize,
    asked: usize,
    /// Not yet settled, in order.
    open: Vec<Meta>,
    /// How many of `seen.out` are settled for good.
    committed: usize,
    rewind: Option<Control>,
    last_rest: Option<Sleep>,
    seen: Shared<O>,
}

impl<O> ScriptSink<O> {
    pub(super) fn new(script: &Script, seen: &Shared<O>) -> ScriptSink<O> {
        ScriptSink {
            script: script.clone(),
            seeded: Seeded::new(script.seed ^ 0x51_4e_4b),
            rests: Rests::new(),
            taken: 0,
            asked: 0,
            open: Vec::new(),
            committed: 0,
            rewind: None,
            last_rest: None,
            seen: Arc::clone(seen),
        }
    }

    fn settle(&mut self, cx: &mut Context<'_, '_>, count: usize) {
        for meta in self.open.drain(..count) {
            cx.settle(meta, Outcome::Delivered);
        }
        self.committed += count;
    }

    /// Whether it wants no more; pending while it only rests before it says so.
    fn poll_cancel(&mut self, cx: &mut Context<'_, '_>) -> Option<Poll<()>> {
        let cancel = self
            .script
            .cancel_at
            .filter(|cancel| self.taken >= cancel.elements)?;
        if cancel.with_demand {
            return Some(Poll::Ready(()));
        }
        let until = cx.now() + Duration::from_micros(200);
        let sleep = self
            .last_rest
            .get_or_insert_with(|| crate::time::sleep_until(until));
        Some(Pin::new(sleep).poll(cx.task()))
    }
}

impl<O: Send + 'static> Sink<O> for ScriptSink<O> {
    type Output = ();

    fn poll_ready(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        self.asked = 0;
        match self.poll_cancel(cx) {
            Some(Poll::Ready(())) => return Poll::Ready(Ok(None)),
            Some(Poll::Pending) => return Poll::Pending,
            None => {}
        }
        if self.rests.poll(cx, &mut self.seeded).is_pending() {
            return Poll::Pending;
        }
        let some = self.seeded.below(self.open.len() + 1);
        self.settle(cx, some);
        self.asked = 1 + self.seeded.below(32);
        if let Some(cancel) = self.script.cancel_at {
            self.asked = self.asked.min(cancel.elements - self.taken);
        }
        Poll::Ready(Ok(Some(Demand::items(self.asked))))
    }

    fn accept(&mut self, _: &mut Context<'_, '_>, chunk: &mut Chunk<O>) {
        let mut seen = lock(&self.seen);
        seen.more_than_asked |= chunk.len() > self.asked;
        for element in chunk.drain() {
            let stale = element
                .meta
                .receipt
                .standing()
                .is_some_and(|standing| !standing.live);
            // An element may be on its way while the mark is: it is stale only behind the mark.
            seen.stale += usize::from(stale && seen.rewinds > 0);
            seen.out.push(element.value);
            self.open.push(element.meta);
            self.taken += 1;
            if self.script.rewind_at == Some(self.taken) {
                self.rewind = Some(Control::RequestRewind);
            }
        }
    }

    fn mark(&mut self, cx: &mut Context<'_, '_>, mark: &Mark) -> Poll<Result<(), Stop>> {
        match mark {
            Mark::Barrier(barrier) => {
                let all = self.open.len();
                self.settle(cx, all);
                let mut seen = lock(&self.seen);
                let settled = seen.settled();
                // The part may have sources of its own, which send theirs.
                let source = seen.tracker.as_ref().map(Tracker::source);
                let tokens = barrier.tokens().iter();
                let mine = tokens.filter(|token| Some(token.source()) == source);
                let epochs = mine.map(|token| token.epoch().0);
                seen.barriers
                    .extend(epochs.map(|epoch| SeenBarrier { epoch, settled }));
            }
            Mark::Rewind(source, _) => {
                let mut seen = lock(&self.seen);
                let values = seen.out.split_off(self.committed);
                let open = std::mem::take(&mut self.open);
                for (meta, value) in open.into_iter().zip(values) {
                    if meta.receipt.is_of(*source) {
                        cx.settle(meta, Outcome::Cancelled(Reason::Rewound));
                    } else {
                        self.open.push(meta);
                        seen.out.push(value);
                    }
                }
                seen.rewinds += 1;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        let all = self.open.len();
        self.settle(cx, all);
        Poll::Ready(Ok(()))
    }

    fn abandon(&mut self, cx: &mut Context<'_, '_>, _: Option<&Stop>) {
        let outcome = cx.leftover();
        for meta in self.open.drain(..) {
            cx.settle(meta, outcome);
        }
    }

    fn take_control(&mut self) -> Option<Control> {
        self.rewind.take()
    }

    fn held(&self) -> Held {
        Held::items(self.open.len())
    }
}
