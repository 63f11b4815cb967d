//! Groups that know nothing of each other, order by key, records read again, and how far a group is behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::kafka::{self, PartitionLag, ProducerRecord, ProducerSettings, ReadFrom};
use forebay::source;
use tokio::sync::watch;

use crate::support::{Seen, connection, drain, member, number, run, topic, until, write};

/// Of each key the numbers, each with the partition it came from.
type ByKey = BTreeMap<u64, Vec<(i32, u64)>>;

#[path = "../../examples/b7_groups_and_replay.rs"]
#[allow(dead_code)]
mod b7_groups_and_replay;

#[tokio::test(flavor = "multi_thread")]
async fn row_b7_the_example_on_a_real_broker() {
    let topic = topic("row-b7-example", 3).await;
    b7_groups_and_replay::example(&connection(), &topic, true)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn row_b7_a_group_that_stands_still_holds_up_no_other() {
    let topic = topic("row-b7-groups", 3).await;
    write(&topic, 3, 0..3000);
    let (open, gate) = watch::channel(false);
    let start = |group: &str, gate: Option<watch::Receiver<bool>>| {
        let seen = Seen::default();
        let hears = seen.clone();
        let (handle, flow) = kafka::source(member(group, &topic).hand_over(100));
        let running = run(flow
            .window(200)
            .map_async(8, move |record| {
                let gate = gate.clone();
                async move {
                    if let Some(mut gate) = gate {
                        let _ = gate.wait_for(|open| *open).await;
                    }
                    record
                }
            })
            .for_each(move |record| hears.hear(number(&record))));
        (handle, running, seen)
    };
    let (stands, mut standing, still) = start("row-b7-stands", Some(gate));
    until("the one that stands to have begun", || {
        stands.lag().iter().any(|one| one.in_flight > 0)
    })
    .await;
    let (_goes, mut going, seen) = start("row-b7-goes", None);
    until("all records in the other group", || seen.len() == 3000).await;
    assert_eq!(still.len(), 0);
    // It says how far it is behind, and why: what is in flight, and how old that is.
    let lags = stands.lag();
    let behind: u64 = lags.iter().filter_map(PartitionLag::records).sum();
    assert_eq!(behind, 3000, "{lags:?}");
    for lag in &lags {
        assert!(lag.in_flight <= 200, "{lag:?}");
        assert_eq!(lag.processed.unwrap_or(0), 0, "{lag:?}");
    }
    assert!(lags.iter().any(|one| one.oldest_age > Some(Duration::ZERO)));
    open.send(true).unwrap();
    until("all records in the one that stood", || still.len() == 3000).await;
    until("no lag", || {
        let lags = stands.lag();
        lags.iter().all(|one| one.records() == Some(0))
    })
    .await;
    for running in [&mut standing, &mut going] {
        drain(running).await;
    }
    assert_eq!((still.repeated(), seen.repeated()), (vec![], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_b7_records_of_a_key_share_a_partition_and_keep_their_order() {
    let topic = topic("row-b7-keys", 6).await;
    let to: Arc<str> = topic.as_str().into();
    let writes = ProducerSettings::reliable(connection());
    let mut writing = source::iter(0..6000_u64)
        .map(move |number| {
            ProducerRecord::to(Arc::clone(&to))
                .key(format!("key {}", number % 50))
                .value(number.to_string())
        })
        .to_kafka(writes)
        .run()
        .unwrap();
    writing.join().await.unwrap();
    let order: Arc<Mutex<ByKey>> = Arc::default();
    let hears = Arc::clone(&order);
    let (_handle, flow) = kafka::source(member("row-b7-keys", &topic));
    let mut running = run(flow.for_each(move |record| {
        let number = number(&record);
        let mut order = hears.lock().unwrap();
        let of_key = order.entry(number % 50).or_default();
        of_key.push((record.partition(), number));
    }));
    until("all records", || {
        order.lock().unwrap().values().map(Vec::len).sum::<usize>() == 6000
    })
    .await;
    drain(&mut running).await;
    let order = order.lock().unwrap();
    let mut used = BTreeSet::new();
    for (key, records) in order.iter() {
        let (partition, _) = records[0];
        used.insert(partition);
        let expected: Vec<(i32, u64)> = (0..120).map(|at| (partition, at * 50 + key)).collect();
        assert_eq!(*records, expected, "key {key}");
    }
    assert_eq!(used.len(), 6, "all partitions have keys");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_b7_it_is_read_again_by_time_while_it_runs() {
    let topic = topic("row-b7-time", 2).await;
    let now = || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.unwrap().as_millis() as i64
    };
    write(&topic, 2, 0..100);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let between = now();
    tokio::time::sleep(Duration::from_millis(20)).await;
    write(&topic, 2, 100..150);
    let all: Arc<Mutex<Vec<u64>>> = Arc::default();
    let hears = Arc::clone(&all);
    let (handle, flow) = kafka::source(member("row-b7-time", &topic));
    let mut running = run(flow.for_each(move |record| hears.lock().unwrap().push(number(&record))));
    let count = || all.lock().unwrap().len();
    until("all records", || count() == 150).await;
    handle.replay(ReadFrom::Time(between));
    until("those that came later", || count() == 200).await;
    let mut again = all.lock().unwrap()[150..].to_vec();
    again.sort_unstable();
    assert_eq!(again, (100..150).collect::<Vec<_>>());
    // Nothing is that young: it goes to the end, and reads what comes from then on.
    handle.replay(ReadFrom::Time(now() + 3_600_000));
    let mut next = 150;
    until("those that are new", || {
        write(&topic, 2, next..next + 2);
        next += 2;
        count() > 200
    })
    .await;
    drain(&mut running).await;
    let last = &all.lock().unwrap()[200..];
    assert!(last.iter().all(|number| *number >= 150), "{last:?}");
}
