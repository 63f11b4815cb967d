//! One element of one, or fewer or more of some.

use std::time::Duration;

use forebay::class::Class;
use forebay::outcome::Kind;
use forebay::testkit::conformance;

use super::{HOUR, call, doubled, even, same, trip};

fn sums(input: Vec<u64>) -> Vec<u64> {
    let sum = |sum: &mut u64, n| {
        *sum += n;
        Some(*sum)
    };
    input.into_iter().scan(0, sum).collect()
}

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
        |flow| flow.stateful_map_with_rebuild((), |(), n| n * 2, |(), _| ()), doubled,
        |suite| suite.panicking(|flow| {
            flow.stateful_map_with_rebuild((), |(), n| trip(n), |(), _| ())
        });
    scan: |flow| flow.scan(0, |sum, n| *sum += n), sums,
        |suite| suite.panicking(|flow| flow.scan(0, |sum, n| *sum += trip(n)));
    classify:
        |flow| flow.classify(|n| if n % 2 == 0 { Class::HIGH } else { Class::LOW }), same,
        |suite| suite.panicking(|flow| flow.classify(|n| { trip(*n); Class::LOW }));
    weigh: |flow| flow.weigh(|n| *n), same,
        |suite| suite.panicking(|flow| flow.weigh(|n| trip(*n)));
    deadline: |flow| flow.deadline(HOUR).expire(), same;
    deadline_by:
        |flow| flow.deadline_by(|n| (n % 2 == 1).then_some(Duration::ZERO)).expire(), even,
        |suite| suite.leaves_out(Kind::Expired)
            .panicking(|flow| flow.deadline_by(|n| { trip(*n); None }));
    expire:
        |flow| flow.deadline(Duration::from_micros(20)).map_async(2, call).expire(), doubled,
        |suite| suite.may(Kind::Expired);
}

conformance! {
    filter: |flow| flow.filter(|n| n % 2 == 0), even,
        |suite| suite.panicking(|flow| flow.filter(|n| trip(*n) > 0));
    filter_map: |flow| flow.filter_map(|n| (n % 2 == 0).then_some(n)), even,
        |suite| suite.panicking(|flow| flow.filter_map(|n| Some(trip(n))));
    map_concat: |flow| flow.map_concat(|n| 0..n % 4),
        |input| input.into_iter().flat_map(|n| 0..n % 4).collect(),
        |suite| suite.panicking(|flow| flow.map_concat(|n| 0..trip(n) % 3));
    map_concat_of_more_than_a_chunk:
        |flow| flow.map_concat(|n| (n % 7 == 0).then_some(0..300).into_iter().flatten()),
        |input| input.into_iter().filter(|n| n % 7 == 0).flat_map(|_| 0..300).collect(),
        |suite| suite.seeds(8);
    take: |flow| flow.take(7), |input| input.into_iter().take(7).collect(),
        |suite| suite.may(Kind::Cancelled).errors_overtake();
    skip: |flow| flow.skip(7), |input| input.into_iter().skip(7).collect();
}
