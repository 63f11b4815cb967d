//! What a consumer keeps in memory while its flow takes nothing: in processes of their own, since it is the
//! process that is measured, and one that has given memory back may have it still.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

#[path = "infra/kafka/broker.rs"]
mod broker;

use std::process::Command;
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

const CHILD: &str = "FOREBAY_MEMORY_CONSUMER";
const TEST: &str = "what_is_fetched_ahead_of_a_flow_that_stands_still_is_bounded";

/// How much a process of its own grows that reads with that prefetch.
fn grown_in_child_kib(brokers: &str, group: &str, prefetch: u64) -> u64 {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST, "--nocapture"])
        .env(CHILD, format!("{brokers} {group} {prefetch}"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}\n{errors}");
    let grown = text
        .lines()
        .find_map(|line| line.split("grown_kib=").nth(1));
    let grown = grown.unwrap_or_else(|| panic!("no figure in:\n{text}"));
    grown.trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_fetched_ahead_of_a_flow_that_stands_still_is_bounded() {
    if let Ok(asked) = std::env::var(CHILD) {
        let words: Vec<&str> = asked.split(' ').collect();
        let grown = grown_kib(words[0], words[1], words[2].parse().unwrap()).await;
        println!("\ngrown_kib={grown}");
        return;
    }
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
    let little = grown_in_child_kib(brokers, "little", 4 * KIB * KIB);
    let much = grown_in_child_kib(brokers, "much", 512 * KIB * KIB);
    println!("prefetch of 4 MiB: {little} KiB more; of 512 MiB: {much} KiB more, of {RECORDS} KiB");
    // The client itself, the prefetch, what one fetch may be beyond it, and the hand-over.
    assert!(little < 20 * KIB, "{little} KiB");
    // The measure sees what is not bounded.
    assert!(much > 40 * KIB, "{much} KiB");
}
