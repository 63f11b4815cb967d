//! What cannot be processed is kept as it was, and its partition goes on.

use std::time::Duration;

use forebay::flow::DeadLetters;
use forebay::kafka::{self, DeadLetterTopic, ProducerSettings};
use forebay::outcome::Kind;
use forebay::topology::Guarantee;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseRecord, Producer};

use crate::broker::create_topics;
use crate::support::{
    bootstrap, committed, connection, drain, member, producer, read_all, run, topic, until,
};

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoOrder(&'static str);

fn header<'a>(message: &'a OwnedMessage, name: &str) -> Option<&'a [u8]> {
    let headers = message.headers()?;
    let found = headers.iter().find(|header| header.key == name)?;
    found.value
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_record_is_kept_byte_for_byte_and_its_partition_moves_on() {
    let topic = topic("poison", 1).await;
    let dead = format!("{topic}.DLQ");
    create_topics(&bootstrap(), &[(&dead, 1)]).await;
    let writes = producer();
    let good = |number: i64| {
        let text = number.to_string();
        let record = BaseRecord::to(&topic).key("k").payload(&text);
        writes.send(record).map_err(|(error, _)| error).unwrap();
    };
    (0..10).for_each(good);
    // Bytes that are no text, a header without a value, and one twice.
    let headers = OwnedHeaders::new()
        .insert(Header {
            key: "schema",
            value: Some(&b"\xff\x00unknown"[..]),
        })
        .insert(Header {
            key: "null",
            value: None::<&[u8]>,
        })
        .insert(Header {
            key: "schema",
            value: Some(&b"again"[..]),
        });
    let record = BaseRecord::to(&topic)
        .key(&b"\x00\xfe"[..])
        .payload(&b"\xc3\x28"[..]);
    let record = record.headers(headers).timestamp(1_234_567);
    writes.send(record).map_err(|(error, _)| error).unwrap();
    // A tombstone, and a value of no bytes.
    let record = BaseRecord::<_, [u8]>::to(&topic).key("tombstone");
    writes.send(record).map_err(|(error, _)| error).unwrap();
    let record = BaseRecord::<[u8], _>::to(&topic).payload("");
    writes.send(record).map_err(|(error, _)| error).unwrap();
    (10..20).for_each(good);
    writes.flush(Duration::from_secs(10)).unwrap();

    let kept = DeadLetterTopic::beside(&ProducerSettings::new(connection()), ".DLQ").unwrap();
    let letters = DeadLetters::new(16, kept);
    let (_handle, flow) = kafka::source(member("poison", &topic));
    let mut running = run(flow
        .try_map(|record| {
            let value = record.value().ok_or(NoOrder("a tombstone"))?;
            let text = std::str::from_utf8(value).map_err(|_| NoOrder("not text"))?;
            text.parse::<u64>().map_err(|_| NoOrder("not a number"))
        })
        .or_dead_letter(&letters)
        .for_each(drop)
        .guarantee(Guarantee::AtLeastOnce));
    until("all to be settled", || {
        committed("poison", &topic, 1) == [23]
    })
    .await;
    let snapshot = drain(&mut running).await;
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 20);
    assert_eq!(snapshot.total().outcome(Kind::DeadLettered), 3);

    let kept = read_all(&dead, 1, 3);
    let [poison, tombstone, empty] = &kept[..] else {
        panic!("{} letters", kept.len());
    };
    assert_eq!(poison.key(), Some(&b"\x00\xfe"[..]));
    assert_eq!(poison.payload(), Some(&b"\xc3\x28"[..]));
    let headers: Vec<_> = poison.headers().unwrap().iter().collect();
    let own: Vec<_> = headers[..3].iter().map(|h| (h.key, h.value)).collect();
    assert_eq!(
        own,
        [
            ("schema", Some(&b"\xff\x00unknown"[..])),
            ("null", None),
            ("schema", Some(&b"again"[..])),
        ]
    );
    for (name, value) in [
        ("original-topic", topic.as_str()),
        ("original-partition", "0"),
        ("original-offset", "10"),
        ("original-timestamp", "1234567"),
        ("error-message", "not text"),
        ("error-reason", "error"),
        ("tries", "1"),
        ("stage", "try_map"),
    ] {
        assert_eq!(header(poison, name), Some(value.as_bytes()), "{name}");
    }
    let class = header(poison, "error-class").unwrap();
    assert!(class.ends_with(b"NoOrder"), "{class:?}");
    assert_eq!(
        (tombstone.key(), tombstone.payload()),
        (Some(&b"tombstone"[..]), None)
    );
    assert_eq!((empty.key(), empty.payload()), (None, Some(&b""[..])));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_position_does_not_pass_a_letter_that_could_not_be_kept() {
    let topic = topic("unkept", 1).await;
    crate::support::write(&topic, 1, 0..10);
    // There is no such topic, and the broker makes none.
    let writes = ProducerSettings::new(connection())
        .delivery_timeout(Duration::from_secs(2))
        .set("topic.metadata.propagation.max.ms", 500);
    let letters = DeadLetters::new(
        16,
        DeadLetterTopic::open(&writes, "no-such-letters").unwrap(),
    );
    let (_handle, flow) = kafka::source(member("unkept", &topic));
    let mut running = run(flow
        .try_map(|record| match record.offset() {
            4 => Err(NoOrder("poison")),
            _ => Ok(()),
        })
        .or_dead_letter(&letters)
        .for_each(drop));
    let error = running.join().await.unwrap_err().to_string();
    assert!(error.contains("unkept") && error.contains("@4"), "{error}");
    assert_eq!(committed("unkept", &topic, 1), [4]);
}
