//! `partition`: each element to the branch a closure names.

use std::task::Poll;

use super::outlet::Outlets;
use super::{Context, Control, Demand, Held, Sink, guard};
use crate::chunk::Chunk;
use crate::error::Stop;
use crate::mark::Mark;
use crate::outcome::{Outcome, Reason};

pub(crate) struct Partition<T, F> {
    outlets: Outlets<T>,
    f: F,
    parts: Vec<Chunk<T>>,
    /// One element whose branch is full, while others have room.
    waiting: Option<(usize, Chunk<T>)>,
}

impl<T, F> Partition<T, F> {
    pub(crate) fn new(outlets: Outlets<T>, f: F) -> Partition<T, F> {
        let parts = (0..outlets.len()).map(|_| Chunk::default()).collect();
        Partition {
            outlets,
            f,
            parts,
            waiting: None,
        }
    }

    /// Hands over the element that waits for its branch.
    fn poll_waiting(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        if let Some((index, mut chunk)) = self.waiting.take()
            && let Some(outlet) = self.outlets.get_mut(index)
        {
            if outlet.poll_ready(cx)?.is_pending() {
                self.waiting = Some((index, chunk));
                return Poll::Pending;
            }
            outlet.accept(cx, &mut chunk);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: Send, F: FnMut(&T) -> usize + Send> Sink<T> for Partition<T, F> {
    type Output = ();

    /// As much as the branch with the least room takes, since all may go there; one element while
    /// some branch is full and another is not.
    fn poll_ready(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        std::task::ready!(self.poll_waiting(cx))?;
        let (mut least, mut full, mut room) = (Demand::items(usize::MAX), false, false);
        for outlet in self.outlets.live() {
            match outlet.poll_ready(cx)? {
                Poll::Pending => full = true,
                Poll::Ready(None) => {}
                Poll::Ready(Some(demand)) => {
                    room = true;
                    least.items = least.items.min(demand.items);
                    least.bytes = least.bytes.min(demand.bytes);
                }
            }
        }
        match (room, full) {
            (true, true) => Poll::Ready(Ok(Some(Demand::items(1)))),
            (true, false) => Poll::Ready(Ok(Some(least))),
            (false, true) => Poll::Pending,
            (false, false) => Poll::Ready(Ok(None)),
        }
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<T>) {
        let Partition {
            outlets,
            f,
            parts,
            waiting,
        } = self;
        let Chunk { values, columns } = chunk;
        for value in values.drain(..) {
            let to = guard(|| f(&value));
            if let Ok(index) = to
                && let Some(part) = parts.get_mut(index)
            {
                part.values.push(value);
                columns.move_front(1, &mut part.columns);
                continue;
            }
            let reason = if to.is_ok() {
                Reason::Error
            } else {
                Reason::Panicked
            };
            cx.settle(columns.pop().unwrap_or_default(), Outcome::Failed(reason));
        }
        for (index, (outlet, part)) in outlets.iter_mut().zip(parts).enumerate() {
            if part.is_empty() {
                continue;
            }
            if part.len() == 1 && matches!(outlet.poll_ready(cx), Poll::Pending) {
                *waiting = Some((index, std::mem::take(part)));
            } else {
                outlet.accept(cx, part);
            }
        }
    }

    fn mark(&mut self, cx: &mut Context<'_, '_>, mark: &Mark) -> Poll<Result<(), Stop>> {
        std::task::ready!(self.poll_waiting(cx))?;
        self.outlets.mark(cx, mark)
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        std::task::ready!(self.poll_waiting(cx))?;
        self.outlets.poll_close(cx)
    }

    fn abandon(&mut self, cx: &mut Context<'_, '_>, stop: Option<&Stop>) {
        if let Some((_, mut chunk)) = self.waiting.take() {
            let outcome = if stop.is_some() {
                Outcome::Cancelled(Reason::RunFailed)
            } else {
                cx.leftover()
            };
            cx.settle_chunk(&mut chunk, outcome);
        }
        self.outlets.abandon(cx, stop);
    }

    fn take_control(&mut self) -> Option<Control> {
        self.outlets.take_control()
    }

    fn held(&self) -> Held {
        Held::items(self.waiting.iter().map(|(_, chunk)| chunk.len()).sum())
    }
}
