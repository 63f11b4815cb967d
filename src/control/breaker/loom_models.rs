//! Models of permits that two threads take and give back while the breaker changes its state, in
//! every order. `crate::loom_models` says how they are run.
#![allow(clippy::unwrap_used)]

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use loom::future::block_on;
use loom::thread;

use super::{BreakerHandle, BreakerSettings, BreakerState, Call};
use crate::time::Time;

/// Runs a model and asserts that it was run in at least so many orders.
fn explore(at_least: usize, model: impl Fn() + Sync + Send + 'static) {
    let runs = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&runs);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let runs = runs.load(Ordering::Relaxed);
    assert!(runs >= at_least, "only {runs} orders were explored");
}

const MS: Duration = Duration::from_millis(1);

fn at(ms: u64) -> Time {
    Time::from_nanos(ms * 1_000_000)
}

fn handle() -> BreakerHandle {
    let settings = BreakerSettings::quick(100 * MS).half_open(1, 1, 1000 * MS);
    BreakerHandle::new(settings, at(0)).unwrap()
}

/// A call begins past the lock while another thread takes the lock, changes the state or the bucket
/// of time, and empties the count.
fn starts_model(swap: bool, change: impl FnOnce(&BreakerHandle) + Send + 'static) {
    let handle = handle();
    let (calls, changes) = (handle.clone(), handle.clone());
    let call = move || {
        if let Ok(permit) = calls.try_acquire(at(0)) {
            permit.success(at(0), MS);
        }
        calls.try_acquire(at(0)).ok()
    };
    let change = move || change(&changes);
    let last = if swap {
        let other = thread::spawn(change);
        let last = call();
        other.join().unwrap();
        last
    } else {
        let other = thread::spawn(call);
        change();
        other.join().unwrap()
    };
    let out = u64::from(last.is_some());
    let before = handle.snapshot(at(2));
    // Given back before anything is asserted: a permit must not be dropped while a thread panics.
    drop(last);
    let after = handle.snapshot(at(2));
    assert_eq!(before.in_flight as u64, out);
    assert_eq!(before.counts.outstanding(), out);
    assert_eq!(before.counts.permitted + before.counts.not_permitted, 2);
    assert_eq!((after.in_flight, after.counts.outstanding()), (0, 0));
}

#[test]
fn no_call_is_lost_that_begins_while_others_are_gathered() {
    for swap in [false, true] {
        explore(4, move || {
            starts_model(swap, |breaker| drop(breaker.snapshot(at(0))))
        });
    }
}

#[test]
fn no_call_is_lost_that_begins_while_the_state_changes() {
    for swap in [false, true] {
        explore(4, move || {
            starts_model(swap, |breaker| breaker.force_open(at(0)))
        });
    }
}

#[test]
fn no_call_is_lost_that_begins_while_time_goes_on() {
    for swap in [false, true] {
        explore(4, move || starts_model(swap, |breaker| breaker.tick(at(1))));
    }
}

/// A stage asks by which state its calls would be let through, and they begin by it, while another
/// thread changes the state or the time.
fn pass_model(swap: bool, change: impl FnOnce(&BreakerHandle) + Send + 'static) {
    let handle = handle();
    let (calls, changes) = (handle.clone(), handle.clone());
    let call = move || {
        let pass = calls.pass(at(0));
        pass.into_iter().for_each(|pass| calls.begin(pass, 2));
        let ended = pass.map(|pass| (pass, Call::Success(MS)));
        calls.report(at(0), ended.into_iter());
        pass
    };
    let change = move || change(&changes);
    let pass = if swap {
        let other = thread::spawn(change);
        let pass = call();
        other.join().unwrap();
        pass
    } else {
        let other = thread::spawn(call);
        change();
        other.join().unwrap()
    };
    let out = usize::from(pass.is_some());
    let snapshot = handle.snapshot(at(2));
    assert_eq!(snapshot.in_flight, out);
    assert_eq!(snapshot.counts.permitted, 2 * out as u64);
    assert_eq!(snapshot.counts.success, out as u64);
    handle.report(at(2), pass.map(|pass| (pass, Call::Abandoned)).into_iter());
    assert_eq!(handle.snapshot(at(2)).in_flight, 0);
}

#[test]
fn no_call_is_lost_that_begins_by_what_a_stage_was_told() {
    for swap in [false, true] {
        explore(4, move || {
            pass_model(swap, |breaker| breaker.force_open(at(0)))
        });
        explore(4, move || pass_model(swap, |breaker| breaker.tick(at(1))));
        explore(4, move || {
            pass_model(swap, |breaker| drop(breaker.snapshot(at(0))))
        });
    }
}

#[test]
fn half_open_lets_one_through_whoever_asks() {
    explore(4, || {
        let handle = handle();
        handle.trip(at(0));
        let inside = Arc::new(AtomicUsize::new(0));
        let ask = |handle: BreakerHandle, inside: Arc<AtomicUsize>| {
            move || {
                if let Ok(permit) = handle.try_acquire(at(1000)) {
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two at once");
                    thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(permit);
                }
            }
        };
        let other = thread::spawn(ask(handle.clone(), Arc::clone(&inside)));
        ask(handle.clone(), inside)();
        other.join().unwrap();
        let snapshot = handle.snapshot(at(1000));
        assert_eq!(snapshot.state, BreakerState::HalfOpen);
        assert_eq!((snapshot.in_flight, snapshot.counts.outstanding()), (0, 0));
        assert!(snapshot.counts.permitted >= 1);
        assert_eq!(snapshot.counts.permitted + snapshot.counts.not_permitted, 2);
    });
}

/// Half open, the one place is taken; its call is given up while another stage waits for the place.
#[test]
fn who_pauses_is_woken_by_the_place_that_another_gives_back() {
    for swap in [false, true] {
        explore(4, move || {
            let handle = handle();
            handle.trip(at(0));
            let taken = handle.try_acquire(at(1000)).unwrap();
            let waits = handle.clone();
            let wait = move || {
                let permit = block_on(poll_fn(|task| waits.poll_acquire(task, at(1000))));
                permit.unused();
            };
            let give_back = move || drop(taken);
            if swap {
                let other = thread::spawn(give_back);
                wait();
                other.join().unwrap();
            } else {
                let other = thread::spawn(wait);
                give_back();
                other.join().unwrap();
            }
            assert_eq!(handle.snapshot(at(1000)).in_flight, 0);
        });
    }
}
