//! Runs of neighbours: cut, joined, moved and sorted by class.

use super::*;
use crate::receipt::run::{lowest, precedes};

#[test]
fn the_lowest_bits_come_first() {
    assert_eq!(lowest(0b1011_0100, 0), 0);
    assert_eq!(lowest(0b1011_0100, 2), 0b0001_0100);
    assert_eq!(lowest(0b1011_0100, 4), 0b1011_0100);
    assert_eq!(lowest(0b1011_0100, 9), 0b1011_0100);
    assert_eq!(lowest(u64::MAX, 63), u64::MAX >> 1);
}

#[test]
fn what_precedes_lies_below() {
    assert!(precedes(0b0011, 0b0100) && precedes(0b0011, 0b1000));
    assert!(precedes(0, 0b1), "nothing precedes everything");
    assert!(!precedes(0b0100, 0b0011) && !precedes(0b1001, 0b0100));
    assert!(!precedes(0b0100, 0b0100), "nobody precedes itself");
    assert!(
        !precedes(0b1, 0) && !precedes(0, 0),
        "nothing comes after nothing"
    );
}

#[test]
fn untracked_elements_are_counted_alone() {
    let mut run = Run::untracked(10);
    let front = run.split_front(3);
    assert_eq!((front.count(), run.count()), (3, 7));
    assert!(front.is_untracked() && front.standing().is_none());
    let mut joined = vec![front];
    Run::push(&mut joined, run.split_front(2));
    assert_eq!((joined.len(), joined[0].count()), (1, 5));
    let mut onto = joined.remove(0);
    assert!(run.move_first(&mut onto));
    assert_eq!((onto.count(), run.count()), (6, 4));
    let mut empty = Run::untracked(0);
    assert!(!empty.move_first(&mut onto));
    assert_eq!((onto.count(), empty.count()), (6, 0));
    assert_eq!(run.split_front(4).count(), 4);
    assert_eq!((run.count(), run.split_front(1).count()), (0, 0));
}

#[test]
fn runs_of_several_pages_are_neither_joined_nor_mixed() {
    let tracker = tracker();
    let mut all = runs(&tracker, 70).into_iter();
    let (mut one, mut two) = (all.next().unwrap(), all.next().unwrap());
    assert!(!two.move_first(&mut one));
    assert_eq!((one.count(), two.count()), (64, 6));
    let mut untracked = Run::untracked(2);
    assert!(!untracked.move_first(&mut one) && !one.move_first(&mut untracked));
    let mut list = Vec::new();
    for run in [one, two, untracked] {
        Run::push(&mut list, run);
    }
    assert_eq!(list.iter().map(Run::count).collect::<Vec<_>>(), [64, 6, 2]);
    assert!(!list[0].is_untracked());
    for run in list {
        run.settle(Outcome::Delivered, 0);
    }
    assert_eq!(counts(&tracker).outcome(Kind::Delivered), 70);
}

#[test]
fn what_was_cut_from_a_page_becomes_one_run_again() {
    let tracker = tracker();
    let mut rest = runs(&tracker, 64).pop().unwrap();
    let mut list = Vec::new();
    for size in [1, 5, 20, 38] {
        Run::push(&mut list, rest.split_front(size));
        assert_eq!(list.len(), 1);
    }
    assert_eq!(list[0].count(), 64);
    list.remove(0).settle(Outcome::Delivered, 0);
    assert_eq!(counts(&tracker).outcome(Kind::Delivered), 64);
}

#[test]
fn later_places_of_another_page_are_no_neighbours() {
    let tracker = tracker();
    let mut all = runs(&tracker, 70).into_iter();
    let (mut one, mut two) = (all.next().unwrap(), all.next().unwrap());
    let mut first = one.split_front(1);
    two.split_front(2).settle(Outcome::Delivered, 0);
    assert!(!two.move_first(&mut first));
    let two = first.join(two).expect("of another page");
    assert_eq!((first.count(), two.count()), (1, 4));
    for run in [first, one, two] {
        run.settle(Outcome::Delivered, 0);
    }
    let counts = counts(&tracker);
    assert_eq!((counts.outcome(Kind::Delivered), counts.doubled), (70, 0));
}

