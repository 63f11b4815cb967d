//! Records that cannot be processed now come back later, and are given up after the last time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use forebay::flow::OnError;
use forebay::kafka::{
    self, ConsumerHandle, DeadLetterAdmin, GivenUp, Letter, LetterFilter, ProducerSettings, Record,
    RetryCounts, RetryTopics, States,
};
use forebay::operator::Concurrency;
use forebay::outcome::{Kind, Reason};
use forebay::runtime::Running;
use forebay::topology::Guarantee;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};

use crate::broker::create_topics;
use crate::support::{
    bootstrap, committed, connection, drain, member, number, producer, run, topic, until, write,
};

#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Failed {
    #[error("busy: try again")]
    Busy,
    #[error("no such thing")]
    Wrong,
}

/// When each number was tried.
#[derive(Clone, Default)]
struct Tries(Arc<Mutex<BTreeMap<u64, Vec<Instant>>>>);

impl Tries {
    fn note(&self, number: u64) -> usize {
        let mut tries = self.0.lock().unwrap();
        let own = tries.entry(number).or_default();
        own.push(Instant::now());
        own.len()
    }

    fn of(&self, number: u64) -> Vec<Instant> {
        let tries = self.0.lock().unwrap();
        tries.get(&number).cloned().unwrap_or_default()
    }
}

async fn with_retries(name: &str, partitions: i32, delays: &[Duration]) -> (String, RetryTopics) {
    let topic = topic(name, partitions).await;
    let retries = RetryTopics::new(ProducerSettings::new(connection()).linger(Duration::ZERO))
        .delays(delays.to_vec());
    let mut others = retries.topics_of(&topic);
    others.push(format!("{topic}.DLQ"));
    let others: Vec<(&str, i32)> = others
        .iter()
        .map(|name| (name.as_str(), partitions))
        .collect();
    create_topics(&bootstrap(), &others).await;
    (topic, retries)
}

async fn all_of(topic: String) -> Vec<Letter> {
    let read = move || {
        let mut found = Vec::new();
        let admin = DeadLetterAdmin::new(connection(), topic.as_str());
        let any = LetterFilter::new().states(States::Any);
        admin
            .list(&any, |letter| found.push(letter.clone()))
            .unwrap();
        found
    };
    tokio::task::spawn_blocking(read).await.unwrap()
}

fn written_with_trace(topic: &str, partitions: u64, count: u64) {
    let writes = producer();
    for number in 0..count {
        let text = number.to_string();
        let headers = OwnedHeaders::new()
            .insert(Header {
                key: "traceparent",
                value: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            })
            .insert(Header {
                key: "event-type",
                value: Some(&format!("ORDER_{number}")),
            });
        let record = BaseRecord::to(topic)
            .partition((number % partitions) as i32)
            .key(&text)
            .payload(&text)
            .timestamp(5_000_000 + number as i64)
            .headers(headers);
        writes.send(record).map_err(|(error, _)| error).unwrap();
    }
    writes.flush(Duration::from_secs(20)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn row_b2_what_fails_is_tried_again_with_a_count_up_to_a_maximum_then_dead_lettered_with_an_alert()
 {
    let delays = [Duration::from_millis(1500), Duration::from_millis(3000)];
    let (topic, retries) = with_retries("row-b2", 2, &delays).await;
    let alerts = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&alerts);
    let retries = retries.on_dead_letter(move |gone: &GivenUp| {
        hears.lock().unwrap().push(gone.clone());
    });
    assert_eq!(
        retries.topics_of(&topic),
        [format!("{topic}.retry-1"), format!("{topic}.retry-2")]
    );
    written_with_trace(&topic, 2, 100);
    let tries = Tries::default();
    let notes = tries.clone();
    let (_handle, flow) = kafka::source(retries.reads(member("row-b2", &topic)));
    let mut running = run(flow
        .try_map_async(16, move |record| {
            let number = number(&record);
            let tried = notes.note(number);
            async move {
                match number {
                    // Good at the second time, at the third, and never.
                    10 if tried < 2 => Err(Failed::Busy),
                    20 if tried < 3 => Err(Failed::Busy),
                    30 => Err(Failed::Busy),
                    40 => Err(Failed::Wrong),
                    _ => Ok(()),
                }
            }
        })
        .dead_letters(&retries.letters(64).unwrap())
        .on_error(|error, _| match error {
            Failed::Busy => OnError::Later,
            Failed::Wrong => OnError::DeadLetter,
        })
        .for_each(drop)
        .guarantee(Guarantee::AtLeastOnce));
    // Nobody waits for those that are to be tried again.
    until("the others", || {
        running.snapshot().total().outcome(Kind::Delivered) >= 96
    })
    .await;
    assert!(
        tries.of(30).len() < 3,
        "the others waited for one that failed"
    );
    until("the last to be given up", || {
        alerts.lock().unwrap().len() == 2
    })
    .await;
    until("all positions", || {
        let last = |topic: &str| committed("row-b2", topic, 2).iter().sum::<i64>();
        last(&topic) == 100
            && last(&format!("{topic}.retry-1")) == 3
            && last(&format!("{topic}.retry-2")) == 2
    })
    .await;
    let snapshot = drain(&mut running).await;
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 98);
    let sink = snapshot.stage("retry_topics").unwrap();
    assert_eq!(sink.counts.alerts, 2);
    assert_eq!(sink.counts.reason(Reason::RetryLater), 5);
    assert_eq!(sink.counts.reason(Reason::RetriesExhausted), 1);
    let expected = RetryCounts {
        later: 5,
        behind: 0,
        exhausted: 1,
        dead: 1,
    };
    assert_eq!(retries.counts(), expected);

    for (number, times) in [(10, 2), (20, 3), (30, 3), (40, 1), (50, 1)] {
        let of = tries.of(number);
        assert_eq!(of.len(), times, "{number}");
        for (pair, delay) in of.windows(2).zip(delays) {
            // To the millisecond that times in headers have.
            let waited = pair[1] - pair[0] + Duration::from_millis(2);
            assert!(waited >= delay, "{number} came back after {waited:?}");
        }
    }
    let gone = alerts.lock().unwrap().clone();
    let of = |number: u64| format!("{topic}-{}@{}", number % 2, number / 2);
    let last = gone.iter().find(|gone| gone.record == of(30)).unwrap();
    assert_eq!((last.tries, last.retries), (3, 2));
    assert_eq!(last.error, "busy: try again");
    assert!(
        gone.iter()
            .any(|gone| gone.record == of(40) && gone.retries == 0)
    );

    each_is_the_record_as_it_was(&topic).await;
}

