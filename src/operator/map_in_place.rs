//! `map_in_place` and `inspect`: values that stay where they are.

use super::pace::Patience;
use super::sieve::Sieve;
use super::{Context, Control, Demand, Fill, Held, Input, Operator};
use crate::chunk::Chunk;
use crate::error::Stop;
use crate::outcome::{Outcome, Reason};

pub(crate) struct MapInPlace<T, F> {
    input: Input<T>,
    sieve: Sieve,
    f: F,
}

impl<T, F> MapInPlace<T, F> {
    pub(crate) fn new(input: Input<T>, f: F) -> MapInPlace<T, F> {
        MapInPlace {
            input,
            sieve: Sieve::default(),
            f,
        }
    }
}

impl<T: Send, F: FnMut(&mut T) + Send> Operator<T> for MapInPlace<T, F> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let mut patience = Patience::default();
        loop {
            let fill = self.input.fill(cx, out, want)?;
            let f = &mut self.f;
            self.sieve.run(&mut out.values, |value| {
                f(value);
                true
            });
            self.sieve
                .settle(cx, out, Outcome::Failed(Reason::Panicked));
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
