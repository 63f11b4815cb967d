//! Who is asked for how much, who waits, who is woken, and what is inside meanwhile.

use super::*;
use crate::control::WhenNoRoom;
use crate::outcome::Reason;
use crate::time::{self, Time};

#[test]
fn as_many_are_asked_for_as_there_is_room_for_and_some_that_may_be_dearer() {
    let mut pair = Pair::new(room_for(100));
    assert_eq!(pair.credit(), 100);
    pair.send(of(LOW, 0..30));
    assert_eq!(pair.credit(), 70);
    pair.send(of(LOW, 30..100));
    assert_eq!(pair.credit(), 64, "one of them may be dearer");
    pair.send(of(LOW, 100..140));
    assert_eq!(pair.credit(), 24, "40 wait");
    pair.send(of(LOW, 140..164));
    assert_eq!(pair.ready(), Poll::Pending);
    assert_eq!(
        pair.held(),
        Held {
            items: 164,
            bytes: 0
        }
    );
    assert_eq!(pair.producer.woken(), 0);
    assert_eq!(pair.take(10).values(), (0..10).collect::<Vec<_>>());
    assert_eq!(pair.producer.woken(), 1, "there is room");
    assert_eq!(pair.credit(), 10);
    assert_eq!(pair.snapshot().waiting, 54);
    assert_eq!(pair.take(100).values(), (10..110).collect::<Vec<_>>());
    assert_eq!(pair.credit(), 64, "54 came in, 46 are free");
    assert_eq!(
        pair.held(),
        Held {
            items: 54,
            bytes: 0
        }
    );
}

#[test]
fn a_consumer_that_waits_is_woken_once_there_is_something() {
    let mut pair = Pair::new(room_for(4));
    assert!(pair.take(1).is_pending());
    assert_eq!(pair.consumer.woken(), 0);
    pair.send(of(LOW, [1]));
    assert_eq!(pair.consumer.woken(), 1);
    pair.send(of(LOW, [2]));
    assert_eq!(pair.consumer.woken(), 0, "it does not wait any more");
    assert_eq!(pair.take(4).values(), [1, 2]);
    assert_eq!(pair.producer.woken(), 0, "nobody waited for room");
}

#[test]
fn bytes_are_bounded_with_those_that_wait() {
    let settings = room_for(1000).bytes(800);
    let mut pair = Pair::new(settings);
    let demand = |pair: &mut Pair| match pair.ready() {
        Poll::Ready(demand) => demand.unwrap().bytes,
        Poll::Pending => 0,
    };
    assert_eq!(demand(&mut pair), 800);
    pair.send(weighing(LOW, 70, 0..10));
    assert_eq!(demand(&mut pair), 100);
    pair.send(weighing(LOW, 50, 10..12));
    assert_eq!(demand(&mut pair), 100, "an eighth may wait");
    pair.send(weighing(LOW, 60, [12]));
    assert_eq!(demand(&mut pair), 40);
    assert_eq!(
        pair.held(),
        Held {
            items: 13,
            bytes: 860
        }
    );
    pair.send(weighing(LOW, 40, [13]));
    assert_eq!(pair.ready(), Poll::Pending);
    assert_eq!(
        pair.held(),
        Held {
            items: 14,
            bytes: 900
        }
    );
    let want = |bytes| Demand { items: 10, bytes };
    assert_eq!(pair.fill(want(139)).values(), [0]);
    assert_eq!(pair.producer.woken(), 1);
    assert_eq!(
        demand(&mut pair),
        60,
        "60 of 70 bytes were for one that waited"
    );
    assert_eq!(pair.fill(want(140)).values(), [1, 2]);
    assert_eq!(pair.fill(want(1)).values(), [3], "one may exceed the bytes");
    assert_eq!(demand(&mut pair), 180, "the last one came in as well");
    assert_eq!(
        pair.held(),
        Held {
            items: 10,
            bytes: 620
        }
    );
}

#[test]
fn nobody_passes_those_of_its_class_that_wait() {
    let mut pair = Pair::new(room_for(1000).bytes(100));
    pair.send(weighing(LOW, 60, [0]));
    pair.send(weighing(LOW, 60, [1]));
    pair.send(weighing(LOW, 10, [2]));
    pair.send(weighing(MEDIUM, 10, [3]));
    let snapshot = pair.snapshot();
    assert_eq!((snapshot.queue.items, snapshot.waiting), (2, 2), "3 may");
    assert_eq!(pair.take(10).values(), [3, 0]);
    assert_eq!(pair.credit(), 64);
    pair.send(weighing(LOW, 10, [4]));
    assert_eq!(pair.take(10).values(), [1, 2, 4]);
}

#[test]
fn the_dearest_of_those_that_wait_come_in_first() {
    let settings = room_for(1).never_evict(LOW).never_evict(MEDIUM);
    let mut pair = Pair::new(settings);
    pair.send(of(LOW, [0, 1, 2]));
    pair.send(of(MEDIUM, [3, 4]));
    pair.send(of(HIGH, [5]));
    let mut served = Vec::new();
    while let Got::Values(values) = pair.take(10) {
        served.extend(values);
        assert!(pair.ready().is_ready());
    }
    assert_eq!(served, [0, 5, 3, 4, 1, 2]);
    assert_eq!(pair.lost(), []);
}

