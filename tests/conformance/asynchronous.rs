//! A future for each element, or another thread.

use std::time::Duration;

use forebay::operator::Concurrency;
use forebay::testkit::conformance;

use super::{call, doubled, trip};

/// Work that keeps its thread for up to 300 microseconds.
fn work(n: u64) -> u64 {
    std::thread::sleep(Duration::from_micros(n * 7 % 4 * 100));
    n * 2
}

conformance! {
    map_async: |flow| flow.map_async(4, call), doubled,
        |suite| suite.panicking(|flow| flow.map_async(4, |n| async move { call(trip(n)).await }));
    map_async_one_at_a_time: |flow| flow.map_async(1, call), doubled,
        |suite| suite.panicking(|flow| flow.map_async(3, |n| { trip(n); call(n) }));
    map_async_window: |flow| flow.map_async(Concurrency::limit(2).window(9), call), doubled;
    map_async_with: |flow| flow.map_async_with(2, 4, |two, n| async move { call(n).await / 2 * two }),
        doubled,
        |suite| suite.panicking(|flow| flow.map_async_with((), 4, |(), n| { trip(n); call(n) }));
    map_async_unordered: |flow| flow.map_async_unordered(4, call), doubled,
        |suite| suite.unordered().panicking(|flow| {
            flow.map_async_unordered(4, |n| async move { call(trip(n)).await })
        });
    map_async_unordered_one_at_a_time: |flow| flow.map_async_unordered(1, call), doubled;
    map_async_keyed: |flow| flow.map_async_keyed(Concurrency::limit(3).window(9), |n| n % 4, call),
        doubled,
        |suite| suite.unordered().panicking(|flow| {
            flow.map_async_keyed(3, |n| trip(*n) % 4, |n| async move { call(trip(n + 1)).await })
        });
    map_async_keyed_by_one_key:
        |flow| flow.map_async_keyed(Concurrency::limit(4).window(9), |_| 0, call), doubled;
    map_parallel: |flow| flow.map_parallel(3, |n| n * 2), doubled,
        |suite| suite.panicking(|flow| flow.map_parallel(3, trip));
}

// With threads, so on the wall clock.
conformance! {
    map_parallel_on_threads: |flow| flow.map_parallel(2, work), doubled,
        |suite| suite.wall_clock().seeds(6).panicking(|flow| flow.map_parallel(2, trip));
    map_blocking: |flow| flow.map_blocking(3, work), doubled,
        |suite| suite.wall_clock().seeds(6).panicking(|flow| flow.map_blocking(3, trip));
}
