//! What may fail, and each destination of what failed.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use forebay::control::Retry;
use forebay::dead_letter::{DeadLetter, DeadLetterFn};
use forebay::error::BoxError;
use forebay::flow::{DeadLetters, OnError};
use forebay::operator::Concurrency;
use forebay::outcome::Kind;
use forebay::testkit::conformance;

use super::{HOUR, call, doubled, even, trip};

fn odd_fails(n: u64) -> Result<u64, &'static str> {
    if n.is_multiple_of(2) {
        Ok(n)
    } else {
        Err("odd")
    }
}

async fn odd_calls_fail(n: u64) -> Result<u64, &'static str> {
    call(n).await;
    odd_fails(n)
}

fn results_of(input: Vec<u64>) -> Vec<Result<u64, &'static str>> {
    input.into_iter().map(odd_fails).collect()
}

type Call = Pin<Box<dyn Future<Output = Result<u64, BoxError>> + Send>>;

/// A call that fails the first time an element comes, for each third of them.
fn flaky() -> impl FnMut(u64) -> Call {
    let mut tried = BTreeSet::new();
    move |n| {
        let first = tried.insert(n);
        Box::pin(async move {
            let doubled = call(n).await;
            if first && n % 3 == 1 {
                Err("not yet".into())
            } else {
                Ok(doubled)
            }
        })
    }
}

fn soon() -> Retry {
    Retry::tries(3)
        .backoff(Duration::from_micros(5), Duration::from_micros(20))
        .seed(1)
}

/// A sink of dead letters that takes only what was encoded of odd numbers.
fn letters(capacity: usize) -> DeadLetters {
    let judge = |letter: DeadLetter| match letter.payload.as_deref() {
        Some([n]) if n % 2 == 1 => Ok(()),
        other => Err(BoxError::from(format!("a letter of {other:?}"))),
    };
    DeadLetters::new(capacity, DeadLetterFn(judge))
}

// A reference is what `encode` gives.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn byte(n: &u64) -> Bytes {
    Bytes::copy_from_slice(&n.to_le_bytes()[..1])
}

// Attempts.
conformance! {
    try_map: |flow| flow.try_map(|n| Ok::<_, BoxError>(n * 2)).or_stop(), doubled,
        |suite| suite.panicking(|flow| flow.try_map(|n| Ok::<_, BoxError>(trip(*n))).or_stop());
    try_map_async:
        |flow| flow
            .try_map_async(Concurrency::limit(2).window(6), |n| async move {
                Ok::<_, BoxError>(call(n).await)
            })
            .or_stop(),
        doubled,
        |suite| suite.panicking(|flow| flow
            .try_map_async(3, |n| async move { Ok::<_, BoxError>(call(trip(n)).await) })
            .or_stop());
    try_map_async_unordered:
        |flow| flow
            .try_map_async_unordered(3, |n| async move { Ok::<_, BoxError>(call(n).await) })
            .or_stop(),
        doubled,
        |suite| suite.unordered().panicking(|flow| flow
            .try_map_async_unordered(3, |n| async move { Ok::<_, BoxError>(call(trip(n)).await) })
            .or_stop());
    try_map_async_keyed:
        |flow| flow
            .try_map_async_keyed(Concurrency::limit(3).window(9), |n| n % 4, |n| async move {
                Ok::<_, BoxError>(call(n).await)
            })
            .or_stop(),
        doubled,
        |suite| suite.unordered().panicking(|flow| flow
            .try_map_async_keyed(3, |n| trip(*n) % 4, |n| async move {
                Ok::<_, BoxError>(call(trip(n + 1)).await)
            })
            .or_stop());
    retry_keyed:
        |flow| flow.try_map_async_keyed(3, |n| n % 4, flaky()).retry(soon()).or_stop(),
        doubled, |suite| suite.unordered();
    retry_unordered:
        |flow| flow.try_map_async_unordered(3, flaky()).retry(soon()).or_stop(),
        doubled, |suite| suite.unordered();
    retry:
        |flow| {
            let mut tried = BTreeSet::new();
            flow.try_map(move |n| if tried.insert(*n) { Err("not yet") } else { Ok(n * 2) })
                .retry(soon())
                .or_fail()
        },
        doubled;
    retry_async: |flow| flow.try_map_async(3, flaky()).retry(soon()).or_stop(), doubled;
    give_up_after: |flow| flow.try_map_async(3, flaky()).retry(soon()).give_up_after(|_| Some(HOUR)).or_stop(), doubled;
    timeout: |flow| flow.try_map_async(3, flaky()).retry(soon()).timeout(HOUR).or_stop(), doubled;
    timeout_that_passes:
        |flow| flow
            .try_map_async(3, |n| async move { Ok::<_, BoxError>(call(n).await / 2) })
            .timeout(Duration::from_nanos(20_500))
            .or_discard(),
        |input| input.into_iter().filter(|n| n % 3 == 0 || n * 7 % 31 <= 20).collect(),
        |suite| suite.leaves_out(Kind::Shed);
}

