//! A transactional producer: what blocks is done on a thread of its own, one order at a time.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext};
use rdkafka::statistics::Statistics;
use rdkafka::util::Timeout;

use crate::kafka::error::Error;
use crate::kafka::ffi::{Hears, Report, Sender};
use crate::kafka::producer::{ProducerRecord, poll_on_thread};
use crate::kafka::throttle::Throttle;
use crate::sync::{AtomicBool, AtomicWaker, Mutex, Ordering, lock};

/// How long the first call waits for the coordinator of transactions.
const INIT: Duration = Duration::from_secs(60);
const OFFSETS: Duration = Duration::from_secs(30);
/// Between two tries of what the client says may be tried again.
const AGAIN: Duration = Duration::from_millis(10);

/// Positions to be committed, each with the group they belong to.
pub(super) type Offsets = Vec<(TopicPartitionList, ConsumerGroupMetadata)>;

pub(super) enum Order {
    Commit(Offsets),
    Abort,
}

/// What the thread did. After all but `Flushed` a new transaction is open.
pub(super) enum Reply {
    /// The producer is known to the coordinator, and whoever had its name before is fenced.
    Ready,
    /// All records of the transaction are acknowledged; it is being committed.
    Flushed,
    Committed,
    /// It was aborted: all of it has to come again.
    Aborted,
    /// It was not committed and could not be aborted: a new producer of the same name does that. The
    /// thread has ended.
    Broken(Error),
    /// Nobody knows what became of it, or another producer has the name. The thread has ended.
    Failed(Error),
}

/// What the client tells, and what the thread replies.
pub(super) struct Replies {
    replies: Mutex<Vec<Reply>>,
    waker: Arc<AtomicWaker>,
    stopping: AtomicBool,
    /// The client has failed for good: it sends nothing more.
    is_useless: AtomicBool,
    /// The client had no room for a record: the next report makes some.
    is_full: AtomicBool,
    throttle: Throttle,
}

impl Replies {
    fn reply(&self, reply: Reply) {
        lock(&self.replies).push(reply);
        self.waker.wake();
    }
}

impl ClientContext for Replies {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        crate::kafka::log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.throttle.hear(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match Error::asynchronous(&error, reason) {
            None => {}
            // Whoever uses it next finds out why, and knows what that means for its transaction.
            Some(Error::Fatal(_)) => self.is_useless.store(true, Ordering::Release),
            Some(error) => self.reply(Reply::Failed(error)),
        }
    }
}

impl ProducerContext for Replies {
    type DeliveryOpaque = usize;

    fn delivery(&self, _: &DeliveryResult<'_>, _: usize) {
        self.reports(&mut std::iter::empty());
    }
}

impl Hears for Replies {
    // A record that could not be written has its transaction aborted by the client.
    fn reports(&self, _: &mut dyn Iterator<Item = Report>) {
        if self.is_full.load(Ordering::Acquire) && self.is_full.swap(false, Ordering::AcqRel) {
            self.waker.wake();
        }
    }
}

/// What became of a record that was to be sent.
pub(super) enum Sent {
    Taken,
    /// There is no room for it now.
    Full,
    /// Its transaction has failed, and takes no more.
    Over,
}

/// A producer with its transactional id.
pub(super) struct Lane {
    sender: Sender<Replies>,
    orders: SyncSender<Order>,
    /// A transaction is open: records may be sent.
    pub(super) is_open: bool,
}

impl Lane {
    pub(super) fn start(
        config: &ClientConfig,
        throttle: Throttle,
        waker: &Arc<AtomicWaker>,
    ) -> Result<Lane, Error> {
        let replies = Replies {
            replies: Mutex::new(Vec::new()),
            waker: Arc::clone(waker),
            stopping: AtomicBool::new(false),
            is_useless: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            throttle,
        };
        let producer: Arc<BaseProducer<Replies>> = Arc::new(config.create_with_context(replies)?);
        poll_on_thread(&producer, |replies| {
            replies.stopping.load(Ordering::Acquire)
        })?;
        let (orders, receiver) = sync_channel(1);
        let own = Arc::clone(&producer);
        thread::Builder::new()
            .name("kafka-transactions".to_owned())
            .spawn(move || run(&own, &receiver))
            .map_err(|error| Error::Thread(error.to_string()))?;
        Ok(Lane {
            sender: Sender::new(producer),
            orders,
            is_open: false,
        })
    }

    /// What the thread did since the last time.
    pub(super) fn replies(&mut self) -> Vec<Reply> {
        std::mem::take(&mut *lock(
            &Producer::context(&**self.sender.producer()).replies,
        ))
    }

    /// Hands a record to the client.
    pub(super) fn send(&mut self, record: &ProducerRecord) -> Result<Sent, Error> {
        let Err(error) = self.sender.send(record.outgoing(), 0) else {
            return Ok(Sent::Taken);
        };
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => {
                let replies = Producer::context(&**self.sender.producer());
                replies.is_full.store(true, Ordering::Release);
                // The last report may have come in between: then there is room.
                let sent = self.sender.send(record.outgoing(), 0);
                Ok(if sent.is_ok() {
                    Sent::Taken
                } else {
                    Sent::Full
                })
            }
            Some(RDKafkaErrorCode::State | RDKafkaErrorCode::Fatal) => Ok(Sent::Over),
            _ => Err(error.into()),
        }
    }

    pub(super) fn order(&mut self, order: Order) -> Result<(), Error> {
        self.is_open = false;
        let sent = self.orders.try_send(order);
        sent.map_err(|_| Error::Thread("the one of a transaction does not answer".to_owned()))
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let replies = Producer::context(&**self.sender.producer());
        replies.stopping.store(true, Ordering::Release);
    }
}

