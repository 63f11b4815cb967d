//! The stage that runs calls on terms: lets its tally know when its turns begin and end.

use std::task::{Poll, Waker};

use super::tally::{Ends, Tally};
use crate::chunk::Chunk;
use crate::error::Stop;
use crate::mark::Mark;
use crate::operator::{Context, Control, Demand, Fill, Held, Operator, Sink};
use crate::outcome::Reason;
use crate::time::{Sleep, Time, poll_until};

/// A stage whose calls are tallied. What ended in a turn is told at the end of it at the latest, whether
/// or not the stage asks its gate for more.
pub(crate) struct Tallied<S> {
    stage: S,
    tally: Tally,
    ends: Ends,
    timer: Option<Sleep>,
    /// Who is woken by the timer, and when.
    armed: Option<(Time, Waker)>,
}

impl<S> Tallied<S> {
    pub(crate) fn new(stage: S, tally: Tally) -> Tallied<S> {
        Tallied {
            stage,
            tally,
            ends: Ends::default(),
            timer: None,
            armed: None,
        }
    }

    fn turn<R>(
        &mut self,
        cx: &mut Context<'_, '_>,
        f: impl FnOnce(&mut S, &mut Context<'_, '_>) -> R,
    ) -> R {
        self.tally.look(cx.now());
        let result = f(&mut self.stage, cx);
        let turn = self.tally.tell(cx, &mut self.ends, false);
        self.watch(cx, turn.in_flight > 0);
        result
    }

    /// Has the breaker look at what only time changes, and this task woken when it must look again.
    fn watch(&mut self, cx: &mut Context<'_, '_>, in_flight: bool) {
        let Some(breaker) = self.tally.breaker() else {
            return;
        };
        loop {
            let Some(at) = breaker.look_by(in_flight) else {
                return;
            };
            // The time moves on while calls come and go; a timer that is early looks again.
            let armed = self.armed.as_ref().filter(|(armed, _)| *armed <= at);
            if armed.is_some_and(|(armed, waker)| cx.now() < *armed && waker.will_wake(cx.waker()))
            {
                return;
            }
            if poll_until(&mut self.timer, at, cx.task()).is_pending() {
                self.armed = Some((at, cx.waker().clone()));
                return;
            }
            self.armed = None;
            breaker.tick(cx.clock());
            if breaker.look_by(true) == Some(at) {
                // It has looked, and will look again at the next call.
                return;
            }
        }
    }
}

impl<T, S: Operator<T>> Operator<T> for Tallied<S> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        self.turn(cx, |stage, cx| stage.fill(cx, out, want))
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        self.turn(cx, |stage, cx| stage.control(cx, signal));
    }

    fn held(&self) -> Held {
        self.stage.held()
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.stage.poll_close(cx)
    }
}

impl<T, S: Sink<T>> Sink<T> for Tallied<S> {
    type Output = S::Output;

    fn poll_ready(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        self.turn(cx, Sink::poll_ready)
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<T>) {
        self.turn(cx, |stage, cx| stage.accept(cx, chunk));
    }

    fn mark(&mut self, cx: &mut Context<'_, '_>, mark: &Mark) -> Poll<Result<(), Stop>> {
        self.turn(cx, |stage, cx| stage.mark(cx, mark))
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<S::Output, Stop>> {
        self.turn(cx, Sink::poll_close)
    }

    fn abandon(&mut self, cx: &mut Context<'_, '_>, stop: Option<&Stop>) {
        self.turn(cx, |stage, cx| stage.abandon(cx, stop));
    }

    fn cancelled_for(&self) -> Option<Reason> {
        self.stage.cancelled_for()
    }

    fn take_control(&mut self) -> Option<Control> {
        self.stage.take_control()
    }

    fn held(&self) -> Held {
        self.stage.held()
    }
}
