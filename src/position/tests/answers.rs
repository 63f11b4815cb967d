//! Unresolved ends and their answers, commits, frontiers: what a source asks its tracker.

use std::task::{Context, Poll, Waker};

use super::*;

#[test]
fn a_resolved_element_lets_the_position_pass_and_counts_as_dead_lettered() {
    let tracker = tracker(8);
    let places = issue(&tracker, 0..3);
    for place in &places {
        settle(place, Outcome::Failed(Reason::Error));
    }
    while let Some(unresolved) = tracker.take_unresolved() {
        tracker.resolve(&unresolved);
    }
    assert_eq!(tracker.settled().sequence, 3);
    let counts = tracker.walker().counts();
    assert_eq!(counts.outcome(Kind::DeadLettered), 3);
    assert!(counts.balances());
}

#[test]
fn a_commit_holds_off_a_rewind_and_is_refused_behind_a_bad_end() {
    let tracker = tracker(1000);
    let places = issue(&tracker, 0..100);
    settle(&places[70], Outcome::Failed(Reason::Error));
    let walk = tracker.walker();
    assert!(walk.begin_commit(Generation(0), 70), "open is not bad");
    assert!(!walk.begin_commit(Generation(0), 71));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(tracker.poll_rewind(&mut cx).is_pending());
    for place in &places[..70] {
        settle(place, Outcome::Delivered);
    }
    walk.end_commit();
    let Poll::Ready(settled) = tracker.poll_rewind(&mut cx) else {
        panic!("no commit is under way");
    };
    assert_eq!((settled.sequence, settled.position), (70, Some(69)));
    assert!(!walk.begin_commit(Generation(0), 70), "of the time before");
    assert!(walk.begin_commit(Generation(1), 70));
    assert!(walk.counts().balances());
}

#[test]
fn an_element_that_is_passed_counts_as_it_ended() {
    let tracker = tracker(1000);
    let places = issue(&tracker, 0..3);
    settle(&places[0], Outcome::Failed(Reason::Error));
    settle(&places[1], Outcome::Delivered);
    settle(&places[2], Outcome::Failed(Reason::Error));
    tracker.pass(&tracker.take_unresolved().unwrap());
    assert_eq!(tracker.settled().sequence, 2);
    tracker.resolve(&tracker.take_unresolved().unwrap());
    assert_eq!(tracker.settled().sequence, 3);
    let counts = tracker.walker().counts();
    let of = |kind| counts.outcome(kind);
    assert_eq!(
        (
            of(Kind::Failed),
            of(Kind::DeadLettered),
            of(Kind::Delivered)
        ),
        (1, 1, 1)
    );
    assert!(counts.balances());
}

#[test]
fn a_frontier_says_what_lies_before_a_barrier() {
    let tracker = tracker(1000);
    assert_eq!(tracker.barrier().position, None);
    let places = issue(&tracker, 40..43);
    let frontier = tracker.barrier();
    assert_eq!((frontier.sequence, frontier.position), (3, Some(42)));
    for place in &places {
        settle(place, Outcome::Delivered);
    }
    assert_eq!(tracker.barrier().position, Some(42));
}

#[test]
fn an_account_knows_how_often_its_source_went_back_and_what_it_diverted() {
    let tracker = tracker(8);
    let _ = tracker.rewind();
    let places = issue(&tracker, 0..3);
    for place in &places {
        settle(place, Outcome::Failed(Reason::Error));
    }
    tracker.pass(&tracker.take_unresolved().unwrap());
    for _ in 0..2 {
        tracker.resolve(&tracker.take_unresolved().unwrap());
    }
    let _ = tracker.rewind();
    let counts = tracker.walker().counts();
    assert_eq!((counts.rewinds, counts.diverted), (2, 2));
}

#[test]
fn an_answer_is_for_one_element_of_one_generation() {
    let tracker = tracker(1000);
    let places = issue(&tracker, 0..140);
    for place in &places {
        settle(place, Outcome::Failed(Reason::Error));
    }
    let answer = |sequence: u64, generation: u64| {
        tracker.pass(&Unresolved {
            sequence,
            generation: Generation(generation),
            outcome: Outcome::Failed(Reason::Error),
            stage: None,
        });
        tracker.settled().sequence
    };
    assert_eq!(answer(0, 1), 0, "of another generation");
    assert_eq!(answer(140, 0), 0, "of no element");
    for sequence in 1..140 {
        assert_eq!(answer(sequence, 0), 0, "the first is not answered");
    }
    assert_eq!(answer(0, 0), 140);
}

#[test]
fn an_answer_given_twice_or_for_a_good_end_changes_nothing() {
    let tracker = tracker(1000);
    let places = issue(&tracker, 0..3);
    settle(&places[2], Outcome::Failed(Reason::Error));
    settle(&places[1], Outcome::Delivered);
    let unresolved = tracker.take_unresolved().unwrap();
    tracker.pass(&unresolved);
    tracker.resolve(&unresolved);
    tracker.resolve(&Unresolved {
        sequence: 1,
        ..unresolved
    });
    settle(&places[0], Outcome::Delivered);
    assert_eq!(tracker.settled().sequence, 3);
    assert!(tracker.walker().counts().balances());
}

