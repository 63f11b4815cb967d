//! What is read, from where, and what is committed of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::kafka::{self, Error, ReadFrom, TopicPartition};
use forebay::topology::Guarantee;

use crate::support::{
    Seen, committed, connection, drain, member, number, run, topic, until, write,
};

#[tokio::test(flavor = "multi_thread")]
async fn each_record_comes_once_in_the_order_of_its_partition_and_is_committed() {
    let topic = topic("orders", 3).await;
    write(&topic, 3, 0..3000);
    let (_handle, flow) = kafka::source(member("reads", &topic));
    let order = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&order);
    let mut running = run(flow
        .map_async(16, |record| async move { record })
        .for_each(move |record| {
            assert_eq!(record.key(), record.value());
            let at = (record.partition(), record.offset(), number(&record));
            seen.lock().unwrap().push(at);
        })
        .guarantee(Guarantee::AtLeastOnce));
    until("3000 records", || order.lock().unwrap().len() == 3000).await;
    let snapshot = drain(&mut running).await;
    assert_eq!(snapshot.total().entered, 3000);
    let order = order.lock().unwrap();
    for partition in 0..3_u64 {
        let of_one: Vec<(i64, u64)> = order
            .iter()
            .filter(|(own, ..)| *own as u64 == partition)
            .map(|(_, offset, number)| (*offset, *number))
            .collect();
        let expected: Vec<(i64, u64)> = (0..1000)
            .map(|at| (at as i64, at * 3 + partition))
            .collect();
        assert_eq!(of_one, expected);
    }
    assert_eq!(committed("reads", &topic, 3), [1000, 1000, 1000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_goes_on_behind_what_the_first_committed() {
    let topic = topic("resumed", 2).await;
    write(&topic, 2, 0..100);
    for (from, to) in [(0, 100), (100, 250)] {
        if from > 0 {
            write(&topic, 2, from..to);
        }
        let (_handle, flow) = kafka::source(member("resumes", &topic));
        let seen = Seen::default();
        let hears = seen.clone();
        let mut running = run(flow.for_each(move |record| hears.hear(number(&record))));
        until("the records", || seen.len() == to - from).await;
        drain(&mut running).await;
        assert_eq!(seen.numbers(), (from..to).collect::<Vec<_>>());
        assert_eq!(seen.repeated(), Vec::<u64>::new());
    }
    assert_eq!(committed("resumes", &topic, 2), [125, 125]);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_begins_where_it_was_told() {
    let topic = topic("begins", 1).await;
    write(&topic, 1, 0..50);
    tokio::time::sleep(Duration::from_millis(20)).await;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis() as i64;
    tokio::time::sleep(Duration::from_millis(20)).await;
    write(&topic, 1, 50..80);
    for (from, first) in [
        (ReadFrom::Earliest.or_stop(), 0),
        (ReadFrom::Offset(30).or_stop(), 30),
        (ReadFrom::Time(now).or_stop(), 50),
        (ReadFrom::Committed.or_earliest(), 0),
    ] {
        let group = format!("begins-{first}-{from:?}").replace(|c: char| !c.is_alphanumeric(), "-");
        let (_handle, flow) = kafka::source(member(&group, &topic).start(from));
        let seen = Seen::default();
        let hears = seen.clone();
        let mut running = run(flow.for_each(move |record| hears.hear(number(&record))));
        until("the records", || seen.len() == 80 - first).await;
        drain(&mut running).await;
        assert_eq!(seen.numbers(), (first..80).collect::<Vec<_>>(), "{from:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_committed_stops_where_that_was_declared() {
    let topic = topic("nowhere", 1).await;
    let settings = member("nowhere", &topic).start(ReadFrom::Committed.or_stop());
    let (_handle, flow) = kafka::source(settings);
    let error = flow.for_each(drop).run().unwrap().join().await.unwrap_err();
    assert!(
        matches!(error.downcast_ref(), Some(Error::NoOffset { .. })),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_does_not_exist_is_named() {
    topic("exists", 1).await;
    let (_handle, flow) = kafka::source(member("nothing", "no-such-topic"));
    let error = flow.for_each(drop).run().unwrap().join().await.unwrap_err();
    let Some(Error::UnknownTopic { topic }) = error.downcast_ref() else {
        panic!("{error}");
    };
    assert_eq!(topic, "no-such-topic");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_are_refused_before_anything_connects() {
    let settings = kafka::ConsumerSettings::new(connection(), "group").topics(["a b"]);
    let (_handle, flow) = kafka::source(settings);
    let refused = flow.for_each(drop).run().unwrap_err().to_string();
    assert!(
        refused.contains("topics") && refused.contains("a b"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_replayed_from_an_offset_while_it_runs() {
    let topic = topic("replayed", 2).await;
    write(&topic, 2, 0..200);
    let (handle, flow) = kafka::source(member("replays", &topic));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&seen);
    let mut running = run(flow.for_each(move |record| {
        let at = (record.partition(), record.offset());
        hears.lock().unwrap().push(at);
    }));
    let count = || seen.lock().unwrap().len();
    until("all records", || count() == 200).await;
    let first = TopicPartition::new(topic.as_str(), 0);
    handle.replay_partitions([first], ReadFrom::Offset(90));
    until("the replay", || count() == 210).await;
    handle.replay(ReadFrom::Earliest);
    until("the second replay", || count() == 410).await;
    drain(&mut running).await;
    let seen = seen.lock().unwrap();
    let expected: Vec<(i32, i64)> = (90..100).map(|offset| (0, offset)).collect();
    assert_eq!(seen[200..210], expected);
    assert_eq!(committed("replays", &topic, 2), [100, 100]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_partition_gives_nothing_until_it_is_resumed() {
    let topic = topic("paused", 2).await;
    write(&topic, 2, 0..20);
    let (handle, flow) = kafka::source(member("pauses", &topic));
    let seen = Seen::default();
    let hears = seen.clone();
    let mut running = run(flow.for_each(move |record| hears.hear(number(&record))));
    until("the first records", || seen.len() == 20).await;
    let second = TopicPartition::new(topic.as_str(), 1);
    handle.pause([second.clone()]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    write(&topic, 2, 20..40);
    until("the other partition", || seen.len() == 30).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(seen.len(), 30, "a paused partition gave records");
    handle.resume([second]);
    until("the paused partition", || seen.len() == 40).await;
    drain(&mut running).await;
    assert_eq!(seen.repeated(), Vec::<u64>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn row_b6_at_most_once_commits_first_and_never_repeats_though_it_loses() {
    let topic = topic("at-most-once", 2).await;
    write(&topic, 2, 0..2000);
    let seen = Seen::default();
    let start = || {
        let hears = seen.clone();
        let (_handle, flow) =
            kafka::source(member("at-most-once", &topic).at_most_once().hand_over(50));
        run(flow
            .map_async(8, move |record| {
                let hears = hears.clone();
                async move {
                    hears.hear(number(&record));
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    // Some fail: they are not tried again.
                    assert!(!number(&record).is_multiple_of(97), "fails");
                }
            })
            .for_each(drop)
            .guarantee(Guarantee::AtMostOnce))
    };
    let mut first = start();
    until("some", || seen.len() > 200).await;
    // As a crash would: what is inside is lost.
    first.abort().await;
    let begun = seen.len();
    let mut second = start();
    until("the rest", || {
        committed("at-most-once", &topic, 2) == [1000, 1000]
    })
    .await;
    drain(&mut second).await;
    assert_eq!(seen.repeated(), Vec::<u64>::new());
    assert!(
        seen.len() < 2000,
        "nothing was lost: the abort came too late to show it"
    );
    assert!(seen.len() > begun, "the second run read nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_b6_a_guarantee_that_the_consumer_does_not_keep_is_refused_by_name() {
    let topic = topic("guarantees", 1).await;
    let refused = |settings, guarantee| {
        let (_handle, flow) = kafka::source(settings);
        let pipeline = flow.for_each(drop).guarantee(guarantee);
        pipeline.run().unwrap_err().to_string()
    };
    let settings = || member("guarantees", &topic);
    let why = refused(settings(), Guarantee::AtMostOnce);
    assert!(
        why.contains("`kafka`") && why.contains("at_most_once"),
        "{why}"
    );
    let why = refused(settings().at_most_once(), Guarantee::AtLeastOnce);
    assert!(
        why.contains("`kafka`") && why.contains("before they are processed"),
        "{why}"
    );
    let why = refused(settings(), Guarantee::ExactlyOnce);
    assert!(
        why.contains("`kafka`") && why.contains("in_transactions"),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn row_b7_lag_is_told_by_partition() {
    let topic = topic("lag", 2).await;
    write(&topic, 2, 0..200);
    let (open, gate) = tokio::sync::watch::channel(false);
    let (handle, flow) = kafka::source(member("lag", &topic));
    let mut running = run(flow
        .window(30)
        .map_async_unordered(64, move |record| {
            let mut gate = gate.clone();
            async move {
                if record.offset() >= 10 {
                    let _ = gate.wait_for(|open| *open).await;
                }
            }
        })
        .for_each(drop));
    let all = |holds: fn(&kafka::PartitionLag) -> bool| {
        let lag = handle.lag();
        lag.len() == 2 && lag.iter().all(holds)
    };
    until("the windows to be full", || all(|lag| lag.in_flight >= 20)).await;
    until("the commits", || all(|lag| lag.committed == Some(10))).await;
    for lag in handle.lag() {
        assert_eq!(lag.processed, Some(10), "{lag:?}");
        assert_eq!(lag.end, Some(100), "{lag:?}");
        assert_eq!(lag.records(), Some(90), "{lag:?}");
        assert!(lag.queued + lag.in_flight <= 90, "{lag:?}");
    }
    // The run's own snapshot says the same.
    let snapshot = running.snapshot();
    let told = &snapshot.sources[0].lag;
    assert_eq!(told.len(), 2);
    for (told, lag) in told.iter().zip(handle.lag()) {
        assert_eq!(told.of, lag.at.to_string());
        assert_eq!((told.end, told.committed), (Some(100), Some(10)));
        assert_eq!((told.elements(), told.in_flight), (Some(90), lag.in_flight));
    }
    #[cfg(feature = "metrics")]
    {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            forebay::observe::Metrics::of("orders").tell(&snapshot);
        });
        let page = recorder.handle().render();
        let source = &snapshot.sources[0].name;
        for (name, value) in [
            ("elements", 90),
            ("end", 100),
            ("committed", 10),
            ("processed", 10),
        ] {
            for partition in 0..2 {
                let line = format!(
                    "forebay_lag_{name}{{pipeline=\"orders\",source=\"{source}\",\
                     sequence=\"{topic}-{partition}\"}} {value}"
                );
                assert!(page.lines().any(|told| told == line), "{line}\n{page}");
            }
        }
    }
    let printed = snapshot.to_string();
    let line = format!("{topic}-1: end 100, processed 10, committed 10, ");
    assert!(printed.contains(&line), "{printed}");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let old = all(|lag| {
        lag.oldest_age
            .is_some_and(|age| age >= Duration::from_millis(290))
    });
    assert!(old, "{:?}", handle.lag());
    open.send(true).unwrap();
    until("the end", || {
        all(|lag| lag.records() == Some(0) && lag.oldest_age.is_none())
    })
    .await;
    drain(&mut running).await;
}
