//! What became of letters, in a topic beside theirs, and the transactions it is written in.

use std::collections::BTreeMap;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext};
use rdkafka::util::Timeout;

use super::letter::LetterState;
use super::scan::{PATIENCE, Scanner, Watch};
use crate::kafka::error::Error;
use crate::kafka::ffi::{Failure, Hears, Report, Sender};
use crate::kafka::producer::ProducerRecord;
use crate::kafka::properties::Properties;
use crate::kafka::transactions::{again, failure};
use crate::sync::lock;

/// What has become of letters, by partition and offset.
pub(super) type Marks = BTreeMap<(i32, i64), LetterState>;

/// The marks in that topic; none if there is no such topic.
pub(super) fn read(scanner: &Scanner, topic: &str) -> Result<Marks, Error> {
    let mut marks = Marks::new();
    for (partition, _) in scanner.partitions(topic)? {
        scanner.scan(topic, partition, 0, |record| {
            let key = record.key().and_then(|key| std::str::from_utf8(key).ok());
            let at = key.and_then(|key| key.split_once('@'));
            let at = at.and_then(|(partition, offset)| {
                Some((partition.parse().ok()?, offset.parse().ok()?))
            });
            let value = record.value().map(String::from_utf8_lossy);
            match (at, value) {
                (Some(at), Some(value)) => {
                    if let Some(state) = LetterState::of_mark(&value) {
                        marks.insert(at, state);
                    }
                }
                (Some(at), None) => drop(marks.remove(&at)),
                (None, _) => {}
            }
            Ok(ControlFlow::Continue(()))
        })?;
    }
    Ok(marks)
}

/// The mark of a letter.
pub(super) fn mark(topic: &Arc<str>, at: (i32, i64), state: &LetterState) -> ProducerRecord {
    let record = ProducerRecord::to(Arc::clone(topic)).key(format!("{}@{}", at.0, at.1));
    match state.to_mark() {
        Some(text) => record.value(text),
        None => record,
    }
}

/// Makes the topic of marks: one partition, compacted, as often replicated as the letters are.
pub(super) fn make_topic(
    properties: &Properties,
    topic: &str,
    replicas: usize,
) -> Result<(), Error> {
    let admin: AdminClient<Watch> = properties
        .checked()?
        .create_with_context(Watch::default())?;
    let replicas = TopicReplication::Fixed(i32::try_from(replicas).unwrap_or(-1));
    let new = NewTopic::new(topic, 1, replicas).set("cleanup.policy", "compact");
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let made = wait_for(admin.create_topics(&[new], &options))?;
    match made.into_iter().next() {
        None | Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
        Some(Err((_, RDKafkaErrorCode::TopicAuthorizationFailed))) => Err(Error::Authorization {
            what: topic.to_owned(),
            why: "it may not be created".to_owned(),
        }),
        Some(Err((_, code))) => Err(Error::Client(KafkaError::AdminOp(code))),
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future that another thread completes, with no need of a runtime.
fn wait_for<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

impl ProducerContext for Watch {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        self.reports(&mut std::iter::once((number, Failure::of(result))));
    }
}

impl Hears for Watch {
    // The client aborts the transaction; this says why.
    fn reports(&self, reports: &mut dyn Iterator<Item = Report>) {
        for failure in reports.filter_map(|(_, failure)| failure) {
            lock(&self.0).get_or_insert_with(|| Error::from(failure.error));
        }
    }
}

/// Writes records in transactions: all of one, or none.
pub(super) struct Transactions {
    producer: Arc<BaseProducer<Watch>>,
    sender: Sender<Watch>,
}

impl Transactions {
    /// Whoever had that id before is fenced, and what it had not committed is undone.
    pub(super) fn begin(mut properties: Properties, id: &str) -> Result<Transactions, Error> {
        properties.put("transactional.id", id);
        properties.put("transaction.timeout.ms", 60_000);
        properties.put("delivery.timeout.ms", 60_000);
        let producer: BaseProducer<Watch> = properties
            .checked()?
            .create_with_context(Watch::default())?;
        let producer = Arc::new(producer);
        let sender = Sender::new(Arc::clone(&producer));
        let transactions = Transactions { producer, sender };
        let begun = again(|| transactions.producer.init_transactions(PATIENCE));
        transactions.told(begun)?;
        Ok(transactions)
    }

    /// Writes these in one transaction.
    pub(super) fn write(&mut self, records: &[ProducerRecord]) -> Result<(), Error> {
        self.told(again(|| self.producer.begin_transaction()))?;
        let written = self.send(records).and_then(|()| {
            self.producer.flush(Timeout::Never)?;
            Producer::context(&*self.producer).check()?;
            let committed = again(|| self.producer.commit_transaction(Timeout::Never));
            committed.map_err(failure)
        });
        if written.is_err() {
            // Its time-out undoes it too; until then readers wait behind it.
            let _ = again(|| self.producer.abort_transaction(PATIENCE));
        }
        written
    }

    fn send(&mut self, records: &[ProducerRecord]) -> Result<(), Error> {
        for record in records {
            loop {
                match self.sender.send(record.outgoing(), 0) {
                    Ok(()) => break,
                    Err(error)
                        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) =>
                    {
                        self.producer.poll(Duration::from_millis(10));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// What an error means; what the client told meanwhile says it better.
    fn told(&self, result: Result<(), KafkaError>) -> Result<(), Error> {
        result.map_err(|error| {
            let told = Producer::context(&*self.producer).check();
            told.err().unwrap_or_else(|| failure(error))
        })
    }
}
