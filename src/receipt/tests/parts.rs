//! Elements in parts: what their source is told, and by whom.

use std::sync::{Arc, Mutex};

use super::*;
use crate::position::NO_STAGE;
use crate::receipt::RunningStage;
use crate::receipt::fork::{Fork, Parent};

const FAILED: Outcome = Outcome::Failed(Reason::Error);

/// What the source of a single element is told when both its parts have ended: how, and where.
fn told(
    part: impl FnOnce(Receipt) -> [Receipt; 2],
    ends: [(Outcome, u32); 2],
) -> (Outcome, Option<u32>) {
    let tracker = tracker();
    let [one, two] = part(receipts(&tracker, 1).pop().unwrap());
    one.settle_at(ends[0].0, ends[0].1);
    assert!(tracker.take_unresolved().is_none(), "a part is still out");
    two.settle_at(ends[1].0, ends[1].1);
    let unresolved = tracker.take_unresolved().unwrap();
    (unresolved.outcome, unresolved.stage)
}

fn branches(receipt: Receipt) -> [Receipt; 2] {
    let mut runs = Run::one(receipt).fork(2).into_iter();
    [(); 2].map(|()| runs.next().unwrap().into_single())
}

fn split(mut receipt: Receipt) -> [Receipt; 2] {
    let part = receipt.fork();
    [receipt, part]
}

#[test]
fn the_worst_part_says_how_it_ended_and_the_last_that_ended_badly_where() {
    let part = Outcome::Failed(Reason::Part);
    let shed = Outcome::Shed(Reason::DropNew);
    for (ends, expected) in [
        ([(FAILED, 5), (Outcome::Delivered, 6)], (part, Some(5))),
        ([(Outcome::Delivered, 6), (FAILED, 5)], (FAILED, Some(5))),
        (
            [(FAILED, 5), (Outcome::Filtered(Reason::Predicate), 6)],
            (part, Some(5)),
        ),
        ([(FAILED, 5), (shed, 6)], (part, Some(6))),
        ([(FAILED, 5), (FAILED, NO_STAGE)], (FAILED, Some(5))),
        ([(FAILED, NO_STAGE), (FAILED, NO_STAGE)], (FAILED, None)),
        (
            [(shed, 1), (Outcome::Delivered, 2)],
            (Outcome::Shed(Reason::Part), Some(1)),
        ),
    ] {
        assert_eq!(told(branches, ends), expected);
    }
}

#[test]
fn the_parts_of_a_split_end_with_their_worst_too() {
    let part = Outcome::Failed(Reason::Part);
    assert_eq!(
        told(split, [(FAILED, 5), (Outcome::Delivered, 6)]),
        (part, Some(6))
    );
    assert_eq!(told(split, [(FAILED, 5), (FAILED, 6)]), (FAILED, Some(6)));
}

#[test]
fn elements_of_a_fork_end_one_by_one() {
    let tracker = tracker();
    let mut runs = runs(&tracker, 10).pop().unwrap().fork(2).into_iter();
    let (mut one, mut two) = (runs.next().unwrap(), runs.next().unwrap());
    one.split_front(4).settle(Outcome::Delivered, 1);
    assert_eq!(counts(&tracker).unsettled(), 10);
    two.split_front(1).settle(FAILED, 1);
    two.split_front(2).settle(Outcome::Delivered, 1);
    let now = counts(&tracker);
    assert_eq!(now.unsettled(), 7, "those that both branches settled");
    assert_eq!(
        (now.outcome(Kind::Failed), now.outcome(Kind::Delivered)),
        (1, 2)
    );
    two.settle(Outcome::Filtered(Reason::Predicate), 1);
    assert_eq!(counts(&tracker).outcome(Kind::Delivered), 3);
    one.settle(Outcome::Filtered(Reason::Predicate), 1);
    let now = counts(&tracker);
    assert_eq!((now.outcome(Kind::Filtered), now.unsettled()), (6, 0));
    assert!(now.balances());
}

#[test]
fn a_branch_that_settles_twice_is_counted_as_a_bug() {
    let tracker = tracker();
    let mut page = None;
    tracker.issue(0..8, |issued, _| page = Some(issued));
    let fork = Arc::new(Fork::new(Parent::Page(page.unwrap()), 2));
    fork.settle(0, 0b0111, Outcome::Delivered, 1);
    assert_eq!(counts(&tracker).doubled, 0);
    fork.settle(0, 0b0110, Outcome::Delivered, 1);
    assert_eq!(counts(&tracker).doubled, 2);
    fork.settle(0, 0b1000, Outcome::Delivered, 1);
    assert_eq!(counts(&tracker).doubled, 2, "another element");
    assert_eq!(counts(&tracker).outcome(Kind::Delivered), 0);

    let twig = Fork::new(Parent::Fork(Arc::clone(&fork), 1), 2);
    twig.settle(0, 0b1, Outcome::Delivered, 1);
    twig.settle(0, 0b1, Outcome::Delivered, 1);
    assert_eq!(counts(&tracker).doubled, 3, "a fork of a fork says so, too");
    twig.settle(1, 0b1, Outcome::Delivered, 1);
    assert_eq!(counts(&tracker).outcome(Kind::Delivered), 1);
}

