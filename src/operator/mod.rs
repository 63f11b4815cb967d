//! What runs: the traits of operators, sources and sinks, and the operators themselves.
//!
//! Stages that are fused into an island call each other: an operator asks its [`Input`] to fill a
//! chunk, up to a demand, and hands on what it makes of it. Nothing is pushed, so nothing is handed
//! over that was not asked for.
//!
//! # Invariants
//! - `fill` hands over at most the [`Demand`]; one element may exceed its bytes, as the first of an
//!   empty chunk only. With a demand of zero it hands over nothing, but drives what it has in flight.
//! - [`Fill::More`]: `out` is not empty. [`Fill::Pending`]: a waker is registered; [`Fill::Done`]:
//!   nothing will follow; with both, `out` may hold elements. With [`Fill::Mark`] and with an error
//!   `out` is empty: who fails at element k hands over 0..k-1 first and fails at the next call.
//! - Results never depend on the size of chunks.
//! - [`Control::Cancel`] settles what the operator holds and goes upstream.
//!
//! # What it does not do
//! Operators do not count elements and read no clock: [`Input`] counts around each call, and
//! [`Context::now`] is the time of the turn.
//!
//! # Example
//! A stage of one's own, that hands on every second element:
//! ```
//! use forebay::chunk::Chunk;
//! use forebay::error::Stop;
//! use forebay::operator::{Context, Control, Demand, Fill, Held, Input, Operator};
//! use forebay::outcome::{Outcome, Reason};
//! use forebay::source;
//!
//! struct EverySecond<T> { input: Input<T>, buf: Chunk<T>, odd: bool }
//!
//! impl<T: Send + 'static> Operator<T> for EverySecond<T> {
//!     fn fill(&mut self, cx: &mut Context<'_, '_>, out: &mut Chunk<T>, want: Demand) -> Result<Fill, Stop> {
//!         loop {
//!             let fill = self.input.fill(cx, &mut self.buf, want)?;
//!             for element in self.buf.drain() {
//!                 self.odd = !self.odd;
//!                 if self.odd {
//!                     out.push(element);
//!                 } else {
//!                     cx.settle(element.meta, Outcome::Filtered(Reason::Predicate));
//!                 }
//!             }
//!             if !matches!(fill, Fill::More) || !out.is_empty() {
//!                 return Ok(fill);
//!             }
//!         }
//!     }
//!     fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
//!         self.input.control(cx, signal);
//!     }
//!     fn held(&self) -> Held { Held::NONE }
//! }
//!
//! let pipeline = source::iter(1..=6)
//!     .stage("every_second", |input| EverySecond { input, buf: Chunk::default(), odd: false })
//!     .collect();
//! assert_eq!(pipeline.block_on().unwrap(), [1, 3, 5]);
//! ```

pub(crate) mod aggregate;
pub(crate) mod balance;
pub(crate) mod broadcast;
pub(crate) mod classify;
pub(crate) mod concat;
mod context;
pub(crate) mod deadline;
pub(crate) mod divert;
pub(crate) mod expire;
pub(crate) mod fallible;
pub(crate) mod fan_in;
pub(crate) mod feedback;
pub(crate) mod filter;
pub(crate) mod filter_map;
#[cfg(feature = "testkit")]
pub(crate) mod fuzz;
pub(crate) mod group_by;
pub(crate) mod grouped;
pub(crate) mod in_flight;
mod in_place;
mod input;
mod intake;
pub(crate) mod kill_switch;
pub(crate) mod later;
pub(crate) mod map;
pub(crate) mod map_async;
pub(crate) mod map_blocking;
pub(crate) mod map_concat;
pub(crate) mod map_in_place;
pub(crate) mod map_parallel;
pub(crate) mod merge;
pub(crate) mod outlet;
mod pace;
pub(crate) mod part;
pub(crate) mod partition;
pub(crate) mod restarting;
pub(crate) mod retry;
#[cfg(test)]
mod rig;
#[cfg(feature = "tower")]
pub(crate) mod service;
mod sieve;
pub(crate) mod sinks;
pub(crate) mod skip;
pub(crate) mod source;
pub(crate) mod source_stage;
pub(crate) mod sources;
pub(crate) mod stage;
pub(crate) mod stateful_map;
pub(crate) mod take;
pub(crate) mod unordered;
pub(crate) mod watch_termination;
pub(crate) mod weigh;
pub(crate) mod zip;

