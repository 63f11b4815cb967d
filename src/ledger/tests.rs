//! Accounts: what was counted is what is read, and what is missing is named.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use futures_util::task::AtomicWaker;

use super::latency::LatencyLedger;
use super::*;
use crate::class::Class;
use crate::outcome::{Kind, Outcome, Reason};

const MS: u64 = 1_000_000;
const UNCLASSIFIED: usize = Class::COUNT;

/// 10 and 4 came; 5 left, 3 were merged, 6 ended.
fn sample() -> StageLedger {
    let ledger = StageLedger::default();
    ledger.enter(7);
    ledger.enter(3);
    ledger.make(4);
    ledger.leave(5);
    ledger.merge(3);
    ledger.settle(Some(Class::HIGH), Outcome::Delivered, 2);
    ledger.settle(None, Outcome::Delivered, 1);
    ledger.settle(Some(Class::LOW), Outcome::Shed(Reason::DropHead), 1);
    ledger.settle(None, Outcome::Failed(Reason::Panicked), 1);
    ledger.settle(None, Outcome::Failed(Reason::Error), 1);
    ledger
}

#[test]
fn what_was_counted_is_what_is_read() {
    let ledger = sample();
    assert_eq!((ledger.entered(), ledger.left()), (10, 5));
    let counts = ledger.counts();
    assert_eq!(
        (counts.entered, counts.made, counts.left, counts.merged),
        (10, 4, 5, 3)
    );
    let settled: Vec<_> = counts.settled.into_iter().collect();
    assert_eq!(
        settled,
        [
            ((Class::HIGH.index(), Kind::Delivered, Reason::Plain), 2),
            ((Class::LOW.index(), Kind::Shed, Reason::DropHead), 1),
            ((UNCLASSIFIED, Kind::Delivered, Reason::Plain), 1),
            ((UNCLASSIFIED, Kind::Failed, Reason::Panicked), 1),
            ((UNCLASSIFIED, Kind::Failed, Reason::Error), 1),
        ],
        "and nothing that did not happen"
    );
}

#[test]
fn settlements_are_found_by_kind_by_reason_and_one_by_one() {
    let counts = sample().counts();
    assert_eq!(counts.settled_total(), 6);
    assert_eq!(
        (
            counts.outcome(Kind::Delivered),
            counts.outcome(Kind::Failed)
        ),
        (3, 2)
    );
    assert_eq!(counts.outcome(Kind::Expired), 0);
    assert_eq!(
        (counts.reason(Reason::Plain), counts.reason(Reason::Aborted)),
        (3, 0)
    );
    let some: Vec<_> = counts
        .settlements()
        .filter(|one| one.outcome.kind() != Kind::Failed)
        .map(|one| (one.class, one.outcome, one.count))
        .collect();
    assert_eq!(
        some,
        [
            (Some(Class::HIGH), Outcome::Delivered, 2),
            (Some(Class::LOW), Outcome::Shed(Reason::DropHead), 1),
            (None, Outcome::Delivered, 1),
        ]
    );
}

#[test]
fn what_came_and_did_not_go_is_missing() {
    let ledger = sample();
    assert_eq!(ledger.counts().missing(), 0);
    assert!(ledger.counts().check());
    ledger.make(2);
    assert_eq!(ledger.counts().missing(), 2, "lost");
    assert!(!ledger.counts().check());
    ledger.hold(2, 0);
    assert!(ledger.counts().check(), "found: it holds them");
    ledger.merge(5);
    assert_eq!(ledger.counts().missing(), -5, "doubled");
    assert!(!ledger.counts().check());
}

#[test]
fn what_comes_into_being_and_what_is_gone_are_told_apart_from_what_passes() {
    let flows = sample().flows();
    assert_eq!((flows.made, flows.gone), (4, 9), "6 ended, 3 merged");
}

#[test]
fn it_knows_the_most_it_ever_held() {
    let ledger = StageLedger::default();
    for (items, bytes) in [(5, 500), (9, 90), (4, 70)] {
        ledger.hold(items, bytes);
    }
    let counts = ledger.counts();
    assert_eq!(
        (counts.held, counts.held_bytes, counts.held_peak),
        (4, 70, 9)
    );
    assert_eq!(ledger.held(), 4);
}

#[test]
fn a_probe_measures_where_two_islands_share_a_stage() {
    let ledger = StageLedger::default();
    let inside = Arc::new(AtomicUsize::new(6));
    let probed = Arc::clone(&inside);
    ledger.probe(move || probed.load(Ordering::Relaxed) as u64);
    ledger.hold(2, 0);
    assert_eq!((ledger.held(), ledger.counts().held), (6, 6));
    inside.store(1, Ordering::Relaxed);
    assert_eq!(ledger.held(), 1);
}

