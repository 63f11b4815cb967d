//! Row B1: a producer that loses nothing. Its settings are shown before it connects, each can be set otherwise,
//! and what cannot be written goes to `<topic>.dlq` with its reason.
//!
//! `cargo run --features kafka --example b1_reliable_producer [HOST:PORT,.. TOPIC]`: without a broker it brings a
//! cluster of its own.
#![allow(clippy::print_stdout)]

use forebay::kafka::{Connection, EmbeddedCluster, ProducerRecord, ProducerSettings};
use forebay::outcome::Kind;
use forebay::source;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    match (arguments.next(), arguments.next()) {
        (Some(at), Some(topic)) => runtime.block_on(example(Connection::to(at), &topic)),
        _ => {
            let cluster = EmbeddedCluster::start()?;
            runtime.block_on(example(cluster.connection(), "orders"))
        }
    }
}

pub(crate) async fn example(at: Connection, topic: &str) -> Result<(), Failure> {
    // The profile, and one setting that suits us better.
    let settings = ProducerSettings::reliable(at).set("request.timeout.ms", 20_000);
    for name in [
        "request.required.acks",
        "enable.idempotence",
        "max.in.flight.requests.per.connection",
        "compression.codec",
        "queue.buffering.max.ms",
        "batch.size",
        "request.timeout.ms",
        "message.timeout.ms",
    ] {
        let effective = settings.effective()?;
        println!("{name} = {}", effective.get(name).unwrap_or("?"));
    }
    // What the promise stands on cannot be taken away.
    let refused = settings.clone().set("acks", 1).effective();
    println!("{}", refused.err().ok_or("`acks` was taken")?);

    let to = topic.to_owned();
    let mut running = source::iter(0..100_u32)
        .map(move |order| {
            ProducerRecord::to(to.as_str())
                .key(format!("customer {}", order % 7))
                .header("event-type", "ORDER_PAID")
                .value(format!(r#"{{"orderId":{order}}}"#))
        })
        .to_kafka(settings)
        .run()?;
    running.join().await?;
    let delivered = running.snapshot().total().outcome(Kind::Delivered);
    println!("{delivered} acknowledged by every replica in sync");
    if delivered != 100 {
        return Err(format!("{delivered} of 100").into());
    }
    Ok(())
}
