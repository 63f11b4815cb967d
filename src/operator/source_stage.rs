//! The stage of a source: it tracks what was read, and answers what ended unresolved.

use std::any::TypeId;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use super::source::{Answer, Settings, Source, Walkers};
use super::{Context, Control, Demand, Fill, Held, Operator, guard};
use crate::chunk::Chunk;
use crate::error::{Cause, Stop};
use crate::mark::{Barrier, CommitToken, Mark};
use crate::position::{Settled, SourceId, Tracker, Unresolved};
use crate::sync::lock;

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
    /// How often it went back to that settled sequence in a row.
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
        let settings = lock(&self.settings).clone();
        let tracker = settings.tracked.then(|| {
            let tracker = Tracker::new(self.id, settings.window, settings.passes());
            lock(&self.walkers).push(tracker.walker());
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
                    let settled = tracker.settled().sequence;
                    if let Err(stop) = self.count_rewind(settled, unresolved, position) {
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

    /// Counts rewinds to the same settled sequence; the third is one too many. Which element failed
    /// says nothing: where several do, another is the first each time.
    fn count_rewind(
        &mut self,
        settled: u64,
        what: Unresolved,
        position: Option<S::Position>,
    ) -> Result<(), Stop> {
        let times = match self.rewinds {
            (at, times) if at == settled => times + 1,
            _ => 1,
        };
        self.rewinds = (settled, times);
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

    /// Nothing may be read now; an error is told all the same.
    fn rest(&mut self, cx: &mut Context<'_, '_>) -> Result<Fill, Stop> {
        match self.source.poll_failure(cx) {
            Poll::Pending => Ok(Fill::Pending),
            Poll::Ready(stop) => Err(stop),
        }
    }

    /// What follows when the source has no more: a source that may go back stays until all it
    /// handed over is settled, and sends a barrier so that gathering stages hand on what they hold.
    fn finish(&mut self, cx: &mut Context<'_, '_>) -> Result<Fill, Stop> {
        let Some(Live {
            settings,
            tracker: Some(tracker),
        }) = &self.live
        else {
            return Ok(Fill::Done);
        };
        if !matches!(settings.answer, Answer::Rewind | Answer::Divert) {
            return Ok(Fill::Done);
        }
        let tracker = tracker.clone();
        if !std::mem::replace(&mut self.flushed, true) {
            self.barrier(&tracker);
            if let Some(mark) = self.marks.pop() {
                return Ok(Fill::Mark(mark));
            }
        }
        match tracker.poll_quiet(cx.task()) {
            Poll::Pending => self.rest(cx),
            Poll::Ready(()) if tracker.first_unresolved().is_some() => {
                cx.waker().wake_by_ref();
                Ok(Fill::Pending)
            }
            Poll::Ready(()) => Ok(Fill::Done),
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
            return self.finish(cx);
        }
        if let Some(stop) = self.stopped.take() {
            return Err(stop);
        }
        if want.is_none() || self.paused {
            return self.rest(cx);
        }
        let mut room = want.items;
        if let Some(tracker) = &tracker {
            match tracker.poll_credit(cx.task()) {
                Poll::Pending => return self.rest(cx),
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
                self.finish(cx)
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
