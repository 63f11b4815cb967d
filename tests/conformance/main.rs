//! Every operator against its model, through the rules of the conformance suite.
//!
//! One table, a module for each family. A row is named after the method it tries, with more words
//! where a method is tried in more than one way; `complete` sees that no method is left out. A row
//! is a property test: for each seed the suite draws the size of chunks, the demand, the rests and
//! the order of tasks, and tries completion, barriers, going back, cancellation with and without
//! demand, failure, drain, abort and a panic in user code (see `forebay::testkit::Conformance`).
//!
//! All rows run in simulated time, where a seed repeats its run, but those of `map_blocking` and a
//! second one of `map_parallel`: these have threads, and are tried on the wall clock by the same
//! rules.
#![allow(clippy::unwrap_used, missing_docs)]

mod asynchronous;
mod boundaries;
mod complete;
mod control;
mod fallible;
mod fan_in;
mod fan_out;
mod grouping;
mod rates;
#[cfg(feature = "tower")]
mod service;
mod transform;

use std::time::Duration;

use forebay::flow::Flow;
use forebay::source;
use forebay::testkit::planned_panic;
use forebay::time;

const HOUR: Duration = Duration::from_hours(1);

/// A call that takes between 0 and 30 microseconds, some of them none at all.
async fn call(n: u64) -> u64 {
    if !n.is_multiple_of(3) {
        time::sleep(Duration::from_micros(n * 7 % 31)).await;
    }
    n * 2
}

/// User code that panics on some elements.
fn trip(n: u64) -> u64 {
    if n % 4 == 3 {
        planned_panic();
    }
    n
}

/// A second source beside that of the suite: thirty elements from 1000 on, some of them late, with
/// barriers of its own.
fn other() -> Flow<u64> {
    source::iter(1000..1030)
        .barrier_every(4)
        .map_async(1, |n| async move { call(n).await / 2 })
}

/// What [`other`] gives.
const OTHER: std::ops::Range<u64> = 1000..1030;

fn same(input: Vec<u64>) -> Vec<u64> {
    input
}

fn doubled(input: Vec<u64>) -> Vec<u64> {
    input.into_iter().map(|n| n * 2).collect()
}

fn twice(input: Vec<u64>) -> Vec<u64> {
    input.iter().chain(&input).copied().collect()
}

fn even(input: Vec<u64>) -> Vec<u64> {
    input.into_iter().filter(|n| n % 2 == 0).collect()
}

fn with_other(input: Vec<u64>) -> Vec<u64> {
    input.into_iter().chain(OTHER).collect()
}
