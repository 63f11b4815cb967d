//! Writing a topic: the bare client with a thread that polls it, and a pipeline that settles each record.

use std::time::Duration;

use forebay::kafka::{Connection, ProducerRecord, ProducerSettings};
use forebay::source;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::measure::{Clock, Cost};
use crate::setup::{HELD, Setup, VALUE};

/// Counts what was acknowledged, and asserts that all was.
struct Count(Arc<AtomicU64>);

impl ClientContext for Count {}

impl ProducerContext for Count {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, _: usize) {
        assert!(result.is_ok());
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A loop that sends, and counts reports.
pub(crate) fn bare(setup: &Setup) -> Cost {
    let topic = setup.topic();
    let config: ClientConfig = setup.producer_config();
    let acknowledged = Arc::new(AtomicU64::new(0));
    let producer: ThreadedProducer<Count> = config
        .create_with_context(Count(Arc::clone(&acknowledged)))
        .unwrap();
    let value = [b'x'; VALUE];
    let clock = Clock::now();
    for number in 0..setup.records {
        let key = number.to_ne_bytes();
        let mut record = BaseRecord::with_opaque_to(&topic, 1_usize)
            .key(&key[..])
            .payload(&value[..]);
        // As many on their way as the pipeline has.
        while number - acknowledged.load(Ordering::Relaxed) >= HELD.0 as u64 {
            std::thread::sleep(Duration::from_micros(500));
        }
        while let Err((error, back)) = producer.send(record) {
            assert!(matches!(
                error,
                KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)
            ));
            std::thread::sleep(Duration::from_micros(500));
            record = back;
        }
    }
    producer.flush(Duration::from_secs(60)).unwrap();
    while acknowledged.load(Ordering::Relaxed) < setup.records {
        std::thread::sleep(Duration::from_micros(500));
    }
    clock.per(setup.records)
}

/// A pipeline.
pub(crate) fn forebay(setup: &Setup) -> Cost {
    let topic: Arc<str> = setup.topic().into();
    let settings =
        ProducerSettings::new(Connection::to(&*setup.bootstrap)).in_flight(HELD.0, HELD.1 << 10);
    setup.runtime.block_on(async {
        let value: &'static [u8] = &[b'x'; VALUE];
        let clock = Clock::now();
        let mut running = source::iter(0..setup.records)
            .map(move |number| {
                ProducerRecord::to(Arc::clone(&topic))
                    .key(number.to_ne_bytes().to_vec())
                    .value(value)
            })
            .to_kafka(settings)
            .run()
            .unwrap();
        running.join().await.unwrap();
        let cost = clock.per(setup.records);
        running.snapshot().check().unwrap();
        cost
    })
}