// Ends.
conformance! {
    or_stop: |flow| flow.try_map(|n| Ok::<_, BoxError>(n * 2)).or_stop(), doubled;
    or_stop_async: |flow| flow.try_map_async(3, flaky()).retry(soon()).or_stop(), doubled;
    or_fail: |flow| flow.try_map(|n| odd_fails(*n)).or_fail(), even,
        |suite| suite.leaves_out(Kind::Failed);
    or_fail_async: |flow| flow.try_map_async(3, odd_calls_fail).or_fail(), even,
        |suite| suite.leaves_out(Kind::Failed);
    or_fail_after_retries: |flow| flow.try_map_async(3, odd_calls_fail).retry(soon()).or_fail(),
        even, |suite| suite.leaves_out(Kind::Failed);
    or_discard: |flow| flow.try_map(|n| odd_fails(*n)).or_discard(), even,
        |suite| suite.leaves_out(Kind::Shed);
    or_discard_async: |flow| flow.try_map_async(3, odd_calls_fail).or_discard(), even,
        |suite| suite.leaves_out(Kind::Shed);
    encode:
        |flow| flow
            .try_map(|n| odd_fails(*n))
            .retry(soon())
            .encode(byte)
            .or_dead_letter(&letters(1)),
        even, |suite| suite.leaves_out(Kind::DeadLettered);
    or_dead_letter:
        |flow| flow.try_map(|n| odd_fails(*n)).encode(byte).or_dead_letter(&letters(2)), even,
        |suite| suite.leaves_out(Kind::DeadLettered);
    error_class:
        |flow| flow
            .try_map(|n| odd_fails(*n))
            .encode(byte)
            .error_class(|_| "odd")
            .or_dead_letter(&letters(1)),
        even, |suite| suite.leaves_out(Kind::DeadLettered);
    or_dead_letter_async:
        |flow| flow.try_map_async(3, odd_calls_fail).encode(byte).or_dead_letter(&letters(1)), even,
        |suite| suite.leaves_out(Kind::DeadLettered);
    dead_letters:
        |flow| flow
            .try_map_async(3, odd_calls_fail)
            .encode(byte)
            .dead_letters(&letters(2))
            .on_error(|_, _| OnError::DeadLetter),
        even, |suite| suite.leaves_out(Kind::DeadLettered);
    on_error: |flow| flow.try_map(|n| odd_fails(*n)).on_error(|_, _| OnError::Discard), even,
        |suite| suite.leaves_out(Kind::Shed);
    on_error_async:
        |flow| flow
            .try_map_async(3, odd_calls_fail)
            .retry(soon())
            .on_error(|_, tries| if tries < 2 { OnError::Retry } else { OnError::Discard }),
        even, |suite| suite.leaves_out(Kind::Shed);
    results: |flow| flow.try_map(|n| odd_fails(*n)).results(), results_of,
        |suite| suite.panicking(|flow| flow.try_map(|n| odd_fails(trip(*n))).results());
    results_async: |flow| flow.try_map_async(3, odd_calls_fail).results(), results_of,
        |suite| suite.panicking(|flow| {
            flow.try_map_async(3, |n| odd_calls_fail(trip(n))).results()
        });
}
