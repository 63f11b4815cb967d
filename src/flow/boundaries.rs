//! Stages between which elements are queued.

use super::Flow;
use crate::boundary::{Buffer, WhenFull, ring};
use crate::topology::NodeSpec;

impl<T: Send + 'static> Flow<T> {
    /// A bounded buffer; what comes before it runs as an island of its own.
    pub fn buffer(self, buffer: impl Into<Buffer>) -> Flow<T> {
        let buffer = buffer.into();
        self.boundary(
            NodeSpec::new("buffer").note(buffer.when_full.name()),
            buffer,
        )
    }

    /// Lets what comes before run as an island of its own, on another core where there is one, with
    /// room for one chunk between.
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
