//! Records that count once in a database, however often they are read.
//!
//! For each record there is one transaction of the database: its idempotency key is looked up, its payment
//! is booked, the key is marked as processed (when, and from which topic, partition and offset), commit.
//! Positions are committed to Kafka afterwards, many at once. Whoever dies in between reads records again,
//! knows them by their keys, and skips them. What the database refuses is put aside in a
//! retry topic with a count, and becomes a dead letter with an alert after the last time.
//!
//! `cargo run -p forebay-pipelines --features sql --example b2_exactly_once_consumer -- localhost:9092 payments payments.db`
//!
//! The topics must be there: `payments`, `payments.retry-1`, `payments.retry-2`, `payments.DLQ`. A record's
//! key is its idempotency key, its value an account and a sum of cents: `alice 1250`. Ctrl-C ends it.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use forebay::flow::OnError;
use forebay::kafka::{self, Connection, ConsumerSettings, ProducerSettings, Record, RetryTopics};
use forebay::runtime::Running;
use forebay::topology::Guarantee;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS accounts (name TEXT PRIMARY KEY, cents INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS processed (
        idempotency_key TEXT PRIMARY KEY,
        processed_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
        topic TEXT NOT NULL,
        partition INTEGER NOT NULL,
        record_offset INTEGER NOT NULL
    );";

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error("this is no payment: {0}")]
    Wrong(&'static str),
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Booked {
    Now,
    /// A record of that key was processed before.
    Before,
}

struct Payment<'a> {
    key: &'a str,
    account: &'a str,
    cents: i64,
}

impl<'a> Payment<'a> {
    fn of(record: &'a Record) -> Result<Payment<'a>, Failed> {
        let text = |part: Option<&'a [u8]>| part.and_then(|part| std::str::from_utf8(part).ok());
        let key = text(record.key()).ok_or(Failed::Wrong("it has no key"))?;
        let value = text(record.value()).ok_or(Failed::Wrong("it has no text"))?;
        let (account, cents) = value.split_once(' ').ok_or(Failed::Wrong("no sum"))?;
        let cents = cents.parse().map_err(|_| Failed::Wrong("the sum"))?;
        Ok(Payment {
            key,
            account,
            cents,
        })
    }
}

/// Opens the store, and makes its tables where there are none.
pub(crate) async fn open(file: &Path) -> Result<SqlitePool, sqlx::Error> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal);
    // SQLite has one writer at a time anyway.
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .connect_with(options)
        .await?;
    sqlx::raw_sql(SCHEMA).execute(&pool).await?;
    Ok(pool)
}

/// One record, one transaction. A transaction that is dropped is rolled back.
async fn process(store: SqlitePool, record: Record) -> Result<Booked, Failed> {
    let payment = Payment::of(&record)?;
    let mut transaction = store.begin().await?;
    let known: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM processed WHERE idempotency_key = ?")
            .bind(payment.key)
            .fetch_optional(&mut *transaction)
            .await?;
    if known.is_some() {
        return Ok(Booked::Before);
    }
    sqlx::query(
        "INSERT INTO accounts (name, cents) VALUES (?, ?)
         ON CONFLICT (name) DO UPDATE SET cents = cents + excluded.cents",
    )
    .bind(payment.account)
    .bind(payment.cents)
    .execute(&mut *transaction)
    .await?;
    sqlx::query(
        "INSERT INTO processed (idempotency_key, topic, partition, record_offset) VALUES (?, ?, ?, ?)",
    )
    .bind(payment.key)
    .bind(record.topic())
    .bind(record.partition())
    .bind(record.offset())
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(Booked::Now)
}

/// The retry topics of `payments`: an alert for each record that was given up.
pub(crate) fn retries(
    brokers: &str,
    delays: [Duration; 2],
    alert: impl Fn(&kafka::GivenUp) + Send + Sync + 'static,
) -> RetryTopics {
    RetryTopics::new(ProducerSettings::reliable(Connection::to(brokers)))
        .delays(delays)
        .on_dead_letter(alert)
}

/// Starts the consumer. `reads`: [`ConsumerSettings::exactly_once`] of a group, and more if need be.
pub(crate) fn consume(
    reads: ConsumerSettings,
    retries: &RetryTopics,
    store: &SqlitePool,
) -> Result<Running<()>, Box<dyn Error + Send + Sync>> {
    let store = store.clone();
    let (_handle, flow) = kafka::source(retries.reads(reads));
    let running = flow
        .try_map_async(16, move |record| process(store.clone(), record))
        .dead_letters(&retries.letters(64)?)
        .on_error(|error, _| match error {
            Failed::Database(_) => OnError::Later,
            Failed::Wrong(_) => OnError::DeadLetter,
        })
        .filter(|booked| *booked == Booked::Now)
        .for_each(drop)
        .guarantee(Guarantee::AtLeastOnce)
        .run()?;
    Ok(running)
}

#[allow(
    dead_code,
    reason = "the test has a broker of its own, and calls what this does"
)]
#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, topic, file] = &arguments[..] else {
        return Err("name the brokers, a topic and the database's file".into());
    };
    let store = open(Path::new(file)).await?;
    let delays = [Duration::from_secs(10), Duration::from_secs(60)];
    let retries = retries(brokers, delays, |gone| {
        eprintln!("somebody has to look at {}: {}", gone.record, gone.error);
    });
    let reads = ConsumerSettings::exactly_once(Connection::to(brokers), "payments").topics([topic]);
    let mut running = consume(reads, &retries, &store)?;
    tokio::select! {
        biased;
        // By itself it ends with an error alone, which says what to do.
        ended = running.join() => return Ok(ended?),
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    running.drain(Duration::from_secs(30)).await?;
    eprintln!("{}", running.snapshot());
    Ok(())
}
