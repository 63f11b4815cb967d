//! The writing side of a buffer on disk: a sink.
//!
//! One batch is written at a time; while it is, the next one gathers.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use super::error::DiskError;
use super::files::{Batch, Files, Wrote};
use super::format::{self, FILE_HEAD};
use super::shared::Shared;
use super::work::Work;
use super::{Settings, SyncPolicy};
use crate::chunk::{Chunk, Element, Meta};
use crate::error::{Cause, Stop};
use crate::mark::Mark;
use crate::operator::{Context, Control, Demand, Held, Sink, guard};
use crate::outcome::{Outcome, Reason};
use crate::time::{Sleep, sleep_until};

/// The most elements it holds: gathering, and being written.
pub(crate) const HOLDS: usize = 2048;

/// Gathering beyond so many bytes, it asks for no more.
const GATHERS_BYTES: u64 = 1 << 20;

/// An element as it will be written.
struct Packed {
    record: Vec<u8>,
    meta: Meta,
}

pub(crate) struct DiskSink<T, E> {
    shared: Arc<Shared>,
    settings: Settings,
    encode: E,
    gathered: VecDeque<Packed>,
    gathered_bytes: u64,
    /// Of the batch that is being written.
    writing: Vec<Meta>,
    /// Here while nothing is being written.
    files: Option<Files>,
    work: Option<Work<(Files, Result<Wrote, DiskError>)>>,
    /// Under [`SyncPolicy::Every`]: when what was written is to be synced.
    sync_at: Option<Sleep>,
    /// What is left to be synced is to be without waiting for its time.
    closing: bool,
    ended: bool,
    _values: std::marker::PhantomData<fn(T)>,
}

impl<T, E> DiskSink<T, E> {
    pub(super) fn new(
        shared: Arc<Shared>,
        settings: Settings,
        files: Files,
        encode: E,
    ) -> DiskSink<T, E> {
        DiskSink {
            shared,
            settings,
            encode,
            gathered: VecDeque::new(),
            gathered_bytes: 0,
            writing: Vec::new(),
            files: Some(files),
            work: None,
            sync_at: None,
            closing: false,
            ended: false,
            _values: std::marker::PhantomData,
        }
    }

    /// Takes what a writing came to, and starts the next. Ready when nothing is being written.
    fn drive(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        loop {
            if let Some(work) = &mut self.work {
                let done = std::task::ready!(work.poll(cx.task()));
                self.work = None;
                match done {
                    Ok((files, Ok(wrote))) => {
                        self.files = Some(files);
                        self.shared.wrote(wrote, self.writing.len());
                        for meta in self.writing.drain(..) {
                            cx.settle(meta, Outcome::Delivered);
                        }
                    }
                    Ok((_, Err(error))) => {
                        return Poll::Ready(Err(self.fail(cx, Stop::error(error))));
                    }
                    Err(stop) => return Poll::Ready(Err(self.fail(cx, stop))),
                }
            }
            let Some(batch) = self.next_batch(cx) else {
                return Poll::Ready(Ok(()));
            };
            let Some(mut files) = self.files.take() else {
                return Poll::Ready(Err(Stop::cause(Cause::Broken)));
            };
            self.work = Some(Work::start(move || {
                let result = files.write(batch);
                (files, result)
            }));
        }
    }

    /// What is to be written next, if anything: as much as there is room for.
    fn next_batch(&mut self, cx: &mut Context<'_, '_>) -> Option<Batch> {
        let sync = self.is_sync_due(cx);
        let mut batch = Batch {
            sync,
            ..Batch::default()
        };
        let mut bytes = 0;
        if !self.gathered.is_empty() {
            let mut state = self.shared.lock();
            let (items, used) = (state.items(), state.bytes());
            let room = self.settings.bytes.saturating_sub(used);
            let mut file = state.newest_bytes();
            while let Some(packed) = self.gathered.front() {
                let mut size = packed.record.len() as u64;
                if file == 0 || file + size > self.settings.segment_bytes() {
                    file = FILE_HEAD.len() as u64;
                    size += file;
                }
                if items + batch.records.len() as u64 >= self.settings.items {
                    break;
                }
                if bytes + size > room {
                    // Settled records fill the files, or it is larger than all of them may be.
                    if items > 0 || !batch.records.is_empty() {
                        Shared::want_room(&mut state);
                        break;
                    }
                    batch.anew = Some(state.settled().clone());
                }
                bytes += size;
                file += packed.record.len() as u64;
                let Some(Packed { record, meta }) = self.gathered.pop_front() else {
                    break;
                };
                self.gathered_bytes -= record.len() as u64;
                batch.records.push(record);
                self.writing.push(meta);
                if batch.anew.is_some() {
                    break;
                }
            }
        }
        if self.settings.refuses && !self.gathered.is_empty() {
            self.shared.refused(self.gathered.len());
            self.settle_gathered(cx, Outcome::Shed(Reason::NoRoom));
        }
        if batch.records.is_empty() && !sync {
            return None;
        }
        match self.settings.policy {
            SyncPolicy::Each => batch.sync = true,
            SyncPolicy::Every(_) if batch.sync => self.sync_at = None,
            SyncPolicy::Every(span) => {
                let at = cx.clock() + span;
                let timer = self.sync_at.get_or_insert_with(|| sleep_until(at));
                if Pin::new(timer).poll(cx.task()).is_ready() {
                    cx.waker().wake_by_ref();
                }
            }
            SyncPolicy::Os => {}
        }
        Some(batch)
    }

