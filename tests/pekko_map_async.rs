//! Behaviours that users of Pekko Streams rely on, from the expectations of its
//! `FlowMapAsyncSpec`, `FlowMapAsyncUnorderedSpec` and `FlowMapAsyncPartitionedSpec`, in our own
//! words and with our own code. What Pekko's supervision decides, the ends of a fallible stage do.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::flow::OnError;
use forebay::operator::Concurrency;
use forebay::outcome::Kind;
use forebay::source;
use support::{run, runtime};
use tokio::sync::Semaphore;

const MS: Duration = Duration::from_millis(1);

/// `FlowMapAsyncSpec`: produce future elements in order.
#[test]
fn map_async_hands_on_in_order_though_the_last_future_ends_first() {
    let gates: Vec<_> = (0..8).map(|_| Arc::new(Semaphore::new(0))).collect();
    let started = Arc::new(Semaphore::new(0));
    let (waits, start) = (gates.clone(), Arc::clone(&started));
    let pipeline = source::iter(0..8_usize)
        .map_async(8, move |n| {
            let (gate, start) = (Arc::clone(&waits[n]), Arc::clone(&start));
            async move {
                start.add_permits(1);
                gate.acquire().await.unwrap().forget();
                n
            }
        })
        .collect();
    runtime().block_on(async {
        let mut running = pipeline.run().unwrap();
        started.acquire_many(8).await.unwrap().forget();
        for gate in gates.iter().rev() {
            gate.add_permits(1);
            tokio::task::yield_now().await;
        }
        assert_eq!(running.join().await.unwrap(), (0..8).collect::<Vec<_>>());
    });
}

/// `FlowMapAsyncSpec`: not run more futures than requested parallelism.
#[test]
fn map_async_runs_no_more_futures_than_declared() {
    let (busy, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, most) = (Arc::clone(&busy), Arc::clone(&peak));
    let (result, _) = run(source::iter(0..200_u64)
        .map_async(Concurrency::limit(5).window(50), move |n| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let now = Arc::clone(&now);
            async move {
                tokio::time::sleep(MS / 4).await;
                now.fetch_sub(1, Ordering::SeqCst);
                n
            }
        })
        .collect());
    assert_eq!(result.unwrap().len(), 200);
    assert_eq!(peak.load(Ordering::SeqCst), 5);
}

/// `FlowMapAsyncSpec`: signal future failure (also when it is not the first to end).
#[test]
fn a_failed_future_stops_the_run_with_its_error_after_what_came_before_it() {
    let gate = Arc::new(Semaphore::new(0));
    let open = Arc::clone(&gate);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let see = Arc::clone(&seen);
    let (result, _) = run(source::iter(1..=5_u64)
        .try_map_async(4, move |n| {
            let (gate, open) = (Arc::clone(&gate), Arc::clone(&open));
            async move {
                if n == 3 {
                    open.add_permits(5);
                    return Err("the third");
                }
                gate.acquire().await.unwrap().forget();
                Ok(n)
            }
        })
        .or_stop()
        .for_each(move |n| see.lock().unwrap().push(n)));
    assert!(result.unwrap_err().to_string().contains("the third"));
    assert_eq!(*seen.lock().unwrap(), [1, 2]);
}

/// `FlowMapAsyncSpec`: signal error from mapAsync (the function itself throws).
#[test]
fn a_closure_that_panics_fails_its_element_before_there_is_a_future() {
    let (result, snapshot) = run(source::iter(1..=5_u64)
        .map_async(4, |n| {
            assert!(n != 3, "err2");
            async move { n }
        })
        .collect());
    assert_eq!(result.unwrap(), [1, 2, 4, 5]);
    assert_eq!(snapshot.total().outcome(Kind::Failed), 1);
}

/// `FlowMapAsyncSpec`: resume after (multiple) future failures.
#[test]
fn a_stage_that_discards_failures_goes_on_after_any_number_of_them() {
    let failures = [1, 2, 3, 5, 8, 9];
    let (result, snapshot) = run(source::iter(0..10_u64)
        .try_map_async(3, move |n| async move {
            tokio::task::yield_now().await;
            if failures.contains(&n) { Err(n) } else { Ok(n) }
        })
        .or_discard()
        .collect());
    assert_eq!(result.unwrap(), [0, 4, 6, 7]);
    assert_eq!(snapshot.total().outcome(Kind::Shed), 6);
}

/// `FlowMapAsyncSpec`: finish after future failure, when the failed one is the last.
#[test]
fn a_stage_ends_although_its_last_future_failed() {
    let (result, _) = run(source::iter(1..=3_u64)
        .try_map_async(1, |n| async move {
            tokio::time::sleep(MS).await;
            if n == 3 { Err("the last") } else { Ok(n) }
        })
        .or_discard()
        .collect());
    assert_eq!(result.unwrap(), [1, 2]);
}

