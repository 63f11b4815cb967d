//! What holds whatever happens.

use proptest::prelude::*;

use super::*;

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
