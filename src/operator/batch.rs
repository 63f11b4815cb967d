//! `batch`: as many elements at once as are there, up to a size that adapts.
//!
//! Nothing is taken in before a batch is asked for: what waits does so in the queue before this
//! stage, where it keeps its order and can be given up. A batch is closed when it is full, when there
//! is no more for now (or it has waited as long as it was told to), by marks, completion and failure.

use std::task::Poll;

use super::intake::{Intake, Took, drop_rewound};
use super::{Context, Control, Demand, Fill, Held, Input, Operator};
use crate::chunk::{Chunk, Element, Queue};
use crate::control::{BatchHandle, BatchLimits};
use crate::error::Stop;
use crate::time::{Sleep, Time, poll_until};

pub(crate) struct Batch<T> {
    intake: Intake<T>,
    buf: Chunk<T>,
    held: Queue<T>,
    /// When the first of those held came.
    since: Time,
    size: BatchHandle,
    /// The most it may hold, as declared.
    most: usize,
    timer: Option<Sleep>,
}

impl<T> Batch<T> {
    pub(crate) fn new(input: Input<T>, size: BatchHandle, most: usize) -> Batch<T> {
        Batch {
            intake: Intake::new(input),
            buf: Chunk::default(),
            held: Queue::default(),
            since: Time::ZERO,
            size,
            most,
            timer: None,
        }
    }

    fn emit(&mut self, cx: &mut Context<'_, '_>, out: &mut Chunk<Vec<T>>) {
        let mut batch = Chunk::default();
        let count = self.held.len();
        self.held.move_front(count, &mut batch);
        let meta = cx.merge_front(&mut batch.columns, count);
        out.push(Element {
            value: batch.values,
            meta,
        });
    }

    /// Whether nothing more is to be taken into the batch.
    fn is_full(&self, limits: &BatchLimits) -> bool {
        self.held.len() >= limits.max_items().min(self.most)
            || (!self.held.is_empty() && self.held.bytes() >= limits.max_bytes())
    }

    /// Whether it has waited enough; else the task is woken when it has.
    fn has_waited(&mut self, cx: &mut Context<'_, '_>, limits: &BatchLimits) -> bool {
        if limits.window().is_zero() {
            return true;
        }
        let at = self.since + limits.window();
        poll_until(&mut self.timer, at, cx.task()).is_ready()
    }
}

impl<T: Send> Operator<Vec<T>> for Batch<T> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<Vec<T>>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let limits = self.size.limits_at(cx.now());
        loop {
            if want.is_none() {
                let took = self.intake.fill(cx, &mut self.buf, Demand::NONE);
                if let Took::Rewound(source) = took {
                    drop_rewound(cx, &mut self.held, source);
                } else if self.intake.is_due(self.held.is_empty()) {
                    return self.intake.deliver(out);
                }
                return Ok(Fill::Pending);
            }
            if self.is_full(&limits) || (self.intake.is_ended() && !self.held.is_empty()) {
                self.emit(cx, out);
                return Ok(Fill::More);
            }
            if self.intake.is_due(self.held.is_empty()) {
                return self.intake.deliver(out);
            }
            let ask = Demand {
                items: limits.max_items().min(self.most) - self.held.len(),
                bytes: limits.max_bytes().saturating_sub(self.held.bytes()),
            };
            let ask = ask.at_most(Chunk::<T>::MAX);
            let was_empty = self.held.is_empty();
            let took = self.intake.fill(cx, &mut self.buf, ask);
            if was_empty && !self.buf.is_empty() {
                self.since = cx.clock();
            }
            self.held.append(&mut self.buf);
            match took {
                Took::Rewound(source) => drop_rewound(cx, &mut self.held, source),
                Took::Pending if self.held.is_empty() => return Ok(Fill::Pending),
                Took::Pending => {
                    if !self.is_full(&limits) && !self.has_waited(cx, &limits) {
                        return Ok(Fill::Pending);
                    }
                    self.emit(cx, out);
                    return Ok(Fill::More);
                }
                Took::More | Took::Ended => {}
            }
        }
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        if signal == Control::Cancel {
            let outcome = cx.leftover();
            cx.settle_chunk(&mut self.held.take_all(), outcome);
        }
        self.intake.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held {
            items: self.held.len(),
            bytes: self.held.bytes(),
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.intake.poll_close(cx)
    }
}
