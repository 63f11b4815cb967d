//! Handing records to a producer, and taking their reports by the thousand.
//!
//! A [`Sender`] knows the topics it wrote to: rdkafka's own call copies the topic's name and looks it up
//! for each record. [`Events`] hands a whole event's reports over in one call, where rdkafka counts
//! references and calls back for each.
//!
//! # Safety
//! - Topics and queue are used while their client lives: both types hold the producer, and let go of what
//!   is theirs before it.
//! - Bytes that are handed over are copied in the call (`RD_KAFKA_MSG_F_COPY`), but for headers: these are
//!   made here, and belong to librdkafka once it took the record, to us if it did not.
//! - Reports are read between the call that gives their event and the one that destroys it. The opaque
//!   pointer of a record is a number: it is never followed.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as sys;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use sys::rd_kafka_vtype_t as Field;

use crate::kafka::error::Error;

/// Whichever partition the key is for (`RD_KAFKA_PARTITION_UA`).
const ANY: i32 = -1;

/// A record as the client takes it.
#[derive(Clone, Copy)]
pub(in crate::kafka) struct Outgoing<'a> {
    pub(in crate::kafka) topic: &'a Arc<str>,
    pub(in crate::kafka) partition: Option<i32>,
    pub(in crate::kafka) key: Option<&'a [u8]>,
    pub(in crate::kafka) value: Option<&'a [u8]>,
    pub(in crate::kafka) headers: &'a [(bytes::Bytes, Option<bytes::Bytes>)],
    pub(in crate::kafka) timestamp: Option<i64>,
}

/// Why a record was not written, and which topic it was for.
pub(in crate::kafka) struct Failure {
    pub(in crate::kafka) error: KafkaError,
    pub(in crate::kafka) topic: String,
}

impl Failure {
    /// As an error that says what it is about.
    pub(in crate::kafka) fn told(self) -> Error {
        Error::from(self.error).concerning(|| self.topic)
    }

    /// As rdkafka itself tells it.
    pub(in crate::kafka) fn of(result: &DeliveryResult<'_>) -> Option<Box<Failure>> {
        let (error, message) = result.as_ref().err()?;
        Some(Box::new(Failure {
            error: error.clone(),
            topic: message.topic().to_owned(),
        }))
    }
}

/// The number a record was sent with, and its failure if it has one.
pub(in crate::kafka) type Report = (usize, Option<Box<Failure>>);

/// Who hears what became of records.
pub(in crate::kafka) trait Hears: ProducerContext<DeliveryOpaque = usize> {
    fn reports(&self, reports: &mut dyn Iterator<Item = Report>);
}

/// Hands records to a producer.
pub(in crate::kafka) struct Sender<C: Hears + 'static> {
    topics: BTreeMap<Arc<str>, Topic>,
    /// The one that was written to last.
    last: Option<(Arc<str>, Topic)>,
    producer: Arc<BaseProducer<C>>,
}

/// A topic of the client, let go of when its sender is dropped.
#[derive(Clone, Copy)]
struct Topic(NonNull<sys::rd_kafka_topic_t>);

// SAFETY: librdkafka's topics may be used from any thread.
unsafe impl<C: Hears> Send for Sender<C> {}

impl<C: Hears> Sender<C> {
    pub(in crate::kafka) fn new(producer: Arc<BaseProducer<C>>) -> Sender<C> {
        Sender {
            topics: BTreeMap::new(),
            last: None,
            producer,
        }
    }

    pub(in crate::kafka) fn producer(&self) -> &Arc<BaseProducer<C>> {
        &self.producer
    }

