//! Runs in simulated time: an executor of our own on the calling thread.
//!
//! Tasks that are ready run one poll each, in an order drawn from the seed. When none is ready the
//! clock jumps to the next timer. No tokio runtime is entered: what needs one ends the run with
//! [`Cause::NeedsTokio`]. When nothing is ready and no timer is set the run is stalled, and says so.
//!
//! # Invariants
//! - The same seed and the same declaration give the same events, in the same order, at the same
//!   nanosecond.
//! - Time goes on by timers and by [`time::work`](crate::time::work) alone.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::panel::Panel;
use super::running::{Drained, GRACE, Stopper};
use super::snapshot::Snapshot;
use super::trace::{Event, Trace, What};
use crate::error::{Cause, Refused, RunError, Stop, panic_message};
use crate::ledger::Progress;
use crate::operator::{Control, Spawn};
use crate::outcome::Reason;
use crate::random::Seeded;
use crate::sync::lock;
use crate::time::{Clock, Time};
use crate::topology::{Plan, Topology};

/// Polls at one instant after which a run is taken to turn in circles.
const POLLS_AT_ONCE: u64 = 1 << 18;

type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Task {
    name: Arc<str>,
    /// The run it belongs to.
    run: u64,
    /// Absent while it is polled.
    future: Option<Boxed>,
    ready: Arc<ReadyWaker>,
}

/// Puts its task on the list of those that are ready, once.
struct ReadyWaker {
    task: u64,
    queued: AtomicBool,
    list: Arc<Mutex<Vec<u64>>>,
}

impl Wake for ReadyWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            lock(&self.list).push(self.task);
        }
    }
}

struct State {
    now: Time,
    seeded: Seeded,
    tasks: BTreeMap<u64, Task>,
    next: u64,
    /// In order of time, and of setting where they are due at once.
    timers: BTreeMap<(Time, u64), Waker>,
    due: BTreeMap<u64, Time>,
    /// Polls since the clock last went on.
    polls: u64,
    panels: BTreeMap<u64, Weak<Panel>>,
    accounts: BTreeMap<u32, Progress>,
    trace: Trace,
    /// User code asked for the tokio runtime during this poll.
    lacks_tokio: bool,
}

/// The executor and the clock.
pub(crate) struct Simulator {
    state: Mutex<State>,
    ready: Arc<Mutex<Vec<u64>>>,
}

impl Simulator {
    pub(crate) fn new(seed: u64) -> Arc<Simulator> {
        Arc::new(Simulator {
            state: Mutex::new(State {
                now: Time::ZERO,
                seeded: Seeded::new(seed),
                tasks: BTreeMap::new(),
                next: 0,
                timers: BTreeMap::new(),
                due: BTreeMap::new(),
                polls: 0,
                panels: BTreeMap::new(),
                accounts: BTreeMap::new(),
                trace: Trace::default(),
                lacks_tokio: false,
            }),
            ready: Arc::default(),
        })
    }

    pub(crate) fn trace(&self) -> Trace {
        lock(&self.state).trace.clone()
    }

    fn number(&self) -> u64 {
        let mut state = lock(&self.state);
        state.next += 1;
        state.next
    }

    fn spawn(&self, run: u64, name: &str, future: Boxed) {
        let id = self.number();
        let ready = Arc::new(ReadyWaker {
            task: id,
            queued: AtomicBool::new(false),
            list: Arc::clone(&self.ready),
        });
        let name: Arc<str> = name.into();
        let mut state = lock(&self.state);
        let event = Event {
            at: state.now,
            stage: Arc::clone(&name),
            what: What::Started,
        };
        state.trace.push(event);
        state.tasks.insert(
            id,
            Task {
                name,
                run,
                future: Some(future),
                ready: Arc::clone(&ready),
            },
        );
        drop(state);
        ready.wake();
    }

    /// Starts a task that belongs to no run.
    pub(crate) fn spawn_alone(
        &self,
        name: &str,
        future: impl Future<Output = ()> + Send + 'static,
    ) {
        self.spawn(0, name, Box::pin(future));
    }

    fn has_tasks(&self, run: u64) -> bool {
        lock(&self.state).tasks.values().any(|task| task.run == run)
    }

