//! Taking the records of a partition's queue by the hundred.
//!
//! `rd_kafka_consume_batch_queue` costs about half of what `poll` does for each record: no event, no
//! clock reading and no reference count each.
//!
//! # Safety
//! - A queue is used while its consumer lives: [`PartitionQueue`] holds the consumer.
//! - A message is used between the call that gives it and the one that destroys it, both in
//!   [`PartitionQueue::take`]: what it points to is borrowed for the time of a closure's call.
//! - The callback gets a pointer to a [`Thread`] that lives as long as it is registered: librdkafka
//!   calls it, and lets go of it, under the lock of the queue.
//! - One thread takes from a queue at a time: `take` needs `&mut self`.

use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::thread::Thread;

use rdkafka::bindings as sys;
use rdkafka::bindings::rd_kafka_timestamp_type_t as Kind;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};

use crate::kafka::record::{Parts, Timestamp};

/// Messages taken in one call.
const TAKE: usize = 512;

/// A message of a partition that is no record: an error of its own.
pub(in crate::kafka) type Taken<'a> = Result<Parts<'a, Headers<'a>>, RDKafkaErrorCode>;

/// The queue of a partition, apart from that of its consumer.
pub(in crate::kafka) struct PartitionQueue<C: ConsumerContext> {
    queue: NonNull<sys::rd_kafka_queue_t>,
    /// What the callback wakes. Behind a pointer that stays where it is.
    bell: *mut Thread,
    messages: Box<[*mut sys::rd_kafka_message_t]>,
    /// Keeps the client alive.
    _consumer: Arc<BaseConsumer<C>>,
}

// SAFETY: librdkafka's queues may be used from any thread, and a `Thread` may be unparked from any.
unsafe impl<C: ConsumerContext> Send for PartitionQueue<C> {}

impl<C: ConsumerContext> PartitionQueue<C> {
    /// Splits the partition's queue off, so that its records no longer come out of `poll`. Best called
    /// before the partition is assigned: then none can have come there. `None` for a name that no
    /// topic can have.
    pub(in crate::kafka) fn split(
        consumer: &Arc<BaseConsumer<C>>,
        topic: &str,
        partition: i32,
        wakes: Thread,
    ) -> Option<PartitionQueue<C>> {
        let topic = CString::new(topic).ok()?;
        let bell = Box::into_raw(Box::new(wakes));
        // SAFETY: the client lives as long as `consumer`, the name as long as the call. A queue that is
        // given is ours to destroy.
        let queue = unsafe {
            let client = consumer.client().native_ptr();
            let queue = sys::rd_kafka_queue_get_partition(client, topic.as_ptr(), partition);
            if !queue.is_null() {
                sys::rd_kafka_queue_forward(queue, ptr::null_mut());
                sys::rd_kafka_queue_cb_event_enable(queue, Some(ring), bell.cast());
            }
            NonNull::new(queue)
        };
        let Some(queue) = queue else {
            // SAFETY: it came from a box above, and nobody else has it.
            drop(unsafe { Box::from_raw(bell) });
            return None;
        };
        Some(PartitionQueue {
            queue,
            bell,
            messages: vec![ptr::null_mut(); TAKE].into_boxed_slice(),
            _consumer: Arc::clone(consumer),
        })
    }

    /// Takes at most `count` messages that are there now, at most [`TAKE`]; says how many it took.
    pub(in crate::kafka) fn take(
        &mut self,
        count: usize,
        mut each: impl FnMut(Taken<'_>),
    ) -> usize {
        let room = count.min(self.messages.len());
        // SAFETY: the queue lives, and the slice has room for as many pointers.
        let taken = unsafe {
            sys::rd_kafka_consume_batch_queue(
                self.queue.as_ptr(),
                0,
                self.messages.as_mut_ptr(),
                room,
            )
        };
        let taken = usize::try_from(taken).unwrap_or(0).min(room);
        let mut rest = Messages(&self.messages[..taken]);
        while let Some((first, others)) = rest.0.split_first() {
            // SAFETY: librdkafka gave it in this call; it is destroyed by `rest` alone, after this.
            let message = unsafe { &**first };
            each(read(message));
            // SAFETY: as above; nothing borrowed from it outlives `each`.
            unsafe { sys::rd_kafka_message_destroy(*first) };
            rest.0 = others;
        }
        taken
    }
}

impl<C: ConsumerContext> Drop for PartitionQueue<C> {
    fn drop(&mut self) {
        // SAFETY: the queue is ours until it is destroyed here. Once the callback is taken away, which
        // happens under the lock it is called under, nobody has the bell.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.queue.as_ptr());
            drop(Box::from_raw(self.bell));
        }
    }
}

