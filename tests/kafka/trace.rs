//! Which trace a record belongs to, of which type its event is and when it happened, over topics.

use std::sync::{Arc, Mutex};

use forebay::flow::DeadLetters;
use forebay::kafka::{
    self, DeadLetterAdmin, DeadLetterTopic, ProducerRecord, ProducerSettings, Record, Replay,
    Trace, TraceIds,
};
use forebay::source;

use crate::broker::create_topics;
use crate::support::{bootstrap, connection, drain, member, run, topic, until};

async fn write(records: Vec<ProducerRecord>) {
    let settings = ProducerSettings::reliable(connection());
    let wrote = source::iter(records).to_kafka(settings).run();
    wrote.unwrap().join().await.unwrap();
}

async fn read(topic: &str, count: usize) -> Vec<Record> {
    let (_handle, flow) = kafka::source(member(&format!("reads-{topic}"), topic));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&seen);
    let mut running = run(flow.for_each(move |record| hears.lock().unwrap().push(record)));
    until("the records", || seen.lock().unwrap().len() >= count).await;
    drain(&mut running).await;
    let records = seen.lock().unwrap().clone();
    assert_eq!(records.len(), count);
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn row_b1_a_record_has_its_trace_its_type_and_its_time_in_headers() {
    let topic = topic("row-b1", 1).await;
    let mut ids = TraceIds::new();
    let mut trace = ids.begin();
    trace.state = Some("vendor=1,other=2".to_owned());
    let record = ProducerRecord::to(topic.as_str())
        .key("o-1")
        .value("paid")
        .trace(&ids.begin())
        .trace(&trace)
        .event_type("ORDER_PAID")
        .event_time(1_772_368_200_250);
    let wrong = ProducerRecord::to(topic.as_str())
        .value("wrong")
        .header("traceparent", "00-no trace");
    let none = ProducerRecord::to(topic.as_str()).value("none");
    write(vec![
        record.partition(0),
        wrong.partition(0),
        none.partition(0),
    ])
    .await;
    let records = read(&topic, 3).await;
    let [record, wrong, none] = &records[..] else {
        panic!("{records:?}");
    };
    assert_eq!(record.trace(), Ok(Some(trace.clone())));
    assert_eq!(record.event_type(), Some("ORDER_PAID"));
    assert_eq!(record.event_time_ms(), Some(1_772_368_200_250));
    assert_eq!(record.timestamp().millis(), Some(1_772_368_200_250));
    let names: Vec<&[u8]> = record.headers().map(|(name, _)| name).collect();
    let expected: [&[u8]; 4] = [b"traceparent", b"tracestate", b"event-type", b"timestamp"];
    assert_eq!(names, expected);
    assert!(
        wrong
            .trace()
            .unwrap_err()
            .to_string()
            .contains("00-no trace")
    );
    assert_eq!(none.trace(), Ok(None));
    assert_eq!(
        (none.event_type(), none.event_time_ms().is_some()),
        (None, true)
    );

    // What is made of it belongs to the same trace.
    let next = ids.child_of(record.trace().unwrap().as_ref());
    let made = ProducerRecord::copy_of(record, topic.as_str()).trace(&next);
    write(vec![made]).await;
    let read = read_last(&topic).await;
    assert_eq!(read.trace(), Ok(Some(next.clone())));
    assert_eq!((next.trace_id, next.state), (trace.trace_id, trace.state));
    assert_ne!(next.span_id, trace.span_id);
    assert_eq!(read.event_type(), Some("ORDER_PAID"));
}

async fn read_last(topic: &str) -> Record {
    let (_handle, flow) = kafka::source(member(&format!("reads-{topic}"), topic));
    let (told, hears) = async_channel::bounded(1);
    let mut running = run(flow.for_each(move |record| {
        let _ = told.try_send(record);
    }));
    let record = hears.recv().await.unwrap();
    drain(&mut running).await;
    record
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_outlives_a_dead_letter_and_its_replay() {
    let topic = topic("trace-dead", 1).await;
    let dead = format!("{topic}.DLQ");
    create_topics(&bootstrap(), &[(&dead, 1)]).await;
    let trace = TraceIds::new().begin();
    let record = ProducerRecord::to(topic.as_str()).value("?").trace(&trace);
    write(vec![
        record
            .event_type("ORDER_PAID")
            .event_time(1_772_368_200_250),
    ])
    .await;
    let kept = DeadLetterTopic::beside(&ProducerSettings::new(connection()), ".DLQ").unwrap();
    let (_handle, flow) = kafka::source(member(&topic, &topic));
    let mut running = run(flow
        .try_map(|_| Err::<(), _>("no"))
        .or_dead_letter(&DeadLetters::new(4, kept))
        .for_each(drop));
    let letter = read(&dead, 1).await.remove(0);
    drain(&mut running).await;
    let from = topic.clone();
    let replay = move || {
        let admin = DeadLetterAdmin::new(connection(), dead);
        admin
            .replay(&kafka::LetterFilter::new(), &Replay::new())
            .unwrap()
    };
    assert_eq!(
        tokio::task::spawn_blocking(replay).await.unwrap().letters,
        1
    );
    let copy = read(&from, 2).await.remove(1);
    for record in [letter, copy] {
        let found: Option<Trace> = record.trace().unwrap();
        assert_eq!(found.as_ref(), Some(&trace));
        assert_eq!(record.event_type(), Some("ORDER_PAID"));
        assert_eq!(record.event_time_ms(), Some(1_772_368_200_250));
    }
}
