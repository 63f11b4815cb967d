//! `conflate` and `batch_with_seed`: while downstream asks for nothing, elements are merged into one.
//!
//! An element that is asked for passes alone; what arrives without demand is gathered into a state,
//! up to a weight, and handed on as one element as soon as there is demand again.
//!
//! The state may be half changed when the closure panics, so the stage stops then.

use std::task::Poll;

use super::intake::{Intake, Took};
use super::pace::{Pace, Patience};
use super::{Context, Control, Demand, Fill, Held, Input, Operator, guard};
use crate::chunk::{Chunk, Columns, Element, Meta, Queue};
use crate::error::{Cause, Stop};
use crate::outcome::{Outcome, Reason};

/// Elements in the state that are told apart: so many become one account. Receipts are kept, and
/// bounded by the windows of their sources.
const APART: usize = Chunk::<()>::MAX;

/// The most elements held: those told apart in the state, and a chunk behind it.
pub(crate) const HELD: usize = APART + Chunk::<()>::MAX;

/// How elements are merged.
pub(crate) struct Merging<Seed, F, W> {
    /// Makes a state of a first value.
    pub(crate) seed: Seed,
    /// Adds a value to it.
    pub(crate) merge: F,
    /// What a value weighs.
    pub(crate) weight: W,
    /// The most a state may weigh, unless one value alone weighs more.
    pub(crate) most: u64,
}

pub(crate) struct Conflate<T, S, Seed, F, W> {
    intake: Intake<T>,
    buf: Chunk<T>,
    /// Taken in, and too heavy for the state that waits.
    behind: Queue<T>,
    state: Option<S>,
    /// Those of the elements in the state.
    columns: Columns,
    weight: u64,
    how: Merging<Seed, F, W>,
    pace: Pace,
    stop: Option<Stop>,
}

impl<T, S, Seed, F, W> Conflate<T, S, Seed, F, W> {
    pub(crate) fn new(input: Input<T>, how: Merging<Seed, F, W>) -> Self {
        Conflate {
            intake: Intake::new(input),
            buf: Chunk::default(),
            behind: Queue::default(),
            state: None,
            columns: Columns::default(),
            weight: 0,
            how,
            pace: Pace::default(),
            stop: None,
        }
    }

    fn is_empty(&self) -> bool {
        self.state.is_none() && self.behind.is_empty()
    }

    fn settle_held(&mut self, cx: &mut Context<'_, '_>, outcome: Outcome) {
        self.state = None;
        self.weight = 0;
        cx.settle_columns(&mut self.columns, outcome);
        cx.settle_chunk(&mut self.behind.take_all(), outcome);
    }
}

impl<T, S, Seed, F, W> Conflate<T, S, Seed, F, W>
where
    Seed: FnMut(T) -> S,
    F: FnMut(&mut S, T),
    W: FnMut(&T) -> u64,
{
    /// Merges what is behind into the state, as far as it fits.
    fn merge(&mut self, cx: &mut Context<'_, '_>) -> Result<(), Stop> {
        while let Some(value) = self.behind.front() {
            let Merging {
                seed,
                merge,
                weight,
                most,
            } = &mut self.how;
            let state = &mut self.state;
            let before = self.weight;
            let weighed = guard(|| weight(value));
            let after = before.saturating_add(*weighed.as_ref().unwrap_or(&0));
            if state.is_some() && after > *most {
                break;
            }
            let Some(Element { value, meta }) = self.behind.pop() else {
                break;
            };
            let merged = weighed.and_then(|_| {
                guard(|| match state {
                    Some(state) => merge(state, value),
                    None => *state = Some(seed(value)),
                })
            });
            match merged {
                Ok(()) => {
                    self.weight = after;
                    self.columns.push(meta);
                    if self.columns.len() == APART {
                        let all = cx.merge_front(&mut self.columns, APART);
                        self.columns.push(all);
                    }
                }
                Err(message) => return Err(self.broken(cx, meta, message)),
            }
        }
        Ok(())
    }

    /// Hands on the state, and then elements one by one: what is merged is what nobody asked for.
    fn hand_on(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<S>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        if let Some(value) = self.state.take() {
            self.weight = 0;
            let count = self.columns.len();
            let meta = cx.merge_front(&mut self.columns, count);
            out.push(Element { value, meta });
        }
        while out.len() < want.items
            && let Some(Element { value, meta }) = self.behind.pop()
        {
            match guard(|| (self.how.seed)(value)) {
                Ok(value) => out.push(Element { value, meta }),
                Err(message) => {
                    let stop = self.broken(cx, meta, message);
                    if out.is_empty() {
                        return Err(stop);
                    }
                    self.stop = Some(stop);
                    break;
                }
            }
        }
        Ok(Fill::More)
    }

    /// User code panicked on an element: what is held has no more whole state to go into.
    fn broken(&mut self, cx: &mut Context<'_, '_>, meta: Meta, message: String) -> Stop {
        cx.settle(meta, Outcome::Failed(Reason::Panicked));
        self.settle_held(cx, Outcome::Cancelled(Reason::RunFailed));
        Stop::cause(Cause::Panicked(message))
    }

    /// How many elements to ask for without demand.
    fn room(&mut self, cx: &Context<'_, '_>) -> usize {
        if !self.behind.is_empty() {
            return 0;
        }
        let room = usize::try_from(self.how.most.saturating_sub(self.weight));
        room.unwrap_or(usize::MAX).min(self.pace.start(cx))
    }
}

impl<T, S, Seed, F, W> Operator<S> for Conflate<T, S, Seed, F, W>
where
    T: Send,
    S: Send,
    Seed: FnMut(T) -> S + Send,
    F: FnMut(&mut S, T) + Send,
    W: FnMut(&T) -> u64 + Send,
{
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<S>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        if let Some(stop) = self.stop.take() {
            return Err(stop);
        }
        let mut patience = Patience::default();
        loop {
            if want.is_none() {
                self.merge(cx)?;
            } else if !self.is_empty() {
                return self.hand_on(cx, out, want);
            }
            if self.intake.is_due(self.is_empty()) {
                return self.intake.deliver(out);
            }
            if self.intake.is_ended() {
                return Ok(Fill::Pending);
            }
            let ask = match want.items {
                0 => self.room(cx),
                items => items,
            };
            let took = self.intake.fill(cx, &mut self.buf, Demand::items(ask));
            let count = self.buf.len();
            self.behind.append(&mut self.buf);
            if want.is_none() && count > 0 {
                self.pace.note(cx.clock(), count);
            }
            match took {
                Took::Pending if count > 0 => {}
                Took::More if want.is_none() && patience.is_over(cx) => return Ok(Fill::Pending),
                Took::Pending => return Ok(Fill::Pending),
                _ => {}
            }
        }
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        if signal == Control::Cancel {
            let outcome = cx.leftover();
            self.settle_held(cx, outcome);
        }
        self.intake.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held {
            items: self.columns.len() + self.behind.len(),
            bytes: self.columns.bytes() + self.behind.bytes(),
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.intake.poll_close(cx)
    }
}
