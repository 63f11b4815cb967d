//! What a run, its handle and its islands share.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use super::inbox::Inbox;
use super::island::Drive;
use super::nested::{Home, Parts, Scope, name_in, report_source, report_stage};
use super::snapshot::{IslandReport, Snapshot};
use crate::error::{Cause, RunError, Stop, panic_message};
use crate::ledger::TimeLedger;
use crate::operator::source::{Settings, Walkers};
use crate::operator::{Control, Spawn, Stage, Turn};
use crate::outcome::Reason;
use crate::sync::lock;
use crate::topology::Around;

/// A stage as the run reports it.
#[derive(Clone, Debug)]
pub(crate) struct StageInfo {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) stage: Arc<Stage>,
    /// It adds parts to the run, which must keep what is around them.
    pub(crate) home: Option<(Home, Around)>,
}

/// A source as the run reports it.
#[derive(Clone)]
pub(crate) struct SourceInfo {
    pub(crate) name: String,
    pub(crate) stage: u32,
    pub(crate) walkers: Walkers,
    pub(crate) settings: Arc<Mutex<Settings>>,
}

/// The board of a run.
pub(crate) struct Panel {
    stages: Mutex<Vec<StageInfo>>,
    sources: Mutex<Vec<SourceInfo>>,
    islands: Mutex<Vec<Arc<Seat>>>,
    parts: Mutex<Parts>,
    state: Mutex<State>,
    pub(crate) spawn: Arc<dyn Spawn>,
}

#[derive(Default)]
struct State {
    running: usize,
    stop: Option<Stop>,
    /// What ended the run from outside of its stages, and where.
    condemned: Option<(String, Cause)>,
    ending: Option<Reason>,
    waiting: Vec<Waker>,
}

/// One island's place at the board.
pub(crate) struct Seat {
    name: String,
    /// The island's task, once it was polled.
    waker: Mutex<Option<Waker>>,
    /// The part of the run it belongs to, if it was added while that went on.
    scope: Option<Arc<Scope>>,
    inbox: Inbox,
    pub(crate) time: TimeLedger,
    ended: AtomicBool,
}

impl Panel {
    pub(crate) fn new(spawn: Arc<dyn Spawn>) -> Arc<Panel> {
        Arc::new(Panel {
            stages: Mutex::default(),
            sources: Mutex::default(),
            islands: Mutex::default(),
            parts: Mutex::default(),
            state: Mutex::default(),
            spawn,
        })
    }

    /// Starts islands as part of this run.
    pub(crate) fn launch(
        self: &Arc<Self>,
        stages: Vec<StageInfo>,
        sources: Vec<SourceInfo>,
        islands: Vec<Box<dyn Drive>>,
    ) {
        self.open_homes(&stages);
        lock(&self.stages).extend(stages.iter().cloned());
        lock(&self.sources).extend(sources);
        self.seat(islands, &stages, None);
    }

    /// Starts a part of the run while it goes on.
    pub(super) fn launch_part(self: &Arc<Self>, scope: &Arc<Scope>, islands: Vec<Box<dyn Drive>>) {
        self.open_homes(&scope.stages);
        lock(&self.parts).add(Arc::clone(scope));
        lock(&self.islands)
            .retain(|seat| seat.scope.is_none() || !seat.ended.load(Ordering::Acquire));
        self.seat(islands, &scope.stages, Some(scope));
        // The run may have been ended while this was built.
        let ending = lock(&self.state).ending;
        if let Some(reason) = ending {
            scope.end(reason);
            self.tell(Control::Cancel);
        }
    }

    fn open_homes(self: &Arc<Self>, stages: &[StageInfo]) {
        for info in stages {
            if let Some((home, around)) = &info.home {
                home.open(Arc::downgrade(self), info.name.clone(), around.clone());
            }
        }
    }

