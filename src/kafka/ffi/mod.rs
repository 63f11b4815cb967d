//! What rdkafka does not offer: batches of librdkafka's records and reports.
//!
//! This is the only folder of the room that calls librdkafka itself, and the only unsafe code of it.
//! [`consume`] takes records from a partition's queue, [`produce`] hands records over and takes their
//! reports; both say what their safety stands on.
#![allow(unsafe_code)]

mod consume;
mod produce;

pub(super) use consume::{PartitionQueue, known_end};
pub(super) use produce::{Events, Hears, Outgoing, Sender};
