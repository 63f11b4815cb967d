//! An island: fused stages and the sink they end in, driven as one task.

use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use super::inbox::Inbox;
use crate::chunk::Chunk;
use crate::error::{Cause, Stop};
use crate::ledger::{Spent, TimeLedger};
use crate::mark::Mark;
use crate::operator::{Context, Control, Demand, Fill, Input, Sink, Stage, Turn};
use crate::outcome::Reason;
use crate::receipt::RunningStage;
use crate::time::{self, Time};

/// How long an island runs before it lets others run, and how long one chunk should take at most.
const TURN: Duration = Duration::from_micros(200);
/// Chunks below this size are timed together, eight at a time.
const SMALL: usize = 32;

/// An island of whatever types.
pub(crate) trait Drive: Send {
    /// Runs for a turn, at the stage of its sink. Ready when the island has ended.
    fn turn(
        &mut self,
        task: &mut std::task::Context<'_>,
        stage: &Stage,
        turn: &Turn,
        time: &TimeLedger,
        inbox: &Inbox,
    ) -> Poll<Result<(), Stop>>;

    /// Settles what is inside: the island ends here, whatever it was doing.
    fn abandon(&mut self, turn: &Turn);

    /// The stage of its sink.
    fn stage(&self) -> &Arc<Stage>;
}

enum Phase {
    Running,
    /// A mark waits for the sink.
    Marking(Mark),
    /// The stages give back what they use.
    ClosingInput,
    /// The sink finishes.
    ClosingSink,
    /// It ends early: the stages give back what they use.
    Leaving,
    Ended,
}

pub(crate) struct Island<T, S: Sink<T>> {
    input: Input<T>,
    sink: S,
    stage: Arc<Stage>,
    output: Arc<Mutex<Option<S::Output>>>,
    chunk: Chunk<T>,
    phase: Phase,
    /// What the stages came to while a mark waited for the sink, which is to hear of it first.
    ahead: Option<Fill>,
    /// How many elements a chunk should have, so that it takes no longer than a turn.
    target: usize,
    chunks: u32,
    /// Eight chunks take longer than a turn: each is timed then.
    slow: bool,
    waiting: Spent,
    /// When the last turn started, what it took if that was measured, and what a short one takes.
    started: Time,
    took_ns: Option<u64>,
    short_ns: u64,
    short_turns: u32,
    stop: Option<Stop>,
}

impl<T: Send, S: Sink<T>> Island<T, S> {
    pub(crate) fn new(
        input: Input<T>,
        sink: S,
        stage: Arc<Stage>,
        output: Arc<Mutex<Option<S::Output>>>,
    ) -> Island<T, S> {
        Island {
            input,
            sink,
            stage,
            output,
            chunk: Chunk::default(),
            phase: Phase::Running,
            ahead: None,
            // Small until it is known how long an element takes: a cancellation waits for a chunk.
            target: 1,
            chunks: 0,
            slow: true,
            waiting: Spent::WaitingForInput,
            started: time::now(),
            took_ns: Some(0),
            short_ns: 0,
            short_turns: 0,
            stop: None,
        }
    }

    /// What the sink asks for: nothing while it is pending, `None` when it has ended the island. An
    /// error is taken at once: a sink tells it only once.
    fn poll_sink(&mut self, cx: &mut Context<'_, '_>) -> Option<Demand> {
        match self.sink.poll_ready(cx) {
            Poll::Ready(Ok(Some(demand))) => Some(demand.at_most(self.target)),
            Poll::Pending => Some(Demand::NONE),
            Poll::Ready(Ok(None)) => {
                self.cancel(cx);
                None
            }
            Poll::Ready(Err(stop)) => {
                let stop = stop.at(self.stage.id);
                self.cancel_failed(cx);
                self.fail(cx, stop);
                None
            }
        }
    }

