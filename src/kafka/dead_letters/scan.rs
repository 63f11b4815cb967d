//! Reading what is there of a topic, outside of any group, and no further.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::consumer::patiently;
use crate::kafka::error::Error;
use crate::kafka::ffi::PartitionQueue;
use crate::kafka::properties::Properties;
use crate::kafka::record::{Record, TopicPartition, Writer};
use crate::sync::{Mutex, lock};

/// How long an answer of the brokers is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long the thread sleeps at most while nothing comes.
const REST: Duration = Duration::from_millis(20);

/// Keeps what the client cannot go on from.
#[derive(Default)]
pub(in crate::kafka) struct Watch(pub(super) Mutex<Option<Error>>);

impl Watch {
    pub(super) fn check(&self) -> Result<(), Error> {
        match lock(&self.0).clone() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl ClientContext for Watch {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        crate::kafka::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // A group is named, as the client wants one, but it is never joined.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed) {
            return;
        }
        if let Some(error) = Error::asynchronous(&error, reason) {
            lock(&self.0).get_or_insert(error);
        }
    }
}

impl ConsumerContext for Watch {}

/// A reader of what is there.
pub(in crate::kafka) struct Scanner {
    consumer: Arc<BaseConsumer<Watch>>,
}

impl Scanner {
    /// A reader with these properties of its connection. It sees what was committed alone.
    pub(in crate::kafka) fn open(properties: Properties) -> Result<Scanner, Error> {
        Scanner::of(properties, "read_committed")
    }

    /// One that sees also what may still be undone.
    pub(in crate::kafka) fn open_uncommitted(properties: Properties) -> Result<Scanner, Error> {
        Scanner::of(properties, "read_uncommitted")
    }

    fn of(mut properties: Properties, isolation: &str) -> Result<Scanner, Error> {
        properties.put("group.id", "forebay.reads");
        properties.put("enable.auto.commit", false);
        properties.put("enable.auto.offset.store", false);
        properties.put("auto.offset.reset", "earliest");
        properties.put("isolation.level", isolation);
        properties.put("enable.partition.eof", true);
        properties.put("fetch.queue.backoff.ms", 5);
        properties.put("fetch.wait.max.ms", 50);
        let consumer = properties
            .checked()?
            .create_with_context(Watch::default())?;
        Ok(Scanner {
            consumer: Arc::new(consumer),
        })
    }

    /// The partitions of a topic, and the replicas of each; none if there is no such topic.
    pub(in crate::kafka) fn partitions(&self, topic: &str) -> Result<Vec<(i32, usize)>, Error> {
        let found = patiently(|| self.consumer.fetch_metadata(Some(topic), PATIENCE));
        self.consumer.context().check()?;
        let metadata = found?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Ok(Vec::new());
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                return Ok(Vec::new());
            }
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                return Err(Error::Authorization {
                    what: topic.to_owned(),
                    why: "it may not be described".to_owned(),
                });
            }
            Some(code) => return Err(Error::Client(KafkaError::MetadataFetch(code))),
        }
        let partitions = found.partitions().iter();
        let mut all: Vec<(i32, usize)> = partitions
            .map(|partition| (partition.id(), partition.replicas().len()))
            .collect();
        all.sort_unstable();
        Ok(all)
    }

    /// The first offset that a partition still has, and the one behind the last it shows.
    pub(in crate::kafka) fn ends(&self, topic: &str, partition: i32) -> Result<(i64, i64), Error> {
        let ends = patiently(|| self.consumer.fetch_watermarks(topic, partition, PATIENCE));
        self.consumer.context().check()?;
        ends
    }

    /// Calls back for each record of a partition from that offset to the end it has now, in order.
    pub(in crate::kafka) fn scan(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        mut each: impl FnMut(Record) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let (low, high) = self.ends(topic, partition)?;
        let from = from.max(low);
        if from >= high {
            return Ok(());
        }
        let wakes = thread::current();
        let Some(mut queue) = PartitionQueue::split(&self.consumer, topic, partition, wakes) else {
            return Err(Error::UnknownTopic {
                topic: topic.to_owned(),
            });
        };
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(from))?;
        self.consumer.assign(&list)?;
        let read = self.read(&mut queue, topic, partition, high, &mut each);
        let left = self.consumer.unassign();
        read?;
        Ok(left?)
    }

    fn read(
        &self,
        queue: &mut PartitionQueue<Watch>,
        topic: &str,
        partition: i32,
        end: i64,
        each: &mut impl FnMut(Record) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        let mut writer = Writer::new(Arc::new(TopicPartition::new(topic, partition)));
        let mut heard = Instant::now();
        loop {
            if let Some(Err(KafkaError::MessageConsumptionFatal(code))) =
                self.consumer.poll(Duration::ZERO)
            {
                return Err(Error::Fatal(code.to_string()));
            }
            self.consumer.context().check()?;
            let (mut is_over, mut failed) = (false, None);
            let count = queue.take(512, |taken| match taken {
                Ok(parts) => writer.push(parts),
                Err(RDKafkaErrorCode::PartitionEOF) => is_over = true,
                Err(code) => failed = Some(code),
            });
            for record in writer.finish().0 {
                if record.offset() >= end {
                    return Ok(());
                }
                is_over |= record.offset() + 1 == end;
                if each(record)?.is_break() {
                    return Ok(());
                }
            }
            if is_over {
                return Ok(());
            }
            match failed {
                Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                    return Err(Error::Authorization {
                        what: topic.to_owned(),
                        why: "it may not be read".to_owned(),
                    });
                }
                Some(code) if heard.elapsed() > PATIENCE => {
                    return Err(Error::Client(KafkaError::MessageConsumption(code)));
                }
                _ => {}
            }
            if count > 0 {
                heard = Instant::now();
            } else if heard.elapsed() > PATIENCE {
                let code = RDKafkaErrorCode::OperationTimedOut;
                return Err(Error::Client(KafkaError::MessageConsumption(code)));
            } else {
                thread::park_timeout(REST);
            }
        }
    }
}
