//! What users of other connectors suffer, each as a test: the project and the number of its report stand in
//! the comment above it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use forebay::flow::DeadLetters;
use forebay::kafka::{
    self, Assignment, ConsumerSettings, DeadLetterTopic, Isolation, ProducerSettings,
    TopicPartition,
};
use forebay::topology::Guarantee;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::watch;

use crate::broker::create_topics;
use crate::support::{
    Seen, bootstrap, committed, connection, drain, member, number, read_all, run, topic, until,
    write,
};

/// A member whose records take a millisecond each.
fn slowly(
    settings: ConsumerSettings,
    seen: &Seen,
) -> (kafka::ConsumerHandle, forebay::runtime::Running<()>) {
    let (handle, flow) = kafka::source(settings);
    let hears = seen.clone();
    let running = run(flow
        .map_async(8, |record| async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            record
        })
        .for_each(move |record| hears.hear(number(&record))));
    (handle, running)
}

/// A second member comes under load and goes again: what is inside of what moves is settled and committed
/// before it goes.
async fn nothing_is_repeated(assignment: Assignment, name: &str) {
    let topic = topic(name, 4).await;
    write(&topic, 4, 0..400);
    let settings = || {
        let settings = ConsumerSettings::new(connection(), name)
            .topics([topic.as_str()])
            .commit_every(Duration::from_millis(50))
            .assignment(assignment);
        match assignment {
            Assignment::ByBroker => settings,
            _ => settings
                .set("session.timeout.ms", 6000)
                .set("heartbeat.interval.ms", 200),
        }
    };
    let seen = Seen::default();
    let (first, mut one) = slowly(settings(), &seen);
    until("the first records", || seen.len() > 50).await;
    let (second, mut other) = slowly(settings(), &seen);
    until("the partitions to be shared", || {
        first.assignment().len() == 2 && second.assignment().len() == 2
    })
    .await;
    write(&topic, 4, 400..1200);
    until("some of them", || seen.len() > 600).await;
    drain(&mut other).await;
    until("the partitions to come back", || {
        first.assignment().len() == 4
    })
    .await;
    write(&topic, 4, 1200..1600);
    until("all records", || seen.len() == 1600).await;
    drain(&mut one).await;
    assert_eq!(seen.repeated(), Vec::<u64>::new());
    assert_eq!(committed(name, &topic, 4), [400; 4]);
}

