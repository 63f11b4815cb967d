//! Exactly once: what is committed is there once, whatever was aborted, failed, or moved meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use forebay::kafka::{
    self, ConsumerHandle, Error, ProducerRecord, ProducerSettings, TransactionSettings,
};
use forebay::operator::Answer;
use forebay::runtime::Running;
use forebay::topology::Guarantee;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::support::{
    bootstrap, committed, connection, drain, member, number, run, topic, until, write,
};

/// Copies a topic to another, in transactions.
fn copy(from: &str, to: &str, id: &str, fails: Option<u64>) -> (ConsumerHandle, Running<()>) {
    copy_each(Duration::from_millis(50), from, to, id, fails)
}

/// The same, a transaction so often.
fn copy_each(
    window: Duration,
    from: &str,
    to: &str,
    id: &str,
    fails: Option<u64>,
) -> (ConsumerHandle, Running<()>) {
    let settings = member(&format!("copies-{from}"), from).in_transactions(window, 1000);
    let (handle, flow) = kafka::source(settings);
    let to = to.to_owned();
    let has_failed = Arc::new(AtomicBool::new(fails.is_none()));
    let writes = ProducerSettings::new(connection()).linger(Duration::from_millis(2));
    let pipeline = flow
        .window(4096)
        .on_unresolved(Answer::Rewind)
        .map_async(16, move |record| {
            let number = number(&record);
            let fails = fails == Some(number) && !has_failed.swap(true, Ordering::Relaxed);
            let to = to.clone();
            async move {
                assert!(!fails, "this one fails the first time");
                ProducerRecord::copy_of(&record, to.as_str()).partition(record.partition())
            }
        })
        .to_kafka_in_transactions(TransactionSettings::new(writes, id))
        .guarantee(Guarantee::ExactlyOnce);
    (handle, run(pipeline))
}

/// How often each number is there, and whether each partition has them in order.
fn read(topic: &str, partitions: i32, isolation: &str) -> BTreeMap<u64, u32> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap())
        .set("group.id", isolation)
        .set("enable.auto.commit", "false")
        .set("isolation.level", isolation)
        .set("fetch.queue.backoff.ms", "5")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&list).unwrap();
    let (mut found, mut last) = (BTreeMap::new(), BTreeMap::new());
    let mut silent_since = Instant::now();
    while silent_since.elapsed() < Duration::from_millis(1500) {
        let Some(message) = consumer.poll(Duration::from_millis(50)) else {
            continue;
        };
        let message = message.unwrap();
        silent_since = Instant::now();
        let text = std::str::from_utf8(message.payload().unwrap()).unwrap();
        let number: u64 = text.parse().unwrap();
        *found.entry(number).or_default() += 1;
        if isolation == "read_committed" {
            let before = last.insert(message.partition(), number);
            assert!(before < Some(number), "{before:?} before {number}");
        }
    }
    found
}

fn each_once(found: &BTreeMap<u64, u32>, count: u64) {
    let wrong: Vec<_> = (0..count)
        .map(|number| (number, found.get(&number).copied().unwrap_or(0)))
        .filter(|(_, times)| *times != 1)
        .take(20)
        .collect();
    assert_eq!(wrong, [], "numbers, and how often they are there");
    assert_eq!(found.len() as u64, count);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_record_is_committed_once_though_one_failed_and_all_went_back() {
    let (from, to) = (topic("from", 3).await, topic("to", 3).await);
    write(&from, 3, 0..20_000);
    let (_handle, mut running) = copy(&from, &to, "copies-once", Some(12_345));
    let group = format!("copies-{from}");
    until("all to be committed", || {
        running
            .snapshot()
            .total()
            .outcome(forebay::outcome::Kind::Delivered)
            >= 20_000
    })
    .await;
    let snapshot = drain(&mut running).await;
    assert!(snapshot.total().rewinds > 0, "nothing went back");
    assert_eq!(committed(&group, &from, 3).iter().sum::<i64>(), 20_000);
    each_once(&read(&to, 3, "read_committed"), 20_000);
    // The window that went back was written and aborted: who reads everything finds more.
    assert!(read(&to, 3, "read_uncommitted").values().sum::<u32>() >= 20_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_may_move_in_between() {
    let (from, to) = (topic("from", 4).await, topic("to", 4).await);
    write(&from, 4, 0..4000);
    let (first, mut one) = copy(&from, &to, "copies-one", None);
    until("the first to have all", || first.assignment().len() == 4).await;
    let (second, mut other) = copy(&from, &to, "copies-other", None);
    until("the partitions to be shared", || {
        first.assignment().len() == 2 && second.assignment().len() == 2
    })
    .await;
    write(&from, 4, 4000..12_000);
    drain(&mut one).await;
    until("the second to have all", || second.assignment().len() == 4).await;
    write(&from, 4, 12_000..14_000);
    let group = format!("copies-{from}");
    until("all to be committed", || {
        committed(&group, &from, 4).iter().sum::<i64>() == 14_000
    })
    .await;
    drain(&mut other).await;
    each_once(&read(&to, 4, "read_committed"), 14_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_of_a_partition_that_moves_is_committed_with_its_position() {
    let (from, to) = (topic("from", 4).await, topic("to", 4).await);
    write(&from, 4, 0..400);
    let never = Duration::from_secs(600);
    let (first, mut one) = copy_each(never, &from, &to, "copies-long", None);
    // All of it is in a transaction that stays open until a partition moves.
    until("the first to have read all", || {
        one.snapshot().total().entered == 400
    })
    .await;
    let (second, mut other) = copy_each(never, &from, &to, "copies-too", None);
    until("the partitions to be shared", || {
        first.assignment().len() == 2 && second.assignment().len() == 2
    })
    .await;
    write(&from, 4, 400..800);
    until("all to be read", || {
        one.snapshot().total().entered + other.snapshot().total().entered >= 800
    })
    .await;
    drain(&mut one).await;
    drain(&mut other).await;
    let group = format!("copies-{from}");
    assert_eq!(committed(&group, &from, 4), [200; 4]);
    each_once(&read(&to, 4, "read_committed"), 800);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_starts_with_the_same_id_fences_the_one_before() {
    let (from, to) = (topic("from", 2).await, topic("to", 2).await);
    write(&from, 2, 0..100);
    let (_old, mut zombie) = copy(&from, &to, "copies-fenced", None);
    let group = format!("copies-{from}");
    until("the first records", || {
        committed(&group, &from, 2).iter().sum::<i64>() == 100
    })
    .await;
    let (new, mut running) = copy(&from, &to, "copies-fenced", None);
    until("the second to have one", || new.assignment().len() == 1).await;
    // Whoever has nothing to write does not learn of it.
    let mut written = 100;
    let ended = loop {
        assert!(written < 10_000, "it was never fenced");
        write(&from, 2, written..written + 100);
        written += 100;
        let wait = Duration::from_millis(500);
        if let Ok(ended) = tokio::time::timeout(wait, zombie.join()).await {
            break ended;
        }
    };
    let error = ended.unwrap_err();
    let fenced = error
        .downcast_ref()
        .is_some_and(|error| matches!(error, Error::Fenced(_)));
    assert!(fenced, "{error}");
    until("all to be committed", || {
        committed(&group, &from, 2).iter().sum::<i64>() as u64 == written
    })
    .await;
    drain(&mut running).await;
    each_once(&read(&to, 2, "read_committed"), written);
}
