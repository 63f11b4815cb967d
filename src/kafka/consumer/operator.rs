//! The stage of a consumer: it hands over what the thread took, and answers for it.

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::ptr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rdkafka::consumer::{Consumer, ConsumerGroupMetadata};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use super::partition::{Due, Partition};
use super::settings::Commits;
use super::shared::{Shared, State};
use super::thread;
use crate::chunk::{Chunk, Originals};
use crate::error::{Cause, Stop};
use crate::flow::Accounts;
use crate::kafka::ffi::is_member;
use crate::kafka::record::{Batch, Record, TopicPartition};
use crate::mark::{Barrier, CommitToken, Mark};
use crate::operator::{Answer, Context, Control, Demand, Fill, Held, Operator};
use crate::position::{Epoch, Generation, Tracker, Unresolved};
use crate::sync::lock;
use crate::time::{self, Sleep};

/// When a barrier follows one that was not committed.
const BARRIER_AGAIN: Duration = Duration::from_secs(1);
/// How often it goes back to the same record; the next time it stops.
const REWINDS: u32 = 2;

pub(super) struct ConsumerStage {
    shared: Arc<Shared>,
    /// Which of the consumer's flows it begins.
    lane: usize,
    accounts: Accounts,
    started: bool,
    marks: VecDeque<Mark>,
    /// When the next barrier is due.
    due: Option<Pin<Box<Sleep>>>,
    /// The ends of the last barrier's sequences, until they are settled: only then does the time to
    /// the next begin, so that slow commits make larger transactions.
    last_ends: Vec<(TopicPartition, u64)>,
    /// Records since the last barrier.
    since_barrier: usize,
    epoch: u64,
    generation: u64,
    /// Going back: the partitions that have.
    going_back: Option<BTreeSet<TopicPartition>>,
    /// The record for which it went back last, and how often.
    rewinds: Option<(TopicPartition, u64, u32)>,
    draining: bool,
    paused: bool,
    /// The partition that had its turn last.
    last: Option<TopicPartition>,
    /// When the next record is due that says when.
    next_due: Option<Pin<Box<Sleep>>>,
}

/// The positions of a barrier, and whose they are.
pub(in crate::kafka) struct Positions {
    shared: Arc<Shared>,
    next: Vec<(TopicPartition, i64)>,
}

impl Positions {
    pub(in crate::kafka) fn offsets(&self) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (at, next) in &self.next {
            list.add_partition_offset(&at.topic, at.partition, Offset::Offset(*next))?;
        }
        Ok(list)
    }

    pub(in crate::kafka) fn next(&self) -> &[(TopicPartition, i64)] {
        &self.next
    }

    /// The group as it is now; none once the consumer has left it, or was expelled from it.
    ///
    /// Whoever was expelled has no name and no generation until it joins anew, which is after it let go of
    /// its partitions. A commit in a transaction that names neither is taken without a question asked: so
    /// the name is looked at after the rest, which is of the same time or of one before.
    pub(in crate::kafka) fn group(&self) -> Option<ConsumerGroupMetadata> {
        let consumer = lock(&self.shared.consumer).clone()?;
        let group = consumer.group_metadata()?;
        is_member(&consumer).then_some(group)
    }
}

impl ConsumerStage {
    pub(super) fn new(shared: Arc<Shared>, lane: usize, accounts: Accounts) -> ConsumerStage {
        if let Some(lane) = shared.lock().lanes.get_mut(lane) {
            lane.accounts = Some(accounts.clone());
        }
        ConsumerStage {
            shared,
            lane,
            accounts,
            started: false,
            marks: VecDeque::new(),
            due: None,
            last_ends: Vec::new(),
            since_barrier: 0,
            epoch: 0,
            generation: 0,
            going_back: None,
            rewinds: None,
            draining: false,
            paused: false,
            last: None,
            next_due: None,
        }
    }