#[derive(Default)]
struct Task(AtomicUsize);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_watcher_is_woken_when_elements_enter_or_end() {
    let ledger = StageLedger::default();
    let task = Arc::new(Task::default());
    let watcher = Arc::new(AtomicWaker::new());
    ledger.watch(&watcher);
    let acts: [&dyn Fn(); 3] = [
        &|| ledger.enter(1),
        &|| ledger.settle(None, Outcome::Delivered, 1),
        &|| ledger.settle(None, Outcome::Expired, 1),
    ];
    for (number, act) in acts.iter().enumerate() {
        watcher.register(&Waker::from(Arc::clone(&task)));
        act();
        assert_eq!(task.0.load(Ordering::Relaxed), number + 1);
    }
}

#[cfg(feature = "testkit")]
#[test]
fn progress_knows_what_panicked() {
    assert_eq!(
        sample().progress(),
        Progress {
            entered: 10,
            left: 5,
            settled: 6,
            panicked: 1,
        }
    );
}

#[test]
fn accounts_of_stages_add_up() {
    let full = |scale: u64| {
        let ledger = StageLedger::default();
        let count = scale as usize;
        ledger.enter(count);
        ledger.make(2 * count);
        ledger.leave(3 * count);
        ledger.merge(4 * count);
        ledger.hold(5 * count, 6 * count);
        ledger.settle(None, Outcome::Delivered, 7 * count);
        ledger.settle(Some(Class::LOW), Outcome::Expired, count);
        ledger.latency().record(UNCLASSIFIED, scale * MS, 7 * scale);
        ledger.counts()
    };
    let mut sum = full(1);
    sum.add(&full(10));
    assert_eq!(
        (sum.entered, sum.made, sum.left, sum.merged),
        (11, 22, 33, 44)
    );
    assert_eq!((sum.held, sum.held_bytes), (55, 66));
    assert_eq!(sum.held_peak, 50, "of one stage: peaks do not add up");
    assert_eq!(sum.outcome(Kind::Delivered), 77);
    assert_eq!(sum.outcome(Kind::Expired), 11);
    assert_eq!(sum.latency.all().unwrap().len(), 77);
}

fn recorded(entries: &[(usize, u64, u64)]) -> Latency {
    let ledger = LatencyLedger::default();
    for (class, ns, count) in entries {
        ledger.record(*class, *ns, *count);
    }
    ledger.read()
}

/// Whether a recorded time is that, as exactly as the histograms keep it.
fn is_about(found_us: u64, expected_us: u64) -> bool {
    found_us.abs_diff(expected_us) * 1000 <= expected_us
}

#[test]
fn latencies_are_kept_by_class_in_microseconds() {
    let latency = recorded(&[
        (UNCLASSIFIED, 4 * MS, 1),
        (0, 2 * MS, 6),
        (0, 8 * MS, 1),
        (3, MS, 2),
    ]);
    let count = |class| latency.class(class).map(hdrhistogram::Histogram::len);
    assert_eq!(
        [0, 1, 3, UNCLASSIFIED].map(count),
        [Some(7), None, Some(2), Some(1)]
    );
    assert_eq!(count(UNCLASSIFIED + 1), None);
    assert_eq!(latency.all().unwrap().len(), 10);
    assert!(is_about(latency.quantile_us(0.5), 2000));
    assert!(is_about(latency.quantile_us(0.1), 1000));
    assert!(is_about(latency.max_us(), 8000));
}

#[test]
fn nothing_recorded_is_no_latency() {
    let latency = Latency::default();
    assert!(latency.all().is_none());
    assert_eq!((latency.quantile_us(0.5), latency.max_us()), (0, 0));
}

#[test]
fn more_than_an_hour_counts_as_an_hour() {
    let latency = recorded(&[(0, u64::MAX, 1)]);
    assert!(is_about(latency.max_us(), 3_600_000_000));
}

#[test]
fn latencies_add_up_whichever_knows_more_classes() {
    let few = recorded(&[(0, MS, 1)]);
    let more = recorded(&[(0, 3 * MS, 2), (5, 2 * MS, 4)]);
    let none = Latency::default();
    for (one, other) in [(&few, &more), (&more, &few)] {
        let mut sum = none.clone();
        sum.add(one);
        assert_eq!(&sum, one);
        sum.add(&none);
        assert_eq!(&sum, one);
        sum.add(other);
        assert_eq!(sum.class(0).unwrap().len(), 3);
        assert_eq!(sum.class(5).unwrap().len(), 4);
        assert!(sum.class(1).is_none());
        assert!(is_about(sum.max_us(), 3000));
    }
}

#[test]
fn time_is_split_by_what_it_went_to() {
    let ledger = TimeLedger::default();
    assert!(ledger.read().busy_share().abs() < f64::EPSILON);
    for (spent, ns) in [
        (Spent::Busy, 10),
        (Spent::WaitingForInput, 20),
        (Spent::WaitingForDemand, 50),
        (Spent::Busy, 20),
    ] {
        ledger.add(spent, ns);
    }
    let split = ledger.read();
    assert_eq!(
        split,
        TimeSplit {
            busy_ns: 30,
            waiting_for_input_ns: 20,
            waiting_for_demand_ns: 50,
        }
    );
    assert!((split.busy_share() - 0.3).abs() < 1e-9);
}
