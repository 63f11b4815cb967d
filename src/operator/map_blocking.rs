//! Work that blocks its thread, as a future: on a thread of tokio's that may block.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::task::JoinHandle;

/// The result of work that may block. Dropped, it keeps work from starting that has not started;
/// what runs already runs to its end, and its result is dropped.
pub(crate) struct Blocking<U>(JoinHandle<U>);

impl<U: Send + 'static> Blocking<U> {
    pub(crate) fn start(work: impl FnOnce() -> U + Send + 'static) -> Blocking<U> {
        Blocking(tokio::task::spawn_blocking(work))
    }
}

impl<U> Future for Blocking<U> {
    type Output = U;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<U> {
        match ready!(Pin::new(&mut self.0).poll(cx)) {
            Ok(value) => Poll::Ready(value),
            // The element fails by it, as with any future that panics.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Poll::Pending,
            },
        }
    }
}

impl<U> Drop for Blocking<U> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