pub use crate::demand::Demand;
pub use context::{Context, Spawn};
pub(crate) use context::{StopRun, Turn, guard};
pub use group_by::{Groups, WhenExhausted};
pub use input::Input;
pub use kill_switch::KillSwitch;
pub use map_async::Concurrency;
pub use restarting::{Restart, Resume};
pub use source::{Answer, Source};
pub(crate) use stage::Stage;
pub use watch_termination::{Ended, Termination};

use std::task::Poll;

use crate::chunk::Chunk;
use crate::error::Stop;
use crate::mark::Mark;
use crate::outcome::Reason;

/// What a call of [`Operator::fill`] came to.
#[derive(Debug)]
pub enum Fill {
    /// Elements were handed over, and there may be more at once.
    More,
    /// No more for now; the task will be woken.
    Pending,
    /// No more ever.
    Done,
    /// A mark is next.
    Mark(Mark),
}

/// A message that travels upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Control {
    /// Sources end; what is inside is finished.
    Drain,
    /// Nothing more is wanted: settle what is held, end the sources.
    Cancel,
    /// Sources rest.
    Pause,
    /// Sources go on.
    Resume,
    /// Sources with positions go back to their settled position.
    RequestRewind,
}

/// What a stage holds, measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Held {
    /// Elements.
    pub items: usize,
    /// Their bytes, where they were weighed.
    pub bytes: u64,
}

impl Held {
    /// Nothing between two calls.
    pub const NONE: Held = Held { items: 0, bytes: 0 };

    /// So many elements that are not weighed.
    #[must_use]
    pub const fn items(items: usize) -> Held {
        Held { items, bytes: 0 }
    }
}

/// A stage that hands on elements: see the [module](self) for its contract.
pub trait Operator<T>: Send {
    /// Fills `out` with at most `want`.
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop>;

    /// Takes a message from downstream: acts on it and passes it on to its inputs.
    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control);

    /// What it holds between two calls.
    fn held(&self) -> Held;

    /// Gives back what it uses, after [`Fill::Done`], an error or [`Control::Cancel`]. Called until
    /// it is ready; passes the call on to its inputs.
    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        let _ = cx;
        Poll::Ready(Ok(()))
    }
}

impl<T> Operator<T> for Box<dyn Operator<T>> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        (**self).fill(cx, out, want)
    }
    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        (**self).control(cx, signal);
    }
    fn held(&self) -> Held {
        (**self).held()
    }
    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        (**self).poll_close(cx)
    }
}

/// Where elements end. The sink settles each element it accepted, through
/// [`Context::settle`] or [`Context::settle_chunk`].
pub trait Sink<T>: Send {
    /// What it has to show at the end.
    type Output: Send + 'static;

    /// How much it takes now; `None` if it wants no more at all. Also drives what it has in flight.
    fn poll_ready(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>>;

    /// Takes a chunk within that demand. It must be empty afterwards.
    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<T>);

    /// Takes a mark; called until it is ready.
    fn mark(&mut self, cx: &mut Context<'_, '_>, mark: &Mark) -> Poll<Result<(), Stop>> {
        let _ = (cx, mark);
        Poll::Ready(Ok(()))
    }

    /// No more elements: finish what is in flight. Called until it is ready.
    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Self::Output, Stop>>;

    /// The stages before it stopped, or the run was cancelled: settle what is held as cancelled.
    fn abandon(&mut self, cx: &mut Context<'_, '_>, stop: Option<&Stop>) {
        let _ = (cx, stop);
    }

    /// Why it wants no more, where that is known: what is left behind before it ends for this.
    fn cancelled_for(&self) -> Option<Reason> {
        None
    }

    /// A message for upstream, from where this sink hands over to.
    fn take_control(&mut self) -> Option<Control> {
        None
    }

    /// Elements accepted and not settled or handed on.
    fn held(&self) -> Held {
        Held::NONE
    }
}
