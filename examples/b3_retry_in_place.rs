//! A consumer that tries again on the spot: after 1, 2 and 4 s, three records at once, and what fails a
//! fourth time goes to `<topic>.DLQ`.
//!
//! `cargo run --features kafka --example b3_retry_in_place -- localhost:9092 orders [PER CENT]`
//!
//! The topic and that of its dead letters must be there. Values are read as words: `busy-2` fails twice,
//! `broken` always. With a last argument of 10 the delays are a tenth as long. It ends after a record whose
//! value is `end`.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use forebay::kafka::{self, Connection, ConsumerSettings, ProducerSettings, RetryInPlace};

/// What a record came to: how often it was tried, and when.
pub(crate) type Tries = BTreeMap<String, Vec<Duration>>;

#[derive(Debug, thiserror::Error)]
#[error("{0} failed")]
struct Failed(String);

/// Reads a topic until its end is told. When each word was tried.
pub(crate) async fn consume(
    brokers: &str,
    topic: &str,
    per_cent: u32,
) -> Result<Tries, Box<dyn Error + Send + Sync>> {
    let cluster = || Connection::to(brokers);
    let scaled = |seconds| Duration::from_secs(seconds) * per_cent / 100;
    let again = RetryInPlace::b3().back_off(scaled(1), scaled(10));
    let letters = again.letters(&ProducerSettings::reliable(cluster()), 16)?;
    let reads = ConsumerSettings::new(cluster(), format!("{topic}-consumer")).topics([topic]);
    let (_handle, flow) = kafka::source(reads);

    let started = Instant::now();
    let tries = Arc::new(Mutex::new(Tries::new()));
    let notes = Arc::clone(&tries);
    let (ends, end) = async_channel::bounded(1);
    let pipeline = flow
        .try_map_async(again.calls(), move |record| {
            let word = String::from_utf8_lossy(record.value().unwrap_or_default()).into_owned();
            let tried = notes.lock().map_or(0, |mut tries| {
                let own = tries.entry(word.clone()).or_default();
                own.push(started.elapsed());
                own.len()
            });
            async move {
                let fails = match word.split_once('-') {
                    Some(("busy", times)) => tried <= times.parse().unwrap_or(0),
                    _ => word == "broken",
                };
                if fails { Err(Failed(word)) } else { Ok(word) }
            }
        })
        .retry(again.policy()?)
        .or_dead_letter(&letters)
        .for_each(move |word| {
            if word == "end" {
                let _ = ends.try_send(());
            }
        });
    let mut running = pipeline.run()?;
    let _ = end.recv().await;
    // What is in work is finished, and committed.
    running.drain(Duration::from_secs(60)).await?;
    let tries = tries.lock().map(|tries| tries.clone());
    Ok(tries.unwrap_or_default())
}

#[allow(
    dead_code,
    reason = "the test has a broker of its own, and calls what this does"
)]
#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, topic, rest @ ..] = &arguments[..] else {
        return Err("name the brokers and a topic".into());
    };
    let per_cent = rest.first().map_or(Ok(100), |text| text.parse())?;
    for (word, tries) in consume(brokers, topic, per_cent).await? {
        eprintln!("{word}: tried at {tries:.1?}");
    }
    Ok(())
}
