//! A flow for each partition: one that is stuck does not hold up the others.

use std::time::Duration;

use forebay::kafka;
use forebay::topology::Guarantee;
use tokio::sync::watch;

use crate::support::{Seen, committed, drain, member, number, run, topic, until, write};

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_stuck_does_not_stop_the_others() {
    let topic = topic("partitioned", 4).await;
    write(&topic, 4, 0..20_000);
    let (open, gate) = watch::channel(false);
    let seen = Seen::default();
    let (handle, flows) = kafka::partitioned(member("partitioned", &topic), 4);
    let mut flows = flows.into_iter().map(|flow| {
        let gate = gate.clone();
        flow.map_async(8, move |record| {
            let mut gate = gate.clone();
            async move {
                // The first record of this partition waits: whatever comes behind it does, too.
                if record.partition() == 2 && record.offset() == 0 {
                    let _ = gate.wait_for(|open| *open).await;
                }
                number(&record)
            }
        })
    });
    let first = flows.next().unwrap();
    let hears = seen.clone();
    let mut running = run(first
        .merge(flows)
        .for_each(move |number| hears.hear(number))
        .guarantee(Guarantee::AtLeastOnce));
    until("the other partitions", || seen.len() == 15_000).await;
    until("their commits", || {
        committed("partitioned", &topic, 4) == [5000, 5000, 0, 5000]
    })
    .await;
    let stuck = handle
        .lag()
        .into_iter()
        .find(|lag| lag.at.partition == 2)
        .unwrap();
    assert!(
        stuck.oldest_age.is_some_and(|age| age > Duration::ZERO),
        "{stuck:?}"
    );
    open.send(true).unwrap();
    until("the one that was stuck", || seen.len() == 20_000).await;
    drain(&mut running).await;
    assert_eq!(seen.repeated(), Vec::<u64>::new());
    assert_eq!(committed("partitioned", &topic, 4), [5000; 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_dealt_to_fewer_flows_and_keep_their_order() {
    let topic = topic("dealt", 5).await;
    write(&topic, 5, 0..1000);
    let (_handle, flows) = kafka::partitioned(member("dealt", &topic), 2);
    let (sender, mut receiver) = tokio::sync::mpsc::channel(2000);
    let mut pipelines = flows.into_iter().enumerate().map(|(lane, flow)| {
        let sender = sender.clone();
        flow.for_each(move |record| {
            let at = (lane, record.partition(), record.offset());
            sender.try_send(at).unwrap();
        })
    });
    let (even, odd) = (pipelines.next().unwrap(), pipelines.next().unwrap());
    let mut running = even.and(odd).run().unwrap();
    let mut next = [0; 5];
    for _ in 0..1000 {
        let (lane, partition, offset) = receiver.recv().await.unwrap();
        assert_eq!(lane as i32, partition % 2);
        assert_eq!(offset, next[partition as usize]);
        next[partition as usize] += 1;
    }
    let drained = running.drain(Duration::from_secs(20)).await.unwrap();
    assert!(drained.still_running.is_empty());
    running.snapshot().check().unwrap();
    assert_eq!(committed("dealt", &topic, 5), [200; 5]);
}