fn run(producer: &BaseProducer<Replies>, orders: &Receiver<Order>) {
    let replies = Producer::context(producer);
    let begun = again(|| producer.init_transactions(INIT)).and_then(|()| begin(producer));
    match begun {
        Ok(()) => replies.reply(Reply::Ready),
        Err(error) => return replies.reply(Reply::Failed(failure(error))),
    }
    while let Ok(order) = orders.recv() {
        let reply = obey(producer, order);
        if matches!(reply, Reply::Broken(_) | Reply::Failed(_)) {
            return replies.reply(reply);
        }
        match begin(producer) {
            Ok(()) => replies.reply(reply),
            Err(error) => return replies.reply(Reply::Failed(failure(error))),
        }
    }
    // Nobody commits what is open any more.
    let _ = abort(producer);
}

fn begin(producer: &BaseProducer<Replies>) -> Result<(), KafkaError> {
    producer.begin_transaction()
}

fn obey(producer: &BaseProducer<Replies>, order: Order) -> Reply {
    if let Order::Commit(offsets) = order
        && prepare(producer, &offsets).is_ok()
    {
        match again(|| producer.commit_transaction(Timeout::Never)) {
            Ok(()) => return Reply::Committed,
            Err(KafkaError::Transaction(error)) if error.is_fatal() => {
                return Reply::Failed(failure(KafkaError::Transaction(error)));
            }
            Err(_) => {}
        }
    }
    match abort(producer) {
        Ok(()) => Reply::Aborted,
        // What the coordinator says of whoever has the name: anybody else is told to be fenced. The
        // client had the transaction aborted before the coordinator had begun it.
        Err(KafkaError::Transaction(error))
            if error.code() == RDKafkaErrorCode::InvalidTransactionalState =>
        {
            Reply::Broken(Error::Fatal(error.string()))
        }
        Err(error) => Reply::Failed(failure(error)),
    }
}

/// All that comes before the transaction is committed.
fn prepare(producer: &BaseProducer<Replies>, offsets: &Offsets) -> Result<(), KafkaError> {
    flush(producer);
    Producer::context(producer).reply(Reply::Flushed);
    for (list, group) in offsets {
        again(|| producer.send_offsets_to_transaction(list, group, OFFSETS))?;
    }
    Ok(())
}

/// Waits until all records have their reports. They come from the other thread; each ends within its
/// delivery time-out.
fn flush(producer: &BaseProducer<Replies>) {
    let replies = Producer::context(producer);
    let is_over =
        || replies.stopping.load(Ordering::Acquire) || replies.is_useless.load(Ordering::Acquire);
    while producer.in_flight_count() > 0 && !is_over() {
        thread::sleep(Duration::from_millis(1));
    }
}

fn abort(producer: &BaseProducer<Replies>) -> Result<(), KafkaError> {
    // What was handed to the client reaches the broker first: an abort that overtakes the registration
    // of a partition is an invalid end of a transaction there.
    flush(producer);
    again(|| producer.abort_transaction(OFFSETS))
}

/// Makes the same call again while the client says that it may.
pub(in crate::kafka) fn again(call: impl Fn() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    loop {
        match call() {
            Err(KafkaError::Transaction(error)) if error.is_retriable() => thread::sleep(AGAIN),
            Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)) => {}
            result => return result,
        }
    }
}

pub(in crate::kafka) fn failure(error: KafkaError) -> Error {
    let KafkaError::Transaction(inner) = &error else {
        return error.into();
    };
    match for_good(inner.code(), inner.string()) {
        Error::Fatal(_) if !inner.is_fatal() => Error::Client(error),
        error => error,
    }
}

/// What an error means after which the client does nothing more.
fn for_good(code: RDKafkaErrorCode, words: String) -> Error {
    match code {
        RDKafkaErrorCode::Fenced
        | RDKafkaErrorCode::ProducerFenced
        | RDKafkaErrorCode::InvalidProducerEpoch => Error::Fenced(words),
        RDKafkaErrorCode::TransactionalIdAuthorizationFailed
        | RDKafkaErrorCode::TopicAuthorizationFailed
        | RDKafkaErrorCode::GroupAuthorizationFailed => Error::Authorization {
            what: "the transaction".to_owned(),
            why: words,
        },
        _ => Error::Fatal(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_replaced_is_told_so() {
        for code in [
            RDKafkaErrorCode::Fenced,
            RDKafkaErrorCode::ProducerFenced,
            RDKafkaErrorCode::InvalidProducerEpoch,
        ] {
            let error = for_good(code, String::new());
            assert!(matches!(error, Error::Fenced(_)), "{error}");
        }
        // Nobody has its name: another producer may take its place.
        let error = for_good(RDKafkaErrorCode::InvalidTransactionalState, String::new());
        assert!(matches!(error, Error::Fatal(_)), "{error}");
    }
}