/// Pekko's Kafka connector, #750, #755, #1038: records come again after each rebalance, since what is inside
/// is not drained.
#[tokio::test(flavor = "multi_thread")]
async fn a_clean_rebalance_repeats_nothing_cooperative() {
    nothing_is_repeated(Assignment::CooperativeSticky, "clean-cooperative").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_rebalance_repeats_nothing_eager() {
    nothing_is_repeated(Assignment::Range, "clean-eager").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_rebalance_repeats_nothing_by_the_broker() {
    nothing_is_repeated(Assignment::ByBroker, "clean-by-broker").await;
}

/// Pekko's Kafka connector, #1053: its committing sink does not push back. Reactor Kafka, #253: what is in
/// flight must be bounded. Here nothing is settled: what is inside is the window and no more, and what waits
/// before it is what was declared.
#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_does_not_settle_bounds_what_is_inside() {
    let topic = topic("unsettled", 2).await;
    write(&topic, 2, 0..2000);
    let (open, gate) = watch::channel(false);
    let (handle, flow) = kafka::source(member("unsettled", &topic).hand_over(40));
    let seen = Seen::default();
    let hears = seen.clone();
    let mut running = run(flow
        .window(25)
        .map_async_unordered(10_000, move |record| {
            let mut gate = gate.clone();
            async move {
                let _ = gate.wait_for(|open| *open).await;
                record
            }
        })
        .for_each(move |record| hears.hear(number(&record))));
    until("both windows to be full", || {
        let lag = handle.lag();
        lag.len() == 2
            && lag
                .iter()
                .all(|lag| lag.in_flight == 25 && lag.queued == 40)
    })
    .await;
    for _ in 0..20 {
        for lag in handle.lag() {
            assert!(lag.in_flight <= 25 && lag.queued <= 40, "{lag:?}");
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(running.snapshot().total().entered, 50);
    assert_eq!(committed("unsettled", &topic, 2), [0, 0]);
    open.send(true).unwrap();
    until("all records", || seen.len() == 2000).await;
    drain(&mut running).await;
    assert_eq!(seen.repeated(), Vec::<u64>::new());
    assert_eq!(committed("unsettled", &topic, 2), [1000, 1000]);
}

/// Pekko's Kafka connector, #1242, #1285: of commits that come out of order the last one wins. Here all but
/// the first of each partition are done, and nothing is committed.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_done_out_of_order_is_not_committed_past_what_is_not() {
    let topic = topic("out-of-order", 2).await;
    write(&topic, 2, 0..200);
    let (open, gate) = watch::channel(0_i64);
    let (handle, flow) = kafka::source(member("out-of-order", &topic));
    let seen = Seen::default();
    let hears = seen.clone();
    let mut running = run(flow
        .map_async_unordered(256, move |record| {
            let mut gate = gate.clone();
            async move {
                // Two of each partition are held up: the very first, and one amid the others.
                match record.offset() {
                    0 => drop(gate.wait_for(|open| *open >= 1).await),
                    60 => drop(gate.wait_for(|open| *open >= 2).await),
                    _ => {}
                }
                record
            }
        })
        .for_each(move |record| hears.hear(number(&record))));
    until("all but four", || seen.len() == 196).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(committed("out-of-order", &topic, 2), [0, 0]);
    open.send(1).unwrap();
    until("the first", || seen.len() == 198).await;
    let stands = |at: i64| handle.lag().iter().all(|lag| lag.committed == Some(at));
    until("the commit up to the other", || stands(60)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(committed("out-of-order", &topic, 2), [60, 60]);
    open.send(2).unwrap();
    until("the commit of all", || stands(100)).await;
    drain(&mut running).await;
    assert_eq!(committed("out-of-order", &topic, 2), [100, 100]);
}

/// Vector, #24543: after a record that failed the next one's offset is stored, and the failed one is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_failed_is_not_passed_by_those_behind_it() {
    let topic = topic("failed", 1).await;
    write(&topic, 1, 0..100);
    let (_handle, flow) = kafka::source(member("failed", &topic));
    let seen = Seen::default();
    let hears = seen.clone();
    let mut running = run(flow
        .map_async_unordered(64, move |record| {
            let hears = hears.clone();
            async move {
                if record.offset() == 30 {
                    // Those behind it are done by then.
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    panic!("this one fails");
                }
                hears.hear(number(&record));
            }
        })
        .for_each(drop)
        .guarantee(Guarantee::AtLeastOnce));
    let error = running.join().await.unwrap_err().to_string();
    assert!(error.contains(&format!("{topic}-0@30")), "{error}");
    assert!(seen.len() > 60, "nothing behind it was done");
    assert_eq!(committed("failed", &topic, 1), [30]);
    // And the next run begins with it.
    let again = Seen::default();
    let (_handle, mut running) = slowly(member("failed", &topic), &again);
    until("the rest", || again.len() == 70).await;
    drain(&mut running).await;
    assert_eq!(again.numbers(), (30..100).collect::<Vec<_>>());
}

/// Pekko's guide of at-least-once delivery, Vector #1772 and #12217, Arroyo #1103 (27 hours without service
/// for one bad byte): a bad record cannot be put aside with the positions right. Here each third is bad, and
/// a position waits until its letter is acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn bad_records_are_put_aside_and_the_positions_stay_right() {
    let topic = topic("bad-records", 2).await;
    let dead = format!("{topic}.DLQ");
    write(&topic, 2, 0..600);
    // Letters wait for their topic to be made: positions must not run ahead of them.
    let writes = ProducerSettings::new(connection());
    let letters = DeadLetters::new(1024, DeadLetterTopic::beside(&writes, ".DLQ").unwrap());
    let (_handle, flow) = kafka::source(member("bad-records", &topic));
    let seen = Seen::default();
    let hears = seen.clone();
    let mut running = run(flow
        .try_map(|record| {
            let number = number(record);
            if record.offset() % 3 == 1 {
                return Err(std::io::Error::other("bad"));
            }
            Ok(number)
        })
        .or_dead_letter(&letters)
        .for_each(move |number| hears.hear(number))
        .guarantee(Guarantee::AtLeastOnce));
    until("the good ones", || seen.len() == 400).await;
    until("what comes before the first bad ones", || {
        committed("bad-records", &topic, 2) == [1, 1]
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let stand = committed("bad-records", &topic, 2);
    assert_eq!(stand, [1, 1], "a position ran ahead of a letter");
    create_topics(&bootstrap(), &[(&dead, 1)]).await;
    until("all positions", || {
        committed("bad-records", &topic, 2) == [300, 300]
    })
    .await;
    let snapshot = drain(&mut running).await;
    let dead_lettered = snapshot
        .total()
        .outcome(forebay::outcome::Kind::DeadLettered);
    assert_eq!(dead_lettered, 200);
    assert_eq!(read_all(&dead, 1, 200).len(), 200);
}

/// Reactor Kafka, #237: back-pressure is forgotten at a rebalance, and memory fills up. Here a second member
/// comes and goes while nothing is taken: what waits stays within what was declared, all the while.
#[tokio::test(flavor = "multi_thread")]
async fn back_pressure_outlives_a_rebalance() {
    let topic = topic("pressed", 4).await;
    write(&topic, 4, 0..4000);
    let (open, gate) = watch::channel(false);
    let seen = Seen::default();
    let start = || {
        let (hears, gate) = (seen.clone(), gate.clone());
        let settings = member("pressed", &topic)
            .hand_over(30)
            .drain(Duration::from_millis(100));
        let (handle, flow) = kafka::source(settings);
        let running = run(flow
            .window(20)
            .map_async_unordered(10_000, move |record| {
                let mut gate = gate.clone();
                async move {
                    let _ = gate.wait_for(|open| *open).await;
                    record
                }
            })
            .for_each(move |record| hears.hear(number(&record))));
        (handle, running)
    };
    let (first, mut one) = start();
    let is_within = |handle: &kafka::ConsumerHandle| {
        for lag in handle.lag() {
            assert!(lag.in_flight <= 20 && lag.queued <= 30, "{lag:?}");
        }
    };
    until("the first to be full", || {
        is_within(&first);
        first.lag().len() == 4 && first.lag().iter().all(|lag| lag.queued == 30)
    })
    .await;
    let (second, mut other) = start();
    until("the second to be full", || {
        is_within(&first);
        is_within(&second);
        second.lag().len() == 2 && second.lag().iter().all(|lag| lag.queued == 30)
    })
    .await;
    other.abort().await;
    until("all partitions to be back, and full", || {
        is_within(&first);
        first.lag().len() == 4 && first.lag().iter().all(|lag| lag.queued == 30)
    })
    .await;
    open.send(true).unwrap();
    until("all records", || seen.len() == 4000).await;
    drain(&mut one).await;
    // What the first had inside of the two that it gave away is done there too, though it counts no more.
    let repeated = seen.repeated();
    assert!(
        repeated.len() <= 40 && repeated.iter().all(|number| *number < 80),
        "{repeated:?}"
    );
    assert_eq!(committed("pressed", &topic, 4), [1000; 4]);
}

/// Reactor Kafka, #305: a rebalance undoes what a user paused. With the eager protocol every partition goes
/// and comes back, with the cooperative one those that move. Our own back-pressure begins and ends meanwhile,
/// which must not resume it either.
async fn a_pause_stays(assignment: Assignment, name: &str) {
    let topic = topic(name, 2).await;
    write(&topic, 2, 0..20);
    let settings = || member(name, &topic).assignment(assignment).hand_over(10);
    let (press, pressed) = watch::channel(false);
    let seen = Seen::default();
    let (hears, gate) = (seen.clone(), pressed.clone());
    let (first, flow) = kafka::source(settings());
    let mut one = run(flow
        .map_async(1, move |record| {
            let mut gate = gate.clone();
            async move {
                let _ = gate.wait_for(|pressed| !*pressed).await;
                record
            }
        })
        .for_each(move |record| hears.hear(number(&record))));
    until("the first records", || seen.len() == 20).await;
    let both = [0, 1].map(|number| TopicPartition::new(topic.as_str(), number));
    first.pause(both.clone());
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Another member takes one of them, and reads it: the pause is the first's own.
    let others = Seen::default();
    let (second, mut other) = slowly(settings(), &others);
    until("one to move", || {
        first.assignment().len() == 1 && second.assignment().len() == 1
    })
    .await;
    write(&topic, 2, 20..40);
    until("the other's records", || others.len() == 10).await;
    drain(&mut other).await;
    until("it to come back", || first.assignment().len() == 2).await;
    press.send(true).unwrap();
    write(&topic, 2, 40..400);
    tokio::time::sleep(Duration::from_millis(300)).await;
    press.send(false).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(seen.len(), 20, "what a user paused was read");
    let [resumed, _] = both.clone();
    first.resume([resumed]);
    // 180 of the last, and 10 that the other member did not have, if that was not its partition.
    until("the one that is resumed", || seen.len() >= 200).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(
        seen.len() <= 210,
        "the one that is still paused was read: {}",
        seen.len()
    );
    first.resume(both);
    until("both", || seen.len() == 390).await;
    drain(&mut one).await;
    assert_eq!(seen.repeated(), Vec::<u64>::new());
    assert_eq!(committed(name, &topic, 2), [200, 200]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_paused_stays_paused_over_a_cooperative_rebalance() {
    a_pause_stays(Assignment::CooperativeSticky, "paused-cooperative").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_paused_stays_paused_over_an_eager_rebalance() {
    a_pause_stays(Assignment::Range, "paused-eager").await;
}

/// librdkafka, #2593: to resume what is not paused reads it again.
#[tokio::test(flavor = "multi_thread")]
async fn to_resume_what_is_not_paused_repeats_nothing() {
    let topic = topic("not-paused", 2).await;
    let (handle, mut running, seen) = {
        let seen = Seen::default();
        let (handle, running) = slowly(member("not-paused", &topic), &seen);
        (handle, running, seen)
    };
    until("the assignment", || handle.assignment().len() == 2).await;
    for from in (0..1000).step_by(100) {
        write(&topic, 2, from..from + 100);
        handle.resume(handle.assignment());
    }
    until("all records", || seen.len() == 1000).await;
    drain(&mut running).await;
    assert_eq!(seen.repeated(), Vec::<u64>::new());
}

/// Quickwit, #2083: a source that is not asked for records exceeds `max.poll.interval.ms`, and is thrown out
/// of its group. Here nothing is taken for twice that long.
#[tokio::test(flavor = "multi_thread")]
async fn the_group_is_kept_while_nothing_is_taken_for_longer_than_the_poll_interval() {
    let topic = topic("stalled", 2).await;
    write(&topic, 2, 0..400);
    let (open, gate) = watch::channel(true);
    let settings = member("stalled", &topic)
        .hand_over(10)
        .set("max.poll.interval.ms", 6000);
    let (handle, flow) = kafka::source(settings);
    let seen = Seen::default();
    let hears = seen.clone();
    let mut running = run(flow
        .window(20)
        .map_async_unordered(64, move |record| {
            let mut gate = gate.clone();
            async move {
                if record.offset() >= 50 {
                    let _ = gate.wait_for(|open| *open).await;
                }
                record
            }
        })
        .for_each(move |record| hears.hear(number(&record))));
    open.send(false).unwrap();
    until("the records before the stall", || seen.len() >= 100).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(12) {
        assert_eq!(handle.assignment().len(), 2, "it lost its partitions");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    open.send(true).unwrap();
    until("all records", || seen.len() == 400).await;
    drain(&mut running).await;
    assert_eq!(seen.repeated(), Vec::<u64>::new());
    assert_eq!(committed("stalled", &topic, 2), [200, 200]);
}

/// Renoir's source commits as soon as a record is in its channel. Here a position is never committed before
/// its record was processed, looked at all the while, with commits as frequent as they may be.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_committed_before_it_is_processed() {
    let topic = topic("processed", 1).await;
    write(&topic, 1, 0..1500);
    let settings = member("processed", &topic)
        .commit_every(Duration::from_millis(1))
        .commit_after(1);
    let (handle, flow) = kafka::source(settings);
    let processed = Arc::new(AtomicU64::new(0));
    let counts = Arc::clone(&processed);
    let mut running = run(flow
        .map_async(1, |record| async move {
            tokio::time::sleep(Duration::from_millis(2)).await;
            record
        })
        .for_each(move |_| {
            counts.fetch_add(1, Ordering::SeqCst);
        }));
    let mut seen = 0;
    while processed.load(Ordering::SeqCst) < 1500 {
        let committed = committed("processed", &topic, 1)[0] as u64;
        // Read after the commit was seen: it can only have grown.
        let processed = processed.load(Ordering::SeqCst);
        assert!(committed <= processed, "{committed} of {processed}");
        seen += u64::from(committed > 0 && committed < 1500);
        let lag = &handle.lag()[..];
        if let [lag] = lag {
            let told = lag.committed.unwrap_or(0);
            assert!(
                told <= lag.processed.unwrap_or(0).max(committed as i64),
                "{lag:?}"
            );
        }
    }
    assert!(seen > 0, "no commit was seen while it ran");
    drain(&mut running).await;
    assert_eq!(committed("processed", &topic, 1), [1500]);
}

/// rust-rdkafka, #413, #638, #665, #840; Vector, #22006: a consumer sleeps on while records wait. Each record
/// is written once the one before it was seen.
#[tokio::test(flavor = "multi_thread")]
async fn each_single_record_wakes_the_flow() {
    let topic = topic("wakes", 3).await;
    let seen = Seen::default();
    let (handle, flow) = kafka::source(member("wakes", &topic));
    let hears = seen.clone();
    let mut running = run(flow.for_each(move |record| hears.hear(number(&record))));
    until("the assignment", || handle.assignment().len() == 3).await;
    let writes = crate::support::producer();
    let began = Instant::now();
    for number in 0..150_u64 {
        let text = number.to_string();
        let record = BaseRecord::to(&topic).key(&text).payload(&text);
        writes.send(record).map_err(|(error, _)| error).unwrap();
        until("the one record", || seen.len() == number + 1).await;
    }
    let each = began.elapsed() / 150;
    // One that slept until its thread looks by itself would take 100 ms.
    assert!(each < Duration::from_millis(60), "{each:?} a record");
    drain(&mut running).await;
    assert_eq!(seen.repeated(), Vec::<u64>::new());
}

/// rust-rdkafka, #535, #651; Vector, #26438: a partition whose queue was split off falls silent once it has
/// been away. Here it goes and comes back three times.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_comes_back_is_read_again() {
    let topic = topic("back", 2).await;
    let seen = Seen::default();
    let (first, mut one) = slowly(member("back", &topic), &seen);
    let mut written = 0;
    let mut more = |count: u64| {
        write(&topic, 2, written..written + count);
        written += count;
        written
    };
    for _ in 0..3 {
        let (second, mut other) = slowly(member("back", &topic), &seen);
        until("one to go", || {
            first.assignment().len() == 1 && second.assignment().len() == 1
        })
        .await;
        let expected = more(100);
        until("the records of both", || seen.len() == expected).await;
        drain(&mut other).await;
        until("it to come back", || first.assignment().len() == 2).await;
        let expected = more(100);
        until("the records of the one", || seen.len() == expected).await;
    }
    drain(&mut one).await;
    assert_eq!(seen.repeated(), Vec::<u64>::new());
    assert_eq!(committed("back", &topic, 2), [300, 300]);
}

/// Confluent's parallel consumer, #826, #827: of the gaps that markers of transactions leave it makes up
/// positions, and commits past what was not done. Here transactions that were committed and aborted lie in
/// turn.
#[tokio::test(flavor = "multi_thread")]
async fn what_transactions_leave_out_of_the_log_troubles_nobody() {
    let topic = topic("markers", 1).await;
    let to = topic.clone();
    tokio::task::spawn_blocking(move || {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap())
            .set("transactional.id", "markers")
            .create()
            .unwrap();
        let patience = Duration::from_secs(20);
        producer.init_transactions(patience).unwrap();
        for batch in 0..20_u64 {
            producer.begin_transaction().unwrap();
            for number in batch * 10..batch * 10 + 10 {
                let text = number.to_string();
                let record = BaseRecord::to(&to).partition(0).key(&text).payload(&text);
                producer.send(record).map_err(|(error, _)| error).unwrap();
            }
            if batch % 2 == 0 {
                producer.commit_transaction(patience).unwrap();
            } else {
                // What was not sent yet would not be in the log at all.
                producer.flush(patience).unwrap();
                producer.abort_transaction(patience).unwrap();
            }
        }
    })
    .await
    .unwrap();
    // Of each 11 offsets the last is a marker.
    for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
        let group = format!("markers-{isolation:?}");
        let (handle, flow) = kafka::source(member(&group, &topic).isolation(isolation));
        let (open, gate) = watch::channel(false);
        let seen = Seen::default();
        let hears = seen.clone();
        let mut running = run(flow
            .map_async_unordered(256, move |record| {
                let mut gate = gate.clone();
                async move {
                    if number(&record) == 105 {
                        let _ = gate.wait_for(|open| *open).await;
                    }
                    record
                }
            })
            .for_each(move |record| hears.hear(number(&record))));
        let expected: Vec<u64> = (0..200)
            .filter(|number| isolation == Isolation::ReadUncommitted || number / 10 % 2 == 0)
            .collect();
        until("all but one", || seen.len() == expected.len() as u64 - 1).await;
        until("the commit up to it", || {
            handle.lag()[0].committed == Some(115)
        })
        .await;
        assert_eq!(committed(&group, &topic, 1), [115]);
        open.send(true).unwrap();
        until("all", || seen.len() == expected.len() as u64).await;
        drain(&mut running).await;
        assert_eq!(seen.numbers(), expected);
        // Behind the last record that was seen, and not behind a marker that was not.
        let last = expected.last().unwrap();
        let behind = last + last / 10 + 1;
        assert_eq!(committed(&group, &topic, 1), [behind as i64]);
    }
}

/// The same reports, of the gaps that compaction leaves: a position is always that of a record that is there,
/// or the one behind the last.
#[tokio::test(flavor = "multi_thread")]
async fn what_compaction_leaves_out_of_the_log_troubles_nobody() {
    let topic = compacted("compacted").await;
    // Each time a new segment; of 40 keys all but the last value of each go.
    for batch in 0..6_u64 {
        write_keys(&topic, batch * 200..batch * 200 + 200, 40);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    write_keys(&topic, 1200..1201, 41);
    let there = || offsets_up_to(&topic, 1200);
    let mut offsets = there();
    let began = Instant::now();
    while offsets.len() > 600 {
        assert!(began.elapsed() < Duration::from_secs(90), "not compacted");
        offsets = there();
    }
    // One amid them is held up; it moves on from gap to gap.
    let held_up = offsets[offsets.len() / 2];
    let (open, gate) = watch::channel(false);
    let (handle, flow) = kafka::source(member("compacted", &topic));
    let seen: Arc<Mutex<Vec<i64>>> = Arc::default();
    let notes = Arc::clone(&seen);
    let mut running = run(flow
        .map_async_unordered(2000, move |record| {
            let mut gate = gate.clone();
            async move {
                if record.offset() == held_up {
                    let _ = gate.wait_for(|open| *open).await;
                }
                record.offset()
            }
        })
        .for_each(move |offset| notes.lock().unwrap().push(offset)));
    until("the commit up to the one", || {
        handle
            .lag()
            .first()
            .is_some_and(|lag| lag.committed == Some(held_up))
    })
    .await;
    open.send(true).unwrap();
    until("the last record", || seen.lock().unwrap().contains(&1200)).await;
    drain(&mut running).await;
    assert_eq!(committed("compacted", &topic, 1), [1201]);
    let mut seen = seen.lock().unwrap().clone();
    seen.sort_unstable();
    let mut once = seen.clone();
    once.dedup();
    assert_eq!(seen, once, "a record came twice");
    // The cleaner may have been at work meanwhile: what is left came in any case.
    assert!(there().iter().all(|offset| seen.contains(offset)));
}

/// The offsets that are there, the last of which that one is.
fn offsets_up_to(topic: &str, last: i64) -> Vec<i64> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap())
        .set("group.id", "looks")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning)
        .unwrap();
    consumer.assign(&list).unwrap();
    let mut offsets = Vec::new();
    let began = Instant::now();
    while offsets.last() != Some(&last) {
        assert!(began.elapsed() < Duration::from_secs(30), "{offsets:?}");
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50)) {
            offsets.push(message.offset());
        }
    }
    offsets
}

