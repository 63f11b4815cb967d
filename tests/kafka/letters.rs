//! Letters are listed, replayed and discarded, and what a filter does not name stays as it is.

use std::time::{Duration, Instant};

use forebay::flow::DeadLetters;
use forebay::kafka::{
    self, DeadLetterAdmin, DeadLetterTopic, Error, Letter, LetterFilter, LetterState,
    ProducerSettings, Replay, States,
};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};

use rdkafka::{Offset, TopicPartitionList};

use crate::broker::create_topics;
use crate::support::{
    bootstrap, committed, connection, drain, member, producer, read_all, run, topic, until,
};

#[derive(Debug, thiserror::Error)]
#[error("{0} is odd")]
struct Odd(u64);

#[derive(Debug, thiserror::Error)]
#[error("{0} is large")]
struct Large(u64);

/// A topic of two partitions with `count` records, and the letters of those that are odd, or large.
async fn letters_of(name: &str, count: u64) -> String {
    let topic = topic(name, 2).await;
    let dead = format!("{topic}.DLQ");
    create_topics(&bootstrap(), &[(&dead, 2)]).await;
    let writes = producer();
    for number in 0..count {
        let text = number.to_string();
        let headers = OwnedHeaders::new()
            .insert(Header {
                key: "traceparent",
                value: Some(text.as_str()),
            })
            .insert(Header {
                key: "null",
                value: None::<&str>,
            });
        // Where no partitioner would put them.
        let record = BaseRecord::to(&topic)
            .partition(i32::from(number >= count / 2))
            .key(&text)
            .payload(&text)
            .timestamp(1_000_000 + number as i64)
            .headers(headers);
        writes.send(record).map_err(|(error, _)| error).unwrap();
    }
    writes.flush(Duration::from_secs(20)).unwrap();
    let kept = DeadLetterTopic::beside(&ProducerSettings::new(connection()), ".DLQ").unwrap();
    let letters = DeadLetters::new(16, kept);
    let (_handle, flow) = kafka::source(member(name, &topic));
    let mut running = run(flow
        .try_map(|record| {
            let number = crate::support::number(record);
            if number.is_multiple_of(2) {
                Ok(number)
            } else {
                Err(Odd(number))
            }
        })
        .encode(|record| record.value_bytes().unwrap_or_default())
        .or_dead_letter(&letters)
        .try_map(move |number| {
            if *number + 10 < count {
                Ok(())
            } else {
                Err(Large(*number))
            }
        })
        .or_dead_letter(&letters)
        .for_each(drop));
    until("all to be settled", || {
        committed(name, &topic, 2).iter().sum::<i64>() == count as i64
    })
    .await;
    drain(&mut running).await;
    topic
}

fn admin(topic: &str) -> DeadLetterAdmin {
    DeadLetterAdmin::new(connection(), format!("{topic}.DLQ"))
}

/// What blocks, on a thread that may.
async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    tokio::task::spawn_blocking(work).await.unwrap()
}

fn list(topic: &str, filter: &LetterFilter) -> Vec<Letter> {
    let mut found = Vec::new();
    let count = admin(topic).list(filter, |letter| found.push(letter.clone()));
    assert_eq!(count.unwrap(), found.len() as u64);
    found
}

fn numbers(letters: &[Letter]) -> Vec<u64> {
    let value = |letter: &Letter| {
        let value = letter.value.clone().unwrap();
        std::str::from_utf8(&value).unwrap().parse().unwrap()
    };
    let mut numbers: Vec<u64> = letters.iter().map(value).collect();
    numbers.sort_unstable();
    numbers
}

