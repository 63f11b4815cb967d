//! Row B4: profiles for much, as they are told to the client in the end, beside librdkafka's own defaults.
//!
//! `cargo run --features kafka --example b4_profiles`: it connects to nothing.
#![allow(clippy::print_stdout)]

use forebay::kafka::{Connection, ConsumerSettings, ProducerSettings, Properties};

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let at = || Connection::to("localhost:9092");
    let writes = ProducerSettings::high_throughput(at());
    show(
        "producer",
        &writes.effective()?,
        &ProducerSettings::new(at()).effective()?,
        &[
            "queue.buffering.max.ms",
            "batch.size",
            "compression.codec",
            "enable.idempotence",
        ],
    );
    let group = |settings: ConsumerSettings| settings.topics(["orders"]);
    let reads = group(ConsumerSettings::high_throughput(at(), "billing"));
    show(
        "consumer",
        &reads.effective()?,
        &group(ConsumerSettings::new(at(), "billing")).effective()?,
        &[
            "fetch.min.bytes",
            "fetch.wait.max.ms",
            "fetch.message.max.bytes",
            "heartbeat.interval.ms",
        ],
    );
    // Settings that cannot be are refused by name, before anything connects.
    let refused = reads.set("fetch.min.bytes", "much").effective();
    println!("{}", refused.err().ok_or("it was taken")?);
    Ok(())
}

fn show(what: &str, profile: &Properties, plain: &Properties, names: &[&str]) {
    for name in names {
        let of = |properties: &Properties| properties.get(name).unwrap_or("?").to_owned();
        println!("{what}: {name} = {} instead of {}", of(profile), of(plain));
    }
}
