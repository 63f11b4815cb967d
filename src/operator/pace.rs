//! How long a stage works on without handing anything over, and how much it asks for at once.

use std::time::Duration;

use super::Context;
use crate::chunk::Chunk;
use crate::time::Time;

/// As long as a turn of an island.
const TURN: Duration = Duration::from_micros(200);
/// Rounds after which others run in any case: a simulated clock may stand still.
const ROUNDS: u32 = 64;

/// Lets others run when a stage has left out, or gathered, all it was given for a turn.
#[derive(Default, Debug)]
pub(super) struct Patience {
    rounds: u32,
    since: Time,
}

impl Patience {
    /// One more round without an element handed over. True when it was one too many: the task is
    /// woken, and the stage is to return [`Fill::Pending`](super::Fill::Pending).
    pub(super) fn is_over(&mut self, cx: &Context<'_, '_>) -> bool {
        let now = cx.clock();
        if self.rounds == 0 {
            self.since = now;
        }
        self.rounds += 1;
        let over = self.rounds >= ROUNDS || now.since(self.since) >= TURN;
        if over {
            cx.waker().wake_by_ref();
        }
        over
    }
}

/// How much a stage asks for that gathers more than it hands over: as much as comes in a fraction of
/// a turn.
#[derive(Debug)]
pub(super) struct Pace {
    target: usize,
    since: Time,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            target: 32,
            since: Time::ZERO,
        }
    }
}

impl Pace {
    /// Starts the clock, and says how many elements to ask for.
    pub(super) fn start(&mut self, cx: &Context<'_, '_>) -> usize {
        self.since = cx.now();
        self.target
    }

    /// So many elements came, up to this time.
    pub(super) fn note(&mut self, now: Time, count: usize) {
        let took = now.since(self.since);
        if took > TURN {
            self.target = (self.target / 2).max(1);
        } else if took < TURN / 4 && count >= self.target {
            self.target = (self.target * 2).min(Chunk::<()>::MAX);
        }
    }
}
