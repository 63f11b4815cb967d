//! `zip`: pairs of two flows.

use std::task::Poll;

use super::{Context, Control, Demand, Fill, Held, Input, Operator};
use crate::chunk::{Chunk, Element, Queue};
use crate::error::Stop;
use crate::mark::Mark;
use crate::outcome::{Outcome, Reason};
use crate::position::SourceId;

/// How many elements of one side are read ahead of the other, unless that one is slow.
const AHEAD: usize = 16;

/// The most halves that wait for their other.
pub(crate) const HELD: usize = 2 * Chunk::<()>::MAX;

struct Side<T> {
    input: Input<T>,
    buf: Chunk<T>,
    waiting: Queue<T>,
    /// It was asked and has no more for now.
    idle: bool,
}

impl<T> Side<T> {
    fn new(input: Input<T>) -> Side<T> {
        Side {
            input,
            buf: Chunk::default(),
            waiting: Queue::default(),
            idle: false,
        }
    }

    fn is_over(&self) -> bool {
        self.input.is_done() && self.waiting.is_empty()
    }

    /// Asks for `ahead` elements if none waits here: else the other side is what is missing, and
    /// what comes later may be newer. A mark comes back.
    fn pull(&mut self, cx: &mut Context<'_, '_>, ahead: usize) -> Result<Option<Mark>, Stop> {
        let room = if self.waiting.is_empty() { ahead } else { 0 };
        let fill = self.input.fill(cx, &mut self.buf, Demand::items(room));
        self.waiting.append(&mut self.buf);
        self.idle = matches!(fill, Ok(Fill::Pending | Fill::Done));
        match fill? {
            Fill::Mark(mark) => Ok(Some(mark)),
            _ => Ok(None),
        }
    }

    /// How many elements the other side is to read while none of this one wait: a flow that is slow
    /// is not met with what was fresh long ago.
    fn ahead(&self, want: Demand) -> usize {
        let most = if self.idle { 1 } else { AHEAD };
        want.items.min(most.max(self.waiting.len()))
    }

    fn settle(&mut self, cx: &mut Context<'_, '_>, outcome: Outcome) {
        cx.settle_chunk(&mut self.waiting.take_all(), outcome);
    }

    fn rewind(&mut self, cx: &mut Context<'_, '_>, source: SourceId) {
        let mut dropped = self
            .waiting
            .extract(|element| element.meta.receipt.is_of(source));
        cx.settle_chunk(&mut dropped, Outcome::Cancelled(Reason::Rewound));
    }

    fn cancel(&mut self, cx: &mut Context<'_, '_>) {
        let outcome = cx.leftover();
        self.settle(cx, outcome);
        self.input.control(cx, Control::Cancel);
    }
}

pub(crate) struct Zip<A, B> {
    left: Side<A>,
    right: Side<B>,
    mark: Option<Mark>,
    failed: Option<Stop>,
}

impl<A: Send, B: Send> Zip<A, B> {
    pub(crate) fn new(left: Input<A>, right: Input<B>) -> Zip<A, B> {
        Zip {
            left: Side::new(left),
            right: Side::new(right),
            mark: None,
            failed: None,
        }
    }

    /// Asks both sides for what is missing. The marks they give pass at once.
    fn pull(&mut self, cx: &mut Context<'_, '_>, want: Demand) -> Result<(), Stop> {
        self.mark = self.left.pull(cx, self.right.ahead(want))?;
        if self.mark.is_none() {
            self.mark = self.right.pull(cx, self.left.ahead(want))?;
        }
        if let Some(Mark::Rewind(source, _)) = self.mark {
            self.left.rewind(cx, source);
            self.right.rewind(cx, source);
        }
        Ok(())
    }

    fn pair(&mut self, cx: &mut Context<'_, '_>, out: &mut Chunk<(A, B)>, want: Demand) {
        while out.len() < want.items
            && !self.left.waiting.is_empty()
            && !self.right.waiting.is_empty()
        {
            if let (Some(a), Some(b)) = (self.left.waiting.pop(), self.right.waiting.pop()) {
                out.push(Element {
                    value: (a.value, b.value),
                    meta: cx.merge(vec![a.meta, b.meta]),
                });
            }
        }
    }
}

impl<A: Send, B: Send> Operator<(A, B)> for Zip<A, B> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<(A, B)>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        loop {
            self.pair(cx, out, want);
            if !out.is_empty() {
                return Ok(Fill::More);
            }
            if let Some(mark) = self.mark.take() {
                return Ok(Fill::Mark(mark));
            }
            if let Some(stop) = self.failed.take() {
                return Err(stop);
            }
            if self.left.is_over() || self.right.is_over() {
                self.left.cancel(cx);
                self.right.cancel(cx);
                return Ok(Fill::Done);
            }
            if let Err(stop) = self.pull(cx, want) {
                self.failed = Some(stop);
                continue;
            }
            let some = !self.left.waiting.is_empty() && !self.right.waiting.is_empty();
            let over = self.left.is_over() || self.right.is_over();
            // A side that gave something is asked once more, so that it wakes this task and goes on
            // with what it does meanwhile.
            let asleep = self.left.idle && self.right.idle;
            if self.mark.is_none() && !over && (want.is_none() || (!some && asleep)) {
                return Ok(Fill::Pending);
            }
        }
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        if signal == Control::Cancel {
            self.left.cancel(cx);
            self.right.cancel(cx);
            return;
        }
        self.left.input.control(cx, signal);
        self.right.input.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held::items(self.left.waiting.len() + self.right.waiting.len())
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        let left = self.left.input.poll_close(cx)?;
        let right = self.right.input.poll_close(cx)?;
        if left.is_ready() && right.is_ready() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }
}
