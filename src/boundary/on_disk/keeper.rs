//! Looks after what is settled, whether or not elements flow: makes room, and saves the position.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;

use super::error::DiskError;
use super::settled::{DiskPosition, Settled};
use super::shared::Shared;
use super::work::Work;
use crate::error::Stop;
use crate::operator::StopRun;
use crate::position::Tracker;
use crate::time::{self, Sleep};

/// How long after a change it saves.
const EVERY: Duration = Duration::from_millis(50);

/// A task of the run. It outlives the source: what was read is settled later.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    tracker: Tracker<DiskPosition>,
    /// Whether what is saved is to be on the disk.
    sync: bool,
    /// A run whose position cannot be saved stops.
    run: StopRun,
    /// It was saved for the last time.
    saved: bool,
}

/// Has the writer and the keeper know what is settled.
pub(super) fn note(shared: &Shared, tracker: &Tracker<DiskPosition>) {
    let (settled, above) = tracker.passed_above();
    let base = match settled.position {
        Some(position) => position,
        None => shared.lock().settled().base,
    };
    shared.settle(base, Some(Settled::new(base, &above)));
}

impl Keeper {
    pub(super) fn new(
        shared: Arc<Shared>,
        tracker: Tracker<DiskPosition>,
        sync: bool,
        run: StopRun,
    ) -> Keeper {
        Keeper {
            shared,
            tracker,
            sync,
            run,
            saved: false,
        }
    }

    /// Saves within [`EVERY`] of a change, and at once when room is wanted, until the source has ended
    /// and all its elements are settled; and once more. While nothing changes it waits for no time.
    pub(super) async fn run(mut self, mut source: oneshot::Receiver<()>) {
        let mut ended = false;
        loop {
            let mut due: Option<Sleep> = None;
            let last = poll_fn(|task| {
                ended = ended || Pin::new(&mut source).poll(task).is_ready();
                if ended {
                    if self.tracker.poll_idle(task).is_ready() {
                        return Poll::Ready(true);
                    }
                    // Nobody else looks any more.
                    note(&self.shared, &self.tracker);
                }
                let (unsaved, wanted) = self.shared.keeps(task.waker());
                if wanted {
                    return Poll::Ready(false);
                }
                if unsaved && due.is_none() {
                    due = Some(time::sleep(EVERY));
                }
                let Some(due) = &mut due else {
                    return Poll::Pending;
                };
                Pin::new(due).poll(task).map(|()| false)
            });
            let last = last.await;
            self.save().await;
            if last {
                break;
            }
        }
        self.saved = true;
    }

    async fn save(&self) {
        note(&self.shared, &self.tracker);
        let (shared, sync) = (Arc::clone(&self.shared), self.sync);
        let mut work = Work::start(move || shared.save(sync));
        match poll_fn(|task| work.poll(task)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.fail(error),
            Err(stop) => self.run.stop(stop),
        }
    }

    fn fail(&self, error: DiskError) {
        tracing::error!(%error, "the settled position was not saved");
        self.run.stop(Stop::error(error));
    }
}

impl Drop for Keeper {
    /// A task that is aborted saves what is settled by then.
    fn drop(&mut self) {
        if !self.saved {
            note(&self.shared, &self.tracker);
            if let Err(error) = self.shared.save(self.sync) {
                self.fail(error);
            }
        }
    }
}
