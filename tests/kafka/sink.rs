//! What is written, and when it counts as delivered.

use std::time::Duration;

use forebay::kafka::{Acks, Compression, ProducerRecord, ProducerSettings};
use forebay::outcome::Kind;
use forebay::source;
use rdkafka::message::{Headers, Message};

use crate::support::{connection, drain, read_all, run, topic, until};

#[tokio::test(flavor = "multi_thread")]
async fn every_record_is_written_as_it_was_given_and_then_delivered() {
    let topic = topic("written", 2).await;
    let to = topic.clone();
    let settings = ProducerSettings::new(connection())
        .compression(Compression::Lz4)
        .linger(Duration::from_millis(2));
    let pipeline = source::iter(0..500_i64)
        .map(move |number| {
            let record = ProducerRecord::to(to.as_str())
                .partition((number % 2) as i32)
                .timestamp(1_000_000 + number)
                .header("number", number.to_string())
                .key(format!("key {number}"));
            match number % 5 {
                0 => record,
                _ => record.value(format!("value {number}")),
            }
        })
        .to_kafka(settings);
    let mut running = pipeline.run().unwrap();
    running.join().await.unwrap();
    let snapshot = running.snapshot();
    snapshot.check().unwrap();
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 500);
    let read = read_all(&topic, 2, 500);
    assert_eq!(read.len(), 500);
    for message in read {
        let number = message.offset() * 2 + i64::from(message.partition());
        assert_eq!(message.key().unwrap(), format!("key {number}").as_bytes());
        let value = (number % 5 != 0).then(|| format!("value {number}"));
        assert_eq!(message.payload(), value.as_deref().map(str::as_bytes));
        assert_eq!(message.timestamp().to_millis(), Some(1_000_000 + number));
        let header = message.headers().unwrap().get(0);
        assert_eq!(header.key, "number");
        assert_eq!(header.value.unwrap(), number.to_string().as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_goes_to_the_topic_for_that_with_its_reason() {
    let topic = topic("too-large", 1).await;
    let dead = format!("{topic}.dlq");
    crate::broker::create_topics(&crate::support::bootstrap(), &[(&dead, 1)]).await;
    let to = topic.clone();
    // The partition does not exist: the client says so at once or after it has asked the broker.
    let settings = ProducerSettings::new(connection()).dead_letters(".dlq");
    let mut running = run(source::iter(0..3)
        .map(move |number: i32| {
            let record = ProducerRecord::to(to.as_str())
                .key("k")
                .value(number.to_string());
            if number == 1 {
                record.partition(7)
            } else {
                record.partition(0)
            }
        })
        .to_kafka(settings));
    running.join().await.unwrap();
    let snapshot = running.snapshot();
    snapshot.check().unwrap();
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 2);
    assert_eq!(snapshot.total().outcome(Kind::DeadLettered), 1);
    let letters = read_all(&dead, 1, 1);
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].payload(), Some(&b"1"[..]));
    let headers = letters[0].headers().unwrap();
    let names: Vec<&str> = headers.iter().map(|header| header.key).collect();
    assert_eq!(
        names,
        [
            "original-topic",
            "original-partition",
            "error-class",
            "error-message",
            "error-timestamp"
        ]
    );
    assert_eq!(headers.get(0).value.unwrap(), topic.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_sees_every_report() {
    let topic = topic("drained", 1).await;
    let (offers, flow) = source::queue::<i32>(1000);
    let to = topic.clone();
    let settings = ProducerSettings::new(connection())
        .acknowledged_by(Acks::All)
        .linger(Duration::from_millis(200));
    let mut running = run(flow
        .map(move |number| ProducerRecord::to(to.as_str()).value(number.to_string()))
        .to_kafka(settings));
    for number in 0..300 {
        let _ = offers.offer(number).await;
    }
    until("the records to be taken", || {
        running.snapshot().total().entered == 300
    })
    .await;
    let snapshot = drain(&mut running).await;
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 300);
    assert_eq!(read_all(&topic, 1, 300).len(), 300);
}

/// The client holds records back for a while; the sink takes as many as were declared, by number and by bytes,
/// and no more.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_its_way_is_bounded_by_number_and_by_bytes() {
    for (items, bytes, most) in [(40, 1 << 20, 40), (10_000, 16 << 10, 16)] {
        let topic = topic("bounded", 1).await;
        let to = topic.clone();
        let settings = ProducerSettings::new(connection())
            .in_flight(items, bytes)
            .linger(Duration::from_millis(30));
        let mut running = run(source::iter(0..400)
            .map(move |_: i32| ProducerRecord::to(to.as_str()).value(vec![7; 1024]))
            .to_kafka(settings));
        let mut peak = 0;
        until("the end", || {
            let snapshot = running.snapshot();
            let held = snapshot.stage("to_kafka").unwrap().counts.held;
            assert!(held <= most, "{held} of {most}");
            peak = held.max(peak);
            snapshot.quiescent
        })
        .await;
        running.join().await.unwrap();
        assert!(peak > most / 2, "never more than {peak} of {most}");
        assert_eq!(running.snapshot().total().outcome(Kind::Delivered), 400);
        assert_eq!(read_all(&topic, 1, 400).len(), 400);
    }
}

/// Kafka's own hash of keys, as its clients in Java have it.
fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ key.len() as u32;
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let mut word = u32::from_le_bytes(word.try_into().unwrap()).wrapping_mul(M);
        word ^= word >> 24;
        hash = hash.wrapping_mul(M) ^ word.wrapping_mul(M);
    }
    let rest = words.remainder();
    for (at, byte) in rest.iter().enumerate().rev() {
        hash ^= u32::from(*byte) << (8 * at);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ hash >> 15) & 0x7fff_ffff
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_go_where_the_clients_in_java_send_them() {
    // Of the tests of Kafka's own clients.
    for (key, hash) in [
        ("21", -973_932_308_i32),
        ("foobar", -790_332_482),
        ("abc", 479_470_107),
    ] {
        assert_eq!(murmur2(key.as_bytes()), hash as u32 & 0x7fff_ffff, "{key}");
    }
    let topic = topic("hashed", 5).await;
    let to = topic.clone();
    let mut running = run(source::iter(0..200)
        .map(move |number: i32| ProducerRecord::to(to.as_str()).key(format!("key {number}")))
        .to_kafka(ProducerSettings::new(connection())));
    running.join().await.unwrap();
    let all = read_all(&topic, 5, 200);
    assert_eq!(all.len(), 200);
    for message in all {
        let expected = murmur2(message.key().unwrap()) % 5;
        assert_eq!(message.partition(), expected as i32);
    }
}
