//! Saves how far the lines are settled, whether or not elements flow.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context as Task, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

use super::LinePosition;
use super::state::{State, StateError, StateFile};
use crate::error::Stop;
use crate::operator::StopRun;
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
    /// A run that promises to be resumed stops when its state cannot be saved.
    run: StopRun,
    /// It was saved for the last time.
    saved: bool,
}

impl Saver {
    pub(super) fn new(
        file: StateFile,
        tracker: Tracker<LinePosition>,
        from: &State,
        run: StopRun,
    ) -> Saver {
        let saving = Saving {
            file,
            tracker,
            base: from.base,
        };
        Saver {
            saving: Arc::new(Mutex::new(saving)),
            run,
            saved: false,
        }
    }

    /// Saves each `every` until the source has ended and all its lines are settled, and once more.
    pub(super) async fn run(mut self, every: Duration, mut source: oneshot::Receiver<()>) {
        let tracker = lock(&self.saving).tracker.clone();
        let mut ended = false;
        let idle = |task: &mut Task<'_>| {
            ended = ended || Pin::new(&mut source).poll(task).is_ready();
            ended && tracker.poll_idle(task).is_ready()
        };
        repeat(every, idle, || self.save()).await;
        self.saved = true;
    }

    fn save(&self) -> impl Future<Output = ()> + use<'_> {
        let saving = Arc::clone(&self.saving);
        async move {
            let save = move || lock(&saving).save();
            if let Ok(Err(error)) = tokio::task::spawn_blocking(save).await {
                self.fail(error);
            }
        }
    }

    fn fail(&self, error: StateError) {
        tracing::error!(%error, "the state was not saved");
        self.run.stop(Stop::error(error));
    }
}

impl Drop for Saver {
    /// A task that is aborted saves what is settled by then.
    fn drop(&mut self) {
        if !self.saved {
            let result = lock(&self.saving).save();
            if let Err(error) = result {
                self.fail(error);
            }
        }
    }
}

/// Does something each `every`, counted from the beginning of the last time however long that took,
/// until this is over, and once more.
async fn repeat<F: Future>(
    every: Duration,
    mut over: impl FnMut(&mut Task<'_>) -> bool,
    mut something: impl FnMut() -> F,
) {
    let mut due = time::now() + every;
    loop {
        let mut sleep = pin!(time::sleep_until(due));
        let last = poll_fn(|task| {
            if over(task) {
                return Poll::Ready(true);
            }
            sleep.as_mut().poll(task).map(|()| false)
        })
        .await;
        due = time::now() + every;
        something().await;
        if last {
            return;
        }
    }
}

#[cfg(test)]
#[cfg(feature = "testkit")]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::testkit::Simulation;
    use crate::time::Time;

    /// When each saving began, if each takes that long and all is settled after a second.
    fn begun_ms(saving_ms: u64) -> Vec<u64> {
        let simulation = Simulation::new(1);
        let begun = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&begun);
        let second = Duration::from_secs(1);
        simulation
            .block_on(async move {
                let from = time::now();
                let mut settled = pin!(time::sleep(second));
                let over = |task: &mut Task<'_>| settled.as_mut().poll(task).is_ready();
                let save = || {
                    lock(&keep).push(time::now().since(from).as_millis() as u64);
                    time::sleep(Duration::from_millis(saving_ms))
                };
                repeat(Duration::from_millis(100), over, save).await;
            })
            .unwrap();
        assert!(simulation.now() >= Time::ZERO + second);
        lock(&begun).clone()
    }

    #[test]
    fn savings_begin_each_period_however_long_they_take() {
        for quick_ms in [0, 20, 99] {
            assert_eq!(
                begun_ms(quick_ms),
                (1..=10).map(|n| n * 100).collect::<Vec<_>>()
            );
        }
        assert_eq!(begun_ms(250), [100, 350, 600, 850, 1100], "at once");
    }
}
