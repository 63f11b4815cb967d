//! Stages that run a future for each element.

use std::future::Future;

use super::Flow;
use crate::operator::Concurrency;
use crate::operator::map_async::MapAsync;
use crate::topology::NodeSpec;

impl<T: Send + 'static> Flow<T> {
    /// Runs a future for each element, several at once, and hands on the results in order.
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
