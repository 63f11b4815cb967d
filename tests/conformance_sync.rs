//! The synchronous operators against their models, through the rules of the conformance suite.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use forebay::class::Class;
use forebay::control::BatchLimits;
use forebay::outcome::Kind;
use forebay::source;
use forebay::testkit::{Simulation, conformance, planned_panic};
use forebay::time;

const LONG: Duration = Duration::from_hours(1);

fn same(input: Vec<u64>) -> Vec<u64> {
    input
}

// A predicate of `filter` as it is.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn not_five(n: &u64) -> bool {
    if *n == 5 {
        planned_panic();
    }
    true
}

fn in_threes(input: Vec<u64>) -> Vec<Vec<u64>> {
    input.chunks(3).map(<[u64]>::to_vec).collect()
}

/// Groups of at most that many elements that weigh at most that much.
fn by_weight(input: Vec<u64>, items: usize, bytes: u64) -> Vec<Vec<u64>> {
    let mut groups: Vec<Vec<u64>> = Vec::new();
    for n in input {
        match groups.last_mut() {
            Some(group)
                if group.len() < items
                    && group.iter().map(|n| n % 5 + 1).sum::<u64>() + n % 5 < bytes =>
            {
                group.push(n);
            }
            _ => groups.push(vec![n]),
        }
    }
    groups
}

conformance! {
    map_in_place: |flow| flow.map_in_place(|n| *n += 1),
        |input| input.into_iter().map(|n| n + 1).collect(),
        |suite| suite.panicking(|flow| flow.map_in_place(|n| { not_five(n); }));
    inspect: |flow| flow.inspect(|_| {}), same,
        |suite| suite.panicking(|flow| flow.inspect(|n| { not_five(n); }));
    filter: |flow| flow.filter(|n| n % 3 == 1),
        |input| input.into_iter().filter(|n| n % 3 == 1).collect(),
        |suite| suite.panicking(|flow| flow.filter(not_five));
    filter_map: |flow| flow.filter_map(|n| (n % 3 != 1).then_some(n * 2)),
        |input| input.into_iter().filter(|n| n % 3 != 1).map(|n| n * 2).collect(),
        |suite| suite.panicking(|flow| flow.filter_map(|n| not_five(&n).then_some(n)));
    map_concat: |flow| flow.map_concat(|n| vec![n; n as usize % 4]),
        |input| input.into_iter().flat_map(|n| vec![n; n as usize % 4]).collect(),
        |suite| suite.panicking(|flow| flow.map_concat(|n| { not_five(&n); [n, n] }));
    stateful_map: |flow| flow.stateful_map_with_rebuild((), |(), n| n * 2, |(), _| {}),
        |input| input.into_iter().map(|n| n * 2).collect(),
        |suite| suite.panicking(|flow| {
            flow.stateful_map_with_rebuild((), |(), n| { not_five(&n); n }, |(), _| {})
        });
    classify: |flow| flow.classify(|n| if n % 2 == 0 { Class::HIGH } else { Class::LOW }), same,
        |suite| suite.panicking(|flow| flow.classify(|n| { not_five(n); Class::HIGH }));
    weigh: |flow| flow.weigh(|n| n % 7), same,
        |suite| suite.panicking(|flow| flow.weigh(|n| { not_five(n); 1 }));
    deadline: |flow| flow.deadline(LONG).expire(), same;
    deadline_by: |flow| flow.deadline_by(|n| (n % 2 == 0).then_some(LONG)).expire(), same,
        |suite| suite.panicking(|flow| flow.deadline_by(|n| { not_five(n); None }));
    grouped: |flow| flow.grouped(3), in_threes, |suite| suite.regroups();
    grouped_within: |flow| flow.grouped_within((3, LONG)), in_threes, |suite| suite.regroups();
    grouped_within_by_bytes:
        |flow| flow.weigh(|n| n % 5 + 1).grouped_within(BatchLimits::new(4, LONG).bytes(9)),
        |input| by_weight(input, 4, 9),
        |suite| suite.regroups();
    grouped_within_and_apart: |flow| flow
            .grouped_within((5, Duration::from_micros(50)))
            .buffer(1)
            .map_concat(|group| group),
        same,
        |suite| suite.errors_overtake();
    groups_of_groups: |flow| flow.grouped(2).grouped(2).map_concat(|groups| groups.concat()), same;
    chain: |flow| flow
            .map_in_place(|n| *n += 1)
            .filter(|n| n % 4 != 0)
            .map_concat(|n| [n, n])
            .weigh(|n| *n)
            .grouped(3)
            .map_concat(|group| group),
        |input| input.into_iter().map(|n| n + 1).filter(|n| n % 4 != 0).flat_map(|n| [n, n]).collect();
}

/// Stages that count, or keep state that cannot come back, are refused where a source goes back:
/// their rules are those of the property tests.
#[test]
fn late_elements_may_end_expired() {
    forebay::testkit::Conformance::new(
        "expire",
        |flow| {
            flow.deadline_by(|n| (n % 3 == 0).then_some(Duration::ZERO))
                .expire()
        },
        |input| input.into_iter().filter(|n| n % 3 != 0).collect(),
    )
    .may(Kind::Expired)
    .check();
}

#[test]
fn an_element_is_late_from_its_deadline_on_and_not_before() {
    let ms = Duration::from_millis;
    let pipeline = source::iter(1..=10_u64)
        .deadline(ms(5))
        .buffer(100)
        .map_async(1, move |n| async move {
            time::sleep(ms(1)).await;
            n
        })
        .expire()
        .collect();
    let (in_time, accounts) = Simulation::new(3).run(pipeline).unwrap();
    assert_eq!(
        in_time,
        [1, 2, 3, 4],
        "the fifth comes at its very deadline"
    );
    accounts.check().unwrap();
    assert_eq!(
        accounts
            .stage("expire")
            .unwrap()
            .counts
            .outcome(Kind::Expired),
        6
    );
}

#[test]
fn groups_by_time_and_number_between_uneven_stages() {
    for seed in 0..40 {
        let ms = Duration::from_millis;
        let pipeline = source::iter(0..400_u64)
            .map_async(1, move |n| async move {
                time::sleep(ms(n * n % 7)).await;
                n
            })
            .grouped_within((10, ms(12)))
            .map_async(1, move |group| async move {
                time::sleep(ms(group[0] * seed % 90)).await;
                group
            })
            .collect();
        let (groups, accounts) = Simulation::new(seed).run(pipeline).unwrap();
        accounts.check().unwrap();
        assert_eq!(groups.concat(), (0..400).collect::<Vec<_>>());
        assert!(groups.iter().all(|group| (1..=10).contains(&group.len())));
        assert!(
            groups.iter().any(|group| group.len() < 10),
            "time closed some"
        );
        assert!(accounts.stage("grouped_within").unwrap().counts.held_peak <= 20);
    }
}
