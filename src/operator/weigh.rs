//! `weigh`: the weight of each element, by which limits of bytes go.
//!
//! What is heavy shows only once it is here: where downstream asks for no more than so many bytes,
//! the stage asks for as many elements as the heaviest of late would make, and keeps what was too
//! much.

use super::intake::{Intake, Took, drop_rewound};
use super::pace::Patience;
use super::sieve::Sieve;
use super::{Context, Control, Demand, Fill, Held, Input, Operator};
use crate::chunk::{Chunk, Queue};
use crate::error::Stop;
use crate::outcome::{Outcome, Reason};

pub(crate) struct Weigh<T, F> {
    intake: Intake<T>,
    buf: Chunk<T>,
    sieve: Sieve,
    weights: Vec<u64>,
    f: F,
    /// Weighed, and more than was asked for.
    waiting: Queue<T>,
    /// The heaviest of late.
    heavy: u64,
}

impl<T, F> Weigh<T, F> {
    pub(crate) fn new(input: Input<T>, f: F) -> Weigh<T, F> {
        Weigh {
            intake: Intake::new(input),
            buf: Chunk::default(),
            sieve: Sieve::default(),
            weights: Vec::new(),
            f,
            waiting: Queue::default(),
            heavy: u64::MAX,
        }
    }

    /// How many elements to ask for.
    fn likely(&self, want: Demand) -> usize {
        let fit = match want.bytes {
            u64::MAX => want.items,
            bytes => (bytes / self.heavy.max(1)) as usize,
        };
        fit.clamp(want.items.min(1), want.items.min(Chunk::<T>::MAX))
    }
}

impl<T, F: FnMut(&T) -> u64> Weigh<T, F> {
    fn weigh(&mut self, cx: &mut Context<'_, '_>) {
        let Weigh {
            buf,
            sieve,
            weights,
            f,
            ..
        } = self;
        weights.clear();
        sieve.run(&mut buf.values, |value| {
            weights.push(f(value));
            true
        });
        sieve.settle(cx, buf, Outcome::Failed(Reason::Panicked));
        let heaviest = weights.iter().copied().max().unwrap_or(self.heavy);
        self.heavy = if self.heavy == u64::MAX {
            heaviest
        } else {
            heaviest.max(self.heavy - self.heavy / 8)
        };
        buf.columns.weigh(weights.drain(..));
    }
}

impl<T: Send, F: FnMut(&T) -> u64 + Send> Operator<T> for Weigh<T, F> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let mut patience = Patience::default();
        loop {
            if self.waiting.take(want, out) > 0 {
                return Ok(Fill::More);
            }
            if self.intake.is_due(self.waiting.is_empty()) {
                return self.intake.deliver(out);
            }
            let ask = if self.waiting.is_empty() {
                self.likely(want)
            } else {
                0
            };
            let took = self.intake.fill(cx, &mut self.buf, Demand::items(ask));
            let came = !self.buf.is_empty();
            if came {
                self.weigh(cx);
            }
            if want.bytes == u64::MAX && self.waiting.is_empty() && !self.buf.is_empty() {
                out.append(&mut self.buf);
                return Ok(if took == Took::Pending {
                    Fill::Pending
                } else {
                    Fill::More
                });
            }
            self.waiting.append(&mut self.buf);
            match took {
                Took::Rewound(source) => drop_rewound(cx, &mut self.waiting, source),
                Took::Ended if !came && !self.waiting.is_empty() => return Ok(Fill::Pending),
                Took::Pending if self.waiting.is_empty() || !came => return Ok(Fill::Pending),
                Took::More if self.waiting.is_empty() && patience.is_over(cx) => {
                    return Ok(Fill::Pending);
                }
                _ => {}
            }
        }
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        if signal == Control::Cancel {
            let outcome = cx.leftover();
            cx.settle_chunk(&mut self.waiting.take_all(), outcome);
        }
        self.intake.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held {
            items: self.waiting.len(),
            bytes: self.waiting.bytes(),
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> std::task::Poll<Result<(), Stop>> {
        self.intake.poll_close(cx)
    }
}
