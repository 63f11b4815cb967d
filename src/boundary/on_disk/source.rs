//! The reading side of a buffer on disk: a source.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::oneshot;

use super::cursor::{Cursor, Entry};
use super::error::{Damage, Damaged, DiskError};
use super::format;
use super::keeper::{Keeper, note};
use super::place::Segment;
use super::settled::{DiskPosition, Settled};
use super::shared::Shared;
use super::work::Work;
use super::{Settings, Stored, SyncPolicy};
use crate::chunk::{Chunk, Element, Meta};
use crate::error::Stop;
use crate::operator::{Context, Control, Demand, Fill, Source};
use crate::position::Tracker;

/// So many records, and about so many bytes, are read at once.
const BLOCK_RECORDS: usize = 256;
const BLOCK_BYTES: u64 = 256 << 10;

type Reading = Result<(Cursor, Vec<Entry>), DiskError>;

pub(crate) struct DiskSource {
    shared: Arc<Shared>,
    settings: Settings,
    /// What was settled in an earlier run.
    recovered: Settled,
    /// Where to read on.
    at: DiskPosition,
    cursor: Option<Cursor>,
    work: Option<Work<Reading>>,
    block: VecDeque<(DiskPosition, Element<Stored>)>,
    tracker: Option<Tracker<DiskPosition>>,
    /// Dropped at the end of the source: the keeper then goes on until all is settled.
    keeping: Option<oneshot::Sender<()>>,
    closed: bool,
}

impl DiskSource {
    pub(super) fn new(shared: Arc<Shared>, settings: Settings, recovered: Settled) -> DiskSource {
        DiskSource {
            shared,
            settings,
            at: recovered.base,
            recovered,
            cursor: None,
            work: None,
            block: VecDeque::new(),
            tracker: None,
            keeping: None,
            closed: false,
        }
    }

    /// What has to be there before the first element, and what is settled by now.
    fn prepare(&mut self, cx: &Context<'_, '_>) -> Result<(), Stop> {
        let Some(tracker) = &self.tracker else {
            return Err(Stop::error(DiskError::Untracked));
        };
        if self.keeping.is_none() {
            let (alive, ended) = oneshot::channel();
            self.keeping = Some(alive);
            let keeper = Keeper::new(
                Arc::clone(&self.shared),
                tracker.clone(),
                self.settings.policy != SyncPolicy::Os,
                cx.stop_run(),
            );
            cx.spawn("keep the buffer on disk", keeper.run(ended));
        }
        if let Some(base) = tracker.settled().position {
            self.shared.settle(base, None);
        }
        Ok(())
    }

    /// Is woken when more is settled, though there is nothing to hand over: somebody may wait for room.
    fn watch(&self, cx: &mut Context<'_, '_>) {
        if let Some(tracker) = &self.tracker {
            tracker.watch(cx.task());
            note(&self.shared, tracker);
        }
    }

    /// The file to read on in, and whether it is another one than before. Ready with none at the
    /// end; pending until more is written.
    fn poll_segment(
        &mut self,
        cx: &mut Context<'_, '_>,
    ) -> Poll<Result<Option<(Segment, bool)>, Stop>> {
        let mut state = self.shared.lock();
        if let Some(stop) = state.link.stop.take() {
            return Poll::Ready(Err(stop));
        }
        let (first, offset) = (self.at.segment, self.at.end);
        let is_new = self.cursor.is_none();
        if let Some(segment) = Shared::segment(&state, first, false)
            && segment.len > offset
        {
            return Poll::Ready(Ok(Some((segment, is_new))));
        }
        if let Some(segment) = Shared::segment(&state, first, true) {
            return Poll::Ready(Ok(Some((segment, true))));
        }
        if state.link.done {
            return Poll::Ready(Ok(None));
        }
        state.link.consumer.wait(cx.waker());
        Poll::Pending
    }

