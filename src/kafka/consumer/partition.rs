//! A partition as its consumer sees it: what waits to be handed over, how far it is settled, and what
//! may be committed. No I/O, and no clock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::kafka::dead_letters;
use crate::kafka::record::{Record, TopicPartition};
use crate::position::{Settled, Tracker};
use crate::time::Time;

/// A partition this consumer has, or once had: its tracker is kept, and numbers on when it comes back.
pub(super) struct Partition {
    pub(super) at: Arc<TopicPartition>,
    /// The flow it is dealt to.
    pub(super) lane: usize,
    pub(super) tracker: Tracker<i64>,
    pub(super) phase: Phase,
    /// Records taken and not handed over, by the batch.
    batches: VecDeque<std::vec::IntoIter<Record>>,
    queued: usize,
    /// The reading thread left records where they were, because there was no room.
    pub(super) is_short: bool,
    /// Where to read on; until the client is there, what comes is of the time before.
    pub(super) seek: Option<i64>,
    /// Where a user wants to read it again from.
    pub(super) replay_from: Option<i64>,
    /// The first offset received since it was assigned.
    first: Option<i64>,
    /// Where it is read on from, if that is what its group had committed.
    begun: Option<i64>,
    /// How far the tracker had come when it was assigned: what lies before was another owner's.
    assigned_at: u64,
    /// How far it was settled at the last commit, and the offset that was committed.
    committed: (u64, Option<i64>),
    /// What was handed over and when: up to which number. One entry a chunk, at most one each
    /// [`GRAIN`] of time.
    handed: VecDeque<(u64, Time)>,
}

/// When a record is due that was put aside to be tried again: no later than so long after it was written,
/// or a wrong header would hold up its partition for ever.
fn due_ms(record: &Record, longest_ms: i64) -> Option<i64> {
    let due = dead_letters::due_ms(record)?;
    let written = record.timestamp().millis();
    Some(written.map_or(due, |written| due.min(written.saturating_add(longest_ms))))
}

/// The time, where records are handed over when they are due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) now_ms: i64,
    pub(super) longest_ms: i64,
}

impl Due {
    /// Whether that record is to be handed over.
    fn takes(self, record: &Record) -> bool {
        due_ms(record, self.longest_ms).is_none_or(|due| due <= self.now_ms)
    }
}

/// How exactly the age of what is unsettled is known.
const GRAIN: Duration = Duration::from_millis(10);

/// Whose it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    Owned,
    /// It is being taken away: nothing more is handed over, what is inside may still be settled.
    Revoking,
    /// Somebody else's.
    Lost,
}

/// What is asked for.
struct Room {
    items: usize,
    bytes: u64,
    /// Nothing was taken yet.
    is_whole: bool,
}

impl Room {
    /// Whether one more of that weight is wanted. An element may exceed the bytes only as the first.
    fn takes(&mut self, weight: u64) -> bool {
        let fits = self.is_whole || weight <= self.bytes;
        if self.items == 0 || !fits {
            return false;
        }
        self.is_whole = false;
        self.items -= 1;
        self.bytes = self.bytes.saturating_sub(weight);
        true
    }
}

/// An offset to commit, and the number up to which it speaks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Position {
    pub(super) at: Arc<TopicPartition>,
    /// None where it is committed before its records are numbered.
    pub(super) sequence: Option<u64>,
    /// The next record to read.
    pub(super) next: i64,
}

impl Partition {
    pub(super) fn new(at: Arc<TopicPartition>, lane: usize, tracker: Tracker<i64>) -> Partition {
        let mut partition = Partition {
            at,
            lane,
            tracker,
            phase: Phase::Lost,
            batches: VecDeque::new(),
            queued: 0,
            is_short: false,
            seek: None,
            replay_from: None,
            first: None,
            begun: None,
            assigned_at: 0,
            committed: (0, None),
            handed: VecDeque::new(),
        };
        partition.assign();
        partition
    }

    /// It is ours, from whatever position the client reads it.
    pub(super) fn assign(&mut self) {
        let settled = self.tracker.settled().sequence;
        self.forget_queued();
        self.phase = Phase::Owned;
        self.seek = None;
        self.first = None;
        self.begun = None;
        self.assigned_at = settled;
        self.committed = (settled, None);
    }

    /// It is about to be somebody else's: nothing more is handed over, but for what is committed, which
    /// nobody else will read.
    pub(super) fn revoke(&mut self, is_committed: bool) {
        if !is_committed {
            self.forget_queued();
        }
        self.seek = None;
        self.phase = Phase::Revoking;
    }

    /// It is somebody else's: settling what is still inside changes nothing from here on.
    pub(super) fn lose(&mut self) {
        self.forget_queued();
        self.handed.clear();
        self.phase = Phase::Lost;
        let _ = self.tracker.rewind();
    }

    pub(super) fn is_owned(&self) -> bool {
        self.phase == Phase::Owned
    }

    /// Whether something may be inside of it that can still be settled.
    pub(super) fn is_held(&self) -> bool {
        self.phase != Phase::Lost
    }

    /// Whether records may be taken from the client: it is ours, and where it should be.
    pub(super) fn takes(&self) -> bool {
        self.is_owned() && self.seek.is_none()
    }

    /// Whether records wait that may be handed over: what waits in one that is being taken away is
    /// committed.
    pub(super) fn gives(&self) -> bool {
        self.queued > 0 && self.seek.is_none() && self.phase != Phase::Lost
    }

    /// How many more records may wait.
    pub(super) fn room(&self, capacity: usize) -> usize {
        capacity.saturating_sub(self.queued)
    }

