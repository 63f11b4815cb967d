//! Kafka as a source and as a transactional sink, with forebay's public API alone, against a broker
//! of its own.
//!
//! - *Rebalances.* Two processes of one group take partitions from each other while records keep
//!   coming. A revocation that can drain repeats nothing; one that cannot repeats exactly what was
//!   not committed; nothing is lost.
//! - *Transactions.* Two topics, each through `map_async`, merged and `grouped`, into a transactional
//!   sink that commits the positions of a barrier. Commits are aborted by a seeded fault, an element
//!   fails; whoever reads what is committed finds each record once.
//!
//! ```sh
//! cargo run -p forebay-pipelines --features kafka --example spike_kafka
//! ```
//! It needs Java 17 and Maven for the broker, which ends with this process, however that ends.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use forebay::flow::{Flow, Pipeline};
use forebay::operator::Answer;
use forebay::outcome::Kind;
use forebay::runtime::{Running, Snapshot};
use forebay::topology::Guarantee;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList, producer::DefaultProducerContext};
use tokio::sync::watch;

#[path = "spike_kafka/broker.rs"]
mod broker;
#[path = "spike_kafka/sink.rs"]
mod sink;
#[path = "spike_kafka/source.rs"]
mod source;

use broker::{Broker, config};
use sink::{Fault, Output, Seen, TransactionalSink};
use source::{Commits, Event, Record, Settings, topic};

/// Set in the second process: where the broker is.
const WORKER: &str = "FOREBAY_SPIKE_KAFKA_WORKER";
const PARTITIONS: i32 = 6;
/// In flight in `map_async`: what a revocation that cannot drain may repeat.
const IN_FLIGHT: usize = 16;
const SEED: u64 = 0x5eed_f04e_ba11;

/// A line of the proof. Written past the test harness, which would keep it to itself.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
    out.flush().unwrap();
}

// ---------------------------------------------------------------- rebalances

/// One worker of the group: each record waits at the gate, then is delivered.
fn worker(bootstrap: &str, gate: &watch::Receiver<bool>, hear: source::Hear) -> Pipeline<()> {
    let settings = Settings {
        bootstrap: bootstrap.to_owned(),
        group: "orders",
        topic: "orders",
        commits: Commits::Settled,
        drain: Duration::from_millis(500),
        hear: Arc::clone(&hear),
    };
    let gate = gate.clone();
    topic(settings)
        // Small, so that what is in flight is of every partition, whichever are revoked.
        .window(3)
        .map_async(IN_FLIGHT, move |record: Record| {
            let mut gate = gate.clone();
            async move {
                let _ = gate.wait_for(|open| *open).await;
                record
            }
        })
        .for_each(move |record| hear(Event::Delivered(record.partition, record.offset)))
        .guarantee(Guarantee::AtLeastOnce)
}

/// The second process: tells what it does, line by line, and drains at the end of its input.
fn be_the_second_process(bootstrap: &str) {
    let runtime = runtime();
    runtime.block_on(async {
        let (_open, gate) = watch::channel(true);
        let hear: source::Hear = Arc::new(|event| match event {
            Event::Delivered(partition, offset) => say(&format!("@delivered {partition} {offset}")),
            Event::Revoked(partition, next) => say(&format!("@revoked {partition} {next}")),
        });
        let mut running = worker(bootstrap, &gate, hear).run().unwrap();
        let stopper = running.stopper();
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            stopper.drain();
        });
        running.join().await.unwrap();
        running.snapshot().check().unwrap();
        say("@balanced");
    });
}

/// What both processes did, in the order in which it became known.
#[derive(Default)]
struct Journal {
    /// How often each record was delivered.
    delivered: BTreeMap<(i32, i64), u32>,
    /// Deliveries by worker.
    by_worker: [u64; 2],
    /// Per partition and revocation, what was committed then.
    revoked: BTreeMap<i32, Vec<i64>>,
    balanced: u64,
}

impl Journal {
    fn hear(&mut self, worker: usize, event: Event) {
        match event {
            Event::Delivered(partition, offset) => {
                *self.delivered.entry((partition, offset)).or_default() += 1;
                self.by_worker[worker] += 1;
            }
            Event::Revoked(partition, next) => {
                self.revoked.entry(partition).or_default().push(next);
            }
        }
    }

    fn repeated(&self) -> Vec<(i32, i64)> {
        let repeated = self.delivered.iter().filter(|(_, times)| **times > 1);
        repeated.map(|(at, _)| *at).collect()
    }
}

