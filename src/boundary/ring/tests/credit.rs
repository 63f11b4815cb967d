//! Back-pressure: how many places are free, who is told of them, and when.

use std::sync::Arc;
use std::task::Poll;

use super::{Got, Pair, Task};
use crate::boundary::Buffer;
use crate::operator::{Demand, Operator, Sink};

#[test]
fn what_is_queued_and_what_was_taken_both_use_places() {
    let mut pair = Pair::new(Buffer::items(8));
    assert_eq!(pair.credit(), 8);
    pair.send(0..5);
    assert_eq!(pair.credit(), 3);
    assert_eq!(pair.take(3).values(), [0, 1, 2]);
    pair.send(5..8);
    assert_eq!(pair.held(), 5, "2 taken and not handed on, 3 queued");
    assert_eq!(pair.source.held().items, 5);
    assert_eq!(pair.sink.held().items, 5);
    assert_eq!(pair.credit(), 3, "as known without the lock");
    assert_eq!(pair.credit_anew(), 3, "as counted under it");
    assert_eq!(pair.take(8).values(), [3, 4], "what was taken comes first");
    assert_eq!(pair.take(8).values(), [5, 6, 7]);
    assert!(matches!(pair.take(8), Got::Pending));
    assert_eq!((pair.held(), pair.credit_anew()), (0, 8));
}

#[test]
fn places_come_back_when_half_of_what_was_taken_is_left_and_when_nothing_is() {
    let mut pair = Pair::new(Buffer::items(8));
    pair.send(0..8);
    assert_eq!(pair.ready(), Poll::Pending);
    let mut free = Vec::new();
    let mut woken = Vec::new();
    let waiting = Arc::clone(&pair.producer);
    for expected in 0..8 {
        assert_eq!(pair.take(1).values(), [expected]);
        free.push(pair.sink.shared.credit());
        woken.push(waiting.woken());
    }
    assert_eq!(free, [1, 1, 1, 4, 4, 4, 4, 8]);
    assert_eq!(
        woken,
        [0, 0, 0, 1, 0, 0, 0, 0],
        "once half of the places are free, and not again while it does not wait"
    );
}

#[test]
fn a_producer_that_waits_is_woken_again_each_time() {
    let mut pair = Pair::new(Buffer::items(2));
    for round in 0..3 {
        assert_eq!(pair.credit(), 2);
        pair.send([round, round]);
        assert_eq!(pair.ready(), Poll::Pending);
        assert_eq!(pair.take(2).values(), [round, round]);
        assert_eq!(pair.producer.woken(), 1);
        assert!(matches!(pair.take(2), Got::Pending));
        assert_eq!(pair.producer.woken(), 0, "it does not wait any more");
    }
}

#[test]
fn a_consumer_that_waits_is_woken_by_elements_marks_and_the_end() {
    let mut pair = Pair::new(Buffer::items(4));
    assert!(matches!(pair.take(4), Got::Pending));
    pair.send([1]);
    assert_eq!(pair.consumer.woken(), 1);
    pair.send([2]);
    assert_eq!(pair.consumer.woken(), 0, "it was told already");
    assert_eq!(pair.take(4).values(), [1, 2]);
    assert!(matches!(pair.take(4), Got::Pending));
    pair.mark(1);
    assert_eq!(pair.consumer.woken(), 1);
    assert!(matches!(pair.take(4), Got::Mark(1)));
    assert!(matches!(pair.take(4), Got::Pending));
    let closed = pair.at_sink(Sink::poll_close);
    assert!(matches!(closed, Poll::Ready(Ok(()))));
    assert_eq!(pair.consumer.woken(), 1);
    assert!(matches!(pair.take(4), Got::Done));
}

#[test]
fn it_is_the_task_that_asked_last_that_is_woken() {
    let mut pair = Pair::new(Buffer::items(1));
    pair.send([1]);
    assert_eq!(pair.ready(), Poll::Pending);
    let before = std::mem::replace(&mut pair.producer, Arc::new(Task::default()));
    assert_eq!(pair.ready(), Poll::Pending);
    assert_eq!(pair.take(1).values(), [1]);
    assert_eq!((before.woken(), pair.producer.woken()), (0, 1));

    assert!(matches!(pair.take(1), Got::Pending));
    let before = std::mem::replace(&mut pair.consumer, Arc::new(Task::default()));
    assert!(matches!(pair.take(1), Got::Pending));
    pair.send([2]);
    assert_eq!((before.woken(), pair.consumer.woken()), (0, 1));
}

