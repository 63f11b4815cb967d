//! Kafka, against the bare client on the same broker in the same run: interleaved rounds, medians.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use forebay::kafka::{self, Connection, ConsumerSettings};
use nix::sys::resource::{UsageWho, getrusage};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

#[path = "../../tests/infra/kafka/broker.rs"]
mod broker;

const TOPIC: &str = "bench";
const PARTITIONS: i32 = 6;

/// Processor time of this process so far.
fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let of = |time: nix::sys::time::TimeVal| {
        Duration::from_secs(time.tv_sec().cast_unsigned())
            + Duration::from_micros(time.tv_usec().cast_unsigned())
    };
    of(usage.user_time()) + of(usage.system_time())
}

#[derive(Clone, Copy)]
struct Clock(Instant, Duration);

impl Clock {
    fn now() -> Clock {
        Clock(Instant::now(), cpu())
    }

    /// Nanoseconds a record: on the wall, and of processors.
    fn per(self, records: u64) -> (f64, f64) {
        let each = |time: Duration| time.as_nanos() as f64 / records as f64;
        (each(self.0.elapsed()), each(cpu().saturating_sub(self.1)))
    }
}

fn config(bootstrap: &str, group: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in [
        ("bootstrap.servers", bootstrap),
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

fn produce(bootstrap: &str, records: u64, size: usize) {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("linger.ms", "20")
        .set("queue.buffering.max.messages", "1000000")
        .create()
        .unwrap();
    let payload = vec![b'x'; size];
    for number in 0..records {
        let key = number.to_ne_bytes();
        let partition = (number % PARTITIONS as u64) as i32;
        let mut record = BaseRecord::to(TOPIC)
            .key(&key[..])
            .payload(&payload[..])
            .partition(partition);
        while let Err((_, back)) = producer.send(record) {
            std::thread::sleep(Duration::from_millis(5));
            record = back;
        }
    }
    producer.flush(Duration::from_secs(60)).unwrap();
}

/// The bare loop.
fn bare(bootstrap: &str, group: &str, records: u64) -> (f64, f64) {
    let consumer: BaseConsumer = config(bootstrap, group).create().unwrap();
    consumer.subscribe(&[TOPIC]).unwrap();
    let (mut seen, mut bytes, mut clock) = (0, 0, None);
    while seen < records {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            clock.get_or_insert_with(Clock::now);
            seen += 1;
            bytes += message.payload().unwrap_or_default().len();
        }
    }
    std::hint::black_box(bytes);
    clock.unwrap().per(records)
}

/// The same through a pipeline, with receipts and commits.
fn piped(bootstrap: &str, group: &str, records: u64) -> (f64, f64) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let settings = ConsumerSettings::new(Connection::to(bootstrap), group).topics([TOPIC]);
        let (_handle, flow) = kafka::source(settings);
        let seen = Arc::new(AtomicU64::new(0));
        let bytes = Arc::new(AtomicU64::new(0));
        let (at, sum) = (Arc::clone(&seen), Arc::clone(&bytes));
        let mut local = (0_u64, 0_u64);
        let mut running = flow
            .window(16_384)
            .for_each(move |record| {
                local.0 += 1;
                local.1 += record.value().unwrap_or_default().len() as u64;
                at.store(local.0, Ordering::Relaxed);
                sum.store(local.1, Ordering::Relaxed);
            })
            .run()
            .unwrap();
        while seen.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        let clock = Clock::now();
        while seen.load(Ordering::Relaxed) < records {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let per = clock.per(records);
        let drained = running.drain(Duration::from_secs(20)).await.unwrap();
        assert!(drained.still_running.is_empty());
        running.snapshot().check().unwrap();
        per
    })
}

fn main() {
    let broker = broker::Broker::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(broker::create_topics(
        &broker.bootstrap,
        &[(TOPIC, PARTITIONS)],
    ));
    let bootstrap = broker.bootstrap.clone();
    let records = 2_000_000;
    produce(&bootstrap, records, 100);
    for round in 0..4 {
        let (wall, cpu) = bare(&bootstrap, &format!("bare-{round}"), records);
        println!("bare  {wall:7.0} ns a record on the wall, {cpu:7.0} of processors");
        let (wall, cpu) = piped(&bootstrap, &format!("piped-{round}"), records);
        println!("piped {wall:7.0} ns a record on the wall, {cpu:7.0} of processors");
    }
}
