//! The sink: it hands records to the client, and settles them when their reports come.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Poll;
use std::time::{SystemTime, UNIX_EPOCH};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext};
use rdkafka::statistics::Statistics;

use super::in_flight::InFlight;
use super::poll_on_thread;
use super::record::ProducerRecord;
use super::settings::ProducerSettings;
use crate::chunk::Chunk;
use crate::error::Stop;
use crate::kafka::dead_letters::Provenance;
use crate::kafka::error::Error;
use crate::kafka::ffi::{Failure, Hears, Report, Sender};
use crate::kafka::throttle::Throttle;
use crate::operator::{Context, Demand, Held, Sink};
use crate::outcome::{Outcome, Reason};
use crate::sync::{AtomicBool, AtomicWaker, Mutex, Ordering, lock};

/// What became of records, as the client tells its thread.
pub(super) struct Reports {
    done: Mutex<Done>,
    waker: AtomicWaker,
    stopping: AtomicBool,
    throttle: Throttle,
}

#[derive(Default)]
struct Done {
    /// Numbers of records, each with the error it ended with.
    reports: Vec<Report>,
    /// An error of the client itself.
    error: Option<Error>,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        crate::kafka::log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.throttle.hear(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(error) = Error::asynchronous(&error, reason) {
            lock(&self.done).error.get_or_insert(error);
            self.waker.wake();
        }
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let failure = Failure::of(result);
        self.reports(&mut std::iter::once((number, failure)));
    }
}

impl Hears for Reports {
    fn reports(&self, reports: &mut dyn Iterator<Item = Report>) {
        let mut done = lock(&self.done);
        let first = done.reports.is_empty();
        done.reports.extend(reports);
        drop(done);
        if first {
            self.waker.wake();
        }
    }
}

/// Writes records to their topics.
pub struct KafkaSink {
    settings: ProducerSettings,
    sender: Option<Sender<Reports>>,
    in_flight: InFlight,
    /// The client had no room after all.
    waiting: VecDeque<(usize, ProducerRecord)>,
    /// What the largest record of late weighs; 0 before the first.
    largest: u64,
    /// Reports taken from the thread; kept for its allocation.
    reports: Vec<Report>,
}

impl std::fmt::Debug for KafkaSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSink")
            .field("in_flight", &self.in_flight.held().items)
            .finish_non_exhaustive()
    }
}

impl KafkaSink {
    pub(super) fn new(settings: ProducerSettings) -> KafkaSink {
        KafkaSink {
            settings,
            sender: None,
            in_flight: InFlight::default(),
            waiting: VecDeque::new(),
            largest: 0,
            reports: Vec::new(),
        }
    }

    fn start(&mut self) -> Result<&Reports, Error> {
        let sender = match self.sender.take() {
            Some(sender) => sender,
            None => self.connect()?,
        };
        let sender = self.sender.insert(sender);
        Ok(Producer::context(&**sender.producer()))
    }

    fn connect(&self) -> Result<Sender<Reports>, Error> {
        let reports = Reports {
            done: Mutex::new(Done::default()),
            waker: AtomicWaker::new(),
            stopping: AtomicBool::new(false),
            throttle: Throttle::new(self.settings.pressure.as_ref()),
        };
        let config = self.settings.checked()?;
        let producer: Arc<BaseProducer<Reports>> = Arc::new(config.create_with_context(reports)?);
        poll_on_thread(&producer, |reports| {
            reports.stopping.load(Ordering::Acquire)
        })?;
        Ok(Sender::new(producer))
    }

    /// Settles what was reported.
    fn serve_reports(&mut self, cx: &mut Context<'_, '_>) -> Result<(), Error> {
        let mut ended = std::mem::take(&mut self.reports);
        let reports = self.start()?;
        reports.waker.register(cx.waker());
        let error = {
            let mut done = lock(&reports.done);
            std::mem::swap(&mut done.reports, &mut ended);
            done.error.take()
        };
        // What ends the run is told once all that is known of the others was.
        let mut fatal = None;
        for (number, failure) in ended.drain(..) {
            match failure {
                None => self.delivered(cx, number),
                Some(failure) => {
                    if let Err(error) = self.failed(cx, number, &failure) {
                        fatal.get_or_insert(error);
                    }
                }
            }
        }
        self.reports = ended;
        self.in_flight.part_late(cx);
        if let Some(error) = fatal {
            return Err(error);
        }
        if let Some(error) = error {
            return Err(self.explained(error));
        }
        while let Some((number, record)) = self.waiting.pop_front() {
            if let Some(record) = self.send(cx, number, record)? {
                self.waiting.push_front((number, record));
                break;
            }
        }
        self.in_flight.destinations.tell(cx);
        Ok(())
    }

