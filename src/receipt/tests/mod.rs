//! Receipts and runs of receipts: nothing is settled twice, nothing is forgotten.
#![allow(clippy::unwrap_used)]

mod parts;
mod runs;
mod whose;

use proptest::prelude::*;

use super::*;
use crate::class::Class;
use crate::outcome::{Kind, Outcome, Reason};
use crate::position::{Passes, SourceCounts, SourceId, Tracker};

fn tracker() -> Tracker<u64> {
    Tracker::new(SourceId::new(1), 1 << 20, Passes::resolved())
}

fn runs(tracker: &Tracker<u64>, count: u64) -> Vec<Run> {
    let mut runs = Vec::new();
    tracker.issue(0..count, |page, mask| runs.push(Run::page(page, mask)));
    runs
}

/// The receipts of so many elements, one by one.
fn receipts(tracker: &Tracker<u64>, count: u64) -> Vec<Receipt> {
    let mut all = Vec::new();
    for mut run in runs(tracker, count) {
        while run.count() > 0 {
            all.push(run.split_front(1).into_single());
        }
    }
    all
}

fn counts(tracker: &Tracker<u64>) -> SourceCounts {
    tracker.walker().counts()
}

#[test]
fn a_dropped_receipt_is_abandoned_or_cancelled_when_its_source_ends() {
    let tracker = tracker();
    let mut runs = runs(&tracker, 10);
    let rest = runs[0].split_front(4);
    drop(rest);
    assert_eq!(counts(&tracker).outcome(Kind::Failed), 4);
    tracker.walker().end(Reason::Aborted);
    drop(runs);
    assert_eq!(counts(&tracker).outcome(Kind::Cancelled), 6);
    assert!(counts(&tracker).balances());
}

#[test]
fn splitting_and_joining_runs_keeps_every_element_in_order() {
    let tracker = tracker();
    let mut all = runs(&tracker, 64);
    let mut whole = all.pop().unwrap();
    let mut pieces = Vec::new();
    for size in [1, 5, 0, 20, 38] {
        pieces.push(whole.split_front(size));
    }
    assert_eq!(
        pieces.iter().map(Run::count).collect::<Vec<_>>(),
        [1, 5, 0, 20, 38]
    );
    assert_eq!(whole.count(), 0);
    let mut joined = Vec::new();
    for piece in pieces {
        Run::push(&mut joined, piece);
    }
    assert_eq!(joined.iter().map(Run::count).sum::<usize>(), 64);
    for run in joined {
        run.settle(Outcome::Delivered, 0);
    }
    assert_eq!(counts(&tracker).outcome(Kind::Delivered), 64);
}

#[test]
fn runs_out_of_order_are_not_joined() {
    let tracker = tracker();
    let mut run = runs(&tracker, 8).pop().unwrap();
    let first = run.split_front(3);
    assert!(
        run.join(first).is_some(),
        "the earlier elements cannot come after the later ones"
    );
    run.settle(Outcome::Delivered, 0);
}

#[test]
fn moving_the_first_element_counts_no_page_and_keeps_order() {
    let tracker = tracker();
    let mut run = runs(&tracker, 8).pop().unwrap();
    let mut front = run.split_front(1);
    assert!(run.move_first(&mut front));
    assert_eq!((front.count(), run.count()), (2, 6));
    assert!(
        !front.move_first(&mut run),
        "not to a place before later elements"
    );
    front.settle(Outcome::Delivered, 0);
    run.settle(Outcome::Filtered(Reason::Predicate), 0);
    assert!(counts(&tracker).balances());
    assert_eq!(counts(&tracker).outcome(Kind::Delivered), 2);
}

#[test]
fn a_group_settles_all_its_members_alike() {
    let tracker = tracker();
    let mut all = runs(&tracker, 100);
    let mut parts = vec![all[0].split_front(1).into_single()];
    parts.extend(all.into_iter().map(|run| Receipt::of_runs(vec![run])));
    let group = Receipt::group(parts);
    assert_eq!(group.standing().unwrap().source, SourceId::new(1));
    group.settle(Outcome::DeadLettered(Reason::Error));
    assert_eq!(counts(&tracker).outcome(Kind::DeadLettered), 100);
    assert!(Receipt::group([]).is_none());
}

