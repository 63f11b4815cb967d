//! Records written one bundle at a time: whoever wrote it waits until all have their reports.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext};
use tokio::sync::oneshot;

use super::poll_on_thread;
use super::record::ProducerRecord;
use crate::kafka::error::Error;
use crate::sync::{AtomicBool, Mutex, Ordering, lock};

/// How long a record waits that the client has no room for.
const AGAIN: Duration = Duration::from_millis(5);

/// Records on their way together.
pub(super) struct Bundle(Mutex<Open>);

struct Open {
    /// How many have no report yet.
    left: usize,
    error: Option<KafkaError>,
    whole: Option<oneshot::Sender<Result<(), KafkaError>>>,
}

impl Bundle {
    fn report(&self, error: Option<KafkaError>) {
        let mut open = lock(&self.0);
        open.left -= 1;
        if let Some(error) = error {
            open.error.get_or_insert(error);
        }
        if open.left == 0
            && let Some(whole) = open.whole.take()
        {
            let _ = whole.send(open.error.take().map_or(Ok(()), Err));
        }
    }
}

pub(super) struct Reporter {
    stopping: AtomicBool,
    failed: Mutex<Option<Error>>,
}

impl ClientContext for Reporter {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        crate::kafka::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(error) = Error::asynchronous(&error, reason) {
            lock(&self.failed).get_or_insert(error);
        }
    }
}

impl ProducerContext for Reporter {
    type DeliveryOpaque = Arc<Bundle>;

    fn delivery(&self, result: &DeliveryResult<'_>, bundle: Arc<Bundle>) {
        bundle.report(result.as_ref().err().map(|(error, _)| error.clone()));
    }
}

/// A producer whose bundles are waited for.
pub(in crate::kafka) struct Writer {
    producer: Arc<BaseProducer<Reporter>>,
}

impl Writer {
    pub(in crate::kafka) fn start(config: &ClientConfig) -> Result<Writer, Error> {
        let reporter = Reporter {
            stopping: AtomicBool::new(false),
            failed: Mutex::new(None),
        };
        let producer: Arc<BaseProducer<Reporter>> = Arc::new(config.create_with_context(reporter)?);
        poll_on_thread(&producer, |reporter| {
            reporter.stopping.load(Ordering::Acquire)
        })?;
        Ok(Writer { producer })
    }

    /// Writes these records; ready when all are acknowledged.
    ///
    /// # Errors
    /// The first that one of them ended with. The others may have been written.
    pub(in crate::kafka) async fn write(&self, records: &[ProducerRecord]) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        let (sender, whole) = oneshot::channel();
        let bundle = Arc::new(Bundle(Mutex::new(Open {
            left: records.len(),
            error: None,
            whole: Some(sender),
        })));
        for record in records {
            loop {
                match self.producer.send(record.base(Arc::clone(&bundle))) {
                    Ok(()) => break,
                    Err((error, _)) if is_full(&error) => crate::time::sleep(AGAIN).await,
                    Err((error, _)) => {
                        bundle.report(Some(error));
                        break;
                    }
                }
            }
        }
        let written = whole.await;
        if let Some(error) = lock(&Producer::context(&*self.producer).failed).clone() {
            return Err(error);
        }
        match written {
            Ok(result) => Ok(result?),
            Err(_) => Err(Error::Thread("nobody reports any more".to_owned())),
        }
    }
}

fn is_full(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
}

impl Drop for Writer {
    fn drop(&mut self) {
        let reporter = Producer::context(&*self.producer);
        reporter.stopping.store(true, Ordering::Release);
    }
}
