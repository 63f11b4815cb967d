//! What is put aside: when it comes up, whom it wakes, and in which order it comes back.

use super::*;
use crate::control::{DeferralSettings, PressureHandle, PressureSettings, Reading, WhenNoRoom};
use crate::outcome::Reason;
use crate::time;

fn deferring(items: usize) -> ClassBuffer {
    let settings = room_for(items).when_no_room(LOW, WhenNoRoom::Defer);
    let deferral = DeferralSettings::items(10).ttl(20 * MS).rate(1e6, 100);
    ClassBuffer::new(settings).defer(deferral)
}

#[test]
fn the_consumer_sets_a_timer_for_what_is_put_aside_whether_it_asks_or_not() {
    in_simulation(async {
        let mut pair = Pair::new(deferring(1));
        assert!(pair.fill(Demand::NONE).is_pending());
        pair.send(weighing(LOW, 5, 0..3));
        assert_eq!(pair.consumer.woken(), 1, "to set its timer");
        assert_eq!(
            pair.held(),
            Held {
                items: 3,
                bytes: 15
            }
        );
        assert!(pair.fill(Demand::NONE).is_pending());
        pair.send(weighing(LOW, 5, [3]));
        assert_eq!(pair.consumer.woken(), 0, "it is set");
        time::sleep(19 * MS).await;
        assert_eq!(pair.consumer.woken(), 0);
        time::sleep(2 * MS).await;
        assert_eq!(pair.consumer.woken(), 1);
        assert!(pair.fill(Demand::NONE).is_pending());
        assert_eq!(
            pair.lost(),
            [1, 2, 3].map(|value| (value, Outcome::Expired)),
            "20 ms are over, and there is no room"
        );
        assert_eq!(pair.held(), Held { items: 1, bytes: 5 });
        time::sleep(50 * MS).await;
        assert_eq!(pair.consumer.woken(), 0, "nothing is put aside");
        pair.send(of(LOW, [4]));
        assert_eq!(pair.consumer.woken(), 1, "the next is the first again");
    });
}

#[test]
fn it_comes_back_when_there_is_room_and_wakes_who_waits_for_that() {
    in_simulation(async {
        let mut pair = Pair::new(deferring(2));
        pair.send(of(LOW, 0..4));
        pair.send(of(MEDIUM, [10]));
        assert_eq!(pair.take(1).values(), [10]);
        assert_eq!(pair.snapshot().deferral.unwrap().items, 3, "0 made way");
        assert_eq!(pair.take(9).values(), [1]);
        assert_eq!(pair.take(9).values(), [2, 3], "room for two");
        assert_eq!(pair.take(9).values(), [0]);
        assert!(pair.take(9).is_pending());
        assert_eq!(pair.lost(), []);
        assert_eq!(pair.held(), Held::NONE);
    });
}

#[test]
fn under_pressure_those_that_can_be_done_later_are_put_aside_though_there_is_room() {
    in_simulation(async {
        let pressure = PressureHandle::new(PressureSettings::new()).unwrap();
        let mut member = pressure.join();
        member.read(time::now(), Reading::Memory(1.0));
        let mut pair = Pair::new(deferring(10).under(&pressure));
        pair.send(of(MEDIUM, 0..2));
        pair.send(
            [of(LOW, 2..4), of(MEDIUM, 4..6)]
                .into_iter()
                .flatten()
                .collect(),
        );
        let snapshot = pair.snapshot();
        assert_eq!(
            (snapshot.queue.items, snapshot.deferral.unwrap().items),
            (4, 2)
        );
        assert_eq!(pair.held(), Held { items: 6, bytes: 0 });
        assert_eq!(pair.take(9).values(), [0, 1, 4, 5]);
        assert!(pair.take(9).is_pending());
        time::sleep(21 * MS).await;
        assert_eq!(pair.consumer.woken(), 1);
        assert_eq!(pair.take(9).values(), [2, 3], "they have waited enough");
    });
}

#[test]
fn what_there_is_no_room_for_aside_is_shed() {
    let mut pair = Pair::new(deferring(1));
    pair.send(of(LOW, 0..12));
    assert_eq!(pair.lost(), [(11, Outcome::Shed(Reason::NoRoom))]);
    assert_eq!(
        pair.held(),
        Held {
            items: 11,
            bytes: 0
        }
    );
}