    fn delivered(&mut self, cx: &mut Context<'_, '_>, number: usize) {
        let outcome = if self.in_flight.is_redirected(number) {
            Outcome::DeadLettered(Reason::Error)
        } else {
            Outcome::Delivered
        };
        self.in_flight.report(cx, number, outcome);
    }

    /// It could not be written: it goes where such records go, once.
    fn failed(
        &mut self,
        cx: &mut Context<'_, '_>,
        number: usize,
        failure: &Failure,
    ) -> Result<(), Error> {
        let Failure { error, topic } = failure;
        // Whoever may not write, or is no longer the one that writes, need not try the next, nor elsewhere.
        if let Some(told) = Error::asynchronous(error, &error.to_string()) {
            self.in_flight
                .report(cx, number, Outcome::Failed(Reason::Error));
            return Err(self.explained(told).concerning(|| topic.clone()));
        }
        let suffix = self.settings.dead_letters.as_deref();
        if let Some(suffix) = suffix
            && let Some(record) = self.in_flight.redirect(number)
        {
            let record = dead_letter(record, suffix, error);
            if let Some(record) = self.send(cx, number, record)? {
                self.waiting.push_back((number, record));
            }
            return Ok(());
        }
        self.in_flight
            .report(cx, number, Outcome::Failed(Reason::Error));
        Ok(())
    }

    /// What the client failed of, if that is all that is known.
    fn explained(&self, error: Error) -> Error {
        match &self.sender {
            Some(sender) => error.explained(sender.producer().client()),
            None => error,
        }
    }

    /// Hands a record to the client; gives it back if it has no room.
    fn send(
        &mut self,
        cx: &mut Context<'_, '_>,
        number: usize,
        record: ProducerRecord,
    ) -> Result<Option<ProducerRecord>, Error> {
        let Some(sender) = &mut self.sender else {
            self.in_flight
                .report(cx, number, Outcome::Failed(Reason::Error));
            return Ok(None);
        };
        let sent = sender.send(record.outgoing(), number);
        if let Err(error) = &sent
            && error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
        {
            return Ok(Some(record));
        }
        let topic = sent.is_err().then(|| record.topic.to_string());
        if self.settings.dead_letters.is_some() {
            self.in_flight.keep(number, record);
        }
        match sent {
            Ok(()) => Ok(None),
            Err(error) => {
                let topic = topic.unwrap_or_default();
                self.failed(cx, number, &Failure { error, topic })?;
                Ok(None)
            }
        }
    }

    fn stop(&mut self) {
        if let Some(sender) = self.sender.take() {
            let reports = Producer::context(&**sender.producer());
            reports.stopping.store(true, Ordering::Release);
        }
    }
}

/// The record as it goes to the topic for those that could not be written.
fn dead_letter(mut record: ProducerRecord, suffix: &str, error: &KafkaError) -> ProducerRecord {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let class = error.rdkafka_error_code();
    let provenance = Provenance {
        topic: Some(record.topic.to_string()),
        partition: record.partition,
        timestamp_ms: record.timestamp,
        error_class: class.map(|code| format!("{code:?}")),
        error_message: Some(error.to_string()),
        error_timestamp_ms: i64::try_from(now.as_millis()).ok(),
        ..Provenance::default()
    };
    provenance.write(&mut record.headers);
    ProducerRecord {
        topic: format!("{}{suffix}", record.topic).into(),
        partition: None,
        ..record
    }
}

impl Sink<ProducerRecord> for KafkaSink {
    type Output = ();

