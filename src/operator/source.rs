//! Sources: what reads from the world, and what they declare about how they are tracked.

use std::any::TypeId;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use super::{Context, Control, Demand, Fill};
use crate::chunk::Chunk;
use crate::error::{Cause, Stop};
use crate::position::{Lag, Passes, Tracker, Unresolved};

/// Reads elements from the world, with a position for each.
pub trait Source<T>: Send {
    /// What it needs to start again behind an element; `()` if it cannot.
    type Position: Clone + Send + Sync + fmt::Debug + 'static;

    /// Reads at most `want` elements into `out`, and pushes a position for each. The contract is
    /// that of [`Operator::fill`](super::Operator::fill), but that an error may come with the
    /// elements before it: they are handed over first.
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        positions: &mut Vec<Self::Position>,
        want: Demand,
    ) -> Result<Fill, Stop>;

    /// An error that must not wait for demand: asked instead of [`fill`](Source::fill) while nothing
    /// may be read, because downstream asks for nothing, the source is paused, or its window is full.
    /// Pending: a waker is registered, if there ever may be one. Default: there is none.
    fn poll_failure(&mut self, cx: &mut Context<'_, '_>) -> Poll<Stop> {
        let _ = cx;
        Poll::Pending
    }

    /// Whether it can [go back](Source::rewind): else [`Answer::Rewind`] is refused before the run.
    /// Default: whether it has positions.
    fn rewinds(&self) -> bool {
        TypeId::of::<Self::Position>() != TypeId::of::<()>()
    }

    /// Whether it can [divert](Source::poll_divert): else [`Answer::Divert`] is refused before the
    /// run. Default: no.
    fn diverts(&self) -> bool {
        false
    }

    /// Goes back behind that position (`None`: to where it started), after an unresolved end under
    /// [`Answer::Rewind`].
    fn rewind(
        &mut self,
        cx: &mut Context<'_, '_>,
        to: Option<&Self::Position>,
    ) -> Result<(), Stop> {
        let _ = (cx, to);
        Err(Stop::cause(Cause::Contract(
            "this source cannot go back: it must say so in `rewinds`",
        )))
    }

    /// An element ended unresolved under [`Answer::Divert`]: hand its position on. Called until it
    /// is ready; then the settled position passes.
    fn poll_divert(
        &mut self,
        cx: &mut Context<'_, '_>,
        unresolved: &Unresolved,
        position: Option<&Self::Position>,
    ) -> Poll<Result<(), Stop>> {
        let _ = (cx, unresolved, position);
        Poll::Ready(Err(Stop::cause(Cause::Contract(
            "this source cannot divert: it must say so in `diverts`",
        ))))
    }

    /// Whether it has taken in elements that it must hand over even after [`Control::Drain`]: then
    /// it is asked until it is done.
    fn lingers(&self) -> bool {
        false
    }

    /// Takes a message. After [`Control::Cancel`] it is not asked again, and after
    /// [`Control::Drain`] only if it [lingers](Source::lingers).
    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        let _ = (cx, signal);
    }

    /// The tracker it is to be resumed by, once, before the first element: a source keeps a clone
    /// to save its settled position, or skips elements that were settled in an earlier run.
    fn start(&mut self, tracker: &Tracker<Self::Position>) {
        let _ = tracker;
    }

    /// Gives back what it uses. Called until it is ready.
    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        let _ = cx;
        Poll::Ready(Ok(()))
    }
}

/// What a source does when an element ends unresolved: failed, or shed or expired where the source
/// did not declare that loss is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The run stops, with the stage and the position in its error. Default of sources with
    /// positions.
    Stop,
    /// The source goes back to its settled position; the third time with no progress of that position
    /// in between it stops, whichever elements failed.
    Rewind,
    /// The source hands the position to its own destination and goes on.
    Divert,
    /// The source goes on. Default of sources without positions; refused under a named guarantee.
    Continue,
}

/// How a source is tracked: set by the declaration, read when the run starts.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) tracked: bool,
    pub(crate) answer: Answer,
    pub(crate) window: usize,
    pub(crate) loss: bool,
    /// Elements after which a barrier is sent downstream; 0: never.
    pub(crate) barrier_every: usize,
    /// Its operator has trackers of its own.
    pub(crate) tracks_itself: bool,
    /// Whether it can go back, and divert.
    pub(crate) rewinds: bool,
    pub(crate) diverts: bool,
    /// What tells how far it is behind, once its operator said so.
    pub(crate) lag: LagReader,
}

/// Tells how far a source is behind.
#[derive(Clone, Default)]
pub(crate) struct LagReader(Option<Arc<dyn Fn() -> Vec<Lag> + Send + Sync>>);

impl LagReader {
    pub(crate) fn new(read: impl Fn() -> Vec<Lag> + Send + Sync + 'static) -> LagReader {
        LagReader(Some(Arc::new(read)))
    }

    pub(crate) fn read(&self) -> Vec<Lag> {
        self.0.as_ref().map_or_else(Vec::new, |read| read())
    }
}

impl fmt::Debug for LagReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LagReader").field(&self.0.is_some()).finish()
    }
}

impl Settings {
    /// Why the source cannot answer as declared, if it cannot.
    pub(crate) fn cannot_answer(&self) -> Option<String> {
        let (cannot, other) = match self.answer {
            Answer::Rewind if !self.rewinds => ("cannot go back (`Rewind`)", self.diverts),
            Answer::Divert if !self.diverts => {
                ("has nowhere to divert elements to (`Divert`)", self.rewinds)
            }
            _ => return None,
        };
        let other = match self.answer {
            _ if !other => "",
            Answer::Rewind => ", `Divert`",
            _ => ", `Rewind`",
        };
        Some(format!(
            "it {cannot}: declare `.on_unresolved(..)` with `Stop`{other} or `Continue`"
        ))
    }

    /// Which ends the settled position passes under this declaration.
    pub(crate) fn passes(&self) -> Passes {
        match (self.answer, self.loss) {
            (Answer::Continue, _) => Passes::all(),
            (_, true) => Passes::resolved().loss(),
            (_, false) => Passes::resolved(),
        }
    }
}

/// Where the run finds the trackers of a source.
pub(crate) type Walkers = Arc<Mutex<Vec<Arc<dyn crate::position::Walk>>>>;
