#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::*;

fn at(ms: u64) -> Time {
    Time::ZERO + Duration::from_millis(ms)
}

fn classes(emergency: &Emergency) -> usize {
    (0..8)
        .filter_map(Class::new)
        .filter(|class| emergency.admits(*class))
        .count()
}

#[test]
fn row_a5_over_one_and_a_half_times_the_capacity_only_high_and_capacity_10() {
    // Load, and what the document says of it, at a capacity of 100.
    for (load, is_emergency) in [(0.0, false), (100.0, false), (150.0, false), (150.1, true)] {
        let mut emergency = Emergency::new(EmergencySettings::a5()).unwrap();
        let alert = emergency.on_load(at(0), load, 100.0);
        assert_eq!(alert.is_some(), is_emergency, "{load}");
        assert_eq!(emergency.is_on(), is_emergency);
        assert_eq!(emergency.capacity(), is_emergency.then_some(10));
        assert!(emergency.admits(Class::HIGH));
        assert_eq!(emergency.admits(Class::MEDIUM), !is_emergency);
        let threshold = if is_emergency { 128 } else { Gate::ALL };
        assert_eq!(emergency.threshold(), threshold);
    }
}

#[test]
fn the_way_back_is_gradual_explained_and_alerts_once() {
    let mut emergency = Emergency::new(EmergencySettings::a5()).unwrap();
    let alert = emergency.on_load(at(0), 1000.0, 100.0).unwrap();
    assert!(alert.to_string().contains("10.0 times"), "{alert}");
    let mut seen = Vec::new();
    let mut ms = 0;
    while emergency.is_on() {
        ms += 500;
        assert_eq!(emergency.on_load(at(ms), 80.0, 100.0), None);
        seen.push((emergency.capacity(), classes(&emergency)));
    }
    seen.dedup();
    let expected = [
        (Some(10), 1),
        (Some(20), 1),
        (Some(40), 1),
        (Some(80), 1),
        (Some(100), 1),
        (Some(100), 2),
        (None, 8),
    ];
    assert_eq!(seen, expected);
    assert_eq!(ms, 6500, "calm from 500 ms on, six steps of a second");
    let steps = emergency.adjustments();
    assert_eq!(steps.total(), 2 + 6);
    assert!(steps.last().all(|one| !one.because.is_empty()));
    assert_eq!(emergency.alerts(), 1);
}

#[test]
fn a_relapse_on_the_way_back_is_no_new_alert_and_a_load_in_between_only_waits() {
    let mut emergency = Emergency::new(EmergencySettings::a5()).unwrap();
    assert!(emergency.on_load(at(0), 200.0, 100.0).is_some());
    for second in 1..=3 {
        assert_eq!(emergency.on_load(at(second * 1000), 90.0, 100.0), None);
    }
    assert_eq!(emergency.capacity(), Some(40));
    assert_eq!(emergency.on_load(at(3500), 120.0, 100.0), None);
    assert_eq!(emergency.on_load(at(4400), 90.0, 100.0), None);
    assert_eq!(emergency.capacity(), Some(40), "calm counts anew");
    assert_eq!(emergency.on_load(at(5000), 160.0, 100.0), None, "one alert");
    assert_eq!(emergency.capacity(), Some(10));
    assert_eq!(emergency.alerts(), 1);
}

#[test]
fn it_never_raises_the_capacity() {
    let mut emergency = Emergency::new(EmergencySettings::a5()).unwrap();
    assert!(emergency.on_load(at(0), 9.0, 4.0).is_some());
    assert_eq!(emergency.capacity(), Some(4));
    assert_eq!(emergency.on_load(at(1), f64::NAN, 4.0), None);
    assert_eq!(emergency.on_load(at(1), 9.0, 0.0), None);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let field = |settings: EmergencySettings| settings.check().err().map(|e| e.field);
    let fine = EmergencySettings::a5();
    assert_eq!(field(fine.over(0.0, 0.0)), Some("over"));
    assert_eq!(field(fine.over(1.5, 1.6)), Some("until"));
    assert_eq!(field(fine.over(1.5, f64::NAN)), Some("until"));
    assert_eq!(field(fine.capacity(0)), Some("capacity"));
    assert_eq!(field(fine), None);
}
