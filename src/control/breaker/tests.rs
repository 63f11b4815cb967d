//! The known failures of circuit breakers, each a test; and what holds whatever happens.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use proptest::prelude::*;

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
fn known_failure_stuck_half_open_when_permitted_calls_never_report() {
    // Their futures were cancelled: the permits give their places back.
    let handle = BreakerHandle::new(settings(), ms(0)).unwrap();
    handle.trip(ms(0));
    for n in 0..100 {
        drop(handle.try_acquire(ms(1000 + n)).unwrap());
    }
    assert_eq!(handle.state(), BreakerState::HalfOpen);
    assert_eq!(handle.snapshot(ms(1100)).counts.abandoned, 100);
    // They were leaked: the deadline overrules them, be it only by the next one who asks.
    let mut breaker = breaker();
    breaker.trip(ms(0));
    let leaked = breaker.try_acquire(ms(1000)).unwrap();
    assert!(breaker.try_acquire(ms(1050)).is_err());
    run_timers(&mut breaker, ms(1102));
    assert_eq!(
        breaker.state(),
        BreakerState::Open,
        "it hangs, so it is slow"
    );
    let mut patient = Breaker::new(settings().slow(10_000 * MS, 1.0), ms(0)).unwrap();
    patient.trip(ms(0));
    let silent = patient.try_acquire(ms(1000)).unwrap();
    assert!(patient.try_acquire(ms(1499)).is_err());
    assert_eq!(patient.state(), BreakerState::HalfOpen);
    let refusal = patient.try_acquire(ms(1500)).unwrap_err();
    assert_eq!(refusal.state, BreakerState::Open, "nobody reported in time");
    assert_eq!(refusal.retry_at, Some(ms(1500 + 2000)));
    // What they report after all judges nothing.
    breaker.report(ms(1600), leaked, Call::Success(600 * MS));
    patient.report(ms(1600), silent, Call::Success(600 * MS));
    assert_eq!(breaker.snapshot(ms(1600)).counts.late, 1);
    assert_eq!(breaker.snapshot(ms(1600)).in_flight, 0);
    let retried = patient.try_acquire(ms(3500)).unwrap();
    assert_eq!(
        patient.state(),
        BreakerState::HalfOpen,
        "and it is tried again"
    );
    patient.report(ms(3501), retried, Call::Ignored);
}

