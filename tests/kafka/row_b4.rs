//! Row B4: the tuned profiles, by what their clients were told in the end.

use forebay::kafka::{Connection, ConsumerSettings, ProducerSettings};

use crate::support::{Seen, connection, drain, number, run, topic, until, write};

#[path = "../../examples/b4_profiles.rs"]
mod b4_profiles;

#[test]
fn row_b4_the_example() {
    b4_profiles::main().unwrap();
}

fn at() -> Connection {
    Connection::to("localhost:9092")
}

#[test]
fn row_b4_the_producer_for_much_by_value() {
    let effective = ProducerSettings::high_throughput(at()).effective().unwrap();
    for (name, value) in [
        ("queue.buffering.max.ms", "100"),
        ("batch.size", "65536"),
        ("compression.codec", "snappy"),
        ("enable.idempotence", "true"),
        ("request.required.acks", "-1"),
        // What the sink itself bounds is 128 MB; the client must never be full before it.
        ("queue.buffering.max.kbytes", "262144"),
    ] {
        assert_eq!(effective.get(name), Some(value), "{name}");
    }
}

#[test]
fn row_b4_the_consumer_for_much_by_value() {
    let settings = ConsumerSettings::high_throughput(at(), "much").topics(["orders"]);
    let effective = settings.effective().unwrap();
    for (name, value) in [
        ("fetch.min.bytes", "51200"),
        ("fetch.wait.max.ms", "500"),
        ("fetch.message.max.bytes", "1048576"),
        ("heartbeat.interval.ms", "10000"),
        ("enable.auto.commit", "false"),
    ] {
        assert_eq!(effective.get(name), Some(value), "{name}");
    }
}

#[test]
fn row_b4_each_setting_can_be_set_otherwise_and_what_promises_stand_on_cannot() {
    let settings = ProducerSettings::high_throughput(at()).set("linger.ms", 7);
    let effective = settings.effective().unwrap();
    assert_eq!(effective.get("queue.buffering.max.ms"), Some("7"));
    let settings = ConsumerSettings::high_throughput(at(), "much").topics(["orders"]);
    let settings = settings.set("fetch.min.bytes", 1);
    assert_eq!(
        settings.effective().unwrap().get("fetch.min.bytes"),
        Some("1")
    );
    let refused = settings.set("enable.auto.commit", true).effective();
    let why = refused.unwrap_err().to_string();
    assert!(why.contains("enable.auto.commit"), "{why}");
}

/// At most 1000 records wait to be taken over, and the group is kept at a heartbeat each 10 s.
#[tokio::test(flavor = "multi_thread")]
async fn row_b4_it_hands_over_a_thousand_records_at_a_time() {
    let topic = topic("much", 1).await;
    write(&topic, 1, 0..3000);
    let settings = ConsumerSettings::high_throughput(connection(), "much").topics([topic]);
    let (open, gate) = tokio::sync::watch::channel(false);
    let (handle, flow) = forebay::kafka::source(settings);
    let seen = Seen::default();
    let hears = seen.clone();
    let mut running = run(flow
        .window(100)
        .map_async(200, move |record| {
            let mut gate = gate.clone();
            async move {
                let _ = gate.wait_for(|open| *open).await;
                record
            }
        })
        .for_each(move |record| hears.hear(number(&record))));
    until("a thousand to wait", || {
        let lag = handle.lag();
        lag.first().is_some_and(|lag| lag.queued == 1000)
    })
    .await;
    open.send(true).unwrap();
    until("all records", || {
        assert!(handle.lag()[0].queued <= 1000);
        seen.len() == 3000
    })
    .await;
    drain(&mut running).await;
}
