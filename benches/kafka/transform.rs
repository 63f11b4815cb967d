//! From topic to topic: a loop written by hand whose deliveries overlap, pipelines at least once and
//! exactly once, and Kafka Streams.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use forebay::kafka::{
    self, Connection, ConsumerSettings, ProducerRecord, ProducerSettings, Record,
    TransactionSettings,
};
use forebay::topology::Guarantee;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use crate::measure::{Clock, Cost};
use crate::setup::{FULL, HELD, PARTITIONS, Setup};

/// How long a window is: of a transaction, and between two commits.
const WINDOW: Duration = Duration::from_millis(100);

/// How many records a transaction has at most.
const IN_WINDOW: usize = 100_000;

/// What is done to each value.
fn change(value: &[u8]) -> Vec<u8> {
    let mut value = value.to_vec();
    if let Some(first) = value.first_mut() {
        *first ^= 0x20;
    }
    value
}

/// How many records of each epoch were acknowledged.
struct Epochs([AtomicU64; 3]);

struct Acknowledged(Arc<Epochs>);

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, epoch: usize) {
        assert!(result.is_ok());
        self.0.0[epoch].fetch_add(1, Ordering::Relaxed);
    }
}

/// What was read in a window: how much, and up to where in each partition.
struct Epoch {
    number: usize,
    sent: u64,
    next: [i64; PARTITIONS as usize],
}

/// At least once, by hand: the records of a window are sent while those of the one before are still
/// acknowledged; positions are committed once all of a window are.
pub(crate) fn by_hand(setup: &Setup) -> Cost {
    let out = setup.topic();
    let group = Setup::fresh("by-hand");
    let consumer: BaseConsumer = setup.consumer_config(&group).create().unwrap();
    consumer.subscribe(&[FULL]).unwrap();
    let epochs = Arc::new(Epochs(Default::default()));
    let producer: ThreadedProducer<Acknowledged> = setup
        .producer_config()
        .create_with_context(Acknowledged(Arc::clone(&epochs)))
        .unwrap();
    let mut open = Epoch {
        number: 0,
        sent: 0,
        next: [0; PARTITIONS as usize],
    };
    let mut under_way: VecDeque<Epoch> = VecDeque::new();
    let (mut seen, mut since, mut clock) = (0, Instant::now(), None);
    let commit = |epoch: &Epoch| {
        while epochs.0[epoch.number].load(Ordering::Relaxed) < epoch.sent {
            std::thread::sleep(Duration::from_micros(200));
        }
        epochs.0[epoch.number].store(0, Ordering::Relaxed);
        let mut list = TopicPartitionList::new();
        for (partition, next) in (0..).zip(epoch.next) {
            list.add_partition_offset(FULL, partition, Offset::Offset(next))
                .unwrap();
        }
        consumer.commit(&list, CommitMode::Sync).unwrap();
    };
    while seen < setup.records {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(10)) {
            clock.get_or_insert_with(Clock::now);
            seen += 1;
            let value = change(message.payload().unwrap_or_default());
            let mut record = BaseRecord::with_opaque_to(&out, open.number).payload(&value);
            record.key = message.key();
            record.timestamp = message.timestamp().to_millis();
            while let Err((_, back)) = producer.send(record) {
                std::thread::sleep(Duration::from_micros(500));
                record = back;
            }
            open.sent += 1;
            open.next[message.partition() as usize] = message.offset() + 1;
        }
        if since.elapsed() >= WINDOW {
            since = Instant::now();
            if under_way.len() == 2 {
                commit(&under_way.pop_front().unwrap());
            }
            let next = Epoch {
                number: (open.number + 1) % 3,
                sent: 0,
                next: open.next,
            };
            under_way.push_back(std::mem::replace(&mut open, next));
        }
    }
    under_way.push_back(open);
    under_way.iter().for_each(commit);
    clock.unwrap().per(setup.records)
}

fn changed(out: &Arc<str>) -> impl Fn(Record) -> ProducerRecord + Send + 'static {
    let out = Arc::clone(out);
    move |record| {
        let value = change(record.value().unwrap_or_default());
        let changed = ProducerRecord::to(Arc::clone(&out)).value(value);
        let changed = match record.timestamp().millis() {
            Some(millis) => changed.timestamp(millis),
            None => changed,
        };
        match record.key_bytes() {
            Some(key) => changed.key(key),
            None => changed,
        }
    }
}

/// A pipeline, at least once or in transactions, until the position of the last record is committed.
pub(crate) fn forebay(setup: &Setup, guarantee: Guarantee) -> Cost {
    let out: Arc<str> = setup.topic().into();
    let group = Setup::fresh("forebay");
    setup.runtime.block_on(async {
        let cluster = || Connection::to(&*setup.bootstrap);
        let reads = ConsumerSettings::new(cluster(), &*group)
            .topics([FULL])
            .commit_every(WINDOW);
        let exactly_once = guarantee == Guarantee::ExactlyOnce;
        let held = if exactly_once { IN_WINDOW } else { HELD.0 };
        let writes = ProducerSettings::new(cluster()).in_flight(held, HELD.1 << 10);
        let reads = if exactly_once {
            reads.in_transactions(WINDOW, IN_WINDOW)
        } else {
            reads
        };
        let (handle, flow) = kafka::source(reads);
        let started = Arc::new(std::sync::OnceLock::new());
        let start = Arc::clone(&started);
        let change = changed(&out);
        let flow = flow.window(2 * IN_WINDOW).map(move |record| {
            start.get_or_init(Clock::now);
            change(record)
        });
        let pipeline = if exactly_once {
            flow.to_kafka_in_transactions(TransactionSettings::new(writes, &*group).held(2 * held))
        } else {
            flow.to_kafka(writes)
        };
        let mut running = pipeline.guarantee(guarantee).run().unwrap();
        let committed = || -> u64 {
            let lag = handle.lag();
            lag.iter()
                // In transactions a record is settled once its transaction is committed.
                .filter_map(|one| {
                    if exactly_once {
                        one.processed
                    } else {
                        one.committed
                    }
                })
                .map(|offset| u64::try_from(offset).unwrap_or(0))
                .sum()
        };
        // Markers of transactions take no offsets in the topic that is read.
        while committed() < setup.records {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let cost = started.get().unwrap().per(setup.records);
        let drained = running.drain(Duration::from_secs(20)).await.unwrap();
        assert!(drained.still_running.is_empty());
        running.snapshot().check().unwrap();
        cost
    })
}
