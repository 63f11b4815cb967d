//! How long a task that could run waits to: asked of the runtime itself.
//!
//! The sampling thread sends the time to a task; when the task runs, it says how long that took. While
//! it has not run, the lag is what has passed so far, so that a runtime that stands still is seen as
//! well. On a runtime of several threads any idle one answers: one that is blocked is not seen, all are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc::{Sender, channel};

use crate::time::{Time, now};

/// What the answers of the task are until there is one.
const NO_ANSWER: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct LagProbe {
    /// Where the task waits for the next question; it ends when this is dropped.
    ask: Sender<Time>,
    /// The last answer in nanoseconds; [`NO_ANSWER`] while a question is open.
    answer_ns: Arc<AtomicU64>,
    asked: Option<Time>,
}

impl LagProbe {
    pub(super) fn new(runtime: &Handle) -> LagProbe {
        let (ask, mut questions) = channel::<Time>(1);
        let answer_ns = Arc::new(AtomicU64::new(NO_ANSWER));
        let answers = Arc::clone(&answer_ns);
        drop(runtime.spawn(async move {
            while let Some(asked) = questions.recv().await {
                let lag_ns = now().as_nanos().saturating_sub(asked.as_nanos());
                answers.store(lag_ns.min(NO_ANSWER - 1), Ordering::Release);
            }
        }));
        LagProbe {
            ask,
            answer_ns,
            asked: None,
        }
    }

    /// What is known of the lag, and asks again if the last question was answered. `None` at first, and
    /// once the runtime has ended.
    pub(super) fn look(&mut self, now: Time) -> Option<Duration> {
        if self.ask.is_closed() {
            return None;
        }
        let answer_ns = self.answer_ns.load(Ordering::Acquire);
        let lag = match self.asked {
            Some(asked) if answer_ns == NO_ANSWER => return Some(now.since(asked)),
            Some(_) => Some(Duration::from_nanos(answer_ns)),
            None => None,
        };
        self.answer_ns.store(NO_ANSWER, Ordering::Release);
        self.asked = self.ask.try_send(now).is_ok().then_some(now);
        lag
    }
}
