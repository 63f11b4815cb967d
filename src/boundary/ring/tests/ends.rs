//! Messages upstream, cancellations, errors, and sides that go away.

use std::sync::Arc;
use std::task::Poll;

use super::{Got, Pair};
use crate::boundary::{Buffer, WhenFull};
use crate::error::{Cause, Stop};
use crate::operator::{Control, Sink};
use crate::outcome::{Outcome, Reason};

/// Replaces one side by that of another ring, which drops it.
fn drop_source(pair: &mut Pair) {
    pair.source = Pair::new(Buffer::items(1)).source;
}

fn drop_sink(pair: &mut Pair) {
    pair.sink = Pair::new(Buffer::items(1)).sink;
}

#[test]
fn messages_reach_the_producer_in_order_and_wake_it() {
    let mut pair = Pair::new(Buffer::items(4));
    assert_eq!(pair.sink.take_control(), None);
    assert_eq!(pair.credit(), 4, "it does not wait");
    pair.control(Control::Pause);
    assert_eq!(pair.producer.woken(), 1);
    pair.control(Control::Resume);
    pair.control(Control::RequestRewind);
    let taken: Vec<_> = std::iter::from_fn(|| pair.sink.take_control()).collect();
    assert_eq!(
        taken,
        [Control::Pause, Control::Resume, Control::RequestRewind]
    );
    assert_eq!(pair.credit(), 4, "the ring goes on");
    assert_eq!(pair.lost(), []);
    pair.control(Control::Drain);
    assert_eq!(pair.sink.take_control(), Some(Control::Drain));
}

#[test]
fn messages_are_bounded() {
    let mut pair = Pair::new(Buffer::items(4));
    for _ in 0..70 {
        pair.control(Control::Pause);
    }
    let taken = std::iter::from_fn(|| pair.sink.take_control()).count();
    assert_eq!(taken, 64);
}

#[test]
fn a_cancellation_settles_all_that_is_inside_and_reaches_the_producer() {
    let mut pair = Pair::new(Buffer::items(8));
    pair.send(0..4);
    assert_eq!(pair.credit(), 4, "it does not wait");
    assert_eq!(pair.take(1).values(), [0]);
    pair.send(4..6);
    assert_eq!(pair.producer.woken(), 0);
    pair.control(Control::Cancel);
    assert_eq!(pair.producer.woken(), 1);
    let cancelled = Outcome::Cancelled(Reason::NotWanted);
    assert_eq!(
        pair.lost(),
        [1, 2, 3, 4, 5].map(|value| (value, cancelled)),
        "what was taken, and what is queued"
    );
    assert_eq!(pair.held(), 0);
    assert_eq!(pair.sink.take_control(), None);
    assert_eq!(pair.ready(), Poll::Ready(None));
    pair.send([9]);
    assert_eq!(pair.lost(), [(9, cancelled)], "what was under way");
    assert_eq!(pair.held(), 0);
}

#[test]
fn a_cancellation_takes_its_reason_along() {
    let mut pair = Pair::new(Buffer::items(8));
    assert_eq!(pair.sink.cancelled_for(), None);
    pair.send([1]);
    pair.at_source(|source, cx| {
        cx.cancelling(Some(Reason::RunFailed), |cx| {
            crate::operator::Operator::control(source, cx, Control::Cancel);
        });
    });
    assert_eq!(pair.sink.cancelled_for(), Some(Reason::RunFailed));
    pair.send([2]);
    let failed = Outcome::Cancelled(Reason::RunFailed);
    assert_eq!(pair.lost(), [(1, failed), (2, failed)]);
}

#[test]
fn a_consumer_that_goes_away_wants_no_more() {
    for when_full in [WhenFull::Backpressure, WhenFull::DropHead] {
        let mut pair = Pair::that(when_full, 2);
        pair.send(0..2);
        assert_eq!(pair.ready().is_pending(), !when_full.sheds());
        drop_source(&mut pair);
        assert_eq!(pair.producer.woken(), 1);
        assert_eq!(pair.ready(), Poll::Ready(None));
        pair.mark(1);
        pair.send([2]);
        assert_eq!(
            pair.lost(),
            [(2, Outcome::Cancelled(Reason::NotWanted))],
            "{when_full:?}"
        );
    }
}

#[test]
fn an_error_overtakes_the_elements() {
    let mut pair = Pair::new(Buffer::items(4));
    pair.send(0..2);
    pair.at_sink(|sink, cx| sink.abandon(cx, Some(&Stop::error("as planned"))));
    let stop = pair.take(4).stop();
    assert!(matches!(stop.why(), Cause::Error(error) if error.to_string() == "as planned"));
    let failed = Outcome::Cancelled(Reason::RunFailed);
    assert_eq!(pair.lost(), [(0, failed), (1, failed)]);
    assert_eq!((pair.held(), pair.ready()), (0, Poll::Ready(None)));
}

#[test]
fn a_producer_that_goes_away_without_an_end_broke_the_hand_off() {
    let mut pair = Pair::new(Buffer::items(4));
    assert!(matches!(pair.take(1), Got::Pending));
    drop_sink(&mut pair);
    assert_eq!(pair.consumer.woken(), 1);
    assert!(matches!(pair.take(1).stop().why(), Cause::Broken));
}

#[test]
fn a_producer_that_completed_may_go_away() {
    let mut pair = Pair::new(Buffer::items(4));
    pair.send(0..3);
    let closed = pair.at_sink(Sink::poll_close);
    assert!(matches!(closed, Poll::Ready(Ok(()))));
    drop_sink(&mut pair);
    assert_eq!(pair.take(2).values(), [0, 1]);
    assert_eq!(pair.take(2).values(), [2]);
    assert!(matches!(pair.take(2), Got::Done));
}

#[test]
fn the_account_outlives_the_ring() {
    let mut pair = Pair::new(Buffer::items(4));
    pair.send(0..3);
    let stage = Arc::clone(&pair.stage);
    assert_eq!(stage.ledger.held(), 3);
    drop(pair);
    assert_eq!(stage.ledger.held(), 0, "nothing is inside what is gone");
}