    /// The first of the flows that is asked starts the thread.
    fn start(&mut self) -> Result<(), Stop> {
        if std::mem::replace(&mut self.started, true) {
            return Ok(());
        }
        if std::mem::replace(&mut self.shared.lock().started, true) {
            return Ok(());
        }
        thread::start(&self.shared).map_err(Stop::error)
    }

    fn stop(&self) {
        self.shared.lock().end_lane(self.lane);
    }

    /// Answers for what ended unresolved, as declared.
    fn answer(&mut self, partition: &Partition) -> Result<(), Stop> {
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
    fn poll_go_back(&mut self, cx: &mut Context<'_, '_>, state: &mut State) -> Poll<()> {
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

    /// The end of an epoch of all partitions.
    fn barrier(&mut self, state: &mut State) -> Mark {
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

    /// Whether a barrier is to be sent now.
    fn is_due(&mut self, cx: &mut Context<'_, '_>, state: &mut State) -> bool {
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

    /// Whether there is or may be something to hand over that is committed already: nobody would read it
    /// again.
    fn has_committed(&self, state: &State) -> bool {
        let before = self.shared.settings.commits == Commits::Before;
        before
            && (!state.is_confirmed
                || state
                    .held_by(self.lane)
                    .any(|partition| partition.queued() > 0))
    }

    /// After a drain was asked for: whether all that was handed over is settled, and the thread has
    /// committed that and ended.
    fn poll_finished(&self, cx: &mut Context<'_, '_>, state: &mut State) -> bool {
        // Also those that are being taken away: what is inside of them may still be settled.
        for partition in state.held_by(self.lane) {
            // Asking registers for progress; looking comes after, so that none is missed.
            let _ = partition.tracker.poll_quiet(cx.task());
            if !partition.is_quiet() {
                return false;
            }
        }
        state.end_lane(self.lane);
        state.may_end()
    }

    /// Has the task woken when the next record is due. Meanwhile its partition gives nothing; the others go
    /// on, and the client is polled.
    fn wait_until_due(&mut self, cx: &mut Context<'_, '_>, state: &State) {
        let Some(longest_ms) = self.shared.settings.until_due else {
            return;
        };
        let now = now_ms(cx);
        let waiting = state
            .held_by(self.lane)
            .filter(|partition| partition.gives());
        let due = waiting
            .filter_map(|partition| partition.due_ms(longest_ms))
            .filter(|due| *due > now);
        self.next_due = due.min().map(|due| {
            let wait_ms = u64::try_from(due - now).unwrap_or(0);
            Box::pin(time::sleep_until(cx.now() + Duration::from_millis(wait_ms)))
        });
        if let Some(sleep) = &mut self.next_due
            && sleep.as_mut().poll(cx.task()).is_ready()
        {
            cx.waker().wake_by_ref();
        }
    }

    /// Hands over what waits of one partition, in turn: a tracker numbers a whole chunk.
    fn hand_over(
        &mut self,
        cx: &mut Context<'_, '_>,
        state: &mut State,
        out: &mut Chunk<Record>,
        want: Demand,
    ) {
        let capacity = self.shared.settings.hand_over;
        let mut tried = BTreeSet::new();
        let due = self.shared.settings.until_due.map(|longest_ms| Due {
            now_ms: now_ms(cx),
            longest_ms,
        });
        let is_due = |partition: &Partition| {
            due.is_none_or(|due| {
                let first = partition.due_ms(due.longest_ms);
                first.is_none_or(|first| first <= due.now_ms)
            })
        };
        loop {
            let mut behind = state
                .partitions
                .iter()
                .filter(|(at, partition)| {
                    partition.lane == self.lane
                        && partition.gives()
                        && !tried.contains(*at)
                        && is_due(partition)
                })
                .map(|(at, _)| at);
            let next = match &self.last {
                Some(last) => {
                    let all: Vec<&TopicPartition> = behind.collect();
                    all.iter()
                        .find(|at| **at > last)
                        .or(all.first())
                        .map(|at| (**at).clone())
                }
                None => behind.next().cloned(),
            };
            let Some(next) = next else {
                return;
            };
            let Some(partition) = state.partitions.get_mut(&next) else {
                return;
            };
            let Poll::Ready(credit) = partition.tracker.poll_credit(cx.task()) else {
                tried.insert(next);
                continue;
            };
            let mut offsets = Vec::with_capacity(want.items.min(partition.queued()));
            let count = want.items.min(credit);
            partition.pop(count, want.bytes, due, |record| {
                offsets.push(record.offset());
                out.push_value(record);
            });
            if self.shared.settings.origin {
                out.columns.originate(&origins(&out.values));
            }
            out.columns.weigh(out.values.iter().map(Record::weight));
            self.since_barrier += offsets.len();
            partition.handed(cx.now(), offsets.len() as u64);
            // Under the lock: a revocation comes wholly before or wholly after.
            cx.track(out, &partition.tracker, offsets);
            if partition.is_short && partition.room(capacity) >= capacity.div_ceil(2) {
                partition.is_short = false;
                state.unpark();
            }
            self.last = Some(next);
            return;
        }
    }
}

/// Milliseconds since 1970.
fn now_ms(cx: &Context<'_, '_>) -> i64 {
    i64::try_from(time::since_1970(cx.now()).as_millis()).unwrap_or(i64::MAX)
}

/// The batches of these records, each with the places that follow one another in it.
fn origins<'a>(
    records: impl IntoIterator<Item = &'a Record>,
) -> Vec<(Arc<dyn Originals>, Range<u32>)> {
    let mut all: Vec<(Arc<dyn Originals>, Range<u32>)> = Vec::new();
    for record in records {
        let (batch, place) = record.origin();
        if let Some((last, places)) = all.last_mut()
            && places.end == place
            && ptr::addr_eq(Arc::as_ptr(last), Arc::as_ptr(batch))
        {
            places.end += 1;
            continue;
        }
        let batch: Arc<dyn Originals> = Arc::<Batch>::clone(batch);
        all.push((batch, place..place + 1));
    }
    all
}

impl Operator<Record> for ConsumerStage {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<Record>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        self.start()?;
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        state.register(self.lane, cx.waker());
        if let Some(error) = &state.error {
            return Err(Stop::error(error.clone()));
        }
        for partition in state.owned_by(self.lane) {
            partition.tracker.register(cx.task());
            self.answer(partition)?;
        }
        if self.poll_go_back(cx, &mut state).is_pending() {
            return Ok(Fill::Pending);
        }
        if let Some(mark) = self.marks.pop_front() {
            return Ok(Fill::Mark(mark));
        }
        if self.is_due(cx, &mut state) {
            return Ok(Fill::Mark(self.barrier(&mut state)));
        }
        if self.draining && !self.has_committed(&state) {
            let finished = self.poll_finished(cx, &mut state);
            return Ok(if finished { Fill::Done } else { Fill::Pending });
        }
        if want.is_none() || self.paused && !self.draining {
            return Ok(Fill::Pending);
        }
        self.hand_over(cx, &mut state, out, want);
        if out.is_empty() {
            self.wait_until_due(cx, &state);
            return Ok(Fill::Pending);
        }
        drop(state);
        out.columns.stamp(cx.now());
        Ok(Fill::More)
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        match signal {
            Control::Drain => {
                self.draining = true;
                self.shared.lock().drain(self.lane);
            }
            Control::Cancel => self.stop(),
            Control::Pause => self.paused = true,
            Control::Resume => self.paused = false,
            Control::RequestRewind => {
                self.going_back.get_or_insert_default();
            }
        }
        cx.waker().wake_by_ref();
    }

    fn held(&self) -> Held {
        Held::NONE
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        if !self.started {
            return Poll::Ready(Ok(()));
        }
        self.stop();
        let mut state = self.shared.lock();
        if state.may_end() {
            return Poll::Ready(Ok(()));
        }
        state.register(self.lane, cx.waker());
        Poll::Pending
    }
}

impl Drop for ConsumerStage {
    fn drop(&mut self) {
        if self.started {
            self.stop();
        }
    }
}
