//! A producer that knows about pressure, on a real broker: a bounded queue by class before it, a breaker that
//! learns of every send, failed ones tried again and then dead-lettered.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use forebay::class::Class;
use forebay::control::{
    BreakerHandle, BreakerSettings, BreakerState, PrioritySettings, Retry, WhenOpen,
};
use forebay::flow::DeadLetters;
use forebay::kafka::{
    Admin, DeadLetterTopic, Error, ProducerRecord, ProducerSettings, Publisher, Topic,
};
use forebay::operator::Calls;
use forebay::outcome::{Kind, Reason};
use forebay::runtime::Running;
use forebay::source::{self, Offered, Queue};
use forebay::time;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Headers, Message};

use crate::support::{bootstrap, connection, read_all, topic, until};

/// How large a batch may be for the broker to take it: 10 bytes hold none, and each write fails.
async fn allow_bytes(topic: &str, bytes: u32) {
    let admin: AdminClient<DefaultClientContext> =
        crate::broker::config(&bootstrap()).create().unwrap();
    let bytes = bytes.to_string();
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set("max.message.bytes", &bytes);
    let changed = admin.alter_configs([&change], &AdminOptions::new()).await;
    for result in changed.unwrap() {
        result.unwrap();
    }
    let admin = Admin::of(&connection()).unwrap();
    loop {
        let found = admin.describe(topic).await.unwrap();
        if found.settings["max.message.bytes"] == bytes {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

struct Producer {
    queue: Queue<u32>,
    running: Running<()>,
    breaker: BreakerHandle,
}

/// The producer of the row.
fn producer(topic: &str, linger: Duration) -> Producer {
    let quick = BreakerSettings::quick(Duration::from_secs(5));
    let settings = quick
        .open(Duration::from_millis(200), 2.0, Duration::from_secs(1))
        .when_open(WhenOpen::PauseDemand);
    let breaker = BreakerHandle::new(settings, time::now()).unwrap();
    let writes = ProducerSettings::reliable(connection())
        .linger(linger)
        .delivery_timeout(Duration::from_secs(5))
        .set("request.timeout.ms", 2000);
    let publisher = Publisher::open(&writes).unwrap();
    let letters = ProducerSettings::reliable(connection());
    let letters = DeadLetterTopic::open(&letters, format!("{topic}.dlq")).unwrap();
    let letters = DeadLetters::new(16, letters);
    let (queue, flow) = source::queue_by_class(PrioritySettings::a6()).unwrap();
    let queue = queue.behind(&breaker);
    let to = topic.to_owned();
    let running = flow
        .try_map_async(Calls::limit(8).breaker(&breaker), move |number: u32| {
            let record = ProducerRecord::to(to.as_str()).value(number.to_string());
            let publisher = publisher.clone();
            async move { publisher.publish(&record).await }
        })
        .retry(Retry::tries(3).backoff(Duration::from_millis(20), Duration::from_millis(100)))
        .encode(|number| Bytes::from(number.to_string()))
        .or_dead_letter(&letters)
        .ignore()
        .run()
        .unwrap();
    Producer {
        queue,
        running,
        breaker,
    }
}

fn class(number: u32) -> Class {
    [Class::HIGH, Class::MEDIUM, Class::LOW][(number % 3) as usize]
}

fn values(topic: &str, count: usize) -> Vec<u32> {
    let all = read_all(topic, 1, count);
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).unwrap().parse().unwrap();
    let mut numbers: Vec<u32> = all
        .iter()
        .map(|one| number(one.payload().unwrap()))
        .collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test(flavor = "multi_thread")]
async fn row_a6_failed_sends_open_the_breaker_and_are_dead_lettered_until_the_topic_is_back() {
    let topic = topic("row-a6", 1).await;
    let admin = Admin::of(&connection()).unwrap();
    let dead = format!("{topic}.dlq");
    let letters = Topic::named(&dead).partitions(1);
    admin.create(&letters).await.unwrap();
    let mut it = producer(&topic, Duration::from_millis(2));
    let counts = |running: &Running<()>, kind| running.snapshot().total().outcome(kind);
    for number in 0..30 {
        assert!(it.queue.try_offer_as(class(number), number).is_enqueued());
    }
    until("the first sends", || {
        counts(&it.running, Kind::Delivered) == 30
    })
    .await;

    // Nothing can be written: what is tried is dead-lettered, until the breaker has learned of it.
    allow_bytes(&topic, 10).await;
    let mut refused = None;
    let mut number = 30;
    while refused.is_none() {
        assert!(number < 5000, "the breaker never opened");
        match it.queue.try_offer_as(Class::HIGH, number) {
            Offered::Enqueued => number += 1,
            Offered::Dropped(Reason::BreakerOpen, value) => refused = Some(value),
            other => panic!("{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(refused, Some(number), "the value is handed back");
    until("a dead letter", || {
        counts(&it.running, Kind::DeadLettered) > 0
    })
    .await;

    // It is back: the breaker tries a few, and lets all through.
    allow_bytes(&topic, 1_000_000).await;
    let mut again = number;
    until("the breaker to close", || {
        again += 1;
        let _ = it.queue.try_offer_as(Class::HIGH, again);
        it.breaker.snapshot(time::now()).state == BreakerState::Closed
    })
    .await;
    again += 1;
    assert!(it.queue.try_offer_as(Class::HIGH, again).is_enqueued());
    it.queue.complete();
    it.running.join().await.unwrap();
    let snapshot = it.running.snapshot();
    snapshot.check().unwrap();
    let total = snapshot.total();
    let (delivered, given_up) = (
        total.outcome(Kind::Delivered),
        total.outcome(Kind::DeadLettered),
    );
    let refused = total.outcome(Kind::Shed);
    eprintln!("{delivered} delivered, {given_up} dead-lettered, {refused} refused");
    assert_eq!(delivered + given_up + refused, total.entered);
    // On the broker is what the account says, apart from what it took though it never said so.
    let (topic, count) = (topic.clone(), delivered as usize);
    let (written, letters) = tokio::task::spawn_blocking(move || {
        let written = values(&topic, count);
        (
            written,
            read_all(&format!("{topic}.dlq"), 1, given_up as usize),
        )
    })
    .await
    .unwrap();
    assert!(written.len() as u64 >= delivered && written.contains(&again));
    assert!((0..30).all(|number| written.contains(&number)));
    assert_eq!(letters.len() as u64, given_up);
    for letter in &letters {
        let headers = letter.headers().unwrap();
        let header = |name: &str| {
            let found = headers.iter().find(|header| header.key == name).unwrap();
            std::str::from_utf8(found.value.unwrap())
                .unwrap()
                .to_owned()
        };
        assert_eq!(header("tries"), "3");
        assert!(!header("error-message").is_empty());
        let number: u32 = std::str::from_utf8(letter.payload().unwrap())
            .unwrap()
            .parse()
            .unwrap();
        assert!((30..again).contains(&number));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_a6_when_a_thousand_wait_high_gets_in_medium_waits_and_low_is_refused() {
    let topic = topic("row-a6-full", 1).await;
    // Eight sends at once that take a tenth of a second each: the queue fills.
    let mut it = producer(&topic, Duration::from_millis(100));
    let mut answers: BTreeMap<(&str, String), u32> = BTreeMap::new();
    let mut count = |class: Class, answer: &Offered<u32>| {
        let answer = match answer {
            Offered::Enqueued => "enqueued".to_owned(),
            Offered::Dropped(why, _) => format!("{why:?}"),
            other => panic!("{other:?}"),
        };
        *answers.entry((class.name(), answer)).or_default() += 1;
    };
    for number in 0..1500 {
        count(Class::LOW, &it.queue.try_offer_as(Class::LOW, number));
    }
    for number in 1500..1700 {
        count(Class::HIGH, &it.queue.try_offer_as(Class::HIGH, number));
    }
    let started = std::time::Instant::now();
    // It takes the place of a LOW, as HIGH does.
    count(Class::MEDIUM, &it.queue.offer_as(Class::MEDIUM, 1700).await);
    assert!(started.elapsed() < Duration::from_secs(1));
    let of = |class: Class, answer: &str| {
        let key = (class.name(), answer.to_owned());
        answers.get(&key).copied().unwrap_or(0)
    };
    let room = of(Class::LOW, "enqueued");
    assert!((1000..1100).contains(&room), "{answers:?}");
    assert_eq!(of(Class::LOW, "NoRoom"), 1500 - room);
    assert_eq!(of(Class::HIGH, "enqueued"), 200);
    it.queue.complete();
    it.running.join().await.unwrap();
    let snapshot = it.running.snapshot();
    snapshot.check().unwrap();
    let total = snapshot.total();
    assert_eq!(total.entered, 1701, "refused offers count too");
    let queue = snapshot.stage("queue").unwrap();
    let evicted = queue.counts.reason(Reason::Evicted);
    assert!((150..=201).contains(&evicted), "{evicted}");
    assert_eq!(queue.counts.reason(Reason::NoRoom), u64::from(1500 - room));
    let delivered = total.outcome(Kind::Delivered);
    assert_eq!(delivered + total.outcome(Kind::Shed), 1701);
    let written = tokio::task::spawn_blocking(move || values(&topic, delivered as usize))
        .await
        .unwrap();
    assert_eq!(written.len() as u64, delivered);
    assert!(
        (1500..1701).all(|number| written.contains(&number)),
        "HIGH and MEDIUM are whole"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_names_the_topic_that_is_not_there() {
    topic("publishes", 1).await;
    // For how long the client believes that the topic is being made.
    let writes = ProducerSettings::new(connection()).set("topic.metadata.propagation.max.ms", 500);
    let publisher = Publisher::open(&writes).unwrap();
    let record = ProducerRecord::to("no-such-topic").value("x");
    let error = publisher.publish(&record).await.unwrap_err();
    assert!(
        matches!(&error, Error::UnknownTopic { topic } if topic == "no-such-topic"),
        "{error}"
    );
}
