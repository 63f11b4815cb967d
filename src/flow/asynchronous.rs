//! Stages that run a future for each element.

use std::future::Future;

use super::Flow;
use crate::operator::Concurrency;
use crate::operator::map_async::MapAsync;
use crate::topology::NodeSpec;

impl<T: Send + 'static> Flow<T> {
    /// Runs a future for each element, several at once, and hands on the results in order.
    ///
    /// A number is a limit with a reorder window of the same size; [`Concurrency::window`] sets them
    /// apart, so that fast elements may run ahead of a slow one. Futures go on while downstream asks
    /// for nothing; their results wait.
    ///
    /// - **emits when** the oldest future is ready
    /// - **back-pressures when** as many futures run as the limit allows, or the reorder window is full
    /// - **completes when** the flow before it completes and all results are handed on
    /// - **cancels when** downstream cancels; futures in flight are dropped where they stand
    /// - **settles when** the closure or its future panics: that element fails, when its turn comes,
    ///   and the others go on
    /// - **holds** at most the reorder window
    /// - **costs** a poll of each future; one allocation a slot, ever
    ///
    /// # Example
    /// ```
    /// use forebay::operator::Concurrency;
    /// use forebay::source;
    ///
    /// let lengths = source::iter(["a", "bb", "ccc"])
    ///     .map_async(Concurrency::limit(2).window(16), |word| async move { word.len() })
    ///     .collect()
    ///     .block_on()?;
    /// assert_eq!(lengths, [1, 2, 3]);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn map_async<U, F, Fut>(self, concurrency: impl Into<Concurrency>, f: F) -> Flow<U>
    where
        U: Send + 'static,
        F: FnMut(T) -> Fut + Send + 'static,
        Fut: Future<Output = U> + Send + 'static,
    {
        let concurrency = concurrency.into();
        let spec = NodeSpec::new("map_async")
            .holds(concurrency.window)
            .note(format!("{} in flight", concurrency.limit));
        self.then(spec, |input| MapAsync::new(input, concurrency, f))
    }
}
