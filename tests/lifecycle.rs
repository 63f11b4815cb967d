//! The ends of a run: nothing is left behind, and what outlives a deadline is named.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use forebay::error::{Refused, RunError};
use forebay::flow::Pipeline;
use forebay::outcome::{Kind, Reason};
use forebay::source;

/// Something that every closure and every element of a run holds, to see that all were dropped.
type Token = Arc<()>;

fn endless(token: &Token) -> Pipeline<()> {
    let (mapped, awaited, sunk) = (Arc::clone(token), Arc::clone(token), Arc::clone(token));
    source::iter(0_u64..)
        .map(move |n| (n, Arc::clone(&mapped)))
        .buffer(32)
        .map_async(8, move |element| {
            let held = Arc::clone(&awaited);
            async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                drop(held);
                element
            }
        })
        .for_each(move |_| {
            let _ = &sunk;
        })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_after_an_abort_a_drain_or_a_dropped_handle() {
    for end in ["abort", "drain", "drop"] {
        let token = Token::default();
        let before = tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks();
        let mut running = endless(&token).run().unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        match end {
            "abort" => running.abort().await,
            "drain" => {
                let drained = running.drain(Duration::from_secs(20)).await.unwrap();
                assert_eq!(drained.still_running, Vec::<String>::new());
            }
            _ => {}
        }
        if end != "drop" {
            running.snapshot().check().unwrap();
        }
        drop(running);
        for _ in 0..200 {
            let tasks = tokio::runtime::Handle::current()
                .metrics()
                .num_alive_tasks();
            if Arc::strong_count(&token) == 1 && tasks == before {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(
            Arc::strong_count(&token),
            1,
            "{end}: closures or elements are left"
        );
        let after = tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks();
        assert_eq!(after, before, "{end}: tasks are left");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_outlives_the_deadline_is_named_and_cancelled() {
    let mut running = source::iter(0..100)
        .buffer(16)
        .map_async(4, |n: u64| async move {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            n
        })
        .ignore()
        .named("archive")
        .run()
        .unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let drained = running.drain(Duration::from_millis(50)).await.unwrap();
    assert!(
        drained.still_running.contains(&"archive".to_owned()),
        "{:?}",
        drained.still_running
    );
    assert_eq!(drained.output, None);
    let snapshot = running.snapshot();
    snapshot.check().unwrap();
    let cancelled: u64 = snapshot
        .stages
        .iter()
        .map(|stage| stage.counts.reason(Reason::DrainDeadline))
        .sum();
    assert!(cancelled > 0, "{snapshot}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closure_that_blocks_its_thread_does_not_block_the_abort() {
    let mut running = source::iter(0..10)
        .for_each(|_: u64| std::thread::sleep(Duration::from_millis(1500)))
        .run()
        .unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    running.abort().await;
    assert!(matches!(running.join().await, Err(RunError::Aborted)));
    running.snapshot().check().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_error_stops_the_rest_and_the_rest_is_cancelled() {
    let [fails, goes_on] = source::iter(0..100_000_u64).broadcast(16);
    let fails = fails
        .try_map(|n| if *n == 500 { Err("no") } else { Ok(*n) })
        .or_stop();
    // The element before the error is still being worked on when it comes: whatever the two
    // threads do, something is left to cancel.
    let goes_on = goes_on.map_async(1, |n| async move {
        if n >= 499 {
            std::future::pending::<()>().await;
        }
        n
    });
    let mut running = fails.ignore().and(goes_on.ignore()).run().unwrap();
    let error = running.join().await.unwrap_err();
    assert!(error.to_string().contains("try_map"), "{error}");
    let snapshot = running.snapshot();
    snapshot
        .check()
        .unwrap_or_else(|wrong| panic!("{wrong:?}\n{snapshot}"));
    assert!(snapshot.total().outcome(Kind::Cancelled) > 0);
}

#[test]
fn parts_of_one_graph_run_once() {
    let [left, right] = source::iter(0..3_u64).broadcast(4);
    let (left, right) = (left.collect(), right.collect());
    assert_eq!(left.block_on().unwrap(), [0, 1, 2]);
    let again = right.block_on().unwrap_err();
    assert!(
        matches!(again, RunError::Refused(Refused::RunTwice)),
        "{again}"
    );
}

#[test]
fn what_was_refused_is_refused_for_the_same_reason_again() {
    let [left, right] = source::iter(0..3_u64).broadcast(4);
    let refused = |pipeline: Pipeline<Vec<u64>>| match pipeline.block_on().unwrap_err() {
        RunError::Refused(refused) => refused,
        error => panic!("{error}"),
    };
    let first = refused(left.collect());
    assert!(matches!(first, Refused::Dangling { .. }), "{first}");
    assert_eq!(refused(right.collect()), first);
}