#[test]
fn runs_of_a_fork_are_joined_within_a_branch_alone() {
    let tracker = tracker();
    let mut forks = runs(&tracker, 8).pop().unwrap().fork(2).into_iter();
    let (mut left, mut right) = (forks.next().unwrap(), forks.next().unwrap());
    let other = runs(&tracker, 8).pop().unwrap().fork(1).pop().unwrap();
    let mut first = left.split_front(3);
    right.split_front(3).settle(Outcome::Delivered, 0);
    let right = first.join(right).expect("of another branch");
    let other = first.join(other).expect("of another fork");
    let first = left.join(first).expect("out of order");
    let mut list = vec![first];
    Run::push(&mut list, left);
    assert_eq!((list.len(), list[0].count()), (1, 8));
    for run in list.into_iter().chain([right, other]) {
        run.settle(Outcome::Delivered, 0);
    }
    assert_eq!(counts(&tracker).outcome(Kind::Delivered), 16);
}

#[test]
fn a_receipt_that_calls_back_is_a_run_of_its_own() {
    let mut one = Run::one(Receipt::on_settle(|_| ()));
    assert_eq!(one.count(), 1);
    assert!(!one.is_untracked());
    let two = Run::one(Receipt::on_settle(|_| ()));
    assert!(one.join(two).is_some());
    assert_eq!(one.split_front(0).count(), 0);
    let (kept, rest) = one.partition(|_| false);
    assert!(kept.is_none());
    let (kept, rest) = rest.unwrap().partition(|_| true);
    assert!(kept.is_some() && rest.is_none());
}

#[test]
fn parting_gives_nothing_where_nothing_is() {
    let tracker = tracker();
    let make: [fn(&Tracker<u64>) -> Run; 3] = [
        |tracker| runs(tracker, 5).pop().unwrap(),
        |tracker| runs(tracker, 5).pop().unwrap().fork(1).pop().unwrap(),
        |_| Run::untracked(5),
    ];
    for make in make {
        let (kept, rest) = make(&tracker).partition(|_| true);
        assert_eq!((kept.unwrap().count(), rest.is_none()), (5, true));
        let (kept, rest) = make(&tracker).partition(|_| false);
        assert_eq!((kept.is_none(), rest.unwrap().count()), (true, 5));
        let (kept, rest) = make(&tracker).partition(|place| place == 3);
        assert_eq!((kept.unwrap().count(), rest.unwrap().count()), (1, 4));
    }
}

#[test]
fn each_element_of_a_run_gets_the_class_of_its_place() {
    for forked in [false, true] {
        let tracker = tracker();
        let mut run = runs(&tracker, 24).pop().unwrap();
        run.split_front(8).settle(Outcome::Delivered, 0);
        if forked {
            run = run.fork(1).pop().unwrap();
        }
        run.classify(|place| Class::new((place % 8).min(6) as u8).unwrap());
        run.settle(Outcome::Delivered, 0);
        let totals = counts(&tracker).classes.map(|class| class.total());
        assert_eq!(totals, [2, 2, 2, 2, 2, 2, 4, 0, 8]);
    }
}

#[test]
fn a_run_of_one_becomes_the_receipt_of_that_element_and_back() {
    let tracker = tracker();
    let receipts = receipts(&tracker, 3);
    let middle = receipts.into_iter().nth(1).unwrap();
    assert!(!middle.is_none());
    let run = Run::one(middle);
    assert_eq!(run.count(), 1);
    run.into_single().settle(Outcome::Expired);
    assert!(Run::untracked(1).into_single().is_none());
    assert_eq!(Run::one(Receipt::none()).count(), 1);
    let now = counts(&tracker);
    assert_eq!(
        (now.outcome(Kind::Expired), now.outcome(Kind::Failed)),
        (1, 2)
    );
    let ended: Vec<u64> = std::iter::from_fn(|| tracker.take_unresolved())
        .map(|unresolved| unresolved.sequence)
        .collect();
    assert_eq!(
        ended,
        [0, 2, 1],
        "what was dropped, and the one in the middle"
    );
}
