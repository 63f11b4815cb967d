//! The machine: when it opens, for how long, and when it closes.
#![allow(clippy::unwrap_used)]

mod batch;
mod handle;
mod known_failures;
mod properties;

use std::time::Duration;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn ms(n: u64) -> Time {
    Time::from_nanos(n * 1_000_000)
}

/// The last 10 calls from the 4th on; slow after 100 ms; open for 1 s, then 2 s, at most 4 s; half
/// open 1, 2, 4 at once, 500 ms.
fn settings() -> BreakerSettings {
    BreakerSettings::new()
        .window(BreakerWindow::Calls(10), 4)
        .slow(100 * MS, 0.5)
        .open(1000 * MS, 2.0, 4000 * MS)
        .half_open(1, 4, 500 * MS)
}

fn breaker() -> Breaker {
    Breaker::new(settings(), ms(0)).unwrap()
}

fn call(breaker: &mut Breaker, now: Time, call: Call) {
    let ticket = breaker.try_acquire(now).unwrap();
    breaker.report(now, ticket, call);
}

/// Fails calls until it opens, and says how many that took.
fn fail_until_open(breaker: &mut Breaker, now: Time) -> usize {
    for calls in 0.. {
        if breaker.state() == BreakerState::Open {
            return calls;
        }
        call(breaker, now, Call::Failure(MS));
    }
    unreachable!()
}

/// Runs its timers until then.
fn run_timers(breaker: &mut Breaker, until: Time) {
    while let Some(at) = breaker.deadline().filter(|at| *at <= until) {
        breaker.tick(at);
    }
    breaker.tick(until);
}

#[test]
fn a_hard_failure_trips_after_ten_calls_with_the_quick_settings_and_a_hundred_by_default() {
    let mut quick = Breaker::new(BreakerSettings::quick(100 * MS), ms(0)).unwrap();
    assert_eq!(fail_until_open(&mut quick, ms(1)), 10);
    let mut default = Breaker::new(BreakerSettings::new(), ms(0)).unwrap();
    assert_eq!(fail_until_open(&mut default, ms(1)), 100);
    // After calls that went well: half of a full window.
    for (settings, most) in [
        (BreakerSettings::quick(100 * MS), 10),
        (BreakerSettings::new(), 50),
    ] {
        let mut breaker = Breaker::new(settings, ms(0)).unwrap();
        (0..1000).for_each(|n| call(&mut breaker, ms(n), Call::Success(MS)));
        assert_eq!(fail_until_open(&mut breaker, ms(1001)), most);
    }
}