    /// One step of a running island: `Some` when its task has to wait.
    fn step(&mut self, cx: &mut Context<'_, '_>) -> Option<Spent> {
        let demand = self.poll_sink(cx)?;
        let filled = match self.ahead.take() {
            Some(fill) => Ok(fill),
            None => self.input.fill(cx, &mut self.chunk, demand),
        };
        let fill = match filled {
            Ok(fill) => fill,
            Err(stop) => {
                self.cancel_failed(cx);
                self.fail(cx, stop);
                return None;
            }
        };
        let count = self.chunk.len();
        if count > 0 {
            self.sink.accept(cx, &mut self.chunk);
            if !self.chunk.is_empty() {
                let outcome = cx.leftover();
                cx.settle_chunk(&mut self.chunk, outcome);
                self.fail(
                    cx,
                    Stop::cause(Cause::Contract("a sink left elements behind")),
                );
                return None;
            }
        }
        match fill {
            Fill::More => None,
            Fill::Pending if demand.is_none() => Some(Spent::WaitingForDemand),
            Fill::Pending => {
                // The sink drives what it has in flight, and learns of a consumer that left.
                if count > 0 {
                    self.poll_sink(cx)?;
                }
                Some(Spent::WaitingForInput)
            }
            Fill::Done => {
                self.phase = Phase::ClosingInput;
                None
            }
            Fill::Mark(mark) => {
                self.phase = Phase::Marking(mark);
                None
            }
        }
    }

    fn cancel(&mut self, cx: &mut Context<'_, '_>) {
        let reason = self.sink.cancelled_for();
        cx.cancelling(reason, |cx| self.input.control(cx, Control::Cancel));
        self.phase = Phase::ClosingInput;
    }

    /// Cancels what is before the sink because of a failure.
    fn cancel_failed(&mut self, cx: &mut Context<'_, '_>) {
        let input = &mut self.input;
        cx.cancelling(Some(Reason::RunFailed), |cx| {
            input.control(cx, Control::Cancel);
        });
    }

    fn fail(&mut self, cx: &mut Context<'_, '_>, stop: Stop) {
        self.sink.abandon(cx, Some(&stop));
        self.stop = Some(stop);
        self.phase = Phase::Leaving;
    }

    /// While a mark waits for the sink, the stages go on with what they have in flight.
    fn drive(&mut self, cx: &mut Context<'_, '_>) {
        if self.ahead.is_some() {
            return;
        }
        match self.input.fill(cx, &mut self.chunk, Demand::NONE) {
            Ok(Fill::More | Fill::Pending) => {}
            Ok(fill) => self.ahead = Some(fill),
            Err(stop) => {
                self.input.control(cx, Control::Cancel);
                self.fail(cx, stop);
            }
        }
    }

    /// Takes messages from downstream and from the run.
    fn obey(&mut self, cx: &mut Context<'_, '_>, inbox: &Inbox) {
        while let Some(control) = inbox.take().or_else(|| self.sink.take_control()) {
            match self.phase {
                Phase::Running | Phase::Marking(_) => {
                    if control == Control::Cancel {
                        self.input.control(cx, Control::Cancel);
                        self.sink.abandon(cx, None);
                        self.phase = Phase::Leaving;
                    } else {
                        self.input.control(cx, control);
                    }
                }
                Phase::ClosingInput if control == Control::Cancel => {
                    self.sink.abandon(cx, None);
                    self.phase = Phase::Leaving;
                }
                Phase::ClosingSink if control == Control::Cancel => {
                    self.sink.abandon(cx, None);
                    self.phase = Phase::Ended;
                }
                _ => {}
            }
        }
    }

