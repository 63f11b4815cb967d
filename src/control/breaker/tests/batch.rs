//! Many calls at once are as many calls one by one.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Begin(usize),
    Report(Vec<(prop::sample::Index, Call)>),
    Refuse(usize),
    Wait(u64),
    Command(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let end = prop_oneof![
        12 => (1..120_u32).prop_map(|n| Call::Success(MS * n)),
        3 => (1..200_u32).prop_map(|n| Call::Failure(MS * n)),
        1 => Just(Call::Abandoned),
        1 => Just(Call::Unused),
    ];
    let report = proptest::collection::vec((any::<prop::sample::Index>(), end), 1..12);
    let step = prop_oneof![
        10 => (1..9_usize).prop_map(Step::Begin),
        10 => report.prop_map(Step::Report),
        1 => (1..9_usize).prop_map(Step::Refuse),
        6 => (0..400_u64).prop_map(Step::Wait),
        1 => (0..3_u8).prop_map(Step::Command),
    ];
    proptest::collection::vec(step, 0..200)
}

proptest! {
    /// Against the machine, which is told of each call by itself: the same calls are let through, and
    /// it opens at the same call.
    #[test]
    fn calls_that_are_told_together_count_as_if_told_apart(steps in steps(), timed in any::<bool>()) {
        let window = if timed { BreakerWindow::Span(500 * MS) } else { BreakerWindow::Calls(10) };
        let settings = settings().window(window, 4);
        let mut machine = Breaker::new(settings, ms(0)).unwrap();
        let handle = BreakerHandle::new(settings, ms(0)).unwrap();
        let mut out: Vec<(Ticket, Pass)> = Vec::new();
        let mut now = Time::ZERO;
        for step in steps {
            match step {
                Step::Begin(calls) => {
                    let begun = match handle.pass(now) {
                        Some(pass) => {
                            handle.begin(pass, calls);
                            Ok((pass, calls))
                        }
                        None => handle.grant(None, now, calls),
                    };
                    match begun {
                        Ok((pass, begun)) => {
                            prop_assert!((1..=calls).contains(&begun));
                            out.extend((0..begun).map(|_| (machine.try_acquire(now).unwrap(), pass)));
                            prop_assert!(begun == calls || machine.check(now).is_err());
                        }
                        Err(refusal) => prop_assert_eq!(machine.check(now), Err(refusal)),
                    }
                }
                Step::Report(ends) => {
                    let mut told = Vec::new();
                    for (which, call) in ends {
                        if !out.is_empty() {
                            let (ticket, pass) = out.remove(which.index(out.len()));
                            machine.report(now, ticket, call);
                            told.push((pass, call));
                        }
                    }
                    handle.report(now, told.into_iter());
                }
                Step::Refuse(calls) => {
                    machine.refused(calls as u64);
                    handle.refuse(calls);
                }
                Step::Wait(span) => {
                    now = now + Duration::from_millis(span);
                    machine.tick(now);
                    handle.tick(now);
                }
                Step::Command(0) => {
                    machine.trip(now);
                    handle.trip(now);
                }
                Step::Command(1) => {
                    machine.metrics_only(now);
                    handle.metrics_only(now);
                }
                Step::Command(_) => {
                    machine.reset(now);
                    handle.reset(now);
                }
            }
            let (one, other) = (machine.snapshot(now), handle.snapshot(now));
            prop_assert_eq!(one, other);
            prop_assert_eq!(other.in_flight, out.len());
            let due = machine.deadline();
            prop_assert_eq!(due, handle.deadline());
            // Who has calls in flight looks no later than it must.
            let looks = handle.look_by(!out.is_empty());
            prop_assert!(out.is_empty() || due.is_none_or(|due| looks.is_some_and(|at| at <= due)));
        }
    }
}

#[test]
fn the_call_that_breaks_a_rule_opens_it_and_those_told_behind_it_are_late() {
    let handle = BreakerHandle::new(settings(), ms(0)).unwrap();
    let pass = handle.pass(ms(0)).unwrap();
    handle.begin(pass, 8);
    let told = [(pass, Call::Failure(MS)); 3].into_iter();
    let well = [(pass, Call::Success(MS)); 5].into_iter();
    handle.report(ms(1), told.chain(well));
    // Three failures are too few to judge; the fourth call, a good one, makes them enough.
    let snapshot = handle.snapshot(ms(1));
    assert_eq!(snapshot.state, BreakerState::Open);
    assert_eq!((snapshot.counts.success, snapshot.counts.late), (5, 4));
    assert_eq!((snapshot.calls, snapshot.failure_rate), (4, Some(0.75)));
}

#[test]
fn calls_that_begin_by_a_pass_from_before_it_opened_judge_nothing() {
    let handle = BreakerHandle::new(settings(), ms(0)).unwrap();
    let pass = handle.pass(ms(0)).unwrap();
    handle.trip(ms(0));
    handle.begin(pass, 3);
    let snapshot = handle.snapshot(ms(1000));
    assert_eq!((snapshot.in_flight, snapshot.late), (3, 3));
    // They take no place of half open.
    assert_eq!(handle.grant(None, ms(1000), 5).unwrap().1, 1);
    handle.report(ms(1001), [(pass, Call::Failure(MS)); 3].into_iter());
    let snapshot = handle.snapshot(ms(1001));
    assert_eq!(snapshot.state, BreakerState::HalfOpen);
    assert_eq!((snapshot.in_flight, snapshot.counts.late), (1, 3));
}

#[test]
fn a_reset_forgets_the_calls_that_hang() {
    let mut breaker = breaker();
    let hangs = breaker.try_acquire(ms(0)).unwrap();
    for _ in 0..4 {
        call(&mut breaker, ms(100), Call::Success(MS));
    }
    breaker.tick(ms(102));
    assert_eq!(breaker.snapshot(ms(102)).hung, 1, "of five");
    breaker.reset(ms(102));
    breaker.tick(ms(103));
    let snapshot = breaker.snapshot(ms(103));
    assert_eq!(
        (snapshot.state, snapshot.hung, snapshot.late),
        (BreakerState::Closed, 0, 1)
    );
    breaker.report(ms(104), hangs, Call::Failure(104 * MS));
    assert_eq!(breaker.snapshot(ms(104)).in_flight, 0);
}

/// Broken twins of what stages do: each is found once they are gone.
#[test]
fn a_permit_that_is_lost_or_reported_twice_is_found() {
    let after = |ends: &[Call]| {
        let handle = BreakerHandle::new(settings(), ms(0)).unwrap();
        let pass = handle.pass(ms(0)).unwrap();
        handle.begin(pass, 3);
        handle.report(ms(1), ends.iter().map(|end| (pass, *end)));
        handle.snapshot(ms(2)).check_idle()
    };
    let well = Call::Success(MS);
    assert_eq!(after(&[well, Call::Unused, Call::Abandoned]), Ok(()));
    let lost = after(&[well, well]).unwrap_err();
    assert_eq!(lost, "1 permits were never reported");
    let twice = after(&[well; 4]).unwrap_err();
    assert_eq!(twice, "1 calls were reported that were never let through");
}
