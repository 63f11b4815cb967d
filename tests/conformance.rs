//! Every operator against its model, through the rules of the conformance suite.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use forebay::operator::Concurrency;
use forebay::testkit::{conformance, planned_panic};
use forebay::time;

/// A call that takes between 0 and 30 microseconds, some of them none at all.
async fn call(n: u64) -> u64 {
    if n % 3 != 0 {
        time::sleep(Duration::from_micros(n * 7 % 31)).await;
    }
    n * 2
}

fn doubled(input: Vec<u64>) -> Vec<u64> {
    input.into_iter().map(|n| n * 2).collect()
}

conformance! {
    map: |flow| flow.map(|n| n * 2), doubled,
        |suite| suite.panicking(|flow| flow.map(|n| if n == 5 { planned_panic() } else { n }));
    map_async: |flow| flow.map_async(4, call), doubled,
        |suite| suite.panicking(|flow| flow.map_async(4, |n| async move {
            if n % 4 == 3 {
                planned_panic();
            }
            call(n).await
        }));
    map_async_one_at_a_time: |flow| flow.map_async(1, call), doubled;
    map_async_window: |flow| flow.map_async(Concurrency::limit(2).window(9), call), doubled;
    buffer: |flow| flow.buffer(3), |input| input, |suite| suite.errors_overtake();
    async_boundary: |flow| flow.async_boundary().map(|n| n * 2), doubled,
        |suite| suite.errors_overtake();
    three_islands: |flow| flow.buffer(2).map_async(3, call).buffer(5).map(|n| n / 2), |input| input,
        |suite| suite.errors_overtake();
}
