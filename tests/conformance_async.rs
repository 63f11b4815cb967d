//! The stages that run futures, work on other threads or may fail, through the rules of the
//! conformance suite.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use bytes::Bytes;
use forebay::control::Retry;
use forebay::dead_letter::DeadLetterFn;
use forebay::flow::DeadLetters;
use forebay::operator::Concurrency;
use forebay::outcome::Kind;
use forebay::testkit::{conformance, planned_panic};
use forebay::time;

/// A call that takes between 0 and 30 microseconds, some of them none at all.
async fn call(n: u64) -> u64 {
    if !n.is_multiple_of(3) {
        time::sleep(Duration::from_micros(n * 7 % 31)).await;
    }
    n * 2
}

fn no_thirds(input: Vec<u64>) -> Vec<u64> {
    input.into_iter().filter(|n| n % 3 != 0).collect()
}

fn doubled(input: Vec<u64>) -> Vec<u64> {
    input.into_iter().map(|n| n * 2).collect()
}

conformance! {
    map_async_keyed_by_one_key: |flow| flow.map_async_keyed(Concurrency::limit(4).window(9), |_| 0, call),
        doubled;
    map_async_unordered_one_at_a_time: |flow| flow.map_async_unordered(1, call), doubled,
        |suite| suite.panicking(|flow| flow.map_async_unordered(1, |n| async move {
            if n % 4 == 3 {
                planned_panic();
            }
            call(n).await
        }));
    map_parallel: |flow| flow.map_parallel(3, |n| n * 2), doubled,
        |suite| suite.panicking(|flow| flow.map_parallel(3, |n| if n == 5 { planned_panic() } else { n }));
    try_map_or_discard: |flow| flow.try_map(|n| if n % 3 == 0 { Err("third") } else { Ok(*n) }).or_discard(),
        no_thirds, |suite| suite.may(Kind::Shed);
    try_map_or_dead_letter: |flow| flow
            .try_map(|n| if n % 3 == 0 { Err("third") } else { Ok(*n) })
            .encode(|_| Bytes::new())
            .or_dead_letter(&DeadLetters::new(2, DeadLetterFn(|_| Ok(())))),
        no_thirds, |suite| suite.may(Kind::DeadLettered);
    try_map_async_or_dead_letter: |flow| flow
            .try_map_async(3, |n| async move {
                let doubled = call(n).await;
                if n % 3 == 0 { Err("third") } else { Ok(doubled / 2) }
            })
            .encode(|_| Bytes::new())
            .or_dead_letter(&DeadLetters::new(1, DeadLetterFn(|_| Ok(())))),
        no_thirds, |suite| suite.may(Kind::DeadLettered);
    map_async_unordered: |flow| flow.map_async_unordered(4, call), doubled, |suite| suite.unordered();
    map_async_keyed: |flow| flow.map_async_keyed(Concurrency::limit(3).window(9), |n| n % 4, call),
        doubled, |suite| suite.unordered();
    try_map_async_results: |flow| flow
            .try_map_async(4, |n| async move { Ok::<_, String>(call(n).await) })
            .results()
            .map(|n| n.unwrap_or(0)),
        doubled;
    try_map_async_retry: |flow| {
            let mut tries = 0_u64;
            flow.try_map_async(Concurrency::limit(2).window(6), move |n| {
                tries += 1;
                let fails = tries.is_multiple_of(5);
                async move { if fails { Err("busy") } else { Ok(call(n).await) } }
            })
            .retry(Retry::tries(20).backoff(Duration::from_micros(5), Duration::from_micros(50)))
            .or_fail()
        }, doubled;
}