#[test]
fn a_dropped_group_settles_its_members_as_their_source_says() {
    let tracker = tracker();
    tracker.walker().end(Reason::DrainDeadline);
    drop(Receipt::of_runs(runs(&tracker, 100)));
    assert_eq!(counts(&tracker).outcome(Kind::Cancelled), 100);
}

#[test]
fn a_class_reaches_the_account_through_forks_splits_and_groups() {
    let tracker = tracker();
    let mut run = runs(&tracker, 4).pop().unwrap();
    let (one, two, three) = (run.split_front(1), run.split_front(1), run.split_front(1));
    for fork in one.fork(2) {
        let receipt = fork.into_single();
        receipt.classify(Class::LOW);
        receipt.settle(Outcome::Delivered);
    }
    let mut split = two.into_single();
    let part = split.fork();
    part.classify(Class::LOW);
    part.settle(Outcome::Delivered);
    split.settle(Outcome::Delivered);
    let group = Receipt::of_runs(vec![three, run]);
    group.classify(Class::LOW);
    group.settle(Outcome::Delivered);
    assert_eq!(
        counts(&tracker).classes[2].outcomes[Kind::Delivered as usize],
        4
    );
}

#[test]
fn a_receipt_is_small() {
    assert_eq!(std::mem::size_of::<Receipt>(), 16);
}

proptest! {
    /// Elements forked to branches (and forked again), settled in any order: each ends once, with
    /// the worst outcome of its parts.
    #[test]
    fn forks_settle_their_parent_with_the_worst_outcome(
        count in 1..150_u64,
        branches in 1..5_usize,
        again in any::<bool>(),
        picks in proptest::collection::vec((any::<u16>(), 0..Kind::COUNT), 1200),
    ) {
        let tracker = tracker();
        // Parts by element: (element, receipt).
        let mut parts = Vec::new();
        let mut element = 0_usize;
        for run in runs(&tracker, count) {
            let size = run.count();
            for (branch, mut fork) in run.fork(branches).into_iter().enumerate() {
                for place in 0..size {
                    let one = fork.split_front(1);
                    if again && branch == 0 {
                        for twig in one.fork(2) {
                            parts.push((element + place, twig.into_single()));
                        }
                    } else {
                        let mut receipt = one.into_single();
                        if branch == 1 {
                            parts.push((element + place, receipt.fork()));
                        }
                        parts.push((element + place, receipt));
                    }
                }
            }
            element += size;
        }
        let mut worst: Vec<Option<Kind>> = vec![None; count as usize];
        let mut picks = picks.into_iter().cycle();
        while !parts.is_empty() {
            let (pick, kind) = picks.next().unwrap();
            let (element, receipt) = parts.swap_remove(usize::from(pick) % parts.len());
            let kind = Kind::ALL[kind];
            receipt.settle(Outcome::of(kind, Reason::Plain));
            worst[element] = worst[element].max(Some(kind));
        }
        let counts = counts(&tracker);
        prop_assert_eq!(counts.unsettled(), 0);
        prop_assert_eq!(counts.doubled, 0);
        for kind in Kind::ALL {
            let expected = worst.iter().filter(|found| **found == Some(kind)).count() as u64;
            prop_assert_eq!(counts.outcome(kind), expected);
        }
    }

    #[test]
    fn parting_a_run_loses_nothing(
        count in 1..65_u64,
        keep in any::<u64>(),
        how in 0..3_usize,
    ) {
        let tracker = tracker();
        let run = runs(&tracker, count).pop().unwrap();
        let run = match how {
            0 => run,
            1 => run.fork(1).pop().unwrap(),
            _ => Run::untracked(count as usize),
        };
        let expected = (0..count).filter(|place| keep & (1 << place) != 0).count();
        let (kept, rest) = run.partition(|place| keep & (1 << place) != 0);
        prop_assert_eq!(kept.as_ref().map_or(0, Run::count), expected);
        prop_assert_eq!(rest.as_ref().map_or(0, Run::count), count as usize - expected);
        if let Some(run) = kept {
            run.settle(Outcome::Delivered, 0);
        }
        if let Some(run) = rest {
            run.settle(Outcome::Filtered(Reason::Predicate), 0);
        }
        if how < 2 {
            prop_assert_eq!(counts(&tracker).outcome(Kind::Delivered), expected as u64);
            prop_assert!(counts(&tracker).balances());
        }
    }
}