    fn is_sync_due(&mut self, cx: &mut Context<'_, '_>) -> bool {
        let closing = self.closing;
        self.sync_at
            .as_mut()
            .is_some_and(|timer| closing || Pin::new(timer).poll(cx.task()).is_ready())
    }

    /// The files cannot be written: nothing that is here counts as kept.
    fn fail(&mut self, cx: &mut Context<'_, '_>, stop: Stop) -> Stop {
        let outcome = Outcome::Failed(Reason::Error);
        for meta in self.writing.drain(..) {
            cx.settle(meta, outcome);
        }
        self.settle_gathered(cx, outcome);
        stop
    }

    fn settle_gathered(&mut self, cx: &mut Context<'_, '_>, outcome: Outcome) {
        for packed in self.gathered.drain(..) {
            cx.settle(packed.meta, outcome);
        }
        self.gathered_bytes = 0;
    }

    /// How many elements there is room for.
    fn room(&self, cx: &Context<'_, '_>) -> Result<usize, ()> {
        let mut state = self.shared.lock();
        if state.link.cancelled {
            return Err(());
        }
        state.link.producer.wait(cx.waker());
        if self.gathered_bytes >= GATHERS_BYTES {
            return Ok(0);
        }
        let gathers = (HOLDS / 2).saturating_sub(self.gathered.len());
        if self.settings.refuses {
            return Ok(gathers);
        }
        let items = state.items();
        let coming = (self.gathered.len() + self.writing.len()) as u64;
        let free = self.settings.items.saturating_sub(items + coming);
        let is_full = state.bytes() + self.gathered_bytes >= self.settings.bytes;
        if is_full && items + coming > 0 {
            Shared::want_room(&mut state);
            return Ok(0);
        }
        Ok(gathers.min(usize::try_from(free).unwrap_or(usize::MAX)))
    }

    fn end(&mut self, stop: Option<Stop>) {
        self.ended = true;
        self.shared.end(stop);
    }
}

impl<T, B, E> Sink<T> for DiskSink<T, E>
where
    T: Send + 'static,
    B: AsRef<[u8]>,
    E: FnMut(&T) -> B + Send + 'static,
{
    type Output = ();

    fn poll_ready(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        if let Poll::Ready(Err(stop)) = self.drive(cx) {
            return Poll::Ready(Err(stop));
        }
        match self.room(cx) {
            Err(()) => Poll::Ready(Ok(None)),
            Ok(0) => Poll::Pending,
            Ok(room) => Poll::Ready(Ok(Some(Demand::items(room)))),
        }
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<T>) {
        for Element { value, meta } in chunk.drain() {
            let encode = &mut self.encode;
            match guard(|| format::record(&meta, encode(&value).as_ref())) {
                Ok(Some(record)) => {
                    self.gathered_bytes += record.len() as u64;
                    self.gathered.push_back(Packed { record, meta });
                }
                Ok(None) => cx.settle(meta, Outcome::Failed(Reason::Limit)),
                Err(_) => cx.settle(meta, Outcome::Failed(Reason::Panicked)),
            }
        }
    }

    fn mark(&mut self, cx: &mut Context<'_, '_>, mark: &Mark) -> Poll<Result<(), Stop>> {
        match mark {
            // What is being written is kept; what is not comes again.
            Mark::Rewind(source, _) => {
                let mut kept = VecDeque::new();
                for packed in std::mem::take(&mut self.gathered) {
                    if packed.meta.receipt.is_of(*source) {
                        self.gathered_bytes -= packed.record.len() as u64;
                        cx.settle(packed.meta, Outcome::Cancelled(Reason::Rewound));
                    } else {
                        kept.push_back(packed);
                    }
                }
                self.gathered = kept;
                Poll::Ready(Ok(()))
            }
            Mark::Barrier(_) => {
                // Who makes room for what is gathered must find this task.
                let _ = self.room(cx);
                std::task::ready!(self.drive(cx))?;
                if self.gathered.is_empty() {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                }
            }
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        let left = self.room(cx).is_err();
        std::task::ready!(self.drive(cx))?;
        if !self.gathered.is_empty() {
            if !left {
                return Poll::Pending;
            }
            // Nobody will make room any more.
            let outcome = {
                let reason = self.shared.lock().link.cancelled_for;
                cx.cancelling(reason, |cx| cx.leftover())
            };
            self.settle_gathered(cx, outcome);
        }
        self.closing = true;
        std::task::ready!(self.drive(cx))?;
        self.end(None);
        Poll::Ready(Ok(()))
    }

    fn abandon(&mut self, cx: &mut Context<'_, '_>, stop: Option<&Stop>) {
        // What is being written may be kept or not: it is told as not kept, and comes again.
        let outcome = cx.leftover();
        for meta in self.writing.drain(..) {
            cx.settle(meta, outcome);
        }
        self.settle_gathered(cx, outcome);
        self.end(Some(stop.cloned().unwrap_or(Stop::cause(Cause::Broken))));
    }

    fn cancelled_for(&self) -> Option<Reason> {
        self.shared.lock().link.cancelled_for
    }

    fn take_control(&mut self) -> Option<Control> {
        self.shared.lock().link.take_control()
    }

    fn held(&self) -> Held {
        Held::items(self.gathered.len() + self.writing.len())
    }
}

impl<T, E> Drop for DiskSink<T, E> {
    fn drop(&mut self) {
        if !self.ended {
            self.end(Some(Stop::cause(Cause::Broken)));
        }
    }
}
