//! The sink: it hands records to the client, and settles them when their reports come.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Poll;
use std::time::{SystemTime, UNIX_EPOCH};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, DeliveryResult, ProducerContext};

use super::poll_on_thread;
use super::record::ProducerRecord;
use super::settings::ProducerSettings;
use crate::chunk::{Chunk, Element, Meta};
use crate::error::Stop;
use crate::kafka::dead_letters::Provenance;
use crate::kafka::error::Error;
use crate::operator::{Context, Demand, Held, Sink};
use crate::outcome::{Outcome, Reason};
use crate::sync::{AtomicBool, AtomicWaker, Mutex, Ordering, lock};

/// What became of records, as the client tells its thread.
pub(super) struct Reports {
    done: Mutex<Done>,
    waker: AtomicWaker,
    stopping: AtomicBool,
}

#[derive(Default)]
struct Done {
    /// Slots, each with the error it ended with.
    slots: Vec<(usize, Option<KafkaError>)>,
    /// An error of the client itself.
    error: Option<Error>,
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        crate::kafka::log(level, facility, message);
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
        let error = result.as_ref().err().map(|(error, _)| error.clone());
        let mut done = lock(&self.done);
        done.slots.push((slot, error));
        let first = done.slots.len() == 1;
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
    /// Kept to be written elsewhere if it cannot be written.
    record: Option<ProducerRecord>,
    /// It is on its way there: why.
    failed: bool,
}

/// Writes records to their topics.
pub struct KafkaSink {
    settings: ProducerSettings,
    producer: Option<Arc<BaseProducer<Reports>>>,
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// The client had no room after all.
    waiting: VecDeque<usize>,
    bytes: u64,
    /// Reports taken from the thread; kept for its allocation.
    reports: Vec<(usize, Option<KafkaError>)>,
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
            producer: None,
            slots: Vec::new(),
            free: Vec::new(),
            waiting: VecDeque::new(),
            bytes: 0,
            reports: Vec::new(),
        }
    }

    fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn start(&mut self) -> Result<Arc<BaseProducer<Reports>>, Error> {
        if let Some(producer) = &self.producer {
            return Ok(Arc::clone(producer));
        }
        let reports = Reports {
            done: Mutex::new(Done::default()),
            waker: AtomicWaker::new(),
            stopping: AtomicBool::new(false),
        };
        let config = self.settings.checked()?;
        let producer: Arc<BaseProducer<Reports>> = Arc::new(config.create_with_context(reports)?);
        poll_on_thread(&producer, |reports| {
            reports.stopping.load(Ordering::Acquire)
        })?;
        self.producer = Some(Arc::clone(&producer));
        Ok(producer)
    }

    /// Settles what was reported.
    fn serve_reports(
        &mut self,
        cx: &mut Context<'_, '_>,
        producer: &BaseProducer<Reports>,
    ) -> Result<(), Stop> {
        let reports = rdkafka::producer::Producer::context(producer);
        reports.waker.register(cx.waker());
        let error = {
            let mut done = lock(&reports.done);
            std::mem::swap(&mut done.slots, &mut self.reports);
            done.error.take()
        };
        let mut ended = std::mem::take(&mut self.reports);
        for (slot, error) in ended.drain(..) {
            match error {
                None => self.delivered(cx, slot),
                Some(error) => self.failed(cx, producer, slot, &error)?,
            }
        }
        self.reports = ended;
        if let Some(error) = error {
            return Err(Stop::error(error));
        }
        while let Some(slot) = self.waiting.pop_front() {
            if !self.send(cx, producer, slot)? {
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
            own.record = None;
            cx.settle(meta, outcome);
            self.free.push(slot);
        }
    }

    /// It could not be written: it goes where such records go, once.
    fn failed(
        &mut self,
        cx: &mut Context<'_, '_>,
        producer: &BaseProducer<Reports>,
        slot: usize,
        error: &KafkaError,
    ) -> Result<(), Stop> {
        let own = &mut self.slots[slot];
        if let (Some(suffix), false) = (&self.settings.dead_letters, own.failed)
            && let Some(record) = own.record.take()
        {
            own.failed = true;
            own.record = Some(dead_letter(record, suffix, error));
            return self.send(cx, producer, slot).map(drop);
        }
        self.settle(cx, slot, Outcome::Failed(Reason::Error));
        // Whoever may not write, or is no longer the one that writes, need not try the next.
        match Error::asynchronous(error, &error.to_string()) {
            Some(error) => Err(Stop::error(error)),
            None => Ok(()),
        }
    }

    /// Hands a record to the client; false if it has no room.
    fn send(
        &mut self,
        cx: &mut Context<'_, '_>,
        producer: &BaseProducer<Reports>,
        slot: usize,
    ) -> Result<bool, Stop> {
        let Some(record) = &self.slots[slot].record else {
            return Ok(true);
        };
        match producer.send(record.base(slot)) {
            Ok(()) => {
                if self.settings.dead_letters.is_none() {
                    // The client has its own copy.
                    self.slots[slot].record = None;
                }
                Ok(true)
            }
            Err((error, _)) => {
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) {
                    self.waiting.push_front(slot);
                    return Ok(false);
                }
                self.failed(cx, producer, slot, &error)?;
                Ok(true)
            }
        }
    }

    fn take(&mut self, element: Element<ProducerRecord>) -> usize {
        let bytes = element.value.len() as u64;
        self.bytes += bytes;
        let slot = Slot {
            meta: Some(element.meta),
            bytes,
            record: Some(element.value),
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
        if let Some(producer) = self.producer.take() {
            let reports = rdkafka::producer::Producer::context(&*producer);
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
        let producer = self.start().map_err(Stop::error)?;
        self.serve_reports(cx, &producer)?;
        let items = self.settings.items.saturating_sub(self.in_flight());
        let bytes = self.settings.bytes.saturating_sub(self.bytes);
        if items == 0 || bytes == 0 || !self.waiting.is_empty() {
            return Poll::Pending;
        }
        Poll::Ready(Ok(Some(Demand { items, bytes })))
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<ProducerRecord>) {
        let Some(producer) = self.producer.clone() else {
            cx.settle_chunk(chunk, Outcome::Failed(Reason::Error));
            return;
        };
        let mut full = false;
        let elements: Vec<_> = chunk.drain().collect();
        for element in elements {
            let slot = self.take(element);
            if full {
                self.waiting.push_back(slot);
                continue;
            }
            match self.send(cx, &producer, slot) {
                Ok(room) => full = !room,
                // It is told at the next call.
                Err(stop) => {
                    let reports = rdkafka::producer::Producer::context(&*producer);
                    let words = stop.to_string();
                    lock(&reports.done).error.get_or_insert(Error::Fatal(words));
                    cx.waker().wake_by_ref();
                }
            }
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        let Some(producer) = self.producer.clone() else {
            return Poll::Ready(Ok(()));
        };
        self.serve_reports(cx, &producer)?;
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
