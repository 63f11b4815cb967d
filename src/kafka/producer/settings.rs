//! What a producer is to do, checked before it connects.

use std::time::Duration;

use rdkafka::ClientConfig;

use crate::control::PressureHandle;
use crate::kafka::connection::Connection;
use crate::kafka::error::Error;
use crate::kafka::properties::{self, Properties};
use crate::kafka::throttle;

/// What a producer is to do, and how sure of it.
///
/// | setting | range | default |
/// | --- | --- | --- |
/// | [`acknowledged_by`](ProducerSettings::acknowledged_by) | | all in-sync replicas, and no doubles |
/// | [`linger`](ProducerSettings::linger) | 0 to 15 min | 5 ms |
/// | [`batch`](ProducerSettings::batch) | 1 byte to 2 GiB | 1,000,000 bytes |
/// | [`compression`](ProducerSettings::compression) | | none |
/// | [`in_flight`](ProducerSettings::in_flight) | 1 to 5,000,000 records, 1 KiB to 1 GiB | 20,000, 64 MiB |
/// | [`delivery_timeout`](ProducerSettings::delivery_timeout) | 1 ms to 1 day | 2 min |
#[derive(Clone, PartialEq, Debug)]
pub struct ProducerSettings {
    connection: Connection,
    acks: Acks,
    linger: Duration,
    batch_bytes: u64,
    compression: Compression,
    pub(in crate::kafka) items: usize,
    pub(super) bytes: u64,
    pub(in crate::kafka) delivery_timeout: Duration,
    /// What its topics' failed records go to: the topic's name with this behind it.
    pub(super) dead_letters: Option<String>,
    pub(in crate::kafka) pressure: Option<PressureHandle>,
    theirs: Properties,
}

/// Who must have a record before it counts as written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Acks {
    /// Nobody: it counts when it was sent. A broker that fails loses it.
    None,
    /// The partition's leader: it is lost if that fails before the others have it.
    Leader,
    /// All replicas that are in sync, and the topic says how many that must be
    /// (`min.insync.replicas`). A record that is sent again after an error is written once, and in
    /// order (`enable.idempotence`).
    #[default]
    All,
}

/// How batches are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

/// What a promise stands on.
const FIXED: &[(&str, &str)] = &[
    ("acks", "declare it with `acknowledged_by`"),
    ("request.required.acks", "declare it with `acknowledged_by`"),
    ("enable.idempotence", "declare it with `acknowledged_by`"),
    ("transactional.id", "that is what a transactional sink has"),
    (
        "queue.buffering.max.messages",
        "the sink's own bound is below it: declare `in_flight`",
    ),
    (
        "queue.buffering.max.kbytes",
        "the sink's own bound is below it: declare `in_flight`",
    ),
];

impl ProducerSettings {
    /// A producer for that cluster.
    pub fn new(connection: Connection) -> ProducerSettings {
        ProducerSettings {
            connection,
            acks: Acks::All,
            linger: Duration::from_millis(5),
            batch_bytes: 1_000_000,
            compression: Compression::None,
            items: 20_000,
            bytes: 64 << 20,
            delivery_timeout: Duration::from_secs(120),
            dead_letters: None,
            pressure: None,
            theirs: Properties::default(),
        }
    }

    /// Who must have a record before it counts as delivered.
    #[must_use]
    pub fn acknowledged_by(mut self, acks: Acks) -> Self {
        self.acks = acks;
        self
    }

    /// How long a record waits for others to share a batch with. Batches that are full go at once.
    #[must_use]
    pub fn linger(mut self, at_most: Duration) -> Self {
        self.linger = at_most;
        self
    }

    /// How large a batch may grow.
    #[must_use]
    pub fn batch(mut self, bytes: u64) -> Self {
        self.batch_bytes = bytes;
        self
    }

    /// How batches are compressed.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// How many records, and of how many bytes, may be on their way: with so many the sink asks for no
    /// more. A broker that is slower than the flow has so many waiting all the time, and what does not
    /// fit the processor's caches costs more each: from topic to topic 100,000 cost a fifth more processor
    /// time a record than 20,000 (benches/kafka). Brokers far away need more: the rate times the time to an
    /// answer.
    #[must_use]
    pub fn in_flight(mut self, records: usize, bytes: u64) -> Self {
        self.items = records;
        self.bytes = bytes;
        self
    }

