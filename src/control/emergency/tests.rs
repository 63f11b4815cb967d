//! Episodes, and what holds in each.
#![allow(clippy::unwrap_used, clippy::float_cmp)]

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn seconds(n: u64) -> Time {
    Time::from_nanos(n * 1_000_000_000)
}

#[test]
fn a_load_that_swings_alerts_once_an_episode() {
    let mut emergency = Emergency::a5();
    let mut alerts = 0;
    for n in 0..100 {
        let load = if n % 2 == 0 { 200.0 } else { 50.0 };
        let event = emergency.on_load(seconds(n), load);
        alerts += u64::from(matches!(event, Some(EmergencyEvent::Alert { .. })));
    }
    assert_eq!(alerts, 1);
    for n in 100..110 {
        emergency.on_load(seconds(n), 50.0);
    }
    assert_eq!(emergency.mode(), EmergencyMode::Normal);
    let again = emergency.on_load(seconds(200), 151.0);
    assert!(matches!(
        again,
        Some(EmergencyEvent::Alert { episode: 2, .. })
    ));
}

#[test]
fn between_calm_and_the_ratio_it_stays_where_it_is() {
    let mut emergency = Emergency::a5();
    emergency.on_load(seconds(0), 151.0);
    for n in 1..100 {
        assert_eq!(emergency.on_load(seconds(n), 120.0), None);
    }
    let snapshot = emergency.snapshot();
    assert_eq!(snapshot.mode, EmergencyMode::Engaged);
    assert_eq!((snapshot.capacity, snapshot.whole), (10, 100));
    assert_eq!((snapshot.load, snapshot.limit), (120.0, 150.0));
    assert_eq!((snapshot.episodes, snapshot.since), (1, Some(seconds(0))));
    assert_eq!(Emergency::a5().snapshot().since, None);
}

#[test]
fn impossible_settings_are_named() {
    let field = |settings| Emergency::new(settings).unwrap_err().field;
    let new = EmergencySettings::new;
    assert_eq!(field(new(0)), "capacity");
    assert_eq!(field(new(10).ratio(0.5)), "ratio");
    assert_eq!(field(new(10).cut_to(11)), "cut_to");
    assert_eq!(field(new(10).calm(2.0, Duration::from_secs(1))), "calm");
    assert_eq!(field(new(10).calm(1.0, Duration::ZERO)), "hold");
}

proptest! {
    #[test]
    fn whatever_the_load_it_stays_within_its_bounds(
        loads in proptest::collection::vec((0..2000_u64, 0.0..400.0_f64), 1..200),
    ) {
        let mut emergency = Emergency::a5();
        let (mut now, mut grown, mut inside) = (Time::ZERO, Time::ZERO, false);
        for (after, load) in loads {
            now = now + Duration::from_millis(after);
            let before = emergency.capacity();
            match emergency.on_load(now, load) {
                Some(EmergencyEvent::Alert { .. }) => {
                    prop_assert!(!inside, "two alerts in one episode");
                    prop_assert!(load > 150.0);
                    inside = true;
                }
                Some(EmergencyEvent::Over { .. }) => {
                    prop_assert!(inside);
                    inside = false;
                }
                _ => {}
            }
            let capacity = emergency.capacity();
            prop_assert!((10..=100).contains(&capacity) && capacity <= before * 2);
            if capacity > before {
                prop_assert!(now.since(grown) >= Duration::from_secs(1) && load <= 100.0);
                grown = now;
            }
            prop_assert_eq!(inside, emergency.mode() != EmergencyMode::Normal);
            prop_assert!(emergency.admits(Class::HIGH));
            prop_assert_eq!(emergency.admits(Class::LOW), !inside);
            prop_assert_eq!(load > 150.0, emergency.mode() == EmergencyMode::Engaged && load > 150.0);
        }
    }
}
