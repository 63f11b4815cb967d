//! `stateful_map` and `scan`: a value for each value, and for what came before it.
//!
//! The state may be half changed when the closure panics, so the stage stops then.

use super::{Context, Control, Demand, Fill, Held, Input, Operator, guard};
use crate::chunk::Chunk;
use crate::error::{Cause, Stop};
use crate::mark::Mark;
use crate::outcome::{Outcome, Reason};
use crate::position::SourceId;

/// Brings a state back to where a source goes back to.
pub(crate) type Rebuild<S> = Box<dyn FnMut(&mut S, SourceId) + Send>;

pub(crate) struct StatefulMap<T, S, F> {
    input: Input<T>,
    buf: Chunk<T>,
    state: S,
    f: F,
    rebuild: Option<Rebuild<S>>,
    stop: Option<Stop>,
}

impl<T, S, F> StatefulMap<T, S, F> {
    pub(crate) fn new(input: Input<T>, state: S, f: F, rebuild: Option<Rebuild<S>>) -> Self {
        StatefulMap {
            input,
            buf: Chunk::default(),
            state,
            f,
            rebuild,
            stop: None,
        }
    }

    fn rebuild(&mut self, source: SourceId) -> Result<(), Stop> {
        let StatefulMap {
            state,
            rebuild: Some(rebuild),
            ..
        } = self
        else {
            return Ok(());
        };
        guard(|| rebuild(state, source)).map_err(|message| Stop::cause(Cause::Panicked(message)))
    }
}

/// Settles what is left of a chunk behind the element on which a stateful closure panicked.
pub(super) fn give_up<T>(cx: &mut Context<'_, '_>, rest: &mut Chunk<T>) {
    cx.settle(
        rest.columns.pop().unwrap_or_default(),
        Outcome::Failed(Reason::Panicked),
    );
    cx.settle_chunk(rest, Outcome::Cancelled(Reason::RunFailed));
}

impl<T, U, S, F> Operator<U> for StatefulMap<T, S, F>
where
    T: Send,
    U: Send,
    S: Send,
    F: FnMut(&mut S, T) -> U + Send,
{
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<U>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        if let Some(stop) = self.stop.take() {
            return Err(stop);
        }
        let fill = self.input.fill(cx, &mut self.buf, want)?;
        let StatefulMap { buf, state, f, .. } = self;
        let values = buf.values.drain(..).map(|value| f(state, value));
        let ran = guard(|| out.values.extend(values));
        if let Err(message) = ran {
            buf.columns.move_front(out.values.len(), &mut out.columns);
            give_up(cx, buf);
            let stop = Stop::cause(Cause::Panicked(message));
            if out.is_empty() {
                return Err(stop);
            }
            self.stop = Some(stop);
            return Ok(Fill::More);
        }
        out.columns.append(&mut buf.columns);
        if let Fill::Mark(Mark::Rewind(source, _)) = &fill {
            self.rebuild(*source)?;
        }
        Ok(fill)
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        self.input.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held::NONE
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> std::task::Poll<Result<(), Stop>> {
        self.input.poll_close(cx)
    }
}
