#![allow(clippy::unwrap_used, clippy::float_cmp)]

use proptest::prelude::*;

use super::*;

fn at(ms: u64) -> Time {
    Time::ZERO + Duration::from_millis(ms)
}

fn of(rate_per_s: f64, burst: u32, mode: ThrottleMode) -> Throttle {
    Throttle::new(rate_per_s, burst, mode, Time::ZERO).unwrap()
}

/// Elements of that cost one after another, as soon as the throttle lets them: when each passed.
fn shaped(throttle: &mut Throttle, from: Time, costs: &[u32]) -> Vec<Time> {
    let mut now = from;
    let mut passed = Vec::new();
    for cost in costs {
        loop {
            match throttle.ask(now, *cost) {
                Throttled::Pass => break,
                Throttled::Wait(wait) => {
                    assert!(wait > Duration::ZERO, "a wait of nothing");
                    now = now + wait;
                }
                other => panic!("shaping said {other:?}"),
            }
        }
        passed.push(now);
    }
    passed
}

#[test]
fn row_a2_shaping_lets_the_burst_pass_at_once_and_then_exactly_the_rate() {
    let mut throttle = of(100.0, 20, ThrottleMode::Shaping);
    let passed = shaped(&mut throttle, Time::ZERO, &[1; 1020]);
    let at_once = passed.iter().filter(|time| **time == Time::ZERO).count();
    assert_eq!(at_once, 20, "the burst");
    for (n, time) in passed.iter().skip(20).enumerate() {
        assert_eq!(
            *time,
            at(10 * (n as u64 + 1)),
            "element {n} after the burst"
        );
    }
    let snapshot = throttle.snapshot(passed[1019]);
    assert_eq!(snapshot.passed, 1020);
    assert_eq!(snapshot.delayed, 1000);
    assert!((snapshot.spent - 20.0).abs() < 1e-4, "{snapshot:?}");
}

#[test]
fn row_a2_enforcing_refuses_what_is_over_the_rate_and_says_when_it_would_pass() {
    let mut throttle = of(100.0, 20, ThrottleMode::Enforcing);
    let mut passed = 0_u64;
    for ms in 0..10_000 {
        match throttle.ask(at(ms), 1) {
            Throttled::Pass => passed += 1,
            Throttled::Refuse(TooFast::For(wait)) => assert!(wait <= Duration::from_millis(10)),
            other => panic!("enforcing said {other:?}"),
        }
    }
    assert_eq!(
        passed,
        20 + 999,
        "the burst, and one each 10 ms after the first"
    );
    let snapshot = throttle.snapshot(at(10_000));
    assert_eq!(snapshot.refused, 10_000 - passed);
}

#[test]
fn row_a2_the_burst_is_back_after_an_idle_time_of_burst_over_rate_and_no_sooner() {
    let mut throttle = of(100.0, 20, ThrottleMode::Enforcing);
    let burst = |throttle: &mut Throttle, now| {
        (0..50)
            .filter(|_| throttle.ask(now, 1) == Throttled::Pass)
            .count()
    };
    assert_eq!(burst(&mut throttle, at(0)), 20);
    assert_eq!(burst(&mut throttle, at(199)), 19);
    assert_eq!(
        burst(&mut throttle, at(10_000)),
        20,
        "never more than the burst"
    );
}

#[test]
fn diverting_sends_the_rest_another_way() {
    let mut throttle = of(1000.0, 2, ThrottleMode::Diverting);
    let answers: Vec<_> = (0..4).map(|_| throttle.ask(Time::ZERO, 1)).collect();
    let (pass, divert) = (Throttled::Pass, Throttled::Divert);
    assert_eq!(answers, [pass, pass, divert, divert]);
    assert_eq!(throttle.snapshot(Time::ZERO).diverted, 2);
}

#[test]
fn cost_is_what_is_counted() {
    let mut throttle = of(1000.0, 10, ThrottleMode::Enforcing);
    assert_eq!(throttle.ask(Time::ZERO, 7), Throttled::Pass);
    assert_eq!(
        throttle.ask(Time::ZERO, 4),
        Throttled::Refuse(TooFast::For(Duration::from_millis(1)))
    );
    assert_eq!(throttle.ask(Time::ZERO, 3), Throttled::Pass);
    assert_eq!(throttle.ask(Time::ZERO, 0), Throttled::Pass, "free");
    let too_dear = TooFast::TooDear {
        cost: 11,
        burst: 10,
    };
    assert_eq!(throttle.ask(at(1000), 11), Throttled::Refuse(too_dear));
}

#[test]
fn while_shaping_an_element_dearer_than_the_burst_passes_when_all_of_it_has_trickled_in() {
    let mut throttle = of(1000.0, 10, ThrottleMode::Shaping);
    let passed = shaped(&mut throttle, Time::ZERO, &[35, 10]);
    assert_eq!(
        passed,
        [at(25), at(35)],
        "10 were there, 25 and then 10 came in"
    );
}

#[test]
fn a_change_of_the_rate_neither_gives_tokens_nor_takes_any() {
    let mut throttle = of(100.0, 20, ThrottleMode::Enforcing);
    for _ in 0..15 {
        assert_eq!(throttle.ask(Time::ZERO, 1), Throttled::Pass);
    }
    let before = throttle.spent(at(5));
    assert!(
        (before - 14.5).abs() < 1e-5,
        "half an interval has trickled in"
    );
    throttle.set_rate(at(5), 1000.0, "a test").unwrap();
    assert!((throttle.spent(at(5)) - before).abs() < 1e-5);
    let passed = (0..50)
        .filter(|_| throttle.ask(at(5), 1) == Throttled::Pass)
        .count();
    assert_eq!(passed, 5, "5.5 were left");
    assert_eq!(
        throttle.ask(at(5), 1),
        Throttled::Refuse(TooFast::For(Duration::from_micros(500))),
        "the half that was there counts at the new rate"
    );
    let last = throttle.adjustments().last().next_back().copied().unwrap();
    assert_eq!(
        (last.what, last.from, last.to),
        ("rate_per_s", 100.0, 1000.0)
    );
    assert!(throttle.set_rate(at(5), 0.0, "a test").is_err());
    assert_eq!(throttle.snapshot(at(5)).rate_per_s, 1000.0);
}

