//! Quotas of the broker are pressure: whoever is had to wait tells it.

use std::time::{Duration, Instant};

use forebay::control::{PressureHandle, PressureSettings, Signal};
use forebay::kafka::{self, Connection, ProducerRecord, ProducerSettings};
use forebay::source;

use crate::broker::tool;
use crate::support::{bootstrap, drain, run, topic, until, write};

/// Gives clients of that name so many bytes a second to write or to read.
async fn grant(client: &'static str, what: &str, bytes_per_s: u32) {
    let rate = format!("{what}={bytes_per_s}");
    tokio::task::spawn_blocking(move || {
        let at = bootstrap();
        let client = ["--entity-type", "clients", "--entity-name", client];
        let change = ["--bootstrap-server", &at, "--alter", "--add-config", &rate];
        tool(
            "kafka.admin.ConfigCommand",
            &[&change[..], &client].concat(),
        );
    })
    .await
    .unwrap();
}

fn pressure() -> PressureHandle {
    PressureHandle::new(PressureSettings::new()).unwrap()
}

/// What the throttle scores as long as something lasts: the most of it.
async fn most(pressure: &PressureHandle, mut lasts: impl FnMut() -> bool) -> f64 {
    let mut most = 0.0_f64;
    let began = Instant::now();
    while lasts() && began.elapsed() < Duration::from_secs(60) {
        let why = pressure.explain(forebay::time::now());
        most = most.max(why.scores[Signal::Throttle as usize].unwrap_or(0.0));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    most
}

async fn writes(client: &str, topic: &str) -> f64 {
    let pressure = pressure();
    let settings = ProducerSettings::new(Connection::to(bootstrap()).client_id(client))
        .batch(16 * 1024)
        .pressure(&pressure);
    let to = topic.to_owned();
    let mut running = run(source::iter(0..400)
        .map(move |_: u32| ProducerRecord::to(to.as_str()).value(vec![7; 1000]))
        .to_kafka(settings));
    let joined = tokio::spawn(async move { running.join().await.map(|()| running) });
    let most = most(&pressure, || !joined.is_finished()).await;
    drop(joined.await.unwrap().unwrap());
    most
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_throttled_says_so_to_its_pressure() {
    let topic = topic("quota-write", 1).await;
    grant("slow-writer", "producer_byte_rate", 20_000).await;
    let slow = writes("slow-writer", &topic).await;
    assert!(slow > 0.5, "{slow}");
    // Its neighbour has no quota, and no pressure.
    let free = writes("free-writer", &topic).await;
    assert!(free < 0.1, "{free}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_throttled_says_so_to_its_pressure() {
    let topic = topic("quota-read", 1).await;
    write(&topic, 1, 0..60_000);
    grant("slow-reader", "consumer_byte_rate", 20_000).await;
    let pressure = pressure();
    let connection = Connection::to(bootstrap()).client_id("slow-reader");
    let settings = kafka::ConsumerSettings::new(connection, "quota-read")
        .topics([topic.as_str()])
        .set("fetch.message.max.bytes", 20_000)
        .pressure(&pressure);
    let (_handle, flow) = kafka::source(settings);
    let mut running = run(flow.for_each(drop));
    let mut most_yet = 0.0;
    until("the throttle to be felt", || {
        let why = pressure.explain(forebay::time::now());
        most_yet = why.scores[Signal::Throttle as usize]
            .unwrap_or(0.0)
            .max(most_yet);
        most_yet > 0.5
    })
    .await;
    drain(&mut running).await;
    // Who has left presses no more.
    let why = pressure.explain(forebay::time::now());
    assert_eq!(why.scores[Signal::Throttle as usize], None, "{why}");
}
