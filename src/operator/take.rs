//! `take`: the first elements; what follows is not wanted.

use super::{Context, Control, Demand, Fill, Held, Input, Operator};
use crate::chunk::Chunk;
use crate::error::Stop;

pub(crate) struct Take<T> {
    input: Input<T>,
    left: usize,
}

impl<T> Take<T> {
    pub(crate) fn new(input: Input<T>, count: usize) -> Take<T> {
        Take { input, left: count }
    }
}

impl<T: Send> Operator<T> for Take<T> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let mut fill = Fill::Done;
        if self.left > 0 {
            fill = self.input.fill(cx, out, want.at_most(self.left))?;
            self.left -= out.len();
        }
        if self.left == 0 && !self.input.is_done() {
            self.input.control(cx, Control::Cancel);
            return Ok(Fill::Done);
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
