//! What a client was told in the end.
//!
//! # Safety
//! The configuration is the client's, which lives as long as the call, and is only read; that of its topics
//! is a copy, destroyed here. What is dumped of them is copied before it is freed.

use std::ffi::{CStr, c_char};
use std::slice;

use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};

/// Every property as a client has it, by name: also those that nobody set, and those that the client set
/// itself. librdkafka leaves secrets out.
pub(in crate::kafka) fn effective<C: ClientContext>(client: &Client<C>) -> Vec<(String, String)> {
    let (mut count, mut more) = (0, 0);
    // SAFETY: the client lives, and its configuration with it. A dump is so many pointers to C strings.
    unsafe {
        let config = sys::rd_kafka_conf(client.native_ptr());
        let dump = sys::rd_kafka_conf_dump(config.cast_mut(), &raw mut count);
        let mut all = pairs(dump, count);
        let topics = sys::rd_kafka_default_topic_conf_dup(client.native_ptr());
        let dump = sys::rd_kafka_topic_conf_dump(topics, &raw mut more);
        let topics_own = pairs(dump, more).into_iter();
        all.extend(topics_own.filter(|(_, value)| value != "inherit"));
        sys::rd_kafka_topic_conf_destroy(topics);
        all
    }
}

/// Names and values in turn.
///
/// # Safety
/// A dump of so many pointers to C strings. It is freed.
unsafe fn pairs(dump: *mut *const c_char, count: usize) -> Vec<(String, String)> {
    // SAFETY: as promised by the caller.
    let texts = unsafe { slice::from_raw_parts(dump, count) };
    let text = |at: *const c_char| {
        // SAFETY: as above.
        let text = unsafe { CStr::from_ptr(at) };
        text.to_string_lossy().into_owned()
    };
    let pairs = texts.chunks_exact(2);
    let pairs = pairs.map(|pair| (text(pair[0]), text(pair[1]))).collect();
    // SAFETY: nothing borrowed of it is left.
    unsafe { sys::rd_kafka_conf_dump_free(dump, count) };
    pairs
}
