//! Work with files that is under way: on a thread that may block, where there is one.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::error::{Cause, Stop};
use crate::time;

/// What becomes of it is not awaited when this is dropped; it is done all the same.
pub(super) enum Work<R> {
    Thread(JoinHandle<R>),
    /// Done at once: in simulated time there are no threads, and nobody whom it would hold up.
    Here(Option<R>),
}

impl<R: Send + 'static> Work<R> {
    pub(super) fn start(work: impl FnOnce() -> R + Send + 'static) -> Work<R> {
        match Handle::try_current() {
            Ok(handle) if !time::is_simulated() => Work::Thread(handle.spawn_blocking(work)),
            _ => Work::Here(Some(work())),
        }
    }

    pub(super) fn poll(&mut self, task: &mut Context<'_>) -> Poll<Result<R, Stop>> {
        let broken = || Stop::cause(Cause::Broken);
        match self {
            Work::Thread(handle) => Pin::new(handle)
                .poll(task)
                .map(|result| result.map_err(|_| broken())),
            Work::Here(result) => Poll::Ready(result.take().ok_or_else(broken)),
        }
    }
}
