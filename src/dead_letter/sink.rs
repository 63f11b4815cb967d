//! The sink of the island that keeps dead letters: one write at a time, each element settled by it.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use super::queue::{Letter, Sent};
use super::{DeadLetter, DeadLetterSink};
use crate::chunk::{Chunk, Meta};
use crate::error::{BoxError, Cause, Stop};
use crate::operator::{Context, Demand, Held, Sink, guard};
use crate::outcome::{Outcome, Reason};

/// How many letters are written at once, at most.
pub(crate) const BATCH: usize = 64;

type Work<S> = Pin<Box<dyn Future<Output = (S, Result<(), BoxError>)> + Send>>;

enum State<S> {
    Idle(S),
    Writing(Work<S>),
    Closing(Work<S>),
    /// A write panicked and took the sink with it.
    Gone,
}

/// What is being written: the elements of the letters, and why they were given up.
struct Written {
    meta: Meta,
    reason: Reason,
    /// Dropped after the settlement.
    _sent: Sent,
}

pub(crate) struct LetterSink<S> {
    state: State<S>,
    batch: Vec<Written>,
}

impl<S: DeadLetterSink> LetterSink<S> {
    pub(crate) fn new(sink: S) -> LetterSink<S> {
        LetterSink {
            state: State::Idle(sink),
            batch: Vec::new(),
        }
    }

    fn settle(&mut self, cx: &mut Context<'_, '_>, kept: bool) {
        for written in self.batch.drain(..) {
            let outcome = if kept {
                Outcome::DeadLettered(written.reason)
            } else {
                Outcome::Failed(Reason::DeadLetterFailed)
            };
            cx.settle(written.meta, outcome);
        }
    }

    /// Drives a write. Ready when the next may start.
    fn poll_write(&mut self, cx: &mut Context<'_, '_>) -> Poll<()> {
        let State::Writing(work) = &mut self.state else {
            return Poll::Ready(());
        };
        let error: BoxError = match guard(|| work.as_mut().poll(cx.task())) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready((sink, result))) => {
                cx.ledger().alert(sink.alerts());
                self.state = State::Idle(sink);
                match result {
                    Ok(()) => {
                        self.settle(cx, true);
                        return Poll::Ready(());
                    }
                    Err(error) => error,
                }
            }
            Err(message) => {
                self.state = State::Gone;
                message.into()
            }
        };
        tracing::error!(letters = self.batch.len(), %error, "dead letters could not be kept");
        self.settle(cx, false);
        Poll::Ready(())
    }

    fn close(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Gone) {
            State::Idle(mut sink) => State::Closing(Box::pin(async move {
                let result = sink.close().await;
                (sink, result)
            })),
            other => other,
        };
    }
}

impl<S: DeadLetterSink> Sink<Letter> for LetterSink<S> {
    type Output = ();

    fn poll_ready(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        self.poll_write(cx).map(|()| Ok(Some(Demand::items(BATCH))))
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<Letter>) {
        let mut letters: Vec<DeadLetter> = Vec::with_capacity(chunk.len());
        let idle = match &self.state {
            State::Idle(sink) => Some(sink),
            _ => None,
        };
        for element in chunk.drain() {
            let (meta, Letter { content, sent }) = (element.meta, element.value);
            if meta
                .receipt
                .standing()
                .is_some_and(|standing| !standing.live)
            {
                // Its source went back and reads it again: it would be kept twice.
                cx.settle(meta, Outcome::Cancelled(Reason::Rewound));
                continue;
            }
            self.batch.push(Written {
                meta,
                reason: idle.map_or(content.reason, |sink| sink.reason(&content)),
                _sent: sent,
            });
            letters.push(content);
        }
        match std::mem::replace(&mut self.state, State::Gone) {
            State::Idle(mut sink) if !letters.is_empty() => {
                self.state = State::Writing(Box::pin(async move {
                    let result = sink.write(letters).await;
                    (sink, result)
                }));
                let _ = self.poll_write(cx);
            }
            State::Gone => self.settle(cx, false),
            state => self.state = state,
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        if self.poll_write(cx).is_pending() {
            return Poll::Pending;
        }
        self.close();
        let State::Closing(work) = &mut self.state else {
            return Poll::Ready(Ok(()));
        };
        let closed = match guard(|| work.as_mut().poll(cx.task())) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready((_, result))) => result.map_err(Stop::error),
            Err(message) => Err(Stop::cause(Cause::Panicked(message))),
        };
        self.state = State::Gone;
        Poll::Ready(closed)
    }

    fn abandon(&mut self, cx: &mut Context<'_, '_>, _: Option<&Stop>) {
        // What may or may not have been written is told as not kept: its source reads it again.
        let outcome = cx.leftover();
        for written in self.batch.drain(..) {
            cx.settle(written.meta, outcome);
        }
        let _ = guard(|| self.state = State::Gone);
    }

    fn held(&self) -> Held {
        Held::items(self.batch.len())
    }
}
