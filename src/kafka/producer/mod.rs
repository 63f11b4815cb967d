//! Writing topics.

mod destinations;
mod in_flight;
mod publisher;
mod record;
mod reports;
mod settings;
mod sink;

pub use publisher::Publisher;
pub use record::ProducerRecord;
pub(super) use reports::Writer;
pub use settings::{Acks, Compression, ProducerSettings};
pub use sink::KafkaSink;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rdkafka::producer::BaseProducer;

use super::error::Error;
use super::ffi::{Events, Hears};
use crate::flow::{Flow, Pipeline};
use crate::topology::NodeSpec;

impl Flow<ProducerRecord> {
    /// Writes records to their topics.
    ///
    /// A record is delivered once its report says so; one that could not be written goes to the topic for
    /// such records if the settings name one, and has failed if that cannot be either. What became of them
    /// is counted by topic as well:
    /// [`StageCounts::destinations`](crate::ledger::StageCounts::destinations). At most so many records and
    /// bytes are on their way as the settings allow: then the flow waits.
    ///
    /// # Errors
    /// The run is refused for settings that cannot be. It stops, with the [`Error`] that says what to do, if the client is not let in, may not write a
    /// topic, or was replaced by another of its name; and with any error a record ended with, where its
    /// failure stops the run.
    ///
    /// # Cancel safety
    /// A run that ends before its time has its records settled as cancelled: whether those that were on
    /// their way were written is not known then.
    pub fn to_kafka(self, settings: ProducerSettings) -> Pipeline<()> {
        let refusal = settings.checked().err();
        let spec = NodeSpec::new("to_kafka").holds(settings.items).threads();
        let flow = match refusal {
            Some(why) => self.refused(why.to_string()),
            None => self,
        };
        flow.to_stage(spec, KafkaSink::new(settings))
    }
}

/// How long a producer's thread waits for events in one go; it looks whether it is to end in between.
const POLL: Duration = Duration::from_millis(20);

/// Has the client's events served on a thread until its context says that this is over.
pub(super) fn poll_on_thread<C>(
    producer: &Arc<BaseProducer<C>>,
    is_over: impl Fn(&C) -> bool + Send + 'static,
) -> Result<(), Error>
where
    C: Hears + 'static,
{
    let events = Events::of(Arc::clone(producer));
    let mut events = events.ok_or_else(|| Error::Thread("the client has no queue".to_owned()))?;
    let started = thread::Builder::new()
        .name("kafka-producer".to_owned())
        .spawn(move || {
            while !is_over(events.context()) {
                events.serve(POLL);
            }
        });
    match started {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::Thread(error.to_string())),
    }
}
