//! tokio's mpsc channel behind tower's `LoadShed` and `ConcurrencyLimit`.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::{mpsc, oneshot};
use tower::limit::ConcurrencyLimit;
use tower::load_shed::LoadShed;
use tower::{BoxError, Service};

use super::driver::Driver;
use super::{Built, Setup, System, Task, Work};
use crate::shop::Shop;
use crate::trace::Item;

/// The request: tower drops the one it sheds, and the producer wants it back.
type Request = Arc<Mutex<Option<Item>>>;
/// An element, and whom to tell that it is done.
type Job = (Item, oneshot::Sender<()>);
type Response = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

fn take(request: &Request) -> Option<Item> {
    request
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
}

/// Puts the element into the channel; the response is that a worker has done it.
#[derive(Clone)]
struct Enqueue(mpsc::Sender<Job>);

impl Service<Request> for Enqueue {
    type Response = ();
    type Error = BoxError;
    type Future = Response;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Response {
        let (done, response) = oneshot::channel();
        let sent = take(&request).is_some_and(|item| match self.0.try_send((item, done)) {
            Ok(()) => true,
            Err(error) => {
                let (item, _) = error.into_inner();
                *request.lock().unwrap_or_else(PoisonError::into_inner) = Some(item);
                false
            }
        });
        Box::pin(async move {
            if !sent {
                return Err("the channel is full".into());
            }
            response.await.map_err(BoxError::from)
        })
    }
}

struct Shed {
    /// Absent once closed.
    service: Mutex<Option<(LoadShed<ConcurrencyLimit<Enqueue>>, Driver)>>,
}

impl System for Shed {
    fn offer(&self, item: Item) -> Result<(), Item> {
        let service = self
            .service
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let request: Request = Arc::new(Mutex::new(Some(item)));
        if let Some((mut service, driver)) = service {
            let mut cx = Context::from_waker(Waker::noop());
            let _ = service.poll_ready(&mut cx);
            let mut response: Response = Box::pin(service.call(Arc::clone(&request)));
            if response.as_mut().poll(&mut cx).is_pending() {
                driver.leave(Box::pin(async move {
                    // That it was done the worker has recorded; this gives its permit back.
                    let _ = response.await;
                }));
            }
        }
        take(&request).map_or(Ok(()), Err)
    }

    fn close(&self) {
        self.service
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }
}

async fn worker(receiver: Arc<tokio::sync::Mutex<mpsc::Receiver<Job>>>, shop: Arc<Shop>) {
    loop {
        let job = receiver.lock().await.recv().await;
        let Some((item, done)) = job else {
            return;
        };
        // A failure is recorded by the shop.
        let _ = shop.serve(item).await;
        let _ = done.send(());
    }
}

pub(super) fn build(setup: &Setup<'_>) -> Built {
    let workers = setup.scenario.workers;
    let baselines = &setup.scenario.baselines;
    let limit = baselines.concurrency_limit_per_worker * workers;
    let (sender, receiver) = mpsc::channel(baselines.queue_items);
    let (driver, driven) = Driver::new();
    let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
    let worker = || Box::pin(worker(Arc::clone(&receiver), Arc::clone(setup.shop))) as Task;
    let mut tasks: Vec<Task> = std::iter::repeat_with(worker).take(workers).collect();
    tasks.push(driven);
    let service = LoadShed::new(ConcurrencyLimit::new(Enqueue(sender), limit));
    Built {
        system: Arc::new(Shed {
            service: Mutex::new(Some((service, driver))),
        }),
        work: Work::of_tasks(tasks),
        bound_bytes: Some(setup.bound_bytes(limit)),
    }
}