async fn compacted(name: &str) -> String {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap());
    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    let topic = NewTopic::new(name, 1, TopicReplication::Fixed(1))
        .set("cleanup.policy", "compact")
        .set("segment.ms", "50")
        .set("min.cleanable.dirty.ratio", "0.01")
        .set("min.compaction.lag.ms", "0");
    let made = admin.create_topics([&topic], &AdminOptions::new()).await;
    made.unwrap().remove(0).unwrap();
    name.to_owned()
}

/// Writes numbers, under so many keys in turn.
fn write_keys(topic: &str, numbers: std::ops::Range<u64>, keys: u64) {
    let producer = crate::support::producer();
    for number in numbers {
        let (key, value) = ((number % keys).to_string(), number.to_string());
        let record = BaseRecord::to(topic).partition(0).key(&key).payload(&value);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(Duration::from_secs(20)).unwrap();
}

/// Confluent's parallel consumer, #647: what it notes of records that are done behind one that is not does
/// not fit any more, and it stands still. Here it is the window that stands still, of that partition alone.
#[tokio::test(flavor = "multi_thread")]
async fn one_record_that_is_stuck_holds_up_its_own_window_and_no_other_partition() {
    let topic = topic("one-stuck", 2).await;
    write(&topic, 2, 0..20_000);
    let stuck = Arc::new(AtomicBool::new(true));
    let is_stuck = Arc::clone(&stuck);
    let (handle, flow) = kafka::source(member("one-stuck", &topic));
    let seen = Seen::default();
    let hears = seen.clone();
    let mut running = run(flow
        .window(1000)
        .map_async_unordered(64, move |record| {
            let is_stuck = Arc::clone(&is_stuck);
            async move {
                while number(&record) == 0 && is_stuck.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                record
            }
        })
        .for_each(move |record| hears.hear(number(&record))));
    // All of the other partition, and a window of its own but for the one.
    until("the others", || seen.len() == 10_999).await;
    let lag = handle.lag();
    assert_eq!(lag[0].in_flight, 1000, "{lag:?}");
    assert!(
        lag[0].oldest_age.is_some_and(|age| age > Duration::ZERO),
        "{lag:?}"
    );
    assert_eq!(lag[1].oldest_age, None, "{lag:?}");
    until("the commit of the other", || {
        committed("one-stuck", &topic, 2) == [0, 10_000]
    })
    .await;
    stuck.store(false, Ordering::Relaxed);
    until("all", || seen.len() == 20_000).await;
    drain(&mut running).await;
    assert_eq!(committed("one-stuck", &topic, 2), [10_000, 10_000]);
}

/// Order within a partition is kept over all of it: what is handed over twice after a rebalance that could not
/// drain begins at the first record that was not settled.
#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_a_partition_is_kept_over_a_rebalance() {
    let topic = topic("ordered", 4).await;
    write(&topic, 4, 0..4000);
    let order: Arc<Mutex<Vec<(i32, i64)>>> = Arc::default();
    let start = || {
        let order = Arc::clone(&order);
        let (handle, flow) = kafka::source(member("ordered", &topic));
        let running = run(flow
            .map_async(4, |record| async move {
                tokio::time::sleep(Duration::from_micros(300)).await;
                record
            })
            .for_each(move |record| {
                let at = (record.partition(), record.offset());
                order.lock().unwrap().push(at);
            }));
        (handle, running)
    };
    let (_first, mut one) = start();
    until("some", || order.lock().unwrap().len() > 500).await;
    let (second, mut other) = start();
    until("some to move", || second.assignment().len() == 2).await;
    until("all", || order.lock().unwrap().len() >= 4000).await;
    drain(&mut one).await;
    drain(&mut other).await;
    let order = order.lock().unwrap();
    for partition in 0..4 {
        let of_one = order.iter().filter(|(own, _)| *own == partition);
        let offsets: Vec<i64> = of_one.map(|(_, offset)| *offset).collect();
        assert_eq!(offsets, (0..1000).collect::<Vec<_>>());
    }
}
