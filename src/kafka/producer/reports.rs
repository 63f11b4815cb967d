//! Records written one bundle at a time: whoever wrote it waits until all have their reports.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext};
use rdkafka::statistics::Statistics;
use tokio::sync::oneshot;

use super::poll_on_thread;
use super::record::ProducerRecord;
use super::settings::ProducerSettings;
use crate::kafka::error::Error;
use crate::kafka::ffi::{Failure, Hears, Report, Sender};
use crate::kafka::throttle::Throttle;
use crate::sync::{AtomicBool, Mutex, Ordering, lock};

/// How long a record waits that the client has no room for.
const AGAIN: Duration = Duration::from_millis(5);

/// Records on their way together.
struct Bundle {
    /// How many have no report yet.
    left: usize,
    error: Option<Error>,
    whole: oneshot::Sender<Result<(), Error>>,
}

#[derive(Default)]
struct Bundles {
    /// By number.
    open: BTreeMap<usize, Bundle>,
    next: usize,
}

impl Bundles {
    fn report(&mut self, number: usize, error: Option<Error>) {
        let Some(bundle) = self.open.get_mut(&number) else {
            return;
        };
        bundle.left -= 1;
        if let Some(error) = error {
            bundle.error.get_or_insert(error);
        }
        if bundle.left == 0
            && let Some(bundle) = self.open.remove(&number)
        {
            let _ = bundle.whole.send(bundle.error.map_or(Ok(()), Err));
        }
    }

    /// Nobody waits for what the client cannot do: it would be tried until its time is over.
    fn fail(&mut self, why: &Error) {
        for bundle in std::mem::take(&mut self.open).into_values() {
            let _ = bundle.whole.send(Err(why.clone()));
        }
    }
}

pub(super) struct Reporter {
    stopping: AtomicBool,
    bundles: Mutex<Bundles>,
    throttle: Throttle,
}

impl ClientContext for Reporter {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        crate::kafka::log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.throttle.hear(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(error) = Error::asynchronous(&error, reason) {
            lock(&self.bundles).fail(&error);
        }
    }
}

impl ProducerContext for Reporter {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, bundle: usize) {
        let failure = Failure::of(result);
        self.reports(&mut std::iter::once((bundle, failure)));
    }
}

impl Hears for Reporter {
    fn reports(&self, reports: &mut dyn Iterator<Item = Report>) {
        let mut bundles = lock(&self.bundles);
        for (bundle, failure) in reports {
            bundles.report(bundle, failure.map(|failure| failure.told()));
        }
    }
}

/// A producer whose bundles are waited for.
pub(in crate::kafka) struct Writer {
    sender: Mutex<Sender<Reporter>>,
    producer: Arc<BaseProducer<Reporter>>,
}

impl Writer {
    pub(in crate::kafka) fn start(settings: &ProducerSettings) -> Result<Writer, Error> {
        let reporter = Reporter {
            stopping: AtomicBool::new(false),
            bundles: Mutex::new(Bundles::default()),
            throttle: Throttle::new(settings.pressure.as_ref()),
        };
        let config = settings.checked()?;
        let producer: Arc<BaseProducer<Reporter>> = Arc::new(config.create_with_context(reporter)?);
        poll_on_thread(&producer, |reporter| {
            reporter.stopping.load(Ordering::Acquire)
        })?;
        Ok(Writer {
            sender: Mutex::new(Sender::new(Arc::clone(&producer))),
            producer,
        })
    }

    fn reporter(&self) -> &Reporter {
        Producer::context(&*self.producer)
    }

    fn open(&self, left: usize, whole: oneshot::Sender<Result<(), Error>>) -> usize {
        let mut bundles = lock(&self.reporter().bundles);
        let number = bundles.next;
        bundles.next = number.wrapping_add(1);
        let bundle = Bundle {
            left,
            error: None,
            whole,
        };
        bundles.open.insert(number, bundle);
        number
    }

    /// Writes these records; ready when all are acknowledged.
    ///
    /// # Errors
    /// The first that one of them ended with, or at once why the client is not let in. Any of them may have
    /// been written, or may yet be.
    pub(in crate::kafka) async fn write(&self, records: &[ProducerRecord]) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        let (sender, whole) = oneshot::channel();
        let number = self.open(records.len(), sender);
        for record in records {
            loop {
                let sent = lock(&self.sender).send(record.outgoing(), number);
                match sent {
                    Ok(()) => break,
                    Err(error) if is_full(&error) => crate::time::sleep(AGAIN).await,
                    Err(error) => {
                        let topic = record.topic.to_string();
                        let error = Failure { error, topic }.told();
                        lock(&self.reporter().bundles).report(number, Some(error));
                        break;
                    }
                }
            }
        }
        match whole.await {
            Ok(written) => written,
            Err(_) => Err(Error::Thread("nobody reports any more".to_owned())),
        }
    }
}

fn is_full(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.reporter().stopping.store(true, Ordering::Release);
    }
}
