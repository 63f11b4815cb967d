//! The source of an iterator.

use crate::chunk::Chunk;
use crate::error::{Cause, Stop};
use crate::operator::{Context, Demand, Fill, Source, guard};

pub(crate) struct Iter<I> {
    iter: I,
}

impl<I> Iter<I> {
    pub(crate) fn new(iter: I) -> Iter<I> {
        Iter { iter }
    }
}

impl<I: Iterator + Send> Source<I::Item> for Iter<I> {
    type Position = ();

    fn fill(
        &mut self,
        _: &mut Context<'_, '_>,
        out: &mut Chunk<I::Item>,
        positions: &mut Vec<()>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let (before, values) = (out.values.len(), &mut out.values);
        let ran = guard(|| values.extend(self.iter.by_ref().take(want.items)));
        let count = out.values.len() - before;
        out.columns.grow(count);
        positions.resize(count, ());
        match ran {
            // What the iterator gave before it panicked was taken in; it is told first.
            Err(message) => Err(Stop::cause(Cause::Panicked(message))),
            Ok(()) if count < want.items => Ok(Fill::Done),
            Ok(()) => Ok(Fill::More),
        }
    }
}
