//! A consumer that puts aside what it cannot process now: a record whose processing fails goes to a retry
//! topic with a count, comes back when it is due, and after the last time goes to the dead letters with an
//! alert. Others do not wait for it.
//!
//! `cargo run --features kafka --example b2_retry_topics -- localhost:9092 orders`
//!
//! The topics must be there: `orders`, `orders.retry-1`, `orders.retry-2` and `orders.DLQ`. Values are read as
//! words: `busy-1` fails the first time, `broken` always, `wrong` is not worth another try. It ends when
//! two records were given up and nothing waits.

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::flow::OnError;
use forebay::kafka::{
    self, Connection, ConsumerSettings, GivenUp, ProducerSettings, Record, RetryCounts, RetryTopics,
};
use forebay::topology::Guarantee;

#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("the service is busy")]
    Busy,
    #[error("this is no order")]
    Wrong,
}

/// How often a record was put aside before: what Kafka's clients call its delivery attempt.
fn count(record: &Record) -> u32 {
    let count = record.header("retry-count").unwrap_or_default();
    std::str::from_utf8(count)
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(0)
}

async fn process(record: Record) -> Result<String, Failed> {
    let word = String::from_utf8_lossy(record.value().unwrap_or_default()).into_owned();
    match word.as_str() {
        "busy-1" if count(&record) < 1 => Err(Failed::Busy),
        "broken" => Err(Failed::Busy),
        "wrong" => Err(Failed::Wrong),
        _ => Ok(word),
    }
}

/// Consumes until two records were given up: what was processed, in order, and who was given up.
pub(crate) async fn consume(
    brokers: &str,
    topic: &str,
    delays: [Duration; 2],
) -> Result<(Vec<String>, Vec<GivenUp>, RetryCounts), Box<dyn Error + Send + Sync>> {
    let cluster = || Connection::to(brokers);
    let (told, alerts) = async_channel::unbounded();
    let retries = RetryTopics::new(ProducerSettings::reliable(cluster()))
        .delays(delays)
        .on_dead_letter(move |gone| {
            // Here somebody would be called.
            let _ = told.try_send(gone.clone());
        });
    let reads = ConsumerSettings::exactly_once(cluster(), format!("{topic}-consumer"))
        .topics([topic])
        .commit_every(Duration::from_millis(100));
    let (_handle, flow) = kafka::source(retries.reads(reads));
    let processed = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&processed);
    let mut running = flow
        .try_map_async(16, process)
        .dead_letters(&retries.letters(64)?)
        .on_error(|error, _| match error {
            Failed::Busy => OnError::Later,
            Failed::Wrong => OnError::DeadLetter,
        })
        .for_each(move |word| {
            if let Ok(mut words) = notes.lock() {
                words.push(word);
            }
        })
        .guarantee(Guarantee::AtLeastOnce)
        .run()?;
    let given_up = vec![alerts.recv().await?, alerts.recv().await?];
    running.drain(Duration::from_secs(10)).await?;
    let processed = processed.lock().map(|words| words.clone());
    Ok((processed.unwrap_or_default(), given_up, retries.counts()))
}

#[allow(
    dead_code,
    reason = "the test has a broker of its own, and calls what this does"
)]
#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, topic] = &arguments[..] else {
        return Err("name the brokers and a topic".into());
    };
    let delays = [Duration::from_secs(2), Duration::from_secs(5)];
    let (processed, given_up, counts) = consume(brokers, topic, delays).await?;
    eprintln!("processed {processed:?}\n{counts:?}");
    for gone in given_up {
        eprintln!(
            "{} was given up after {} tries: {}",
            gone.record, gone.tries, gone.error
        );
    }
    Ok(())
}
