//! What can go wrong, by type.
//!
//! - [`Refused`]: the declaration is wrong; nothing was started.
//! - [`Stop`]: a stage cannot go on; it travels downstream and overtakes elements.
//! - [`RunError`]: what a run ended with, with the stage by name.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use crate::outcome::Outcome;
use crate::position::{SourceId, Unresolved};

/// Any error of user code.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why a stage cannot go on.
#[derive(Clone, Debug)]
pub struct Stop {
    pub(crate) stage: Option<u32>,
    pub(crate) cause: Cause,
}

/// What stopped a stage.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Cause {
    /// User code, a file, a connection returned an error.
    Error(Arc<dyn Error + Send + Sync>),
    /// User code panicked in a stage that cannot go on after it.
    Panicked(String),
    /// An element ended in a way its source does not pass.
    Unresolved {
        /// Whose element.
        source: SourceId,
        /// Its number and how it ended.
        what: Unresolved,
        /// Where it stood, as the source prints positions.
        position: String,
    },
    /// A buffer that was told to fail when full was full.
    Overflow {
        /// Its capacity in elements.
        capacity: usize,
    },
    /// A stage broke the contract of its trait: a bug in it.
    Contract(&'static str),
    /// A stage needs the tokio runtime, and the run is in simulated time.
    NeedsTokio,
    /// Simulated time: nothing is ready and no timer is set.
    Stalled,
    /// The other side of a hand-off went away without completing.
    Broken,
}

impl Stop {
    /// Stops with an error.
    pub fn error(error: impl Into<BoxError>) -> Stop {
        Stop {
            stage: None,
            cause: Cause::Error(Arc::from(error.into())),
        }
    }

    /// Stops for that cause.
    #[must_use]
    pub fn cause(cause: Cause) -> Stop {
        Stop { stage: None, cause }
    }

    /// What stopped it.
    #[must_use]
    pub fn why(&self) -> &Cause {
        &self.cause
    }

    /// Whether a flow built while the run went on was refused.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(&self.cause, Cause::Error(error) if error.is::<Refused>())
    }

    pub(crate) fn at(mut self, stage: u32) -> Stop {
        self.stage.get_or_insert(stage);
        self
    }

    /// Whether this is a source's answer to an element that ended where the other stop came from:
    /// then the other one is the cause.
    pub(crate) fn follows(&self, other: &Stop) -> bool {
        let answer = |stop: &Stop| matches!(stop.cause, Cause::Unresolved { .. });
        self.stage.is_some() && self.stage == other.stage && answer(self) && !answer(other)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Error(error) => write!(f, "{error}"),
            Cause::Panicked(message) => write!(f, "panicked: {message}"),
            Cause::Unresolved { what, position, .. } => {
                write!(
                    f,
                    "element {} at {position} ended {}",
                    what.sequence, what.outcome
                )
            }
            Cause::Overflow { capacity } => {
                write!(f, "the buffer of {capacity} elements overflowed")
            }
            Cause::Contract(what) => write!(f, "a stage broke its contract: {what}"),
            Cause::NeedsTokio => {
                f.write_str("it needs the tokio runtime, which simulated time has not")
            }
            Cause::Stalled => f.write_str("nothing is ready and no timer is set"),
            Cause::Broken => f.write_str("the other side went away without completing"),
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cause)
    }
}

impl Error for Stop {}

/// A declaration that cannot run. Nothing was started.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// An output of a fan-out leads nowhere.
    #[error("the output of `{stage}` leads nowhere: give it a sink, or `ignore()` it")]
    Dangling {
        /// The stage whose output it is.
        stage: String,
    },
    /// The stages were run before, with the pipeline they are part of.
    #[error(
        "this pipeline is part of one that was run already: join parts with `and` and run once"
    )]
    RunTwice,
    /// A guarantee was named that a stage does not keep.
    #[error("{guarantee} was asked for, but `{stage}` {why}")]
    Guarantee {
        /// The guarantee.
        guarantee: &'static str,
        /// The stage that breaks it.
        stage: String,
        /// How, and what to do.
        why: String,
    },
    /// The stages must come to a halt, whatever the elements.
    #[error("`{stage}` must deadlock: {why}")]
    Deadlock {
        /// The stage where flows meet.
        stage: String,
        /// Why, and what to do.
        why: String,
    },
    /// A setting is out of range, or stands where it has no meaning.
    #[error("`{stage}`: {what}")]
    Setting {
        /// The stage.
        stage: String,
        /// What is wrong, and what is allowed.
        what: String,
    },
    /// A stage cannot run in simulated time.
    #[error("`{stage}` runs on threads of its own and cannot run in simulated time")]
    NotSimulable {
        /// The stage.
        stage: String,
    },
    /// No runtime to run on.
    #[error("no tokio runtime here: call `run` inside one, or `block_on`, or `run_on`")]
    NoRuntime,
    /// The runtime that was asked for could not be built.
    #[error("the runtime could not be built: {0}")]
    Runtime(String),
}

/// What a run ended with.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// It was never started.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A stage stopped it.
    #[error("stage `{stage}`: {cause}")]
    Stopped {
        /// The stage by name.
        stage: String,
        /// What stopped it.
        cause: Cause,
    },
    /// It was aborted, or its handle was dropped.
    #[error("the run was aborted")]
    Aborted,
    /// It was told to drain and did not within its deadline.
    #[error("not drained in time; still running: {}", still_running.join(", "))]
    NotDrained {
        /// What outlived the deadline, by name.
        still_running: Vec<String>,
    },
}

impl RunError {
    /// The error that stopped the run, if a stage stopped it with one of that type.
    #[must_use]
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        match self {
            RunError::Stopped {
                cause: Cause::Error(error),
                ..
            } => error.downcast_ref(),
            _ => None,
        }
    }

    /// How the element ended that stopped the run, if it was one.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            RunError::Stopped {
                cause: Cause::Unresolved { what, .. },
                ..
            } => Some(what.outcome),
            _ => None,
        }
    }
}

/// The message of a panic that was contained; simulated time is told if it came from tokio.
pub(crate) fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    let message = payload
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned());
    crate::time::note_panic(&message);
    message
}
