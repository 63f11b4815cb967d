//! `divert_to`: elements a predicate holds for leave by a side output.

use std::task::Poll;

use super::outlet::Outlet;
use super::pace::Patience;
use super::{Context, Control, Demand, Fill, Held, Input, Operator, guard};
use crate::chunk::Chunk;
use crate::error::Stop;
use crate::mark::Mark;
use crate::outcome::{Outcome, Reason};

/// What comes behind the elements that wait for the side output.
enum Next {
    Mark(Mark),
    Done,
    Stop(Stop),
}

pub(crate) struct Divert<T, F> {
    input: Input<T>,
    buf: Chunk<T>,
    side: Outlet<T>,
    predicate: F,
    /// Diverted elements the side output has no room for.
    waiting: Chunk<T>,
    next: Option<Next>,
}

impl<T: Send, F: FnMut(&T) -> bool + Send> Divert<T, F> {
    pub(crate) fn new(input: Input<T>, side: Outlet<T>, predicate: F) -> Divert<T, F> {
        let (buf, waiting) = (Chunk::default(), Chunk::default());
        Divert {
            input,
            buf,
            side,
            predicate,
            waiting,
            next: None,
        }
    }

    /// Places free at the side output once it has taken what waits; 0 while it has not.
    fn poll_side(&mut self, cx: &mut Context<'_, '_>) -> Result<usize, Stop> {
        loop {
            let room = match self.side.poll_ready(cx)? {
                Poll::Pending => 0,
                Poll::Ready(None) => usize::MAX,
                Poll::Ready(Some(demand)) => demand.items,
            };
            if self.waiting.is_empty() {
                return Ok(room.max(1));
            }
            if room == 0 {
                return Ok(0);
            }
            let mut part = Chunk::default();
            let some = room.min(self.waiting.len());
            part.values.extend(self.waiting.values.drain(..some));
            self.waiting.columns.move_front(some, &mut part.columns);
            self.side.accept(cx, &mut part);
        }
    }

    /// Parts what came.
    fn sort(&mut self, cx: &mut Context<'_, '_>, out: &mut Chunk<T>) {
        let Divert {
            buf,
            predicate,
            waiting,
            ..
        } = self;
        for value in buf.values.drain(..) {
            match guard(|| predicate(&value)) {
                Ok(diverted) => {
                    let to = if diverted { &mut *waiting } else { &mut *out };
                    to.values.push(value);
                    buf.columns.move_front(1, &mut to.columns);
                }
                Err(_) => {
                    let meta = buf.columns.pop().unwrap_or_default();
                    cx.settle(meta, Outcome::Failed(Reason::Panicked));
                }
            }
        }
    }

    /// Hands on the mark or the end that is next, first to the side output.
    fn poll_next(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Fill, Stop>> {
        let ready = match &self.next {
            None => return Poll::Pending,
            Some(Next::Mark(mark)) => self.side.mark(cx, mark),
            Some(Next::Done) => self.side.poll_close(cx),
            Some(Next::Stop(stop)) => {
                self.side.abandon(cx, Some(stop));
                Poll::Ready(Ok(()))
            }
        };
        std::task::ready!(ready)?;
        Poll::Ready(match self.next.take() {
            Some(Next::Mark(mark)) => Ok(Fill::Mark(mark)),
            Some(Next::Stop(stop)) => Err(stop),
            _ => Ok(Fill::Done),
        })
    }
}

impl<T: Send, F: FnMut(&T) -> bool + Send> Operator<T> for Divert<T, F> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        while let Some(signal) = self.side.take_control() {
            self.input.control(cx, signal);
        }
        let mut patience = Patience::default();
        loop {
            let room = self.poll_side(cx)?;
            if self.next.is_some() {
                if room == 0 {
                    return Ok(Fill::Pending);
                }
                return match self.poll_next(cx) {
                    Poll::Pending => Ok(Fill::Pending),
                    Poll::Ready(fill) => fill,
                };
            }
            let fill = self.input.fill(cx, &mut self.buf, want.at_most(room));
            self.sort(cx, out);
            match fill {
                Ok(Fill::More) => {}
                Ok(Fill::Pending) => {
                    // Elements the side output must take may have come as well.
                    if self.waiting.is_empty() || self.poll_side(cx)? == 0 || !out.is_empty() {
                        return Ok(Fill::Pending);
                    }
                }
                Ok(Fill::Mark(mark)) => self.next = Some(Next::Mark(mark)),
                Ok(Fill::Done) => self.next = Some(Next::Done),
                Err(stop) => {
                    let outcome = Outcome::Cancelled(Reason::RunFailed);
                    cx.settle_chunk(&mut self.waiting, outcome);
                    self.next = Some(Next::Stop(stop));
                }
            }
            if !out.is_empty() {
                return Ok(Fill::More);
            }
            if patience.is_over(cx) {
                return Ok(Fill::Pending);
            }
        }
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        if signal == Control::Cancel {
            let outcome = cx.leftover();
            cx.settle_chunk(&mut self.waiting, outcome);
            // What was diverted before is still served.
            let _ = self.side.poll_close(cx);
        }
        self.input.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held::items(self.waiting.len())
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.input.poll_close(cx)
    }
}
