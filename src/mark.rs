//! Marks: messages that travel downstream between the elements, in order.
//!
//! # Invariants
//! - A mark ends the chunk before it, costs no capacity and is never dropped.
//! - A *barrier* is aligned where flows join: an input that gave it is not asked again until all
//!   live inputs gave theirs. Stages that gather elements hand on what they hold before it.
//! - A *rewind* overtakes nothing but is not aligned: each stage drops what it holds of that source.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::position::{Epoch, Frontier, Generation, SourceId, Tracker, Walk};

/// A message between elements.
#[derive(Clone, Debug)]
pub enum Mark {
    /// All elements of an epoch came before this.
    Barrier(Barrier),
    /// A source goes back: what it handed over before this, and was not settled, comes again.
    Rewind(SourceId, Generation),
}

impl Mark {
    /// Whether it is the other one, perhaps joined with marks of more sources.
    pub(crate) fn holds(&self, other: &Mark) -> bool {
        match (self, other) {
            (Mark::Rewind(source, at), Mark::Rewind(same, then)) => (source, at) == (same, then),
            (Mark::Barrier(mine), Mark::Barrier(theirs)) => theirs.tokens.iter().all(|token| {
                let is_same =
                    |own: &CommitToken| (own.source, own.epoch) == (token.source, token.epoch);
                mine.tokens.iter().any(is_same)
            }),
            _ => false,
        }
    }
}

/// The end of an epoch, of one source or of several that were joined.
#[derive(Clone, Debug)]
pub struct Barrier {
    tokens: Vec<CommitToken>,
}

impl Barrier {
    /// The barrier of one source.
    #[must_use]
    pub fn new(token: CommitToken) -> Barrier {
        Barrier {
            tokens: vec![token],
        }
    }

    /// What to commit, one token for each source whose epoch ends here.
    #[must_use]
    pub fn tokens(&self) -> &[CommitToken] {
        &self.tokens
    }

    /// The barrier of a join: tokens of both, one for each source and epoch.
    pub fn join(&mut self, other: Barrier) {
        for token in other.tokens {
            if !self
                .tokens
                .iter()
                .any(|mine| mine.source == token.source && mine.epoch == token.epoch)
            {
                self.tokens.push(token);
            }
        }
    }

    /// Ends no epoch of that source any more. Whether it ends none at all.
    pub(crate) fn forget(&mut self, source: SourceId) -> bool {
        self.tokens.retain(|token| token.source != source);
        self.tokens.is_empty()
    }

    /// Begins a commit of all its tokens: see [`CommitToken::begin`].
    #[must_use]
    pub fn begin(&self) -> Option<Commit> {
        let mut whole = Commit { holds: Vec::new() };
        for token in &self.tokens {
            whole.holds.append(&mut token.begin()?.holds);
        }
        Some(whole)
    }

    /// Whether it ends an epoch of that source.
    #[must_use]
    pub fn is_of(&self, source: SourceId) -> bool {
        self.tokens.iter().any(|token| token.source == source)
    }
}

/// A source's handle to its positions at a barrier, and to whatever else a commit needs: a
/// transactional sink commits exactly that.
#[derive(Clone)]
pub struct CommitToken {
    source: SourceId,
    epoch: Epoch,
    detail: Arc<dyn Any + Send + Sync>,
    /// The sequences of the source, each with its end: generation and number.
    covers: Vec<Hold>,
}

/// A sequence up to a number, in a generation.
#[derive(Clone)]
struct Hold {
    walk: Arc<dyn Walk>,
    generation: Generation,
    sequence: u64,
}

/// A commit under way. While it lives, its sources do not go back: settle what was committed
/// before it is dropped, and they will not read it again.
#[must_use = "the sources may go back as soon as it is dropped"]
pub struct Commit {
    holds: Vec<Hold>,
}

impl Drop for Commit {
    fn drop(&mut self) {
        for hold in &self.holds {
            hold.walk.end_commit();
        }
    }
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commit")
            .field("sequences", &self.holds.len())
            .finish()
    }
}

impl CommitToken {
    /// A token with what the source knows and its sink understands.
    pub fn new(source: SourceId, epoch: Epoch, detail: impl Any + Send + Sync) -> CommitToken {
        CommitToken {
            source,
            epoch,
            detail: Arc::new(detail),
            covers: Vec::new(),
        }
    }

    /// Has the token cover a sequence of the source up to where its epoch ended. A source of several
    /// sequences calls it for each.
    #[must_use]
    pub fn covering<P>(mut self, tracker: &Tracker<P>, to: &Frontier<P>) -> CommitToken
    where
        P: Clone + Send + fmt::Debug + 'static,
    {
        self.covers.push(Hold {
            walk: tracker.walker(),
            generation: to.generation,
            sequence: to.sequence,
        });
        self
    }

    /// Begins a commit of what the token covers. `None` if it must not be committed: the source went
    /// back since, or an element before the barrier ended in a way its position may not pass. A sink
    /// that gets none aborts, and sends [`Control::RequestRewind`](crate::operator::Control) so that
    /// all its sources go back to what was committed last.
    ///
    /// It knows nothing of elements that another sink still has: a transactional sink must be the
    /// only one of its sources.
    #[must_use]
    pub fn begin(&self) -> Option<Commit> {
        let mut commit = Commit { holds: Vec::new() };
        for hold in &self.covers {
            if !hold.walk.begin_commit(hold.generation, hold.sequence) {
                return None;
            }
            commit.holds.push(hold.clone());
        }
        Some(commit)
    }

    /// Whose positions.
    #[must_use]
    pub fn source(&self) -> SourceId {
        self.source
    }

    /// Which epoch ends.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What the source attached, if it is of that type.
    #[must_use]
    pub fn detail<D: Any>(&self) -> Option<&D> {
        self.detail.downcast_ref()
    }
}

impl fmt::Debug for CommitToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommitToken")
            .field("source", &self.source)
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}
