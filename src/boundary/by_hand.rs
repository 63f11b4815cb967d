//! What tests need to drive the sides of a boundary by hand, call by call.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use crate::operator::Spawn;

/// A boundary starts nothing.
pub(super) struct NoSpawn;

impl Spawn for NoSpawn {
    fn spawn(&self, name: &str, _: Pin<Box<dyn Future<Output = ()> + Send>>) {
        unreachable!("a boundary does not start {name}");
    }
}

/// A task that counts how often it was woken.
#[derive(Default)]
pub(super) struct Task(AtomicUsize);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Task {
    /// How often it was woken since it was last asked.
    pub(super) fn woken(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}
