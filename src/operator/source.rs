//! Sources: what reads from the world, and the stage that tracks what it read.

use std::any::TypeId;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use super::{Context, Control, Demand, Fill, Held, Operator, guard};
use crate::chunk::Chunk;
use crate::error::{Cause, Stop};
use crate::mark::{Barrier, CommitToken, Mark};
use crate::position::{Passes, Settled, SourceId, Tracker, Unresolved};

/// Reads elements from the world, with a position for each.
pub trait Source<T>: Send {
    /// What it needs to start again behind an element; `()` if it cannot.
    type Position: Clone + Send + Sync + fmt::Debug + 'static;

    /// Reads at most `want` elements into `out`, and pushes a position for each. The contract is
    /// that of [`Operator::fill`], but that an error may come with the elements before it: they are
    /// handed over first.
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        positions: &mut Vec<Self::Position>,
        want: Demand,
    ) -> Result<Fill, Stop>;

    /// Goes back behind that position (`None`: to where it started), after an unresolved end under
    /// [`Answer::Rewind`].
    fn rewind(
        &mut self,
        cx: &mut Context<'_, '_>,
        to: Option<&Self::Position>,
    ) -> Result<(), Stop> {
        let _ = (cx, to);
        Err(Stop::cause(Cause::Contract(
            "this source cannot go back: use Answer::Stop or Divert",
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
            "this source cannot divert: use Answer::Stop",
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
    /// The source goes back to its settled position; the third time at the same position it stops.
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
}

impl Settings {
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

/// The stage of a source: window, receipts, answers.
pub(crate) struct SourceStage<T, S: Source<T>> {
    source: S,
    id: SourceId,
    settings: Arc<Mutex<Settings>>,
    walkers: Walkers,
    live: Option<Live<S::Position>>,
    positions: Vec<S::Position>,
    /// The source was told to end, or ended.
    ended: bool,
    paused: bool,
    marks: Vec<Mark>,
    /// Elements since the last barrier.
    since_barrier: usize,
    /// A barrier was sent to flush the stages before a source that may go back is done.
    flushed: bool,
    rewinds: (u64, u32),
    rewind_asked: bool,
    /// It was told to drain: a rewind does not start it anew.
    drained: bool,
    /// An error that came with elements, to be told at the next call.
    stopped: Option<Stop>,
    /// It is to go back, and may have to wait until a commit has ended.
    going_back: bool,
    diverting: Option<Unresolved>,
    _values: std::marker::PhantomData<fn() -> T>,
}

struct Live<P> {
    settings: Settings,
    tracker: Option<Tracker<P>>,
}

impl<T, S: Source<T>> SourceStage<T, S> {
    pub(crate) fn new(
        source: S,
        id: SourceId,
        settings: Arc<Mutex<Settings>>,
        walkers: Walkers,
    ) -> SourceStage<T, S> {
        SourceStage {
            source,
            id,
            settings,
            walkers,
            live: None,
            positions: Vec::new(),
            ended: false,
            paused: false,
            marks: Vec::new(),
            since_barrier: 0,
            flushed: false,
            rewinds: (u64::MAX, 0),
            rewind_asked: false,
            drained: false,
            stopped: None,
            going_back: false,
            diverting: None,
            _values: std::marker::PhantomData,
        }
    }

    fn start(&mut self) {
        let settings = match self.settings.lock() {
            Ok(settings) => settings.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        };
        let tracker = settings.tracked.then(|| {
            let tracker = Tracker::new(self.id, settings.window, settings.passes());
            if let Ok(mut walkers) = self.walkers.lock() {
                walkers.push(tracker.walker());
            }
            self.source.start(&tracker);
            tracker
        });
        self.live = Some(Live { settings, tracker });
    }

    /// Answers what ended unresolved. Ready when the source may go on.
    fn poll_answer(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        let Some(Live {
            settings,
            tracker: Some(tracker),
        }) = &self.live
        else {
            return Poll::Ready(Ok(()));
        };
        let (answer, tracker) = (settings.answer, tracker.clone());
        loop {
            if self.going_back {
                let settled = std::task::ready!(tracker.poll_rewind(cx.task()));
                self.going_back = false;
                return Poll::Ready(self.go_back(cx, &settled));
            }
            let unresolved = match self.diverting.take() {
                Some(unresolved) => unresolved,
                None => match tracker.take_unresolved() {
                    Some(unresolved) => unresolved,
                    None if std::mem::take(&mut self.rewind_asked) => {
                        self.going_back = true;
                        continue;
                    }
                    None => return Poll::Ready(Ok(())),
                },
            };
            let position = tracker.position_of(unresolved.sequence);
            match answer {
                Answer::Continue => {}
                Answer::Stop => return Poll::Ready(Err(self.unresolved(unresolved, position))),
                Answer::Rewind => {
                    if let Err(stop) = self.count_rewind(unresolved, position) {
                        return Poll::Ready(Err(stop));
                    }
                    self.going_back = true;
                }
                Answer::Divert => {
                    match self.source.poll_divert(cx, &unresolved, position.as_ref()) {
                        Poll::Pending => {
                            self.diverting = Some(unresolved);
                            return Poll::Pending;
                        }
                        Poll::Ready(Ok(())) => tracker.resolve(&unresolved),
                        Poll::Ready(Err(stop)) => return Poll::Ready(Err(stop)),
                    }
                }
            }
        }
    }

    fn unresolved(&self, what: Unresolved, position: Option<S::Position>) -> Stop {
        let position =
            position.map_or_else(|| "an unknown position".to_owned(), |p| format!("{p:?}"));
        let stop = Stop::cause(Cause::Unresolved {
            source: self.id,
            what,
            position,
        });
        match what.stage {
            Some(stage) => stop.at(stage),
            None => stop,
        }
    }

    /// Counts rewinds because of the same element; the third is one too many.
    fn count_rewind(
        &mut self,
        what: Unresolved,
        position: Option<S::Position>,
    ) -> Result<(), Stop> {
        let times = match self.rewinds {
            (at, times) if at == what.sequence => times + 1,
            _ => 1,
        };
        self.rewinds = (what.sequence, times);
        if times >= 3 {
            return Err(self.unresolved(what, position));
        }
        Ok(())
    }

    fn go_back(
        &mut self,
        cx: &mut Context<'_, '_>,
        settled: &Settled<S::Position>,
    ) -> Result<(), Stop> {
        self.source.rewind(cx, settled.position.as_ref())?;
        // After a drain nothing is read again: what was cut off is left to the next run.
        self.ended = self.drained;
        self.stopped = None;
        self.flushed = false;
        self.since_barrier = 0;
        self.marks.push(Mark::Rewind(self.id, settled.generation));
        Ok(())
    }

    fn barrier(&mut self, tracker: &Tracker<S::Position>) {
        self.since_barrier = 0;
        let frontier = tracker.barrier();
        let token = CommitToken::new(self.id, frontier.epoch, frontier.clone());
        let token = token.covering(tracker, &frontier);
        self.marks.push(Mark::Barrier(Barrier::new(token)));
    }

    /// What follows when the source has no more: a source that may go back stays until all it
    /// handed over is settled, and sends a barrier so that gathering stages hand on what they hold.
    fn finish(&mut self, cx: &mut Context<'_, '_>) -> Fill {
        let Some(Live {
            settings,
            tracker: Some(tracker),
        }) = &self.live
        else {
            return Fill::Done;
        };
        if !matches!(settings.answer, Answer::Rewind | Answer::Divert) {
            return Fill::Done;
        }
        let tracker = tracker.clone();
        if !std::mem::replace(&mut self.flushed, true) {
            self.barrier(&tracker);
            if let Some(mark) = self.marks.pop() {
                return Fill::Mark(mark);
            }
        }
        match tracker.poll_quiet(cx.task()) {
            Poll::Pending => Fill::Pending,
            Poll::Ready(()) if tracker.first_unresolved().is_some() => {
                cx.waker().wake_by_ref();
                Fill::Pending
            }
            Poll::Ready(()) => Fill::Done,
        }
    }
}

impl<T: Send, S: Source<T>> Operator<T> for SourceStage<T, S> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        if self.live.is_none() {
            self.start();
        }
        match self.poll_answer(cx) {
            Poll::Pending => return Ok(Fill::Pending),
            Poll::Ready(result) => result?,
        }
        if !self.marks.is_empty() {
            return Ok(Fill::Mark(self.marks.remove(0)));
        }
        let Some(live) = &self.live else {
            return Ok(Fill::Done);
        };
        let tracker = live.tracker.clone();
        let barrier_every = live.settings.barrier_every;
        if let Some(tracker) = &tracker {
            tracker.register(cx.task());
        }
        if self.ended {
            return Ok(self.finish(cx));
        }
        if let Some(stop) = self.stopped.take() {
            return Err(stop);
        }
        if want.is_none() || self.paused {
            return Ok(Fill::Pending);
        }
        let mut room = want.items;
        if let Some(tracker) = &tracker {
            match tracker.poll_credit(cx.task()) {
                Poll::Pending => return Ok(Fill::Pending),
                Poll::Ready(credit) => room = room.min(credit),
            }
            if barrier_every > 0 {
                room = room.min(barrier_every - self.since_barrier);
            }
        }
        let read = self
            .source
            .fill(cx, out, &mut self.positions, want.at_most(room));
        let fill = match read {
            Err(stop) if out.is_empty() => return Err(stop),
            Err(stop) => {
                self.stopped = Some(stop);
                Fill::More
            }
            Ok(fill) => fill,
        };
        let count = out.len();
        if self.positions.len() != count {
            return Err(Stop::cause(Cause::Contract(
                "a source must give a position for each element",
            )));
        }
        if count > 0 {
            out.columns.stamp(cx.now());
            match &tracker {
                Some(tracker) => {
                    cx.track(out, tracker, self.positions.drain(..));
                    // The account goes by the classes that the source itself gave.
                    out.columns.account_classes();
                }
                None => self.positions.clear(),
            }
            self.since_barrier += count;
            if let Some(tracker) = &tracker
                && barrier_every > 0
                && self.since_barrier >= barrier_every
            {
                self.barrier(tracker);
            }
        }
        match fill {
            Fill::Done => {
                self.ended = true;
                if count > 0
                    && self
                        .live
                        .as_ref()
                        .is_some_and(|live| live.tracker.is_some())
                {
                    // The end is told at the next call, which may have to wait for quiescence.
                    return Ok(Fill::More);
                }
                Ok(self.finish(cx))
            }
            fill => Ok(fill),
        }
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        let _ = guard(|| self.source.control(cx, signal));
        match signal {
            Control::Drain => {
                self.drained = true;
                self.ended |= !self.source.lingers();
                cx.waker().wake_by_ref();
            }
            Control::Cancel => self.ended = true,
            Control::Pause => self.paused = true,
            Control::Resume => {
                self.paused = false;
                cx.waker().wake_by_ref();
            }
            Control::RequestRewind => {
                // A source without positions has nowhere to go back to, and goes on.
                self.rewind_asked = TypeId::of::<S::Position>() != TypeId::of::<()>();
                cx.waker().wake_by_ref();
            }
        }
    }

    fn held(&self) -> Held {
        Held::NONE
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.source.poll_close(cx)
    }
}
