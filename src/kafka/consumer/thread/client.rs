//! What the client calls, and what it is asked.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;

use super::PATIENCE;
use crate::kafka::consumer::shared::Shared;
use crate::kafka::error::Error;
use crate::kafka::record::TopicPartition;
use crate::kafka::throttle::Throttle;
use crate::sync::{Mutex, lock};

/// What the client tells. It is called by this thread alone, within its `poll`.
pub(in crate::kafka::consumer) struct Listener {
    pub(super) shared: Arc<Shared>,
    pub(super) changes: Mutex<VecDeque<Change>>,
    /// How often it was told anything.
    pub(super) told: AtomicU64,
    pub(super) throttle: Throttle,
    /// The consumer is closed: nobody looks at the changes any more.
    pub(super) closing: AtomicBool,
}

/// A rebalance. It is carried out after the poll, where it may take its time.
pub(super) enum Change {
    Assigned(TopicPartitionList),
    Revoked {
        list: TopicPartitionList,
        lost: bool,
    },
}

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.told.fetch_add(1, Ordering::Relaxed);
        crate::kafka::log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.told.fetch_add(1, Ordering::Relaxed);
        self.throttle.hear(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // What is fatal comes where records come as well, and is explained there.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            return;
        }
        let settings = &self.shared.settings;
        if let Some(told) = Error::asynchronous(&error, reason) {
            let told = told.concerning(|| settings.concerned(error.rdkafka_error_code(), reason));
            self.shared.lock().fail(told);
        }
    }
}

impl ConsumerContext for Listener {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        self.told.fetch_add(1, Ordering::Relaxed);
        let change = match what {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Change::Assigned(list.clone()),
            _ => Change::Revoked {
                list: list.clone(),
                lost: consumer.assignment_lost(),
            },
        };
        if self.closing.load(Ordering::Relaxed) {
            // What there was to commit is committed.
            let _ = match change {
                Change::Revoked { list, .. } => unassign(consumer, &list),
                Change::Assigned(list) => assign(consumer, &list),
            };
            return;
        }
        lock(&self.changes).push_back(change);
    }
}

/// Asks the brokers once more while they have nobody who could answer: a leader or a coordinator moves.
pub(in crate::kafka) fn patiently<V>(ask: impl Fn() -> KafkaResult<V>) -> Result<V, Error> {
    let until = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) if is_passing(&error) && Instant::now() < until => {
                thread::sleep(Duration::from_millis(50));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::NotCoordinator
                | Code::CoordinatorLoadInProgress
                | Code::CoordinatorNotAvailable
                | Code::WaitingForCoordinator
                | Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
                | Code::BrokerTransportFailure
                | Code::OperationTimedOut
                | Code::RequestTimedOut
        )
    )
}

fn is_cooperative(consumer: &BaseConsumer<Listener>) -> bool {
    matches!(
        consumer.rebalance_protocol(),
        RebalanceProtocol::Cooperative
    )
}

pub(super) fn assign(
    consumer: &BaseConsumer<Listener>,
    list: &TopicPartitionList,
) -> KafkaResult<()> {
    if is_cooperative(consumer) {
        consumer.incremental_assign(list)
    } else {
        consumer.assign(list)
    }
}

pub(super) fn unassign(
    consumer: &BaseConsumer<Listener>,
    list: &TopicPartitionList,
) -> KafkaResult<()> {
    if is_cooperative(consumer) {
        consumer.incremental_unassign(list)
    } else {
        consumer.unassign()
    }
}

/// The partitions of a list.
pub(super) fn places(list: &TopicPartitionList) -> Vec<TopicPartition> {
    let elements = list.elements();
    let places = elements
        .iter()
        .map(|element| TopicPartition::new(element.topic(), element.partition()));
    places.collect()
}
