//! Every operator against its model, through the rules of the conformance suite.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::time::Duration;

use forebay::boundary::{Buffer, WhenFull};
use forebay::class::Class;
use forebay::control::{BatchLimits, Retry};
use forebay::error::BoxError;
use forebay::flow::KillSwitch;
use forebay::operator::Concurrency;
use forebay::outcome::Kind;
use forebay::source;
use forebay::testkit::{conformance, planned_panic};
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

fn doubled(input: Vec<u64>) -> Vec<u64> {
    input.into_iter().map(|n| n * 2).collect()
}

fn same(input: Vec<u64>) -> Vec<u64> {
    input
}

fn even(input: Vec<u64>) -> Vec<u64> {
    input.into_iter().filter(|n| n % 2 == 0).collect()
}

fn sums(input: Vec<u64>) -> Vec<u64> {
    let sum = |sum: &mut u64, n| {
        *sum += n;
        Some(*sum)
    };
    input.into_iter().scan(0, sum).collect()
}

fn fives(input: Vec<u64>) -> Vec<Vec<u64>> {
    input.chunks(5).map(<[u64]>::to_vec).collect()
}

// One element of one.
conformance! {
    map: |flow| flow.map(|n| n * 2), doubled,
        |suite| suite.panicking(|flow| flow.map(trip));
    map_in_place: |flow| flow.map_in_place(|n| *n *= 2), doubled,
        |suite| suite.panicking(|flow| flow.map_in_place(|n| *n = trip(*n)));
    inspect: |flow| flow.inspect(|_| ()), same,
        |suite| suite.panicking(|flow| flow.inspect(|n| { trip(*n); }));
    stateful_map: |flow| flow.stateful_map(0, |sum, n| { *sum += n; *sum }), sums,
        |suite| suite.panicking(|flow| flow.stateful_map(0, |sum, n| { *sum += trip(n); *sum }));
    stateful_map_with_rebuild:
        |flow| flow.stateful_map_with_rebuild((), |(), n| n * 2, |(), _| ()), doubled;
    scan: |flow| flow.scan(0, |sum, n| *sum += n), sums,
        |suite| suite.panicking(|flow| flow.scan(0, |sum, n| *sum += trip(n)));
    classify:
        |flow| flow.classify(|n| if n % 2 == 0 { Class::HIGH } else { Class::LOW }), same,
        |suite| suite.panicking(|flow| flow.classify(|n| { trip(*n); Class::LOW }));
    weigh: |flow| flow.weigh(|n| *n), same,
        |suite| suite.panicking(|flow| flow.weigh(|n| trip(*n)));
    deadline: |flow| flow.deadline(HOUR).expire(), same;
    deadline_by: |flow| flow.deadline_by(|n| (n % 2 == 0).then_some(HOUR)).expire(), same,
        |suite| suite.panicking(|flow| flow.deadline_by(|n| { trip(*n); None }));
    expire:
        |flow| flow.deadline(Duration::from_micros(20)).map_async(2, call).expire(), doubled,
        |suite| suite.may(Kind::Expired);
}

