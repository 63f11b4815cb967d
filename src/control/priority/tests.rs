#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::*;
use crate::class::Class;
use crate::control::Aging;
use crate::time::Time;

const HIGH: Class = Class::HIGH;
const MEDIUM: Class = Class::MEDIUM;
const LOW: Class = Class::LOW;

fn at(ms: u64) -> Time {
    Time::ZERO + Duration::from_millis(ms)
}

/// A queue with what it evicted.
pub(super) struct Bench {
    pub(super) queue: PriorityQueue<u64>,
    pub(super) evicted: Vec<Evicted<u64>>,
}

impl Bench {
    pub(super) fn new(settings: PrioritySettings) -> Bench {
        Bench {
            queue: PriorityQueue::new(settings).unwrap(),
            evicted: Vec::new(),
        }
    }

    pub(super) fn offer(&mut self, class: Class, bytes: u64, payload: u64) -> Placed<u64> {
        let offer = Offer::new(class, bytes, Time::ZERO);
        self.queue
            .offer(Time::ZERO, offer, payload, &mut self.evicted)
    }

    pub(super) fn evicted(&self) -> Vec<u64> {
        self.evicted.iter().map(|one| one.entry.payload).collect()
    }

    fn served(&mut self) -> Vec<u64> {
        std::iter::from_fn(|| self.queue.pop(Time::ZERO))
            .map(|served| served.entry.payload)
            .collect()
    }
}

fn three(items: usize) -> PrioritySettings {
    PrioritySettings::items(items).when_no_room(LOW, WhenNoRoom::Refuse)
}

#[test]
fn lower_classes_leave_places_for_a_burst_of_higher_ones() {
    let settings = three(10).at_most(MEDIUM, 4).at_most(LOW, 2);
    let mut bench = Bench::new(settings);
    assert!((0..2).all(|n| bench.offer(LOW, 0, n).is_queued()));
    assert!(!bench.offer(LOW, 0, 2).is_queued(), "two places for LOW");
    assert!((10..14).all(|n| bench.offer(MEDIUM, 0, n).is_queued()));
    assert_eq!(
        bench.evicted(),
        [0, 1],
        "LOW has its places among those of MEDIUM"
    );
    assert!(!bench.offer(MEDIUM, 0, 14).is_queued());
    assert!((20..26).all(|n| bench.offer(HIGH, 0, n).is_queued()));
    assert_eq!(bench.evicted().len(), 2, "there was room for them");
    assert!(bench.offer(HIGH, 0, 26).is_queued());
    assert_eq!(bench.evicted(), [0, 1, 10], "and then lower ones make way");
}

#[test]
fn row_a6_high_takes_the_place_of_the_cheapest_medium_waits_a_second_low_is_refused_at_once() {
    let mut bench = Bench::new(PrioritySettings::a6());
    for n in 0..500 {
        assert_eq!(bench.offer(LOW, 0, n), Placed::Queued);
    }
    for n in 500..1000 {
        assert_eq!(bench.offer(MEDIUM, 0, n), Placed::Queued);
    }
    let refused = Placed::Refused(1000, OfferRefusal::NoRoom);
    assert_eq!(bench.offer(LOW, 0, 1000), refused);
    assert_eq!(bench.offer(HIGH, 0, 1001), Placed::Queued);
    assert_eq!(
        bench.offer(MEDIUM, 0, 1002),
        Placed::Queued,
        "before it waits"
    );
    assert_eq!(bench.evicted(), [0, 1], "the oldest LOW ones");
    for n in 0..498 {
        assert_eq!(bench.offer(HIGH, 0, 2000 + n), Placed::Queued);
    }
    let waits = Placed::Wait(1003, at(1000));
    assert_eq!(bench.offer(MEDIUM, 0, 1003), waits, "no LOW is left");
    let medium = Offer::new(MEDIUM, 0, Time::ZERO);
    let mut late = |now| bench.queue.offer(now, medium, 1003, &mut bench.evicted);
    assert_eq!(late(at(999)), Placed::Wait(1003, at(1000)));
    assert_eq!(
        late(at(1000)),
        Placed::Refused(1003, OfferRefusal::TimedOut)
    );
    let snapshot = bench.queue.snapshot();
    assert_eq!((snapshot.items, snapshot.peak_items), (1000, 1000));
    let ahead = [HIGH, MEDIUM, LOW].map(|class| bench.queue.ahead_of(class));
    assert_eq!(ahead, [499, 1000, 1000]);
    let low = snapshot.lane(LOW);
    assert_eq!((low.queued, low.evicted, low.refused), (500, 500, 1));
    assert_eq!(snapshot.lane(MEDIUM).timed_out, 1);
    assert_eq!(snapshot.lane(HIGH).evicted, 0);
}

#[test]
fn row_a6_high_gives_up_the_oldest_high_only_when_nothing_cheaper_is_held() {
    let mut bench = Bench::new(PrioritySettings::a6());
    for n in 0..1000 {
        assert!(bench.offer(HIGH, 0, n).is_queued());
    }
    assert!(bench.offer(HIGH, 0, 1000).is_queued());
    assert_eq!(bench.evicted(), [0]);
}

#[test]
fn row_a6_literally_the_oldest_makes_way_whatever_its_class() {
    let mut bench = Bench::new(PrioritySettings::a6_literal());
    assert!(bench.offer(HIGH, 0, 0).is_queued());
    for n in 1..1000 {
        assert!(bench.offer(LOW, 0, n).is_queued());
    }
    assert_eq!(bench.offer(MEDIUM, 0, 1000), Placed::Wait(1000, at(1000)));
    assert_eq!(
        bench.offer(LOW, 0, 1001),
        Placed::Refused(1001, OfferRefusal::NoRoom)
    );
    assert!(bench.offer(HIGH, 0, 1002).is_queued());
    assert_eq!(
        bench.evicted(),
        [0],
        "a HIGH one, while 999 LOW ones are held"
    );
}

