//! Partitions that go: what is inside of them is settled and committed first, for a bounded time.

use std::time::Instant;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;

use super::Reader;
use super::client::{places, unassign};
use crate::kafka::consumer::partition::Partition;
use crate::kafka::consumer::settings::Commits;
use crate::kafka::error::Error;
use crate::kafka::record::TopicPartition;

/// Partitions on their way to other members.
pub(super) struct Revocation {
    pub(super) list: TopicPartitionList,
    pub(super) places: Vec<TopicPartition>,
    pub(super) until: Instant,
    /// All that can be committed is being committed.
    pub(super) committing: bool,
}

impl Reader<'_> {
    pub(super) fn revoked(&mut self, list: TopicPartitionList, lost: bool) -> Result<(), Error> {
        let revocation = Revocation {
            places: places(&list),
            list,
            until: Instant::now() + self.shared.settings.drain,
            committing: false,
        };
        if lost {
            return self.let_go(&revocation);
        }
        let before = self.shared.settings.commits == Commits::Before;
        let mut state = self.shared.lock();
        for place in &revocation.places {
            if let Some(partition) = state.partitions.get_mut(place) {
                partition.revoke(before);
            }
            // Not committed: its next owner reads it.
            self.unconfirmed.remove(place);
        }
        state.flush();
        drop(state);
        self.revocations.push(revocation);
        Ok(())
    }

    /// Lets go of what is settled and committed, or has waited long enough.
    pub(super) fn serve_revocations(&mut self) {
        let mut revocations = std::mem::take(&mut self.revocations);
        revocations.retain_mut(|revocation| match self.poll_revocation(revocation) {
            Ok(over) => !over,
            Err(error) => {
                self.shared.lock().fail(error);
                false
            }
        });
        self.revocations.append(&mut revocations);
    }

    pub(super) fn poll_revocation(&mut self, revocation: &mut Revocation) -> Result<bool, Error> {
        let mut over = self.consumer.assignment_lost();
        if !over && !revocation.committing {
            let mut state = self.shared.lock();
            let mut partitions = revocation
                .places
                .iter()
                .filter_map(|place| state.partitions.get(place));
            let confirms = |place| self.confirming.contains_key(place);
            let is_quiet =
                partitions.all(Partition::is_quiet) && !revocation.places.iter().any(confirms);
            let late = Instant::now() >= revocation.until;
            if !is_quiet && !late && !state.stopping {
                return Ok(false);
            }
            state.counts.drained_late += u64::from(!is_quiet);
            drop(state);
            // One that is under way might be of a time before the last of them was settled.
            revocation.committing = !self.committer.is_busy() && self.commit_now();
            over = !revocation.committing && !self.committer.is_busy();
        }
        if revocation.committing && !self.committer.is_busy() {
            // A commit that was refused says nothing of the next: the group may have been changing.
            revocation.committing = false;
            over |= self.committer.came_through() || Instant::now() >= revocation.until;
        }
        if over {
            self.let_go(revocation)?;
        }
        Ok(over)
    }

    pub(super) fn let_go(&mut self, revocation: &Revocation) -> Result<(), Error> {
        let mut state = self.shared.lock();
        for place in &revocation.places {
            if let Some(partition) = state.partitions.get_mut(place) {
                partition.lose();
            }
        }
        state.counts.rebalances += 1;
        state.wake();
        drop(state);
        let gone = unassign(&self.consumer, &revocation.list);
        for place in &revocation.places {
            self.intakes.remove(place);
        }
        // Of what is lost already the client need not be told.
        match gone {
            Err(error) if !self.consumer.assignment_lost() => Err(error.into()),
            _ => Ok(()),
        }
    }
}
