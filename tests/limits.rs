//! Limits as large as their type: a number that means "as many as there are" must cost nothing.
#![allow(clippy::unwrap_used, missing_docs)]

use std::future::ready;
use std::time::Duration;

use forebay::control::Retry;
use forebay::flow::Pipeline;
use forebay::operator::{Concurrency, Groups};
use forebay::source;

const ALL: usize = usize::MAX;

fn run<O: Send + 'static>(pipeline: Pipeline<O>) -> O {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut running = pipeline.run().unwrap();
        let joined = tokio::time::timeout(Duration::from_secs(20), running.join()).await;
        let output = joined.unwrap().unwrap();
        running.snapshot().check().unwrap();
        output
    })
}

#[test]
fn as_many_futures_as_there_are_elements() {
    let numbers = || source::iter(0..1000_u64);
    let expected: Vec<u64> = (0..1000).collect();
    // All of them are in flight at once: 16 words of wake-ups.
    let yields = |n: u64| async move {
        tokio::task::yield_now().await;
        n
    };
    assert_eq!(run(numbers().map_async(ALL, yields).collect()), expected);
    let mut unordered = run(numbers().map_async_unordered(ALL, yields).collect());
    unordered.sort_unstable();
    assert_eq!(unordered, expected);
    let keyed = numbers().map_async_keyed(ALL, |n| n % 7, yields).collect();
    assert_eq!(run(keyed).len(), 1000);
    run(numbers().for_each_async(ALL, move |n| async move {
        yields(n).await;
    }));
}

#[test]
fn as_many_lanes_as_there_may_be() {
    let squares = source::iter(0..1000_u64).map_parallel(ALL, |n| n * n);
    assert_eq!(run(squares.collect()).len(), 1000);
}

#[test]
fn as_many_tries_as_there_are_elements() {
    for concurrency in [
        Concurrency::limit(2).window(ALL),
        Concurrency::limit(ALL - 1).window(ALL),
    ] {
        let tried = source::iter(0..1000_u64)
            .try_map_async(concurrency, |n| ready(Ok::<_, String>(n)))
            .retry(Retry::tries(2))
            .or_stop();
        assert_eq!(run(tried.collect()).len(), 1000);
    }
}

#[test]
fn as_many_groups_as_there_are_keys() {
    let groups = Groups::keys(ALL).buffer(ALL);
    let grouped = source::iter(0..1000_u64).group_by(groups, |n| n % 100, |_, flow| flow);
    assert_eq!(run(grouped.collect()).len(), 1000);
}

#[test]
fn as_much_room_as_there_may_be() {
    let numbers = source::iter(0..1000_u64).window(ALL).buffer(ALL);
    let [left, right] = numbers.broadcast(ALL);
    let groups = right.grouped_within((ALL, Duration::from_millis(1)));
    let merged = left.merge([groups.map(|_| 0)]);
    assert!(run(merged.collect()).len() > 1000);
}
