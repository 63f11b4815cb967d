//! One breaker for many stages and threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use super::*;

struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
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
