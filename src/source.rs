//! Where elements come from.

use crate::flow::Flow;
use crate::operator::iter::Iter;

/// The elements of an iterator.
pub fn iter<I>(iter: I) -> Flow<I::Item>
where
    I: IntoIterator,
    I::IntoIter: Send + 'static,
    I::Item: Send + 'static,
{
    Flow::from_source("iter", Iter::new(iter.into_iter()))
}
