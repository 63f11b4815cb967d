//! Messages upstream, cancellations, errors, and sides that go away.

use std::task::Poll;

use super::*;
use crate::error::Cause;
use crate::mark::{Barrier, CommitToken};
use crate::outcome::Reason;
use crate::position::Epoch;

/// One class in each place: queued, waiting, put aside.
fn all_places() -> Pair {
    use crate::control::{DeferralSettings, WhenNoRoom};
    let settings = room_for(2)
        .when_no_room(LOW, WhenNoRoom::Defer)
        .never_evict(LOW);
    let mut pair = Pair::new(ClassBuffer::new(settings).defer(DeferralSettings::items(9)));
    pair.send(of(LOW, 0..3));
    pair.send(of(MEDIUM, 3..5));
    assert_eq!(pair.held(), Held { items: 5, bytes: 0 });
    let snapshot = pair.snapshot();
    let aside = snapshot.deferral.unwrap().items;
    assert_eq!((snapshot.queue.items, aside, snapshot.waiting), (2, 1, 2));
    pair
}

fn drop_source(pair: &mut Pair) {
    pair.source = Pair::new(room_for(1)).source;
}

fn drop_sink(pair: &mut Pair) {
    pair.sink = Pair::new(room_for(1)).sink;
}

#[test]
fn messages_reach_the_producer_in_order_and_wake_it() {
    let mut pair = Pair::new(room_for(4));
    assert_eq!(pair.sink.take_control(), None);
    assert_eq!(pair.credit(), 64, "it does not wait");
    pair.control(Control::Pause);
    assert_eq!(pair.producer.woken(), 1);
    pair.control(Control::Resume);
    let taken: Vec<_> = std::iter::from_fn(|| pair.sink.take_control()).collect();
    assert_eq!(taken, [Control::Pause, Control::Resume]);
    assert_eq!(pair.credit(), 64, "it goes on");
    pair.control(Control::Drain);
    assert_eq!(pair.sink.take_control(), Some(Control::Drain));
    assert_eq!(pair.sink.take_control(), None);
    assert_eq!(pair.lost(), []);
}

#[test]
fn a_cancellation_settles_what_is_inside_and_reaches_the_producer() {
    let mut pair = all_places();
    assert_eq!(pair.credit(), 62);
    pair.producer.woken();
    pair.control(Control::Cancel);
    assert_eq!(pair.producer.woken(), 1);
    let cancelled = Outcome::Cancelled(Reason::NotWanted);
    assert_eq!(pair.lost(), [0, 1, 2].map(|value| (value, cancelled)));
    assert_eq!(pair.ready(), Poll::Ready(None));
    assert_eq!(pair.lost(), [3, 4].map(|value| (value, cancelled)));
    assert_eq!(pair.held(), Held::NONE);
    pair.send(of(HIGH, [9]));
    assert_eq!(pair.lost(), [(9, cancelled)], "what was under way");
    assert_eq!(pair.sink.take_control(), None);
    assert_eq!(pair.ready(), Poll::Ready(None), "it stays so");
    assert_eq!(pair.held(), Held::NONE);
}

#[test]
fn a_cancellation_takes_its_reason_along() {
    let mut pair = all_places();
    assert_eq!(pair.sink.cancelled_for(), None);
    pair.at_source(|source, cx| {
        cx.cancelling(Some(Reason::RunFailed), |cx| {
            source.control(cx, Control::Cancel);
        });
    });
    assert_eq!(pair.sink.cancelled_for(), Some(Reason::RunFailed));
    pair.send(of(HIGH, [9]));
    assert_eq!(pair.close(), Poll::Ready(()));
    let failed = Outcome::Cancelled(Reason::RunFailed);
    assert_eq!(pair.lost(), [0, 1, 2, 9, 3, 4].map(|value| (value, failed)));
    assert_eq!(pair.held(), Held::NONE);
}

#[test]
fn a_consumer_that_goes_away_wants_no_more() {
    let mut pair = Pair::new(room_for(4));
    assert_eq!(pair.credit(), 64);
    drop_source(&mut pair);
    assert_eq!(pair.producer.woken(), 1);
    assert_eq!(pair.ready(), Poll::Ready(None));
    let last = pair.snapshot();
    assert_eq!(last.queue.items, 0, "it can still be looked at");
}

