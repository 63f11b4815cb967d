//! Stages between flows of different speed: merged, repeated, throttled, served by class.

use forebay::boundary::ClassBuffer;
use forebay::class::Class;
use forebay::control::{PrioritySettings, ThrottleMode, WhenNoRoom};
use forebay::flow::{Flow, Rate};
use forebay::outcome::Kind;
use forebay::testkit::conformance;

use super::same;

/// Faster than any of the suite's flows.
fn fast() -> Rate {
    Rate::new(1e9, 1_000_000, ThrottleMode::Shaping).unwrap()
}

fn slow() -> Rate {
    Rate::new(100.0, 3, ThrottleMode::Shaping).unwrap()
}

fn few(mode: ThrottleMode) -> Rate {
    Rate::new(0.001, 3, mode).unwrap()
}

/// A third each HIGH, MEDIUM and LOW.
fn classified(flow: Flow<u64>) -> Flow<u64> {
    flow.classify(|n| match n % 3 {
        0 => Class::HIGH,
        1 => Class::MEDIUM,
        _ => Class::LOW,
    })
}

// What is merged is taken apart again: what is handed on stands for all that came.
conformance! {
    conflate: |flow| flow.map(|n| vec![n]).conflate(|all, more| all.extend(more)).map_concat(|n| n),
        same, |suite| suite.errors_overtake();
    conflate_with_seed:
        |flow| flow.conflate_with_seed(|n| vec![n], |all, n| all.push(n)).map_concat(|n| n), same,
        |suite| suite.errors_overtake();
    batch_with_seed:
        |flow| {
            flow.batch_with_seed(5, |n| 1 + n % 2, |n| vec![n], |all, n| all.push(n))
                .map_concat(|n| n)
        },
        same, |suite| suite.errors_overtake();
    expand: |flow| flow.expand(|n| [n].into_iter()), same, |suite| suite;
    throttle: |flow| flow.throttle(&slow()), same, |suite| suite;
    throttle_by: |flow| flow.throttle_by(&fast(), |n| *n as u32 % 5), same, |suite| suite;
    throttle_that_sheds: |flow| flow.throttle(&few(ThrottleMode::Diverting)), same,
        |suite| suite.may(Kind::Shed);
    throttle_diverting:
        |flow| {
            let (passed, rest) = flow.throttle_diverting(&few(ThrottleMode::Diverting), 4);
            passed.merge([rest])
        },
        same, |suite| suite.unordered().errors_overtake();
    buffer_by_class: |flow| flow.buffer_by_class(PrioritySettings::items(3)), same,
        |suite| suite.errors_overtake();
    buffer_by_class_of_three: |flow| classified(flow).buffer_by_class(PrioritySettings::items(3)),
        same, |suite| suite.unordered().errors_overtake().may(Kind::Shed);
    buffer_by_class_that_refuses:
        |flow| {
            let settings = PrioritySettings::items(2).when_no_room(Class::LOW, WhenNoRoom::Refuse);
            classified(flow).buffer_by_class(ClassBuffer::from(settings))
        },
        same, |suite| suite.unordered().errors_overtake().may(Kind::Shed);
    buffer_by_class_diverting:
        |flow| {
            let settings = PrioritySettings::items(1).when_no_room(Class::MEDIUM, WhenNoRoom::Divert);
            let (served, diverted) = flow.buffer_by_class_diverting(settings, 4);
            served.merge([diverted])
        },
        same, |suite| suite.unordered().errors_overtake();
}
