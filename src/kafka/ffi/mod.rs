//! What rdkafka does not offer: batches of librdkafka's records and reports, and a client's own settings.
//!
//! This is the only folder of the room that calls librdkafka itself, and the only unsafe code of it.
//! [`consume`] takes records from a partition's queue, [`produce`] hands records over and takes their
//! reports, [`effective`] reads what a client was told; each says what its safety stands on.
#![allow(unsafe_code)]

mod consume;
mod effective;
mod embedded;
mod produce;

pub(super) use consume::{PartitionQueue, is_member, known_end};
pub(super) use effective::effective;
pub(super) use embedded::set_join_delay;
pub(super) use produce::{Events, Failure, Hears, Outgoing, Report, Sender};