#[test]
fn parts_that_are_dropped_end_as_their_source_says() {
    let tracker = tracker();
    let mut all = receipts(&tracker, 4).into_iter();
    let mut next = || all.next().unwrap();
    let parts: Vec<Receipt> = [
        branches(next()),
        split(next()),
        {
            let [one, other] = branches(next());
            other.settle(Outcome::Delivered);
            branches(one)
        },
        {
            let [one, other] = split(next());
            other.settle(Outcome::Delivered);
            branches(one)
        },
    ]
    .into_iter()
    .flatten()
    .collect();
    tracker.walker().end(Reason::DrainDeadline);
    drop(parts);
    let counts = counts(&tracker);
    assert_eq!(counts.outcome(Kind::Cancelled), 4);
    assert!(counts.balances());
}

#[test]
fn parts_that_are_dropped_while_the_source_goes_on_are_abandoned() {
    for part in [branches, split] {
        let tracker = tracker();
        drop(part(receipts(&tracker, 1).pop().unwrap()));
        let unresolved = tracker.take_unresolved().unwrap();
        assert_eq!(unresolved.outcome, Outcome::Failed(Reason::Abandoned));
    }
}

#[test]
fn what_is_abandoned_is_noted_with_the_stage_that_ran() {
    let tracker = tracker();
    let mut run = runs(&tracker, 8).pop().unwrap();
    let mut all = receipts(&tracker, 5);
    let calling = RunningStage::enter(4);
    let called = RunningStage::enter(5);
    drop(run.split_front(3));
    drop(all.pop());
    drop(called);
    drop(all.pop());
    let [one, two] = branches(all.pop().unwrap());
    one.settle(Outcome::Delivered);
    drop(two);
    drop(run.split_front(2).fork(1));
    drop(calling);
    drop(all.pop());
    let noted: Vec<_> = tracker.walker().abandoned().into_iter().collect();
    assert_eq!(noted, [(4, 4), (5, 4), (NO_STAGE, 1)]);
    let stages: Vec<_> = std::iter::from_fn(|| tracker.take_unresolved())
        .map(|unresolved| (unresolved.sequence, unresolved.stage))
        .collect();
    let (four, five) = (Some(4), Some(5));
    assert_eq!(
        stages,
        [
            (0, five),
            (1, five),
            (2, five),
            (12, five),
            (11, four),
            (10, four),
            (3, four),
            (4, four),
            (9, None),
        ]
    );
    tracker.walker().end(Reason::Aborted);
    drop((run, all));
    assert_eq!(
        tracker.walker().abandoned().len(),
        3,
        "what is cancelled is not abandoned"
    );
}

#[test]
fn nobody_asks_for_what_was_dropped_after_its_source_went_back() {
    let tracker = tracker();
    let all = (receipts(&tracker, 1), runs(&tracker, 3));
    let _ = tracker.rewind();
    drop(all);
    assert!(tracker.walker().abandoned().is_empty());
}

#[test]
fn a_class_reaches_the_source_of_a_part_of_parts() {
    let tracker = tracker();
    let mut all = receipts(&tracker, 3).into_iter();
    for part in [split, branches, |receipt| {
        let [one, other] = split(receipt);
        other.settle(Outcome::Delivered);
        branches(one)
    }] {
        let [one, two] = part(all.next().unwrap());
        one.classify(Class::LOW);
        one.settle(Outcome::Delivered);
        two.settle(Outcome::Delivered);
    }
    assert_eq!(counts(&tracker).classes[Class::LOW.index()].total(), 3);
}

#[test]
fn a_receipt_that_calls_back_does_so_once() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let hook = || {
        let told = Arc::clone(&told);
        Receipt::on_settle(move |outcome| told.lock().unwrap().push(outcome))
    };
    assert!(!hook().is_none());
    hook().settle(Outcome::Delivered);
    let [one, two] = branches(hook());
    one.settle(Outcome::Delivered);
    two.settle(Outcome::Delivered);
    Receipt::group([hook(), Receipt::none(), hook()]).settle(Outcome::Expired);
    drop(hook());
    drop(branches(hook()));
    let abandoned = Outcome::Failed(Reason::Abandoned);
    let delivered = Outcome::Delivered;
    let expired = Outcome::Expired;
    assert_eq!(
        *told.lock().unwrap(),
        [
            abandoned, delivered, delivered, expired, expired, abandoned, abandoned
        ]
    );
}

#[test]
fn parts_of_nothing_are_nothing() {
    let mut none = Receipt::none();
    assert!(none.fork().is_none() && none.is_none());
    assert!(Receipt::default().is_none());
    assert!(Receipt::group([Receipt::none(), Receipt::none()]).is_none());
    let branches = Run::untracked(5).fork(3);
    assert_eq!(
        branches.iter().map(Run::count).collect::<Vec<_>>(),
        [5, 5, 5]
    );
    assert!(branches.iter().all(Run::is_untracked));
}
