//! What an operator is given at each call: the task, the time of the turn, and the only ways to
//! settle, split and merge elements.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::Waker;

use super::Stage;
use crate::chunk::{Chunk, Columns, Meta};
use crate::class::Class;
use crate::error::{Stop, panic_message};
use crate::ledger::StageLedger;
use crate::outcome::{Kind, Outcome, Reason};
use crate::position::Tracker;
use crate::receipt::Run;
use crate::time::{self, Time};

/// Starts tasks that belong to the run: they are awaited, or aborted, with it.
pub trait Spawn: Send + Sync {
    /// Starts a task.
    fn spawn(&self, name: &str, task: Pin<Box<dyn Future<Output = ()> + Send>>);

    /// Stops the run, because a task of its own failed. Does nothing where tasks have no run.
    fn stop(&self, _stop: Stop) {}
}

/// Stops the run on behalf of a task that outlives the stage it works for. It keeps no run alive.
pub(crate) struct StopRun {
    spawn: Weak<dyn Spawn>,
    stage: u32,
}

impl StopRun {
    /// Ends the run with this error, whether or not its islands have ended well.
    pub(crate) fn stop(&self, stop: Stop) {
        if let Some(spawn) = self.spawn.upgrade() {
            spawn.stop(stop.at(self.stage));
        }
    }
}

/// What one poll of an island shares with its stages.
pub(crate) struct Turn {
    pub(crate) now: Cell<Time>,
    pub(crate) spawn: Arc<dyn Spawn>,
    /// Why a cancellation that is under way goes upstream, where it has a reason of its own.
    pub(crate) cancelled_for: Cell<Option<Reason>>,
    /// Simulated time does not pass while stages run: a turn is then counted in chunks.
    pub(crate) simulated: bool,
}

impl Turn {
    pub(crate) fn new(spawn: Arc<dyn Spawn>) -> Turn {
        Turn {
            now: Cell::new(time::now()),
            spawn,
            cancelled_for: Cell::new(None),
            simulated: time::is_simulated(),
        }
    }
}

/// What an operator is given at each call.
pub struct Context<'a, 'b> {
    task: &'a mut std::task::Context<'b>,
    stage: &'a Stage,
    turn: &'a Turn,
}

impl fmt::Debug for Context<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("stage", &self.stage.id)
            .finish_non_exhaustive()
    }
}

impl<'a, 'b> Context<'a, 'b> {
    pub(crate) fn new(
        task: &'a mut std::task::Context<'b>,
        stage: &'a Stage,
        turn: &'a Turn,
    ) -> Context<'a, 'b> {
        Context { task, stage, turn }
    }

    pub(crate) fn for_stage<'c>(&'c mut self, stage: &'c Stage) -> Context<'c, 'b>
    where
        'a: 'c,
    {
        Context {
            task: self.task,
            stage,
            turn: self.turn,
        }
    }

    /// The same call for a part of the operator that has a waker of its own.
    pub(crate) fn with_waker<R>(
        &mut self,
        waker: &Waker,
        f: impl FnOnce(&mut Context<'_, '_>) -> R,
    ) -> R {
        let mut task = std::task::Context::from_waker(waker);
        f(&mut Context {
            task: &mut task,
            stage: self.stage,
            turn: self.turn,
        })
    }

    /// Why the cancellation under way came, where it has a reason of its own.
    pub(crate) fn cancelled_for(&self) -> Option<Reason> {
        self.turn.cancelled_for.get()
    }

    /// Has everything that a cancellation settles within `f` end for that reason.
    pub(crate) fn cancelling<R>(
        &mut self,
        reason: Option<Reason>,
        f: impl FnOnce(&mut Context<'_, 'b>) -> R,
    ) -> R {
        let before = self
            .turn
            .cancelled_for
            .replace(reason.or(self.cancelled_for()));
        let result = f(&mut Context {
            task: self.task,
            stage: self.stage,
            turn: self.turn,
        });
        self.turn.cancelled_for.set(before);
        result
    }

