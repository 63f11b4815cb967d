//! When it sends a barrier, and what the barrier covers.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::{ConsumerStage, Positions};
use crate::kafka::consumer::settings::Commits;
use crate::kafka::consumer::shared::State;
use crate::mark::{Barrier, CommitToken, Mark};
use crate::operator::Context;
use crate::position::{Epoch, Tracker};
use crate::time;

/// When a barrier follows one that was not committed.
const BARRIER_AGAIN: Duration = Duration::from_secs(1);

impl ConsumerStage {
    /// Whether a barrier is to be sent now.
    pub(super) fn is_due(&mut self, cx: &mut Context<'_, '_>, state: &mut State) -> bool {
        let lane = state.lanes.get_mut(self.lane);
        let mut due = lane.is_some_and(|lane| std::mem::take(&mut lane.flush));
        let Commits::AtBarriers { every, records } = self.shared.settings.commits else {
            return due;
        };
        due |= self.since_barrier >= records;
        if !self.last_ends.is_empty() {
            self.last_ends.retain(|(at, end)| {
                state.partitions.get(at).is_some_and(|partition| {
                    let _ = partition.tracker.poll_quiet(cx.task());
                    partition.is_held() && partition.tracker.settled().sequence < *end
                })
            });
            if self.last_ends.is_empty() {
                self.due = None;
            }
        }
        let sleep = self.due.get_or_insert_with(|| Box::pin(time::sleep(every)));
        due | sleep.as_mut().poll(cx.task()).is_ready()
    }

    /// The end of an epoch of all partitions.
    pub(super) fn barrier(&mut self, state: &mut State) -> Mark {
        let mut next = Vec::new();
        let mut ends: Vec<(Tracker<i64>, _)> = Vec::new();
        self.last_ends.clear();
        // Also of those that are being taken away: what came of them is in this epoch.
        for partition in state.held_by(self.lane) {
            let frontier = partition.tracker.barrier();
            if partition.has_own(frontier.sequence)
                && let Some(last) = frontier.position
            {
                next.push(((*partition.at).clone(), last + 1));
            }
            self.last_ends
                .push(((*partition.at).clone(), frontier.sequence));
            ends.push((partition.tracker.clone(), frontier));
        }
        let detail = Positions {
            shared: Arc::clone(&self.shared),
            next,
        };
        // A sink may leave a barrier alone while another source goes back: it gets one more.
        self.due = Some(Box::pin(time::sleep(BARRIER_AGAIN)));
        self.since_barrier = 0;
        let mut token = CommitToken::new(self.accounts.source(), Epoch(self.epoch), detail);
        self.epoch += 1;
        for (tracker, frontier) in &ends {
            token = token.covering(tracker, frontier);
        }
        Mark::Barrier(Barrier::new(token))
    }
}