#[test]
fn bytes_make_way_for_bytes_and_nothing_makes_way_in_vain() {
    let mut bench = Bench::new(three(100).bytes(10));
    assert!(bench.offer(LOW, 4, 0).is_queued());
    assert!(bench.offer(LOW, 3, 1).is_queued());
    assert!(bench.offer(MEDIUM, 3, 2).is_queued());
    assert_eq!(bench.offer(MEDIUM, 8, 3), Placed::Wait(3, Time::MAX));
    assert_eq!(
        bench.evicted(),
        [0_u64; 0],
        "all of LOW would not have been enough"
    );
    assert!(bench.offer(MEDIUM, 4, 4).is_queued());
    assert_eq!(bench.evicted(), [0], "4 bytes of it were enough");
    assert_eq!(bench.queue.bytes(), 10);
}

#[test]
fn an_element_larger_than_all_the_room_is_taken_alone() {
    let mut bench = Bench::new(three(100).bytes(10));
    assert!(bench.offer(MEDIUM, 50, 0).is_queued());
    assert_eq!(bench.offer(MEDIUM, 1, 1), Placed::Wait(1, Time::MAX));
    assert_eq!(bench.served(), [0]);
    assert!(bench.offer(MEDIUM, 1, 1).is_queued());
    assert_eq!(bench.offer(MEDIUM, 50, 2), Placed::Wait(2, Time::MAX));
}

#[test]
fn what_makes_way_goes_where_its_class_says() {
    for (policy, to) in [
        (WhenNoRoom::Refuse, Away::Shed),
        (WhenNoRoom::Defer, Away::Defer),
        (WhenNoRoom::Divert, Away::Divert),
    ] {
        let mut bench = Bench::new(PrioritySettings::items(1).when_no_room(LOW, policy));
        assert!(bench.offer(LOW, 0, 0).is_queued());
        assert!(!bench.offer(LOW, 0, 1).is_queued());
        assert!(bench.offer(HIGH, 0, 2).is_queued());
        assert_eq!(bench.evicted[0].to, to);
        assert_eq!(bench.queue.settings().may_shed(LOW), to == Away::Shed);
    }
}

#[test]
fn a_class_that_never_makes_way_is_never_shed_by_waiting() {
    let settings = PrioritySettings::items(1);
    assert!(settings.may_shed(LOW), "it makes way for HIGH");
    assert!(!settings.may_shed(HIGH));
    assert!(!settings.never_evict(LOW).may_shed(LOW));
    let mut bench = Bench::new(settings.never_evict(LOW));
    assert!(bench.offer(LOW, 0, 0).is_queued());
    assert_eq!(bench.offer(HIGH, 0, 1), Placed::Wait(1, Time::MAX));
}

#[test]
fn under_load_adaptive_order_serves_the_newest_and_still_evicts_the_oldest() {
    let settings = three(3).order(MEDIUM, LaneOrder::Adaptive);
    let mut bench = Bench::new(settings.when_no_room(MEDIUM, WhenNoRoom::Evict));
    (0..3).for_each(|n| assert!(bench.offer(MEDIUM, 0, n).is_queued()));
    assert_eq!(bench.queue.pop(at(0)).unwrap().entry.payload, 0);
    bench.queue.set_overloaded(at(0), true, "a test");
    assert!(bench.offer(MEDIUM, 0, 3).is_queued());
    assert!(bench.offer(MEDIUM, 0, 4).is_queued());
    assert_eq!(bench.evicted(), [1]);
    assert_eq!(bench.queue.pop(at(0)).unwrap().entry.payload, 4);
    bench.queue.set_overloaded(at(0), false, "a test");
    assert_eq!(bench.served(), [2, 3]);
    assert_eq!(bench.queue.adjustments().total(), 2);
}

#[test]
fn what_is_peeked_at_is_what_is_popped_and_a_look_takes_no_turn() {
    let settings = three(10).aging(Aging::share(0.5).least_wait(Duration::ZERO));
    let mut bench = Bench::new(settings);
    for (class, since) in [(HIGH, 9_000), (HIGH, 9_000), (LOW, 0), (LOW, 0)] {
        let offer = Offer::new(class, 0, at(since));
        assert!(
            bench
                .queue
                .offer(at(9000), offer, 0, &mut Vec::new())
                .is_queued()
        );
    }
    let mut classes = Vec::new();
    while let Some(seen) = bench.queue.peek(at(9001)) {
        assert_eq!(bench.queue.peek(at(9001)), Some(seen));
        let served = bench.queue.pop(at(9001)).unwrap();
        assert_eq!(served.entry.offer, seen);
        classes.push((seen.class, served.aged));
    }
    let expected = [(HIGH, false), (LOW, true), (HIGH, false), (LOW, false)];
    assert_eq!(classes, expected);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let field = |settings: PrioritySettings| settings.check().err().map(|invalid| invalid.field);
    assert_eq!(field(three(0)), Some("items"));
    assert_eq!(field(three(1).bytes(0)), Some("bytes"));
    let evicts_itself = three(1).when_no_room(HIGH, WhenNoRoom::Evict);
    assert_eq!(field(evicts_itself.never_evict(HIGH)), Some("when_no_room"));
    assert_eq!(
        field(three(1).aging(Aging::share(2.0))),
        Some("aging share")
    );
    assert_eq!(field(PrioritySettings::a6_literal()), None);
}