#[test]
fn who_waited_enough_is_refused_though_nothing_else_happens() {
    let wait = |ms| WhenNoRoom::Wait(ms * MS);
    let settings = room_for(1)
        .when_no_room(HIGH, wait(30))
        .when_no_room(LOW, wait(10))
        .never_evict(LOW);
    in_simulation(async move {
        let mut pair = Pair::new(settings);
        pair.send(of(LOW, [0]));
        pair.send(of(HIGH, [1]));
        time::sleep(5 * MS).await;
        pair.send(of(LOW, [2]));
        assert!(pair.ready().is_ready());
        time::sleep(9 * MS).await;
        assert_eq!(pair.producer.woken(), 0);
        time::sleep(2 * MS).await;
        assert_eq!(pair.producer.woken(), 1, "a timer was set");
        assert_eq!(pair.credit(), 63);
        assert_eq!(pair.lost(), [(2, Outcome::Shed(Reason::NoRoom))]);
        time::sleep(13 * MS).await;
        assert_eq!(pair.producer.woken(), 0);
        time::sleep(2 * MS).await;
        assert_eq!(pair.producer.woken(), 1);
        assert_eq!(pair.credit(), 64);
        assert_eq!(pair.lost(), [(1, Outcome::Shed(Reason::NoRoom))]);
        assert_eq!(pair.take(10).values(), [0]);
        pair.producer.woken();
        time::sleep(50 * MS).await;
        assert_eq!(pair.producer.woken(), 0, "nobody waits");
    });
}

#[test]
fn a_close_waits_for_those_that_wait() {
    let mut pair = Pair::new(room_for(2));
    pair.send(of(LOW, 0..4));
    assert_eq!(pair.close(), Poll::Pending);
    assert_eq!(pair.take(2).values(), [0, 1]);
    assert_eq!(pair.producer.woken(), 1);
    assert_eq!(pair.close(), Poll::Ready(()));
    assert_eq!(pair.take(10).values(), [2, 3]);
    assert!(matches!(pair.take(10), Got::Done));
}

#[test]
fn admission_is_told_how_much_waits_and_that_nothing_does_in_the_end() {
    use crate::control::{AdmissionHandle, AdmissionSettings};
    let admission = AdmissionHandle::new(AdmissionSettings::default()).unwrap();
    admission.workers(0, 1);
    // What was told shows in the judgement of a window: one is served a millisecond.
    let mut now = Time::ZERO;
    let mut queue_delay_ms = || {
        for _ in 0..3 {
            for _ in 0..10 {
                admission.offer(LOW, 1);
                admission.served(MS, true);
            }
            now = now + 11 * MS;
            admission.tick(now);
        }
        admission.snapshot().queue_delay.as_secs_f64() * 1e3
    };
    let mut pair = Pair::new(ClassBuffer::new(room_for(2)).feeding(&admission));
    pair.send(of(LOW, 0..5));
    assert!(
        (4.9..5.1).contains(&queue_delay_ms()),
        "two are queued, three wait"
    );
    pair.take(1).values();
    assert!((3.9..4.1).contains(&queue_delay_ms()));
    drop(pair);
    assert!(queue_delay_ms() < 0.1);
}

#[test]
fn what_would_be_served_too_late_does_not_come_in_and_is_not_begun_under_overload() {
    use crate::control::{AdmissionHandle, AdmissionSettings};
    in_simulation(async {
        let admission = AdmissionHandle::new(AdmissionSettings::default()).unwrap();
        admission.workers(0, 1);
        // One is served a millisecond, ten times as many are offered.
        for _ in 0..6 {
            for _ in 0..10 {
                admission.served(MS, true);
            }
            admission.offer(LOW, 100);
            time::sleep(11 * MS).await;
            admission.tick(time::now());
        }
        assert!(!admission.admits_all());
        let mut pair = Pair::new(ClassBuffer::new(room_for(100)).feeding(&admission));
        let due = |values: std::ops::Range<u64>, ms: u64| {
            let mut elements = of(LOW, values);
            for element in &mut elements {
                element.meta.deadline = time::now() + Duration::from_millis(ms);
            }
            elements
        };
        pair.send(due(0..3, 1000));
        assert_eq!(pair.snapshot().queue.items, 3);
        pair.send(due(3..9, 5));
        let lost = pair.lost();
        assert!(
            lost.len() > 2 && lost.contains(&(8, Outcome::Expired)),
            "{lost:?}"
        );
        assert!(lost.iter().all(|(value, _)| *value > 3), "{lost:?}");
        // The first three have plenty of time; the others less than three times the service.
        let inside = pair.held().items as u64;
        time::sleep(3 * MS).await;
        assert_eq!(pair.take(99).values(), [0, 1, 2]);
        let lost = pair.lost();
        assert_eq!(lost.len() as u64, inside - 3);
        assert!(lost.iter().all(|(_, how)| *how == Outcome::Expired));
    });
}

#[test]
fn lanes_turn_while_a_queue_stands() {
    use crate::control::LaneOrder;
    in_simulation(async {
        let settings = room_for(100).order(LOW, LaneOrder::Adaptive);
        // More than 2 ms for 5 ms: a queue stands. HIGH below keeps all from being given up.
        let mut pair = Pair::new(ClassBuffer::new(settings).give_up_stale(2 * MS, 5 * MS));
        pair.send(of(LOW, 0..20));
        pair.send(of(Class::LOWEST, [99]));
        for n in 0..3 {
            time::sleep(4 * MS).await;
            assert_eq!(pair.take(1).values(), [n]);
        }
        pair.send(of(LOW, [20]));
        assert_eq!(pair.take(2).values(), [20, 19], "the newest first");
        assert_eq!(pair.lost(), []);
    });
}