#[test]
fn a_key_that_is_aside_holds_the_rest_of_it_back() {
    in_simulation(async {
        // Even and odd values.
        let buffer = deferring(3).order_per_key(|value: &u64| value % 2);
        let mut pair = Pair::new(buffer);
        pair.send(of(LOW, [0, 2, 1]));
        pair.send(of(HIGH, [100]));
        let aside = pair.snapshot().deferral.unwrap().items;
        assert_eq!(aside, 2, "0 made way, and 2 does not pass it");
        assert_eq!(pair.held(), Held { items: 4, bytes: 0 });
        pair.send(of(LOW, [4, 3]));
        pair.send(of(HIGH, [102]));
        let snapshot = pair.snapshot();
        assert_eq!(
            snapshot.deferral.unwrap().items,
            5,
            "1 made way, and comes before 3"
        );
        assert_eq!(
            pair.take(2).values(),
            [100, 102],
            "no other class is held back"
        );
        assert_eq!(pair.take(9).values(), [1, 3, 0]);
        assert_eq!(pair.take(9).values(), [2, 4]);
        assert_eq!(pair.lost(), []);
    });
}

#[test]
fn a_key_that_panics_fails_its_element_alone() {
    let buffer = deferring(1).order_per_key(|value: &u64| {
        assert!(*value != 2, "two");
        *value
    });
    let mut pair = Pair::new(buffer);
    pair.send(of(LOW, 0..4));
    assert_eq!(pair.lost(), [(2, Outcome::Failed(Reason::Panicked))]);
    pair.send(of(LOW, [2]));
    assert_eq!(pair.lost(), [(2, Outcome::Failed(Reason::Panicked))]);
    assert_eq!(pair.snapshot().deferral.unwrap().items, 2);
}

#[test]
fn order_that_cannot_be_kept_is_refused_by_name() {
    let refused = |buffer: ClassBuffer| Policies::<u64>::new(&buffer, true).err().unwrap();
    let settings = room_for(1).when_no_room(LOW, WhenNoRoom::Defer);
    let ordered = DeferralSettings::items(1).order_per_key();
    let no_key = ClassBuffer::new(settings).defer(ordered);
    assert!(refused(no_key).contains("no key is told"));
    let other = deferring(1).order_per_key(|text: &String| text.len());
    assert!(refused(other).contains("another type"));
    let spills = ClassBuffer::new(settings)
        .defer(DeferralSettings::items(1).spill())
        .order_per_key(|value: &u64| *value);
    assert!(refused(spills).contains("spill"));
}

#[test]
fn a_close_has_all_that_is_aside_handed_on() {
    in_simulation(async {
        let mut pair = Pair::new(deferring(2));
        pair.send(of(LOW, 0..6));
        assert!(pair.fill(Demand::NONE).is_pending());
        pair.consumer.woken();
        assert_eq!(pair.close(), Poll::Ready(()));
        assert_eq!(pair.take(9).values(), [0, 1]);
        assert_eq!(pair.take(9).values(), [2, 3]);
        assert_eq!(pair.take(9).values(), [4, 5]);
        assert!(matches!(pair.take(9), Got::Done));
        assert_eq!(pair.held(), Held::NONE);
    });
}

#[test]
fn what_spills_is_inside_until_the_producer_leads_it_away() {
    in_simulation(async {
        let settings = room_for(1).when_no_room(LOW, WhenNoRoom::Defer);
        let deferral = DeferralSettings::items(2).ttl(20 * MS).spill();
        let mut pair = Pair::new(ClassBuffer::new(settings).defer(deferral));
        pair.send(weighing(LOW, 5, 0..3));
        assert_eq!(pair.credit(), 64);
        assert!(pair.take(0).is_pending());
        pair.producer.woken();
        time::sleep(21 * MS).await;
        assert!(pair.take(0).is_pending());
        assert_eq!(pair.producer.woken(), 1, "it has the side output");
        assert_eq!(pair.snapshot().deferral.unwrap().items, 0);
        assert_eq!(
            pair.held(),
            Held {
                items: 3,
                bytes: 15
            }
        );
        assert_eq!(pair.take(9).values(), [0]);
        assert_eq!(
            pair.held(),
            Held {
                items: 2,
                bytes: 10
            }
        );
        pair.control(Control::Cancel);
        let cancelled = Outcome::Cancelled(Reason::NotWanted);
        assert_eq!(pair.lost(), [1, 2].map(|value| (value, cancelled)));
        assert_eq!(pair.held(), Held::NONE);
    });
}

#[test]
fn its_bound_is_what_is_queued_put_aside_and_waits() {
    let deferral = DeferralSettings::items(7).bytes(100);
    let buffer = ClassBuffer::new(room_for(5).bytes(81)).defer(deferral);
    assert_eq!((buffer.capacity(), buffer.capacity_bytes()), (12, 192));
    assert_eq!(buffer.aside().map(|(items, _)| items), Some(7));
    let plain = ClassBuffer::new(room_for(5));
    assert_eq!((plain.capacity(), plain.capacity_bytes()), (5, u64::MAX));
    assert_eq!(plain.aside(), None);
    assert!(
        format!("{:?}", plain.view()).contains("None"),
        "not run yet"
    );
}
