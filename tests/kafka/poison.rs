//! Records that nobody can process: each is kept byte for byte, and its partition goes on.

use forebay::flow::DeadLetters;
use forebay::kafka::{
    self, DeadLetterAdmin, DeadLetterTopic, Letter, LetterFilter, ProducerRecord, ProducerSettings,
};
use forebay::outcome::Kind;
use forebay::source;
use forebay::topology::Guarantee;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

use crate::support::{bootstrap, committed, connection, drain, member, run, topic, until};

/// What came in the framing of schema registries: a zero, the number of the schema, the value.
#[derive(Debug, thiserror::Error)]
enum Undecodable {
    #[error("{0} bytes are no frame")]
    Short(usize),
    #[error("the frame begins with {0:#04x}")]
    Magic(u8),
    #[error("nobody knows schema {0}")]
    UnknownSchema(u32),
    #[error("it says it has {says} bytes, and has {has}")]
    Length { says: u64, has: usize },
}

/// Schema 1 is a text with its length before it.
fn decode(value: &[u8]) -> Result<String, Undecodable> {
    let (head, rest) = value
        .split_first_chunk::<5>()
        .ok_or(Undecodable::Short(value.len()))?;
    if head[0] != 0 {
        return Err(Undecodable::Magic(head[0]));
    }
    let schema = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    if schema != 1 {
        return Err(Undecodable::UnknownSchema(schema));
    }
    let (length, text) = rest
        .split_first_chunk::<8>()
        .ok_or(Undecodable::Short(value.len()))?;
    let says = u64::from_be_bytes(*length);
    if says != text.len() as u64 {
        let has = text.len();
        return Err(Undecodable::Length { says, has });
    }
    Ok(String::from_utf8_lossy(text).into_owned())
}

fn good(text: &str) -> Vec<u8> {
    let mut value = vec![0, 0, 0, 0, 1];
    value.extend((text.len() as u64).to_be_bytes());
    value.extend(text.as_bytes());
    value
}

/// A topic of letters that takes larger records than others.
async fn large_topic(name: &str) {
    let admin: AdminClient<DefaultClientContext> =
        crate::broker::config(&bootstrap()).create().unwrap();
    let topic =
        NewTopic::new(name, 1, TopicReplication::Fixed(1)).set("max.message.bytes", "2000000");
    let made = admin.create_topics(&[topic], &AdminOptions::new()).await;
    made.unwrap().remove(0).unwrap();
}