    /// Drops the tasks of a run, or of all.
    fn drop_tasks(&self, run: Option<u64>) {
        let mut state = lock(&self.state);
        let ids: Vec<u64> = state
            .tasks
            .iter()
            .filter(|(_, task)| run.is_none_or(|run| task.run == run))
            .map(|(id, _)| *id)
            .collect();
        let gone: Vec<Task> = ids.iter().filter_map(|id| state.tasks.remove(id)).collect();
        drop(state);
        // Destructors are user code.
        for task in gone {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(task)));
        }
    }

    /// Polls one task that is ready, drawn by the seed. False if none is.
    fn poll_one(&self) -> bool {
        let mut state = lock(&self.state);
        let id = {
            let mut ready = lock(&self.ready);
            if ready.is_empty() {
                return false;
            }
            let index = state.seeded.below(ready.len());
            ready.swap_remove(index)
        };
        state.polls += 1;
        let Some(task) = state.tasks.get_mut(&id) else {
            return true;
        };
        let Some(mut future) = task.future.take() else {
            return true;
        };
        let (name, run, ready) = (Arc::clone(&task.name), task.run, Arc::clone(&task.ready));
        drop(state);
        ready.queued.store(false, Ordering::Release);
        let waker = Waker::from(ready);
        let polled = catch_unwind(AssertUnwindSafe(|| {
            future.as_mut().poll(&mut Context::from_waker(&waker))
        }));
        let what = match &polled {
            Ok(Poll::Pending) => What::Ran,
            Ok(Poll::Ready(())) => What::Ended,
            Err(payload) => {
                let _ = panic_message(&**payload);
                What::Panicked
            }
        };
        if matches!(polled, Ok(Poll::Pending)) {
            if let Some(task) = lock(&self.state).tasks.get_mut(&id) {
                task.future = Some(future);
            }
        } else {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(future)));
            lock(&self.state).tasks.remove(&id);
        }
        self.record(&name, run, what);
        true
    }

    /// Writes down what a poll came to, and answers for what it could not do.
    fn record(&self, name: &Arc<str>, run: u64, what: What) {
        let mut state = lock(&self.state);
        let at = state.now;
        state.trace.push(Event {
            at,
            stage: Arc::clone(name),
            what,
        });
        let Some(panel) = state.panels.get(&run).and_then(Weak::upgrade) else {
            return;
        };
        let mut culprit = None;
        panel.each_stage(|info| {
            let after = info.stage.ledger.progress();
            let before = state
                .accounts
                .insert(info.stage.id, after)
                .unwrap_or_default();
            let what = What::Moved {
                entered: after.entered - before.entered,
                left: after.left - before.left,
                settled: after.settled - before.settled,
            };
            if after.panicked > before.panicked {
                culprit = Some(info.name.clone());
            }
            if after != before {
                state.trace.push(Event {
                    at,
                    stage: info.name.as_str().into(),
                    what,
                });
            }
        });
        let lacks = std::mem::take(&mut state.lacks_tokio);
        let circles = state.polls > POLLS_AT_ONCE;
        drop(state);
        if lacks {
            let stage = culprit
                .or_else(|| panel.stopped_at())
                .unwrap_or_else(|| name.to_string());
            self.condemn(run, &panel, stage, Cause::NeedsTokio);
        } else if circles {
            let what = "262,144 polls without time going on: a stage wakes itself for ever";
            self.condemn(
                run,
                &panel,
                name.to_string(),
                Cause::Error(Arc::from(Box::from(what))),
            );
        }
    }

    fn condemn(&self, run: u64, panel: &Panel, stage: String, cause: Cause) {
        self.told(
            &stage,
            match cause {
                Cause::NeedsTokio => "needs the tokio runtime",
                Cause::Stalled => "stalled",
                _ => "turns in circles",
            },
        );
        let circles = matches!(cause, Cause::Error(_));
        panel.condemn(stage, cause);
        lock(&self.state).polls = 0;
        if circles {
            self.drop_tasks(Some(run));
        }
    }

    fn told(&self, stage: &str, what: &'static str) {
        let mut state = lock(&self.state);
        let at = state.now;
        state.trace.push(Event {
            at,
            stage: stage.into(),
            what: What::Told(what),
        });
    }

    /// Wakes what is due by now. False if nothing is.
    fn fire(&self) -> bool {
        let mut state = lock(&self.state);
        let now = state.now;
        let mut wakers = Vec::new();
        while let Some(((at, timer), _)) = state.timers.first_key_value().map(|(k, w)| (*k, w))
            && at <= now
        {
            wakers.extend(state.timers.remove(&(at, timer)));
            state.due.remove(&timer);
        }
        if wakers.is_empty() {
            return false;
        }
        let event = Event {
            at: now,
            stage: "clock".into(),
            what: What::Timers(wakers.len()),
        };
        state.trace.push(event);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        true
    }

    /// Sets the clock on, never back.
    fn go_on(&self, to: Time) {
        let mut state = lock(&self.state);
        if to > state.now {
            state.now = to;
            state.polls = 0;
        }
    }

    /// Runs for that long in simulated time, and leaves the clock there.
    pub(crate) fn advance(&self, span: Duration) {
        let until = self.now() + span;
        while self.step(until) {}
        self.go_on(until);
    }

    /// Ends everything: tasks are dropped, and with them what they hold.
    pub(crate) fn clear(&self) {
        self.drop_tasks(None);
        lock(&self.ready).clear();
        let timers = std::mem::take(&mut lock(&self.state).timers);
        drop(timers);
    }
}

