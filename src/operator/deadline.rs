//! `deadline_by`: a deadline for each element. (One that is the same for all needs no user code.)

use std::time::Duration;

use super::pace::Patience;
use super::sieve::Sieve;
use super::{Context, Control, Demand, Fill, Held, Input, Operator};
use crate::chunk::Chunk;
use crate::error::Stop;
use crate::outcome::{Outcome, Reason};

pub(crate) struct DeadlineBy<T, F> {
    input: Input<T>,
    sieve: Sieve,
    spans: Vec<Option<Duration>>,
    f: F,
}

impl<T, F> DeadlineBy<T, F> {
    pub(crate) fn new(input: Input<T>, f: F) -> DeadlineBy<T, F> {
        DeadlineBy {
            input,
            sieve: Sieve::default(),
            spans: Vec::new(),
            f,
        }
    }
}

impl<T: Send, F: FnMut(&T) -> Option<Duration> + Send> Operator<T> for DeadlineBy<T, F> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let mut patience = Patience::default();
        loop {
            let fill = self.input.fill(cx, out, want)?;
            let DeadlineBy {
                sieve, spans, f, ..
            } = self;
            spans.clear();
            sieve.run(&mut out.values, |value| {
                spans.push(f(value));
                true
            });
            sieve.settle(cx, out, Outcome::Failed(Reason::Panicked));
            out.columns
                .limit(cx.now(), spans.iter().map(|span| (*span, 1)));
            if !out.is_empty() || !matches!(fill, Fill::More) {
                return Ok(fill);
            }
            if patience.is_over(cx) {
                return Ok(Fill::Pending);
            }
        }
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        self.input.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held::NONE
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> std::task::Poll<Result<(), Stop>> {
        self.input.poll_close(cx)
    }
}

/// `deadline`: the same span for all.
pub(crate) struct Deadline<T> {
    input: Input<T>,
    span: Duration,
}

impl<T> Deadline<T> {
    pub(crate) fn new(input: Input<T>, span: Duration) -> Deadline<T> {
        Deadline { input, span }
    }
}

impl<T: Send> Operator<T> for Deadline<T> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let fill = self.input.fill(cx, out, want)?;
        out.columns
            .limit(cx.now(), std::iter::once((Some(self.span), out.len())));
        Ok(fill)
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        self.input.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held::NONE
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> std::task::Poll<Result<(), Stop>> {
        self.input.poll_close(cx)
    }
}
