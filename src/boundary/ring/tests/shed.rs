//! What a full ring gives up, by its policy.

use std::task::Poll;
use std::time::Duration;

use super::{Got, Pair};
use crate::boundary::{Buffer, WhenFull};
use crate::chunk::Chunk;
use crate::error::Cause;
use crate::operator::Demand;
use crate::outcome::{Outcome, Reason};
use crate::sync::{Ordering, lock};

/// Sends 0..4 into a buffer of 4, then 4..7, and tells what is left and what was given up.
fn overfill(when_full: WhenFull) -> (Vec<u64>, Vec<u64>) {
    let mut pair = Pair::that(when_full, 4);
    pair.send(0..4);
    assert_eq!(pair.lost(), []);
    pair.send(4..7);
    assert!(pair.held() <= 4, "never more than the capacity");
    let outcome = Outcome::Shed(when_full.reason());
    let lost = pair.lost();
    assert!(lost.iter().all(|(_, end)| *end == outcome), "{lost:?}");
    let left = pair.take(8).values();
    assert!(matches!(pair.take(8), Got::Pending));
    (left, lost.into_iter().map(|(value, _)| value).collect())
}

#[test]
fn each_policy_gives_up_its_own() {
    assert_eq!(
        overfill(WhenFull::DropHead),
        (vec![3, 4, 5, 6], vec![0, 1, 2])
    );
    assert_eq!(
        overfill(WhenFull::DropNew),
        (vec![0, 1, 2, 3], vec![4, 5, 6])
    );
    assert_eq!(
        overfill(WhenFull::DropTail),
        (vec![0, 1, 2, 6], vec![3, 4, 5])
    );
    assert_eq!(
        overfill(WhenFull::DropBuffer),
        (vec![4, 5, 6], vec![0, 1, 2, 3])
    );
}

#[test]
fn a_buffer_that_sheds_never_holds_its_producer_up() {
    for when_full in [
        WhenFull::DropHead,
        WhenFull::DropTail,
        WhenFull::DropNew,
        WhenFull::DropBuffer,
        WhenFull::Fail,
    ] {
        let mut pair = Pair::that(when_full, 2);
        let whole = Poll::Ready(Some(Demand::items(Chunk::<u64>::MAX)));
        assert_eq!(pair.ready(), whole);
        pair.send(0..2);
        assert_eq!(pair.ready(), whole);
    }
}

#[test]
fn what_was_not_asked_for_yet_can_still_be_given_up() {
    let mut pair = Pair::that(WhenFull::DropHead, 4);
    pair.send(0..4);
    assert_eq!(pair.take(1).values(), [0]);
    pair.send(4..7);
    let shed = Outcome::Shed(Reason::DropHead);
    assert_eq!(pair.lost(), [(1, shed), (2, shed)]);
    assert_eq!(pair.take(8).values(), [3, 4, 5, 6]);
}

#[test]
fn a_chunk_that_fits_exactly_costs_nothing() {
    for when_full in [WhenFull::DropHead, WhenFull::DropNew, WhenFull::Fail] {
        let mut pair = Pair::that(when_full, 4);
        pair.send(0..2);
        pair.send(2..4);
        assert_eq!(pair.lost(), []);
        assert_eq!(pair.take(8).values(), [0, 1, 2, 3]);
    }
}

#[test]
fn marks_survive_what_is_given_up_around_them() {
    let mut pair = Pair::that(WhenFull::DropHead, 2);
    pair.send(0..2);
    pair.mark(1);
    pair.send(2..4);
    assert_eq!(pair.lost().len(), 2);
    assert!(matches!(pair.take(8), Got::Mark(1)));
    assert_eq!(pair.take(8).values(), [2, 3]);
}

#[test]
fn the_oldest_make_room_for_the_weight_of_what_comes() {
    let mut pair = Pair::new(Buffer::items(8).bytes(100).when_full(WhenFull::DropHead));
    pair.send_weighed([(1, 40), (2, 40), (3, 20)]);
    assert_eq!(pair.lost(), [], "they fit exactly");
    let shed = Outcome::Shed(Reason::DropHead);
    pair.send_weighed([(4, 30)]);
    assert_eq!(pair.lost(), [(1, shed)], "no more than it takes");
    pair.send_weighed([(5, 500)]);
    assert_eq!(
        pair.lost(),
        [(2, shed), (3, shed), (4, shed)],
        "one element may exceed the bytes, alone"
    );
    assert_eq!(pair.take(8).values(), [5]);
    pair.send_weighed([(6, 500)]);
    assert_eq!(pair.lost(), []);
    assert_eq!(pair.take(8).values(), [6]);
}

#[test]
fn one_that_is_too_heavy_is_refused_unless_it_would_be_alone() {
    let mut pair = Pair::new(Buffer::items(3).bytes(100).when_full(WhenFull::DropNew));
    pair.send_weighed([(1, 200)]);
    assert_eq!(pair.lost(), [], "alone");
    let shed = Outcome::Shed(Reason::DropNew);
    pair.send_weighed([(2, 1)]);
    assert_eq!(pair.lost(), [(2, shed)]);
    assert_eq!(pair.take(8).values(), [1]);
    pair.send_weighed([(3, 60), (4, 41), (5, 40), (6, 0), (7, 0)]);
    assert_eq!(
        pair.lost(),
        [(4, shed), (7, shed)],
        "one for its weight, one for want of a place"
    );
    assert_eq!(pair.take(8).values(), [3, 5, 6]);
}

#[test]
fn a_buffer_told_to_fail_fails_what_it_has_no_place_for_and_stops() {
    let mut pair = Pair::that(WhenFull::Fail, 2);
    assert!(matches!(pair.take(1), Got::Pending));
    pair.send(0..3);
    assert_eq!(pair.consumer.woken(), 1);
    assert_eq!(pair.lost(), [(2, Outcome::Failed(Reason::Overflow))]);
    let stop = pair.take(8).stop();
    assert!(matches!(stop.why(), Cause::Overflow { capacity: 2 }));
    let cancelled = Outcome::Cancelled(Reason::RunFailed);
    assert_eq!(
        pair.lost(),
        [(0, cancelled), (1, cancelled)],
        "the error overtakes the elements"
    );
    assert_eq!(pair.ready(), Poll::Ready(None), "no more is wanted");
    assert_eq!(pair.held(), 0);
}

/// A producer that never waits looks for this before it takes the lock.
#[test]
fn a_consumer_that_waits_for_the_lock_of_a_shedding_ring_says_so() {
    let pair = Pair::that(WhenFull::DropHead, 2);
    let shared = &pair.sink.shared;
    let near = || shared.consumer_near.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let guard = lock(&shared.state);
        let consumer = scope.spawn(|| drop(shared.approach()));
        let said = (0..5000).any(|_| {
            std::thread::sleep(Duration::from_millis(1));
            near()
        });
        drop(guard);
        consumer.join().unwrap();
        assert!(said, "while it waited");
    });
    assert!(!near(), "it has been there");
}
