//! `filter_map`: a value for some of the values.

use super::pace::Patience;
use super::sieve::Sieve;
use super::{Context, Control, Demand, Fill, Held, Input, Operator};
use crate::chunk::Chunk;
use crate::error::Stop;
use crate::outcome::{Outcome, Reason};

pub(crate) struct FilterMap<T, F> {
    input: Input<T>,
    buf: Chunk<T>,
    sieve: Sieve,
    f: F,
}

impl<T, F> FilterMap<T, F> {
    pub(crate) fn new(input: Input<T>, f: F) -> FilterMap<T, F> {
        FilterMap {
            input,
            buf: Chunk::default(),
            sieve: Sieve::default(),
            f,
        }
    }
}

impl<T: Send, U: Send, F: FnMut(T) -> Option<U> + Send> Operator<U> for FilterMap<T, F> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<U>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let mut patience = Patience::default();
        loop {
            let fill = self.input.fill(cx, &mut self.buf, want)?;
            self.sieve
                .run_into(&mut self.buf.values, &mut out.values, &mut self.f);
            let columns = &mut self.buf.columns;
            self.sieve
                .settle_columns(cx, columns, Outcome::Filtered(Reason::Predicate));
            out.columns.append(columns);
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
