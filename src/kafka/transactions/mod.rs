//! Exactly once: what was read, made and written is one transaction with the positions it came from.

mod lane;
mod settings;
mod sink;

pub(super) use lane::{again, failure};
pub use settings::TransactionSettings;
pub use sink::TransactionalSink;

use super::producer::ProducerRecord;
use crate::flow::{Flow, Pipeline};
use crate::topology::NodeSpec;

impl Flow<ProducerRecord> {
    /// Writes records in transactions that commit the positions of their sources.
    pub fn to_kafka_in_transactions(self, settings: TransactionSettings) -> Pipeline<()> {
        let refusal = settings.checked("a").err();
        let spec = NodeSpec::new("transactions").holds(settings.held).threads();
        let flow = match refusal {
            Some(why) => self.refused(why.to_string()),
            None => self,
        };
        flow.to_stage(spec, TransactionalSink::new(settings))
    }
}
