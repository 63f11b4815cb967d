//! Row B6: guarantees, chosen by name. What is refused of them is in `consumer`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::kafka::{self, Acks, Connection, ProducerRecord, ProducerSettings};
use forebay::outcome::Kind;
use forebay::source;
use forebay::topology::Guarantee;

use crate::support::{
    Seen, bootstrap, committed, connection, member, number, read_all, run, topic, until, write,
};

// Its `main` reads the command line.
#[allow(dead_code)]
#[path = "../../examples/b6_guarantees.rs"]
mod b6_guarantees;

#[tokio::test(flavor = "multi_thread")]
async fn row_b6_what_each_guarantee_costs_when_a_process_dies() {
    let topic = topic("lives", 2).await;
    let at = bootstrap();
    b6_guarantees::write(&at, &topic).await.unwrap();
    let lives = b6_guarantees::read_in_two_lives(&at, &topic, Guarantee::AtMostOnce);
    let found = lives.await.unwrap();
    assert!(
        found.lost > 0,
        "the end was too gentle to show it: {found:?}"
    );
    assert_eq!(found.repeated, 0, "{found:?}");
    let lives = b6_guarantees::read_in_two_lives(&at, &topic, Guarantee::AtLeastOnce);
    let found = lives.await.unwrap();
    assert_eq!(found.lost, 0, "{found:?}");
}

/// Records take times that have nothing to do with their order, and the run ends suddenly, five times over.
#[tokio::test(flavor = "multi_thread")]
async fn row_b6_at_least_once_never_commits_past_an_unprocessed_record() {
    let topic = topic("at-least-once", 2).await;
    write(&topic, 2, 0..3000);
    let seen = Seen::default();
    let done: Arc<Mutex<Vec<(i32, i64)>>> = Arc::default();
    for life in 1..=5 {
        let (hears, notes) = (seen.clone(), Arc::clone(&done));
        let settings = member("at-least-once", &topic).commit_every(Duration::from_millis(5));
        let (_handle, flow) = kafka::source(settings);
        let mut running = run(flow
            .map_async_unordered(64, move |record| {
                let (hears, notes) = (hears.clone(), Arc::clone(&notes));
                async move {
                    let millis = number(&record).wrapping_mul(2_654_435_761) >> 7 & 15;
                    tokio::time::sleep(Duration::from_millis(millis)).await;
                    let at = (record.partition(), record.offset());
                    notes.lock().unwrap().push(at);
                    hears.hear(number(&record));
                }
            })
            .for_each(drop)
            .guarantee(Guarantee::AtLeastOnce));
        until("a part of them", || seen.len() >= life * 500).await;
        running.abort().await;
        let committed = committed("at-least-once", &topic, 2);
        let done = done.lock().unwrap();
        for (partition, committed) in committed.into_iter().enumerate() {
            for offset in 0..committed {
                assert!(
                    done.contains(&(partition as i32, offset)),
                    "{committed} was committed, and {partition}@{offset} is not processed"
                );
            }
        }
    }
}

#[test]
fn row_b6_who_must_have_a_record_is_told_to_the_client() {
    for (acks, value, idempotent) in [
        (Acks::None, "0", "false"),
        (Acks::Leader, "1", "false"),
        (Acks::All, "-1", "true"),
    ] {
        let settings = ProducerSettings::new(Connection::to("localhost:9092"));
        let effective = settings.acknowledged_by(acks).effective().unwrap();
        assert_eq!(
            effective.get("request.required.acks"),
            Some(value),
            "{acks:?}"
        );
        assert_eq!(
            effective.get("enable.idempotence"),
            Some(idempotent),
            "{acks:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_b6_records_are_written_whoever_must_have_them() {
    for acks in [Acks::None, Acks::Leader, Acks::All] {
        let topic = topic("acks", 1).await;
        let to = topic.clone();
        let mut running = run(source::iter(0..100)
            .map(move |number: i32| ProducerRecord::to(to.as_str()).value(number.to_string()))
            .to_kafka(ProducerSettings::new(connection()).acknowledged_by(acks)));
        running.join().await.unwrap();
        let delivered = running.snapshot().total().outcome(Kind::Delivered);
        assert_eq!(delivered, 100, "{acks:?}");
        assert_eq!(read_all(&topic, 1, 100).len(), 100, "{acks:?}");
    }
}
