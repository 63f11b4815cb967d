//! Row B1: the reliable producer, by what its client was told in the end, and by what lies in the log.

use forebay::kafka::{Connection, ProducerRecord, ProducerSettings};
use forebay::outcome::Kind;
use forebay::source;
use rdkafka::message::{Headers, Message};

use crate::broker::create_topics;
use crate::support::{bootstrap, connection, dump, read_all, run, topic};

// Its `main` reads the command line.
#[allow(dead_code)]
#[path = "../../examples/b1_reliable_producer.rs"]
mod b1_reliable_producer;

#[tokio::test(flavor = "multi_thread")]
async fn row_b1_the_example() {
    let topic = topic("row-b1-example", 3).await;
    b1_reliable_producer::example(connection(), &topic)
        .await
        .unwrap();
}

#[test]
fn row_b1_the_reliable_producer_by_value() {
    let settings = ProducerSettings::reliable(Connection::to("localhost:9092"));
    let effective = settings.effective().unwrap();
    for (name, value) in [
        ("request.required.acks", "-1"),
        ("enable.idempotence", "true"),
        ("max.in.flight.requests.per.connection", "5"),
        ("compression.codec", "snappy"),
        ("queue.buffering.max.ms", "20"),
        ("batch.size", "32768"),
        ("request.timeout.ms", "30000"),
        ("message.timeout.ms", "120000"),
        // What follows from being idempotent: a record is tried until its time is over.
        ("message.send.max.retries", "2147483647"),
    ] {
        assert_eq!(effective.get(name), Some(value), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_b1_what_it_writes_is_compressed_and_numbered_and_what_fails_is_kept() {
    let topic = topic("reliable", 1).await;
    let dead = format!("{topic}.dlq");
    create_topics(&bootstrap(), &[(&dead, 1)]).await;
    let to = topic.clone();
    let mut running = run(source::iter(0..200)
        .map(move |number: i32| {
            let record = ProducerRecord::to(to.as_str())
                .key("k")
                .header(
                    "traceparent",
                    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                )
                .header("event-type", "ORDER_PAID")
                .value(format!("{number} {}", "x".repeat(200)));
            // One is for a partition that there is not.
            record.partition(if number == 7 { 9 } else { 0 })
        })
        .to_kafka(ProducerSettings::reliable(connection())));
    running.join().await.unwrap();
    let snapshot = running.snapshot();
    snapshot.check().unwrap();
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 199);
    assert_eq!(snapshot.total().outcome(Kind::DeadLettered), 1);

    let written = read_all(&topic, 1, 199);
    assert_eq!(written.len(), 199);
    let letters = read_all(&dead, 1, 1);
    assert_eq!(letters.len(), 1);
    let headers = letters[0].headers().unwrap();
    let header = |name: &str| {
        let found = headers.iter().find(|header| header.key == name);
        let value = found.and_then(|header| header.value);
        String::from_utf8(value.unwrap_or_default().to_vec()).unwrap()
    };
    assert_eq!(header("original-topic"), topic);
    assert!(
        header("error-message").contains("nknown"),
        "{}",
        header("error-message")
    );
    assert!(header("error-timestamp").parse::<u64>().unwrap() > 1_600_000_000_000);
    assert!(header("traceparent").starts_with("00-0af7651916cd43dd8448eb211c80319c"));
    assert_eq!(header("event-type"), "ORDER_PAID");

    let log = tokio::task::spawn_blocking(move || dump(&topic, 0))
        .await
        .unwrap();
    let batches: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("compresscodec"))
        .collect();
    assert!(!batches.is_empty(), "{log}");
    for batch in batches {
        assert!(batch.contains("compresscodec: snappy"), "{batch}");
        assert!(!batch.contains("producerId: -1"), "{batch}");
        assert!(!batch.contains("baseSequence: -1"), "{batch}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_b1_metrics_by_topic() {
    let topics = [topic("metrics-a", 1).await, topic("metrics-b", 1).await];
    let dead = format!("{}.dlq", topics[1]);
    create_topics(&bootstrap(), &[(&dead, 1)]).await;
    let to = topics.clone();
    let mut running = run(source::iter(0..300)
        .map(move |number: usize| {
            // Of the second topic ten are for a partition that there is not.
            let record = ProducerRecord::to(to[usize::from(number >= 100)].as_str()).value("v");
            record.partition(if number < 290 { 0 } else { 9 })
        })
        .to_kafka(ProducerSettings::reliable(connection())));
    running.join().await.unwrap();
    let snapshot = running.snapshot();
    snapshot.check().unwrap();
    let counts = &snapshot.stage("to_kafka").unwrap().counts;
    let told: Vec<(&str, Kind, u64)> = counts
        .destinations
        .iter()
        .map(|((topic, kind), count)| (&**topic, *kind, *count))
        .collect();
    let [first, second] = [topics[0].as_str(), topics[1].as_str()];
    assert_eq!(
        told,
        [
            (first, Kind::Delivered, 100),
            (second, Kind::Delivered, 190),
            (second, Kind::DeadLettered, 10),
        ]
    );
    #[cfg(feature = "metrics")]
    {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            forebay::observe::Metrics::of("orders").tell(&snapshot);
        });
        let page = recorder.handle().render();
        for (topic, outcome, count) in [
            (first, "delivered", 100),
            (second, "delivered", 190),
            (second, "dead_lettered", 10),
        ] {
            let line = format!(
                "forebay_destination_elements_total{{pipeline=\"orders\",stage=\"to_kafka\",\
                 destination=\"{topic}\",outcome=\"{outcome}\"}} {count}"
            );
            assert!(page.lines().any(|told| told == line), "{line}\n{page}");
        }
    }
}
