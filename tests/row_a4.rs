//! The dynamic flow controller: its inputs and decisions, with its own figures.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use forebay::control::Sample;
use forebay::control::limit::{Limit, MeanLatency};
use forebay::time::Time;

#[cfg(feature = "testkit")]
#[path = "../examples/a4_flow_controller.rs"]
mod a4_flow_controller;

/// One response time, in milliseconds.
fn respond(limit: &mut MeanLatency, at_ms: u64, ms: u64) {
    let sample = Sample {
        count: 1,
        service: Duration::from_millis(ms),
        ..Sample::default()
    };
    limit.on_sample(Time::ZERO + Duration::from_millis(at_ms), &sample);
}

/// A controller at that capacity whose last 100 response times average to so many milliseconds: half
/// of them so much less, half so much more.
fn at(capacity: usize, average_ms: u64, apart_ms: u64) -> MeanLatency {
    let mut limit = MeanLatency::builder()
        .initial(capacity)
        .every(100)
        .build()
        .unwrap();
    for n in 0..100 {
        let ms = if n % 2 == 0 {
            average_ms - apart_ms
        } else {
            average_ms + apart_ms
        };
        respond(&mut limit, n, ms);
    }
    limit
}

#[test]
fn row_a4_it_starts_at_100_and_changes_by_the_average_of_the_last_100() {
    assert_eq!(MeanLatency::a4().limit(), 100);
    // (capacity, average, how far apart, capacity then)
    for (capacity, average_ms, apart_ms, then) in [
        (100, 1001, 0, 90),
        (100, 1000, 0, 100),  // not over 1000 ms
        (100, 1001, 900, 90), // the average counts, not the single time
        (100, 999, 900, 100),
        (100, 500, 0, 100),
        (100, 100, 0, 100), // not under 100 ms
        (100, 99, 0, 105),
        (100, 99, 90, 105),
        (15, 5000, 0, 10), // floor
        (10, 5000, 0, 10),
        (198, 10, 0, 200), // ceiling
        (200, 10, 0, 200),
    ] {
        let limit = at(capacity, average_ms, apart_ms);
        assert_eq!(
            limit.limit(),
            then,
            "{capacity} at {average_ms} ms, {apart_ms} ms apart"
        );
        let average = Duration::from_millis(average_ms);
        assert_eq!(limit.average(), Some(average));
    }
}

#[test]
fn row_a4_load_over_capacity_is_throttled() {
    let limit = MeanLatency::a4();
    for (load, throttled) in [
        (0, false),
        (99, false),
        (100, false),
        (101, true),
        (150, true),
    ] {
        assert_eq!(limit.throttles(load), throttled, "load {load}");
    }
}

#[test]
fn row_a4_it_looks_at_each_response_time_and_keeps_100_of_them() {
    let mut limit = MeanLatency::a4();
    let mut now = 0;
    let mut feed = |limit: &mut MeanLatency, times: usize, ms: u64| {
        for _ in 0..times {
            now += 1;
            respond(limit, now, ms);
        }
        limit.limit()
    };
    // Slow from the start: each of the first nine takes 10, down to the floor.
    assert_eq!(feed(&mut limit, 1, 2000), 90);
    assert_eq!(feed(&mut limit, 8, 2000), 10);
    assert_eq!(feed(&mut limit, 91, 2000), 10);
    // Of the last 100 one in twenty is slow still: 95 x 10 + 5 x 2000 = 109.5 ms on average.
    assert_eq!(feed(&mut limit, 95, 10), 10);
    // 96 x 10 + 4 x 2000 = 89.6 ms: under 100 ms.
    assert_eq!(feed(&mut limit, 1, 10), 15);
    assert_eq!(feed(&mut limit, 37, 10), 200);
    assert_eq!(feed(&mut limit, 500, 10), 200);
    let because = limit.adjustments().last().next_back().unwrap().because;
    assert_eq!(
        because,
        "the average response time is under the fast threshold"
    );
    // Nine down, 38 up.
    assert_eq!(limit.adjustments().total(), 9 + 38);
}

#[cfg(feature = "testkit")]
#[test]
fn row_a4_a_pipeline_under_it_follows_its_service() {
    a4_flow_controller::main().unwrap();
}
