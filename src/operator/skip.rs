//! `skip`: all but the first elements.

use super::pace::Patience;
use super::{Context, Control, Demand, Fill, Held, Input, Operator};
use crate::chunk::{Chunk, Columns};
use crate::error::Stop;
use crate::outcome::{Outcome, Reason};

pub(crate) struct Skip<T> {
    input: Input<T>,
    left: usize,
}

impl<T> Skip<T> {
    pub(crate) fn new(input: Input<T>, count: usize) -> Skip<T> {
        Skip { input, left: count }
    }

    fn leave_out(&mut self, cx: &mut Context<'_, '_>, out: &mut Chunk<T>) {
        let count = self.left.min(out.len());
        self.left -= count;
        out.values.drain(..count);
        let mut skipped = Columns::default();
        out.columns.move_front(count, &mut skipped);
        cx.settle_columns(&mut skipped, Outcome::Filtered(Reason::Plain));
    }
}

impl<T: Send> Operator<T> for Skip<T> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let mut patience = Patience::default();
        loop {
            let fill = self.input.fill(cx, out, want)?;
            if self.left > 0 {
                self.leave_out(cx, out);
            }
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