/// Where a partition ends as far as the client knows: behind its last record, or behind the last whose
/// transaction is over where only those are read. `None` before the first fetch.
pub(in crate::kafka) fn known_end<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
) -> Option<i64> {
    let topic = CString::new(topic).ok()?;
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client lives as long as `consumer`, the name and both numbers as long as the call.
    let known = unsafe {
        sys::rd_kafka_get_watermark_offsets(
            consumer.client().native_ptr(),
            topic.as_ptr(),
            partition,
            &raw mut low,
            &raw mut high,
        )
    };
    (known == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
}

/// Whether the consumer is a member of its group now, as far as it knows.
pub(in crate::kafka) fn is_member<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> bool {
    // SAFETY: the client lives as long as `consumer`; what it gives is a C string that is ours to free.
    unsafe {
        let client = consumer.client().native_ptr();
        let name = sys::rd_kafka_memberid(client);
        let is_named = !name.is_null() && !CStr::from_ptr(name).is_empty();
        if !name.is_null() {
            sys::rd_kafka_mem_free(client, name.cast());
        }
        is_named
    }
}

/// Messages that are still to be destroyed, also if the closure they are given to panics.
struct Messages<'a>(&'a [*mut sys::rd_kafka_message_t]);

impl Drop for Messages<'_> {
    fn drop(&mut self) {
        for message in self.0 {
            // SAFETY: each is in the slice once, and is taken out of it when it is destroyed.
            unsafe { sys::rd_kafka_message_destroy(*message) };
        }
    }
}

/// Called by librdkafka's threads when a queue that was empty has something.
unsafe extern "C" fn ring(_client: *mut sys::rd_kafka_t, bell: *mut c_void) {
    // SAFETY: `split` registered a thread, which lives until the callback is taken away.
    unsafe { &*bell.cast::<Thread>() }.unpark();
}

fn read(message: &sys::rd_kafka_message_t) -> Taken<'_> {
    if message.err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Err(message.err.into());
    }
    let mut kind = Kind::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    // SAFETY: the message lives; the kind is ours.
    let at = unsafe { sys::rd_kafka_message_timestamp(message, &raw mut kind) };
    let timestamp = match kind {
        Kind::RD_KAFKA_TIMESTAMP_CREATE_TIME if at >= 0 => Timestamp::Created(at),
        Kind::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME if at >= 0 => Timestamp::Appended(at),
        _ => Timestamp::Unknown,
    };
    let mut headers = ptr::null_mut();
    // SAFETY: the message lives. What it gives belongs to it.
    let error = unsafe { sys::rd_kafka_message_headers(message, &raw mut headers) };
    let has = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
    Ok(Parts {
        offset: message.offset,
        timestamp,
        // SAFETY: pointer and length of the message's own bytes, which live as long as it does.
        key: unsafe { bytes(message.key, message.key_len) },
        // SAFETY: as above.
        value: unsafe { bytes(message.payload, message.len) },
        headers: Headers {
            headers: if has { headers } else { ptr::null_mut() },
            next: 0,
            _message: message,
        },
    })
}

/// # Safety
/// The pointer is null, or to as many bytes that live for `'a`.
unsafe fn bytes<'a>(at: *const c_void, len: usize) -> Option<&'a [u8]> {
    if at.is_null() {
        return None;
    }
    // SAFETY: as promised by the caller.
    Some(unsafe { slice::from_raw_parts(at.cast(), len) })
}

/// The headers of a message, in order.
pub(in crate::kafka) struct Headers<'a> {
    headers: *const sys::rd_kafka_headers_t,
    next: usize,
    _message: &'a sys::rd_kafka_message_t,
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.headers.is_null() {
            return None;
        }
        let mut name: *const c_char = ptr::null();
        let (mut value, mut len) = (ptr::null(), 0);
        // SAFETY: the headers belong to the message, which lives for 'a. A name is a C string, a value
        // null or as long as it says.
        unsafe {
            let found = sys::rd_kafka_header_get_all(
                self.headers,
                self.next,
                &raw mut name,
                &raw mut value,
                &raw mut len,
            );
            if found != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                return None;
            }
            self.next += 1;
            Some((CStr::from_ptr(name).to_bytes(), bytes(value, len)))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rdkafka::ClientConfig;
    use rdkafka::consumer::DefaultConsumerContext;

    use super::*;

    #[test]
    fn whoever_has_not_joined_is_no_member() {
        let consumer: BaseConsumer<DefaultConsumerContext> = ClientConfig::new()
            .set("bootstrap.servers", "127.0.0.1:1")
            .set("group.id", "nobody-joined")
            .create()
            .unwrap();
        // There is a group all the same, without name and generation: brokers take commits of it.
        assert!(consumer.group_metadata().is_some());
        assert!(!is_member(&consumer));
    }
}
