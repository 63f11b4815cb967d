//! Sources of values at hand.

use crate::flow::Flow;
use crate::operator::sources::iter::Iter;

/// The elements of an iterator, which is asked for as many as are wanted and no more.
///
/// - *emits when* there is demand.
/// - *back-pressures when* there is none: the iterator rests.
/// - *completes when* the iterator ends; a panic of it stops the run.
/// - *cancels when* downstream cancels: the iterator is dropped with the run.
/// - *settles when* its elements are settled downstream; they have no positions.
/// - *holds* nothing.
/// - *costs* one loop over the iterator a chunk.
///
/// # Example
/// ```
/// use forebay::source;
///
/// assert_eq!(source::iter(1..=3).collect().block_on()?, [1, 2, 3]);
/// # Ok::<(), forebay::error::RunError>(())
/// ```
pub fn iter<I>(iter: I) -> Flow<I::Item>
where
    I: IntoIterator,
    I::IntoIter: Send + 'static,
    I::Item: Send + 'static,
{
    Flow::from_source("iter", Iter::new(iter.into_iter()))
}