    /// How long a record is tried; then it has failed.
    #[must_use]
    pub fn delivery_timeout(mut self, at_most: Duration) -> Self {
        self.delivery_timeout = at_most;
        self
    }

    /// Records that could not be written go to another topic: the name of their own with this behind
    /// it, such as `.dlq`, and headers `original-topic`, `error-class` (librdkafka's code), `error-message` and
    /// `error-timestamp`, with `original-partition` and `original-timestamp` where the record named them. They end
    /// dead-lettered once they are acknowledged there, and failed if they cannot be written there either.
    #[must_use]
    pub fn dead_letters(mut self, suffix: impl Into<String>) -> Self {
        self.dead_letters = Some(suffix.into());
        self
    }

    /// Tells that pressure how long brokers have this client wait because it has used up its quota: what is
    /// controlled by the pressure then asks less of them. The client's figures are looked at twice a second
    /// for it (`statistics.interval.ms`), which costs more the more partitions it knows. Default: none.
    #[must_use]
    pub fn pressure(mut self, pressure: &PressureHandle) -> Self {
        self.pressure = Some(pressure.clone());
        self
    }

    /// Sets any property of librdkafka.
    #[must_use]
    pub fn set(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.theirs.put(name, value);
        self
    }

    /// The same for records that were read before: by default the client refuses to write what is longer
    /// than 1,000,000 bytes, though topics by default hold and give somewhat more.
    pub(in crate::kafka) fn for_any_length(&self) -> ProducerSettings {
        let mut all = self.clone();
        if all.theirs.get("message.max.bytes").is_none() {
            all.theirs.put("message.max.bytes", 1_000_000_000);
        }
        all
    }

    /// What the client will be told.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the name of the setting that cannot be.
    pub fn properties(&self) -> Result<Properties, Error> {
        let mut all = self.connection.properties();
        match self.acks {
            Acks::None => all.put("acks", 0),
            Acks::Leader => all.put("acks", 1),
            Acks::All => {
                all.put("acks", "all");
                all.put("enable.idempotence", true);
            }
        }
        all.put("linger.ms", self.linger.as_secs_f64() * 1000.0);
        all.put("batch.size", self.batch_bytes);
        all.put("compression.type", self.compression.name());
        // Permits are below what the client holds: its queue is never full.
        all.put("queue.buffering.max.messages", self.items.saturating_mul(2));
        all.put(
            "queue.buffering.max.kbytes",
            self.bytes.saturating_mul(2).div_ceil(1024),
        );
        all.put("delivery.timeout.ms", self.delivery_timeout.as_millis());
        // librdkafka's own default sends equal keys elsewhere than the clients in Java do.
        all.put("partitioner", "murmur2_random");
        if self.pressure.is_some() {
            all.put("statistics.interval.ms", throttle::EVERY_MS);
        }
        all.overlay(&self.theirs, FIXED)?;
        Ok(all)
    }

    /// All that the client has once it is made, by librdkafka's own names: also what nobody set, and what
    /// it sets by itself. A client is made for that, which connects to nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] and [`Error::Settings`] for settings that cannot be, alone or together.
    pub fn effective(&self) -> Result<Properties, Error> {
        properties::effective_of_producer(self.checked()?)
    }

    /// Checks every setting.
    pub(in crate::kafka) fn checked(&self) -> Result<ClientConfig, Error> {
        self.connection.check()?;
        let refuse = |field: &str, value: String, why: &str| {
            Err(Error::Invalid {
                field: field.to_owned(),
                value,
                why: why.to_owned(),
            })
        };
        if !(1..=5_000_000).contains(&self.items) {
            return refuse(
                "in_flight",
                self.items.to_string(),
                "1 to 5,000,000 records",
            );
        }
        if !(1 << 10..=1 << 30).contains(&self.bytes) {
            return refuse("in_flight", self.bytes.to_string(), "1 KiB to 1 GiB");
        }
        self.properties()?.checked()
    }
}
