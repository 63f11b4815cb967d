//! Behaviours that Pekko's stream tests expect of graphs, in our words: named after the specs.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use forebay::boundary::{Buffer, WhenFull};
use forebay::error::RunError;
use forebay::flow::{Ended, Flow, Groups, KillSwitch, Restart, WhenExhausted, restarting};
use forebay::outcome::{Kind, Reason};
use forebay::source;
use support::{run as run_any, run_well as run};

/// A flow that fails behind some elements.
fn failing(elements: u64) -> Flow<u64> {
    source::iter((0..=elements).inspect(move |n| {
        assert!(*n < elements, "broken");
    }))
}

fn stopped<O: std::fmt::Debug>(result: Result<O, RunError>) -> String {
    match result {
        Err(RunError::Stopped { cause, .. }) => cause.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn broadcast_spec_broadcasts_to_other_subscribers_with_their_own_pace() {
    let seen = Arc::new(AtomicU64::new(0));
    let fast_seen = Arc::clone(&seen);
    let [fast, slow] = source::iter(0..40_u64).broadcast(8);
    let fast = fast.for_each(move |_| {
        fast_seen.fetch_add(1, Ordering::Relaxed);
    });
    // The slow one never lets the fast one run ahead of it by more than the buffers between.
    let slow = slow.map_async(1, move |n| {
        let seen = Arc::clone(&seen);
        async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            seen.load(Ordering::Relaxed).saturating_sub(n)
        }
    });
    let (((), ahead), _) = run(fast.and(slow.collect()));
    assert!(ahead.iter().all(|ahead| *ahead <= 8 + 1 + 8), "{ahead:?}");
}

#[test]
fn broadcast_spec_cancels_upstream_when_all_downstreams_cancel() {
    let [a, b] = source::iter(0_u64..).broadcast(4);
    let ((a, b), snapshot) = run(a.take(3).collect().and(b.take(5).collect()));
    assert_eq!((a.len(), b.len()), (3, 5));
    assert!(
        snapshot.total().entered < 1_000,
        "the source ended soon: {snapshot}"
    );
}

#[test]
fn broadcast_spec_continues_when_one_downstream_cancels() {
    let [a, b] = source::iter(0..500_u64).broadcast(4);
    let ((a, b), snapshot) = run(a.take(1).collect().and(b.collect()));
    assert_eq!(a, [0]);
    assert_eq!(b, (0..500).collect::<Vec<_>>());
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 500);
}

#[test]
fn broadcast_spec_passes_a_failure_to_every_downstream() {
    let [a, b] = failing(10).broadcast(4);
    let (a, first) = a.watch_termination();
    let (b, second) = b.watch_termination();
    let (result, _) = run_any(a.ignore().and(b.ignore()));
    assert!(stopped(result).contains("broken"));
    for end in [first, second] {
        assert!(
            !matches!(end.ended(), Some(Ended::Completed) | None),
            "{end:?}"
        );
    }
}

#[test]
fn broadcast_spec_works_with_a_single_branch_and_with_many() {
    let [only] = source::iter(0..100_u64).broadcast(4);
    assert_eq!(run(only.collect()).0.len(), 100);
    let mut many = source::iter(0..100_u64).broadcast_vec(22, 4);
    let first = many.remove(0);
    assert_eq!(run(first.merge(many).collect()).0.len(), 2_200);
}

#[test]
fn zip_spec_completes_when_one_side_is_empty() {
    let (pairs, _) = run(source::iter(0..0_u64).zip(source::iter(0_u64..)).collect());
    assert!(pairs.is_empty());
    let (pairs, _) = run(source::iter(0_u64..).zip(source::iter(0..0_u64)).collect());
    assert!(pairs.is_empty());
}

#[test]
fn zip_spec_fails_when_one_side_fails() {
    let (result, _) = run_any(failing(0).zip(source::iter(0_u64..)).collect());
    assert!(stopped(result).contains("broken"));
}

#[test]
fn zip_spec_pairs_what_is_there_before_one_side_completes() {
    let (pairs, snapshot) = run(source::iter(0..5_u64)
        .buffer(1)
        .zip(source::iter(10_u64..))
        .collect());
    assert_eq!(pairs, (0..5).map(|n| (n, n + 10)).collect::<Vec<_>>());
    let cancelled = snapshot.total().outcome(Kind::Cancelled);
    assert_eq!(
        snapshot.total().entered,
        10 + cancelled,
        "the halves left over are cancelled"
    );
}