#[test]
fn the_open_time_grows_with_repeated_trips_up_to_its_longest_and_starts_again_after_a_good_time() {
    let mut breaker = breaker();
    let mut now = ms(0);
    let mut spans = Vec::new();
    breaker.trip(now);
    for _ in 0..4 {
        let until = breaker.snapshot(now).until.unwrap();
        spans.push(until.since(now));
        now = until;
        call(&mut breaker, now, Call::Failure(MS));
        assert_eq!(
            breaker.state(),
            BreakerState::Open,
            "one failure of one is enough"
        );
    }
    assert_eq!(spans, [1000, 2000, 4000, 4000].map(Duration::from_millis));
    now = breaker.snapshot(now).until.unwrap();
    for _ in 0..7 {
        call(&mut breaker, now, Call::Success(MS));
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
    let mut soon = breaker.clone();
    fail_until_open(&mut soon, now + 3999 * MS);
    assert_eq!(
        soon.snapshot(now).open_for,
        4000 * MS,
        "closed for less than it was open"
    );
    fail_until_open(&mut breaker, now + 4000 * MS);
    assert_eq!(breaker.snapshot(now).open_for, 1000 * MS);
}

#[test]
fn few_good_calls_far_apart_close_it_as_well() {
    let mut breaker = breaker();
    breaker.trip(ms(0));
    for n in 0..7 {
        let now = ms(1000 + n * 10_000);
        run_timers(&mut breaker, now);
        assert_eq!(breaker.state(), BreakerState::HalfOpen, "before call {n}");
        call(&mut breaker, now, Call::Success(MS));
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
}

#[test]
fn failures_that_are_older_than_the_window_are_forgotten() {
    let window = BreakerWindow::Span(1000 * MS);
    let mut breaker = Breaker::new(settings().window(window, 4), ms(0)).unwrap();
    (0..3).for_each(|n| call(&mut breaker, ms(n), Call::Failure(MS)));
    (0..3).for_each(|n| call(&mut breaker, ms(1100 + n), Call::Failure(MS)));
    assert_eq!(
        breaker.state(),
        BreakerState::Closed,
        "three within a second, twice"
    );
    call(&mut breaker, ms(1200), Call::Failure(MS));
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[test]
fn pressure_opens_it_only_where_declared_and_only_if_it_stays() {
    let mut deaf = breaker();
    (0..100).for_each(|n| deaf.on_pressure(ms(n), 1.0));
    assert_eq!(deaf.state(), BreakerState::Closed);
    let mut breaker = Breaker::new(settings().pressure(0.9, 3), ms(0)).unwrap();
    for score in [0.95, 1.0, 0.89, 0.9, 0.9] {
        breaker.on_pressure(ms(1), score);
        assert_eq!(breaker.state(), BreakerState::Closed);
    }
    breaker.on_pressure(ms(2), 0.9);
    assert_eq!(breaker.state(), BreakerState::Open);
}

#[test]
fn states_by_hand() {
    let mut breaker = breaker();
    breaker.force_open(ms(0));
    let refusal = breaker.try_acquire(ms(1_000_000)).unwrap_err();
    assert_eq!(
        (refusal.state, refusal.retry_at),
        (BreakerState::ForcedOpen, None)
    );
    assert_eq!(breaker.deadline(), None);
    breaker.disable(ms(1_000_000));
    (0..50).for_each(|_| call(&mut breaker, ms(1_000_000), Call::Failure(MS)));
    assert_eq!(breaker.snapshot(ms(1_000_000)).calls, 0);
    breaker.metrics_only(ms(1_000_001));
    (0..50).for_each(|_| call(&mut breaker, ms(1_000_002), Call::Failure(MS)));
    assert_eq!(breaker.state(), BreakerState::MetricsOnly);
    assert_eq!(breaker.snapshot(ms(1_000_002)).failure_rate, Some(1.0));
    let told = breaker
        .events()
        .filter(|event| matches!(event.kind, BreakerEventKind::RateExceeded { .. }));
    assert_eq!(told.count(), 1, "once, not for each call");
    breaker.reset(ms(1_000_003));
    assert_eq!(breaker.state(), BreakerState::Closed);
    assert_eq!(
        breaker.events().next_back().unwrap().kind,
        BreakerEventKind::Reset
    );
    assert_eq!(breaker.snapshot(ms(1_000_003)).failure_rate, None);
}

#[test]
fn a_pause_is_never_kept_while_draining() {
    assert_eq!(WhenOpen::PauseDemand.while_draining(), WhenOpen::Reject);
    for same in [WhenOpen::Reject, WhenOpen::Divert, WhenOpen::Defer] {
        assert_eq!(same.while_draining(), same);
    }
}

#[test]
fn the_log_is_bounded_and_holds_calls_only_if_told() {
    let quiet = BreakerHandle::new(settings(), ms(0)).unwrap();
    let loud = BreakerHandle::new(settings().log(5, true), ms(0)).unwrap();
    for breaker in [&quiet, &loud] {
        (0..50).for_each(|n| breaker.try_acquire(ms(n)).unwrap().success(ms(n), MS));
    }
    assert!(quiet.events().is_empty());
    let numbers: Vec<u64> = loud.events().iter().map(|event| event.number).collect();
    assert_eq!(numbers, [45, 46, 47, 48, 49]);
}

#[test]
fn impossible_settings_are_named() {
    let field = |settings: BreakerSettings| Breaker::new(settings, ms(0)).unwrap_err().field;
    let new = BreakerSettings::new;
    assert_eq!(field(new().window(BreakerWindow::Calls(0), 1)), "window");
    assert_eq!(
        field(new().window(BreakerWindow::Calls(10), 11)),
        "minimum_calls"
    );
    assert_eq!(
        field(new().window(BreakerWindow::Span(Duration::ZERO), 1)),
        "window"
    );
    assert_eq!(field(new().failure_rate(0.0)), "failure_rate");
    assert_eq!(field(new().failure_rate(f64::NAN)), "failure_rate");
    assert_eq!(field(new().slow(Duration::ZERO, 0.5)), "slow_after");
    assert_eq!(field(new().slow(MS, 1.1)), "slow_rate");
    assert_eq!(field(new().hung(0.0, 1)), "hung_share");
    assert_eq!(field(new().pressure(0.5, 0)), "pressure in a row");
    assert_eq!(field(new().open(2 * MS, 1.0, MS)), "open_for");
    assert_eq!(field(new().open(MS, 0.5, MS)), "open_factor");
    assert_eq!(field(new().half_open(5, 4, MS)), "half_open_first");
    assert_eq!(
        field(new().half_open(1, 4, Duration::ZERO)),
        "half_open_within"
    );
    assert_eq!(field(new().log(0, false)), "log");
}
