//! The stage of a consumer: it hands over what the thread took, and answers for it.

mod answers;
mod barriers;
mod hand_over;
mod positions;

use std::collections::{BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use super::settings::Commits;
use super::shared::{Shared, State};
use super::thread;
use crate::chunk::Chunk;
use crate::error::Stop;
use crate::flow::Accounts;
use crate::kafka::record::{Record, TopicPartition};
use crate::mark::Mark;
use crate::operator::{Context, Control, Demand, Fill, Held, Operator};
use crate::time::Sleep;

pub(in crate::kafka) use positions::Positions;

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