    /// Hands a record over; its report comes with that number.
    ///
    /// # Errors
    /// Why the client did not take it: then no report comes.
    pub(in crate::kafka) fn send(
        &mut self,
        record: Outgoing<'_>,
        number: usize,
    ) -> Result<(), KafkaError> {
        let topic = self.topic(record.topic)?;
        let headers = headers(record.headers)?;
        let (key, key_len) = raw(record.key);
        let (value, value_len) = raw(record.value);
        // SAFETY: the client and the topic live; each field is followed by what the call expects there,
        // with lengths beside their pointers; the bytes live as long as the call.
        let error = unsafe {
            sys::rd_kafka_producev(
                self.producer.client().native_ptr(),
                Field::RD_KAFKA_VTYPE_RKT,
                topic.0.as_ptr(),
                Field::RD_KAFKA_VTYPE_PARTITION,
                record.partition.unwrap_or(ANY),
                Field::RD_KAFKA_VTYPE_MSGFLAGS,
                sys::RD_KAFKA_MSG_F_COPY,
                Field::RD_KAFKA_VTYPE_VALUE,
                value,
                value_len,
                Field::RD_KAFKA_VTYPE_KEY,
                key,
                key_len,
                Field::RD_KAFKA_VTYPE_OPAQUE,
                ptr::without_provenance_mut::<c_void>(number),
                Field::RD_KAFKA_VTYPE_TIMESTAMP,
                record.timestamp.unwrap_or(0),
                Field::RD_KAFKA_VTYPE_HEADERS,
                headers,
                Field::RD_KAFKA_VTYPE_END,
            )
        };
        if error == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Ok(());
        }
        if !headers.is_null() {
            // SAFETY: made above, and not taken.
            unsafe { sys::rd_kafka_headers_destroy(headers) };
        }
        Err(KafkaError::MessageProduction(error.into()))
    }

    fn topic(&mut self, name: &Arc<str>) -> Result<Topic, KafkaError> {
        if let Some((last, topic)) = &self.last
            && (Arc::ptr_eq(last, name) || last == name)
        {
            return Ok(*topic);
        }
        let topic = match self.topics.get(name) {
            Some(topic) => *topic,
            None => self.find(name)?,
        };
        self.last = Some((Arc::clone(name), topic));
        Ok(topic)
    }

    fn find(&mut self, name: &Arc<str>) -> Result<Topic, KafkaError> {
        let text = CString::new(&**name)?;
        // SAFETY: the client lives, and the name as long as the call. Without a configuration of its own
        // the topic has the client's.
        let topic = unsafe {
            let client = self.producer.client().native_ptr();
            let topic = sys::rd_kafka_topic_new(client, text.as_ptr(), ptr::null_mut());
            NonNull::new(topic).ok_or_else(|| sys::rd_kafka_last_error())
        };
        let topic = topic.map_err(|error| KafkaError::MessageProduction(error.into()))?;
        let topic = Topic(topic);
        self.topics.insert(Arc::clone(name), topic);
        Ok(topic)
    }
}

impl<C: Hears> Drop for Sender<C> {
    fn drop(&mut self) {
        for topic in self.topics.values() {
            // SAFETY: given by `rd_kafka_topic_new`, each is here once, and the client still lives.
            unsafe { sys::rd_kafka_topic_destroy(topic.0.as_ptr()) };
        }
    }
}

fn raw(bytes: Option<&[u8]>) -> (*const c_void, usize) {
    // An empty slice has a pointer, which tells it from none.
    bytes.map_or((ptr::null(), 0), |bytes| {
        (bytes.as_ptr().cast(), bytes.len())
    })
}

fn headers(
    all: &[(bytes::Bytes, Option<bytes::Bytes>)],
) -> Result<*mut sys::rd_kafka_headers_t, KafkaError> {
    if all.is_empty() {
        return Ok(ptr::null_mut());
    }
    // SAFETY: names and values are copied in the call; the list is destroyed if one is not taken.
    unsafe {
        let list = sys::rd_kafka_headers_new(all.len());
        for (name, value) in all {
            let (value, len) = raw(value.as_deref());
            let error = sys::rd_kafka_header_add(
                list,
                name.as_ptr().cast::<c_char>(),
                name.len().cast_signed(),
                value,
                len.cast_signed(),
            );
            if error != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                sys::rd_kafka_headers_destroy(list);
                return Err(KafkaError::MessageProduction(error.into()));
            }
        }
        Ok(list)
    }
}

/// What a producer's client has to tell.
pub(in crate::kafka) struct Events<C: Hears + 'static> {
    queue: NonNull<sys::rd_kafka_queue_t>,
    messages: Vec<*const sys::rd_kafka_message_t>,
    producer: Arc<BaseProducer<C>>,
}

// SAFETY: librdkafka's queues may be used from any thread. The pointers are of the time of a call.
unsafe impl<C: Hears> Send for Events<C> {}

impl<C: Hears> Events<C> {
    /// `None` if the client has no queue, which no client that lives has.
    pub(in crate::kafka) fn of(producer: Arc<BaseProducer<C>>) -> Option<Events<C>> {
        // SAFETY: the client lives. The queue is a reference of our own.
        let queue = unsafe { sys::rd_kafka_queue_get_main(producer.client().native_ptr()) };
        Some(Events {
            queue: NonNull::new(queue)?,
            messages: Vec::new(),
            producer,
        })
    }

