//! `classify`: a class for each element, in its column and in the account of its source.

use super::pace::Patience;
use super::sieve::Sieve;
use super::{Context, Control, Demand, Fill, Held, Input, Operator};
use crate::chunk::Chunk;
use crate::class::Class;
use crate::error::Stop;
use crate::outcome::{Outcome, Reason};

pub(crate) struct Classify<T, F> {
    input: Input<T>,
    sieve: Sieve,
    classes: Vec<Class>,
    f: F,
}

impl<T, F> Classify<T, F> {
    pub(crate) fn new(input: Input<T>, f: F) -> Classify<T, F> {
        Classify {
            input,
            sieve: Sieve::default(),
            classes: Vec::new(),
            f,
        }
    }
}

impl<T: Send, F: FnMut(&T) -> Class + Send> Operator<T> for Classify<T, F> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let mut patience = Patience::default();
        loop {
            let fill = self.input.fill(cx, out, want)?;
            let Classify {
                sieve, classes, f, ..
            } = self;
            classes.clear();
            sieve.run(&mut out.values, |value| {
                classes.push(f(value));
                true
            });
            sieve.settle(cx, out, Outcome::Failed(Reason::Panicked));
            out.columns.classify(classes);
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