// Fewer or more elements than came.
conformance! {
    filter: |flow| flow.filter(|n| n % 2 == 0), even,
        |suite| suite.panicking(|flow| flow.filter(|n| trip(*n) > 0));
    filter_map: |flow| flow.filter_map(|n| (n % 2 == 0).then_some(n)), even,
        |suite| suite.panicking(|flow| flow.filter_map(|n| Some(trip(n))));
    map_concat: |flow| flow.map_concat(|n| 0..n % 4),
        |input| input.into_iter().flat_map(|n| 0..n % 4).collect(),
        |suite| suite.panicking(|flow| flow.map_concat(|n| 0..trip(n) % 3));
    map_concat_large: |flow| flow.map_concat(|n| (n % 7 == 0).then_some(0..300).into_iter().flatten()),
        |input| input.into_iter().filter(|n| n % 7 == 0).flat_map(|_| 0..300).collect(),
        |suite| suite.seeds(8);
    take: |flow| flow.take(7), |input| input.into_iter().take(7).collect(),
        |suite| suite.may(Kind::Cancelled).errors_overtake();
    skip: |flow| flow.skip(7), |input| input.into_iter().skip(7).collect();
    grouped: |flow| flow.grouped(5), fives, |suite| suite.regroups();
    grouped_within_items: |flow| flow.grouped_within(BatchLimits::new(5, HOUR)), fives,
        |suite| suite.regroups();
    grouped_within_time:
        |flow| flow
            .grouped_within(BatchLimits::new(8, Duration::from_micros(15)))
            .map_concat(|group| group),
        same;
    grouped_within_bytes:
        |flow| flow
            .weigh(|n| n % 9)
            .grouped_within(BatchLimits::new(8, Duration::from_micros(40)).bytes(12))
            .map_concat(|group| group),
        same;
    aggregate: |flow| flow.aggregate(0, |sum, n| *sum += n), |input| vec![input.iter().sum()],
        |suite| suite
            .regroups()
            .errors_overtake()
            .may(Kind::Delivered)
            .panicking(|flow| flow.aggregate(0, |sum, n| *sum += trip(n)));
}

// A future for each.
conformance! {
    map_async: |flow| flow.map_async(4, call), doubled,
        |suite| suite.panicking(|flow| flow.map_async(4, |n| async move { call(trip(n)).await }));
    map_async_panicking_closure: |flow| flow.map_async(3, call), doubled,
        |suite| suite.panicking(|flow| flow.map_async(3, |n| { trip(n); call(n) }));
    map_async_one_at_a_time: |flow| flow.map_async(1, call), doubled;
    map_async_window: |flow| flow.map_async(Concurrency::limit(2).window(9), call), doubled;
}

// Islands.
conformance! {
    buffer: |flow| flow.buffer(3), same, |suite| suite.errors_overtake();
    buffer_of_bytes: |flow| flow.weigh(|n| n % 9).buffer(Buffer::items(9).bytes(16)), same,
        |suite| suite.errors_overtake();
    async_boundary: |flow| flow.async_boundary().map(|n| n * 2), doubled,
        |suite| suite.errors_overtake();
    three_islands: |flow| flow.buffer(2).map_async(3, call).buffer(5).map(|n| n / 2), same,
        |suite| suite.errors_overtake();
    drop_head: |flow| flow.buffer(Buffer::items(3).when_full(WhenFull::DropHead)), same,
        |suite| suite.errors_overtake().may(Kind::Shed);
    drop_tail: |flow| flow.buffer(Buffer::items(3).when_full(WhenFull::DropTail)), same,
        |suite| suite.errors_overtake().may(Kind::Shed);
    drop_new: |flow| flow.buffer(Buffer::items(3).when_full(WhenFull::DropNew)), same,
        |suite| suite.errors_overtake().may(Kind::Shed);
    drop_buffer: |flow| flow.buffer(Buffer::items(3).when_full(WhenFull::DropBuffer)), same,
        |suite| suite.errors_overtake().may(Kind::Shed);
}

