//! What happened in a run in simulated time, event by event.

use std::fmt;
use std::sync::Arc;

use crate::time::Time;

/// Events kept in full; what follows is counted, and goes into the digest.
const KEPT: usize = 1 << 18;

/// One event of a simulated run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// When.
    pub at: Time,
    /// Whose: a stage by name, a task by the name of its last stage, or `clock`.
    pub stage: Arc<str>,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum What {
    /// A task was started.
    Started,
    /// A task ran and waits again.
    Ran,
    /// A task ended.
    Ended,
    /// A task panicked.
    Panicked,
    /// That many timers were due.
    Timers(usize),
    /// The stage's account changed by so much while its task ran.
    Moved {
        /// Elements that came in.
        entered: u64,
        /// Elements handed on.
        left: u64,
        /// Elements that ended there.
        settled: u64,
    },
    /// The run was told to end, or could not go on.
    Told(&'static str),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>12} ns  {:<16} ", self.at.as_nanos(), self.stage)?;
        match &self.what {
            What::Started => f.write_str("started"),
            What::Ran => f.write_str("ran"),
            What::Ended => f.write_str("ended"),
            What::Panicked => f.write_str("panicked"),
            What::Timers(count) => write!(f, "{count} timers due"),
            What::Moved {
                entered,
                left,
                settled,
            } => {
                write!(f, "in {entered} out {left} settled {settled}")
            }
            What::Told(what) => f.write_str(what),
        }
    }
}

/// What happened, in order: the same for the same seed, byte for byte.
///
/// The first 262,144 events are kept; those after them are counted and go into [`Trace::digest`],
/// so that two traces are equal only if the whole runs were.
#[derive(Clone, PartialEq, Eq)]
pub struct Trace {
    events: Vec<Event>,
    more: u64,
    digest: u64,
}

impl Default for Trace {
    fn default() -> Self {
        // The offset of the 64-bit FNV-1a hash.
        Trace {
            events: Vec::new(),
            more: 0,
            digest: 0xcbf2_9ce4_8422_2325,
        }
    }
}

impl Trace {
    pub(crate) fn push(&mut self, event: Event) {
        for byte in event.to_string().bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if self.events.len() < KEPT {
            self.events.push(event);
        } else {
            self.more += 1;
        }
    }

    /// The events that were kept.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// How many events there were, kept or not.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.events.len() as u64 + self.more
    }

    /// Whether nothing happened.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// A hash of the text of all events.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for event in &self.events {
            writeln!(f, "{event}")?;
        }
        if self.more > 0 {
            writeln!(f, "and {} more; digest {:016x}", self.more, self.digest)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Trace({} events, digest {:016x})",
            self.len(),
            self.digest
        )
    }
}
