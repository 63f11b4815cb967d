//! Starting a run, and its handle.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use super::panel::Panel;
use super::snapshot::Snapshot;
use crate::error::{Refused, RunError, Stop};
use crate::operator::{Control, Spawn};
use crate::outcome::Reason;
use crate::sync::lock;
use crate::time;
use crate::topology::{Plan, Topology};

/// How long an end that was ordered may take before tasks are aborted: a turn of every island, and
/// the closure that runs.
pub(super) const GRACE: Duration = Duration::from_millis(500);

/// Which tokio runtime a pipeline is run on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum RuntimeKind {
    /// Worker threads, one a core; islands run in parallel.
    #[default]
    MultiThread,
    /// The calling thread alone.
    CurrentThread,
}

impl RuntimeKind {
    pub(crate) fn build(self) -> Result<tokio::runtime::Runtime, Refused> {
        let mut builder = match self {
            RuntimeKind::MultiThread => tokio::runtime::Builder::new_multi_thread(),
            RuntimeKind::CurrentThread => tokio::runtime::Builder::new_current_thread(),
        };
        builder
            .enable_all()
            .build()
            .map_err(|error| Refused::Runtime(error.to_string()))
    }
}

/// The tasks of a run on tokio. It does not keep the tasks' own board alive.
pub(crate) struct TokioSpawn {
    handle: tokio::runtime::Handle,
    tasks: Mutex<tokio::task::JoinSet<()>>,
    panel: OnceLock<Weak<Panel>>,
}

impl TokioSpawn {
    pub(crate) fn new(handle: tokio::runtime::Handle) -> Arc<TokioSpawn> {
        Arc::new(TokioSpawn {
            handle,
            tasks: Mutex::default(),
            panel: OnceLock::new(),
        })
    }

    fn abort_all(&self) {
        lock(&self.tasks).abort_all();
    }

    /// How many tasks have not ended.
    fn poll_idle(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut tasks = lock(&self.tasks);
        loop {
            match tasks.poll_join_next(cx) {
                Poll::Ready(Some(_)) => {}
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Spawn for TokioSpawn {
    fn spawn(&self, _: &str, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let mut tasks = lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(task, &self.handle);
    }

    fn stop(&self, stop: Stop) {
        if let Some(panel) = self.panel.get().and_then(Weak::upgrade) {
            panel.fail(stop);
        }
    }
}

/// Checks a plan and starts it on the tokio runtime of the calling task.
pub(crate) fn start<O>(
    plan: &Plan,
    output: Box<dyn FnOnce() -> Option<O> + Send>,
) -> Result<Running<O>, Refused> {
    let handle = tokio::runtime::Handle::try_current().map_err(|_| Refused::NoRuntime)?;
    let taken = plan.take(false)?;
    let spawn = TokioSpawn::new(handle);
    let panel = Panel::new(Arc::clone(&spawn) as Arc<dyn Spawn>);
    let _ = spawn.panel.set(Arc::downgrade(&panel));
    panel.launch(taken.stages, taken.sources, taken.islands);
    Ok(Running {
        panel,
        spawn: Some(spawn),
        topology: taken.topology,
        output: Some(output),
        joined: false,
    })
}

/// A pipeline that runs. Dropping the handle aborts the run.
#[must_use = "dropping the handle aborts the run: join, drain or abort it"]
pub struct Running<O> {
    panel: Arc<Panel>,
    spawn: Option<Arc<TokioSpawn>>,
    topology: Topology,
    output: Option<Box<dyn FnOnce() -> Option<O> + Send>>,
    joined: bool,
}

impl<O> fmt::Debug for Running<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("still_running", &self.panel.still_running())
            .finish_non_exhaustive()
    }
}

/// What a drain came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Drained<O> {
    /// What the sinks had to show, if all of them completed.
    pub output: Option<O>,
    /// The islands that did not end by the deadline, by the name of their last stage; what they
    /// held was cancelled. Empty if all went well.
    pub still_running: Vec<String>,
}

/// A handle that stops a run from elsewhere: another task, a signal handler.
#[derive(Clone)]
pub struct Stopper(Weak<Panel>);

impl fmt::Debug for Stopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stopper")
    }
}

impl Stopper {
    pub(super) fn new(panel: &Arc<Panel>) -> Stopper {
        Stopper(Arc::downgrade(panel))
    }

    /// Has the sources end; what is inside is finished. Joining the run then returns as usual.
    pub fn drain(&self) {
        if let Some(panel) = self.0.upgrade() {
            panel.tell(Control::Drain);
        }
    }

    /// Ends the run; what is inside is cancelled.
    pub fn abort(&self) {
        if let Some(panel) = self.0.upgrade() {
            panel.end(Reason::Aborted);
        }
    }

    /// Has the sources rest, or go on.
    pub fn pause(&self, paused: bool) {
        if let Some(panel) = self.0.upgrade() {
            panel.tell(if paused {
                Control::Pause
            } else {
                Control::Resume
            });
        }
    }
}

impl<O> Running<O> {
    /// Waits for the end of the run. Cancel safe: dropped, it can be called again.
    ///
    /// # Errors
    /// The first error that stopped the run, with the stage's name; [`RunError::Aborted`] after an
    /// abort.
    pub async fn join(&mut self) -> Result<O, RunError> {
        self.ended().await;
        self.joined = true;
        self.panel.result()?;
        let output = self.output.take().and_then(|output| output());
        output.ok_or(RunError::Aborted)
    }

    /// Waits until every task of the run is gone, whatever it ended with.
    fn ended(&self) -> impl Future<Output = ()> + Send + 'static + use<O> {
        let (panel, spawn) = (Arc::clone(&self.panel), self.spawn.clone());
        std::future::poll_fn(move |cx| {
            std::task::ready!(panel.poll_ended(cx));
            match &spawn {
                Some(spawn) => spawn.poll_idle(cx),
                None => Poll::Ready(()),
            }
        })
    }

    /// Has the sources end and finishes what is inside, for at most that long; what is left then is
    /// cancelled, and the islands that held it are named.
    pub async fn drain(&mut self, deadline: Duration) -> Result<Drained<O>, RunError> {
        self.panel.tell(Control::Drain);
        let in_time = time::timeout(deadline, self.ended()).await.is_ok();
        let still_running = if in_time {
            Vec::new()
        } else {
            self.panel.still_running()
        };
        if !in_time {
            self.panel.end(Reason::DrainDeadline);
            self.stop_tasks().await;
        }
        self.joined = true;
        self.panel.result()?;
        let output = self.output.take().and_then(|output| output());
        Ok(Drained {
            output,
            still_running,
        })
    }

    /// Ends the run and waits until its tasks are gone; what is inside is cancelled.
    pub async fn abort(&mut self) {
        self.panel.end(Reason::Aborted);
        self.stop_tasks().await;
        self.joined = true;
    }

    async fn stop_tasks(&mut self) {
        if time::timeout(GRACE, self.ended()).await.is_err() {
            if let Some(spawn) = &self.spawn {
                spawn.abort_all();
            }
            // A closure that blocks its thread cannot be aborted: it is not waited for.
            let _ = time::timeout(GRACE, self.ended()).await;
        }
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

    /// A handle to stop the run from elsewhere. It does not keep the run alive.
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

impl<O> Drop for Running<O> {
    fn drop(&mut self) {
        if !self.joined && !self.panel.is_ended() {
            self.panel.end(Reason::Aborted);
        }
    }
}