fn odds(numbers: std::ops::Range<u64>) -> Vec<u64> {
    numbers.filter(|number| number % 2 == 1).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_found_by_what_they_say_of_themselves() {
    let topic = letters_of("found", 100).await;
    blocking(move || {
        let new = LetterFilter::new;
        let all = list(&topic, &new());
        let mut expected = odds(0..100);
        expected.extend([90, 92, 94, 96, 98]);
        expected.sort_unstable();
        assert_eq!(numbers(&all), expected);
        assert!(
            all.iter()
                .all(|letter| letter.state == LetterState::Pending)
        );
        assert!(all.is_sorted_by_key(|letter| (letter.partition, letter.offset)));
        let larges = list(&topic, &new().error_class("Large"));
        assert_eq!(numbers(&larges), [90, 92, 94, 96, 98]);
        let message = larges[0].provenance.error_message.as_deref().unwrap();
        assert!(message.ends_with("is large"), "{message}");
        let first = list(
            &topic,
            &new().original_topic(topic.as_str()).original_partition(0),
        );
        assert_eq!(numbers(&first), odds(0..50));
        let some = new().original_partition(1).original_offsets(1..=5);
        assert_eq!(numbers(&list(&topic, &some)), [51, 53, 55]);
        assert_eq!(numbers(&list(&topic, &new().key("77"))), [77]);
        let put_aside = all.iter().filter_map(Letter::put_aside_ms);
        let (from, to) = put_aside.fold((i64::MAX, 0), |(from, to), at| (from.min(at), to.max(at)));
        assert_eq!(
            list(&topic, &new().since_ms(from).until_ms(to + 1)).len(),
            55
        );
        assert_eq!(list(&topic, &new().until_ms(from)).len(), 0);
        assert_eq!(list(&topic, &new().states(States::Replayed)).len(), 0);
        let one = &all[7];
        let at = new()
            .partition(one.partition)
            .offsets(one.offset..=one.offset);
        assert_eq!(list(&topic, &at), std::slice::from_ref(one));
        let shown = admin(&topic).show(one.partition, one.offset).unwrap();
        assert_eq!(shown.as_ref(), Some(one));
        assert_eq!(admin(&topic).show(0, 1_000_000).unwrap(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_writes_each_record_as_it_was_and_a_second_repeats_nothing() {
    let topic = letters_of("replayed", 60).await;
    blocking(move || {
        let before = read_all(&topic, 2, 60).len();
        assert_eq!(before, 60);
        let odd = LetterFilter::new().error_class("Odd");
        let dry = admin(&topic)
            .replay(&odd, &Replay::new().dry_run())
            .unwrap();
        assert_eq!(dry.letters, 30);
        let done = admin(&topic).replay(&odd, &Replay::new()).unwrap();
        assert_eq!(done, dry, "a dry run says what will be done");
        assert_eq!(done.topics[&topic], 30);
        for _ in 0..2 {
            let again = admin(&topic).replay(&odd, &Replay::new()).unwrap();
            assert_eq!(again.letters, 0);
        }
        // One that comes later is replayed alone. What was not named is there yet.
        let left = list(&topic, &LetterFilter::new());
        assert_eq!(numbers(&left), [50, 52, 54, 56, 58]);
        let replayed = list(&topic, &LetterFilter::new().states(States::Replayed));
        assert_eq!(numbers(&replayed), odds(0..60));
        let to = |letter: &Letter| match &letter.state {
            LetterState::Replayed { to, .. } => to.clone(),
            state => panic!("{state:?}"),
        };
        assert!(replayed.iter().all(|letter| to(letter) == topic));

        let all = read_all(&topic, 2, 90);
        assert_eq!(all.len(), 90);
        let is_first = |message: &rdkafka::message::OwnedMessage| message.offset() < 30;
        for copy in all.iter().filter(|message| !is_first(message)) {
            let first = all
                .iter()
                .find(|first| is_first(first) && first.payload() == copy.payload())
                .unwrap();
            assert_eq!(copy.partition(), first.partition());
            assert_eq!(copy.key(), first.key());
            assert_eq!(copy.timestamp(), first.timestamp());
            let headers =
                |message: &rdkafka::message::OwnedMessage| -> Vec<(String, Option<Vec<u8>>)> {
                    let headers = message.headers().unwrap().iter();
                    headers
                        .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
                        .collect()
                };
            assert_eq!(headers(copy), headers(first));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_elsewhere_may_keep_what_is_said_of_it() {
    let topic = letters_of("elsewhere", 20).await;
    let other = crate::support::topic("elsewhere-to", 1).await;
    blocking(move || {
        let replay = Replay::new()
            .to(other.as_str())
            .keep_provenance()
            .stamp_now();
        let filter = LetterFilter::new().key("7");
        let done = admin(&topic).replay(&filter, &replay).unwrap();
        assert_eq!((done.letters, done.topics[&other]), (1, 1));
        let copies = read_all(&other, 1, 1);
        assert_eq!(copies.len(), 1);
        let headers = copies[0].headers().unwrap();
        let names: Vec<&str> = headers.iter().map(|header| header.key).collect();
        assert_eq!(names[..3], ["traceparent", "null", "original-topic"]);
        assert!(copies[0].timestamp().to_millis().unwrap() > 1_000_000_000);
        let nowhere = Replay::new().to("no-such-topic");
        let error = admin(&topic).replay(&LetterFilter::new(), &nowhere);
        assert!(
            matches!(error, Err(Error::UnknownTopic { .. })),
            "{error:?}"
        );
        assert_eq!(list(&topic, &LetterFilter::new()).len(), 14);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discard_touches_what_its_filter_names_and_can_be_taken_back() {
    let topic = letters_of("discarded", 40).await;
    blocking(move || {
        let some = LetterFilter::new().original_partition(0);
        let dry = admin(&topic).discard(&some, true).unwrap();
        assert_eq!(list(&topic, &LetterFilter::new()).len(), 25);
        let done = admin(&topic).discard(&some, false).unwrap();
        assert_eq!((done.letters, dry.letters), (10, 10));
        let pending = list(&topic, &LetterFilter::new());
        let mut expected = odds(20..40);
        expected.extend([30, 32, 34, 36, 38]);
        expected.sort_unstable();
        assert_eq!(numbers(&pending), expected);
        // A replay of all leaves out what was given up.
        let all = admin(&topic)
            .replay(&LetterFilter::new(), &Replay::new())
            .unwrap();
        assert_eq!(all.letters, 15);
        // It is there all the same.
        let given_up = LetterFilter::new().states(States::Discarded);
        assert_eq!(numbers(&list(&topic, &given_up)), odds(0..20));
        let back = admin(&topic)
            .replay(&given_up.clone().key("5"), &Replay::new())
            .unwrap();
        assert_eq!(back.letters, 1);
        assert_eq!(list(&topic, &given_up).len(), 9);
        assert_eq!(read_all(&topic, 2, 56).len(), 56);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_discarded_is_seen_at_once() {
    let topic = letters_of("at-once-seen", 40).await;
    blocking(move || {
        for number in odds(0..40) {
            let one = LetterFilter::new().key(number.to_string());
            assert_eq!(admin(&topic).discard(&one, false).unwrap().letters, 1);
            assert_eq!(list(&topic, &one), [], "{number}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_replay_at_once_write_each_letter_once() {
    let topic = letters_of("at-once", 2400).await;
    let replay = |topic: String| {
        blocking(move || admin(&topic).replay(&LetterFilter::new(), &Replay::new()))
    };
    let (one, other) = tokio::join!(replay(topic.clone()), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        replay(topic.clone()).await
    });
    // Whoever was fenced says so; its letters are either written and marked, or neither.
    for result in [&one, &other] {
        if let Err(error) = result {
            assert!(matches!(error, Error::Fenced(_)), "{error:?}");
        }
    }
    assert!(one.is_ok() || other.is_ok());
    blocking(move || {
        admin(&topic)
            .replay(&LetterFilter::new(), &Replay::new())
            .unwrap();
        assert_eq!(list(&topic, &LetterFilter::new()).len(), 0);
        // Committed alone: what was undone is in the log, and nobody reads it.
        let mut copies = std::collections::BTreeMap::new();
        let started = Instant::now();
        let counted = DeadLetterAdmin::new(connection(), topic.as_str());
        counted
            .list(&LetterFilter::new(), |record| {
                *copies.entry(record.key.clone()).or_insert(0) += 1;
            })
            .unwrap();
        assert!(started.elapsed() < Duration::from_secs(30));
        let repeated = copies.values().filter(|count| **count == 2).count();
        assert_eq!((copies.len(), repeated), (2400, 1205));
        assert!(copies.values().all(|count| *count <= 2));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn marks_go_with_the_letters_that_their_topic_forgets() {
    let topic = letters_of("forgotten", 40).await;
    let of = topic.clone();
    blocking(move || {
        let all = LetterFilter::new();
        assert_eq!(admin(&of).discard(&all, false).unwrap().letters, 25);
    })
    .await;
    // As retention does.
    let clean: AdminClient<DefaultClientContext> =
        crate::broker::config(&bootstrap()).create().unwrap();
    let mut offsets = TopicPartitionList::new();
    let dead = format!("{topic}.DLQ");
    offsets
        .add_partition_offset(&dead, 0, Offset::Offset(5))
        .unwrap();
    let deleted = clean.delete_records(&offsets, &AdminOptions::new()).await;
    deleted.unwrap();
    blocking(move || {
        let any = LetterFilter::new().states(States::Any);
        assert_eq!(list(&topic, &any).len(), 20);
        let marks = DeadLetterAdmin::new(connection(), format!("{dead}.marks"));
        let read = || {
            let mut last = std::collections::BTreeMap::new();
            let mark = |mark: &Letter| drop(last.insert(mark.key.clone(), mark.value.clone()));
            marks.list(&any, mark).unwrap();
            last.values().filter(|value| value.is_some()).count()
        };
        assert_eq!(read(), 25);
        let done = admin(&topic).discard(&LetterFilter::new(), false).unwrap();
        assert_eq!((done.letters, read()), (0, 20));
        assert_eq!(list(&topic, &LetterFilter::new()).len(), 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_is_named() {
    topic("there", 1).await;
    blocking(|| {
        let admin = DeadLetterAdmin::new(connection(), "no-such.DLQ");
        let listed = admin.list(&LetterFilter::new(), |_| {});
        assert!(
            matches!(listed, Err(Error::UnknownTopic { .. })),
            "{listed:?}"
        );
        let discarded = admin.discard(&LetterFilter::new(), false);
        assert!(
            matches!(discarded, Err(Error::UnknownTopic { .. })),
            "{discarded:?}"
        );
    })
    .await;
}
