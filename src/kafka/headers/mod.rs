//! What headers say that many agree on: the trace a record belongs to, the type of an event, its time.

mod trace;

pub use trace::{MalformedTrace, Trace, TraceIds};

use super::producer::ProducerRecord;
use super::record::Record;

/// The type of an event, such as `ORDER_PAID`.
const EVENT_TYPE: &str = "event-type";
/// When an event happened: milliseconds since 1970, as text.
const TIMESTAMP: &str = "timestamp";

impl Record {
    /// The trace it belongs to: headers `traceparent` and `tracestate` as the W3C has them. `None` where
    /// there is no `traceparent`.
    ///
    /// Of several headers `traceparent` the last counts. A `tracestate` that is none is left out, and the
    /// trace stands.
    ///
    /// # Errors
    /// [`MalformedTrace`] if its `traceparent` is none. By the standard such a record begins a trace of its
    /// own: `record.trace().unwrap_or_default()` is `None` then too.
    pub fn trace(&self) -> Result<Option<Trace>, MalformedTrace> {
        trace::of(self.headers())
    }

    /// The type of the event it holds: the last header `event-type`. `None` where there is none, or it is
    /// no text.
    #[must_use]
    pub fn event_type(&self) -> Option<&str> {
        std::str::from_utf8(self.header(EVENT_TYPE)?).ok()
    }

    /// When the event it holds happened, in milliseconds since 1970: the last header `timestamp`, else the
    /// record's own time.
    #[must_use]
    pub fn event_time_ms(&self) -> Option<i64> {
        let told = self
            .header(TIMESTAMP)
            .and_then(|at| std::str::from_utf8(at).ok());
        let told = told.and_then(|at| at.parse().ok());
        told.or(self.timestamp().millis())
    }
}

impl ProducerRecord {
    /// Says which trace it belongs to, in place of what was said before: `traceparent`, and `tracestate` if
    /// there is one.
    ///
    /// # Example
    /// ```
    /// use forebay::kafka::{ProducerRecord, Trace};
    ///
    /// let trace = Trace::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")?;
    /// let record = ProducerRecord::to("orders").value("paid").trace(&trace.child(0x53ce929d0e0e4736));
    /// assert_eq!(record.len(), 4 + 11 + 55);
    /// # Ok::<(), forebay::kafka::MalformedTrace>(())
    /// ```
    #[must_use]
    pub fn trace(self, trace: &Trace) -> ProducerRecord {
        let record = self
            .without_header(trace::PARENT)
            .without_header(trace::STATE)
            .header(trace::PARENT, trace.to_string());
        match &trace.state {
            Some(state) => record.header(trace::STATE, state.clone()),
            None => record,
        }
    }

    /// Says of which type the event is that it holds, in place of what was said before: `event-type`.
    #[must_use]
    pub fn event_type(self, name: impl Into<String>) -> ProducerRecord {
        let name = name.into();
        self.without_header(EVENT_TYPE).header(EVENT_TYPE, name)
    }

    /// Says when the event happened, in milliseconds since 1970: header `timestamp`, which stays as it is
    /// where a topic gives records times of its own, and the record's [`timestamp`](ProducerRecord::timestamp).
    #[must_use]
    pub fn event_time(self, millis: i64) -> ProducerRecord {
        self.without_header(TIMESTAMP)
            .header(TIMESTAMP, millis.to_string())
            .timestamp(millis)
    }
}
