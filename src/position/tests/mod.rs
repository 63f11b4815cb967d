//! The tracker against a model that keeps a list of outcomes.
#![allow(clippy::unwrap_used)]

mod answers;
mod pages;
mod waiting;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use proptest::prelude::*;

use super::page::{Page, bits};
use super::*;
use crate::class::Class;
use crate::outcome::{Kind, Outcome, Reason};

fn tracker(window: usize) -> Tracker<u64> {
    Tracker::new(SourceId::new(3), window, Passes::resolved())
}

/// Hands over elements at these positions and returns each one's place.
fn issue(tracker: &Tracker<u64>, positions: std::ops::Range<u64>) -> Vec<(Arc<Page>, u64)> {
    let mut places = Vec::new();
    tracker.issue(positions, |page, mask| {
        for bit in bits(mask) {
            places.push((Arc::clone(&page), 1 << bit));
        }
    });
    places
}

/// A task that counts how often it was woken.
#[derive(Default)]
struct Task(AtomicUsize);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Task {
    fn new() -> (Arc<Task>, Waker) {
        let task = Arc::new(Task::default());
        let waker = Waker::from(Arc::clone(&task));
        (task, waker)
    }

    /// How often it was woken since it was last asked.
    fn woken(&self) -> usize {
        self.0.swap(0, Ordering::Relaxed)
    }
}

fn settle(place: &(Arc<Page>, u64), outcome: Outcome) {
    place.0.settle(place.1, outcome, 9);
}

#[test]
fn the_settled_position_stops_before_the_first_open_element() {
    let tracker = tracker(1000);
    let places = issue(&tracker, 100..300);
    for place in &places[..70] {
        settle(place, Outcome::Delivered);
    }
    settle(&places[71], Outcome::Delivered);
    let settled = tracker.settled();
    assert_eq!((settled.sequence, settled.position), (70, Some(169)));
    let (_, words) = tracker.settled_above();
    assert_eq!(
        words[0] & 0b111,
        0b010,
        "the element behind the open one is known to be settled"
    );
    settle(&places[70], Outcome::Filtered(Reason::Predicate));
    assert_eq!(tracker.settled().sequence, 72);
}

#[test]
fn what_the_position_may_pass_is_what_the_source_declared() {
    for (passes, outcome, passed) in [
        (
            Passes::resolved(),
            Outcome::DeadLettered(Reason::Error),
            true,
        ),
        (Passes::resolved(), Outcome::Shed(Reason::DropHead), false),
        (
            Passes::resolved().loss(),
            Outcome::Shed(Reason::DropHead),
            true,
        ),
        (Passes::resolved().loss(), Outcome::Expired, true),
        (
            Passes::resolved().loss(),
            Outcome::Failed(Reason::Error),
            false,
        ),
        (
            Passes::resolved().loss(),
            Outcome::Cancelled(Reason::Aborted),
            false,
        ),
        (Passes::all(), Outcome::Failed(Reason::Error), true),
    ] {
        let tracker: Tracker<u64> = Tracker::new(SourceId::new(0), 8, passes);
        let places = issue(&tracker, 0..2);
        settle(&places[1], Outcome::Delivered);
        settle(&places[0], outcome);
        assert_eq!(
            tracker.settled().sequence,
            if passed { 2 } else { 0 },
            "{outcome}"
        );
    }
}

#[test]
fn an_unresolved_end_is_reported_once_with_its_stage_and_position() {
    let tracker = tracker(8);
    let places = issue(&tracker, 50..54);
    settle(&places[2], Outcome::Failed(Reason::Error));
    settle(&places[1], Outcome::Cancelled(Reason::Aborted));
    let unresolved = tracker.take_unresolved().unwrap();
    assert_eq!((unresolved.sequence, unresolved.stage), (2, Some(9)));
    assert_eq!(tracker.position_of(unresolved.sequence), Some(52));
    assert!(
        tracker.take_unresolved().is_none(),
        "a cancelled element is not reported"
    );
    settle(&places[0], Outcome::Delivered);
    assert_eq!(
        tracker.settled().sequence,
        1,
        "a cancelled element holds the position"
    );
}

#[test]
fn a_second_settlement_is_counted_as_a_bug() {
    let tracker = tracker(8);
    let places = issue(&tracker, 0..2);
    settle(&places[0], Outcome::Delivered);
    settle(&places[0], Outcome::Failed(Reason::Error));
    settle(&places[1], Outcome::Delivered);
    let counts = tracker.walker().counts();
    assert_eq!(counts.doubled, 1);
    assert_eq!(
        counts.outcome(Kind::Delivered),
        2,
        "the first outcome stands"
    );
    assert!(!counts.balances());
}