// Fan-out and fan-in.
conformance! {
    broadcast_and_merge:
        |flow| {
            let [left, right] = flow.broadcast(4);
            left.merge([right])
        },
        |input| input.iter().chain(&input).copied().collect(),
        |suite| suite.unordered().errors_overtake();
    broadcast_and_merge_prioritized:
        |flow| {
            let [left, right] = flow.broadcast(4);
            left.merge_prioritized(3, [(1, right)])
        },
        |input| input.iter().chain(&input).copied().collect(),
        |suite| suite.unordered().errors_overtake();
    broadcast_and_zip:
        |flow| {
            let [left, right] = flow.broadcast(4);
            left.zip(right.map(|n| n + 1))
        },
        |input| input.into_iter().map(|n| (n, n + 1)).collect(),
        |suite| suite.errors_overtake();
    balance:
        |flow| {
            let [left, right] = flow.balance(2);
            left.merge([right.map_async(1, |n| async move { call(n).await / 2 })])
        },
        same, |suite| suite.unordered().errors_overtake();
    partition:
        |flow| {
            let [even, odd] = flow.partition(3, |n| (*n % 2) as usize);
            even.merge([odd.map(|n| n)])
        },
        same,
        |suite| suite.unordered().errors_overtake().panicking(|flow| {
            let [even, odd] = flow.partition(3, |n| (trip(*n) % 2) as usize);
            even.merge([odd])
        });
    divert:
        |flow| {
            let (rest, large) = flow.divert(3, |n| n % 5 == 0);
            rest.merge([large])
        },
        same, |suite| suite.unordered().errors_overtake();
    divert_to: |flow| flow.divert_to(3, |n| n % 2 == 1, |odd| odd.map_async(2, call).ignore()), even,
        |suite| suite.may(Kind::Delivered).panicking(|flow| {
            flow.divert_to(3, |n| trip(*n) % 2 == 1, forebay::flow::Flow::ignore)
        });
    merge: |flow| flow.merge([source::iter([])]), same;
    concat: |flow| flow.concat([source::iter([]), source::iter([])]), same;
}

/// A call that fails the first time an element comes, for each third of them.
fn flaky()
-> impl FnMut(u64) -> std::pin::Pin<Box<dyn Future<Output = Result<u64, BoxError>> + Send>> {
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

fn odd_fails(n: u64) -> Result<u64, u64> {
    if n.is_multiple_of(2) { Ok(n) } else { Err(n) }
}

// What may fail.
conformance! {
    try_map_results: |flow| flow.try_map(|n| odd_fails(*n)).results(),
        |input| input.into_iter().map(odd_fails).collect(),
        |suite| suite.panicking(|flow| flow.try_map(|n| odd_fails(trip(*n))).results());
    try_map_discard: |flow| flow.try_map(|n| odd_fails(*n)).or_discard(), even,
        |suite| suite.may(Kind::Shed);
    try_map_stop: |flow| flow.try_map(|n| Ok::<_, std::fmt::Error>(n * 2)).or_stop(), doubled;
    try_map_async_results:
        |flow| flow.try_map_async(3, |n| async move { call(n).await; odd_fails(n) }).results(),
        |input| input.into_iter().map(odd_fails).collect(),
        |suite| suite.panicking(|flow| flow
            .try_map_async(3, |n| async move { call(n).await; odd_fails(trip(n)) })
            .results());
    try_map_async_discard:
        |flow| flow.try_map_async(3, |n| async move { call(n).await; odd_fails(n) }).or_discard(),
        even, |suite| suite.may(Kind::Shed);
    try_map_async_retry:
        |flow| flow
            .try_map_async(3, flaky())
            .retry(Retry::tries(3).backoff(Duration::from_micros(5), Duration::from_micros(20)).seed(1))
            .timeout(HOUR)
            .or_stop(),
        doubled;
}

// Control, groups and cycles.
conformance! {
    kill_switch: |flow| flow.kill_switch(&KillSwitch::new()), same;
    watch_termination: |flow| flow.watch_termination().0, same;
    group_by:
        |flow| flow.group_by(5, |n| n % 4, |_, group| group.map_async(2, call)),
        doubled,
        |suite| suite.unordered().errors_overtake().panicking(|flow| {
            flow.group_by(5, |n| trip(*n) % 2, |_, group| group)
        });
    feedback:
        |flow| flow.map(|n| n + 1).feedback(16, |numbers| {
            let (odd, even) = numbers.divert(16, |n| n % 2 == 0);
            (odd, even.map(|n| n / 2))
        }),
        |input| input.into_iter().map(|n| (n + 1) >> (n + 1).trailing_zeros()).collect(),
        |suite| suite.unordered().errors_overtake();
}
