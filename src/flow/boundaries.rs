//! Stages between which elements are queued.

use super::Flow;
use crate::boundary::{Buffer, WhenFull, ring};
use crate::topology::NodeSpec;

impl<T: Send + 'static> Flow<T> {
    /// A bounded buffer; what comes before it runs as an island of its own.
    ///
    /// What it does when full is its [`WhenFull`]: see the guide on
    /// [overflow](crate::guide::overflow).
    ///
    /// - *emits when* it holds an element
    /// - *back-pressures when* it is full, under [`WhenFull::Backpressure`]; otherwise never
    /// - *completes when* the flow before it completes and what it holds is handed on
    /// - *cancels when* downstream cancels; what it holds is cancelled
    /// - *settles when* it is full and sheds: the element given up is shed, with the strategy as
    ///   the reason; under [`WhenFull::Fail`] it fails and the run stops
    /// - *holds* at most its capacity in elements, and in bytes where it has one (one element may
    ///   exceed them, alone)
    /// - *costs* a lock and a wake-up a chunk; chunks are moved whole
    ///
    /// # Example
    /// ```
    /// use forebay::boundary::{Buffer, WhenFull};
    /// use forebay::source;
    ///
    /// let all = source::iter(0..100)
    ///     .buffer(Buffer::items(10).when_full(WhenFull::Backpressure))
    ///     .collect()
    ///     .block_on()?;
    /// assert_eq!(all.len(), 100);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn buffer(self, buffer: impl Into<Buffer>) -> Flow<T> {
        let buffer = buffer.into();
        self.boundary(
            NodeSpec::new("buffer").note(buffer.when_full.name()),
            buffer,
        )
    }

    /// Lets what comes before run as an island of its own, on another core where there is one, with
    /// room for one chunk between.
    ///
    /// - *emits when* an element is between the islands
    /// - *back-pressures when* 256 elements are
    /// - *completes when* the flow before it completes and what is between is handed on
    /// - *cancels when* downstream cancels
    /// - *settles when* never, but for what a cancellation leaves behind
    /// - *holds* at most 256 elements
    /// - *costs* a lock and a wake-up a chunk
    ///
    /// # Example
    /// ```
    /// use forebay::source;
    ///
    /// let sum = source::iter(0..100)
    ///     .map(|n| n * 2)
    ///     .async_boundary()
    ///     .map(|n| n + 1)
    ///     .fold(0, |sum, n| *sum += n)
    ///     .block_on()?;
    /// assert_eq!(sum, 10_000);
    /// # Ok::<(), forebay::error::RunError>(())
    /// ```
    pub fn async_boundary(self) -> Flow<T> {
        self.boundary(NodeSpec::new("async_boundary"), Buffer::default())
    }

    fn boundary(self, spec: NodeSpec, buffer: Buffer) -> Flow<T> {
        let mut spec = spec
            .boundary()
            .holds(buffer.items)
            .holds_bytes(buffer.bytes);
        if buffer.when_full.sheds() {
            spec = spec.loses(format!(
                "sheds ({}) when full: use back-pressure",
                buffer.when_full.name()
            ));
        } else if buffer.when_full == WhenFull::Fail {
            spec = spec.note("fails when full");
        }
        let plan = self.plan.clone();
        let stage = plan.add(spec, &[&self.stage], false);
        let (sink, source) = ring(buffer, &stage);
        self.end_island(sink, stage.clone());
        Flow::from_parts(Box::new(source), stage, plan)
    }
}
