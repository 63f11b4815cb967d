//! What stages share that work on elements where they are: all that differs is what they do with a
//! chunk.

use std::task::Poll;

use super::pace::Patience;
use super::sieve::Sieve;
use super::{Context, Control, Demand, Fill, Held, Input, Operator};
use crate::chunk::Chunk;
use crate::error::Stop;

struct InPlace<T, W> {
    input: Input<T>,
    sieve: Sieve,
    work: W,
}

/// A stage that does that with each chunk: it may take elements out, and settles them.
pub(super) fn in_place<T, W>(input: Input<T>, work: W) -> impl Operator<T> + use<T, W>
where
    T: Send,
    W: FnMut(&mut Context<'_, '_>, &mut Sieve, &mut Chunk<T>) + Send,
{
    InPlace {
        input,
        sieve: Sieve::default(),
        work,
    }
}

impl<T, W> Operator<T> for InPlace<T, W>
where
    T: Send,
    W: FnMut(&mut Context<'_, '_>, &mut Sieve, &mut Chunk<T>) + Send,
{
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let mut patience = Patience::default();
        loop {
            let fill = self.input.fill(cx, out, want)?;
            (self.work)(cx, &mut self.sieve, out);
            // Where nothing was left of the chunk there is nothing to hand on yet.
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

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.input.poll_close(cx)
    }
}