#[test]
fn bytes_bound_it_whatever_places_are_free() {
    let mut pair = Pair::new(Buffer::items(8).bytes(100));
    let demand = |items, bytes| Poll::Ready(Some(Demand { items, bytes }));
    assert_eq!(pair.ready(), demand(8, 100));
    pair.send_weighed([(1, 30), (2, 20), (3, 25)]);
    assert_eq!(pair.ready(), demand(5, 25));
    assert_eq!(pair.take(1).values(), [1]);
    assert_eq!(pair.ready(), demand(6, 55), "2 and 3 are not handed on");
    pair.send_weighed([(4, 5)]);
    assert_eq!(pair.ready(), demand(5, 50), "nor is 4");
    pair.send_weighed([(5, 50)]);
    assert_eq!(
        pair.ready(),
        Poll::Pending,
        "there are places, but no bytes"
    );
    assert_eq!(pair.take(8).values(), [2, 3]);
    assert_eq!(pair.producer.woken(), 1);
    assert_eq!(pair.ready(), demand(6, 45));
    assert_eq!(pair.take(8).values(), [4, 5]);
    assert_eq!(pair.ready(), demand(8, 100));
}

#[test]
fn free_places_without_free_bytes_wake_nobody() {
    let mut pair = Pair::new(Buffer::items(8).bytes(100));
    pair.send_weighed([(1, 40)]);
    pair.send_weighed([(2, 100)]);
    assert_eq!(pair.ready(), Poll::Pending);
    assert_eq!(pair.take(1).values(), [1]);
    assert_eq!(pair.producer.woken(), 0, "the heavy one fills it alone");
    assert_eq!(pair.ready(), Poll::Pending);
    assert_eq!(pair.take(1).values(), [2]);
    assert_eq!(pair.producer.woken(), 1);
}

#[test]
fn nothing_is_handed_over_where_nothing_is_asked_for() {
    let mut pair = Pair::new(Buffer::items(8));
    pair.send(0..3);
    assert!(matches!(pair.take(0), Got::Pending));
    assert_eq!(pair.held(), 3);
}

#[test]
fn marks_keep_their_place_and_cost_none() {
    let mut pair = Pair::new(Buffer::items(2));
    pair.mark(1);
    pair.send([1]);
    pair.mark(2);
    pair.send([2]);
    assert_eq!(pair.held(), 2);
    assert!(matches!(pair.take(8), Got::Mark(1)));
    assert_eq!(pair.take(8).values(), [1]);
    assert!(matches!(pair.take(8), Got::Mark(2)));
    assert_eq!(pair.take(8).values(), [2]);
    assert!(matches!(pair.take(8), Got::Pending));
}

#[test]
fn a_mark_that_is_next_needs_no_demand() {
    let mut pair = Pair::new(Buffer::items(4));
    assert!(matches!(pair.take(0), Got::Pending));
    for generation in 1..3 {
        pair.mark(generation);
        assert_eq!(pair.consumer.woken(), 1, "though it asked for nothing");
        let Got::Mark(got) = pair.take(0) else {
            panic!("a mark is next");
        };
        assert_eq!(got, generation);
        assert!(matches!(pair.take(0), Got::Pending));
    }
    pair.send(0..2);
    pair.mark(3);
    assert!(matches!(pair.take(0), Got::Pending), "elements come before");
    assert_eq!(pair.take(1).values(), [0]);
    assert!(matches!(pair.take(0), Got::Pending));
    assert_eq!(pair.take(1).values(), [1]);
    assert!(matches!(pair.take(0), Got::Mark(3)));
}

#[test]
fn a_mark_wakes_the_task_that_asked_last_with_demand_or_without() {
    let mut pair = Pair::new(Buffer::items(4));
    assert!(matches!(pair.take(0), Got::Pending));
    let first = std::mem::replace(&mut pair.consumer, Arc::new(Task::default()));
    assert!(matches!(pair.take(4), Got::Pending));
    let second = std::mem::replace(&mut pair.consumer, Arc::clone(&first));
    assert!(matches!(pair.take(0), Got::Pending));
    pair.mark(1);
    assert_eq!((first.woken(), second.woken()), (1, 0));
}