/// In the retry topics and in the dead letters.
async fn each_is_the_record_as_it_was(topic: &str) {
    let mut put_aside = all_of(format!("{topic}.retry-1")).await;
    put_aside.extend(all_of(format!("{topic}.retry-2")).await);
    assert_eq!(put_aside.len(), 5);
    let dead = all_of(format!("{topic}.DLQ")).await;
    assert_eq!(dead.len(), 2);
    for letter in put_aside.iter().chain(&dead) {
        let text = String::from_utf8(letter.value.clone().unwrap().to_vec()).unwrap();
        let number: i64 = text.parse().unwrap();
        assert_eq!(letter.key, letter.value);
        let headers = letter.headers.iter();
        let headers: Vec<_> = headers
            .map(|(n, v)| (&n[..], v.as_deref().unwrap()))
            .collect();
        let event = format!("ORDER_{number}");
        assert_eq!(
            headers,
            [
                (
                    &b"traceparent"[..],
                    &b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"[..]
                ),
                (b"event-type", event.as_bytes()),
            ]
        );
        let told = &letter.provenance;
        assert_eq!(told.topic.as_deref(), Some(topic));
        assert_eq!(told.partition, Some((number % 2) as i32));
        assert_eq!(told.offset, Some(number / 2));
        assert_eq!(told.timestamp_ms, Some(5_000_000 + number));
        assert!(told.error_class.as_deref().unwrap().ends_with("Failed"));
    }
    let counts = |of: &[Letter], number: &'static str| -> Vec<_> {
        let own = of
            .iter()
            .filter(|letter| letter.key.as_deref() == Some(number.as_bytes()));
        own.map(|letter| (letter.provenance.retry_count, letter.provenance.tries))
            .collect()
    };
    assert_eq!(
        counts(&put_aside, "30"),
        [(Some(1), Some(1)), (Some(2), Some(2))]
    );
    assert_eq!(counts(&dead, "30"), [(Some(2), Some(3))]);
    assert_eq!(counts(&dead, "40"), [(None, Some(1))]);
    let exhausted = dead
        .iter()
        .find(|letter| letter.provenance.retry_count.is_some());
    let reason = exhausted.unwrap().provenance.error_reason.clone();
    assert_eq!(reason.as_deref(), Some("retries_exhausted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_due_holds_up_no_poll_and_no_other_partition() {
    let delay = Duration::from_secs(9);
    let (topic, retries) = with_retries("not-due", 2, &[delay]).await;
    write(&topic, 2, 0..10);
    let tries = Tries::default();
    let notes = tries.clone();
    // Longer than a consumer may stay away.
    let reads = retries.reads(member("not-due", &topic).set("max.poll.interval.ms", 6000));
    let (handle, flow) = kafka::source(reads);
    let mut running = run(flow
        .try_map_async(4, move |record| {
            let number = number(&record);
            let tried = notes.note(number);
            async move {
                if number < 2 && tried == 1 {
                    return Err("busy");
                }
                Ok(())
            }
        })
        .dead_letters(&retries.letters(64).unwrap())
        .on_error(|_, _| OnError::Later)
        .for_each(drop));
    until("two to be put aside", || retries.counts().later == 2).await;
    let assigned = handle.assignment();
    assert_eq!(assigned.len(), 4);
    let started = Instant::now();
    let mut written = 10;
    while started.elapsed() < Duration::from_secs(7) {
        write(&topic, 2, written..written + 10);
        written += 10;
        until("others meanwhile", || {
            tries.0.lock().unwrap().len() as u64 == written
        })
        .await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(tries.of(0).len(), 1, "it came before it was due");
    until("both to come back", || {
        tries.of(0).len() == 2 && tries.of(1).len() == 2
    })
    .await;
    assert_eq!(
        handle.assignment(),
        assigned,
        "the group gave it up meanwhile"
    );
    let snapshot = drain(&mut running).await;
    assert_eq!(snapshot.total().outcome(Kind::Delivered), written);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_leaves_what_is_not_due_where_it_is_and_a_copy_is_the_record_as_it_was() {
    let (topic, retries) = with_retries("left", 1, &[Duration::from_secs(3)]).await;
    written_with_trace(&topic, 1, 10);
    let start = |fails: bool| {
        let (_handle, flow) = kafka::source(retries.reads(member("left", &topic)));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&seen);
        let running = run(flow
            .try_map(move |record| {
                if fails && number(record) == 3 {
                    return Err("busy");
                }
                Ok(kafka::ProducerRecord::copy_of(record, "copies"))
            })
            .dead_letters(&retries.letters(64).unwrap())
            .on_error(|_, _| OnError::Later)
            .for_each(move |copy| hears.lock().unwrap().push(copy)));
        (running, seen)
    };
    let (mut first, seen) = start(true);
    until("the others", || seen.lock().unwrap().len() == 9).await;
    until("one to be put aside", || retries.counts().later == 1).await;
    let retry = format!("{topic}.retry");
    drain(&mut first).await;
    assert_eq!(committed("left", &topic, 1), [10]);
    assert_eq!(committed("left", &retry, 1), [0]);
    let (mut second, seen) = start(false);
    until("it to come back", || seen.lock().unwrap().len() == 1).await;
    drain(&mut second).await;
    assert_eq!(committed("left", &retry, 1), [1]);
    let expected = kafka::ProducerRecord::to("copies")
        .key("3")
        .value("3")
        .header(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )
        .header("event-type", "ORDER_3")
        .timestamp(5_000_003);
    assert_eq!(*seen.lock().unwrap(), [expected]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_position_does_not_pass_what_no_retry_topic_has_taken() {
    let topic = topic("no-retries", 1).await;
    write(&topic, 1, 0..10);
    let writes = ProducerSettings::new(connection())
        .delivery_timeout(Duration::from_secs(2))
        .set("topic.metadata.propagation.max.ms", 500);
    let retries = RetryTopics::new(writes);
    // It reads what is there: the retry topics are not.
    let (_handle, flow) = kafka::source(member("no-retries", &topic));
    let mut running = run(flow
        .try_map(|record| {
            if record.offset() == 4 {
                Err("busy")
            } else {
                Ok(())
            }
        })
        .dead_letters(&retries.letters(64).unwrap())
        .on_error(|_, _| OnError::Later)
        .for_each(drop));
    let error = running.join().await.unwrap_err().to_string();
    assert!(
        error.contains("no-retries") && error.contains("@4"),
        "{error}"
    );
    assert_eq!(committed("no-retries", &topic, 1), [4]);
    assert_eq!(retries.counts(), RetryCounts::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_once_and_exactly_once_are_refused_with_retry_topics() {
    let topic = topic("refused", 1).await;
    let retries = RetryTopics::new(ProducerSettings::new(connection()));
    let (_handle, flow) = kafka::source(retries.reads(member("refused", &topic).at_most_once()));
    let refused = flow.for_each(drop).run().unwrap_err().to_string();
    assert!(
        refused.contains("at_most_once") && refused.contains("retry"),
        "{refused}"
    );
    // A record that a window took back would be in the retry topic all the same.
    let reads = retries.reads(member("refused", &topic));
    let reads = reads.in_transactions(Duration::from_millis(100), 1000);
    let (_handle, flow) = kafka::source(reads);
    let writes = ProducerSettings::new(connection());
    let refused = flow
        .try_map(|record| Ok::<_, Failed>(kafka::ProducerRecord::copy_of(record, "copies")))
        .dead_letters(&retries.letters(4).unwrap())
        .on_error(|_, _| OnError::Later)
        .to_kafka_in_transactions(kafka::TransactionSettings::new(writes, "refused"))
        .guarantee(Guarantee::ExactlyOnce)
        .run()
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("`retry_topics`") && refused.contains("RetryInPlace"),
        "{refused}"
    );
}

/// Which records were processed for good, in order, by key.
#[derive(Clone, Default)]
struct Processed(Arc<Mutex<Vec<(String, u64)>>>);

impl Processed {
    fn of(&self, key: &str) -> Vec<u64> {
        let all = self.0.lock().unwrap();
        let own = all.iter().filter(|(of, _)| of == key);
        own.map(|(_, number)| *number).collect()
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// `numbers` of three keys in turn, all of a key in one partition.
fn write_keys(topic: &str, numbers: std::ops::Range<u64>) {
    let writes = producer();
    for number in numbers {
        let key = ["a", "b", "c"][(number % 3) as usize];
        let text = number.to_string();
        let record = BaseRecord::to(topic)
            .partition((number % 3 % 2) as i32)
            .key(key)
            .payload(&text);
        writes.send(record).map_err(|(error, _)| error).unwrap();
    }
    writes.flush(Duration::from_secs(20)).unwrap();
}

/// Processes in the order of keys; fails while `fails` says so.
fn in_order(
    retries: &RetryTopics,
    topic: &str,
    processed: &Processed,
    fails: impl Fn(u64) -> bool + Clone + Send + 'static,
) -> (ConsumerHandle, Running<()>) {
    let (handle, flow) = kafka::source(retries.reads(member(&format!("orders-{topic}"), topic)));
    let processed = processed.clone();
    let work = move |record: Record| {
        let (processed, fails) = (processed.clone(), fails.clone());
        async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let number = number(&record);
            if fails(number) {
                return Err(Failed::Busy);
            }
            let key = String::from_utf8(record.key().unwrap().to_vec()).unwrap();
            processed.0.lock().unwrap().push((key, number));
            Ok(())
        }
    };
    let letters = retries.letters(64).unwrap();
    let calls = Concurrency::limit(8).window(64);
    let flow = retries.in_key_order(flow, &handle, calls, &letters, work, |_| true);
    (handle, run(flow.for_each(drop)))
}

#[tokio::test(flavor = "multi_thread")]
async fn later_records_of_a_key_follow_the_one_that_is_tried_again_and_other_keys_go_on() {
    let delays = [Duration::from_millis(400)];
    let (topic, retries) = with_retries("key-order", 2, &delays).await;
    let retries = retries.keep_key_order(1000).times(50);
    write_keys(&topic, 0..90);
    let processed = Processed::default();
    let open = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let gate = Arc::clone(&open);
    // The first of `a` and a later one fail for as long as the gate is closed.
    let fails =
        move |number| [0, 30].contains(&number) && !gate.load(std::sync::atomic::Ordering::Relaxed);
    let (_handle, mut running) = in_order(&retries, &topic, &processed, fails);
    until("the other keys", || processed.len() == 60).await;
    until("all of `a` to be put aside", || {
        retries.counts().behind >= 29
    })
    .await;
    assert_eq!(processed.of("a"), Vec::<u64>::new());
    let every = |key: u64| (0..30).map(|at| at * 3 + key).collect::<Vec<u64>>();
    assert_eq!((processed.of("b"), processed.of("c")), (every(1), every(2)));
    open.store(true, std::sync::atomic::Ordering::Relaxed);
    until("all of `a`", || processed.of("a").len() == 30).await;
    assert_eq!(processed.of("a"), every(0));
    let snapshot = drain(&mut running).await;
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 90);
    assert_eq!(
        retries.counts().exhausted,
        0,
        "who waits behind another is not counted"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_a_key_outlives_a_restart() {
    let delays = [Duration::from_millis(500)];
    let (topic, retries) = with_retries("key-order-restart", 2, &delays).await;
    let retries = retries.keep_key_order(1000).times(50);
    write_keys(&topic, 0..30);
    let processed = Processed::default();
    let (_handle, mut first) = in_order(&retries, &topic, &processed, |number| number == 0);
    until("the other keys", || processed.len() == 20).await;
    until("all of `a` to be put aside", || {
        retries.counts().behind >= 9
    })
    .await;
    until("positions", || {
        committed(&format!("orders-{topic}"), &topic, 2)
            .iter()
            .sum::<i64>()
            == 30
    })
    .await;
    // As a crash would: what it knew is gone.
    first.abort().await;
    // They come before anything that waits is due again.
    write_keys(&topic, 30..60);
    let (_handle, mut second) = in_order(&retries, &topic, &processed, |_| false);
    until("all", || processed.of("a").len() >= 20).await;
    until("all positions", || {
        committed(&format!("orders-{topic}"), &topic, 2)
            .iter()
            .sum::<i64>()
            == 60
    })
    .await;
    drain(&mut second).await;
    // For the first time each: some may come twice after a crash.
    let mut firsts = Vec::new();
    for number in processed.of("a") {
        if !firsts.contains(&number) {
            firsts.push(number);
        }
    }
    assert_eq!(firsts, (0..20).map(|at| at * 3).collect::<Vec<u64>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_that_wait_than_declared_stop_the_run_and_it_says_so() {
    let (topic, retries) = with_retries("key-bound", 2, &[Duration::from_secs(60)]).await;
    let retries = retries.keep_key_order(5);
    write_keys(&topic, 0..60);
    let processed = Processed::default();
    let (_handle, mut running) = in_order(&retries, &topic, &processed, |number| number == 0);
    let error = running.join().await.unwrap_err().to_string();
    assert!(error.contains("5 records wait"), "{error}");
    // Nothing is lost: what was not put aside is not committed.
    let next = committed(&format!("orders-{topic}"), &topic, 2);
    assert!(next.iter().sum::<i64>() < 60, "{next:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn order_by_key_without_partitions_to_match_is_refused_by_name() {
    let topic = topic("uneven", 3).await;
    let retries = RetryTopics::new(ProducerSettings::new(connection()))
        .delays([Duration::from_secs(1)])
        .keep_key_order(100);
    create_topics(&bootstrap(), &[(&format!("{topic}.retry"), 1)]).await;
    write_keys(&topic, 0..9);
    let (_handle, mut running) = in_order(&retries, &topic, &Processed::default(), |_| false);
    let error = running.join().await.unwrap_err().to_string();
    assert!(error.contains("equally many partitions"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_a_key_outlives_partitions_that_move() {
    let delays = [Duration::from_millis(700)];
    let (topic, retries) = with_retries("key-order-moves", 2, &delays).await;
    let retries = retries.keep_key_order(1000).times(100);
    write_keys(&topic, 0..30);
    let processed = Processed::default();
    let open = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let gate = Arc::clone(&open);
    let fails = move |number| {
        [0, 1, 5].contains(&number) && !gate.load(std::sync::atomic::Ordering::Relaxed)
    };
    let (first, mut one) = in_order(&retries, &topic, &processed, fails.clone());
    until("all but one to be put aside", || {
        retries.counts().behind >= 9 + 9 + 8 && processed.len() == 1
    })
    .await;
    let (second, mut other) = in_order(&retries, &topic, &processed, fails);
    // The partitions of a number are in one hand: those of the topic and of what waits.
    until("the partitions to be shared", || {
        let numbers = |handle: &ConsumerHandle| {
            let assigned = handle.assignment();
            assigned.iter().map(|at| at.partition).collect::<Vec<i32>>()
        };
        numbers(&first) == [0, 0] && numbers(&second) == [1, 1]
            || numbers(&first) == [1, 1] && numbers(&second) == [0, 0]
    })
    .await;
    write_keys(&topic, 30..60);
    tokio::time::sleep(Duration::from_millis(1000)).await;
    open.store(true, std::sync::atomic::Ordering::Relaxed);
    until("all", || {
        let len = |key| processed.of(key).len();
        len("a") >= 20 && len("b") >= 20 && len("c") >= 20
    })
    .await;
    drain(&mut one).await;
    drain(&mut other).await;
    for (key, first) in [("a", 0), ("b", 1), ("c", 2)] {
        let mut firsts = Vec::new();
        for number in processed.of(key) {
            if !firsts.contains(&number) {
                firsts.push(number);
            }
        }
        let expected: Vec<u64> = (0..20).map(|at| at * 3 + first).collect();
        assert_eq!(firsts, expected, "{key}");
    }
}
