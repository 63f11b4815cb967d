//! What other breakers are known to do wrong, each with a test that fails if this one does it.

use super::*;

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
