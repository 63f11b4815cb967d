//! Mission row B2: the exactly-once consumer, with an idempotency store in a database, against a broker of
//! its own.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

#[path = "../../tests/infra/kafka/broker.rs"]
mod broker;
#[path = "../../examples/b2_exactly_once_consumer.rs"]
mod example;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use forebay::kafka::{
    Connection, ConsumerSettings, DeadLetterAdmin, GivenUp, LetterFilter, ProducerRecord,
    ProducerSettings, ReadFrom,
};
use forebay::outcome::Kind;
use forebay::source;
use sqlx::sqlite::SqlitePool;

use broker::{Broker, create_topics};

const PAYMENTS: i64 = 300;
/// Written again with the same key: what a producer does that sends again.
const SENT_TWICE: std::ops::RangeInclusive<i64> = 101..=200;
const DELAYS: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(800)];

async fn number(store: &SqlitePool, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(store).await.unwrap()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !holds().await {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "waited in vain for {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sum n is n cents, to one of three accounts.
fn payment(n: i64) -> (String, String) {
    (format!("payment-{n}"), format!("account-{} {n}", n % 3))
}

async fn write(brokers: &str, payments: impl IntoIterator<Item = (String, String)>) {
    let payments: Vec<_> = payments.into_iter().collect();
    source::iter(payments)
        .map(|(key, value)| ProducerRecord::to("payments").key(key).value(value))
        .to_kafka(ProducerSettings::reliable(Connection::to(brokers)))
        .run()
        .unwrap()
        .join()
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn row_b2_each_payment_is_booked_once_however_often_it_is_sent_and_read() {
    let broker = tokio::task::spawn_blocking(Broker::start).await.unwrap();
    let brokers = broker.bootstrap.as_str();
    let topics = [
        ("payments", 3),
        ("payments.retry-1", 1),
        ("payments.retry-2", 1),
        ("payments.DLQ", 1),
    ];
    create_topics(brokers, &topics).await;
    write(brokers, (1..=PAYMENTS / 2).map(payment)).await;
    let folder = tempfile::tempdir().unwrap();
    let store = example::open(&folder.path().join("payments.db"))
        .await
        .unwrap();
    // Of what comes later the database refuses one payment for a while, and one for good.
    let refusals = "
        CREATE TABLE refused (idempotency_key TEXT PRIMARY KEY);
        INSERT INTO refused VALUES ('payment-207'), ('payment-208');
        CREATE TRIGGER refuse BEFORE INSERT ON processed
            WHEN NEW.idempotency_key IN (SELECT idempotency_key FROM refused)
            BEGIN SELECT RAISE(ABORT, 'not now'); END;";
    sqlx::raw_sql(refusals).execute(&store).await.unwrap();

    let alerts = Arc::new(Mutex::new(Vec::<GivenUp>::new()));
    let hears = Arc::clone(&alerts);
    let retries = example::retries(brokers, DELAYS, move |gone| {
        hears.lock().unwrap().push(gone.clone());
    });
    let reads =
        || ConsumerSettings::exactly_once(Connection::to(brokers), "payments").topics(["payments"]);

    // The first run books some, and is gone.
    let mut first = example::consume(reads(), &retries, &store).unwrap();
    until("the first bookings", async || {
        number(&store, "SELECT count(*) FROM processed").await >= 100
    })
    .await;
    first.abort().await;
    let booked_first = number(&store, "SELECT count(*) FROM processed").await;

    // The second reads all of it again, as one does whose predecessor committed nothing, and more: some of that was sent twice, one is no payment.
    let later = (PAYMENTS / 2 + 1..=PAYMENTS).chain(SENT_TWICE);
    let wrong = ("payment-x".to_owned(), "much money".to_owned());
    write(brokers, later.map(payment).chain([wrong])).await;
    let again = reads().start(ReadFrom::Earliest.or_earliest());
    let mut second = example::consume(again, &retries, &store).unwrap();
    until("both refusals", async || retries.counts().later >= 2).await;
    sqlx::raw_sql("DELETE FROM refused WHERE idempotency_key = 'payment-207'")
        .execute(&store)
        .await
        .unwrap();
    until("all bookings", async || {
        number(&store, "SELECT count(*) FROM processed").await == PAYMENTS - 1
    })
    .await;
    until("both alerts", async || alerts.lock().unwrap().len() == 2).await;
    let drained = second.drain(Duration::from_secs(20)).await.unwrap();
    assert!(drained.still_running.is_empty(), "{drained:?}");
    let snapshot = second.snapshot();
    snapshot.check().unwrap();
    let skipped = snapshot.total().outcome(Kind::Filtered);
    assert!(
        skipped == booked_first.cast_unsigned() + 100,
        "{booked_first} were booked before, 100 sent twice, {skipped} were skipped\n{snapshot}"
    );

    // Each once: a payment booked twice would show in the sum.
    let sum = PAYMENTS * (PAYMENTS + 1) / 2 - 208;
    assert_eq!(number(&store, "SELECT sum(cents) FROM accounts").await, sum);
    assert_eq!(number(&store, "SELECT count(*) FROM accounts").await, 3);
    // Marked with where it was read: one of a retry topic, the others of the topic.
    let places = "SELECT count(DISTINCT topic || partition || '@' || record_offset) FROM processed";
    assert_eq!(number(&store, places).await, PAYMENTS - 1);
    let direct =
        "SELECT count(*) FROM processed WHERE topic = 'payments' AND partition IN (0, 1, 2)";
    assert_eq!(number(&store, direct).await, PAYMENTS - 2);
    let again = "SELECT count(*) FROM processed
        WHERE topic LIKE 'payments.retry-_' AND idempotency_key = 'payment-207'";
    assert_eq!(number(&store, again).await, 1);

    // Nothing is left to read, and what was given up lies in the dead letters.
    let admin_of = brokers.to_owned();
    let letters = tokio::task::spawn_blocking(move || {
        let mut found = Vec::new();
        DeadLetterAdmin::new(Connection::to(admin_of), "payments.DLQ")
            .list(&LetterFilter::new(), |letter| found.push(letter.clone()))
            .unwrap();
        found
    });
    let letters = letters.await.unwrap();
    let mut dead: Vec<_> = letters
        .iter()
        .map(|letter| letter.value.as_deref())
        .collect();
    dead.sort();
    assert_eq!(dead, [Some(&b"account-1 208"[..]), Some(b"much money")]);
    let told = alerts.lock().unwrap().clone();
    assert!(
        told.iter()
            .any(|gone| gone.tries == 3 && gone.error.contains("not now")),
        "{told:?}"
    );
    assert!(
        told.iter()
            .any(|gone| gone.tries == 1 && gone.error.contains("no payment")),
        "{told:?}"
    );
}
