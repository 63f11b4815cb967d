//! A source that can be read again from any of its positions.

use std::task::Poll;

use crate::chunk::Chunk;
use crate::error::Stop;
use crate::flow::Flow;
use crate::operator::{Context, Demand, Fill, Source};
use crate::position::Unresolved;

struct Replay<T> {
    values: Vec<T>,
    next: usize,
}

impl<T: Clone + Send> Source<T> for Replay<T> {
    type Position = usize;

    fn fill(
        &mut self,
        _: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        positions: &mut Vec<usize>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let end = self.values.len().min(self.next.saturating_add(want.items));
        for place in self.next..end {
            out.push_value(self.values[place].clone());
            positions.push(place);
        }
        self.next = end;
        Ok(if end == self.values.len() {
            Fill::Done
        } else {
            Fill::More
        })
    }

    fn rewind(&mut self, _: &mut Context<'_, '_>, to: Option<&usize>) -> Result<(), Stop> {
        self.next = to.map_or(0, |place| place + 1);
        Ok(())
    }

    fn diverts(&self) -> bool {
        true
    }

    fn poll_divert(
        &mut self,
        _: &mut Context<'_, '_>,
        _: &Unresolved,
        _: Option<&usize>,
    ) -> Poll<Result<(), Stop>> {
        Poll::Ready(Ok(()))
    }
}

/// Values with their places as positions, so that the flow can be told what to do with a loss: it
/// [stops](crate::operator::Answer::Stop), [goes back](crate::operator::Answer::Rewind), or passes by
/// (a [diverted](crate::operator::Answer::Divert) value goes nowhere).
///
/// # Example
/// ```
/// use forebay::operator::Answer;
/// use forebay::testkit::replay;
///
/// let mut failed = false;
/// let all = replay(0..10)
///     .on_unresolved(Answer::Rewind)
///     .try_map(move |n| match n {
///         5 if !std::mem::replace(&mut failed, true) => Err("once"),
///         n => Ok(*n),
///     })
///     .or_fail()
///     .collect()
///     .block_on()?;
/// assert!(all.ends_with(&[5, 6, 7, 8, 9]), "it was read again from where it failed, or before");
/// # Ok::<(), forebay::error::RunError>(())
/// ```
pub fn replay<T: Clone + Send + 'static>(values: impl IntoIterator<Item = T>) -> Flow<T> {
    let values = values.into_iter().collect();
    Flow::from_source("replay", Replay { values, next: 0 })
}
