//! Places are leased, handed on in turn, and none is lost.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::control::limit::{Aimd, Fixed, MeanLatency};

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Woken {
    fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }

    fn times(&self) -> usize {
        self.0.swap(0, Ordering::SeqCst)
    }
}

fn fixed(places: usize) -> LimitHandle {
    LimitHandle::new(Fixed::new(places).unwrap())
}

fn poll(member: &mut LimitMember, woken: &Arc<Woken>, want: usize) -> Poll<usize> {
    member.poll_lease(&mut Context::from_waker(&woken.waker()), want)
}

#[test]
fn who_gives_a_place_back_cannot_take_it_from_who_waits() {
    let limit = fixed(1);
    let (mut busy, mut waits) = (limit.join(), limit.join());
    let woken = Arc::<Woken>::default();
    assert_eq!(busy.lease(1), 1);
    assert!(poll(&mut waits, &woken, 5).is_pending());
    busy.give_back(1);
    assert_eq!(woken.times(), 1);
    assert_eq!(busy.lease(1), 0, "it is handed over already");
    assert_eq!(poll(&mut waits, &woken, 5), Poll::Ready(1));
    assert_eq!((busy.held(), waits.held()), (0, 1));
}

#[test]
fn who_waits_is_served_in_turn() {
    let limit = fixed(3);
    let mut first = limit.join();
    assert_eq!(first.lease(3), 3);
    let mut waiting: Vec<_> = (0..3).map(|_| (limit.join(), Arc::default())).collect();
    for (member, woken) in &mut waiting {
        assert!(poll(member, woken, 1).is_pending());
    }
    // The first asks again, and keeps its turn.
    let (member, woken) = &mut waiting[0];
    assert!(poll(member, woken, 1).is_pending());
    for next in 0..3 {
        first.give_back(1);
        let woken: Vec<_> = waiting.iter().map(|(_, woken)| woken.times()).collect();
        let mut expected = vec![0; 3];
        expected[next] = 1;
        assert_eq!(woken, expected);
    }
    assert_eq!(limit.snapshot().waiting, 0);
}

#[test]
fn what_was_handed_over_and_is_not_wanted_goes_on() {
    let limit = fixed(1);
    let mut busy = limit.join();
    busy.lease(1);
    let (mut one, mut other) = (limit.join(), limit.join());
    let (first, second) = (Arc::<Woken>::default(), Arc::<Woken>::default());
    assert!(poll(&mut one, &first, 1).is_pending());
    assert!(poll(&mut other, &second, 1).is_pending());
    busy.give_back(1);
    assert_eq!((first.times(), second.times()), (1, 0));
    one.decline();
    assert_eq!(second.times(), 1);
    drop(other);
    assert_eq!(limit.snapshot().leased, 0, "what it was handed too");
    assert_eq!(one.lease(1), 1);
    drop(one);
    assert_eq!((limit.snapshot().leased, limit.snapshot().members), (0, 1));
}

#[test]
fn a_limit_that_falls_revokes_nothing_and_one_that_rises_wakes() {
    let limit = LimitHandle::new(MeanLatency::builder().initial(20).build().unwrap());
    let mut member = limit.join();
    assert_eq!(member.lease(100), 20);
    let respond = |ms| Sample {
        count: 1,
        service: Duration::from_millis(ms),
        in_flight: 20,
        ..Sample::default()
    };
    member.on_sample(Time::ZERO, &respond(5000));
    assert_eq!((limit.limit(), member.held()), (10, 20));
    member.give_back(10);
    let woken = Arc::<Woken>::default();
    assert!(poll(&mut member, &woken, 1).is_pending(), "ten of ten");
    limit.replace(Fixed::new(11).unwrap());
    assert_eq!(woken.times(), 1);
    assert_eq!(poll(&mut member, &woken, 9), Poll::Ready(1));
    assert!(poll(&mut member, &woken, 1).is_pending());
    limit.replace(MeanLatency::builder().initial(11).build().unwrap());
    limit.join().on_sample(Time::ZERO, &respond(1));
    assert_eq!((limit.limit(), woken.times()), (16, 1));
}

