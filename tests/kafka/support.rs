//! One broker for all tests of this binary, and what the tests share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use forebay::flow::Pipeline;
use forebay::kafka::{Connection, ConsumerSettings, Record};
use forebay::runtime::{Running, Snapshot};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::broker::Broker;

/// The broker. It ends with this process, however that ends.
pub(crate) fn bootstrap() -> String {
    broker().bootstrap.clone()
}

fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(Broker::start)
}

/// What lies in the log of a partition, batch by batch, as the broker's own tool tells it.
pub(crate) fn dump(topic: &str, partition: i32) -> String {
    let folder = broker().folder().join("1/data");
    let log = folder.join(format!("{topic}-{partition}/{:020}.log", 0));
    let log = log.display().to_string();
    crate::broker::tool("org.apache.kafka.tools.DumpLogSegments", &["--files", &log])
}

/// A topic of its own for a test.
pub(crate) async fn topic(name: &str, partitions: i32) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let bootstrap = tokio::task::spawn_blocking(bootstrap).await.unwrap();
    crate::broker::create_topics(&bootstrap, &[(&name, partitions)]).await;
    name
}

pub(crate) fn connection() -> Connection {
    Connection::to(bootstrap())
}

/// A member of a group that finds its partitions quickly.
pub(crate) fn member(group: &str, topic: &str) -> ConsumerSettings {
    ConsumerSettings::new(connection(), group)
        .topics([topic])
        .commit_every(Duration::from_millis(50))
        .set("session.timeout.ms", 6000)
        .set("heartbeat.interval.ms", 200)
}

pub(crate) fn producer() -> ThreadedProducer<DefaultProducerContext> {
    producer_at(&bootstrap())
}

pub(crate) fn producer_at(bootstrap: &str) -> ThreadedProducer<DefaultProducerContext> {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("linger.ms", "2")
        .create()
        .unwrap()
}

/// Writes `from..to`, number by number, the partitions in turn. The number is key and value.
pub(crate) fn write(topic: &str, partitions: u64, numbers: std::ops::Range<u64>) {
    write_by(&producer(), topic, partitions, numbers);
}

pub(crate) fn write_by(
    producer: &ThreadedProducer<DefaultProducerContext>,
    topic: &str,
    partitions: u64,
    numbers: std::ops::Range<u64>,
) {
    for number in numbers {
        let text = number.to_string();
        let mut record = BaseRecord::to(topic)
            .partition((number % partitions) as i32)
            .key(&text)
            .payload(&text);
        while let Err((_, back)) = producer.send(record) {
            std::thread::sleep(Duration::from_millis(5));
            record = back;
        }
    }
    producer.flush(Duration::from_secs(20)).unwrap();
}

pub(crate) fn number(record: &Record) -> u64 {
    let value = record.value().unwrap();
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

/// What came, and how often.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<BTreeMap<u64, u32>>>);

impl Seen {
    pub(crate) fn hear(&self, number: u64) {
        *self.0.lock().unwrap().entry(number).or_default() += 1;
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.lock().unwrap().len() as u64
    }

    pub(crate) fn repeated(&self) -> Vec<u64> {
        let seen = self.0.lock().unwrap();
        let repeated = seen.iter().filter(|(_, times)| **times > 1);
        repeated.map(|(number, _)| *number).collect()
    }

    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.0.lock().unwrap().keys().copied().collect()
    }
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "waited in vain for {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Starts a pipeline.
pub(crate) fn run(pipeline: Pipeline<()>) -> Running<()> {
    pipeline.run().unwrap()
}

/// Drains a run, and checks its account.
pub(crate) async fn drain(running: &mut Running<()>) -> Snapshot {
    let drained = running.drain(Duration::from_secs(20)).await.unwrap();
    assert_eq!(drained.still_running, Vec::<String>::new());
    let snapshot = running.snapshot();
    if let Err(found) = snapshot.check() {
        panic!("{found:?}\n{snapshot}");
    }
    snapshot
}

/// What a group has committed of a topic, by partition.
pub(crate) fn committed(group: &str, topic: &str, partitions: i32) -> Vec<i64> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap())
        .set("group.id", group)
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, partitions - 1);
    let patience = Duration::from_secs(10);
    // The group may just have moved to another coordinator.
    let mut tries = 0;
    let list = loop {
        match consumer.committed_offsets(list.clone(), patience) {
            Ok(list) => break list,
            Err(error) if tries == 50 => panic!("{error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
        tries += 1;
    };
    let offsets = list.elements();
    let offsets = offsets.iter().map(|one| match one.offset() {
        Offset::Offset(offset) => offset,
        _ => 0,
    });
    offsets.collect()
}

/// All records of a topic, by partition and offset, as a bare client reads them.
pub(crate) fn read_all(
    topic: &str,
    partitions: i32,
    count: usize,
) -> Vec<rdkafka::message::OwnedMessage> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap())
        .set("group.id", "reads-all")
        .set("enable.auto.commit", "false")
        .set("fetch.queue.backoff.ms", "5")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&list).unwrap();
    let started = Instant::now();
    let mut all = Vec::new();
    while all.len() < count && started.elapsed() < Duration::from_secs(30) {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
            all.push(message.detach());
        }
    }
    // Nothing may follow.
    if let Some(Ok(message)) = consumer.poll(Duration::from_millis(500)) {
        all.push(message.detach());
    }
    all
}