impl Clock for Simulator {
    fn now(&self) -> Time {
        lock(&self.state).now
    }

    fn wake_at(&self, at: Time, waker: &Waker) -> u64 {
        let timer = self.number();
        let mut state = lock(&self.state);
        state.timers.insert((at, timer), waker.clone());
        state.due.insert(timer, at);
        timer
    }

    fn forget(&self, timer: u64) {
        let mut state = lock(&self.state);
        let waker = state
            .due
            .remove(&timer)
            .and_then(|at| state.timers.remove(&(at, timer)));
        drop(state);
        drop(waker);
    }

    fn work(&self, ns: u64) {
        let to = self.now() + Duration::from_nanos(ns);
        self.go_on(to);
    }

    fn step(&self, until: Time) -> bool {
        self.fire();
        if self.poll_one() {
            return true;
        }
        let next = lock(&self.state)
            .timers
            .first_key_value()
            .map(|((at, _), _)| *at);
        match next {
            Some(at) if at <= until && at < Time::MAX => {
                self.go_on(at);
                true
            }
            _ => false,
        }
    }

    fn lacks_tokio(&self) {
        lock(&self.state).lacks_tokio = true;
    }
}

/// Starts tasks of one run.
struct RunSpawn {
    simulator: Weak<Simulator>,
    run: u64,
}

impl Spawn for RunSpawn {
    fn spawn(&self, name: &str, task: Boxed) {
        if let Some(simulator) = self.simulator.upgrade() {
            simulator.spawn(self.run, name, task);
        }
    }

    fn stop(&self, stop: Stop) {
        let panel = self.simulator.upgrade().and_then(|simulator| {
            let state = lock(&simulator.state);
            state.panels.get(&self.run).and_then(Weak::upgrade)
        });
        if let Some(panel) = panel {
            panel.fail(stop);
        }
    }
}

/// Checks a plan and starts it in simulated time.
pub(crate) fn start_simulated<O>(
    plan: &Plan,
    output: Box<dyn FnOnce() -> Option<O> + Send>,
    simulator: &Arc<Simulator>,
) -> Result<SimulatedRun<O>, Refused> {
    if tokio::runtime::Handle::try_current().is_ok() {
        let what = "simulated time cannot be used inside a tokio runtime: its timers would run on";
        return Err(Refused::Runtime(what.to_owned()));
    }
    let taken = plan.take(true)?;
    let run = simulator.number();
    let spawn = Arc::new(RunSpawn {
        simulator: Arc::downgrade(simulator),
        run,
    });
    let panel = Panel::new(spawn);
    lock(&simulator.state)
        .panels
        .insert(run, Arc::downgrade(&panel));
    panel.launch(taken.stages, taken.sources, taken.islands);
    Ok(SimulatedRun {
        panel,
        simulator: Arc::clone(simulator),
        run,
        topology: taken.topology,
        output: Some(output),
    })
}