#[test]
fn reports_come_in_order_with_number_generation_and_stage() {
    let tracker = tracker(1000);
    let _ = issue(&tracker, 0..1);
    let _ = tracker.rewind();
    let places = issue(&tracker, 0..100);
    settle(&places[90], Outcome::Failed(Reason::Panicked));
    places[7].0.settle(
        places[7].1,
        Outcome::Shed(Reason::DropNew),
        crate::position::NO_STAGE,
    );
    let expected = Unresolved {
        sequence: 90,
        generation: Generation(1),
        outcome: Outcome::Failed(Reason::Panicked),
        stage: Some(9),
    };
    assert_eq!(tracker.first_unresolved(), Some(expected));
    assert_eq!(tracker.take_unresolved(), Some(expected));
    let expected = Unresolved {
        sequence: 7,
        generation: Generation(1),
        outcome: Outcome::Shed(Reason::DropNew),
        stage: None,
    };
    assert_eq!(tracker.take_unresolved(), Some(expected));
    assert_eq!(tracker.take_unresolved(), None);
    assert_eq!(tracker.first_unresolved(), None);
}

#[test]
fn a_position_is_known_until_it_is_passed() {
    let tracker = tracker(1000);
    let places = issue(&tracker, 500..600);
    for place in &places[..30] {
        settle(place, Outcome::Delivered);
    }
    assert_eq!(tracker.settled().sequence, 30);
    assert_eq!(
        [29, 30, 99, 100].map(|sequence| tracker.position_of(sequence)),
        [None, Some(530), Some(599), None]
    );
}

#[test]
fn the_first_unresolved_end_is_named_with_its_position() {
    let tracker = tracker(1000);
    let places = issue(&tracker, 500..505);
    settle(&places[0], Outcome::Delivered);
    assert!(tracker.walker().first_unresolved().is_none());
    settle(&places[1], Outcome::Failed(Reason::Error));
    settle(&places[3], Outcome::Failed(Reason::Error));
    assert_eq!(tracker.settled().sequence, 1);
    let (source, unresolved, position) = tracker.walker().first_unresolved().unwrap();
    assert_eq!((source, unresolved.sequence), (SourceId::new(3), 1));
    assert_eq!(position, "501");
    tracker.pass(&unresolved);
    let (_, _, position) = tracker.walker().first_unresolved().unwrap();
    assert_eq!(position, "an unknown position", "it was passed");
    tracker.walker().forgive();
    assert!(tracker.walker().first_unresolved().is_none());
    assert!(tracker.take_unresolved().is_none());
}

#[test]
fn the_ledger_sees_the_last_handed_over_and_the_last_settled() {
    let tracker = tracker(1000);
    let positions = || {
        let (last, settled) = tracker.walker().positions();
        let value = |boxed: Option<Box<dyn std::any::Any + Send>>| {
            boxed.map(|boxed| *boxed.downcast::<u64>().unwrap())
        };
        (value(last), value(settled))
    };
    assert_eq!(positions(), (None, None));
    let places = issue(&tracker, 70..75);
    assert_eq!(positions(), (Some(74), None));
    settle(&places[0], Outcome::Delivered);
    assert_eq!(positions(), (Some(74), Some(70)));
    for place in &places[1..] {
        settle(place, Outcome::Delivered);
    }
    assert_eq!(positions(), (Some(74), Some(74)));
}

#[test]
fn refused_offers_enter_and_end_at_once() {
    let tracker = tracker(8);
    tracker.refuse(Some(Class::LOW), Outcome::Shed(Reason::DropNew), 3);
    tracker.refuse(None, Outcome::Expired, 2);
    tracker.refuse(None, Outcome::Expired, 1);
    let counts = tracker.walker().counts();
    assert_eq!(counts.entered, 6);
    let of = |class: usize, kind| counts.classes[class].outcomes[kind as usize];
    assert_eq!(of(Class::LOW.index(), Kind::Shed), 3);
    assert_eq!(of(Class::COUNT, Kind::Expired), 3);
    assert!(counts.balances());
    assert_eq!(tracker.credit(), 8, "they use no place");
}

#[test]
fn a_tracker_knows_whose_it_is_and_what_it_hands_over_now() {
    let tracker = tracker(8);
    assert_eq!(tracker.source(), SourceId::new(3));
    assert_eq!(tracker.source().index(), 3);
    tracker.barrier();
    tracker.barrier();
    let _ = tracker.rewind();
    assert_eq!(
        (tracker.generation(), tracker.epoch()),
        (Generation(1), Epoch(2))
    );
    let places = issue(&tracker.clone(), 0..2);
    settle(&places[0], Outcome::Delivered);
    assert_eq!(tracker.settled().sequence, 1, "a clone is the same tracker");
    let shown = format!("{tracker:?}");
    assert!(shown.contains("settled: 1, next: 2"), "{shown}");
}
