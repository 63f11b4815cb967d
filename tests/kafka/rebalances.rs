//! Partitions that move: what is inside is settled and committed, or comes again, and is never lost.

use std::time::Duration;

use forebay::kafka;
use tokio::sync::watch;

use crate::support::{Seen, committed, drain, member, number, run, topic, until, write};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_member_takes_half_and_gives_it_back_and_nothing_comes_twice() {
    let topic = topic("moves", 6).await;
    write(&topic, 6, 0..600);
    let seen = Seen::default();
    let start = || {
        let hears = seen.clone();
        let (handle, flow) = kafka::source(member("moves", &topic));
        let running = run(flow
            .map_async(8, |record| async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                record
            })
            .for_each(move |record| hears.hear(number(&record))));
        (handle, running)
    };
    let (first, mut one) = start();
    until("the first records", || seen.len() > 100).await;
    let (second, mut other) = start();
    until("the partitions to be shared", || {
        first.assignment().len() == 3 && second.assignment().len() == 3
    })
    .await;
    write(&topic, 6, 600..1200);
    until("all records", || seen.len() == 1200).await;
    drain(&mut other).await;
    until("the partitions to come back", || {
        first.assignment().len() == 6
    })
    .await;
    write(&topic, 6, 1200..1500);
    until("the last records", || seen.len() == 1500).await;
    drain(&mut one).await;
    assert_eq!(
        seen.repeated(),
        Vec::<u64>::new(),
        "a drained revocation repeated records"
    );
    assert_eq!(committed("moves", &topic, 6), [250; 6]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_drain_comes_again_and_nothing_else() {
    let topic = topic("stuck", 2).await;
    write(&topic, 2, 0..100);
    let (open, gate) = watch::channel(true);
    let seen = Seen::default();
    let start = |gated: bool| {
        let hears = seen.clone();
        let gate = gate.clone();
        let settings = member("stuck", &topic).drain(Duration::from_millis(300));
        let (handle, flow) = kafka::source(settings);
        let running = run(flow
            .map_async(128, move |record| {
                let mut gate = gate.clone();
                async move {
                    if gated {
                        let _ = gate.wait_for(|open| *open).await;
                    }
                    record
                }
            })
            .for_each(move |record| hears.hear(number(&record))));
        (handle, running)
    };
    let (first, mut one) = start(true);
    until("the first records", || seen.len() == 100).await;
    open.send(false).unwrap();
    write(&topic, 2, 100..200);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (second, mut other) = start(false);
    until("a partition to move", || second.assignment().len() == 1).await;
    // The second gets all of its partition: also what the first holds and could not settle.
    until("the moved partition", || seen.len() == 150).await;
    open.send(true).unwrap();
    until("the others", || seen.len() == 200).await;
    until("the first to have one", || first.assignment().len() == 1).await;
    let snapshot = drain(&mut one).await;
    drain(&mut other).await;
    let repeated = seen.repeated();
    assert!(
        repeated.len() <= 50,
        "more than of the one that moved: {repeated:?}"
    );
    assert!(repeated.iter().all(|number| *number >= 100), "{repeated:?}");
    let cancelled = snapshot.total().outcome(forebay::outcome::Kind::Cancelled);
    assert!(cancelled > 0, "nothing was stuck in what was revoked");
    assert_eq!(committed("stuck", &topic, 2), [100, 100]);
}

/// Nothing is committed by time here.
#[tokio::test(flavor = "multi_thread")]
async fn positions_are_committed_by_count_and_when_a_partition_goes() {
    let topic = topic("by-count", 2).await;
    write(&topic, 2, 0..500);
    let settings = |after| {
        member("by-count", &topic)
            .commit_every(Duration::from_secs(3600))
            .commit_after(after)
    };
    let start = |after| {
        let seen = Seen::default();
        let hears = seen.clone();
        let (handle, flow) = kafka::source(settings(after));
        let running = run(flow.for_each(move |record| hears.hear(number(&record))));
        (handle, running, seen)
    };
    let (first, mut one, seen) = start(300);
    until("all records", || seen.len() == 500).await;
    until("a commit", || first.counts().commits > 0).await;
    let by_count: i64 = committed("by-count", &topic, 2).iter().sum();
    assert!(by_count >= 300, "{by_count}");
    drain(&mut one).await;
    assert_eq!(committed("by-count", &topic, 2), [250, 250]);
    // By number it would never be its turn: what goes is committed, what stays is not.
    let (first, mut one, seen) = start(1_000_000);
    until("the assignment", || first.assignment().len() == 2).await;
    write(&topic, 2, 500..600);
    until("the new records", || seen.len() == 100).await;
    assert_eq!(committed("by-count", &topic, 2), [250, 250]);
    let (second, mut other, others) = start(1_000_000);
    until("one to go", || second.assignment().len() == 1).await;
    let gone = second.assignment()[0].partition as usize;
    let committed_now = committed("by-count", &topic, 2);
    assert_eq!(committed_now[gone], 300, "{committed_now:?}");
    drain(&mut other).await;
    drain(&mut one).await;
    assert_eq!(others.len(), 0, "what was done came again");
    assert_eq!(committed("by-count", &topic, 2), [300, 300]);
}
