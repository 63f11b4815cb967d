//! Writing topics.

mod record;
mod settings;
mod sink;

pub use record::ProducerRecord;
pub use settings::{Acks, Compression, ProducerSettings};
pub use sink::KafkaSink;

use crate::flow::{Flow, Pipeline};
use crate::topology::NodeSpec;

impl Flow<ProducerRecord> {
    /// Writes records to their topics.
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
