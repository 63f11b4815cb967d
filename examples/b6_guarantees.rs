//! Row B6: at most once and at least once, chosen by name, and what each costs when a process dies.
//!
//! `cargo run --features kafka --example b6_guarantees HOST:PORT TOPIC`, with a topic of its own that is empty.
//!
//! - **At most once**: positions are committed before their records are handed over. What was inside when
//!   the process died is lost; nothing comes twice.
//! - **At least once**: positions are committed once their records are settled, and never past one that is
//!   not. What was inside comes again; nothing is lost.
//! - **Exactly once**: positions are committed in one transaction with what was made of their records:
//!   `ConsumerSettings::in_transactions` and `to_kafka_in_transactions`.
//!
//! As for writing, `Acks` says who must have a record before it counts as written:
//! - `Acks::None` (0): nobody. Whatever is on its way when a broker dies is lost, and nobody hears of it.
//! - `Acks::Leader` (1): the leader of its partition. It is lost if that dies before the others have it.
//! - `Acks::All` (all): every replica in sync. It is lost only with all of them; how many that must be at
//!   least is the topic's `min.insync.replicas`.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use forebay::kafka::{self, Acks, Connection, ConsumerSettings, ProducerRecord, ProducerSettings};
use forebay::source;
use forebay::topology::Guarantee;

const RECORDS: u64 = 2000;

/// What came of the records over two lives of a process, the first of which ended suddenly.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) lost: u64,
    pub(crate) repeated: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let at = arguments.next().ok_or("give HOST:PORT and TOPIC")?;
    let topic = arguments.next().ok_or("give a TOPIC")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        write(&at, &topic).await?;
        for guarantee in [Guarantee::AtMostOnce, Guarantee::AtLeastOnce] {
            let Found { lost, repeated } = read_in_two_lives(&at, &topic, guarantee).await?;
            println!("{guarantee:?}: {lost} lost, {repeated} repeated of {RECORDS}");
        }
        Ok(())
    })
}

/// Writes the numbers, each to be acknowledged by every replica in sync.
pub(crate) async fn write(at: &str, topic: &str) -> Result<(), Box<dyn Error>> {
    let settings = ProducerSettings::new(Connection::to(at)).acknowledged_by(Acks::All);
    let topic: Arc<str> = topic.into();
    let mut running = source::iter(0..RECORDS)
        .map(move |number| ProducerRecord::to(Arc::clone(&topic)).value(number.to_string()))
        .to_kafka(settings)
        .run()?;
    running.join().await?;
    Ok(())
}

/// Reads them as a group of its own, dies amid them, and reads on.
pub(crate) async fn read_in_two_lives(
    at: &str,
    topic: &str,
    guarantee: Guarantee,
) -> Result<Found, Box<dyn Error>> {
    let seen: Arc<Mutex<BTreeMap<u64, u64>>> = Arc::default();
    let start = || {
        let group = format!("{topic}-{guarantee:?}");
        let mut settings = ConsumerSettings::new(Connection::to(at), group)
            .topics([topic])
            .hand_over(100)
            .commit_every(Duration::from_millis(20));
        // A pipeline whose parts do not keep what it names is refused before it starts.
        if guarantee == Guarantee::AtMostOnce {
            settings = settings.at_most_once();
        }
        let seen = Arc::clone(&seen);
        let (handle, flow) = kafka::source(settings);
        let pipeline = flow
            .map_async(16, |record| async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                let value = record.value().unwrap_or_default();
                String::from_utf8_lossy(value).parse().unwrap_or(u64::MAX)
            })
            .for_each(move |number| {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                *seen.entry(number).or_default() += 1;
            })
            .guarantee(guarantee);
        pipeline.run().map(|running| (handle, running))
    };
    let came = || seen.lock().map_or(0, |seen| seen.len() as u64);

    let (_handle, mut first) = start()?;
    while came() < RECORDS / 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Nothing is settled any more, nor committed: as if it had been killed.
    first.abort().await;

    let (handle, mut second) = start()?;
    let is_through = || {
        let lag = handle.lag();
        !lag.is_empty()
            && lag
                .iter()
                .all(|lag| lag.end.is_some() && lag.committed == lag.end)
    };
    while !is_through() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    second.drain(Duration::from_secs(20)).await?;
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Found {
        lost: RECORDS - seen.len() as u64,
        repeated: seen.values().map(|times| times - 1).sum(),
    })
}
