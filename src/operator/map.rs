//! `map`: a value for each value.

use super::pace::Patience;
use super::{Context, Control, Demand, Fill, Held, Input, Operator, guard};
use crate::chunk::Chunk;
use crate::error::Stop;
use crate::outcome::{Outcome, Reason};

pub(crate) struct Map<T, F> {
    input: Input<T>,
    buf: Chunk<T>,
    f: F,
}

impl<T, F> Map<T, F> {
    pub(crate) fn new(input: Input<T>, f: F) -> Map<T, F> {
        Map {
            input,
            buf: Chunk::default(),
            f,
        }
    }
}

impl<T, F> Map<T, F> {
    fn map<U>(&mut self, cx: &mut Context<'_, '_>, out: &mut Chunk<U>)
    where
        F: FnMut(T) -> U,
    {
        let Map { buf, f, .. } = self;
        let mut values = buf.values.drain(..);
        out.values.reserve(values.len());
        let mut panicked = false;
        loop {
            let done = out.values.len();
            let all = done + values.len();
            let ran = guard(|| {
                // `resize_with` knows the length beforehand, and keeps what was made if `f` panics.
                out.values.resize_with(all, || match values.next() {
                    Some(value) => f(value),
                    None => unreachable!("one value for each place"),
                });
            });
            let made = out.values.len() - done;
            if ran.is_ok() {
                if panicked {
                    buf.columns.move_front(made, &mut out.columns);
                } else {
                    out.columns.append(&mut buf.columns);
                }
                break;
            }
            // The panic took one value with it; those before and after it go on.
            panicked = true;
            buf.columns.move_front(made, &mut out.columns);
            cx.settle(
                buf.columns.pop().unwrap_or_default(),
                Outcome::Failed(Reason::Panicked),
            );
        }
    }
}

impl<T: Send, U: Send, F: FnMut(T) -> U + Send> Operator<U> for Map<T, F> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<U>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let mut patience = Patience::default();
        loop {
            let fill = self.input.fill(cx, &mut self.buf, want)?;
            self.map(cx, out);
            // Where the closure panicked on all of them there is nothing to hand on yet.
            if !out.is_empty() || !matches!(fill, Fill::More) {
                return Ok(fill);
            }
            if patience.is_over(cx) {
                return Ok(Fill::Pending);
            }
        }
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
