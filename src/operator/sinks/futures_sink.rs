//! The sink of any [`futures` sink](futures_util::Sink): channels, sockets, codecs.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::Poll;

use futures_util::Sink as Futures;

use crate::chunk::{Chunk, Element, Meta};
use crate::error::{BoxError, Cause, Stop};
use crate::mark::Mark;
use crate::operator::{Context, Demand, Held, Sink, guard};
use crate::outcome::{Outcome, Reason};

/// Elements that may be sent and not flushed.
const UNFLUSHED: usize = 1024;
/// The most it holds: a chunk to be sent, and what is sent and not flushed.
pub(crate) const HOLDS: usize = UNFLUSHED + Chunk::<()>::MAX;

pub(crate) struct FuturesSink<T, S> {
    sink: Pin<Box<S>>,
    /// Accepted, and not sent.
    backlog: VecDeque<Element<T>>,
    /// Sent, and not flushed.
    sent: Vec<Meta>,
    /// A channel: ready for the next means that it has taken the last, and an error that the
    /// receiver is gone, which is no failure.
    channel: bool,
    left: bool,
}

impl<T, S> FuturesSink<T, S>
where
    S: Futures<T>,
    S::Error: Into<BoxError>,
{
    pub(crate) fn new(sink: S, channel: bool) -> FuturesSink<T, S> {
        FuturesSink {
            sink: Box::pin(sink),
            backlog: VecDeque::new(),
            sent: Vec::new(),
            channel,
            left: false,
        }
    }

    /// Settles all that is inside.
    fn settle_all(&mut self, cx: &mut Context<'_, '_>, outcome: Outcome) {
        for meta in self.sent.drain(..) {
            cx.settle(meta, outcome);
        }
        for element in self.backlog.drain(..) {
            cx.settle(element.meta, outcome);
        }
    }

    /// What an error comes to.
    fn fail(&mut self, cx: &mut Context<'_, '_>, stop: Stop, reason: Reason) -> Result<(), Stop> {
        if self.channel {
            self.left = true;
            let outcome = cx.leftover();
            self.settle_all(cx, outcome);
            return Ok(());
        }
        self.settle_all(cx, Outcome::Failed(reason));
        Err(stop)
    }

    /// Sends what waits and flushes what was sent. Ready when nothing is left to do.
    fn drive(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        loop {
            if self.left || (self.backlog.is_empty() && self.sent.is_empty()) {
                return Poll::Ready(Ok(()));
            }
            let sends = !self.backlog.is_empty() && self.sent.len() < UNFLUSHED;
            let FuturesSink { sink, backlog, .. } = self;
            let mut taken = None;
            let mut ready = false;
            let ran = guard(|| {
                if sends {
                    match sink.as_mut().poll_ready(cx.task()) {
                        Poll::Ready(Ok(())) => ready = true,
                        other => return other,
                    }
                    let Some(element) = backlog.pop_front() else {
                        return Poll::Pending;
                    };
                    taken = Some(element.meta);
                    return Poll::Ready(sink.as_mut().start_send(element.value));
                }
                sink.as_mut().poll_flush(cx.task())
            });
            if ready && self.channel {
                for meta in self.sent.drain(..) {
                    cx.settle(meta, Outcome::Delivered);
                }
            }
            self.sent.extend(taken);
            match ran {
                Ok(Poll::Ready(Ok(()))) if sends => {}
                Ok(Poll::Ready(Ok(()))) => {
                    for meta in std::mem::take(&mut self.sent) {
                        cx.settle(meta, Outcome::Delivered);
                    }
                }
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(Err(error))) => {
                    self.fail(cx, Stop::error(error), Reason::Error)?;
                }
                Err(message) => {
                    let stop = Stop::cause(Cause::Panicked(message));
                    self.settle_all(cx, Outcome::Failed(Reason::Panicked));
                    return Poll::Ready(Err(stop));
                }
            }
        }
    }
}

impl<T, S> Sink<T> for FuturesSink<T, S>
where
    T: Send,
    S: Futures<T> + Send,
    S::Error: Into<BoxError>,
{
    type Output = ();

    fn poll_ready(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        if let Poll::Ready(Err(stop)) = self.drive(cx) {
            return Poll::Ready(Err(stop));
        }
        if self.left {
            return Poll::Ready(Ok(None));
        }
        if self.backlog.is_empty() && self.sent.len() < UNFLUSHED {
            return Poll::Ready(Ok(Some(Demand::items(Chunk::<T>::MAX))));
        }
        Poll::Pending
    }

    fn accept(&mut self, _: &mut Context<'_, '_>, chunk: &mut Chunk<T>) {
        self.backlog.extend(chunk.drain());
    }

    /// Drops what waits of a source that goes back: it comes again. What was sent is sent.
    fn mark(&mut self, cx: &mut Context<'_, '_>, mark: &Mark) -> Poll<Result<(), Stop>> {
        if let Mark::Rewind(source, _) = mark {
            for element in std::mem::take(&mut self.backlog) {
                if element.meta.receipt.is_of(*source) {
                    cx.settle(element.meta, Outcome::Cancelled(Reason::Rewound));
                } else {
                    self.backlog.push_back(element);
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        std::task::ready!(self.drive(cx))?;
        if self.left {
            return Poll::Ready(Ok(()));
        }
        match guard(|| self.sink.as_mut().poll_close(cx.task())) {
            Ok(closed) => closed.map_err(Stop::error),
            Err(message) => Poll::Ready(Err(Stop::cause(Cause::Panicked(message)))),
        }
    }

    fn abandon(&mut self, cx: &mut Context<'_, '_>, _: Option<&Stop>) {
        let outcome = cx.leftover();
        self.settle_all(cx, outcome);
    }

    fn held(&self) -> Held {
        Held::items(self.backlog.len() + self.sent.len())
    }
}
