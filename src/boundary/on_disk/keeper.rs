//! Looks after what is settled, whether or not elements flow: makes room, and saves the position.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
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
use crate::time;

/// How often it looks.
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

/// Has the writer know what is settled.
fn note(shared: &Shared, tracker: &Tracker<DiskPosition>) {
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

    /// Looks each [`EVERY`], and when room is wanted, until the source has ended and all its elements
    /// are settled; and once more.
    pub(super) async fn run(mut self, mut source: oneshot::Receiver<()>) {
        let mut ended = false;
        loop {
            let mut sleep = pin!(time::sleep(EVERY));
            let mut wanted = pin!(self.shared.wanted.notified());
            let last = poll_fn(|task| {
                ended = ended || Pin::new(&mut source).poll(task).is_ready();
                if ended && self.tracker.poll_idle(task).is_ready() {
                    return Poll::Ready(true);
                }
                if wanted.as_mut().poll(task).is_ready() {
                    return Poll::Ready(false);
                }
                sleep.as_mut().poll(task).map(|()| false)
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