#[test]
fn group_by_spec_accepts_the_cancellation_of_a_substream() {
    let flow = source::iter(0..100_u64).group_by(
        2,
        |n| n % 2,
        |key, group| {
            if *key == 0 { group.take(1) } else { group }
        },
    );
    let (all, snapshot) = run(flow.collect());
    assert_eq!(all.iter().filter(|n| **n % 2 == 0).count(), 1);
    assert_eq!(all.iter().filter(|n| **n % 2 == 1).count(), 50);
    assert_eq!(snapshot.total().outcome(Kind::Filtered), 49);
}

#[test]
fn group_by_spec_fails_when_there_are_more_keys_than_declared() {
    let groups = Groups::keys(2).when_exhausted(WhenExhausted::Fail);
    let flow = source::iter(0..100_u64).group_by(groups, |n| *n, |_, group| group.grouped(5));
    let (result, _) = run_any(flow.collect());
    assert!(stopped(result).contains("more than 2 keys"));
}

#[test]
fn group_by_spec_fails_when_the_group_function_panics() {
    let flow = source::iter(0..100_u64).group_by(
        4,
        |n| n % 4,
        |key, group| {
            assert!(*key != 2, "no group");
            group
        },
    );
    let (result, _) = run_any(flow.collect());
    assert!(stopped(result).contains("no group"));
}

#[test]
fn group_by_spec_fails_one_element_when_the_key_function_panics() {
    let key = |n: &u64| {
        assert!(*n != 30, "no key");
        n % 3
    };
    let (all, snapshot) = run(source::iter(0..100_u64)
        .group_by(3, key, |_, group| group)
        .collect());
    assert_eq!(all.len(), 99);
    assert_eq!(snapshot.total().outcome(Kind::Failed), 1);
}

#[test]
fn group_by_spec_passes_the_failure_of_a_substream() {
    let flow = source::iter(0..100_u64).group_by(
        3,
        |n| n % 3,
        |key, group| {
            if *key == 1 {
                group.merge([failing(0)])
            } else {
                group
            }
        },
    );
    let (result, _) = run_any(flow.collect());
    assert!(stopped(result).contains("broken"));
}

#[test]
fn group_by_spec_emits_what_substreams_hold_when_upstream_completes() {
    let flow = source::iter(0..10_u64).group_by(3, |n| n % 3, |_, group| group.grouped(100));
    let (mut all, _) = run(flow.collect());
    all.sort();
    assert_eq!(all, [vec![0, 3, 6, 9], vec![1, 4, 7], vec![2, 5, 8]]);
}

#[test]
fn group_by_spec_works_with_random_keys_and_slow_groups() {
    let flow = source::iter(0..2_000_u64).group_by(
        Groups::keys(7)
            .buffer(2)
            .when_exhausted(WhenExhausted::CloseOldest),
        |n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58,
        |_, group| {
            group.map_async(2, |n| async move {
                if n % 16 == 0 {
                    tokio::task::yield_now().await;
                }
                n
            })
        },
    );
    let (mut all, _) = run(flow.collect());
    all.sort_unstable();
    assert_eq!(all, (0..2_000).collect::<Vec<_>>());
}

#[test]
fn kill_switch_spec_stops_a_stream_that_has_not_begun() {
    let switch = KillSwitch::new();
    switch.shutdown();
    let (all, snapshot) = run(source::iter(0_u64..).kill_switch(&switch).collect());
    assert!(all.is_empty());
    assert_eq!(snapshot.total().entered, 0);
}

#[test]
fn kill_switch_spec_fails_every_stream_it_is_part_of() {
    let switch = KillSwitch::new();
    let ends = Arc::new(Mutex::new(Vec::new()));
    let make = |name: &'static str| {
        let ends = Arc::clone(&ends);
        let flow = source::iter(0_u64..).buffer(4).kill_switch(&switch);
        flow.on_termination(move |ended| ends.lock().unwrap().push((name, ended)))
            .ignore()
    };
    let (a, b) = (make("a"), make("b"));
    let handle = switch.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        handle.abort("enough");
        // What comes after the first call changes nothing.
        handle.shutdown();
    });
    let (result, _) = run_any(a.and(b));
    thread.join().unwrap();
    assert_eq!(stopped(result), "enough");
    let ends = ends.lock().unwrap();
    assert_eq!(ends.len(), 2);
    assert!(
        ends.iter()
            .any(|(_, ended)| matches!(ended, Ended::Failed(_))),
        "{ends:?}"
    );
}

