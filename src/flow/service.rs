//! A service as a stage.

use std::future::Future;
use std::sync::{Arc, Mutex};

use tower_service::Service;

use super::Flow;
use crate::error::BoxError;
use crate::operator::Concurrency;
use crate::operator::map_async::MapAsync;
use crate::operator::service::Gate;
use crate::sync::lock;
use crate::topology::NodeSpec;

impl<T: Send + 'static> Flow<T> {
    /// Calls any `tower::Service` with each element, several at once, and hands on the responses in
    /// order. The service's readiness is the demand: no element is asked for before it is ready.
    ///
    /// - *emits when* the call of the oldest element has returned.
    /// - *back-pressures when* the service is not ready, or as many calls as allowed are in flight.
    /// - *completes when* upstream completes and all calls have returned.
    /// - *cancels when* downstream cancels: the calls in flight are dropped.
    /// - *settles when* a call panics: failed. An `Err` is a value: what it means is decided
    ///   downstream. A service that fails to become ready stops the run.
    /// - *holds* as many elements as its window: those in flight, and those that wait for older ones.
    /// - *costs* what `map_async` costs, a lock a call, and a chunk of one element.
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    /// use std::task::{Context, Poll};
    ///
    /// struct Square;
    /// impl tower_service::Service<u64> for Square {
    ///     type Response = u64;
    ///     type Error = std::convert::Infallible;
    ///     type Future = std::future::Ready<Result<u64, Self::Error>>;
    ///     fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
    ///         Poll::Ready(Ok(()))
    ///     }
    ///     fn call(&mut self, n: u64) -> Self::Future {
    ///         std::future::ready(Ok(n * n))
    ///     }
    /// }
    /// let squares = source::iter(1..=3).service(4, Square).map(Result::unwrap).collect();
    /// assert_eq!(squares.block_on().unwrap(), [1, 4, 9]);
    /// ```
    pub fn service<S>(
        self,
        concurrency: impl Into<Concurrency>,
        service: S,
    ) -> Flow<Result<S::Response, S::Error>>
    where
        S: Service<T> + Send + 'static,
        S::Response: Send + 'static,
        S::Error: Into<BoxError> + Send + 'static,
        S::Future: Future<Output = Result<S::Response, S::Error>> + Send + 'static,
    {
        let concurrency = concurrency.into();
        let service = Arc::new(Mutex::new(service));
        let gated = Arc::clone(&service);
        let spec = NodeSpec::new("service")
            .holds(concurrency.window)
            .note(format!("{} in flight", concurrency.limit));
        self.then(NodeSpec::new("service_ready"), |input| {
            Gate::new(input, gated)
        })
        .then(spec, |input| {
            MapAsync::new(input, concurrency, move |value| lock(&service).call(value))
        })
    }
}
