//! `grouped` and `grouped_within`: many elements to one, a vector.
//!
//! When a group is closed is decided by [`BatchWindow`]; here are the elements, the timer and the
//! demand. With a window of time the stage gathers whether or not it is asked for groups, because a
//! group's time runs from its first element: up to one closed group that waits, and the one that
//! gathers behind it. Without one it takes elements in only when a group is asked for.
//!
//! A group is closed by marks, by completion and by failure, and handed on before them.

use std::future::Future;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use super::intake::{Intake, Took};
use super::pace::{Pace, Patience};
use super::{Context, Control, Demand, Fill, Held, Input, Operator};
use crate::chunk::{Chunk, Element, Meta, Queue};
use crate::control::{BatchLimits, BatchWindow, Room};
use crate::error::Stop;
use crate::outcome::{Outcome, Reason};
use crate::position::SourceId;
use crate::time::{Sleep, Time, sleep_until};

pub(crate) struct Grouped<T> {
    intake: Intake<T>,
    buf: Chunk<T>,
    /// The elements of the closed groups, and behind them those of the open one.
    held: Queue<T>,
    window: BatchWindow,
    timer: Option<Sleep>,
    pace: Pace,
    /// Gathers without being asked.
    ahead: bool,
    weighs: bool,
}

impl<T> Grouped<T> {
    pub(crate) fn new(input: Input<T>, limits: BatchLimits) -> Grouped<T> {
        Grouped {
            intake: Intake::new(input),
            buf: Chunk::default(),
            held: Queue::default(),
            window: BatchWindow::new(limits),
            timer: None,
            pace: Pace::default(),
            ahead: limits.window() != Duration::MAX,
            weighs: limits.max_bytes() != u64::MAX,
        }
    }

    fn size(&self, meta: &Meta) -> u64 {
        match (self.weighs, meta.bytes) {
            (false, _) => 0,
            (true, 0) => size_of::<T>() as u64 + meta.origin.as_ref().map_or(0, |o| o.len() as u64),
            (true, bytes) => bytes,
        }
    }

    fn arrive(&mut self, now: Time) {
        if self.weighs {
            for (bytes, count) in self.buf.columns.sizes(size_of::<T>()) {
                self.window.arrive(now, count, bytes);
            }
        } else {
            self.window.arrive(now, self.buf.len(), 0);
        }
        self.held.append(&mut self.buf);
    }

    /// Hands on closed groups, as many as are asked for. False if the next one is too heavy.
    fn emit(&mut self, cx: &mut Context<'_, '_>, out: &mut Chunk<Vec<T>>, want: Demand) -> bool {
        let weighed = want.bytes != u64::MAX;
        let mut bytes = if weighed { out.bytes() } else { 0 };
        while out.len() < want.items
            && let Some(count) = self.window.front()
        {
            if weighed {
                bytes = bytes.saturating_add(self.held.front_bytes(count));
                if bytes > want.bytes && !out.is_empty() {
                    return false;
                }
            }
            self.window.emit();
            let mut group = Chunk::default();
            self.held.move_front(count, &mut group);
            let meta = cx.merge_front(&mut group.columns, count);
            out.push(Element {
                value: group.values,
                meta,
            });
        }
        true
    }

    /// What to ask for while that many groups are wanted.
    fn ask(&mut self, cx: &Context<'_, '_>, wanted: usize) -> Demand {
        if wanted == 0 && !self.ahead {
            return Demand::NONE;
        }
        let Room { items, bytes } = self.window.room(wanted);
        Demand {
            items: items.min(self.pace.start(cx)),
            bytes,
        }
    }

    /// Closes the open group if its time is up; the task is woken when it will be.
    fn poll_timer(&mut self, cx: &mut Context<'_, '_>) -> Poll<()> {
        let Some(at) = self.window.deadline() else {
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| sleep_until(at));
        if timer.deadline() != at {
            timer.reset(at);
        }
        Pin::new(timer)
            .poll(cx.task())
            .map(|()| self.window.tick(cx.clock().max(at)))
    }

    fn rewind(&mut self, cx: &mut Context<'_, '_>, source: SourceId) {
        let (mut kept, mut gone) = (Queue::default(), Chunk::default());
        let mut held = std::mem::take(&mut self.held);
        let mut window = self.window.clone();
        window.retain(|| {
            let element = held.pop()?;
            if element
                .meta
                .receipt
                .standing()
                .is_some_and(|standing| standing.source == source)
            {
                gone.push(element);
                return None;
            }
            let bytes = self.size(&element.meta);
            kept.push(element);
            Some(bytes)
        });
        (self.window, self.held) = (window, kept);
        cx.settle_chunk(&mut gone, Outcome::Cancelled(Reason::Rewound));
    }
}

impl<T: Send> Operator<Vec<T>> for Grouped<T> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<Vec<T>>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let mut patience = Patience::default();
        loop {
            let fits = self.emit(cx, out, want);
            if self.intake.is_due(self.window.held_items() == 0) {
                return self.intake.deliver(out);
            }
            let mut wanted = if fits { want.items - out.len() } else { 0 };
            if want.bytes != u64::MAX {
                // Groups that turn out too heavy would have to be held: one at a time.
                wanted = wanted.min(1);
            }
            if wanted == 0 && !out.is_empty() {
                return Ok(Fill::More);
            }
            let ask = self.ask(cx, wanted);
            let took = self.intake.fill(cx, &mut self.buf, ask);
            let count = self.buf.len();
            if count > 0 {
                let now = cx.clock();
                self.pace.note(now, count);
                self.arrive(now);
            }
            match took {
                Took::More if out.is_empty() && patience.is_over(cx) => return Ok(Fill::Pending),
                Took::More => {}
                Took::Pending if count > 0 => {}
                Took::Pending if self.poll_timer(cx).is_ready() => {}
                Took::Pending => return Ok(Fill::Pending),
                Took::Rewound(source) => self.rewind(cx, source),
                Took::Ended => {
                    self.window.flush();
                    if wanted == 0 && self.window.held_items() > 0 {
                        return Ok(Fill::Pending);
                    }
                }
            }
        }
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        if signal == Control::Cancel {
            self.window.clear();
            let outcome = cx.leftover();
            cx.settle_chunk(&mut self.held.take_all(), outcome);
        }
        self.intake.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held {
            items: self.held.len(),
            bytes: self.window.held_bytes(),
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.intake.poll_close(cx)
    }
}
