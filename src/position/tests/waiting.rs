//! What a source waits for, and what wakes it.

use std::task::{Context, Poll, Waker};

use super::*;

#[test]
fn the_window_bounds_what_is_out_and_wakes_the_source() {
    let tracker = tracker(3);
    let places = issue(&tracker, 0..3);
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(tracker.poll_credit(&mut cx), Poll::Pending);
    settle(&places[1], Outcome::Delivered);
    assert_eq!(tracker.credit(), 0, "the first is still out");
    settle(&places[0], Outcome::Delivered);
    assert_eq!(tracker.poll_credit(&mut cx), Poll::Ready(2));
}

#[test]
fn the_credit_is_what_the_window_has_left() {
    let tracker = tracker(10);
    let places = issue(&tracker, 0..6);
    assert_eq!(tracker.credit(), 4);
    for place in &places[..2] {
        settle(place, Outcome::Delivered);
    }
    assert_eq!(tracker.credit(), 6, "4 elements are out");
    assert_eq!(self::tracker(0).credit(), 1, "there is room for one");
}

#[test]
fn a_source_that_waits_for_credit_is_woken_once() {
    let tracker = tracker(2);
    let places = issue(&tracker, 0..2);
    let (task, waker) = Task::new();
    let mut cx = Context::from_waker(&waker);
    assert!(tracker.poll_credit(&mut cx).is_pending());
    assert_eq!(task.woken(), 0);
    settle(&places[0], Outcome::Delivered);
    assert_eq!(task.woken(), 1);
    settle(&places[1], Outcome::Delivered);
    assert_eq!(task.woken(), 0, "it does not wait any more");
    assert_eq!(tracker.poll_credit(&mut cx), Poll::Ready(2));
}

#[test]
fn it_is_quiet_when_all_is_settled() {
    let tracker = tracker(1000);
    let (task, waker) = Task::new();
    let mut cx = Context::from_waker(&waker);
    assert!(tracker.poll_quiet(&mut cx).is_ready(), "nothing is out");
    let places = issue(&tracker, 0..70);
    for place in &places[..69] {
        settle(place, Outcome::Delivered);
    }
    assert!(tracker.poll_quiet(&mut cx).is_pending());
    settle(&places[69], Outcome::Delivered);
    assert_eq!(task.woken(), 1);
    assert!(tracker.poll_quiet(&mut cx).is_ready());
}

#[test]
fn an_unresolved_end_has_to_be_answered_before_it_is_quiet() {
    let tracker = tracker(1000);
    let (task, waker) = Task::new();
    let mut cx = Context::from_waker(&waker);
    let places = issue(&tracker, 0..3);
    assert!(tracker.poll_quiet(&mut cx).is_pending());
    settle(&places[1], Outcome::Failed(Reason::Error));
    assert!(task.woken() > 0);
    assert!(
        tracker.poll_quiet(&mut cx).is_ready(),
        "the source is asked"
    );
    tracker.pass(&tracker.take_unresolved().unwrap());
    assert!(tracker.poll_quiet(&mut cx).is_pending(), "two are out");
}

#[test]
fn it_is_idle_when_all_is_settled_however() {
    let tracker = tracker(1000);
    let (task, waker) = Task::new();
    let mut cx = Context::from_waker(&waker);
    assert!(tracker.poll_idle(&mut cx).is_ready(), "nothing is out");
    let places = issue(&tracker, 0..2);
    settle(&places[0], Outcome::Failed(Reason::Error));
    assert!(tracker.poll_idle(&mut cx).is_pending());
    assert_eq!(task.woken(), 0);
    settle(&places[1], Outcome::Cancelled(Reason::Aborted));
    assert_eq!(task.woken(), 1);
    assert!(tracker.poll_idle(&mut cx).is_ready());
}

#[test]
fn a_source_hears_of_an_unresolved_end_whether_it_waits_or_not() {
    let tracker = tracker(8);
    let places = issue(&tracker, 0..2);
    let (task, waker) = Task::new();
    tracker.register(&Context::from_waker(&waker));
    settle(&places[0], Outcome::Delivered);
    assert_eq!(task.woken(), 0);
    settle(&places[1], Outcome::Failed(Reason::Error));
    assert_eq!(task.woken(), 1);
}

#[test]
fn an_answer_wakes_whoever_waits_for_the_position() {
    let tracker = tracker(8);
    let places = issue(&tracker, 0..1);
    settle(&places[0], Outcome::Failed(Reason::Error));
    let unresolved = tracker.take_unresolved().unwrap();
    let (task, waker) = Task::new();
    tracker.register(&Context::from_waker(&waker));
    tracker.resolve(&unresolved);
    assert_eq!(task.woken(), 1);
}

#[test]
fn the_end_of_a_commit_wakes_a_source_that_wants_to_go_back() {
    let tracker = tracker(8);
    let _places = issue(&tracker, 0..2);
    let walk = tracker.walker();
    assert!(walk.begin_commit(Generation(0), 0));
    assert!(walk.begin_commit(Generation(0), 0));
    let (task, waker) = Task::new();
    let mut cx = Context::from_waker(&waker);
    assert!(tracker.poll_rewind(&mut cx).is_pending());
    walk.end_commit();
    assert!(tracker.poll_rewind(&mut cx).is_pending(), "one of two");
    task.woken();
    walk.end_commit();
    assert_eq!(task.woken(), 1);
    assert!(tracker.poll_rewind(&mut cx).is_ready());
}
