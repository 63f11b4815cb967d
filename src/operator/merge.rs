//! `merge`: the elements of several flows, as they come.

use std::task::Poll;

use super::fan_in::Align;
use super::{Context, Control, Demand, Fill, Held, Input, Operator};
use crate::chunk::Chunk;
use crate::error::Stop;

/// Elements a weight of 1 stands for: large enough that chunks stay worth their cost.
const QUANTUM: usize = 16;

pub(crate) struct Merge<T> {
    inputs: Vec<Input<T>>,
    align: Align,
    /// Whose turn it is, and how many elements are left of it.
    turn: usize,
    left: usize,
    /// Elements a turn of each input has; empty: one chunk, whatever its size.
    shares: Vec<usize>,
}

impl<T> Merge<T> {
    /// A chunk of each input in turn.
    pub(crate) fn fair(inputs: Vec<Input<T>>) -> Merge<T> {
        Merge::new(inputs, Vec::new())
    }

    /// Turns in proportion to the weights, one for each input.
    pub(crate) fn weighted(inputs: Vec<Input<T>>, weights: &[usize]) -> Merge<T> {
        let shares = weights
            .iter()
            .map(|weight| weight.max(&1).saturating_mul(QUANTUM))
            .collect();
        Merge::new(inputs, shares)
    }

    fn new(inputs: Vec<Input<T>>, shares: Vec<usize>) -> Merge<T> {
        let align = Align::new(inputs.len());
        let left = shares.first().copied().unwrap_or(usize::MAX);
        Merge {
            inputs,
            align,
            turn: 0,
            left,
            shares,
        }
    }

    fn next_turn(&mut self) {
        self.turn = (self.turn + 1) % self.inputs.len().max(1);
        self.left = self.shares.get(self.turn).copied().unwrap_or(usize::MAX);
    }

    fn took(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count);
        if self.left == 0 || self.shares.is_empty() {
            self.next_turn();
        }
    }
}

impl<T: Send> Operator<T> for Merge<T> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let mut idle = 0;
        while idle < self.inputs.len() {
            let index = self.turn;
            let Some(input) = self.inputs.get_mut(index) else {
                break;
            };
            if input.is_done() {
                idle += 1;
                self.next_turn();
                continue;
            }
            // Behind a barrier nothing is handed over, but its source must hear what failed.
            let most = if self.align.waits(index) {
                0
            } else {
                self.left
            };
            let fill = input.fill(cx, out, want.at_most(most))?;
            self.align.drop_stale(cx, index, out);
            match fill {
                Fill::More if out.is_empty() => {}
                Fill::More => {
                    self.took(out.len());
                    return Ok(Fill::More);
                }
                Fill::Mark(mark) => {
                    let passes = self.align.take(index, mark);
                    let ended = |index: usize| self.inputs[index].is_done();
                    if let Some(mark) = passes.or_else(|| self.align.complete(ended)) {
                        return Ok(Fill::Mark(mark));
                    }
                }
                Fill::Pending | Fill::Done => {
                    if matches!(fill, Fill::Done) {
                        self.align.end(index);
                    }
                    idle += 1;
                    self.next_turn();
                    if !out.is_empty() {
                        return Ok(Fill::More);
                    }
                }
            }
        }
        if let Some(mark) = self.align.complete(|index| self.inputs[index].is_done()) {
            return Ok(Fill::Mark(mark));
        }
        if self.inputs.iter().all(Input::is_done) {
            return Ok(Fill::Done);
        }
        Ok(Fill::Pending)
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

/// Has all inputs give back what they use.
pub(super) fn close_all<T>(
    inputs: &mut [Input<T>],
    cx: &mut Context<'_, '_>,
) -> Poll<Result<(), Stop>> {
    let mut waits = false;
    for input in inputs {
        waits |= input.poll_close(cx)?.is_pending();
    }
    if waits {
        Poll::Pending
    } else {
        Poll::Ready(Ok(()))
    }
}
