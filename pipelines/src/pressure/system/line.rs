//! What the baselines with a queue of their own have in common: workers that wait for it.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{Built, Setup, System, Task, Work};
use crate::shop::Shop;
use crate::trace::{Item, Trace};

/// A queue without a clock: `now_ns` never goes back.
pub(super) trait Line: Send + 'static {
    fn offer(&mut self, now_ns: u64, item: Item) -> Result<(), Item>;
    /// The next to be worked on. What it gives up on the way it drops.
    fn take(&mut self, now_ns: u64) -> Option<Item>;
}

struct State<L> {
    line: L,
    closed: bool,
}

struct Lined<L> {
    trace: Arc<Trace>,
    state: Mutex<State<L>>,
    more: Notify,
}

impl<L: Line> Lined<L> {
    fn lock(&self) -> MutexGuard<'_, State<L>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn next(&self) -> Option<Item> {
        loop {
            let mut more = pin!(self.more.notified());
            more.as_mut().enable();
            {
                let mut state = self.lock();
                let item = state.line.take(self.trace.now());
                if item.is_some() || state.closed {
                    return item;
                }
            }
            more.await;
        }
    }
}

impl<L: Line> System for Lined<L> {
    fn offer(&self, item: Item) -> Result<(), Item> {
        let now = self.trace.now();
        self.lock().line.offer(now, item)?;
        self.more.notify_one();
        Ok(())
    }

    fn close(&self) {
        self.lock().closed = true;
        self.more.notify_waiters();
    }
}

async fn worker<L: Line>(lined: Arc<Lined<L>>, shop: Arc<Shop>) {
    while let Some(item) = lined.next().await {
        // A failure is recorded by the shop.
        let _ = shop.serve(item).await;
    }
}

/// As many workers as the scenario says, on that queue of so many elements.
pub(super) fn build<L: Line>(setup: &Setup<'_>, line: L, items: usize) -> Built {
    let lined = Arc::new(Lined {
        trace: Arc::clone(setup.shop.trace()),
        state: Mutex::new(State {
            line,
            closed: false,
        }),
        more: Notify::new(),
    });
    let worker = || Box::pin(worker(Arc::clone(&lined), Arc::clone(setup.shop))) as Task;
    let tasks = std::iter::repeat_with(worker)
        .take(setup.scenario.workers)
        .collect();
    Built {
        system: lined,
        work: Work::of_tasks(tasks),
        bound_bytes: Some(setup.bound_bytes(items)),
    }
}
