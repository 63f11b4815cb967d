//! One element of many.

use std::time::Duration;

use forebay::control::BatchLimits;
use forebay::outcome::Kind;
use forebay::testkit::conformance;

use super::{HOUR, same, trip};

fn fives(input: Vec<u64>) -> Vec<Vec<u64>> {
    input.chunks(5).map(<[u64]>::to_vec).collect()
}

fn weight(n: u64) -> u64 {
    n % 5 + 1
}

/// Groups of at most four elements that weigh at most nine together.
fn nines(input: Vec<u64>) -> Vec<Vec<u64>> {
    let mut groups: Vec<Vec<u64>> = Vec::new();
    for n in input {
        match groups.last_mut() {
            Some(group)
                if group.len() < 4
                    && group.iter().copied().map(weight).sum::<u64>() + weight(n) <= 9 =>
            {
                group.push(n);
            }
            _ => groups.push(vec![n]),
        }
    }
    groups
}

conformance! {
    grouped: |flow| flow.grouped(5), fives, |suite| suite.regroups();
    grouped_twice: |flow| flow.grouped(2).grouped(2).map_concat(|groups| groups.concat()), same;
    grouped_within_by_number: |flow| flow.grouped_within((5, HOUR)), fives,
        |suite| suite.regroups();
    grouped_within_by_weight:
        |flow| flow.weigh(|n| weight(*n)).grouped_within(BatchLimits::new(4, HOUR).bytes(9)),
        nines, |suite| suite.regroups();
    grouped_within_by_time:
        |flow| flow
            .grouped_within((8, Duration::from_micros(15)))
            .map_concat(|group| group),
        same;
    grouped_within_by_whatever_comes_first:
        |flow| flow
            .weigh(|n| weight(*n))
            .grouped_within(BatchLimits::new(8, Duration::from_micros(40)).bytes(12))
            .buffer(1)
            .map_concat(|group| group),
        same, |suite| suite.errors_overtake();
    aggregate: |flow| flow.aggregate(0, |sum, n| *sum += n), |input| vec![input.iter().sum()],
        |suite| suite
            .regroups()
            .errors_overtake()
            .may(Kind::Delivered)
            .panicking(|flow| flow.aggregate(0, |sum, n| *sum += trip(n)));
}
