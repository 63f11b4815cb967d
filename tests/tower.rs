//! Services as stages, and a pipeline as a service.
#![allow(clippy::unwrap_used, missing_docs)]
#![cfg(feature = "tower")]

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use forebay::outcome::Kind;
use forebay::source::{self, CallError};
use tower_service::Service;

/// Ready for one call at a time, and only while it has permits.
#[derive(Clone, Default)]
struct Permits(Arc<Inner>);

#[derive(Default)]
struct Inner {
    free: Mutex<(usize, Option<Waker>)>,
    called: AtomicUsize,
}

impl Permits {
    fn add(&self, count: usize) {
        let mut free = self.0.free.lock().unwrap();
        free.0 += count;
        if let Some(waker) = free.1.take() {
            waker.wake();
        }
    }
}

impl Service<u64> for Permits {
    type Response = u64;
    type Error = String;
    type Future = Pin<Box<dyn Future<Output = Result<u64, String>> + Send>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), String>> {
        let mut free = self.0.free.lock().unwrap();
        if free.0 > 0 {
            return Poll::Ready(Ok(()));
        }
        free.1 = Some(task.waker().clone());
        Poll::Pending
    }

    fn call(&mut self, n: u64) -> Self::Future {
        let mut free = self.0.free.lock().unwrap();
        free.0 = free.0.checked_sub(1).expect("called when it was not ready");
        self.0.called.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            tokio::task::yield_now().await;
            if n == 3 {
                Err("not three".to_owned())
            } else {
                Ok(n * 2)
            }
        })
    }
}

#[tokio::test]
async fn the_readiness_of_a_service_is_the_demand() {
    let service = Permits::default();
    let pipeline = source::iter(1_u64..=20)
        .service(4, service.clone())
        .collect();
    let mut running = pipeline.run().unwrap();
    for permits in [0, 1, 2, 7] {
        service.add(permits);
        tokio::time::sleep(Duration::from_millis(30)).await;
        let free = service.0.free.lock().unwrap().0;
        assert_eq!(free, 0, "it is called as often as it may be");
        let called = service.0.called.load(Ordering::Relaxed) as u64;
        assert_eq!(
            running.snapshot().total().entered,
            called,
            "no element was asked for before"
        );
    }
    service.add(100);
    let all = running.join().await.unwrap();
    let wanted: Vec<Result<u64, String>> = (1..=20)
        .map(|n| {
            if n == 3 {
                Err("not three".to_owned())
            } else {
                Ok(n * 2)
            }
        })
        .collect();
    assert_eq!(all, wanted);
    running.snapshot().check().unwrap();
    assert_eq!(running.snapshot().total().outcome(Kind::Delivered), 20);
}

#[tokio::test]
async fn a_pipeline_answers_calls_and_is_not_ready_when_it_is_full() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (mut calls, flow) = source::calls::<u64, u64>(2);
    let wait = Arc::clone(&gate);
    let mut running = flow
        .filter(|call| call.request != 13)
        .map_async(8, move |call| {
            let wait = Arc::clone(&wait);
            async move {
                wait.acquire().await.unwrap().forget();
                call
            }
        })
        .for_each(|call| {
            let _ = call.reply.send(call.request * 10);
        })
        .run()
        .unwrap();
    let mut answers = Vec::new();
    for n in [1, 2] {
        poll_fn(|task| calls.poll_ready(task)).await.unwrap();
        answers.push(calls.call(n));
    }
    assert!(futures_util::poll!(poll_fn(|task| calls.poll_ready(task))).is_pending());
    let mut other = calls.clone();
    assert_eq!(
        other.call(3).await,
        Err(CallError::Dropped),
        "it has no place"
    );
    gate.add_permits(3);
    for (n, answer) in [1, 2].into_iter().zip(answers) {
        assert_eq!(answer.await, Ok(n * 10));
    }
    poll_fn(|task| calls.poll_ready(task)).await.unwrap();
    assert_eq!(
        calls.call(13).await,
        Err(CallError::Dropped),
        "it was filtered"
    );
    running.drain(Duration::from_secs(5)).await.unwrap();
    poll_fn(|task| calls.poll_ready(task)).await.unwrap();
    assert_eq!(calls.call(4).await, Err(CallError::Closed));
    let snapshot = running.snapshot();
    snapshot.check().unwrap();
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 2);
    assert_eq!(snapshot.total().outcome(Kind::Filtered), 1);
}
