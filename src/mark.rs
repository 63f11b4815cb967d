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

use crate::position::{Epoch, Generation, SourceId};

/// A message between elements.
#[derive(Clone, Debug)]
pub enum Mark {
    /// All elements of an epoch came before this.
    Barrier(Barrier),
    /// A source goes back: what it handed over before this, and was not settled, comes again.
    Rewind(SourceId, Generation),
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
}

impl CommitToken {
    /// A token with what the source knows and its sink understands.
    pub fn new(source: SourceId, epoch: Epoch, detail: impl Any + Send + Sync) -> CommitToken {
        CommitToken {
            source,
            epoch,
            detail: Arc::new(detail),
        }
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
