//! What is read: a bare client writes numbers, each once, as fast as it is told and as far as it may.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};

use crate::cluster::config;

/// How many keys there are.
const KEYS: u64 = 1000;

/// Numbers on their way into a topic.
pub(crate) struct Feed {
    allowed: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Reports {
    written: AtomicU64,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        // One that fails is missed in the end.
        self.written
            .fetch_add(u64::from(result.is_ok()), Ordering::Relaxed);
    }
}

/// The key of a number. Records of a key go to one partition, in the order of their numbers.
pub(crate) fn key(number: u64) -> u64 {
    number % KEYS
}

impl Feed {
    /// So many numbers, not more of them a second, and none before [`Feed::allow`] says so.
    pub(crate) fn start(bootstrap: &str, topic: &str, numbers: u64, a_second: u64) -> Feed {
        let allowed = Arc::new(AtomicU64::new(0));
        let producer: ThreadedProducer<Reports> = config(bootstrap)
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("linger.ms", "5")
            .set("message.timeout.ms", "600000")
            .create_with_context(Reports::default())
            .unwrap();
        let (topic, may) = (topic.to_owned(), Arc::clone(&allowed));
        let thread = thread::spawn(move || {
            let pause = Duration::from_millis(5);
            let mut number = 0;
            while number < numbers {
                if Arc::strong_count(&may) == 1 {
                    // The test is over before its time.
                    return;
                }
                let started = Instant::now();
                let most = numbers.min(may.load(Ordering::Relaxed));
                let next = most.min(number + (a_second / 200).max(1));
                for number in number..next {
                    send(&producer, &topic, number);
                }
                number = next;
                thread::sleep(pause.saturating_sub(started.elapsed()));
            }
            producer.flush(Duration::from_secs(300)).unwrap();
            let written = producer.context().written.load(Ordering::Relaxed);
            assert_eq!(written, numbers, "numbers that were written");
        });
        Feed {
            allowed,
            thread: Some(thread),
        }
    }

    /// It may write numbers up to that one.
    pub(crate) fn allow(&self, up_to: u64) {
        self.allowed.store(up_to, Ordering::Relaxed);
    }

    /// Waits until all are written.
    pub(crate) fn finish(mut self) {
        self.allow(u64::MAX);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn send(producer: &ThreadedProducer<Reports>, topic: &str, number: u64) {
    let (key, value) = (key(number).to_string(), number.to_string());
    let mut record = BaseRecord::to(topic).key(&key).payload(&value);
    while let Err((_, back)) = producer.send(record) {
        thread::sleep(Duration::from_millis(5));
        record = back;
    }
}