    pub(crate) fn stage(&self) -> &'a Stage {
        self.stage
    }

    /// The name of the stage that runs.
    pub(crate) fn stage_name(&self) -> Arc<str> {
        self.stage
            .name
            .get()
            .cloned()
            .unwrap_or_else(|| Arc::from("an unnamed stage"))
    }

    pub(crate) fn ledger(&self) -> &'a StageLedger {
        &self.stage.ledger
    }

    /// The task, to poll futures with.
    pub fn task(&mut self) -> &mut std::task::Context<'b> {
        self.task
    }

    /// The waker of the island's task.
    #[must_use]
    pub fn waker(&self) -> &Waker {
        self.task.waker()
    }

    /// The time of this turn: at most a turn (200 microseconds) behind the clock.
    #[must_use]
    pub fn now(&self) -> Time {
        self.turn.now.get()
    }

    /// The time now, read anew: for stages that measure what they wait for.
    #[must_use]
    pub fn clock(&self) -> Time {
        let now = time::now();
        self.turn.now.set(now);
        now
    }

    /// Starts a task that belongs to this run.
    pub fn spawn(&self, name: &str, task: impl Future<Output = ()> + Send + 'static) {
        self.turn.spawn.spawn(name, Box::pin(task));
    }

    /// What a task of this stage stops the run with.
    pub(crate) fn stop_run(&self) -> StopRun {
        StopRun {
            spawn: Arc::downgrade(&self.turn.spawn),
            stage: self.stage.id,
        }
    }

    /// Tells how an element ended, and counts it for this stage.
    pub fn settle(&mut self, meta: Meta, outcome: Outcome) {
        let now = self.now();
        self.stage.settle(meta, outcome, now);
    }

    /// Counts how elements ended that were meant for one of a sink's destinations, such as a topic:
    /// [`StageCounts::destinations`](crate::ledger::StageCounts::destinations). They are settled besides.
    /// It takes a lock: count a batch in one call. Each destination is remembered for as long as the run
    /// lasts.
    pub fn count_destination(&self, destination: &Arc<str>, kind: Kind, count: u64) {
        self.ledger().count_destination(destination, kind, count);
    }

    /// Counts elements that came to a source of this stage's own and ended before they could be
    /// handed over: refused offers.
    pub fn refuse<P: Clone + Send + fmt::Debug + 'static>(
        &mut self,
        tracker: Option<&Tracker<P>>,
        class: Option<Class>,
        outcome: Outcome,
        count: usize,
    ) {
        self.ledger().make(count);
        self.ledger().settle(class, outcome, count);
        if let Some(tracker) = tracker {
            tracker.refuse(class, outcome, count as u64);
        }
    }

    /// Tells that all elements of a chunk ended alike. The values are dropped.
    pub fn settle_chunk<T>(&mut self, chunk: &mut Chunk<T>, outcome: Outcome) {
        chunk.values.clear();
        self.settle_columns(&mut chunk.columns, outcome);
    }

    pub(crate) fn settle_columns(&mut self, columns: &mut Columns, outcome: Outcome) {
        if columns.len() == 0 {
            return;
        }
        for (class, count) in columns.classes() {
            self.ledger().settle(class, outcome, count);
        }
        if outcome == Outcome::Delivered {
            let now = self.now();
            let mut classes = columns.classes();
            let (mut class, mut left) = classes.next().unwrap_or((None, usize::MAX));
            for (since, mut count) in columns.sinces() {
                while count > 0 {
                    if left == 0 {
                        (class, left) = classes.next().unwrap_or((None, usize::MAX));
                    }
                    let some = count.min(left);
                    if since != Time::MAX {
                        let index =
                            class.map_or(crate::class::Class::COUNT, crate::class::Class::index);
                        let took = now.since(since).as_nanos() as u64;
                        self.ledger().latency().record(index, took, some as u64);
                    }
                    count -= some;
                    left -= some;
                }
            }
        }
        for run in columns.receipts().drain() {
            run.settle(outcome, self.stage.id);
        }
        columns.clear();
    }

    /// Splits a part off an element: the same attributes, and a receipt of its own. The element
    /// ends when all its parts have.
    pub fn fork(&mut self, meta: &mut Meta) -> Meta {
        self.ledger().make(1);
        meta.part()
    }

    /// The meta of one element merged from many. Of nothing: that of an untracked element, which
    /// counts as made here.
    pub fn merge(&mut self, parts: Vec<Meta>) -> Meta {
        match parts.len() {
            0 => self.ledger().make(1),
            count => self.ledger().merge(count - 1),
        }
        Meta::merge(parts)
    }

    /// The meta of an element that this stage makes out of nothing: a summary, a heartbeat.
    pub fn make(&mut self) -> Meta {
        self.ledger().make(1);
        Meta {
            since: self.now(),
            ..Meta::default()
        }
    }

    pub(crate) fn merge_front(&mut self, columns: &mut Columns, count: usize) -> Meta {
        self.ledger().merge(count.saturating_sub(1));
        columns.merge_front(count)
    }

    /// Numbers the elements of a chunk that came from a source of this stage's own and gives them
    /// receipts. There must be a position for each.
    pub fn track<T, P: Clone + Send + fmt::Debug + 'static>(
        &mut self,
        chunk: &mut Chunk<T>,
        tracker: &Tracker<P>,
        positions: impl IntoIterator<Item = P>,
    ) {
        let mut at = 0;
        let receipts = chunk.columns.receipts();
        tracker.issue(positions, |page, mask| {
            receipts.push(at, Run::page(page, mask));
            at += mask.count_ones() as usize;
        });
    }

    /// How elements end that this stage still holds when downstream wants no more.
    #[must_use]
    pub fn leftover(&self) -> Outcome {
        let why = self.cancelled_for();
        match self.stage.ending.get() {
            Some(reason) => Outcome::Cancelled(*reason),
            // A failure is no end on purpose: no position may pass what it leaves behind.
            None if why == Some(Reason::RunFailed) => Outcome::Cancelled(Reason::RunFailed),
            None if self.stage.branch => Outcome::Filtered(why.unwrap_or(Reason::Ended)),
            None => Outcome::Cancelled(why.unwrap_or(Reason::NotWanted)),
        }
    }
}

/// Runs user code; a panic comes back as its message.
pub(crate) fn guard<R>(f: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|payload| panic_message(&*payload))
}
