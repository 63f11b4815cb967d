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
    /// Writes records in transactions that commit the positions of their sources with them: exactly once.
    ///
    /// What comes between two barriers of its sources is one transaction: they are declared with
    /// [`in_transactions`](crate::kafka::ConsumerSettings::in_transactions), and the flow has no other
    /// sources. While one transaction is committed the records of the next are written by a second
    /// producer. A transaction that cannot be committed is aborted, and its sources go back to what was
    /// committed last: a partition was taken away, a record failed or could not be written in time, or
    /// another member has the partition now, which the broker finds by the generation of the group.
    ///
    /// - *emits when* never: elements end here
    /// - *back-pressures when* so many records wait for their commits as
    ///   [`held`](TransactionSettings::held) says, while a barrier waits for the commit before it, and while
    ///   an abort is under way
    /// - *completes when* the flow before it completes and the last transaction is committed
    /// - *cancels when* a producer fails for good: with [`Error::Fenced`](crate::kafka::Error::Fenced) if
    ///   another one has its name, and with [`Error::Fatal`](crate::kafka::Error::Fatal) if nobody can tell
    ///   what became of a commit; a new run begins at what was committed
    /// - *settles when* the transaction of a record is committed: delivered; cancelled (rewound) when it is
    ///   aborted
    /// - *holds* the records of the open transaction and of the one that is being committed
    /// - *costs* two producers with two threads each, and a commit for each transaction, while the next is
    ///   written
    ///
    /// # Errors
    /// The plan is refused for settings that cannot be, and for [`Guarantee::ExactlyOnce`] with a stage that
    /// does not keep it.
    ///
    /// [`Guarantee::ExactlyOnce`]: crate::topology::Guarantee::ExactlyOnce
    ///
    /// # Example
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use forebay::kafka::{
    ///     self, Connection, ConsumerSettings, ProducerRecord, ProducerSettings, TransactionSettings,
    /// };
    /// use forebay::topology::Guarantee;
    ///
    /// let cluster = || Connection::to("localhost:9092");
    /// let reads = ConsumerSettings::new(cluster(), "prices")
    ///     .topics(["orders"])
    ///     .in_transactions(Duration::from_millis(100), 10_000);
    /// let writes = TransactionSettings::new(ProducerSettings::new(cluster()), "prices-1");
    /// let (_orders, flow) = kafka::source(reads);
    /// flow.map(|record| ProducerRecord::copy_of(&record, "priced"))
    ///     .to_kafka_in_transactions(writes)
    ///     .guarantee(Guarantee::ExactlyOnce)
    ///     .block_on()?;
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
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
