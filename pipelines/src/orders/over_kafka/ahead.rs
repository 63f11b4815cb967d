//! How far the paying side may be ahead in an embedded cluster.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use forebay::kafka::{EmbeddedCluster, Record};
use tokio::sync::Semaphore;

/// Bytes that are written and not read. An embedded cluster forgets what a partition has beyond its
/// bound, read or not; all partitions together stay well below that, whichever the keys prefer.
const ROOM: usize = (EmbeddedCluster::RETAINED_BYTES / 2) as usize;
/// What a record weighs at most beside key and value: its headers, and a batch of its own.
const BESIDE: usize = 256;

/// What is written and not read of an embedded topic: the paying side waits when it is too much.
#[derive(Clone)]
pub(super) struct Ahead(Arc<State>);

struct State {
    room: Semaphore,
    /// The next offset of each partition: one that is read again makes no room.
    next: Mutex<BTreeMap<i32, i64>>,
}

impl Default for Ahead {
    fn default() -> Ahead {
        Ahead(Arc::new(State {
            room: Semaphore::new(ROOM),
            next: Mutex::default(),
        }))
    }
}

fn weight(key: &[u8], value: &[u8]) -> u32 {
    (key.len() + value.len() + BESIDE).min(ROOM) as u32
}

impl Ahead {
    /// Waits until there is room for a record.
    pub(super) async fn enter(self, key: &[u8], value: &[u8]) {
        // It is never closed.
        if let Ok(taken) = self.0.room.acquire_many(weight(key, value)).await {
            taken.forget();
        }
    }

    /// A record was read: there is room for another.
    pub(super) fn leave(&self, record: &Record) {
        let mut next = self.0.next.lock().unwrap_or_else(PoisonError::into_inner);
        let next = next.entry(record.partition()).or_default();
        if record.offset() >= *next {
            *next = record.offset() + 1;
            let part = Option::unwrap_or_default;
            let weight = weight(part(record.key()), part(record.value()));
            self.0.room.add_permits(weight as usize);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use forebay::flow::Flow;
    use forebay::kafka::{self, ConsumerSettings, ProducerRecord, ProducerSettings};
    use forebay::source;

    use super::*;

    const TOPIC: &str = "ahead";
    const COUNT: u64 = 60_000;

    fn paying(cluster: &EmbeddedCluster, ahead: &Ahead) -> Flow<ProducerRecord> {
        let ahead = ahead.clone();
        cluster.create_topic(TOPIC, 2).unwrap();
        source::iter(0..COUNT)
            .map_async(1, move |number| {
                let ahead = ahead.clone();
                let value = format!("{number:>200}");
                async move {
                    ahead.enter(b"one key", value.as_bytes()).await;
                    value
                }
            })
            .map(|value| ProducerRecord::to(TOPIC).key("one key").value(value))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn more_than_the_cluster_keeps_goes_through_it_and_nothing_is_forgotten() {
        let cluster = EmbeddedCluster::start().unwrap();
        let ahead = Ahead::default();
        let writes = ProducerSettings::new(cluster.connection());
        let mut paying = paying(&cluster, &ahead).to_kafka(writes).run().unwrap();
        // Nobody reads: it stops before the cluster forgets anything.
        let full = (ROOM / (BESIDE + 207)) as u64;
        let delivered = |running: &forebay::runtime::Running<()>| {
            let counts = running.snapshot().total();
            counts.outcome(forebay::outcome::Kind::Delivered)
        };
        while delivered(&paying) < full {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(delivered(&paying), full);
        const { assert!(COUNT * 207 > 2 * EmbeddedCluster::RETAINED_BYTES) };

        let reads = ConsumerSettings::new(cluster.connection(), "reads").topics([TOPIC]);
        let (_handle, records) = kafka::source(reads);
        let numbers = records
            .inspect(move |record| ahead.leave(record))
            .map(|record| {
                let value = std::str::from_utf8(record.value().unwrap_or_default());
                value.unwrap().trim().parse::<u64>().unwrap()
            })
            .take(COUNT as usize)
            .collect();
        let mut reading = numbers.run().unwrap();
        let numbers = reading.join().await.unwrap();
        paying.join().await.unwrap();
        assert_eq!(numbers, (0..COUNT).collect::<Vec<_>>());
    }
}
