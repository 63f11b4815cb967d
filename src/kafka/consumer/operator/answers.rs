//! What it answers for a record that ended unresolved: going on, going back, or stopping.

use std::task::Poll;

use super::ConsumerStage;
use crate::error::{Cause, Stop};
use crate::kafka::consumer::partition::Partition;
use crate::kafka::consumer::settings::Commits;
use crate::kafka::consumer::shared::State;
use crate::mark::Mark;
use crate::operator::{Answer, Context};
use crate::position::{Generation, Unresolved};

/// How often it goes back to the same record; the next time it stops.
const REWINDS: u32 = 2;

impl ConsumerStage {
    /// Answers for what ended unresolved, as declared.
    pub(super) fn answer(&mut self, partition: &Partition) -> Result<(), Stop> {
        let answer = self.accounts.answer();
        while let Some(what) = partition.tracker.take_unresolved() {
            match answer {
                Answer::Continue => {}
                Answer::Rewind if self.may_go_back(partition) => {
                    self.going_back.get_or_insert_default();
                }
                _ => return Err(self.unresolved(partition, what)),
            }
        }
        Ok(())
    }

    /// Counts how often it goes back to the same record: which one failed says nothing, where several do
    /// another is the first each time.
    fn may_go_back(&mut self, partition: &Partition) -> bool {
        let settled = partition.tracker.settled().sequence;
        let times = match &self.rewinds {
            Some((at, sequence, times)) if *at == *partition.at && *sequence == settled => {
                times + 1
            }
            _ => 1,
        };
        self.rewinds = Some(((*partition.at).clone(), settled, times));
        times <= REWINDS
    }

    fn unresolved(&self, partition: &Partition, what: Unresolved) -> Stop {
        let offset = partition.tracker.position_of(what.sequence);
        let offset = offset.map_or_else(|| "?".to_owned(), |offset| offset.to_string());
        let stop = Stop::cause(Cause::Unresolved {
            source: self.accounts.source(),
            what,
            position: format!("{}@{offset}", partition.at),
        });
        match what.stage {
            Some(stage) => stop.at(stage),
            None => stop,
        }
    }

    /// Has every partition go back to what is settled. Ready when all have: commits under way end
    /// first.
    pub(super) fn poll_go_back(&mut self, cx: &mut Context<'_, '_>, state: &mut State) -> Poll<()> {
        if state
            .owned_by(self.lane)
            .any(|partition| partition.replay_from.is_some())
        {
            self.going_back.get_or_insert_default();
        }
        let Some(gone) = &mut self.going_back else {
            return Poll::Ready(());
        };
        let mut waiting = false;
        // One that is being taken away has nothing left to wait for then. What waits in it is read by its
        // next owner, but for what is committed already.
        let before = self.shared.settings.commits == Commits::Before;
        let going = state.held_mut_by(self.lane);
        for partition in going.filter(|partition| partition.is_owned() || !before) {
            if gone.contains(&*partition.at) {
                continue;
            }
            match partition.tracker.poll_rewind(cx.task()) {
                Poll::Pending => waiting = true,
                Poll::Ready(settled) => {
                    gone.insert((*partition.at).clone());
                    partition.go_back(&settled);
                }
            }
        }
        if waiting {
            return Poll::Pending;
        }
        self.going_back = None;
        self.last_ends.clear();
        self.due = None;
        self.since_barrier = 0;
        self.generation += 1;
        self.marks.clear();
        let mark = Mark::Rewind(self.accounts.source(), Generation(self.generation));
        self.marks.push_back(mark);
        state.unpark();
        Poll::Ready(())
    }
}