/// `FlowMapAsyncSpec`: the decider is asked once for each failure.
#[test]
fn the_decision_is_asked_for_once_for_each_failure() {
    let asked = Arc::new(AtomicUsize::new(0));
    let ask = Arc::clone(&asked);
    let (result, _) = run(source::iter(0..100_u64)
        .try_map_async(4, |n| async move {
            if n % 2 == 0 { Err("even") } else { Ok(n) }
        })
        .on_error(move |_, _| {
            ask.fetch_add(1, Ordering::Relaxed);
            OnError::Discard
        })
        .collect());
    assert_eq!(result.unwrap().len(), 50);
    assert_eq!(asked.load(Ordering::Relaxed), 50);
}

/// `FlowMapAsyncSpec`: should handle cancel properly.
#[test]
fn a_cancellation_drops_the_futures_in_flight() {
    struct Dropped(Arc<AtomicUsize>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&dropped);
    let pipeline = source::iter(0_u64..)
        .map_async(4, move |_| {
            let held = Dropped(Arc::clone(&count));
            async move {
                std::future::pending::<()>().await;
                drop(held);
            }
        })
        .ignore();
    runtime().block_on(async {
        let mut running = pipeline.run().unwrap();
        tokio::time::sleep(20 * MS).await;
        running.abort().await;
        assert_eq!(dropped.load(Ordering::SeqCst), 4);
        assert_eq!(running.snapshot().total().outcome(Kind::Cancelled), 4);
    });
}

/// `FlowMapAsyncUnorderedSpec`: produce future elements in the order they are ready.
#[test]
fn unordered_hands_on_in_the_order_of_completion() {
    let gates: Vec<_> = (0..4).map(|_| Arc::new(Semaphore::new(0))).collect();
    let waits = gates.clone();
    let (send, receive) = async_channel::bounded(4);
    let pipeline = source::iter(0..4_usize)
        .map_async_unordered(4, move |n| {
            let gate = Arc::clone(&waits[n]);
            async move {
                gate.acquire().await.unwrap().forget();
                n
            }
        })
        .for_each(move |n| send.try_send(n).unwrap());
    runtime().block_on(async {
        let mut running = pipeline.run().unwrap();
        for n in [1, 2, 0, 3] {
            gates[n].add_permits(1);
            assert_eq!(receive.recv().await.unwrap(), n);
        }
        running.join().await.unwrap();
    });
}

/// `FlowMapAsyncPartitionedSpec`: process elements of one partition in order, one at a time, and
/// never more partitions than the parallelism.
#[test]
fn keyed_runs_one_of_a_key_at_a_time_and_no_more_than_declared_in_all() {
    let busy = Arc::new(Mutex::new(BTreeMap::<u64, usize>::new()));
    let peak = Arc::new(AtomicUsize::new(0));
    let (now, most) = (Arc::clone(&busy), Arc::clone(&peak));
    let (result, _) = run(source::iter(0..300_u64)
        .map_async_keyed(
            Concurrency::limit(3).window(30),
            |n| n % 7,
            move |n| {
                let (now, most) = (Arc::clone(&now), Arc::clone(&most));
                async move {
                    {
                        let mut now = now.lock().unwrap();
                        *now.entry(n % 7).or_default() += 1;
                        assert!(now.values().all(|count| *count <= 1), "two of one key");
                        most.fetch_max(now.values().sum(), Ordering::SeqCst);
                    }
                    tokio::time::sleep(MS / 8 * (n % 3) as u32).await;
                    *now.lock().unwrap().entry(n % 7).or_default() -= 1;
                    n
                }
            },
        )
        .collect());
    let all = result.unwrap();
    assert_eq!(all.len(), 300);
    for key in 0..7 {
        assert!(all.iter().filter(|n| *n % 7 == key).is_sorted());
    }
    assert_eq!(peak.load(Ordering::SeqCst), 3);
}

/// `FlowMapAsyncPartitionedSpec`: a failure in a partition does not hold up the rest of it.
#[test]
fn keyed_goes_on_with_a_key_after_a_failure_in_it() {
    let (result, snapshot) = run(source::iter(0..20_u64)
        .map_async_keyed(
            4,
            |_| "one key",
            |n| async move {
                tokio::task::yield_now().await;
                assert!(n % 5 != 0, "planned");
                n
            },
        )
        .collect());
    assert_eq!(
        result.unwrap(),
        (0..20).filter(|n| n % 5 != 0).collect::<Vec<_>>()
    );
    assert_eq!(snapshot.total().outcome(Kind::Failed), 4);
}
