//! tokio's bounded mpsc channel, offered to with `try_send`.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::{Built, Setup, System, Task, Work};
use crate::shop::Shop;
use crate::trace::Item;

struct Channel(Mutex<Option<Sender<Item>>>);

impl System for Channel {
    fn offer(&self, item: Item) -> Result<(), Item> {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = &*sender else {
            return Err(item);
        };
        sender.try_send(item).map_err(|error| match error {
            TrySendError::Full(item) | TrySendError::Closed(item) => item,
        })
    }

    fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

async fn worker(receiver: Arc<tokio::sync::Mutex<Receiver<Item>>>, shop: Arc<Shop>) {
    loop {
        let item = receiver.lock().await.recv().await;
        let Some(item) = item else {
            return;
        };
        // A failure is recorded by the shop.
        let _ = shop.serve(item).await;
    }
}

pub(super) fn build(setup: &Setup<'_>) -> Built {
    let items = setup.scenario.baselines.queue_items;
    let (sender, receiver) = channel(items);
    let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
    let worker = || Box::pin(worker(Arc::clone(&receiver), Arc::clone(setup.shop))) as Task;
    let tasks = std::iter::repeat_with(worker)
        .take(setup.scenario.workers)
        .collect();
    Built {
        system: Arc::new(Channel(Mutex::new(Some(sender)))),
        work: Work::of_tasks(tasks),
        bound_bytes: Some(setup.bound_bytes(items)),
    }
}