    fn poll_ready(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        self.serve_reports(cx).map_err(Stop::error)?;
        let held = self.in_flight.held();
        let items = self.settings.items.saturating_sub(held.items);
        let bytes = self.settings.bytes.saturating_sub(held.bytes);
        if items == 0 || bytes == 0 || !self.waiting.is_empty() {
            return Poll::Pending;
        }
        // Stages before it do not know what a record weighs here: of such as came lately so many fit.
        let fit = bytes.checked_div(self.largest).unwrap_or(1).max(1);
        let items = items.min(usize::try_from(fit).unwrap_or(usize::MAX));
        Poll::Ready(Ok(Some(Demand { items, bytes })))
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<ProducerRecord>) {
        if chunk.is_empty() {
            return;
        }
        self.largest -= self.largest / 64;
        let (values, metas) = chunk.split();
        let keeps = self.settings.dead_letters.is_some();
        let first = self.in_flight.begin(metas, keeps);
        for (place, value) in values.enumerate() {
            let number = first + place;
            self.largest = self.largest.max(value.len() as u64).max(1);
            self.in_flight.add(number, &value);
            if !self.waiting.is_empty() {
                self.waiting.push_back((number, value));
                continue;
            }
            match self.send(cx, number, value) {
                Ok(None) => {}
                Ok(Some(record)) => self.waiting.push_back((number, record)),
                // It is told at the next call.
                Err(error) => {
                    if let Ok(reports) = self.start() {
                        lock(&reports.done).error.get_or_insert(error);
                    }
                    cx.waker().wake_by_ref();
                }
            }
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        if self.sender.is_none() {
            return Poll::Ready(Ok(()));
        }
        self.serve_reports(cx).map_err(Stop::error)?;
        if self.in_flight.held().items > 0 {
            return Poll::Pending;
        }
        self.stop();
        Poll::Ready(Ok(()))
    }

    fn abandon(&mut self, cx: &mut Context<'_, '_>, _stop: Option<&Stop>) {
        let outcome = cx.leftover();
        let reports = self.sender.as_ref().map(|sender| {
            let reports = Producer::context(&**sender.producer());
            std::mem::take(&mut lock(&reports.done).reports)
        });
        // Those that were written before it ended.
        for (number, failure) in reports.unwrap_or_default() {
            match failure {
                None => self.delivered(cx, number),
                // It would have been tried elsewhere: that is left undone like the others.
                Some(_) if self.in_flight.redirect(number).is_some() => {}
                Some(_) => {
                    let failed = Outcome::Failed(Reason::Error);
                    self.in_flight.report(cx, number, failed);
                }
            }
        }
        self.in_flight.abandon(cx, outcome);
        self.waiting.clear();
        self.stop();
    }

    fn held(&self) -> Held {
        self.in_flight.held()
    }
}

impl Drop for KafkaSink {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::flow::Pipeline;
    use crate::kafka::connection::Connection;
    use crate::outcome::Kind;
    use crate::source;
    use crate::topology::NodeSpec;

    /// The sink with a client that reaches nobody: what is reported is said here.
    struct Told {
        sink: KafkaSink,
        /// Their numbers.
        given: Vec<usize>,
        /// The flow ends for another reason before the reports are looked at.
        stops: bool,
    }

    impl Sink<ProducerRecord> for Told {
        type Output = ();

        fn poll_ready(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
            let &[refused, one, other, _] = &self.given[..] else {
                return Poll::Ready(Ok(Some(Demand::items(4 - self.given.len()))));
            };
            let reports = self.sink.start().unwrap();
            let error = KafkaError::MessageProduction(RDKafkaErrorCode::TopicAuthorizationFailed);
            let failure = Failure {
                error,
                topic: "orders".to_owned(),
            };
            let told = [
                (refused, Some(Box::new(failure))),
                (one, None),
                (other, None),
            ];
            lock(&reports.done).reports.extend(told);
            if self.stops {
                return Poll::Ready(Err(Stop::error("enough")));
            }
            self.sink.poll_ready(cx)
        }

        fn accept(&mut self, _: &mut Context<'_, '_>, chunk: &mut Chunk<ProducerRecord>) {
            let (records, metas) = chunk.split();
            let keeps = self.sink.settings.dead_letters.is_some();
            let first = self.sink.in_flight.begin(metas, keeps);
            for (place, record) in records.enumerate() {
                self.sink.in_flight.add(first + place, &record);
                self.sink.in_flight.keep(first + place, record);
                self.given.push(first + place);
            }
        }

        fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
            self.poll_ready(cx).map(|ready| ready.map(|_| ()))
        }

        fn abandon(&mut self, cx: &mut Context<'_, '_>, stop: Option<&Stop>) {
            self.sink.abandon(cx, stop);
        }

        fn held(&self) -> Held {
            self.sink.held()
        }
    }

    /// Delivered, failed and cancelled, of four of which two were written and one was refused.
    fn outcomes(settings: ProducerSettings, stops: bool) -> [u64; 3] {
        let told = Told {
            sink: KafkaSink::new(settings),
            given: Vec::new(),
            stops,
        };
        let record = |number: i32| ProducerRecord::to("orders").value(number.to_string());
        let pipeline: Pipeline<()> = source::iter(0..4)
            .map(record)
            .to_stage(NodeSpec::new("told").holds(4), told);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let snapshot = runtime.block_on(async {
            let mut running = pipeline.run().unwrap();
            running.join().await.unwrap_err();
            running.snapshot()
        });
        snapshot.check().unwrap();
        [Kind::Delivered, Kind::Failed, Kind::Cancelled].map(|kind| snapshot.total().outcome(kind))
    }

    #[test]
    fn what_was_written_counts_as_that_whatever_ends_the_run() {
        let settings = || ProducerSettings::new(Connection::to("127.0.0.1:1"));
        // The first report ends the run; those behind it count.
        assert_eq!(outcomes(settings(), false), [2, 1, 1]);
        // Somebody else ended it.
        assert_eq!(outcomes(settings(), true), [2, 1, 1]);
        // It was not tried elsewhere yet.
        assert_eq!(outcomes(settings().dead_letters(".dlq"), true), [2, 0, 2]);
    }
}
