//! A window: which elements belong into it, and how a barrier ends it.

use std::task::Poll;

use super::TransactionalSink;
use crate::chunk::{Chunk, Meta};
use crate::error::Stop;
use crate::kafka::consumer::Positions;
use crate::kafka::record::TopicPartition;
use crate::kafka::transactions::lane::{Offsets, Order};
use crate::mark::{Barrier, Commit, CommitToken};
use crate::operator::Context;
use crate::position::SourceId;

/// Source, partition, and the offset of the next record.
pub(super) type Place = (SourceId, TopicPartition, i64);

/// What a barrier ends.
enum Window {
    /// Nothing came, and no position changed.
    Empty,
    Of(Offsets, Vec<Place>),
    /// Its consumer is no member of the group any more: others have the partitions, or will.
    Lost,
}

/// A window that is being committed.
pub(super) struct Closing {
    pub(super) lane: usize,
    /// While it lives the sources do not go back.
    pub(super) commit: Commit,
    pub(super) receipts: Chunk<()>,
    pub(super) places: Vec<Place>,
    pub(super) flushed: bool,
}

impl TransactionalSink {
    /// Whether all of them belong into the open window.
    pub(super) fn admits_all(&mut self, metas: &Chunk<()>) -> bool {
        let standings = metas.standings();
        self.known.extend(standings.iter().map(|at| at.source));
        metas.is_live() && !standings.iter().any(|at| self.awaited.contains(&at.source))
    }

    /// Whether an element belongs into the open window.
    pub(super) fn admits(&mut self, meta: &Meta) -> bool {
        let standings = meta.receipt.standings();
        self.known.extend(standings.iter().map(|at| at.source));
        let awaited = standings.iter().any(|at| self.awaited.contains(&at.source));
        if meta.receipt.is_live() && !awaited {
            return true;
        }
        // A part that is live will not come again by itself.
        self.poisoned |= standings
            .iter()
            .any(|at| at.live && !self.awaited.contains(&at.source));
        false
    }

    pub(super) fn poll_barrier(
        &mut self,
        cx: &mut Context<'_, '_>,
        barrier: &Barrier,
    ) -> Poll<Result<(), Stop>> {
        let sources = barrier.tokens().iter().map(CommitToken::source);
        self.known.extend(sources.clone());
        if sources.clone().any(|source| self.awaited.contains(&source)) {
            // A barrier of the time before. What the others' elements need is covered by the next.
            return Poll::Ready(Ok(()));
        }
        // One window is committed at a time, and a window is whole before it is committed.
        let may_commit = self
            .lanes
            .get(self.current)
            .is_some_and(|lane| lane.is_open);
        let undecided = self.closing.is_some() || self.aborting || self.poisoned;
        if undecided || !may_commit || !self.pending.is_empty() {
            return Poll::Pending;
        }
        let (offsets, places) = match self.positions(barrier)? {
            Window::Of(offsets, places) => (offsets, places),
            Window::Empty => return Poll::Ready(Ok(())),
            Window::Lost => return Poll::Ready(self.abort(cx)),
        };
        // A partition that was lost before the barrier is not covered by it: what it gave is dead.
        let live = |_: &Commit| self.open.is_empty() || self.open.is_live();
        let Some(commit) = barrier.begin().filter(live) else {
            return Poll::Ready(self.abort(cx));
        };
        let order = self.lanes[self.current].order(Order::Commit(offsets));
        order.map_err(Stop::error)?;
        self.closing = Some(Closing {
            lane: self.current,
            commit,
            receipts: std::mem::take(&mut self.open),
            places,
            flushed: false,
        });
        self.dirty = false;
        self.current = (self.current + 1) % self.lanes.len();
        Poll::Ready(Ok(()))
    }

    /// What the barrier commits.
    fn positions(&self, barrier: &Barrier) -> Result<Window, Stop> {
        let (mut offsets, mut places): (Offsets, Vec<Place>) = (Vec::new(), Vec::new());
        for token in barrier.tokens() {
            let Some(detail) = token.detail::<Positions>() else {
                return Err(Stop::error(
                    "a transaction commits positions of Kafka alone: the flow has another source",
                ));
            };
            let fresh: Vec<Place> = detail
                .next()
                .iter()
                .map(|(at, next)| (token.source(), at.clone(), *next))
                .filter(|(source, at, next)| {
                    self.committed.get(&(*source, at.clone())) != Some(next)
                })
                .collect();
            if fresh.is_empty() {
                continue;
            }
            // The group as it is before the positions are found valid: if the partitions are lost after
            // that, the broker refuses this generation of the group.
            let Some(group) = detail.group() else {
                return Ok(Window::Lost);
            };
            let list = detail.offsets().map_err(Stop::error)?;
            offsets.push((list, group));
            places.extend(fresh);
        }
        if self.open.is_empty() && places.is_empty() {
            return Ok(Window::Empty);
        }
        Ok(Window::Of(offsets, places))
    }
}