    pub(in crate::kafka) fn context(&self) -> &C {
        Producer::context(&*self.producer)
    }

    /// Waits so long for an event, and has it heard.
    pub(in crate::kafka) fn serve(&mut self, patience: Duration) {
        let millis = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue lives. An event is ours until it is destroyed.
        let event = unsafe { sys::rd_kafka_queue_poll(self.queue.as_ptr(), millis) };
        let Some(event) = NonNull::new(event).map(Event) else {
            return;
        };
        let at = event.0.as_ptr();
        // SAFETY: the event lives until the end of this function, and its type says what it has.
        unsafe {
            match sys::rd_kafka_event_type(at) {
                sys::RD_KAFKA_EVENT_DR => self.reports(&event),
                sys::RD_KAFKA_EVENT_ERROR => {
                    let error = KafkaError::Global(sys::rd_kafka_event_error(at).into());
                    let reason = words(sys::rd_kafka_event_error_string(at));
                    self.context().error(error, reason.trim());
                }
                sys::RD_KAFKA_EVENT_LOG => {
                    let (mut facility, mut line, mut level) = (ptr::null(), ptr::null(), 0);
                    let told = sys::rd_kafka_event_log(
                        at,
                        &raw mut facility,
                        &raw mut line,
                        &raw mut level,
                    );
                    if told == 0 {
                        let level = LEVELS[usize::try_from(level).unwrap_or(0).min(7)];
                        let (facility, line) = (words(facility), words(line));
                        self.context().log(level, facility.trim(), line.trim());
                    }
                }
                sys::RD_KAFKA_EVENT_STATS => {
                    let text = sys::rd_kafka_event_stats(at);
                    if !text.is_null() {
                        self.context().stats_raw(CStr::from_ptr(text).to_bytes());
                    }
                }
                _ => {}
            }
        }
    }

    /// # Safety
    /// The event is one of delivery reports.
    unsafe fn reports(&mut self, event: &Event) {
        // SAFETY: as promised; the vector has room for as many as are there.
        unsafe {
            let count = sys::rd_kafka_event_message_count(event.0.as_ptr());
            self.messages.clear();
            self.messages.reserve(count);
            let taken = sys::rd_kafka_event_message_array(
                event.0.as_ptr(),
                self.messages.as_mut_ptr(),
                count,
            );
            self.messages.set_len(taken.min(count));
        }
        let mut reports = self.messages.iter().map(|message| {
            // SAFETY: the message lives as long as its event, which the caller holds.
            let message = unsafe { &**message };
            let failure = (message.err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| {
                let code: RDKafkaErrorCode = message.err.into();
                // SAFETY: a message that was produced has its topic, whose name lives as long as it does.
                let topic = unsafe { words(sys::rd_kafka_topic_name(message.rkt)) };
                Failure {
                    error: KafkaError::MessageProduction(code),
                    topic: topic.into_owned(),
                }
            });
            (message._private.addr(), failure.map(Box::new))
        });
        Producer::context(&*self.producer).reports(&mut reports);
    }
}

impl<C: Hears> Drop for Events<C> {
    fn drop(&mut self) {
        // SAFETY: the reference is ours, and the client still lives.
        unsafe { sys::rd_kafka_queue_destroy(self.queue.as_ptr()) };
    }
}

/// An event, destroyed when it is dropped.
struct Event(NonNull<sys::rd_kafka_event_t>);

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: given by `rd_kafka_queue_poll`, and destroyed once.
        unsafe { sys::rd_kafka_event_destroy(self.0.as_ptr()) };
    }
}

/// The levels of syslog, by number.
const LEVELS: [RDKafkaLogLevel; 8] = [
    RDKafkaLogLevel::Emerg,
    RDKafkaLogLevel::Alert,
    RDKafkaLogLevel::Critical,
    RDKafkaLogLevel::Error,
    RDKafkaLogLevel::Warning,
    RDKafkaLogLevel::Notice,
    RDKafkaLogLevel::Info,
    RDKafkaLogLevel::Debug,
];

/// # Safety
/// The pointer is null, or to a C string that lives for `'a`.
unsafe fn words<'a>(at: *const c_char) -> std::borrow::Cow<'a, str> {
    if at.is_null() {
        return "".into();
    }
    // SAFETY: as promised by the caller.
    unsafe { CStr::from_ptr(at) }.to_string_lossy()
}
