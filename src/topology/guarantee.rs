//! The delivery guarantees a pipeline can name.

/// How often an element that entered reaches its sink.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Guarantee {
    /// At most once: no stage may hand over an element again after a crash.
    AtMostOnce,
    /// At least once: no stage may shed, expire or discard elements for good.
    AtLeastOnce,
    /// Exactly once: as at least once, and every stage keeps barriers and can go back.
    ExactlyOnce,
}

impl Guarantee {
    /// Its usual name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Guarantee::AtMostOnce => "at-most-once",
            Guarantee::AtLeastOnce => "at-least-once",
            Guarantee::ExactlyOnce => "exactly-once",
        }
    }
}