/// Puts a poison record among good ones, and gives back the letter it became.
async fn poisoned(name: &str, poison: Vec<u8>) -> Letter {
    let topic = topic(name, 1).await;
    let dead = format!("{topic}.DLQ");
    large_topic(&dead).await;
    let mut values: Vec<Vec<u8>> = (0..20).map(|number| good(&number.to_string())).collect();
    values.insert(10, poison);
    let to = topic.clone();
    let writes = ProducerSettings::new(connection()).set("message.max.bytes", 2_000_000);
    let wrote = source::iter(values)
        .map(move |value| {
            let record = ProducerRecord::to(to.as_str())
                .key(&b"k\xff"[..])
                .value(value);
            record.header("traceparent", "00-ab-cd-01").partition(0)
        })
        .to_kafka(writes)
        .run()
        .unwrap()
        .join()
        .await;
    wrote.unwrap();

    let kept = DeadLetterTopic::beside(&ProducerSettings::new(connection()), ".DLQ").unwrap();
    let letters = DeadLetters::new(16, kept);
    let (_handle, flow) = kafka::source(member(name, &topic));
    let mut running = run(flow
        .try_map(|record| decode(record.value().unwrap_or_default()))
        .or_dead_letter(&letters)
        .for_each(drop)
        .guarantee(Guarantee::AtLeastOnce));
    until("all to be settled", || committed(name, &topic, 1) == [21]).await;
    let snapshot = drain(&mut running).await;
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 20);
    assert_eq!(snapshot.total().outcome(Kind::DeadLettered), 1);
    let mut found = Vec::new();
    let count = tokio::task::spawn_blocking(move || {
        let admin = DeadLetterAdmin::new(connection(), dead.as_str());
        let all = admin.list(&LetterFilter::new(), |letter| found.push(letter.clone()));
        (all.unwrap(), found)
    });
    let (count, mut found) = count.await.unwrap();
    assert_eq!(count, 1);
    let letter = found.remove(0);
    let told = &letter.provenance;
    assert_eq!(told.topic.as_deref(), Some(topic.as_str()));
    assert_eq!((told.partition, told.offset), (Some(0), Some(10)));
    assert_eq!(told.tries, Some(1));
    assert!(told.timestamp_ms.is_some() && told.error_timestamp_ms >= told.timestamp_ms);
    let class = told.error_class.as_deref().unwrap();
    assert!(class.ends_with("Undecodable"), "{class}");
    assert_eq!(letter.key.as_deref(), Some(&b"k\xff"[..]));
    let trace = (&b"traceparent"[..], Some(&b"00-ab-cd-01"[..]));
    let own = letter.headers.iter();
    let own: Vec<_> = own.map(|(n, v)| (&n[..], v.as_deref())).collect();
    assert_eq!(own, [trace]);
    letter
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_bad_bytes_are_kept_exactly_and_the_partition_moves_on() {
    let poison = b"\xff\xfe\x00\xc3\x28\r\n".to_vec();
    let letter = poisoned("bad-bytes", poison.clone()).await;
    assert_eq!(letter.value.as_deref(), Some(&poison[..]));
    let message = letter.provenance.error_message.unwrap();
    assert_eq!(message, "the frame begins with 0xff");
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_an_absurd_length_is_kept_exactly_and_the_partition_moves_on() {
    let mut poison = good("");
    poison[5..13].copy_from_slice(&u64::MAX.to_be_bytes());
    let letter = poisoned("absurd-length", poison.clone()).await;
    assert_eq!(letter.value.as_deref(), Some(&poison[..]));
    let message = letter.provenance.error_message.unwrap();
    assert!(message.contains("18446744073709551615"), "{message}");
}

/// As long as a broker takes it by default, and longer than the client writes by default.
#[tokio::test(flavor = "multi_thread")]
async fn poison_a_record_of_the_greatest_length_is_kept_exactly_and_the_partition_moves_on() {
    let poison: Vec<u8> = (0..1_048_000_u32)
        .map(|byte| (byte % 251) as u8 + 1)
        .collect();
    let letter = poisoned("greatest-length", poison.clone()).await;
    assert!(letter.value.as_deref() == Some(&poison[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_an_unknown_schema_is_kept_exactly_and_the_partition_moves_on() {
    let mut poison = good("text");
    poison[1..5].copy_from_slice(&4_000_000_000_u32.to_be_bytes());
    let letter = poisoned("unknown-schema", poison.clone()).await;
    assert_eq!(letter.value.as_deref(), Some(&poison[..]));
    let message = letter.provenance.error_message.unwrap();
    assert_eq!(message, "nobody knows schema 4000000000");
}

/// A header's name is text by the protocol, but brokers take any bytes.
#[tokio::test(flavor = "multi_thread")]
async fn poison_a_header_whose_name_is_no_text_is_kept_exactly() {
    let topic = topic("header-names", 1).await;
    let dead = format!("{topic}.DLQ");
    large_topic(&dead).await;
    // Made as another client could: a record that is read, and a copy of it with another name.
    let raw = ProducerRecord::to(topic.as_str())
        .value("v")
        .header_bytes(&b"\xff\xfe"[..], Some(&b"\x00\x01"[..]))
        .header_bytes(&b""[..], None::<&[u8]>)
        .header_bytes(&b"\xff\xfe"[..], Some(&b""[..]));
    let writes = ProducerSettings::new(connection());
    let wrote = source::iter([raw]).to_kafka(writes.clone()).run();
    wrote.unwrap().join().await.unwrap();
    let letters = DeadLetters::new(16, DeadLetterTopic::beside(&writes, ".DLQ").unwrap());
    let (_handle, flow) = kafka::source(member("header-names", &topic));
    let mut running = run(flow
        .try_map(|_| Err::<(), _>("no"))
        .or_dead_letter(&letters)
        .for_each(drop));
    until("it to be settled", || {
        committed("header-names", &topic, 1) == [1]
    })
    .await;
    drain(&mut running).await;
    let letter = tokio::task::spawn_blocking(move || {
        DeadLetterAdmin::new(connection(), dead).show(0, 0).unwrap()
    });
    let letter = letter.await.unwrap().unwrap();
    let own: Vec<_> = letter
        .headers
        .iter()
        .map(|(n, v)| (&n[..], v.as_deref()))
        .collect();
    assert_eq!(
        own,
        [
            (&b"\xff\xfe"[..], Some(&b"\x00\x01"[..])),
            (b"", None),
            (b"\xff\xfe", Some(b"")),
        ]
    );
    assert_eq!(letter.provenance.tries, Some(1));
}
