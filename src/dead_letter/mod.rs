//! Dead letters: elements that could not be processed, kept with what is needed to try them again.
//!
//! A stage that may fail sends what it gives up to a [`DeadLetterSink`], through a bounded queue
//! that many stages may share. The sink runs as an island of the same run. An element ends as
//! dead-lettered when the sink has settled it, never before; if the sink fails, the element has
//! failed, and its source answers.
//!
//! # Invariants
//! - The queue is bounded: while it is full, the stages that feed it wait, order kept.
//! - A barrier passes a stage only after the letters that came before it are settled.
//! - Letters of a source that went back are not written: they come again.
//! - The sink closes after the last stage that feeds it.
//!
//! # What it does not do
//! It does not replay letters, and it does not remove doubles: a run that ends between a write and
//! the settlement writes the letter again when it is resumed.

mod base64;
mod file;
mod queue;
mod sink;

use std::future::{Future, ready};
use std::sync::Arc;

use bytes::Bytes;

use crate::chunk::Origin;
use crate::class::Class;
use crate::error::BoxError;
use crate::outcome::Reason;
use crate::time::Time;

#[cfg(feature = "kafka")]
pub(crate) use file::exact;
pub use file::{DeadLetterFile, Durability};
pub(crate) use queue::{Letters, Offer, Port};
pub(crate) use sink::{BATCH, LetterSink};

/// An element that was given up, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeadLetter {
    /// The name of the stage that gave it up.
    pub stage: Arc<str>,
    /// The element's class, if it had one.
    pub class: Option<Class>,
    /// The bytes it came from and where they stood, if its source keeps them.
    pub origin: Option<Origin>,
    /// What the stage's `encode` made of the element, if it has one.
    pub payload: Option<Bytes>,
    /// The last error, in words.
    pub error: String,
    /// The class of the error: its type, or what the stage calls it.
    pub error_type: &'static str,
    /// Whether it was an error, a time-out, or the last of several tries.
    pub reason: Reason,
    /// How often it was tried.
    pub tries: u32,
    /// Whether it is to be tried again.
    pub again: Again,
    /// When it was given up.
    pub at: Time,
}

/// Whether a letter is to be tried again. A sink that only keeps letters keeps all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Again {
    /// It is given up.
    #[default]
    Never,
    /// Later.
    Later,
    /// Behind one that shares its key and is to be tried again: it was not tried itself.
    Behind,
}

impl DeadLetter {
    /// The bytes to try it again with: what `encode` made, else what its source read; nothing if
    /// there is neither, if the record was a tombstone, or if the element was merged from several records.
    #[must_use]
    pub fn bytes(&self) -> Option<Bytes> {
        if self.payload.is_some() {
            return self.payload.clone();
        }
        let mut records = self.origin.as_ref()?.records();
        let only = records.pop().filter(|_| records.is_empty())?;
        only.payload
    }
}

/// Where dead letters are kept.
///
/// Cancel safety: when a run is aborted, a write under way is dropped at its next await, and its
/// letters end as cancelled.
pub trait DeadLetterSink: Send + 'static {
    /// Keeps these letters. When it returns, they are as safe as the sink promises: their elements
    /// end as dead-lettered then, and their source may forget them.
    ///
    /// # Errors
    /// None of these letters counts as kept; their elements end as failed. It is called again with
    /// the next letters.
    fn write(
        &mut self,
        letters: Vec<DeadLetter>,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// For what reason the element of a letter will have ended, once it is written. By default the
    /// letter's own.
    fn reason(&self, letter: &DeadLetter) -> Reason {
        letter.reason
    }

    /// How many of the letters written so far somebody should look at. By default none; the snapshot shows
    /// them as alerts.
    fn alerts(&self) -> u64 {
        0
    }

    /// No letters will follow.
    ///
    /// # Errors
    /// Stops the run.
    fn close(&mut self) -> impl Future<Output = Result<(), BoxError>> + Send {
        ready(Ok(()))
    }
}

/// Hands letters to a bounded channel, and waits while it is full. A receiver that is gone is an
/// error. Letters count as kept when they are in the channel.
impl DeadLetterSink for async_channel::Sender<DeadLetter> {
    async fn write(&mut self, letters: Vec<DeadLetter>) -> Result<(), BoxError> {
        for letter in letters {
            self.send(letter)
                .await
                .map_err(|_| "the receiver of dead letters is gone")?;
        }
        Ok(())
    }
}

/// A closure as a sink of dead letters: it is called for each of them, and must not block.
#[derive(Clone, Copy)]
pub struct DeadLetterFn<F>(pub F);

impl<F> std::fmt::Debug for DeadLetterFn<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeadLetterFn")
    }
}

impl<F> DeadLetterSink for DeadLetterFn<F>
where
    F: FnMut(DeadLetter) -> Result<(), BoxError> + Send + 'static,
{
    fn write(
        &mut self,
        letters: Vec<DeadLetter>,
    ) -> impl Future<Output = Result<(), BoxError>> + Send {
        ready(letters.into_iter().try_for_each(&mut self.0))
    }
}
