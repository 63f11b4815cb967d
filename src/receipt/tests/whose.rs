//! Whose element a receipt stands for.

use super::*;
use crate::position::{Epoch, Generation};

#[test]
fn a_receipt_knows_whose_element_it_is_until_the_source_goes_back() {
    let tracker = tracker();
    let receipt = runs(&tracker, 1).pop().unwrap().into_single();
    assert!(receipt.standing().unwrap().live);
    let _ = tracker.rewind();
    assert!(!receipt.standing().unwrap().live);
    receipt.settle(Outcome::Delivered);
    assert_eq!(counts(&tracker).outcome(Kind::Delivered), 0);
}

#[test]
fn a_group_of_two_sources_is_of_neither_and_dies_with_either() {
    let left = tracker();
    let right: Tracker<u64> = Tracker::new(SourceId::new(2), 16, Passes::resolved());
    let (ours, theirs) = (runs(&left, 2), runs(&right, 1));
    let group = Receipt::of_runs(ours.into_iter().chain(theirs).collect());
    assert_eq!(group.standing(), None);
    assert_eq!(group.standings().len(), 2);
    assert!(group.is_live() && !group.is_of(left.source()) && !group.is_of(right.source()));
    let _ = left.rewind();
    assert!(!group.is_live());
    assert!(
        group
            .standings()
            .iter()
            .any(|at| at.source == right.source() && at.live)
    );
    assert!(!Receipt::none().is_live() && !Receipt::none().is_of(left.source()));
    group.settle(Outcome::Delivered);
}

#[test]
fn it_names_source_generation_and_epoch() {
    let tracker = tracker();
    tracker.barrier();
    let _ = tracker.rewind();
    let expected = Standing {
        source: SourceId::new(1),
        generation: Generation(1),
        epoch: Epoch(1),
        live: true,
    };
    let mut all = receipts(&tracker, 5);
    let mut split = all.pop().unwrap();
    let _part = split.fork();
    let branch = Run::one(all.pop().unwrap()).fork(2).pop().unwrap();
    let branch = branch.into_single();
    let mut parted = all.pop().unwrap();
    let _other = parted.fork();
    let branch_of_part = Run::one(parted).fork(2).pop().unwrap();
    assert_eq!(branch_of_part.standing(), Some(expected));
    let plain = all.pop().unwrap();
    let group = Receipt::group(all);
    for receipt in [split, branch, branch_of_part.into_single(), plain, group] {
        assert_eq!(receipt.standing(), Some(expected));
        assert_eq!(receipt.standings(), [expected]);
        assert_eq!(receipt.epoch(), Some(Epoch(1)));
        assert!(receipt.is_of(SourceId::new(1)) && !receipt.is_of(SourceId::new(0)));
        assert!(receipt.is_live());
        assert!(format!("{receipt:?}").contains("SourceId(1)"));
        receipt.settle(Outcome::Delivered);
    }
}

#[test]
fn untracked_and_called_back_receipts_are_of_nobody() {
    assert_eq!(format!("{:?}", Receipt::none()), "Receipt(none)");
    let hook = Receipt::on_settle(|_| ());
    assert_eq!(format!("{hook:?}"), "Receipt(..)");
    for receipt in [Receipt::none(), hook] {
        assert_eq!((receipt.standing(), receipt.epoch()), (None, None));
        assert!(receipt.standings().is_empty());
        assert!(!receipt.is_live() && !receipt.is_of(SourceId::new(0)));
        receipt.settle(Outcome::Delivered);
    }
    assert!(Run::untracked(3).standing().is_none());
}

#[test]
fn a_group_of_two_epochs_has_two_standings_and_no_single_one() {
    let tracker = tracker();
    let mut all = runs(&tracker, 2);
    tracker.barrier();
    all.extend(runs(&tracker, 2));
    let group = Receipt::of_runs(all);
    assert_eq!(group.standing(), None);
    assert_eq!(group.epoch(), None);
    let epochs: Vec<u64> = group.standings().iter().map(|at| at.epoch.0).collect();
    assert_eq!(epochs, [0, 1]);
    assert!(group.is_of(tracker.source()) && group.is_live());
    group.settle(Outcome::Delivered);
}

#[test]
fn a_group_lives_only_as_long_as_all_its_members() {
    let tracker = tracker();
    let before = runs(&tracker, 1);
    let _ = tracker.rewind();
    let after = runs(&tracker, 1);
    let group = Receipt::of_runs(after.into_iter().chain(before).collect());
    assert!(!group.standing().unwrap().live, "the second is dead");
    assert!(!group.is_live());
    assert_eq!(group.standings().len(), 2);
    group.settle(Outcome::Delivered);
    assert_eq!(counts(&tracker).outcome(Kind::Delivered), 1);
}
