//! The broker, its topics, and the settings that the bare clients share with forebay's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

use crate::broker::{Broker, create_topics};

pub(crate) const PARTITIONS: i32 = 6;
/// Bytes of a value. The key is a number.
pub(crate) const VALUE: usize = 100;
/// What a producer holds at most, records and KiB.
pub(crate) const HELD: (usize, u64) = (20_000, 64 << 10);

/// A broker with one topic that is full.
pub(crate) struct Setup {
    pub(crate) bootstrap: String,
    pub(crate) records: u64,
    /// Which contestants run: those with this in their name.
    pub(crate) only: String,
    pub(crate) runtime: tokio::runtime::Runtime,
    _broker: Broker,
}

/// The topic that is read.
pub(crate) const FULL: &str = "full";

impl Setup {
    pub(crate) fn new(records: u64, only: String) -> Setup {
        let broker = Broker::start();
        let setup = Setup {
            bootstrap: broker.bootstrap.clone(),
            records,
            only,
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
            _broker: broker,
        };
        setup.create(FULL);
        let producer: ThreadedProducer<DefaultProducerContext> =
            setup.producer_config().create().unwrap();
        let value = [b'x'; VALUE];
        for number in 0..records {
            let key = number.to_ne_bytes();
            let partition = (number % PARTITIONS as u64) as i32;
            let mut record = BaseRecord::to(FULL)
                .key(&key[..])
                .payload(&value[..])
                .partition(partition);
            while let Err((_, back)) = producer.send(record) {
                std::thread::sleep(Duration::from_millis(1));
                record = back;
            }
        }
        producer.flush(Duration::from_secs(60)).unwrap();
        setup
    }

    fn create(&self, topic: &str) {
        let topics = [(topic, PARTITIONS)];
        self.runtime
            .block_on(create_topics(&self.bootstrap, &topics));
    }

    /// A name that was not used before.
    pub(crate) fn fresh(what: &str) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        format!("{what}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// An empty topic.
    pub(crate) fn topic(&self) -> String {
        let name = Setup::fresh("out");
        self.create(&name);
        name
    }

    pub(crate) fn consumer_config(&self, group: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in [
            ("bootstrap.servers", &*self.bootstrap),
            ("group.id", group),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "earliest"),
            ("fetch.queue.backoff.ms", "5"),
            ("queued.min.messages", "100000"),
            ("queued.max.messages.kbytes", "16384"),
            ("isolation.level", "read_committed"),
            ("partition.assignment.strategy", "cooperative-sticky"),
        ] {
            config.set(name, value);
        }
        config
    }

    pub(crate) fn producer_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in [
            ("bootstrap.servers", &*self.bootstrap),
            ("acks", "all"),
            ("enable.idempotence", "true"),
            ("linger.ms", "5"),
            ("partitioner", "murmur2_random"),
        ] {
            config.set(name, value);
        }
        config
            .set("queue.buffering.max.messages", (2 * HELD.0).to_string())
            .set("queue.buffering.max.kbytes", (2 * HELD.1).to_string());
        config
    }
}