#[test]
fn an_error_overtakes_what_is_inside() {
    in_simulation(async {
        let mut pair = all_places();
        assert!(pair.take(0).is_pending(), "its waker is known");
        pair.consumer.woken();
        pair.at_sink(|sink, cx| sink.abandon(cx, Some(&Stop::error("as planned"))));
        let given_up = Outcome::Cancelled(Reason::NotWanted);
        assert_eq!(pair.lost(), [3, 4].map(|value| (value, given_up)));
        let Got::Stopped(stop) = pair.take(4) else {
            panic!("it goes on");
        };
        assert!(matches!(stop.why(), Cause::Error(error) if error.to_string() == "as planned"));
        let failed = Outcome::Cancelled(Reason::RunFailed);
        assert_eq!(pair.lost(), [0, 1, 2].map(|value| (value, failed)));
        assert_eq!((pair.held(), pair.ready()), (Held::NONE, Poll::Ready(None)));
    });
}

#[test]
fn a_producer_that_goes_away_without_an_end_broke_the_hand_off() {
    let mut pair = Pair::new(room_for(4));
    assert!(pair.take(1).is_pending());
    drop_sink(&mut pair);
    assert_eq!(pair.consumer.woken(), 1);
    let Got::Stopped(stop) = pair.take(1) else {
        panic!("it goes on");
    };
    assert!(matches!(stop.why(), Cause::Broken));
}

#[test]
fn a_producer_that_completed_may_go_away() {
    let mut pair = Pair::new(room_for(4));
    pair.send(of(LOW, 0..3));
    assert_eq!(pair.close(), Poll::Ready(()));
    drop_sink(&mut pair);
    assert_eq!(pair.take(2).values(), [0, 1]);
    assert_eq!(pair.take(2).values(), [2]);
    assert!(matches!(pair.take(2), Got::Done));
    assert_eq!(pair.lost(), []);
}

#[test]
fn an_end_wakes_a_consumer_that_waits() {
    let mut pair = Pair::new(room_for(4));
    assert!(pair.take(1).is_pending());
    assert_eq!(pair.close(), Poll::Ready(()));
    assert_eq!(pair.consumer.woken(), 1);
    assert!(matches!(pair.take(1), Got::Done));
    assert!(matches!(pair.take(0), Got::Done), "asked for or not");
}

#[test]
fn a_mark_comes_before_what_is_queued_then_and_wakes_a_consumer_that_asks_for_nothing() {
    let mut pair = Pair::new(room_for(4));
    assert!(pair.fill(Demand::NONE).is_pending());
    pair.send(of(LOW, [1]));
    assert_eq!(pair.consumer.woken(), 0, "it asks for no element");
    assert!(pair.fill(Demand::NONE).is_pending());
    assert_eq!(pair.mark(), Poll::Ready(()));
    assert_eq!(pair.consumer.woken(), 1);
    assert!(matches!(pair.fill(Demand::NONE), Got::Mark));
    assert_eq!(pair.take(4).values(), [1]);
    assert_eq!(pair.held(), Held::NONE);
}

#[test]
fn a_barrier_waits_for_what_came_before_it() {
    in_simulation(async {
        let mut pair = all_places();
        let barrier = Mark::Barrier(Barrier::new(CommitToken::new(
            SourceId::new(0),
            Epoch(0),
            (),
        )));
        let tell = |pair: &mut Pair| {
            let told = pair.at_sink(|sink, cx| sink.mark(cx, &barrier));
            told.map(Result::unwrap)
        };
        assert_eq!(tell(&mut pair), Poll::Pending);
        let mut taken = Vec::new();
        loop {
            match pair.take(1) {
                Got::Mark => break,
                Got::Pending => assert!(taken.len() < 5, "where is the mark?"),
                got => {
                    let values = got.values();
                    taken.extend(values);
                    let woken = pair.producer.woken();
                    assert_eq!(woken, 1, "after {taken:?}");
                    let told = tell(&mut pair);
                    assert_eq!(told.is_ready(), taken.len() == 5, "after {taken:?}");
                }
            }
        }
        taken.sort_unstable();
        assert_eq!(taken, [0, 1, 2, 3, 4]);
    });
}
