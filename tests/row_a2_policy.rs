//! Mission row A2, the policy of its throttle: 100 a second, a burst of 20, shaping and enforcing.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use forebay::control::{Throttle, ThrottleMode, Throttled};
use forebay::time::Time;

const RATE: f64 = 100.0;
const BURST: u32 = 20;
const SECONDS: u64 = 60;

/// A producer of 1000 a second, at uneven intervals of 0 to 2 ms.
fn fast_producer() -> impl Iterator<Item = Time> {
    let mut state = 7_u64;
    let mut now = Time::ZERO;
    std::iter::from_fn(move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        now = now + Duration::from_nanos((state >> 33) % 2_000_000);
        Some(now)
    })
    .take_while(|now| *now < Time::ZERO + Duration::from_secs(SECONDS))
}

/// How many passed at once at the start, and how many a second after that.
fn judge(passed: &[Time]) -> (usize, f64) {
    let spacing = Duration::from_secs_f64(1.0 / RATE);
    let at_once = passed
        .windows(2)
        .take_while(|pair| pair[1].since(pair[0]) < spacing / 2)
        .count()
        + 1;
    let rest = &passed[at_once..];
    let span = rest.last().unwrap().since(rest[0]);
    (at_once, (rest.len() - 1) as f64 / span.as_secs_f64())
}

#[test]
fn row_a2_shaping_delays_to_100_a_second_after_a_burst_of_20() {
    let mut throttle = Throttle::new(RATE, BURST, ThrottleMode::Shaping, Time::ZERO).unwrap();
    let mut now = Time::ZERO;
    let mut passed = Vec::new();
    // Each waits behind the one before it: the producer is slowed down.
    for arrival in fast_producer().take(6000) {
        now = now.max(arrival);
        while let Throttled::Wait(wait) = throttle.ask(now, 1) {
            now = now + wait;
        }
        passed.push(now);
    }
    assert_eq!(passed.len(), 6000, "shaping gives nothing up");
    // The first 20 come within about 20 ms, in which two tokens more trickle in.
    let (at_once, per_second) = judge(&passed);
    assert!((20..=22).contains(&at_once), "{at_once} at once");
    assert!(
        (per_second / RATE - 1.0).abs() < 0.02,
        "{per_second} a second"
    );
}

#[test]
fn row_a2_the_burst_of_a_queue_that_is_there_is_exactly_20() {
    for mode in [
        ThrottleMode::Shaping,
        ThrottleMode::Enforcing,
        ThrottleMode::Diverting,
    ] {
        let mut throttle = Throttle::new(RATE, BURST, mode, Time::ZERO).unwrap();
        let now = Time::ZERO + Duration::from_secs(5);
        let passed = (0..1000).take_while(|_| throttle.ask(now, 1) == Throttled::Pass);
        assert_eq!(passed.count(), 20, "{mode:?}");
    }
}

#[test]
fn row_a2_enforcing_is_an_error_for_what_is_over_100_a_second() {
    let mut throttle = Throttle::new(RATE, BURST, ThrottleMode::Enforcing, Time::ZERO).unwrap();
    let (mut passed, mut errors) = (Vec::new(), 0_u64);
    for arrival in fast_producer() {
        match throttle.ask(arrival, 1) {
            Throttled::Pass => passed.push(arrival),
            Throttled::Refuse(error) => {
                assert!(error.to_string().contains("over the rate"));
                errors += 1;
            }
            other => panic!("enforcing said {other:?}"),
        }
    }
    let (at_once, per_second) = judge(&passed);
    assert!((20..=22).contains(&at_once), "{at_once} at once");
    assert!(
        (per_second / RATE - 1.0).abs() < 0.02,
        "{per_second} a second"
    );
    assert!(errors > 50_000, "{errors} errors");
}