/// A pipeline that runs in simulated time. Nothing happens but inside the calls of this handle, of
/// its simulation and of probes. Dropping it aborts the run.
#[must_use = "dropping the handle aborts the run: join, drain or abort it"]
pub struct SimulatedRun<O> {
    panel: Arc<Panel>,
    simulator: Arc<Simulator>,
    run: u64,
    topology: Topology,
    output: Option<Box<dyn FnOnce() -> Option<O> + Send>>,
}

impl<O> fmt::Debug for SimulatedRun<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatedRun")
            .field("still_running", &self.panel.still_running())
            .finish_non_exhaustive()
    }
}

impl<O> SimulatedRun<O> {
    fn is_gone(&self) -> bool {
        self.panel.is_ended() && !self.simulator.has_tasks(self.run)
    }

    /// Runs until the run has ended or that time has come. False if it has not ended.
    fn run_until(&self, until: Time) -> bool {
        while !self.is_gone() {
            if !self.simulator.step(until) {
                return false;
            }
        }
        true
    }

    /// What is told to end has that long for it; then its tasks are dropped.
    fn finish(&self) {
        if !self.run_until(self.simulator.now() + GRACE) {
            self.simulator.drop_tasks(Some(self.run));
        }
    }

    fn take_result(&mut self) -> Result<O, RunError> {
        self.panel.result()?;
        self.output
            .take()
            .and_then(|output| output())
            .ok_or(RunError::Aborted)
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// As [`Running::join`](super::Running::join); besides [`Cause::Stalled`] with the islands that
    /// wait when nothing is ready and no timer is set, and [`Cause::NeedsTokio`] with the stage.
    pub fn join(&mut self) -> Result<O, RunError> {
        if !self.run_until(Time::MAX) {
            let waiting = self.panel.still_running().join(", ");
            self.simulator
                .condemn(self.run, &self.panel, waiting, Cause::Stalled);
            self.finish();
        }
        self.take_result()
    }

    /// Runs for that long, or until the run has ended; says whether it has.
    pub fn advance(&mut self, span: Duration) -> bool {
        let until = self.simulator.now() + span;
        let ended = self.run_until(until);
        if !ended {
            self.simulator.go_on(until);
        }
        ended
    }

    /// Has the sources end and finishes what is inside, for at most that long in simulated time;
    /// what is left then is cancelled, and the islands that held it are named.
    pub fn drain(&mut self, deadline: Duration) -> Result<Drained<O>, RunError> {
        self.simulator.told("run", "drain");
        self.panel.tell(Control::Drain);
        let until = self.simulator.now() + deadline;
        let in_time = self.run_until(until);
        let still_running = if in_time {
            Vec::new()
        } else {
            self.panel.still_running()
        };
        if !in_time {
            self.simulator.go_on(until);
            self.panel.end(Reason::DrainDeadline);
            self.finish();
        }
        self.panel.result()?;
        Ok(Drained {
            output: self.output.take().and_then(|output| output()),
            still_running,
        })
    }

    /// Ends the run; what is inside is cancelled.
    pub fn abort(&mut self) {
        self.simulator.told("run", "abort");
        self.panel.end(Reason::Aborted);
        self.finish();
    }

    /// Has the sources rest, or go on.
    pub fn pause(&mut self, paused: bool) {
        self.panel.tell(if paused {
            Control::Pause
        } else {
            Control::Resume
        });
    }

    /// The accounts now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.panel.snapshot()
    }

    /// The graph that runs.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Whether every island has ended.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.panel.is_ended()
    }

    /// A handle to stop the run from a closure or task inside it. It does not keep the run alive.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper::new(&self.panel)
    }

    /// The islands that have not ended, by the name of their last stage.
    #[must_use]
    pub fn still_running(&self) -> Vec<String> {
        self.panel.still_running()
    }
}

impl<O> Drop for SimulatedRun<O> {
    fn drop(&mut self) {
        if !self.is_gone() {
            self.panel.end(Reason::Aborted);
            self.simulator.drop_tasks(Some(self.run));
        }
    }
}
