//! `map_concat`: any number of values for each value.
//!
//! An element of which nothing is made ends filtered (empty); of which one value is made, that value
//! has its receipt; of which more are made, all but the last have forks of it.

use super::intake::{Intake, Took, drop_rewound};
use super::pace::Patience;
use super::{Context, Control, Demand, Fill, Held, Input, Operator, guard};
use crate::chunk::{Chunk, Element, Meta, Queue};
use crate::error::Stop;
use crate::outcome::{Outcome, Reason};
use crate::position::SourceId;

/// An element that is being expanded.
struct Current<I: Iterator> {
    rest: I,
    next: I::Item,
    /// Goes with the last value.
    meta: Meta,
}

pub(crate) struct MapConcat<T, I: Iterator, F> {
    intake: Intake<T>,
    buf: Chunk<T>,
    /// Taken in and not expanded yet.
    waiting: Queue<T>,
    current: Option<Current<I>>,
    f: F,
    /// How many values came of how many elements lately: what is asked for goes by it.
    made: usize,
    of: usize,
}

impl<T, I: Iterator, F> MapConcat<T, I, F> {
    pub(crate) fn new(input: Input<T>, f: F) -> Self {
        MapConcat {
            intake: Intake::new(input),
            buf: Chunk::default(),
            waiting: Queue::default(),
            current: None,
            f,
            made: 1,
            of: 1,
        }
    }

    /// How many elements are likely to make that many values: one at least, if any is wanted.
    fn likely(&mut self, values: usize) -> usize {
        if self.of >= 1024 {
            self.made /= 2;
            self.of /= 2;
        }
        let likely = values.saturating_mul(self.of) / self.made.max(self.of);
        likely.clamp(values.min(1), Chunk::<T>::MAX)
    }

    fn rewind(&mut self, cx: &mut Context<'_, '_>, source: SourceId) {
        drop_rewound(cx, &mut self.waiting, source);
        let of_source = |current: &mut Current<I>| current.meta.receipt.is_of(source);
        if let Some(current) = self.current.take_if(of_source) {
            cx.settle(current.meta, Outcome::Cancelled(Reason::Rewound));
        }
    }
}

impl<T, I, C, F> MapConcat<T, I, F>
where
    I: Iterator,
    C: IntoIterator<Item = I::Item, IntoIter = I>,
    F: FnMut(T) -> C,
{
    /// Begins with the next element; false if there is none.
    fn begin(&mut self, cx: &mut Context<'_, '_>) -> bool {
        let Some(Element { value, meta }) = self.waiting.pop() else {
            return false;
        };
        self.of += 1;
        let begun = guard(|| {
            let mut rest = (self.f)(value).into_iter();
            rest.next().map(|next| (rest, next))
        });
        match begun {
            Ok(Some((rest, next))) => self.current = Some(Current { rest, next, meta }),
            Ok(None) => cx.settle(meta, Outcome::Filtered(Reason::Empty)),
            Err(_) => cx.settle(meta, Outcome::Failed(Reason::Panicked)),
        }
        true
    }

    /// Makes values until nothing more is asked for or there is nothing to make them of.
    fn expand(&mut self, cx: &mut Context<'_, '_>, out: &mut Chunk<I::Item>, want: Demand) {
        let mut bytes = if want.bytes == u64::MAX {
            0
        } else {
            out.bytes()
        };
        while out.len() < want.items {
            let Some(current) = &mut self.current else {
                if self.begin(cx) {
                    continue;
                }
                return;
            };
            bytes = bytes.saturating_add(current.meta.bytes);
            if bytes > want.bytes && !out.is_empty() {
                return;
            }
            self.made += 1;
            match guard(|| current.rest.next()) {
                Ok(Some(after)) => {
                    let value = std::mem::replace(&mut current.next, after);
                    out.push(Element {
                        value,
                        meta: cx.fork(&mut current.meta),
                    });
                }
                Ok(None) => {
                    if let Some(Current { next, meta, .. }) = self.current.take() {
                        out.push(Element { value: next, meta });
                    }
                }
                Err(_) => {
                    if let Some(Current { next, mut meta, .. }) = self.current.take() {
                        out.push(Element {
                            value: next,
                            meta: cx.fork(&mut meta),
                        });
                        cx.settle(meta, Outcome::Failed(Reason::Panicked));
                    }
                }
            }
        }
    }
}

impl<T, I, C, F> Operator<I::Item> for MapConcat<T, I, F>
where
    T: Send,
    I: Iterator + Send,
    I::Item: Send,
    C: IntoIterator<Item = I::Item, IntoIter = I>,
    F: FnMut(T) -> C + Send,
{
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<I::Item>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let mut patience = Patience::default();
        loop {
            self.expand(cx, out, want);
            let nothing_held = self.current.is_none() && self.waiting.is_empty();
            if self.intake.is_due(nothing_held) {
                return self.intake.deliver(out);
            }
            // Something is held only if no more is asked for.
            let left = if nothing_held {
                want.items - out.len()
            } else {
                0
            };
            if left == 0 && !out.is_empty() {
                return Ok(Fill::More);
            }
            let ask = Demand {
                items: self.likely(left),
                bytes: want.bytes,
            };
            let took = self.intake.fill(cx, &mut self.buf, ask);
            let came = !self.buf.is_empty();
            self.waiting.append(&mut self.buf);
            match took {
                Took::Rewound(source) => self.rewind(cx, source),
                Took::Ended if !came && !self.intake.is_due(nothing_held) => {
                    return Ok(Fill::Pending);
                }
                Took::Pending if !came => return Ok(Fill::Pending),
                Took::More if out.is_empty() && patience.is_over(cx) => return Ok(Fill::Pending),
                _ => {}
            }
        }
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        if signal == Control::Cancel {
            let outcome = cx.leftover();
            if let Some(current) = self.current.take() {
                cx.settle(current.meta, outcome);
            }
            cx.settle_chunk(&mut self.waiting.take_all(), outcome);
        }
        self.intake.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held::items(self.waiting.len() + usize::from(self.current.is_some()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> std::task::Poll<Result<(), Stop>> {
        self.intake.poll_close(cx)
    }
}
