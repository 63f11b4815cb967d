//! Runs what offers leave behind: responses that somebody has to poll, offers that wait for a place.

use std::future::Future;
use std::pin::Pin;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

use super::Task;

/// A future left behind by an offer.
type Left = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where offers leave their futures. It has no bound of its own: what is in it holds an element each,
/// or a permit, and the system bounds those.
#[derive(Clone)]
pub(super) struct Driver(mpsc::UnboundedSender<Left>);

impl Driver {
    /// The driver and the task that polls; it ends when the driver is gone and all futures are ready.
    pub(super) fn new() -> (Driver, Task) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Driver(sender), Box::pin(drive(receiver)))
    }

    /// Has it polled to its end. If the run is over, it is dropped.
    pub(super) fn leave(&self, future: Left) {
        let _ = self.0.send(future);
    }
}

async fn drive(mut left: mpsc::UnboundedReceiver<Left>) {
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(()) = running.next(), if !running.is_empty() => {}
            future = left.recv() => match future {
                Some(future) => running.push(future),
                None => break,
            }
        }
    }
    while running.next().await.is_some() {}
}
