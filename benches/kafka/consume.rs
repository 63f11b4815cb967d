//! Reading a topic: the bare client's `poll`, its batch queue, and a pipeline with receipts and commits.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay::kafka::{self, Connection, ConsumerSettings};
use rdkafka::bindings as sys;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use crate::measure::{Clock, Cost};
use crate::setup::{FULL, PARTITIONS, Setup};

/// The loop that `poll` is made for, tuned, without commits.
pub(crate) fn polled(setup: &Setup) -> Cost {
    let group = Setup::fresh("polled");
    let consumer: BaseConsumer = setup.consumer_config(&group).create().unwrap();
    consumer.subscribe(&[FULL]).unwrap();
    let (mut seen, mut bytes, mut clock) = (0, 0, None);
    while seen < setup.records {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            clock.get_or_insert_with(Clock::now);
            seen += 1;
            bytes += message.payload().unwrap_or_default().len();
        }
    }
    std::hint::black_box(bytes);
    clock.unwrap().per(setup.records)
}

/// The fastest that librdkafka has: a thousand messages a call, without commits.
#[allow(unsafe_code)]
pub(crate) fn batch_queue(setup: &Setup) -> Cost {
    let group = Setup::fresh("batch");
    let consumer: BaseConsumer = setup.consumer_config(&group).create().unwrap();
    // Without a group: nobody serves its events here.
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset(FULL, partition, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&all).unwrap();
    let (mut seen, mut bytes, mut clock) = (0, 0, None);
    let mut messages = [ptr::null_mut(); 1000];
    // SAFETY: the queue and its messages are used while the consumer lives, and destroyed before it.
    unsafe {
        let queue = sys::rd_kafka_queue_get_consumer(consumer.client().native_ptr());
        assert!(!queue.is_null());
        while seen < setup.records {
            let taken = sys::rd_kafka_consume_batch_queue(
                queue,
                100,
                messages.as_mut_ptr(),
                messages.len(),
            );
            for message in &messages[..usize::try_from(taken).unwrap()] {
                if (**message).err == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                    clock.get_or_insert_with(Clock::now);
                    seen += 1;
                    bytes += (**message).len;
                }
                sys::rd_kafka_message_destroy(*message);
            }
        }
        sys::rd_kafka_queue_destroy(queue);
    }
    std::hint::black_box(bytes);
    clock.unwrap().per(setup.records)
}

/// The same through a pipeline, with receipts and commits.
pub(crate) fn forebay(setup: &Setup) -> Cost {
    setup.runtime.block_on(async {
        let group = Setup::fresh("forebay");
        let settings =
            ConsumerSettings::new(Connection::to(&*setup.bootstrap), group).topics([FULL]);
        let (_handle, flow) = kafka::source(settings);
        let seen = Arc::new(AtomicU64::new(0));
        let at = Arc::clone(&seen);
        let mut local = (0_u64, 0_u64);
        let mut running = flow
            .window(16_384)
            .for_each(move |record| {
                local.0 += 1;
                local.1 += record.value().unwrap_or_default().len() as u64;
                at.store(local.0, Ordering::Relaxed);
                std::hint::black_box(local.1);
            })
            .run()
            .unwrap();
        while seen.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        let clock = Clock::now();
        while seen.load(Ordering::Relaxed) < setup.records {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let cost = clock.per(setup.records);
        let drained = running.drain(Duration::from_secs(20)).await.unwrap();
        assert!(drained.still_running.is_empty());
        running.snapshot().check().unwrap();
        cost
    })
}
