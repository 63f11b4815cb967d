//! Signals of the process: the first drains a run, the second aborts it.

use std::time::Duration;

use super::running::{Drained, Running};
use crate::error::RunError;

/// Waits for an interrupt (Ctrl-C) or, on Unix, a request to terminate.
async fn next() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                biased;
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    // Without a handler there is nothing to wait for: the process ends as it always did.
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl<O> Running<O> {
    /// Joins the run and obeys the signals of the process meanwhile: the first interrupt or request
    /// to terminate drains it, for at most that long; the second aborts it.
    ///
    /// The signals stay caught by the process afterwards. Cancel safe: dropped, it can be called
    /// again, or another way of joining.
    ///
    /// # Errors
    /// As [`Running::join`], and [`RunError::Aborted`] after the second signal.
    pub async fn join_or_signal(&mut self, deadline: Duration) -> Result<Drained<O>, RunError> {
        tokio::select! {
            biased;
            result = self.join() => {
                return result.map(|output| Drained { output: Some(output), still_running: Vec::new() });
            }
            () = next() => {}
        }
        tracing::info!("signal: draining, for at most {deadline:?}");
        tokio::select! {
            biased;
            result = self.drain(deadline) => return result,
            () = next() => {}
        }
        tracing::info!("second signal: aborting");
        self.abort().await;
        Err(RunError::Aborted)
    }
}
