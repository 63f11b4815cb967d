//! `expire`: where elements leave whose deadline has passed.

use super::pace::Patience;
use super::sieve::Sieve;
use super::{Context, Control, Demand, Fill, Held, Input, Operator};
use crate::chunk::Chunk;
use crate::error::Stop;
use crate::outcome::Outcome;

pub(crate) struct Expire<T> {
    input: Input<T>,
    sieve: Sieve,
}

impl<T> Expire<T> {
    pub(crate) fn new(input: Input<T>) -> Expire<T> {
        Expire {
            input,
            sieve: Sieve::default(),
        }
    }
}

impl<T: Send> Operator<T> for Expire<T> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let mut patience = Patience::default();
        loop {
            let fill = self.input.fill(cx, out, want)?;
            if out.columns.has_deadlines() {
                let now = cx.clock();
                let runs = out.columns.deadlines().map(|(at, count)| (at > now, count));
                self.sieve.select(out.len(), runs);
                self.sieve.settle(cx, out, Outcome::Expired);
            }
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