    /// Reads the next block. Ready with false at the end.
    fn poll_block(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<bool, Stop>> {
        loop {
            if let Some(work) = &mut self.work {
                let done = std::task::ready!(work.poll(cx.task()));
                self.work = None;
                let (cursor, entries) = done?.map_err(Stop::error)?;
                self.at = cursor.position();
                self.cursor = Some(cursor);
                let element = |entry: Entry| (entry.position(), self.element(entry));
                self.block = entries.into_iter().map(element).collect();
                if !self.block.is_empty() {
                    return Poll::Ready(Ok(true));
                }
            }
            let next = std::task::ready!(self.poll_segment(cx))?;
            let Some((segment, is_new)) = next else {
                return Poll::Ready(Ok(false));
            };
            let (from, expected) = if segment.first == self.at.segment {
                (self.at.end, self.at.next)
            } else {
                (0, self.at.next)
            };
            self.at.segment = segment.first;
            self.at.end = from;
            let cursor = self.cursor.take().filter(|_| !is_new);
            self.work = Some(Work::start(move || {
                let mut cursor = match cursor {
                    Some(mut cursor) => {
                        cursor.reach(segment);
                        cursor
                    }
                    None => Cursor::open(segment, from, expected)?,
                };
                let entries = cursor.read(BLOCK_RECORDS, BLOCK_BYTES)?;
                Ok((cursor, entries))
            }));
        }
    }

    /// Hands over records of the block within the demand; says whether to go on with the next block.
    fn hand_over(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<Stored>,
        positions: &mut Vec<DiskPosition>,
        want: Demand,
    ) -> Option<Fill> {
        let tracker = self.tracker.clone()?;
        let mut bytes = out.bytes();
        let mut room = want.items.min(tracker.credit());
        while let Some((position, element)) = self.block.front() {
            let (position, weight) = (*position, element.meta.bytes);
            if self.recovered.covers(position.number) && position.next > position.number {
                // What was settled in an earlier run must be numbered before what follows it.
                if !out.is_empty() {
                    return Some(Fill::More);
                }
                if tracker.poll_credit(cx.task()).is_pending() {
                    return Some(Fill::Pending);
                }
                tracker.skip([position]);
                self.block.pop_front();
                room = want.items.min(tracker.credit());
                continue;
            }
            let is_full = out.len() >= room || (!out.is_empty() && bytes + weight > want.bytes);
            if is_full {
                if !out.is_empty() {
                    return Some(Fill::More);
                }
                // What was skipped took the places of the window.
                let Poll::Ready(credit) = tracker.poll_credit(cx.task()) else {
                    return Some(Fill::Pending);
                };
                room = want.items.min(credit);
                continue;
            }
            let (position, element) = self.block.pop_front()?;
            out.push(element);
            positions.push(position);
            bytes += weight;
        }
        None
    }

    /// The element of an entry.
    fn element(&self, entry: Entry) -> Element<Stored> {
        let number = entry.position().number;
        let (position, offset, what, raw) = match entry {
            Entry::Record {
                position,
                offset,
                body,
            } => match format::open(body.clone()) {
                Some((meta, bytes)) => {
                    let value = Stored {
                        number,
                        bytes,
                        damaged: None,
                    };
                    return Element { value, meta };
                }
                None => (position, offset, Damage::Content, body),
            },
            Entry::Damaged {
                position,
                offset,
                what,
                raw,
            } => (position, offset, what, raw),
        };
        let path = self.shared.path(position.segment);
        let damaged = Damaged {
            file: path,
            offset,
            bytes: position.end.saturating_sub(offset),
            records: position.next.saturating_sub(position.number),
            what,
        };
        tracing::error!(%damaged, "records of a buffer on disk are damaged");
        self.shared.damaged(damaged.records, damaged.bytes);
        Element {
            value: Stored {
                number,
                bytes: raw,
                damaged: Some(damaged),
            },
            meta: Meta::default(),
        }
    }

    fn close(&mut self) {
        self.keeping = None;
        self.block.clear();
    }
}

impl Source<Stored> for DiskSource {
    type Position = DiskPosition;

    fn start(&mut self, tracker: &Tracker<DiskPosition>) {
        self.tracker = Some(tracker.clone());
    }

    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<Stored>,
        positions: &mut Vec<DiskPosition>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        self.prepare(cx)?;
        loop {
            if let Some(fill) = self.hand_over(cx, out, positions, want) {
                return Ok(fill);
            }
            if out.len() >= want.items {
                return Ok(Fill::More);
            }
            match self.poll_block(cx) {
                Poll::Pending => {
                    self.watch(cx);
                    return Ok(Fill::Pending);
                }
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => return Ok(Fill::Done),
                Poll::Ready(Err(stop)) => return Err(stop),
            }
        }
    }

    fn poll_failure(&mut self, cx: &mut Context<'_, '_>) -> Poll<Stop> {
        self.watch(cx);
        let mut state = self.shared.lock();
        if let Some(stop) = state.link.stop.take() {
            return Poll::Ready(stop);
        }
        state.link.consumer.wait(cx.waker());
        Poll::Pending
    }

    fn rewinds(&self) -> bool {
        true
    }

    fn rewind(&mut self, _: &mut Context<'_, '_>, to: Option<&DiskPosition>) -> Result<(), Stop> {
        self.block.clear();
        self.work = None;
        self.cursor = None;
        self.at = to.copied().unwrap_or(self.recovered.base);
        Ok(())
    }

    fn lingers(&self) -> bool {
        !self.settings.keeps_on_drain
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        match signal {
            Control::Cancel => {
                self.close();
                self.shared.cancel(cx.cancelled_for());
            }
            // A pause is no reason to slow down what comes before: it is buffered.
            Control::Drain => self.shared.send(signal),
            _ => {}
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.close();
        if let Some(work) = &mut self.work {
            let _ = std::task::ready!(work.poll(cx.task()));
            self.work = None;
        }
        self.cursor = None;
        self.closed = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for DiskSource {
    /// Once it is closed, what comes before may go on: what is written is for the next run.
    fn drop(&mut self) {
        if !self.closed {
            self.shared.cancel(None);
        }
    }
}
