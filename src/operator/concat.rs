//! `concat`: one flow after the other.

use std::task::Poll;

use super::merge::close_all;
use super::{Context, Control, Demand, Fill, Held, Input, Operator};
use crate::chunk::Chunk;
use crate::error::Stop;

pub(crate) struct Concat<T> {
    inputs: Vec<Input<T>>,
    /// The one that is read.
    current: usize,
}

impl<T> Concat<T> {
    pub(crate) fn new(inputs: Vec<Input<T>>) -> Concat<T> {
        Concat { inputs, current: 0 }
    }
}

impl<T: Send> Operator<T> for Concat<T> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        while let Some(input) = self.inputs.get_mut(self.current) {
            match input.fill(cx, out, want)? {
                Fill::Done => {
                    self.current += 1;
                    if !out.is_empty() {
                        return Ok(Fill::More);
                    }
                }
                fill => return Ok(fill),
            }
        }
        Ok(Fill::Done)
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        for input in &mut self.inputs {
            input.control(cx, signal);
        }
    }

    fn held(&self) -> Held {
        Held::NONE
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        close_all(&mut self.inputs, cx)
    }
}