/// The second process as the first sees it.
struct Second(Child);

impl Second {
    fn start(bootstrap: &str, journal: &Arc<Mutex<Journal>>) -> Second {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(std::env::args().skip(1))
            .env(WORKER, bootstrap)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let journal = Arc::clone(journal);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let Some((_, line)) = line.split_once('@') else {
                    continue;
                };
                let words: Vec<&str> = line.split(' ').collect();
                let event = match words[..] {
                    ["delivered", partition, offset] => {
                        Event::Delivered(partition.parse().unwrap(), offset.parse().unwrap())
                    }
                    ["revoked", partition, next] => {
                        Event::Revoked(partition.parse().unwrap(), next.parse().unwrap())
                    }
                    _ => {
                        journal.lock().unwrap().balanced += 1;
                        continue;
                    }
                };
                journal.lock().unwrap().hear(1, event);
            }
        });
        Second(child)
    }

    /// Has it drain, and waits until it has ended.
    fn leave(mut self) {
        drop(self.0.stdin.take());
        assert!(
            self.0.wait().unwrap().success(),
            "the second process failed"
        );
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn producer(bootstrap: &str) -> ThreadedProducer<DefaultProducerContext> {
    config(bootstrap).set("linger.ms", "2").create().unwrap()
}

/// Writes records at some 3000 a second until it is told to stop; then says how many.
fn feed(bootstrap: &str, stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<u64> {
    let (producer, stop) = (producer(bootstrap), Arc::clone(stop));
    std::thread::spawn(move || {
        let mut written = 0_u64;
        while !stop.load(Ordering::Relaxed) {
            for _ in 0..30 {
                let partition = (written % PARTITIONS as u64) as i32;
                let payload = written.to_string();
                let record = BaseRecord::<(), _>::to("orders");
                let record = record.partition(partition).payload(&payload);
                producer.send(record).map_err(|(error, _)| error).unwrap();
                written += 1;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        producer.flush(Duration::from_secs(10)).unwrap();
        written
    })
}

/// Waits until something holds.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(
            started.elapsed() < Duration::from_secs(40),
            "waited in vain for {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What the group has committed of a topic.
fn committed(bootstrap: &str, group: &str, name: &str, partitions: i32) -> Vec<i64> {
    let consumer: BaseConsumer = config(bootstrap).set("group.id", group).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_range(name, 0, partitions - 1);
    let list = consumer
        .committed_offsets(list, Duration::from_secs(10))
        .unwrap();
    let offsets = list.elements();
    let raw = offsets.iter().map(|one| match one.offset() {
        Offset::Offset(offset) => offset,
        _ => 0,
    });
    raw.collect()
}

async fn rebalances(bootstrap: &str) {
    let journal = Arc::new(Mutex::new(Journal::default()));
    let of = |worker: usize| {
        let journal = Arc::clone(&journal);
        move || journal.lock().unwrap().by_worker[worker]
    };
    let (first, second) = (of(0), of(1));
    let stop = Arc::new(AtomicBool::new(false));
    let feeder = feed(bootstrap, &stop);
    let (open, gate) = watch::channel(true);
    let hear: source::Hear = {
        let journal = Arc::clone(&journal);
        Arc::new(move |event| journal.lock().unwrap().hear(0, event))
    };
    let mut running = worker(bootstrap, &gate, hear).run().unwrap();
    until("the first process", || first() > 500).await;

    // The second joins, and leaves again: both sides drain in time.
    let process = Second::start(bootstrap, &journal);
    until("the second process", || second() > 300).await;
    process.leave();
    let at = first();
    until("the partitions to come back", || first() > at + 1500).await;
    {
        let journal = journal.lock().unwrap();
        assert!(journal.revoked.len() > 1, "no partition was revoked");
        assert_eq!(
            journal.repeated(),
            [],
            "a drained revocation repeated records"
        );
        say(&format!(
            "rebalance: the second process joined and left; {} records by the first, {} by the \
             second, none twice",
            journal.by_worker[0], journal.by_worker[1]
        ));
    }

    // Now what is inside cannot be drained: it is repeated, and nothing else.
    journal.lock().unwrap().revoked.clear();
    open.send(false).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let process = Second::start(bootstrap, &journal);
    let at = second();
    until("the second process", || second() > at + 600).await;
    let revoked = journal.lock().unwrap().revoked.clone();
    open.send(true).unwrap();
    let at = first();
    until("the first process", || first() > at + 600).await;
    stop.store(true, Ordering::Relaxed);
    let written = feeder.join().unwrap();
    until("every record", || {
        journal.lock().unwrap().delivered.len() as u64 >= written
    })
    .await;
    process.leave();
    let snapshot = drained(&mut running).await;
    let journal = journal.lock().unwrap();
    assert_eq!(journal.delivered.len() as u64, written, "a record was lost");
    assert_eq!(journal.balanced, 2);
    let repeated = journal.repeated();
    assert!(
        !repeated.is_empty(),
        "nothing was stuck in what was revoked"
    );
    assert!(repeated.len() <= IN_FLIGHT, "{repeated:?}");
    for (partition, offset) in &repeated {
        let next = revoked.get(partition).and_then(|all| all.first());
        assert!(
            next.is_some_and(|next| offset >= next),
            "{partition}@{offset} was committed and repeated"
        );
    }
    let cancelled = snapshot.total().outcome(Kind::Cancelled);
    assert_eq!(
        cancelled,
        repeated.len() as u64,
        "what was left inert is what was repeated"
    );
    let ends = committed(bootstrap, "orders", "orders", PARTITIONS);
    assert_eq!(ends.iter().sum::<i64>(), written.cast_signed());
    say(&format!(
        "rebalance: with the first process stuck, {} partitions moved; of {written} records none \
         was lost and {} came twice, all of them uncommitted; their first receipts were inert \
         ({cancelled} cancelled); all offsets committed; both balanced",
        revoked.len(),
        repeated.len(),
    ));
}

async fn drained(running: &mut Running<()>) -> Snapshot {
    let drained = running.drain(Duration::from_secs(20)).await.unwrap();
    assert_eq!(drained.still_running, Vec::<String>::new());
    let snapshot = running.snapshot();
    if let Err(found) = snapshot.check() {
        panic!("{found:?}\n{snapshot}");
    }
    snapshot
}

// -------------------------------------------------------------- transactions

const EACH: u64 = 5000;

/// Records of a topic, each transformed by a future.
fn transformed(
    bootstrap: &str,
    name: &'static str,
    fails_once: Option<&'static str>,
) -> Flow<Output> {
    let settings = Settings {
        bootstrap: bootstrap.to_owned(),
        group: name,
        topic: name,
        commits: Commits::AtBarriers(Duration::from_millis(100)),
        drain: Duration::from_secs(2),
        hear: Arc::new(|_| ()),
    };
    let fails_once = Mutex::new(fails_once);
    topic(settings)
        .window(256)
        .on_unresolved(Answer::Rewind)
        .map_async(IN_FLIGHT, move |record: Record| {
            let payload = String::from_utf8(record.payload).unwrap();
            let key = format!("{name}-{payload}");
            let fails = fails_once
                .lock()
                .unwrap()
                .take_if(|which| *which == payload)
                .is_some();
            async move {
                if record.offset % 64 == 0 {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                assert!(!fails, "this one fails the first time");
                (key, format!("{payload} of {name}"))
            }
        })
}

/// Seeded: about every fourth commit is aborted, before or after its offsets were sent.
fn faults(mut seed: u64) -> impl FnMut() -> Option<Fault> + Send + 'static {
    move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        match seed % 8 {
            0 => Some(Fault::BeforeOffsets),
            1 => Some(Fault::AfterOffsets),
            _ => None,
        }
    }
}

fn write_all(bootstrap: &str, name: &str, partitions: u32) {
    let producer = producer(bootstrap);
    for number in 0..EACH {
        let payload = number.to_string();
        let record = BaseRecord::<(), _>::to(name).payload(&payload);
        let record = record.partition((number % u64::from(partitions)) as i32);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(20)).unwrap();
}

/// Reads a topic from its beginning, and calls back with each key until told to stop.
fn read(bootstrap: &str, name: &str, isolation: &str, mut more: impl FnMut(Option<&str>) -> bool) {
    let consumer: BaseConsumer = config(bootstrap)
        .set("group.id", isolation)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", isolation)
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_range(name, 0, 2);
    list.set_all_offsets(Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    loop {
        let go_on = match consumer.poll(Duration::from_millis(100)) {
            None => more(None),
            Some(Ok(message)) => {
                let key = message.key().unwrap_or_default();
                more(Some(std::str::from_utf8(key).unwrap()))
            }
            Some(Err(error)) => panic!("{error}"),
        };
        if !go_on {
            return;
        }
    }
}

/// Reads until nothing has come for a second: every key with how often it came.
fn read_to_end(bootstrap: &str, isolation: &str) -> BTreeMap<String, u32> {
    let (mut found, mut silence) = (BTreeMap::new(), 0);
    read(bootstrap, "results", isolation, |key| {
        match key {
            Some(key) => {
                silence = 0;
                *found.entry(key.to_owned()).or_default() += 1;
            }
            None => silence += 1,
        }
        silence < 10
    });
    found
}

async fn transactions(bootstrap: &str) {
    write_all(bootstrap, "left", 3);
    write_all(bootstrap, "right", 2);
    let seen = Arc::new(Seen::default());
    let sink = TransactionalSink::new(bootstrap, "results", faults(SEED), &seen);
    let pipeline = transformed(bootstrap, "left", Some("2500"))
        .merge([transformed(bootstrap, "right", None)])
        .grouped(10)
        .to_stage(sink::spec(), sink)
        .guarantee(Guarantee::ExactlyOnce);
    say(&pipeline.topology().mermaid());
    let mut running = pipeline.run().unwrap();

    // While it runs: whoever reads what is committed never finds a record twice.
    let distinct = Arc::new(AtomicU64::new(0));
    let reader = tokio::task::spawn_blocking({
        let (bootstrap, distinct) = (bootstrap.to_owned(), Arc::clone(&distinct));
        move || {
            let (mut keys, started) = (BTreeSet::new(), Instant::now());
            read(&bootstrap, "results", "read_committed", |key| {
                if let Some(key) = key {
                    assert!(keys.insert(key.to_owned()), "{key} was committed twice");
                    distinct.store(keys.len() as u64, Ordering::Relaxed);
                }
                (keys.len() as u64) < 2 * EACH && started.elapsed() < Duration::from_mins(1)
            });
        }
    });
    tokio::select! {
        biased;
        ended = running.join() => panic!("the run ended: {ended:?}\n{}", running.snapshot()),
        read = reader => read.unwrap(),
    }
    let all = distinct.load(Ordering::Relaxed);
    assert_eq!(all, 2 * EACH, "not all committed\n{}", running.snapshot());
    let snapshot = drained(&mut running).await;

    let found = read_to_end(bootstrap, "read_committed");
    assert_eq!(found.len() as u64, 2 * EACH, "a record was lost");
    assert!(
        found.values().all(|times| *times == 1),
        "a record came twice"
    );
    let all = read_to_end(bootstrap, "read_uncommitted");
    let written: u32 = all.values().sum();
    for (name, partitions) in [("left", 3), ("right", 2)] {
        let ends = committed(bootstrap, name, name, partitions);
        assert_eq!(
            ends.iter().sum::<i64>(),
            EACH.cast_signed(),
            "{name}: {ends:?}"
        );
    }
    let total = snapshot.total();
    assert_eq!(total.outcome(Kind::Delivered), 2 * EACH);
    assert_eq!(total.outcome(Kind::Failed), 1);
    assert!(total.replayed > 0 && total.outcome(Kind::Cancelled) > 0);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    assert!(count(&seen.faults) > 0 && u64::from(written) > 2 * EACH);
    say(&format!(
        "transactions: seed {SEED:#x}: {} committed, {} aborted by a fault, {} because a source \
         went back by itself; {} barriers and {} groups refused; {written} records written, of \
         which a reader of what is committed found {} once each; {} elements read again; the \
         offsets of both groups stand at their ends; balanced",
        count(&seen.commits),
        count(&seen.faults),
        count(&seen.overtaken),
        count(&seen.barriers_refused),
        count(&seen.refused),
        2 * EACH,
        total.replayed,
    ));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Runs the spike. Panics where something does not hold.
pub(crate) fn main() {
    if let Ok(bootstrap) = std::env::var(WORKER) {
        be_the_second_process(&bootstrap);
        return;
    }
    let broker = Broker::start();
    runtime().block_on(async {
        let topics = [
            ("orders", PARTITIONS),
            ("left", 3),
            ("right", 2),
            ("results", 3),
        ];
        broker.create_topics(&topics).await;
        rebalances(&broker.bootstrap).await;
        transactions(&broker.bootstrap).await;
    });
    drop(broker);
    say("spike_kafka: all of it holds");
}