    /// Runs until the island has to wait or its turn is over.
    fn run(
        &mut self,
        cx: &mut Context<'_, '_>,
        inbox: &Inbox,
        started: Time,
        simulated: bool,
    ) -> Poll<Result<(), Stop>> {
        let mut timed = started;
        let mut entered = self.stage_entered();
        loop {
            self.obey(cx, inbox);
            match &mut self.phase {
                Phase::Running => {
                    if let Some(waiting) = self.step(cx) {
                        self.waiting = waiting;
                        return Poll::Pending;
                    }
                }
                Phase::Marking(mark) => match self.sink.mark(cx, mark) {
                    Poll::Ready(Ok(())) => self.phase = Phase::Running,
                    Poll::Ready(Err(stop)) => {
                        let stop = stop.at(self.stage.id);
                        self.cancel_failed(cx);
                        self.fail(cx, stop);
                    }
                    Poll::Pending => {
                        self.drive(cx);
                        if matches!(self.phase, Phase::Marking(_)) {
                            self.waiting = Spent::WaitingForDemand;
                            return Poll::Pending;
                        }
                    }
                },
                Phase::ClosingInput => match self.input.poll_close(cx) {
                    Poll::Ready(Ok(())) => self.phase = Phase::ClosingSink,
                    Poll::Ready(Err(stop)) => self.fail(cx, stop),
                    Poll::Pending => return Poll::Pending,
                },
                Phase::ClosingSink => match self.sink.poll_close(cx) {
                    Poll::Ready(Ok(output)) => {
                        if let Ok(mut slot) = self.output.lock() {
                            *slot = Some(output);
                        }
                        self.phase = Phase::Ended;
                    }
                    Poll::Ready(Err(stop)) => {
                        let stop = stop.at(self.stage.id);
                        self.fail(cx, stop);
                    }
                    Poll::Pending => {
                        self.waiting = Spent::WaitingForDemand;
                        return Poll::Pending;
                    }
                },
                Phase::Leaving => match self.input.poll_close(cx) {
                    Poll::Ready(_) => self.phase = Phase::Ended,
                    Poll::Pending => return Poll::Pending,
                },
                Phase::Ended => {
                    let held = self.sink.held();
                    self.stage.ledger.hold(held.items, held.bytes as usize);
                    return Poll::Ready(self.stop.take().map_or(Ok(()), Err));
                }
            }
            self.chunks += 1;
            let moved = (self.stage_entered() - entered) as usize;
            if self.slow || moved >= SMALL || self.chunks >= 8 {
                let now = cx.clock();
                self.adapt(now.since(timed), moved);
                if simulated || now.since(started) >= TURN {
                    self.waiting = Spent::Busy;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                timed = now;
                entered = self.stage_entered();
                self.chunks = 0;
            }
        }
    }

    /// Books the time from the start of the last turn to the start of this one: what the turn took,
    /// and then what the island waited for.
    fn account(&mut self, time: &TimeLedger, now: Time) {
        let whole = now.since(self.started).as_nanos() as u64;
        let busy = self.took_ns.unwrap_or(self.short_ns).min(whole);
        time.add(Spent::Busy, busy);
        time.add(self.waiting, whole - busy);
    }

    fn stage_entered(&self) -> u64 {
        self.stage.ledger.entered()
    }

    /// Chooses the size of chunks by how long the last ones took.
    fn adapt(&mut self, took: Duration, moved: usize) {
        let each = took / self.chunks.max(1);
        self.slow = each * 8 > TURN;
        if each > TURN {
            let factor = (each.as_nanos() / (TURN.as_nanos() / 2)).max(2) as usize;
            self.target = (self.target / factor).max(1);
        } else if each < TURN / 4 && moved >= self.target {
            self.target = (self.target * 2).min(Chunk::<T>::MAX);
        }
    }
}

impl<T: Send, S: Sink<T>> Drive for Island<T, S> {
    fn turn(
        &mut self,
        task: &mut std::task::Context<'_>,
        stage: &Stage,
        turn: &Turn,
        time: &TimeLedger,
        inbox: &Inbox,
    ) -> Poll<Result<(), Stop>> {
        let started = time::now();
        turn.now.set(started);
        self.account(time, started);
        let before = self.stage_entered();
        let mut cx = Context::new(task, stage, turn);
        let _running = RunningStage::enter(stage.id);
        let result = self.run(&mut cx, inbox, started, turn.simulated);
        let held = self.sink.held();
        self.stage.ledger.hold(held.items, held.bytes as usize);
        // A short turn is worth no second look at the clock, except for every eighth of them, by
        // which the others are judged.
        let short = self.stage_entered() - before < SMALL as u64;
        self.short_turns = if short { self.short_turns + 1 } else { 0 };
        self.started = started;
        self.took_ns = None;
        if !short || self.short_turns % 8 == 1 || result.is_ready() {
            let took = time::now().since(started).as_nanos() as u64;
            self.took_ns = Some(took);
            if short {
                self.short_ns = took;
            }
        }
        if result.is_ready() {
            time.add(Spent::Busy, self.took_ns.unwrap_or_default());
        }
        result
    }

    fn abandon(&mut self, turn: &Turn) {
        if matches!(self.phase, Phase::Ended) {
            return;
        }
        let mut task = std::task::Context::from_waker(std::task::Waker::noop());
        let stage = Arc::clone(&self.stage);
        let _running = RunningStage::enter(stage.id);
        let mut cx = Context::new(&mut task, &stage, turn);
        cx.cancelling(Some(Reason::RunFailed), |cx| {
            self.input.control(cx, Control::Cancel);
            let outcome = cx.leftover();
            cx.settle_chunk(&mut self.chunk, outcome);
            self.sink.abandon(cx, None);
        });
        self.phase = Phase::Ended;
    }

    fn stage(&self) -> &Arc<Stage> {
        &self.stage
    }
}
