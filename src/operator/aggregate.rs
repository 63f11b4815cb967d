//! `aggregate`: one value at the end, of all values.

use super::intake::{Intake, Took};
use super::pace::{Pace, Patience};
use super::stateful_map::give_up;
use super::{Context, Control, Demand, Fill, Held, Input, Operator, guard};
use crate::chunk::{Chunk, Columns, Element};
use crate::error::{Cause, Stop};
use crate::outcome::Outcome;

pub(crate) struct Aggregate<T, S, F> {
    intake: Intake<T>,
    buf: Chunk<T>,
    /// Gone once it is handed on.
    state: Option<S>,
    f: F,
    pace: Pace,
}

impl<T, S, F> Aggregate<T, S, F> {
    pub(crate) fn new(input: Input<T>, state: S, f: F) -> Self {
        Aggregate {
            intake: Intake::new(input),
            buf: Chunk::default(),
            state: Some(state),
            f,
            pace: Pace::default(),
        }
    }
}

impl<T, S, F: FnMut(&mut S, T)> Aggregate<T, S, F> {
    fn fold(&mut self, cx: &mut Context<'_, '_>) -> Result<(), Stop> {
        let Aggregate {
            buf,
            state: Some(state),
            f,
            ..
        } = self
        else {
            return Ok(());
        };
        let count = buf.len();
        let mut values = buf.values.drain(..);
        let ran = guard(|| {
            for value in values.by_ref() {
                f(state, value);
            }
        });
        let folded = count - values.len();
        drop(values);
        if let Err(message) = ran {
            let mut before = Columns::default();
            buf.columns.move_front(folded - 1, &mut before);
            cx.settle_columns(&mut before, Outcome::Delivered);
            give_up(cx, buf);
            return Err(Stop::cause(Cause::Panicked(message)));
        }
        cx.settle_columns(&mut buf.columns, Outcome::Delivered);
        Ok(())
    }
}

impl<T: Send, S: Send, F: FnMut(&mut S, T) + Send> Operator<S> for Aggregate<T, S, F> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<S>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let mut patience = Patience::default();
        loop {
            let awaits = self.intake.is_done() && self.state.is_some();
            if awaits && want.is_none() {
                return Ok(Fill::Pending);
            }
            if awaits && let Some(value) = self.state.take() {
                out.push(Element {
                    value,
                    meta: cx.make(),
                });
                return Ok(Fill::More);
            }
            if self.intake.is_ended() {
                return self.intake.deliver(out);
            }
            let ask = if want.is_none() {
                0
            } else {
                self.pace.start(cx)
            };
            let took = self.intake.fill(cx, &mut self.buf, Demand::items(ask));
            let count = self.buf.len();
            if count > 0 {
                self.fold(cx)?;
                self.pace.note(cx.clock(), count);
            }
            match took {
                Took::More if patience.is_over(cx) => return Ok(Fill::Pending),
                Took::Pending => return Ok(Fill::Pending),
                _ => {}
            }
        }
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        self.intake.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held::NONE
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> std::task::Poll<Result<(), Stop>> {
        self.intake.poll_close(cx)
    }
}
