//! A run while it runs: how far it is, what the user says, what it did in each second.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use forebay::error::RunError;
use forebay::runtime::{Running, Snapshot};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::cli::unusable;
use crate::progress::{self, Progress};
use crate::signals::Signals;

const SECOND: Duration = Duration::from_secs(1);

/// What looks at a run.
pub(super) struct Watch {
    pub(super) signals: Signals,
    pub(super) progress: Progress,
    pub(super) timeline: Option<Timeline>,
}

impl Watch {
    /// Waits for the end, shows how far it is, and obeys signals: the first drains, the second aborts.
    pub(super) async fn over<O>(&mut self, running: &mut Running<O>) -> Result<O, RunError> {
        let mut ticks = tokio::time::interval(progress::EVERY);
        let mut draining = false;
        loop {
            tokio::select! {
                biased;
                () = self.signals.next() => {
                    if draining {
                        self.progress.say("aborting");
                        running.abort().await;
                    } else {
                        self.progress.say("finishing what is inside; once more aborts");
                        draining = true;
                        running.stopper().drain();
                    }
                }
                result = running.join() => {
                    self.look(running);
                    return result;
                }
                _ = ticks.tick() => self.look(running),
            }
        }
    }

    fn look<O>(&mut self, running: &Running<O>) {
        let snapshot = running.snapshot();
        self.progress.show(&snapshot);
        if let Some(timeline) = &mut self.timeline {
            timeline.look(&snapshot);
        }
    }
}

/// What was delivered in each second, in a file.
pub(super) struct Timeline {
    file: File,
    due: Instant,
    /// All latencies up to the last line.
    before: Option<Histogram<u64>>,
}

#[derive(Serialize)]
struct Second {
    at_ms: u64,
    delivered: u64,
    p50_us: u64,
    p99_us: u64,
}

impl Timeline {
    pub(super) fn create(path: &Path) -> anyhow::Result<Timeline> {
        let file =
            File::create(path).map_err(|error| unusable(format!("{}: {error}", path.display())))?;
        Ok(Timeline {
            file,
            due: Instant::now() + SECOND,
            before: None,
        })
    }

    /// Writes a line if a second is over. What cannot be written is left out: it is for reading along.
    fn look(&mut self, snapshot: &Snapshot) {
        let now = Instant::now();
        if now < self.due {
            return;
        }
        self.due = (self.due + SECOND).max(now + SECOND / 2);
        let Some(all) = snapshot.latency().all() else {
            return;
        };
        let mut since = all.clone();
        if let Some(before) = self.before.replace(all) {
            let _ = since.subtract(&before);
        }
        let at = SystemTime::now().duration_since(UNIX_EPOCH);
        let second = Second {
            at_ms: at.unwrap_or_default().as_millis() as u64,
            delivered: since.len(),
            p50_us: since.value_at_quantile(0.5),
            p99_us: since.value_at_quantile(0.99),
        };
        if let Ok(mut line) = serde_json::to_vec(&second) {
            line.push(b'\n');
            let _ = self.file.write_all(&line);
        }
    }
}