#[test]
fn a_smaller_burst_forgives_what_it_could_not_hold() {
    let mut throttle = of(100.0, 20, ThrottleMode::Enforcing);
    for _ in 0..20 {
        assert_eq!(throttle.ask(Time::ZERO, 1), Throttled::Pass);
    }
    throttle.set_burst(Time::ZERO, 5, "a test").unwrap();
    assert!((throttle.spent(Time::ZERO) - 5.0).abs() < 1e-5);
    assert_eq!(throttle.ask(at(10), 1), Throttled::Pass);
}

#[test]
fn a_rate_of_bytes_is_exact_where_a_nanosecond_is_too_coarse() {
    let rate = 150e6;
    let mut throttle = of(rate, 64 << 10, ThrottleMode::Shaping);
    let costs = vec![1500; 1_000_000];
    let last = shaped(&mut throttle, Time::ZERO, &costs).pop().unwrap();
    let bytes = 1500.0 * 1e6 - f64::from(64 << 10);
    let measured = bytes / (last.as_nanos() as f64 / 1e9);
    assert!(
        (measured / rate - 1.0).abs() < 1e-6,
        "{measured} bytes a second"
    );
}

#[test]
fn it_runs_for_years() {
    let mut throttle = of(1e9, 1000, ThrottleMode::Enforcing);
    let hour = Duration::from_secs(3600);
    let mut now = Time::ZERO;
    for _ in 0..20_000 {
        assert_eq!(throttle.ask(now, 1000), Throttled::Pass);
        assert!(matches!(throttle.ask(now, 1000), Throttled::Refuse(_)));
        now = now + hour;
    }
    throttle.set_rate(now, 1e-3, "a test").unwrap();
    for _ in 0..20_000 {
        now = now + hour;
        assert_eq!(throttle.ask(now, 3), Throttled::Pass, "3.6 an hour");
    }
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let field = |rate, burst| {
        Throttle::new(rate, burst, ThrottleMode::Shaping, Time::ZERO)
            .err()
            .map(|invalid| invalid.field)
    };
    assert_eq!(field(0.0, 1), Some("rate_per_s"));
    assert_eq!(field(f64::NAN, 1), Some("rate_per_s"));
    assert_eq!(field(f64::INFINITY, 1), Some("rate_per_s"));
    assert_eq!(field(2e9, 1), Some("rate_per_s"));
    assert_eq!(field(1.0, 0), Some("burst"));
    assert_eq!(field(1e-3, u32::MAX), Some("burst"));
    assert_eq!(field(1e9, u32::MAX), None);
    assert_eq!(field(1e-3, 1), None);
}

proptest! {
    /// Judged by what a rate is, over every span between two elements that passed, while the rate
    /// changes.
    #[test]
    fn no_span_sees_more_than_the_burst_and_the_rate(
        steps in proptest::collection::vec((0..30_000_u64, 1..6_u32, prop::option::of(10.0..5000.0_f64)), 1..120),
        rate in 10.0..5000.0_f64,
        burst in 5..40_u32,
    ) {
        let mut throttle = of(rate, burst, ThrottleMode::Enforcing);
        let mut now = Time::ZERO;
        let mut rate = rate;
        // The tokens there would be, in a bucket of real numbers.
        let mut tokens = f64::from(burst);
        for (pause_us, cost, change) in steps {
            now = now + Duration::from_micros(pause_us);
            tokens = (tokens + pause_us as f64 / 1e6 * rate).min(f64::from(burst));
            if let Some(to) = change {
                throttle.set_rate(now, to, "a test").unwrap();
                rate = to;
            }
            let slack = 1e-3;
            match throttle.ask(now, cost) {
                Throttled::Pass => {
                    tokens -= f64::from(cost);
                    prop_assert!(tokens > -slack, "{tokens} tokens");
                }
                Throttled::Refuse(TooFast::For(wait)) => {
                    let missing = f64::from(cost) - tokens;
                    prop_assert!(missing > -slack, "{tokens} were there");
                    let expected = missing / rate;
                    prop_assert!((wait.as_secs_f64() - expected).abs() < slack / rate + 1e-8);
                }
                other => prop_assert!(false, "{:?}", other),
            }
            prop_assert!((throttle.spent(now) + tokens - f64::from(burst)).abs() < slack);
        }
    }

    #[test]
    fn what_waited_as_long_as_it_was_told_passes(
        costs in proptest::collection::vec(0..50_u32, 1..60),
        rate in 0.5..1e6_f64,
        burst in 1..20_u32,
    ) {
        let mut throttle = of(rate, burst, ThrottleMode::Shaping);
        let passed = shaped(&mut throttle, Time::ZERO, &costs);
        let total: u32 = costs.iter().sum();
        let least = f64::from(total.saturating_sub(burst)) / rate;
        let last = passed.last().unwrap().as_nanos() as f64 / 1e9;
        // With a burst of one, a wait that ends between two nanoseconds cannot be made up for.
        let rounding = f64::from(total) * 1e-9;
        prop_assert!(
            (last - least).abs() <= least * 1e-6 + rounding + 1e-8,
            "{last} s, not {least} s"
        );
    }
}
