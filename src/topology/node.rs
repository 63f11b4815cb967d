//! What a stage declares about itself.

use super::deadlock::Takes;

/// What a stage declares about itself. Of a kind alone, it is one that holds nothing between two
/// calls, loses nothing, and keeps barriers and rewinds.
///
/// ```
/// use forebay::topology::NodeSpec;
///
/// let spec = NodeSpec::new("reorder").holds(64).no_rewind("keeps an order it cannot rebuild");
/// ```
#[derive(Clone, Debug)]
pub struct NodeSpec {
    pub(crate) kind: &'static str,
    pub(crate) name: Option<String>,
    /// The most elements it holds between two calls.
    pub(crate) held: usize,
    /// The most bytes, where it is bounded by bytes as well.
    pub(crate) held_bytes: Option<u64>,
    /// How it may lose elements for good, if it may: "sheds its oldest when full".
    pub(crate) loses: Option<String>,
    /// How it may hand over or write elements more than once, if it may.
    pub(crate) repeats: Option<String>,
    /// Why it cannot keep barriers, if it cannot.
    pub(crate) no_barrier: Option<&'static str>,
    /// It has state that a rewind would have to rebuild, and no closure to do so.
    pub(crate) no_rewind: Option<&'static str>,
    /// It runs on threads of its own.
    pub(crate) threads: bool,
    /// It may hand on more or fewer elements than came in.
    pub(crate) changes_count: bool,
    /// It hands nothing on before it has gathered so many elements.
    pub(crate) gathers: usize,
    pub(crate) aside: Option<(usize, f64)>,
    /// It hands every element to each of its branches.
    pub(crate) copies: bool,
    /// How it takes from its inputs, where that can bring branches of one fan-out to a halt.
    pub(crate) takes: Option<Takes>,
    /// The user declared that buffers hold what its inputs differ by.
    pub(crate) balanced: bool,
    /// It hands on a barrier when each of its inputs gave one.
    pub(crate) aligns: bool,
    /// A source that ends by itself, without waiting for anything.
    pub(crate) ends: bool,
    /// A sink of dead letters that stages share.
    pub(crate) letters: bool,
    /// A hand-off between islands: drawn as an edge with a bound.
    pub(crate) boundary: bool,
    /// It gives its elements their origin.
    pub(crate) origin: bool,
    /// It writes dead letters of nothing but the origin.
    pub(crate) needs_origin: bool,
    /// More to print: a policy, a limit.
    pub(crate) note: Option<String>,
}

impl NodeSpec {
    /// A stage of that kind.
    #[must_use]
    pub fn new(kind: &'static str) -> NodeSpec {
        NodeSpec {
            kind,
            name: None,
            held: 0,
            held_bytes: None,
            loses: None,
            repeats: None,
            no_barrier: None,
            no_rewind: None,
            threads: false,
            changes_count: false,
            gathers: 0,
            aside: None,
            copies: false,
            takes: None,
            balanced: false,
            aligns: false,
            ends: false,
            letters: false,
            boundary: false,
            origin: false,
            needs_origin: false,
            note: None,
        }
    }

    /// Its name in reports, errors and pictures. Default: its kind.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> NodeSpec {
        self.name = Some(name.into());
        self
    }

    /// The most elements it holds between two calls.
    #[must_use]
    pub fn holds(mut self, items: usize) -> NodeSpec {
        self.held = items;
        self
    }

    /// The most bytes it holds, where it is bounded by bytes as well.
    #[must_use]
    pub fn holds_bytes(mut self, bytes: u64) -> NodeSpec {
        self.held_bytes = (bytes != u64::MAX).then_some(bytes);
        self
    }

    /// How it may lose elements for good: it is refused under at-least-once and exactly-once.
    #[must_use]
    pub fn loses(mut self, how: impl Into<String>) -> NodeSpec {
        self.loses = Some(how.into());
        self
    }

    /// How it may hand over or write elements more than once after a crash: it is refused under
    /// at-most-once and exactly-once.
    #[must_use]
    pub fn repeats(mut self, how: impl Into<String>) -> NodeSpec {
        self.repeats = Some(how.into());
        self
    }

    /// Why it cannot keep barriers: it is refused under exactly-once.
    #[must_use]
    pub fn no_barrier(mut self, why: &'static str) -> NodeSpec {
        self.no_barrier = Some(why);
        self
    }

    /// Why it cannot drop what it holds of a source that goes back: it is refused under exactly-once
    /// and behind a source that answers by [`Answer::Rewind`](crate::operator::Answer::Rewind).
    #[must_use]
    pub fn no_rewind(mut self, why: &'static str) -> NodeSpec {
        self.no_rewind = Some(why);
        self
    }

    /// It runs on threads of its own: it is refused in simulated time.
    #[must_use]
    pub fn threads(mut self) -> NodeSpec {
        self.threads = true;
        self
    }

    /// A source that ends by itself and waits for nothing until then: values at hand. A join with sources
    /// that give barriers waits for that end; one with other sources that give none is refused.
    #[must_use]
    pub fn ends(mut self) -> NodeSpec {
        self.ends = true;
        self
    }

    pub(crate) fn aligns(mut self) -> NodeSpec {
        self.aligns = true;
        self
    }

    pub(crate) fn letters(mut self) -> NodeSpec {
        self.letters = true;
        self
    }

    /// It may hand on more or fewer elements than came in.
    pub(crate) fn changes_count(mut self) -> NodeSpec {
        self.changes_count = true;
        self
    }

    /// It hands nothing on before it has gathered so many elements, however long that takes.
    pub(crate) fn gathers(mut self, items: usize) -> NodeSpec {
        self.gathers = items;
        self
    }

    pub(crate) fn copies(mut self) -> NodeSpec {
        self.copies = true;
        self
    }

    /// It takes one element from each input.
    pub(crate) fn in_step(mut self) -> NodeSpec {
        self.takes = Some(Takes::InStep);
        self
    }

    /// It takes all elements of one input before those of the next.
    pub(crate) fn in_sequence(mut self) -> NodeSpec {
        self.takes = Some(Takes::InSequence);
        self
    }

    /// It may hold that many elements unsettled while others pass, at most that share of what their
    /// source may have unsettled.
    pub(crate) fn puts_aside(mut self, items: usize, share: f64) -> NodeSpec {
        self.aside = Some((items, share));
        self
    }

    pub(crate) fn boundary(mut self) -> NodeSpec {
        self.boundary = true;
        self
    }

    /// So many elements more.
    pub(crate) fn holds_more(mut self, items: usize) -> NodeSpec {
        self.held = self.held.saturating_add(items);
        self
    }

    /// Adds to what is printed.
    pub(crate) fn note_more(mut self, more: &str) -> NodeSpec {
        let note = self.note.take().map_or(String::new(), |note| note + ", ");
        self.note = Some(note + more);
        self
    }

    /// More to print in pictures: a policy, a limit.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> NodeSpec {
        self.note = Some(note.into());
        self
    }
}

impl From<&'static str> for NodeSpec {
    fn from(kind: &'static str) -> NodeSpec {
        NodeSpec::new(kind).holds(crate::chunk::Chunk::<()>::MAX)
    }
}
