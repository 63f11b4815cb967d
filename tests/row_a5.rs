//! Load over 1.5 times the capacity: only HIGH passes, the capacity is 10, one alert is raised, and
//! the way back is gradual.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use forebay::class::Class;
use forebay::control::{BreakerHandle, BreakerSettings, Emergency, EmergencyEvent, EmergencyMode};
use forebay::time::Time;

#[cfg(feature = "testkit")]
#[path = "../examples/a5_emergency.rs"]
mod a5_emergency;

fn at(seconds: u64) -> Time {
    Time::from_nanos(seconds * 1_000_000_000)
}

#[test]
fn row_a5_overload_keeps_only_high_cuts_the_capacity_to_10_and_alerts_once() {
    use EmergencyMode::{Engaged, Normal, Returning};
    // Second, load offered, mode, capacity, classes that pass (HIGH, MEDIUM, LOW), alert.
    let table = [
        (0, 100.0, Normal, 100, [true, true, true], false),
        (1, 150.0, Normal, 100, [true, true, true], false),
        (2, 150.1, Engaged, 10, [true, false, false], true),
        (3, 1000.0, Engaged, 10, [true, false, false], false),
        (4, 151.0, Engaged, 10, [true, false, false], false),
        (5, 120.0, Engaged, 10, [true, false, false], false),
        (6, 100.0, Engaged, 10, [true, false, false], false),
        (7, 100.0, Returning, 20, [true, false, false], false),
        (8, 100.0, Returning, 40, [true, false, false], false),
        (9, 151.0, Engaged, 10, [true, false, false], false),
        (10, 80.0, Engaged, 10, [true, false, false], false),
        (11, 80.0, Returning, 20, [true, false, false], false),
        (12, 80.0, Returning, 40, [true, false, false], false),
        (13, 80.0, Returning, 80, [true, true, false], false),
        (14, 80.0, Normal, 100, [true, true, true], false),
        (15, 151.0, Engaged, 10, [true, false, false], true),
    ];
    let mut emergency = Emergency::a5();
    for (second, load, mode, capacity, passes, alerts) in table {
        let event = emergency.on_load(at(second), load);
        let alerted = matches!(event, Some(EmergencyEvent::Alert { .. }));
        assert_eq!(alerted, alerts, "second {second}");
        assert_eq!(emergency.mode(), mode, "second {second}");
        assert_eq!(emergency.capacity(), capacity, "second {second}");
        let admitted =
            [Class::HIGH, Class::MEDIUM, Class::LOW].map(|class| emergency.admits(class));
        assert_eq!(admitted, passes, "second {second}");
        if let Some(EmergencyEvent::Alert {
            load: seen,
            limit,
            capacity,
            ..
        }) = event
        {
            assert_eq!((seen, limit, capacity), (load, 150.0, 10));
        }
        if let Some(EmergencyEvent::Over { lasted, .. }) = event {
            assert_eq!(lasted, Duration::from_secs(12));
        }
    }
    assert_eq!(emergency.episodes(), 2);
    let reasons: Vec<_> = emergency
        .adjustments()
        .last()
        .filter(|adjustment| adjustment.what == "capacity")
        .map(|adjustment| (adjustment.to as i64, adjustment.because))
        .collect();
    assert_eq!(
        reasons,
        [
            (10, "the load is over the ratio"),
            (20, "the load was calm"),
            (40, "the load was calm"),
            (10, "the load rose again"),
            (20, "the load was calm"),
            (40, "the load was calm"),
            (80, "the load was calm"),
            (100, "the load stayed calm"),
            (10, "the load is over the ratio"),
        ]
    );
}

#[test]
fn row_a5_the_breaker_of_a_destination_stays_closed_under_load_alone() {
    let breaker = BreakerHandle::new(BreakerSettings::new(), at(0)).unwrap();
    let mut emergency = Emergency::a5();
    for second in 0..100 {
        emergency.on_load(at(second), 1000.0);
        breaker.on_pressure(at(second), 1.0);
        for _ in 0..emergency.capacity() {
            let permit = breaker.try_acquire(at(second)).unwrap();
            permit.success(at(second), Duration::from_millis(5));
        }
    }
    assert_eq!(breaker.snapshot(at(100)).counts.trips, 0);
}

#[cfg(feature = "testkit")]
#[test]
fn row_a5_a_pipeline_in_an_emergency_keeps_high_and_is_led_back() {
    a5_emergency::main().unwrap();
}
