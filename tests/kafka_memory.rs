//! What a consumer keeps in memory while its flow takes nothing: a process of its own, since it is the
//! process that is measured.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

#[path = "infra/kafka/broker.rs"]
mod broker;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use forebay::kafka::{self, Connection, ConsumerSettings, ProducerRecord, ProducerSettings};
use forebay::source;

use broker::{Broker, create_topics};

const RECORDS: u64 = 48 * 1024;
const VALUE: usize = 1024;
const KIB: u64 = 1024;

/// Memory of this process that is its own, in KiB.
fn own_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.unwrap().parse().unwrap()
}

/// A consumer whose flow stands still after the first record: how much memory it takes in 4 s. Then the
/// flow goes on: whether all records come, each once.
async fn grown_kib(brokers: &str, group: &str, prefetch: u64) -> u64 {
    let before = own_kib();
    let (open, gate) = tokio::sync::watch::channel(false);
    let seen = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&seen);
    let settings = ConsumerSettings::new(Connection::to(brokers), group)
        .topics(["large"])
        .hand_over(256)
        .prefetch(prefetch);
    let (_handle, flow) = kafka::source(settings);
    let mut running = flow
        .map_async(1, move |record| {
            let mut gate = gate.clone();
            async move {
                let _ = gate.wait_for(|open| *open).await;
                record
            }
        })
        .for_each(move |record| {
            assert_eq!(record.value().map(<[u8]>::len), Some(VALUE));
            count.fetch_add(1, Ordering::Relaxed);
        })
        .run()
        .unwrap();
    let started = Instant::now();
    let mut most = before;
    while started.elapsed() < Duration::from_secs(4) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        most = most.max(own_kib());
    }
    open.send(true).unwrap();
    while seen.load(Ordering::Relaxed) < RECORDS {
        assert!(started.elapsed() < Duration::from_mins(2), "{seen:?} came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running.drain(Duration::from_secs(20)).await.unwrap();
    running.snapshot().check().unwrap();
    // What was fetched ahead was not thrown away: nothing came twice.
    assert_eq!(seen.load(Ordering::Relaxed), RECORDS);
    most - before
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fetched_ahead_of_a_flow_that_stands_still_is_bounded() {
    let broker = tokio::task::spawn_blocking(Broker::start).await.unwrap();
    let brokers = broker.bootstrap.as_str();
    create_topics(brokers, &[("large", 1)]).await;
    source::iter(0..RECORDS)
        .map(|_| ProducerRecord::to("large").value(vec![b'x'; VALUE]))
        .to_kafka(ProducerSettings::new(Connection::to(brokers)))
        .run()
        .unwrap()
        .join()
        .await
        .unwrap();
    // The client's own buffers are there from now on.
    grown_kib(brokers, "first", 4 * KIB * KIB).await;
    let little = grown_kib(brokers, "little", 4 * KIB * KIB).await;
    let much = grown_kib(brokers, "much", 512 * KIB * KIB).await;
    eprintln!(
        "prefetch of 4 MiB: {little} KiB more; of 512 MiB: {much} KiB more, of {RECORDS} KiB"
    );
    // The prefetch, what one fetch may be beyond it, and the hand-over.
    assert!(little < 16 * KIB, "{little} KiB");
    // The measure sees what is not bounded.
    assert!(much > 32 * KIB, "{much} KiB");
}
