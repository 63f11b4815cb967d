//! Saves how far the lines are settled, whether or not elements flow.

use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;

use super::LinePosition;
use super::state::{State, StateError, StateFile};
use crate::position::Tracker;
use crate::sync::lock;
use crate::time;

/// What is saved, and where.
struct Saving {
    file: StateFile,
    tracker: Tracker<LinePosition>,
    /// The base of this run: where the settled position is before the first line is settled.
    base: LinePosition,
}

impl Saving {
    fn save(&self) -> Result<(), StateError> {
        // The time first: what is settled after it may be in, what was settled before it is.
        let saved_at_unix_ns = time::unix_ns();
        let (settled, done) = self.tracker.settled_above();
        let base = settled.position.unwrap_or(self.base);
        self.file.save(State {
            base,
            done,
            saved_at_unix_ns,
            ..State::default()
        })
    }
}

/// A task of the run. It outlives the source: what was read is settled later.
pub(super) struct Saver {
    /// Under a lock, so that an older state never replaces a newer one.
    saving: Arc<Mutex<Saving>>,
    failing: Option<oneshot::Sender<StateError>>,
    /// It was saved for the last time.
    saved: bool,
}

impl Saver {
    pub(super) fn new(
        file: StateFile,
        tracker: Tracker<LinePosition>,
        from: &State,
        failing: oneshot::Sender<StateError>,
    ) -> Saver {
        let saving = Saving {
            file,
            tracker,
            base: from.base,
        };
        Saver {
            saving: Arc::new(Mutex::new(saving)),
            failing: Some(failing),
            saved: false,
        }
    }

    /// Saves each `every` until the source has ended and all its lines are settled, and once more.
    pub(super) async fn run(mut self, every: Duration, source: oneshot::Receiver<()>) {
        let tracker = lock(&self.saving).tracker.clone();
        let mut source = source;
        let mut ended = false;
        loop {
            let mut sleep = std::pin::pin!(time::sleep(every));
            let idle = std::future::poll_fn(|cx| {
                ended = ended || std::pin::Pin::new(&mut source).poll(cx).is_ready();
                if ended && tracker.poll_idle(cx).is_ready() {
                    return Poll::Ready(true);
                }
                sleep.as_mut().poll(cx).map(|()| false)
            })
            .await;
            self.save().await;
            if idle {
                self.saved = true;
                return;
            }
        }
    }

    async fn save(&mut self) {
        let saving = Arc::clone(&self.saving);
        let save = move || lock(&saving).save();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(save).await {
            tracing::error!(%error, "the state was not saved");
            if let Some(failing) = self.failing.take() {
                let _ = failing.send(error);
            }
        }
    }
}

impl Drop for Saver {
    /// A task that is aborted saves what is settled by then.
    fn drop(&mut self) {
        if !self.saved
            && let Err(error) = lock(&self.saving).save()
        {
            tracing::error!(%error, "the state was not saved");
        }
    }
}