    /// When the first of the records that wait is due, if it says so: milliseconds since 1970.
    pub(super) fn due_ms(&self, longest_ms: i64) -> Option<i64> {
        let first = self
            .batches
            .iter()
            .find_map(|batch| batch.as_slice().first())?;
        due_ms(first, longest_ms)
    }

    /// Records that came. They are dropped if the partition went elsewhere meanwhile, unless they are
    /// committed.
    pub(super) fn push(&mut self, records: Vec<Record>, are_committed: bool) {
        let takes = self.takes() || are_committed && self.phase == Phase::Revoking;
        if !takes {
            return;
        }
        let Some(first) = records.first() else {
            return;
        };
        self.first.get_or_insert(first.offset());
        self.queued += records.len();
        self.batches.push_back(records.into_iter());
    }

    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Hands over at most so many records of so many bytes; the first in any case. None from the first on
    /// that is not due, if a time is given.
    pub(super) fn pop(
        &mut self,
        count: usize,
        bytes: u64,
        due: Option<Due>,
        mut each: impl FnMut(Record),
    ) {
        let mut room = Room {
            items: count.min(self.queued),
            bytes,
            is_whole: true,
        };
        while let Some(batch) = self.batches.front_mut() {
            while let Some(record) = batch.as_slice().first() {
                if due.is_some_and(|due| !due.takes(record)) || !room.takes(record.weight()) {
                    return;
                }
                self.queued -= 1;
                batch.next().map(&mut each);
            }
            self.batches.pop_front();
        }
    }

    /// Goes back behind what is settled, or to where it was assigned if nothing of this time is; or to
    /// where a user wants to read it again from.
    pub(super) fn go_back(&mut self, settled: &Settled<i64>) {
        self.forget_queued();
        self.handed.clear();
        if !self.is_owned() {
            // Its next owner reads on.
            return;
        }
        if let Some(from) = self.replay_from.take() {
            self.seek = Some(from);
            self.first = Some(from);
            self.begun = None;
            self.assigned_at = settled.sequence;
            // What is settled of it is committed anew, though the offset is an older one.
            self.committed = (settled.sequence, None);
            return;
        }
        let own = settled
            .position
            .filter(|_| settled.sequence > self.assigned_at);
        self.seek = own.map(|last| last + 1).or(self.first);
    }

    /// What to commit, if more is settled than was committed: the first record that is not settled,
    /// else the one behind the last. Never an offset that was not seen: where compaction or markers of
    /// transactions left gaps, nothing is known of what lies in them.
    pub(super) fn to_commit(&self) -> Option<Position> {
        let settled = self.tracker.settled();
        if settled.sequence <= self.committed.0 {
            return None;
        }
        let outstanding = self.tracker.position_of(settled.sequence);
        let next = outstanding.or(settled.position.map(|last| last + 1))?;
        Some(Position {
            at: Arc::clone(&self.at),
            sequence: Some(settled.sequence),
            next,
        })
    }

    /// That was committed.
    pub(super) fn committed(&mut self, position: &Position) {
        let sequence = position.sequence.unwrap_or(self.committed.0);
        // A commit that was under way when the partition left and came back is of the time before.
        if position.sequence.is_none() || sequence > self.committed.0 {
            self.committed = (sequence, Some(position.next));
        }
    }

    /// What its group had committed when it was assigned, which is where it is read on from if `begins`.
    pub(super) fn was_committed(&mut self, next: i64, begins: bool) {
        self.committed.1.get_or_insert(next);
        self.begun = begins.then_some(next);
    }

    /// Settled records that are not committed.
    pub(super) fn uncommitted(&self) -> u64 {
        self.tracker
            .settled()
            .sequence
            .saturating_sub(self.committed.0)
    }

    /// Whether it has handed over anything since it was assigned that a commit can speak for.
    pub(super) fn has_own(&self, sequence: u64) -> bool {
        sequence > self.assigned_at
    }

    /// Whether all that is to be handed over was, and is settled.
    pub(super) fn is_quiet(&self) -> bool {
        if self.phase == Phase::Revoking && self.queued > 0 {
            return false;
        }
        let settled = self.tracker.settled().sequence;
        self.tracker.position_of(settled).is_none()
    }

    /// So many records were handed over.
    pub(super) fn handed(&mut self, now: Time, count: u64) {
        let settled = self.tracker.settled().sequence;
        let end = settled + self.tracker.outstanding() + count;
        while self.handed.front().is_some_and(|(end, _)| *end <= settled) {
            self.handed.pop_front();
        }
        match self.handed.back_mut() {
            // The older of both times stands: an age is never told too small.
            Some((last, since)) if now.since(*since) < GRAIN => *last = end,
            _ => self.handed.push_back((end, now)),
        }
    }

    /// How long the oldest record that is not settled has been inside.
    pub(super) fn oldest_age(&self, now: Time) -> Option<Duration> {
        let settled = self.tracker.settled().sequence;
        let oldest = self.handed.iter().find(|(end, _)| *end > settled);
        let outstanding = self.tracker.outstanding() > 0;
        oldest
            .filter(|_| outstanding)
            .map(|(_, since)| now.since(*since))
    }

    /// The first record that is not settled, or the one behind the last.
    pub(super) fn next_unsettled(&self) -> Option<i64> {
        let settled = self.tracker.settled();
        let own = settled.position.filter(|_| self.has_own(settled.sequence));
        let outstanding = self.tracker.position_of(settled.sequence);
        outstanding
            .or(own.map(|last| last + 1))
            .or(self.first)
            .or(self.begun)
    }

    pub(super) fn last_committed(&self) -> Option<i64> {
        self.committed.1
    }

    fn forget_queued(&mut self) {
        self.batches.clear();
        self.queued = 0;
    }
}
