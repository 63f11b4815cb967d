//! Several flows of one.

use std::time::Duration;

use forebay::flow::{Flow, Groups, WhenExhausted};
use forebay::outcome::Kind;
use forebay::testkit::conformance;

use super::{call, doubled, even, same, trip, twice};

async fn halved(n: u64) -> u64 {
    call(n).await / 2
}

fn merged(flows: Vec<Flow<u64>>) -> Flow<u64> {
    let mut flows = flows.into_iter();
    let first = flows.next().unwrap();
    first.merge(flows)
}

conformance! {
    broadcast:
        |flow| {
            let [left, right] = flow.broadcast(4);
            left.merge([right.map_async(2, halved)])
        },
        twice, |suite| suite.unordered().errors_overtake();
    broadcast_vec: |flow| merged(flow.broadcast_vec(2, 3)), twice,
        |suite| suite.unordered().errors_overtake();
    balance:
        |flow| {
            let [left, right] = flow.balance(2);
            left.merge([right.map_async(1, halved)])
        },
        same, |suite| suite.unordered().errors_overtake();
    balance_vec: |flow| merged(flow.balance_vec(3, 2)), same,
        |suite| suite.unordered().errors_overtake();
    partition:
        |flow| {
            let [even, odd] = flow.partition(3, |n| (*n % 2) as usize);
            even.merge([odd.map_async(2, halved)])
        },
        same,
        |suite| suite.unordered().errors_overtake().panicking(|flow| {
            let [even, odd] = flow.partition(3, |n| (trip(*n) % 2) as usize);
            even.merge([odd])
        });
    partition_vec: |flow| merged(flow.partition_vec(3, 2, |n| (*n % 3) as usize)), same,
        |suite| suite.unordered().errors_overtake();
    divert:
        |flow| {
            let (rest, large) = flow.divert(3, |n| n % 5 == 0);
            rest.merge([large])
        },
        same,
        |suite| suite.unordered().errors_overtake().panicking(|flow| {
            let (rest, large) = flow.divert(3, |n| trip(*n) % 5 == 1);
            rest.merge([large])
        });
    divert_to: |flow| flow.divert_to(3, |n| n % 2 == 1, |odd| odd.map_async(2, call).ignore()), even,
        |suite| suite.may(Kind::Delivered).panicking(|flow| {
            flow.divert_to(3, |n| trip(*n) % 2 == 1, Flow::ignore)
        });
}

conformance! {
    group_by: |flow| flow.group_by(5, |n| n % 4, |_, group| group.map_async(2, call)), doubled,
        |suite| suite.unordered().errors_overtake().panicking(|flow| {
            flow.group_by(5, |n| trip(*n) % 2, |_, group| group)
        });
    group_by_more_keys_than_there_may_be:
        |flow| flow.group_by(
            Groups::keys(2).buffer(3).when_exhausted(WhenExhausted::CloseOldest),
            |n| n % 7,
            |_, group| group.grouped(3).map_concat(|group| group),
        ),
        same, |suite| suite.unordered().errors_overtake();
    group_by_with_idle_keys:
        |flow| flow.group_by(
            Groups::keys(40).idle_after(Duration::from_micros(30)),
            |n| n / 16,
            |_, group| group.map(|n| n * 2),
        ),
        doubled, |suite| suite.unordered().errors_overtake().seeds(12);
    group_by_islands:
        |flow| flow.group_by(4, |n| n % 3, |_, group| group.buffer(2).map_async(2, call)), doubled,
        |suite| suite.unordered().errors_overtake();
    group_by_shedding:
        |flow| flow.group_by(
            Groups::keys(2).when_exhausted(WhenExhausted::Shed), |n| n % 5, |_, group| group,
        ),
        same, |suite| suite.unordered().errors_overtake().may(Kind::Shed);
}