#[test]
fn known_failure_half_open_herd() {
    let mut breaker = breaker();
    breaker.trip(ms(0));
    let mut now = 1000;
    for allowed in [1, 2, 4] {
        let mut tickets = Vec::new();
        for _ in 0..1000 {
            tickets.extend(breaker.try_acquire(ms(now)).ok());
        }
        assert_eq!(tickets.len(), allowed, "of a thousand who wait");
        assert_eq!(breaker.snapshot(ms(now)).half_open_permits, Some(allowed));
        now += 1;
        for ticket in tickets {
            breaker.report(ms(now), ticket, Call::Success(MS));
        }
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
    let steps: Vec<_> = breaker
        .adjustments()
        .last()
        .filter(|adjustment| adjustment.what == "half_open_permits")
        .map(|adjustment| adjustment.to)
        .collect();
    assert_eq!(steps, [2.0, 4.0]);
}

#[test]
fn known_failure_hung_calls_are_invisible() {
    // A hundred calls went well, then all 8 places hang: no call ends any more.
    let slow_after = 1000 * MS;
    let settings = BreakerSettings::new().slow(slow_after, 1.0);
    let mut breaker = Breaker::new(settings, ms(0)).unwrap();
    for n in 0..1000 {
        call(&mut breaker, ms(n), Call::Success(MS));
    }
    let hung: Vec<_> = (0..8)
        .map(|_| breaker.try_acquire(ms(1000)).unwrap())
        .collect();
    run_timers(&mut breaker, ms(1999));
    assert_eq!(breaker.state(), BreakerState::Closed, "not old enough");
    run_timers(&mut breaker, ms(2010));
    assert_eq!(
        breaker.state(),
        BreakerState::Open,
        "within a hundredth of the time"
    );
    let adjustment = *breaker.adjustments().last().next_back().unwrap();
    assert!(adjustment.at >= ms(2000) && adjustment.at <= ms(2010));
    assert_eq!(adjustment.because, Trigger::HungCalls.because());
    for ticket in hung {
        breaker.report(ms(5000), ticket, Call::Abandoned);
    }
    assert_eq!(breaker.snapshot(ms(5000)).in_flight, 0);
}

#[test]
fn a_few_calls_that_hang_among_many_that_end_do_not_open_it() {
    let mut breaker = breaker();
    let hung: Vec<_> = (0..3)
        .map(|_| breaker.try_acquire(ms(0)).unwrap())
        .collect();
    for n in 0..2000 {
        call(&mut breaker, ms(n), Call::Success(MS));
        run_timers(&mut breaker, ms(n));
    }
    assert_eq!(breaker.state(), BreakerState::Closed);
    assert_eq!(breaker.snapshot(ms(2000)).hung, 3);
    // When the others stop ending, nothing happens any more but that time passes: that is seen too.
    run_timers(&mut breaker, ms(2110));
    assert_eq!(breaker.state(), BreakerState::Open);
    drop(hung);
}

#[test]
fn calls_in_flight_count_as_slow_with_those_that_ended() {
    let mut breaker = Breaker::new(settings().hung(1.0, 100), ms(0)).unwrap();
    (0..3).for_each(|n| call(&mut breaker, ms(n), Call::Success(MS)));
    let hung: Vec<_> = (0..3)
        .map(|_| breaker.try_acquire(ms(10)).unwrap())
        .collect();
    run_timers(&mut breaker, ms(112));
    assert_eq!(
        breaker.state(),
        BreakerState::Open,
        "3 of 6 are slow, half is too many"
    );
    drop(hung);
}

#[test]
fn known_failure_a_false_trip_under_load_alone() {
    // Ten times what 8 workers can do, in front of them a bounded queue: waits of seconds, service
    // of 10 ms (one in ten 30 ms). Only the service is told.
    let settings = BreakerSettings::quick(100 * MS);
    let mut breaker = Breaker::new(settings, ms(0)).unwrap();
    let mut busy: Vec<(u64, Ticket, u64)> = Vec::new();
    let (mut queued, mut shed) = (0_u64, 0_u64);
    for now in 0..20_000_u64 {
        let (ended, running) = busy.into_iter().partition(|(end, _, _)| *end <= now);
        busy = running;
        let ended: Vec<(u64, Ticket, u64)> = ended;
        for (_, ticket, started) in ended {
            breaker.report(ms(now), ticket, Call::Success(MS * (now - started) as u32));
        }
        queued += 8;
        shed += queued.saturating_sub(1000);
        queued = queued.min(1000);
        while busy.len() < 8 && queued > 0 {
            queued -= 1;
            let service = if now % 10 == 0 { 30 } else { 10 };
            busy.push((now + service, breaker.try_acquire(ms(now)).unwrap(), now));
        }
        run_timers(&mut breaker, ms(now));
        assert_eq!(breaker.state(), BreakerState::Closed, "at {now} ms");
    }
    assert!(shed > 100_000, "the load was there");
    assert_eq!(breaker.snapshot(ms(20_000)).counts.trips, 0);
}

#[test]
fn whoever_was_held_up_himself_does_not_take_calls_for_hung() {
    // The process stood still for a second: all calls look old, and are reported right after.
    let mut breaker = breaker();
    (0..20).for_each(|n| call(&mut breaker, ms(n), Call::Success(MS)));
    let tickets: Vec<_> = (0..4)
        .map(|_| breaker.try_acquire(ms(20)).unwrap())
        .collect();
    breaker.tick(ms(1020));
    for ticket in tickets {
        breaker.report(ms(1021), ticket, Call::Success(2 * MS));
    }
    run_timers(&mut breaker, ms(1200));
    assert_eq!(breaker.state(), BreakerState::Closed);
    // If they hang all the same, that is seen a little later.
    let hung = breaker.try_acquire(ms(1200)).unwrap();
    breaker.tick(ms(2000));
    run_timers(&mut breaker, ms(2009));
    assert_eq!(breaker.state(), BreakerState::Closed);
    run_timers(&mut breaker, ms(2010));
    assert_eq!(breaker.state(), BreakerState::Open);
    breaker.report(ms(2020), hung, Call::Abandoned);
}

#[test]
fn permits_are_shared_across_stages_in_half_open() {
    let handle = BreakerHandle::new(settings().half_open(2, 4, 500 * MS), ms(0)).unwrap();
    let stages: Vec<BreakerHandle> = (0..5).map(|_| handle.clone()).collect();
    handle.trip(ms(0));
    let permits: Vec<_> = stages
        .iter()
        .filter_map(|stage| stage.try_acquire(ms(1000)).ok())
        .collect();
    assert_eq!(permits.len(), 2, "two in all, not two a stage");
    assert!(
        stages
            .iter()
            .all(|stage| stage.try_acquire(ms(1001)).is_err())
    );
    assert_eq!(handle.snapshot(ms(1001)).counts.not_permitted, 8);
    for permit in permits {
        permit.success(ms(1002), MS);
    }
    let again = stages
        .iter()
        .filter_map(|stage| stage.try_acquire(ms(1003)).ok());
    assert_eq!(
        again.collect::<Vec<_>>().len(),
        4,
        "what one stage learned holds for all"
    );
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
fn a_permit_for_which_no_element_came_leaves_no_trace() {
    let handle = BreakerHandle::new(settings(), ms(0)).unwrap();
    handle.try_acquire(ms(1)).unwrap().unused();
    assert_eq!(handle.snapshot(ms(1)).counts, BreakerCounts::default());
    handle.trip(ms(1));
    // Half open: the time in which a call must report does not run while none is made.
    assert_eq!(
        handle.check(ms(1000)).unwrap_err().state,
        BreakerState::Open
    );
    for n in 0..10 {
        let now = ms(1001 + n * 450);
        assert_eq!(handle.check(now), Ok(()));
        let permit = handle.try_acquire(now).unwrap();
        assert!(handle.check(now).is_err(), "its place is taken");
        permit.unused();
    }
    let counts = handle.snapshot(ms(6000)).counts;
    assert_eq!(
        (counts.permitted, counts.not_permitted, counts.trips),
        (0, 0, 1)
    );
}

struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_stage_that_pauses_is_woken_by_another_stages_report_and_by_time() {
    let handle = BreakerHandle::new(settings(), ms(0)).unwrap();
    let woken = Arc::new(Woken(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut task = Context::from_waker(&waker);
    let times = || woken.0.swap(0, Ordering::SeqCst);
    let Poll::Ready(permit) = handle.poll_acquire(&mut task, ms(0)) else {
        panic!("closed");
    };
    permit.unused();
    handle.trip(ms(0));
    for n in 0..5 {
        assert!(handle.poll_acquire(&mut task, ms(n)).is_pending());
    }
    assert_eq!(times(), 0);
    assert_eq!(handle.deadline(), Some(ms(1000)));
    handle.tick(ms(1000));
    assert_eq!(times(), 1, "half open, and once for all the polls");
    // The other stage is faster; nobody else will ask again.
    let other = handle.try_acquire(ms(1000)).unwrap();
    assert!(handle.poll_acquire(&mut task, ms(1000)).is_pending());
    assert_eq!(times(), 0);
    other.success(ms(1001), MS);
    assert_eq!(times(), 1);
    assert!(handle.poll_acquire(&mut task, ms(1001)).is_ready());
    handle.force_open(ms(1002));
    assert!(handle.poll_acquire(&mut task, ms(1002)).is_pending());
    handle.reset(ms(1003));
    assert_eq!(times(), 1);
    assert_eq!(
        handle.snapshot(ms(1003)).counts.not_permitted,
        0,
        "who waits is not refused"
    );
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
fn a_listener_gets_every_event_in_order_and_may_ask_the_breaker() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let handle: Arc<Mutex<Option<BreakerHandle>>> = Arc::default();
    let (told, asks) = (Arc::clone(&seen), Arc::clone(&handle));
    let breaker = BreakerHandle::with_listener(settings(), ms(0), move |event| {
        if let Some(breaker) = &*asks.lock().unwrap() {
            assert!(breaker.snapshot(ms(0)).counts.permitted > 0);
        }
        told.lock().unwrap().push(*event);
        assert!(
            !matches!(event.kind, BreakerEventKind::Ignored),
            "contained"
        );
    })
    .unwrap();
    *handle.lock().unwrap() = Some(breaker.clone());
    breaker.try_acquire(ms(1)).unwrap().ignore();
    breaker.try_acquire(ms(1)).unwrap().success(ms(2), MS);
    drop(breaker.try_acquire(ms(2)).unwrap());
    (0..3).for_each(|_| breaker.try_acquire(ms(3)).unwrap().failure(ms(3), MS));
    (0..5).for_each(|_| assert!(breaker.try_acquire(ms(4)).is_err()));
    breaker.reset(ms(5));
    *handle.lock().unwrap() = None;
    let seen = seen.lock().unwrap();
    let names: Vec<String> = seen.iter().map(ToString::to_string).collect();
    assert_eq!(
        names,
        [
            "0.001 s: ignored",
            "0.002 s: success after 1ms",
            "0.002 s: abandoned",
            "0.003 s: error after 1ms",
            "0.003 s: error after 1ms",
            "0.003 s: error after 1ms",
            "0.003 s: too many calls fail: 0.750 of 0.500",
            "0.003 s: closed -> open: too many calls fail",
            "0.003 s: 5 not permitted",
            "0.005 s: open -> closed: told to",
            "0.005 s: reset",
        ]
    );
    assert!(
        seen.iter()
            .enumerate()
            .all(|(n, event)| event.number == n as u64)
    );
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

#[test]
fn many_threads_leave_the_account_balanced() {
    let handle = BreakerHandle::new(settings(), ms(0)).unwrap();
    let (let_through, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (handle, let_through, refused) = (&handle, &let_through, &refused);
            scope.spawn(move || {
                for n in 0..20_000_u64 {
                    let now = Time::from_nanos(n * 100_000 + thread);
                    match handle.try_acquire(now) {
                        Ok(permit) => {
                            let_through.fetch_add(1, Ordering::Relaxed);
                            match (n + thread) % 7 {
                                0 => permit.failure(now, MS),
                                1 => drop(permit),
                                2 => permit.ignore(),
                                _ => permit.success(now, MS),
                            }
                        }
                        Err(_) => {
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    if n % 5000 == 100 * thread {
                        handle.trip(now);
                    }
                }
            });
        }
    });
    let snapshot = handle.snapshot(ms(10_000));
    assert_eq!(snapshot.counts.permitted, let_through.into_inner() as u64);
    assert_eq!(snapshot.counts.not_permitted, refused.into_inner() as u64);
    assert!(snapshot.counts.permitted > 0 && snapshot.counts.not_permitted > 0);
    assert_eq!((snapshot.counts.outstanding(), snapshot.in_flight), (0, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Acquire,
    End(prop::sample::Index, Call),
    Wait(u64),
    Pressure(f64),
    Command(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let end = prop_oneof![
        4 => (1..200_u32).prop_map(|n| Call::Success(MS * n)),
        4 => (1..200_u32).prop_map(|n| Call::Failure(MS * n)),
        1 => Just(Call::Ignored),
        1 => Just(Call::Abandoned),
        1 => Just(Call::Unused),
    ];
    let step = prop_oneof![
        20 => Just(Step::Acquire),
        15 => (any::<prop::sample::Index>(), end).prop_map(|(which, call)| Step::End(which, call)),
        8 => (0..700_u64).prop_map(Step::Wait),
        1 => (0.0..1.0_f64).prop_map(Step::Pressure),
        1 => (0..5_u8).prop_map(Step::Command),
    ];
    proptest::collection::vec(step, 0..300)
}

fn command(n: u8, breaker: &BreakerHandle, now: Time) {
    match n {
        0 => breaker.trip(now),
        1 => breaker.force_open(now),
        2 => breaker.disable(now),
        3 => breaker.metrics_only(now),
        _ => breaker.reset(now),
    }
}

proptest! {
    /// The handle, with its way past the lock, and the machine alone decide alike and count alike.
    /// Of both: half open lets no more through than it says, refusals and calls add up, the open time
    /// stays within its bounds, and half open ends.
    #[test]
    fn whatever_happens_it_keeps_its_promises(steps in steps(), timed in any::<bool>()) {
        let window = if timed { BreakerWindow::Span(500 * MS) } else { BreakerWindow::Calls(10) };
        let settings = settings().window(window, 4).pressure(0.8, 2);
        let mut machine = Breaker::new(settings, ms(0)).unwrap();
        let handle = BreakerHandle::new(settings, ms(0)).unwrap();
        let mut out: Vec<(Ticket, Permit, usize)> = Vec::new();
        let mut now = Time::ZERO;
        let (mut asked, mut epoch) = (0_u64, 0);
        for step in steps {
            match step {
                Step::Acquire => {
                    asked += 1;
                    prop_assert_eq!(machine.check(now), handle.check(now));
                    match (machine.try_acquire(now), handle.try_acquire(now)) {
                        (Ok(ticket), Ok(permit)) => {
                            prop_assert!(!matches!(machine.state(), BreakerState::Open | BreakerState::ForcedOpen));
                            let transitions = machine.generation() as usize;
                            out.push((ticket, permit, transitions));
                        }
                        (Err(one), Err(other)) => prop_assert_eq!(one, other),
                        (one, other) => prop_assert!(false, "{one:?} but {other:?}"),
                    }
                }
                Step::End(which, call) if !out.is_empty() => {
                    let (ticket, permit, _) = out.swap_remove(which.index(out.len()));
                    machine.report(now, ticket, call);
                    match call {
                        Call::Success(service) => permit.success(now, service),
                        Call::Failure(service) => permit.failure(now, service),
                        Call::Ignored => permit.ignore(),
                        Call::Abandoned => drop(permit),
                        Call::Unused => {
                            permit.unused();
                            asked -= 1;
                        }
                    }
                }
                Step::End(..) => {}
                Step::Wait(span) => {
                    now = now + Duration::from_millis(span);
                    machine.tick(now);
                    handle.tick(now);
                }
                Step::Pressure(score) => {
                    machine.on_pressure(now, score);
                    handle.on_pressure(now, score);
                }
                Step::Command(n) => {
                    match n {
                        0 => machine.trip(now),
                        1 => machine.force_open(now),
                        2 => machine.disable(now),
                        3 => machine.metrics_only(now),
                        _ => machine.reset(now),
                    }
                    command(n, &handle, now);
                }
            }
            let (mut one, other) = (machine.snapshot(now), handle.snapshot(now));
            prop_assert_eq!(machine.deadline(), handle.deadline());
            one.at = other.at;
            prop_assert_eq!(one, other);
            prop_assert_eq!(one.in_flight, out.len());
            prop_assert_eq!(one.counts.outstanding(), out.len() as u64);
            prop_assert_eq!(one.counts.permitted + one.counts.not_permitted, asked);
            prop_assert!(one.open_for >= 1000 * MS && one.open_for <= 4000 * MS);
            if let Some(permits) = one.half_open_permits {
                let tried = out.iter().filter(|(_, _, of)| *of == machine.generation() as usize);
                prop_assert!(tried.count() <= permits && permits <= 4);
            }
            prop_assert!(machine.generation() >= epoch);
            epoch = machine.generation();
            let rates = [one.failure_rate, one.slow_rate];
            prop_assert!(rates.into_iter().flatten().all(|rate| (0.0..=1.0).contains(&rate)));
        }
        // Whatever was left: with nobody reporting, half open ends; with calls that end well, it closes.
        drop(out);
        for _ in 0..100 {
            now = now + 5000 * MS;
            if let Ok(permit) = handle.try_acquire(now) {
                permit.success(now, MS);
            }
        }
        let by_hand = [BreakerState::ForcedOpen, BreakerState::Disabled, BreakerState::MetricsOnly];
        let state = handle.state();
        prop_assert!(state == BreakerState::Closed || by_hand.contains(&state), "{state}");
    }
}