#[test]
fn after_a_rewind_old_receipts_are_inert_and_re_reads_are_counted() {
    let tracker = tracker(1000);
    let places = issue(&tracker, 0..100);
    for place in &places[..10] {
        settle(place, Outcome::Delivered);
    }
    settle(&places[20], Outcome::Delivered);
    let back = tracker.rewind();
    assert_eq!(
        (back.sequence, back.position, back.generation),
        (10, Some(9), Generation(1))
    );
    for place in &places[10..] {
        settle(place, Outcome::Failed(Reason::Error));
    }
    assert!(
        tracker.take_unresolved().is_none(),
        "an old receipt reports nothing"
    );
    let again = issue(&tracker, 10..100);
    for place in &again {
        settle(place, Outcome::Delivered);
    }
    let counts = tracker.walker().counts();
    assert_eq!(counts.entered, 190);
    assert_eq!(counts.replayed, 90);
    assert_eq!(
        counts.outcome(Kind::Cancelled),
        89,
        "all but the 11 that were settled"
    );
    assert_eq!(counts.outcome(Kind::Delivered), 101);
    assert_eq!((counts.doubled, counts.unsettled()), (0, 0));
    assert!(counts.balances());
    assert_eq!(tracker.settled().sequence, 100);
}

#[test]
fn skipped_elements_are_settled_and_not_counted_as_entered() {
    let tracker = tracker(1000);
    let places = issue(&tracker, 0..1);
    tracker.skip(1..5);
    let more = issue(&tracker, 5..6);
    settle(&places[0], Outcome::Delivered);
    assert_eq!(tracker.settled().sequence, 5);
    assert_eq!(tracker.settled().position, Some(4));
    settle(&more[0], Outcome::Delivered);
    let counts = tracker.walker().counts();
    assert_eq!((counts.entered, counts.resumed), (2, 4));
    assert!(counts.balances());
}

#[test]
fn a_barrier_starts_a_page_of_its_own_epoch() {
    let tracker = tracker(1000);
    let first = issue(&tracker, 0..3);
    assert_eq!(tracker.barrier().epoch, Epoch(0));
    let second = issue(&tracker, 3..5);
    assert_eq!(first[0].0.epoch(), Epoch(0));
    assert_eq!(second[0].0.epoch(), Epoch(1));
    assert!(!Arc::ptr_eq(&first[0].0, &second[0].0));
    for place in first.iter().chain(&second) {
        settle(place, Outcome::Delivered);
    }
    assert_eq!(tracker.settled().sequence, 5);
    assert!(tracker.walker().counts().balances());
}

#[test]
fn counts_go_by_the_first_class_an_element_was_given() {
    let tracker = tracker(1000);
    let places = issue(&tracker, 0..3);
    places[0].0.classify(places[0].1, Class::HIGH);
    places[0].0.classify(places[0].1, Class::LOW);
    places[1].0.classify(places[1].1, Class::LOW);
    for place in &places {
        settle(place, Outcome::Delivered);
    }
    let counts = tracker.walker().counts();
    let delivered = |class: usize| counts.classes[class].outcomes[Kind::Delivered as usize];
    assert_eq!(
        (delivered(0), delivered(2), delivered(Class::COUNT)),
        (1, 1, 1)
    );
}

#[test]
fn retired_pages_are_used_again_only_when_no_receipt_points_at_them() {
    let tracker = tracker(10_000);
    for round in 0..50 {
        let places = issue(&tracker, round * 64..round * 64 + 64);
        let kept = Arc::clone(&places[0].0);
        for place in &places {
            settle(place, Outcome::Delivered);
        }
        drop(places);
        let next = issue(&tracker, 0..1);
        assert!(
            !Arc::ptr_eq(&kept, &next[0].0),
            "a page that is pointed at is not reused"
        );
        settle(&next[0], Outcome::Delivered);
        tracker.barrier();
    }
    assert!(tracker.walker().counts().balances());
}

proptest! {
    #[test]
    fn any_order_of_settlement_agrees_with_the_model(
        kinds in proptest::collection::vec(0..Kind::COUNT + 2, 1..400),
        order in proptest::collection::vec(0..10_000_usize, 0..600),
        chunk in 1..100_u64,
    ) {
        let tracker = tracker(1 << 20);
        let mut places = Vec::new();
        let mut next = 0;
        while next < kinds.len() as u64 {
            let end = (next + chunk).min(kinds.len() as u64);
            places.extend(issue(&tracker, next..end));
            next = end;
        }
        let mut model: Vec<Option<Kind>> = vec![None; kinds.len()];
        for pick in order {
            let index = pick % kinds.len();
            if model[index].is_none() && kinds[index] < Kind::COUNT {
                let kind = Kind::ALL[kinds[index]];
                settle(&places[index], Outcome::of(kind, Reason::Plain));
                model[index] = Some(kind);
            }
        }
        let passes = Passes::resolved();
        let settled = model.iter().take_while(|kind| kind.is_some_and(|kind| passes.contains(kind))).count();
        prop_assert_eq!(tracker.settled().sequence, settled as u64);
        prop_assert_eq!(tracker.settled().position, (settled as u64).checked_sub(1));
        let counts = tracker.walker().counts();
        for kind in Kind::ALL {
            prop_assert_eq!(
                counts.outcome(kind),
                model.iter().filter(|found| **found == Some(kind)).count() as u64
            );
        }
        prop_assert_eq!(counts.unsettled(), model.iter().filter(|found| found.is_none()).count() as u64);
        prop_assert!(counts.balances());
        let (base, words) = tracker.settled_above();
        for (index, kind) in model.iter().enumerate().skip(base.sequence as usize) {
            let above = index - base.sequence as usize;
            let bit = words[above / 64] & (1 << (above % 64)) != 0;
            prop_assert_eq!(bit, kind.is_some_and(|kind| passes.contains(kind)));
        }
    }
}
