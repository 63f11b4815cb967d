//! Stages between flows of different speed: merged, repeated, throttled, served by class.

use std::time::Duration;

use forebay::boundary::ClassBuffer;
use forebay::class::Class;
use forebay::control::batch_size::Natural;
use forebay::control::limit::Vegas;
use forebay::control::{
    AdmissionHandle, AdmissionSettings, BatchHandle, BreakerHandle, BreakerSettings, LimitHandle,
    PrioritySettings, ThrottleMode, WhenNoRoom,
};
use forebay::flow::{Flow, Rate};
use forebay::operator::Calls;
use forebay::outcome::Kind;
use forebay::testkit::conformance;
use forebay::time::{self, Time};

use super::{call, doubled, same};

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

fn sizes(most: usize) -> BatchHandle {
    BatchHandle::new(Natural::builder().bounds(1, most).build().unwrap())
}

fn limit() -> LimitHandle {
    LimitHandle::new(Vegas::builder().initial(2).bounds(1, 6).build().unwrap())
}

fn breaker() -> BreakerHandle {
    BreakerHandle::new(BreakerSettings::default(), Time::ZERO).unwrap()
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
    conflate: |flow| flow.map(|n| vec![n]).conflate(Vec::extend).map_concat(|n| n),
        same, |suite| suite.errors_overtake();
    conflate_with_seed:
        |flow| flow.conflate_with_seed(|n| vec![n], Vec::push).map_concat(|n| n), same,
        |suite| suite.errors_overtake();
    batch_with_seed:
        |flow| {
            flow.batch_with_seed(5, |n| 1 + n % 2, |n| vec![n], Vec::push)
                .map_concat(|n| n)
        },
        same, |suite| suite.errors_overtake();
    batch: |flow| flow.batch(&sizes(4)).map_concat(|batch| batch), same,
        |suite| suite.errors_overtake();
    map_batches:
        |flow| {
            flow.map_batches(&sizes(4), 2, |batch| async move {
                time::sleep(Duration::from_micros(batch.len() as u64 * 5)).await;
                batch
            })
            .map_concat(|batch| batch)
        },
        same, |suite| suite.errors_overtake();
    admit: |flow| flow.admit(&AdmissionHandle::new(AdmissionSettings::default()).unwrap()), same,
        |suite| suite;
    divert_while_open:
        |flow| {
            let (calls, rest) = flow.divert_while_open(&breaker(), 4);
            calls.merge([rest])
        },
        same, |suite| suite.unordered().errors_overtake();
    map_async_under_a_limit:
        |flow| flow.map_async(&limit(), call), doubled, |suite| suite;
    map_async_behind_a_breaker:
        |flow| flow.map_async(Calls::limit(3).breaker(&breaker()), call), doubled, |suite| suite;
    map_async_unordered_under_a_limit:
        |flow| flow.map_async_unordered(&limit(), call), doubled, |suite| suite.unordered();
    map_async_keyed_on_terms:
        |flow| {
            let calls = Calls::under(&limit()).window(9).breaker(&breaker());
            flow.map_async_keyed(calls, |n| n % 2, call)
        },
        doubled, |suite| suite.unordered();
    try_map_async_behind_a_breaker:
        |flow| {
            let calls = Calls::under(&limit()).window(8).breaker(&breaker());
            flow.try_map_async(calls, |n| async move { Ok::<_, String>(call(n).await) }).or_stop()
        },
        doubled, |suite| suite.errors_overtake();
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