#[test]
fn a_limit_judges_the_calls_of_all_members_together() {
    let limit = LimitHandle::new(Aimd::builder().initial(20).build().unwrap());
    let (mut one, mut other) = (limit.join(), limit.join());
    // Leased, but few are used: it does not grow for them.
    let sample = |in_flight| Sample {
        count: 20,
        service: Duration::from_millis(1),
        in_flight,
        ..Sample::default()
    };
    for n in 0..10 {
        one.lease(20);
        one.on_sample(Time::from_nanos(n), &sample(5));
    }
    assert_eq!(limit.limit(), 20);
    // Five here and five there are half of it.
    other.on_sample(Time::from_nanos(10), &sample(5));
    assert_eq!(limit.limit(), 21);
    drop(one);
    other.on_sample(Time::from_nanos(11), &sample(5));
    other.on_sample(Time::from_nanos(12), &sample(5));
    assert_eq!(limit.limit(), 21, "five alone are not");
}

struct Parked(std::thread::Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

#[test]
fn no_wake_up_is_lost_between_threads_that_share_few_places() {
    let limit = fixed(2);
    let busy = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let waker = Waker::from(Arc::new(Parked(std::thread::current())));
                let mut member = limit.join();
                for _ in 0..500 {
                    let places = loop {
                        match member.poll_lease(&mut Context::from_waker(&waker), 2) {
                            Poll::Ready(places) => break places,
                            Poll::Pending => std::thread::park(),
                        }
                    };
                    assert!(busy.fetch_add(places, Ordering::SeqCst) + places <= 2);
                    std::thread::yield_now();
                    busy.fetch_sub(places, Ordering::SeqCst);
                    member.give_back(places);
                }
            });
        }
    });
    let end = limit.snapshot();
    assert_eq!(
        (end.leased, end.members, end.waiting, end.peak),
        (0, 0, 0, 2)
    );
}

#[derive(Clone, Debug)]
enum Step {
    Lease(usize),
    Poll(usize),
    Decline,
    GiveBack(usize),
    Leave,
    Limit(usize),
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let step = prop_oneof![
        3 => (0..6_usize).prop_map(Step::Lease),
        4 => (0..6_usize).prop_map(Step::Poll),
        1 => Just(Step::Decline),
        4 => (0..4_usize).prop_map(Step::GiveBack),
        1 => Just(Step::Leave),
        1 => (1..9_usize).prop_map(Step::Limit),
    ];
    proptest::collection::vec((0..4_usize, step), 0..200)
}

proptest! {
    /// Whatever members do: never more is leased than the limit allowed then, nobody waits while a
    /// place is free, whoever waited and was not woken waits still, and in the end all is back.
    #[test]
    fn no_place_is_lost_or_given_twice(steps in steps()) {
        let limit = fixed(4);
        let mut members: Vec<LimitMember> = (0..4).map(|_| limit.join()).collect();
        let wakers: Vec<Arc<Woken>> = (0..4).map(|_| Arc::default()).collect();
        let mut waits = [false; 4];
        for (at, step) in steps {
            let before = limit.snapshot();
            let member = &mut members[at];
            match step {
                Step::Lease(want) => {
                    prop_assert!(member.lease(want) <= want);
                }
                Step::Poll(want) => match poll(member, &wakers[at], want) {
                    Poll::Ready(places) => {
                        prop_assert!((1..=want).contains(&places));
                        waits[at] = false;
                    }
                    Poll::Pending => waits[at] |= want > 0,
                },
                Step::Decline => {
                    member.decline();
                    waits[at] = false;
                }
                Step::GiveBack(places) => member.give_back(places),
                Step::Leave => {
                    *member = limit.join();
                    waits[at] = false;
                }
                Step::Limit(to) => limit.replace(Fixed::new(to).unwrap()),
            }
            for (waits, woken) in waits.iter_mut().zip(&wakers) {
                let times = woken.times();
                prop_assert!(times <= 1);
                *waits &= times == 0;
            }
            let now = limit.snapshot();
            prop_assert!(now.leased <= limit.limit().max(before.leased));
            let held: usize = members.iter().map(LimitMember::held).sum();
            prop_assert!(held <= now.leased);
            prop_assert!(now.waiting == 0 || now.leased >= limit.limit(), "{:?}", now);
            prop_assert_eq!(now.waiting, waits.iter().filter(|waits| **waits).count());
            prop_assert_eq!(now.members, 4);
        }
        drop(members);
        let end = limit.snapshot();
        prop_assert_eq!((end.leased, end.members, end.waiting), (0, 0, 0));
    }
}
