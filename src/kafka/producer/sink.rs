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

use super::destinations::Destinations;
use super::poll_on_thread;
use super::record::ProducerRecord;
use super::settings::ProducerSettings;
use crate::chunk::{Chunk, Element, Meta};
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
    /// Slots, each with the error it ended with.
    slots: Vec<Report>,
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

    fn delivery(&self, result: &DeliveryResult<'_>, slot: usize) {
        let failure = Failure::of(result);
        self.reports(&mut std::iter::once((slot, failure)));
    }
}

impl Hears for Reports {
    fn reports(&self, reports: &mut dyn Iterator<Item = Report>) {
        let mut done = lock(&self.done);
        let first = done.slots.is_empty();
        done.slots.extend(reports);
        drop(done);
        if first {
            self.waker.wake();
        }
    }
}

/// A record on its way.
struct Slot {
    meta: Option<Meta>,
    bytes: u64,
    /// The number of its topic.
    topic: u32,
    /// It could not be written, and is on its way to where such records go.
    failed: bool,
}

/// Writes records to their topics.
pub struct KafkaSink {
    settings: ProducerSettings,
    sender: Option<Sender<Reports>>,
    slots: Vec<Slot>,
    free: Vec<usize>,
    destinations: Destinations,
    /// By slot, what is written elsewhere if it cannot be written. Empty if there is no such place: the
    /// client has its own copy.
    kept: Vec<Option<ProducerRecord>>,
    /// The client had no room after all.
    waiting: VecDeque<(usize, ProducerRecord)>,
    bytes: u64,
    /// What the largest record of late weighs; 0 before the first.
    largest: u64,
    /// Reports taken from the thread; kept for its allocation.
    reports: Vec<Report>,
}

impl std::fmt::Debug for KafkaSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSink")
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

impl KafkaSink {
    pub(super) fn new(settings: ProducerSettings) -> KafkaSink {
        KafkaSink {
            settings,
            sender: None,
            slots: Vec::new(),
            free: Vec::new(),
            destinations: Destinations::default(),
            kept: Vec::new(),
            waiting: VecDeque::new(),
            bytes: 0,
            largest: 0,
            reports: Vec::new(),
        }
    }

    fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
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
            std::mem::swap(&mut done.slots, &mut ended);
            done.error.take()
        };
        for (slot, failure) in ended.drain(..) {
            match failure {
                None => self.delivered(cx, slot),
                Some(failure) => self.failed(cx, slot, &failure)?,
            }
        }
        self.reports = ended;
        self.destinations.tell(cx);
        if let Some(error) = error {
            return Err(self.explained(error));
        }
        while let Some((slot, record)) = self.waiting.pop_front() {
            if let Some(record) = self.send(cx, slot, record)? {
                self.waiting.push_front((slot, record));
                break;
            }
        }
        Ok(())
    }

    fn delivered(&mut self, cx: &mut Context<'_, '_>, slot: usize) {
        let outcome = if self.slots[slot].failed {
            Outcome::DeadLettered(Reason::Error)
        } else {
            Outcome::Delivered
        };
        self.settle(cx, slot, outcome);
    }

    fn settle(&mut self, cx: &mut Context<'_, '_>, slot: usize, outcome: Outcome) {
        let Some(own) = self.slots.get_mut(slot) else {
            return;
        };
        if let Some(meta) = own.meta.take() {
            self.bytes -= own.bytes;
            if let Some(kept) = self.kept.get_mut(slot) {
                *kept = None;
            }
            self.destinations.count(own.topic, outcome.kind());
            cx.settle(meta, outcome);
            self.free.push(slot);
        }
    }

    /// It could not be written: it goes where such records go, once.
    fn failed(
        &mut self,
        cx: &mut Context<'_, '_>,
        slot: usize,
        failure: &Failure,
    ) -> Result<(), Error> {
        let Failure { error, topic } = failure;
        // Whoever may not write, or is no longer the one that writes, need not try the next, nor elsewhere.
        if let Some(told) = Error::asynchronous(error, &error.to_string()) {
            self.settle(cx, slot, Outcome::Failed(Reason::Error));
            return Err(self.explained(told).concerning(|| topic.clone()));
        }
        let kept = self.kept.get_mut(slot).and_then(Option::take);
        if let (Some(suffix), Some(record)) = (&self.settings.dead_letters, kept)
            && !self.slots[slot].failed
        {
            self.slots[slot].failed = true;
            let record = dead_letter(record, suffix, error);
            if let Some(record) = self.send(cx, slot, record)? {
                self.waiting.push_back((slot, record));
            }
            return Ok(());
        }
        self.settle(cx, slot, Outcome::Failed(Reason::Error));
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
        slot: usize,
        record: ProducerRecord,
    ) -> Result<Option<ProducerRecord>, Error> {
        let Some(sender) = &mut self.sender else {
            self.settle(cx, slot, Outcome::Failed(Reason::Error));
            return Ok(None);
        };
        let sent = sender.send(record.outgoing(), slot);
        if let Err(error) = &sent
            && error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
        {
            return Ok(Some(record));
        }
        let topic = sent.is_err().then(|| record.topic.to_string());
        if self.settings.dead_letters.is_some() {
            if self.kept.len() <= slot {
                self.kept.resize_with(slot + 1, || None);
            }
            self.kept[slot] = Some(record);
        }
        match sent {
            Ok(()) => Ok(None),
            Err(error) => {
                let topic = topic.unwrap_or_default();
                self.failed(cx, slot, &Failure { error, topic })?;
                Ok(None)
            }
        }
    }

    /// Makes a slot for an element.
    fn take(&mut self, meta: Meta, record: &ProducerRecord) -> usize {
        let bytes = record.len() as u64;
        self.largest = self.largest.max(bytes).max(1);
        self.bytes += bytes;
        let slot = Slot {
            meta: Some(meta),
            bytes,
            topic: self.destinations.number(&record.topic),
            failed: false,
        };
        match self.free.pop() {
            Some(index) => {
                self.slots[index] = slot;
                index
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
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
        let items = self.settings.items.saturating_sub(self.in_flight());
        let bytes = self.settings.bytes.saturating_sub(self.bytes);
        if items == 0 || bytes == 0 || !self.waiting.is_empty() {
            return Poll::Pending;
        }
        // Stages before it do not know what a record weighs here: of such as came lately so many fit.
        let fit = bytes.checked_div(self.largest).unwrap_or(1).max(1);
        let items = items.min(usize::try_from(fit).unwrap_or(usize::MAX));
        Poll::Ready(Ok(Some(Demand { items, bytes })))
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<ProducerRecord>) {
        self.largest -= self.largest / 64;
        for Element { value, meta } in chunk.drain() {
            let slot = self.take(meta, &value);
            if !self.waiting.is_empty() {
                self.waiting.push_back((slot, value));
                continue;
            }
            match self.send(cx, slot, value) {
                Ok(None) => {}
                Ok(Some(record)) => self.waiting.push_back((slot, record)),
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
        if self.in_flight() > 0 {
            return Poll::Pending;
        }
        self.stop();
        Poll::Ready(Ok(()))
    }

    fn abandon(&mut self, cx: &mut Context<'_, '_>, _stop: Option<&Stop>) {
        let outcome = cx.leftover();
        for slot in 0..self.slots.len() {
            self.settle(cx, slot, outcome);
        }
        self.destinations.tell(cx);
        self.waiting.clear();
        self.stop();
    }

    fn held(&self) -> Held {
        Held {
            items: self.in_flight(),
            bytes: self.bytes,
        }
    }
}

impl Drop for KafkaSink {
    fn drop(&mut self) {
        self.stop();
    }
}