    /// Gives islands a place at the board and starts their tasks.
    fn seat(
        self: &Arc<Self>,
        islands: Vec<Box<dyn Drive>>,
        stages: &[StageInfo],
        scope: Option<&Arc<Scope>>,
    ) {
        lock(&self.state).running += islands.len();
        for drive in islands {
            let stage = Arc::clone(drive.stage());
            let name = stages
                .iter()
                .find(|info| info.stage.id == stage.id)
                .map_or_else(|| "island".to_owned(), |info| info.name.clone());
            let seat = Arc::new(Seat {
                name: name.clone(),
                waker: Mutex::default(),
                scope: scope.cloned(),
                inbox: Inbox::default(),
                time: TimeLedger::default(),
                ended: AtomicBool::new(false),
            });
            lock(&self.islands).push(Arc::clone(&seat));
            let task = IslandTask {
                drive,
                stage,
                turn: Turn::new(Arc::clone(&self.spawn)),
                seat,
                waker: None,
                panel: Arc::clone(self),
                ended: false,
            };
            self.spawn.spawn(&name, Box::pin(task));
        }
    }

    /// Tells every island.
    pub(crate) fn tell(&self, control: Control) {
        for seat in lock(&self.islands).iter() {
            seat.inbox.put(control);
            let waker = lock(&seat.waker).clone();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Ends the run early: what is inside counts as cancelled for that reason.
    pub(crate) fn end(&self, reason: Reason) {
        lock(&self.state).ending.get_or_insert(reason);
        for info in lock(&self.stages).iter() {
            let _ = info.stage.ending.set(reason);
        }
        for source in lock(&self.sources).iter() {
            for walker in lock(&source.walkers).iter() {
                walker.end(reason);
            }
        }
        for scope in lock(&self.parts).live() {
            scope.end(reason);
        }
        self.tell(Control::Cancel);
    }

    fn island_ended(&self, seat: &Seat, result: Result<(), Stop>) {
        if seat.ended.swap(true, Ordering::AcqRel) {
            return;
        }
        let result = match &seat.scope {
            Some(scope) => scope.island_ended(result),
            None => result,
        };
        let first_error = {
            let mut state = lock(&self.state);
            let first = match result {
                Err(stop) if state.stop.is_none() && state.ending.is_none() => {
                    state.stop = Some(stop);
                    true
                }
                // The source may hear of the element before the run hears of its stage.
                Err(stop)
                    if state
                        .stop
                        .as_ref()
                        .is_some_and(|first| first.follows(&stop)) =>
                {
                    state.stop = Some(stop);
                    false
                }
                _ => false,
            };
            state.running -= 1;
            if state.running == 0 {
                for waker in state.waiting.drain(..) {
                    waker.wake();
                }
            }
            first
        };
        if first_error {
            self.end(Reason::RunFailed);
        }
    }

    /// Ends the run because a task of its own failed: every island may have ended well by then.
    pub(crate) fn fail(&self, stop: Stop) {
        let first = {
            let mut state = lock(&self.state);
            state.stop.get_or_insert(stop);
            state.ending.is_none()
        };
        if first {
            self.end(Reason::RunFailed);
        }
    }

    /// Ready when every island has ended.
    pub(crate) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.state);
        if state.running == 0 {
            return Poll::Ready(());
        }
        if !state
            .waiting
            .iter()
            .any(|waker| waker.will_wake(cx.waker()))
        {
            state.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    pub(crate) fn is_ended(&self) -> bool {
        lock(&self.state).running == 0
    }

    /// The islands that have not ended, by the name of their last stage.
    pub(crate) fn still_running(&self) -> Vec<String> {
        lock(&self.islands)
            .iter()
            .filter(|seat| !seat.ended.load(Ordering::Acquire))
            .map(|seat| seat.name.clone())
            .collect()
    }

    /// What the run ended with, once it has.
    pub(crate) fn result(&self) -> Result<(), RunError> {
        let state = lock(&self.state);
        if let Some((stage, cause)) = &state.condemned {
            return Err(RunError::Stopped {
                stage: stage.clone(),
                cause: cause.clone(),
            });
        }
        if let Some(stop) = &state.stop {
            return Err(self.name_error(stop));
        }
        if matches!(state.ending, Some(Reason::Aborted)) {
            return Err(RunError::Aborted);
        }
        let ending = state.ending;
        drop(state);
        if ending.is_some() {
            return Ok(());
        }
        let parts: Vec<SourceInfo> = lock(&self.parts)
            .live()
            .flat_map(|scope| scope.sources.clone())
            .collect();
        let unresolved = lock(&self.sources)
            .iter()
            .chain(&parts)
            .flat_map(|source| lock(&source.walkers).clone())
            .find_map(|walker| walker.first_unresolved());
        match unresolved {
            Some((source, what, position)) => {
                let stop = Stop::cause(Cause::Unresolved {
                    source,
                    what,
                    position,
                });
                Err(self.name_error(&stop.at(what.stage.unwrap_or(source.index()))))
            }
            None => Ok(()),
        }
    }

    /// Ends the run for a reason that no stage gave itself.
    #[cfg(feature = "testkit")]
    pub(crate) fn condemn(&self, stage: String, cause: Cause) {
        lock(&self.state).condemned.get_or_insert((stage, cause));
        self.end(Reason::RunFailed);
    }

    /// The stage that stopped the run, if one did.
    #[cfg(feature = "testkit")]
    pub(crate) fn stopped_at(&self) -> Option<String> {
        let stop = lock(&self.state).stop.clone()?;
        match self.name_error(&stop) {
            RunError::Stopped { stage, .. } => Some(stage),
            _ => None,
        }
    }

    #[cfg(feature = "testkit")]
    pub(crate) fn each_stage(&self, each: impl FnMut(&StageInfo)) {
        lock(&self.stages).iter().for_each(each);
    }

    fn name_error(&self, stop: &Stop) -> RunError {
        let name = |id: u32| {
            let mine = name_in(&lock(&self.stages), id);
            mine.or_else(|| lock(&self.parts).name_of(id))
        };
        let stage = stop
            .stage
            .and_then(name)
            .unwrap_or_else(|| "an unnamed stage".to_owned());
        RunError::Stopped {
            stage,
            cause: stop.cause.clone(),
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let infos = lock(&self.stages).clone();
        let mut stages: Vec<_> = infos.iter().map(report_stage).collect();
        let parts = lock(&self.parts);
        let name_of = |id: u32| name_in(&infos, id).or_else(|| parts.name_of(id));
        let mut sources: Vec<_> = lock(&self.sources)
            .iter()
            .map(|source| report_source(source, &infos, &name_of))
            .collect();
        let (part_stages, part_sources) = parts.report(&name_of);
        drop(parts);
        stages.extend(part_stages);
        sources.extend(part_sources);
        let islands = lock(&self.islands)
            .iter()
            .map(|seat| IslandReport {
                name: seat.name.clone(),
                time: seat.time.read(),
                ended: seat.ended.load(Ordering::Acquire),
            })
            .collect();
        Snapshot {
            stages,
            sources,
            islands,
            quiescent: self.is_ended(),
        }
    }
}

/// An island as a task.
struct IslandTask {
    drive: Box<dyn Drive>,
    /// That of its sink.
    stage: Arc<Stage>,
    turn: Turn,
    seat: Arc<Seat>,
    /// What `Seat::waker` holds.
    waker: Option<Waker>,
    panel: Arc<Panel>,
    ended: bool,
}

impl Future for IslandTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(());
        }
        // The same waker as a rule: no lock then. It is in its place before the inbox is read.
        if this
            .waker
            .as_ref()
            .is_none_or(|waker| !waker.will_wake(cx.waker()))
        {
            this.waker = Some(cx.waker().clone());
            lock(&this.seat.waker).clone_from(&this.waker);
        }
        let turn = std::panic::AssertUnwindSafe(|| {
            let seat = &this.seat;
            this.drive
                .turn(cx, &this.stage, &this.turn, &seat.time, &seat.inbox)
        });
        let result = match std::panic::catch_unwind(turn) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(result)) => result,
            Err(payload) => {
                Err(Stop::cause(Cause::Panicked(panic_message(&*payload))).at(this.stage.id))
            }
        };
        this.finish(result);
        Poll::Ready(())
    }
}

impl IslandTask {
    fn finish(&mut self, result: Result<(), Stop>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        if result.is_err() {
            let abandon = std::panic::AssertUnwindSafe(|| self.drive.abandon(&self.turn));
            let _ = std::panic::catch_unwind(abandon);
        }
        self.panel.island_ended(&self.seat, result);
    }
}

impl Drop for IslandTask {
    /// A task that is aborted settles what it holds.
    fn drop(&mut self) {
        if !self.ended {
            self.finish(Err(Stop::cause(Cause::Broken)));
        }
    }
}