#[test]
fn kill_switch_spec_does_not_touch_what_has_completed() {
    let switch = KillSwitch::new();
    let (all, _) = run(source::iter(0..10).kill_switch(&switch).collect());
    switch.abort("too late");
    assert_eq!(all.len(), 10);
}

#[test]
fn restart_spec_runs_normally_where_nothing_fails() {
    let built = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&built);
    let flow = restarting(Restart::default(), move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        source::iter(0..10_u64)
    });
    assert_eq!(run(flow.collect()).0.len(), 10);
    assert_eq!(built.load(Ordering::Relaxed), 1);
}

#[test]
fn restart_spec_restarts_on_completion_where_declared() {
    let settings = Restart::backoff(Duration::from_millis(1), Duration::from_millis(2));
    let flow = restarting(settings.on_completion(), |_| source::iter(0..3_u64));
    let (all, _) = run(flow.take(8).collect());
    assert_eq!(all, [0, 1, 2, 0, 1, 2, 0, 1]);
}

#[test]
fn restart_spec_backs_off_before_each_restart() {
    let starts = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&starts);
    let settings = Restart::backoff(Duration::from_millis(10), Duration::from_secs(1))
        .random_factor(0.0)
        .max_restarts(3, Duration::from_secs(10));
    let flow = restarting(settings, move |_| {
        noted.lock().unwrap().push(Instant::now());
        failing(1)
    });
    let (result, snapshot) = run_any(flow.collect());
    assert!(stopped(result).contains("broken"));
    let starts = starts.lock().unwrap();
    let waits: Vec<_> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(waits.len(), 3);
    for (wait, least) in waits.iter().zip([10, 20, 40]) {
        assert!(*wait >= Duration::from_millis(least), "{waits:?}");
    }
    assert_eq!(
        snapshot.total().entered,
        4,
        "each gave one element before it failed"
    );
}

#[test]
fn restart_spec_cancels_the_inner_flow_with_the_outer() {
    let (inner, ends) = (Arc::new(Mutex::new(None)), Arc::new(AtomicU64::new(0)));
    let (slot, count) = (Arc::clone(&inner), Arc::clone(&ends));
    let flow = restarting(Restart::default(), move |_| {
        let (slot, count) = (Arc::clone(&slot), Arc::clone(&count));
        source::iter(0_u64..)
            .buffer(4)
            .on_termination(move |ended| {
                count.fetch_add(1, Ordering::Relaxed);
                *slot.lock().unwrap() = Some(ended);
            })
    });
    let (all, snapshot) = run(flow.take(5).collect());
    assert_eq!(all.len(), 5);
    assert!(matches!(*inner.lock().unwrap(), Some(Ended::Cancelled)));
    assert_eq!(ends.load(Ordering::Relaxed), 1);
    assert!(snapshot.islands.iter().all(|island| island.ended));
}

#[test]
fn restart_spec_ends_with_a_kill_switch_inside() {
    let switch = KillSwitch::new();
    let inner = switch.clone();
    let flow = restarting(Restart::default(), move |_| {
        source::iter(0_u64..).kill_switch(&inner)
    });
    let flow = flow.map(move |n| {
        if n == 100 {
            switch.shutdown();
        }
        n
    });
    assert!(run(flow.collect()).0.len() > 100);
}

#[test]
fn a_filter_on_one_side_of_a_zip_is_refused() {
    let [a, b] = source::iter(0..100_u64).broadcast(4);
    let refused = a.filter(|n| n % 2 == 0).zip(b).collect().block_on();
    let Err(RunError::Refused(refused)) = refused else {
        panic!("{refused:?}")
    };
    assert!(refused.to_string().contains("must deadlock"), "{refused}");
    let sheds = Buffer::items(4).when_full(WhenFull::DropHead);
    let [a, b] = source::iter(0..100_u64).broadcast([Buffer::items(4), sheds]);
    let (_, snapshot) = run(a.filter(|n| n % 2 == 0).zip(b).collect());
    let reasons = snapshot
        .stages
        .iter()
        .map(|stage| stage.counts.reason(Reason::Predicate));
    assert!(reasons.sum::<u64>() > 0);
}
