//! `map_parallel`: a closure that runs on several lanes at once, results in order.
//!
//! Lanes are tasks of the run. Batches of values go to whichever lane is free; what belongs to the
//! elements stays here in columns, so that a batch costs two hand-offs and no reference counts.

use std::collections::VecDeque;
use std::sync::Arc;

use async_channel::{Receiver, Sender};

use super::{Context, Control, Demand, Fill, Held, Input, Operator, guard};
use crate::chunk::{Chunk, Columns, Element, Queue};
use crate::error::Stop;
use crate::mark::Mark;
use crate::outcome::{Outcome, Reason};
use crate::position::SourceId;
use crate::sync::{AtomicBool, AtomicWaker, Mutex, Ordering, lock};

/// The most elements that go to a lane at once.
pub(crate) const BATCH: usize = 32;

/// The most lanes: each is a task, and many more than cores bring nothing.
pub(crate) const MOST_LANES: usize = 1024;

/// Batches inside for each lane: one that runs and one that waits, so that no lane is idle while
/// results are handed on.
pub(crate) const BATCHES_A_LANE: usize = 2;

/// What lanes hand back: the number of the batch, and a value for each of its elements but those
/// the closure panicked on.
type Results<U> = (u64, Vec<Option<U>>);

struct Shared<U> {
    results: Mutex<Vec<Results<U>>>,
    waker: AtomicWaker,
    cancelled: AtomicBool,
}

/// A batch of values on its way to a lane.
struct Job<T> {
    number: u64,
    values: Vec<T>,
}

/// A batch that is inside.
struct Batch<U> {
    columns: Columns,
    /// The elements that were settled since, by place: their source went back.
    gone: Vec<bool>,
    values: Option<Vec<Option<U>>>,
}

pub(crate) struct MapParallel<T, U, F> {
    input: Input<T>,
    buf: Chunk<T>,
    f: Arc<F>,
    lanes: usize,
    /// Absent before the first element, and after the last.
    jobs: Option<Sender<Job<T>>>,
    shared: Arc<Shared<U>>,
    order: VecDeque<Batch<U>>,
    /// The number of the first batch.
    first: u64,
    ready: Queue<U>,
    mark: Option<Mark>,
    failed: Option<Stop>,
    done: bool,
}

async fn lane<T, U, F: Fn(T) -> U>(jobs: Receiver<Job<T>>, f: Arc<F>, shared: Arc<Shared<U>>) {
    while let Ok(Job { number, values }) = jobs.recv().await {
        let mut results = Vec::with_capacity(values.len());
        for value in values {
            if shared.cancelled.load(Ordering::Relaxed) {
                return;
            }
            results.push(guard(|| f(value)).ok());
        }
        lock(&shared.results).push((number, results));
        shared.waker.wake();
    }
}

impl<T, U, F> MapParallel<T, U, F>
where
    T: Send + 'static,
    U: Send + 'static,
    F: Fn(T) -> U + Send + Sync + 'static,
{
    pub(crate) fn new(input: Input<T>, lanes: usize, f: F) -> MapParallel<T, U, F> {
        MapParallel {
            input,
            buf: Chunk::default(),
            f: Arc::new(f),
            lanes: lanes.clamp(1, MOST_LANES),
            jobs: None,
            shared: Arc::new(Shared {
                results: Mutex::new(Vec::new()),
                waker: AtomicWaker::new(),
                cancelled: AtomicBool::new(false),
            }),
            order: VecDeque::new(),
            first: 0,
            ready: Queue::default(),
            mark: None,
            failed: None,
            done: false,
        }
    }

    fn inside(&self) -> usize {
        let batches: usize = self.order.iter().map(|batch| batch.columns.len()).sum();
        batches + self.ready.len()
    }

    /// Takes what the lanes have handed back.
    fn collect(&mut self) {
        let results = std::mem::take(&mut *lock(&self.shared.results));
        for (number, values) in results {
            let index = number.wrapping_sub(self.first) as usize;
            if let Some(batch) = self.order.get_mut(index) {
                batch.values = Some(values);
            }
        }
    }

    /// Makes the first batch ready once it is done and the one before it has gone.
    fn advance(&mut self, cx: &mut Context<'_, '_>) {
        while self.ready.is_empty() {
            let Some(values) = self.order.front_mut().and_then(|batch| batch.values.take()) else {
                return;
            };
            let Some(mut batch) = self.order.pop_front() else {
                return;
            };
            self.first += 1;
            for (place, value) in values.into_iter().enumerate() {
                if batch.gone.get(place).copied().unwrap_or(false) {
                    continue;
                }
                let meta = batch.columns.pop().unwrap_or_default();
                match value {
                    Some(value) => self.ready.push(Element { value, meta }),
                    None => cx.settle(meta, Outcome::Failed(Reason::Panicked)),
                }
            }
        }
    }

    /// Gives the elements of `buf` to a lane.
    fn send(&mut self, cx: &mut Context<'_, '_>) {
        if self.buf.is_empty() {
            return;
        }
        if self.jobs.is_none() {
            let (jobs, receiver) = async_channel::bounded(self.lanes * BATCHES_A_LANE);
            for index in 0..self.lanes {
                let (receiver, f) = (receiver.clone(), Arc::clone(&self.f));
                let shared = Arc::clone(&self.shared);
                cx.spawn(&format!("lane {index}"), lane(receiver, f, shared));
            }
            self.jobs = Some(jobs);
        }
        let number = self.first + self.order.len() as u64;
        let values = std::mem::take(&mut self.buf.values);
        let columns = std::mem::take(&mut self.buf.columns);
        // There is room: no more batches are inside than the channel has places.
        // Should the lanes be gone, the run is ending, and the columns are settled by that.
        if let Some(jobs) = &self.jobs {
            let _ = jobs.try_send(Job { number, values });
        }
        self.order.push_back(Batch {
            columns,
            gone: Vec::new(),
            values: None,
        });
    }

    fn rewind(&mut self, cx: &mut Context<'_, '_>, source: SourceId) {
        let rewound = Outcome::Cancelled(Reason::Rewound);
        let mut ready = self
            .ready
            .extract(|element| element.meta.receipt.is_of(source));
        cx.settle_chunk(&mut ready, rewound);
        for batch in &mut self.order {
            let mut kept = Columns::default();
            if batch.gone.is_empty() {
                batch.gone = vec![false; batch.columns.len()];
            }
            for gone in batch.gone.iter_mut().filter(|gone| !**gone) {
                let meta = batch.columns.pop().unwrap_or_default();
                *gone = meta.receipt.is_of(source);
                if *gone {
                    cx.settle(meta, rewound);
                } else {
                    kept.push(meta);
                }
            }
            batch.columns = kept;
        }
    }

    /// Takes in a batch, if there is room. True if there may be more at once.
    fn pull(&mut self, cx: &mut Context<'_, '_>) -> bool {
        let full = self.order.len() >= self.lanes * BATCHES_A_LANE;
        if self.done || self.mark.is_some() {
            return false;
        }
        // Without room it asks for nothing: what the stages before have in flight goes on.
        let room = if full { 0 } else { BATCH };
        let fill = self.input.fill(cx, &mut self.buf, Demand::items(room));
        self.send(cx);
        match fill {
            Ok(Fill::More) => return true,
            Ok(Fill::Pending) => {}
            Ok(Fill::Done) => self.done = true,
            Ok(Fill::Mark(mark)) => {
                if let Mark::Rewind(source, _) = mark {
                    self.rewind(cx, source);
                }
                self.mark = Some(mark);
            }
            Err(stop) => {
                self.failed = Some(stop);
                self.done = true;
            }
        }
        false
    }

    /// The mark that may be handed on now.
    fn take_mark(&mut self) -> Option<Mark> {
        let empty = self.inside() == 0;
        self.mark
            .take_if(|mark| empty || matches!(mark, Mark::Rewind(..)))
    }
}

impl<T, U, F> Operator<U> for MapParallel<T, U, F>
where
    T: Send + 'static,
    U: Send + 'static,
    F: Fn(T) -> U + Send + Sync + 'static,
{
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<U>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        self.shared.waker.register(cx.waker());
        loop {
            self.collect();
            self.advance(cx);
            if !want.is_none() && self.ready.take(want, out) > 0 {
                return Ok(Fill::More);
            }
            if let Some(mark) = self.take_mark() {
                return Ok(Fill::Mark(mark));
            }
            if self.done && self.inside() == 0 {
                self.jobs = None;
                return self.failed.take().map_or(Ok(Fill::Done), Err);
            }
            let was = (self.mark.is_some(), self.done);
            if !self.pull(cx) && was == (self.mark.is_some(), self.done) {
                return Ok(Fill::Pending);
            }
        }
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        if signal == Control::Cancel {
            let outcome = cx.leftover();
            self.shared.cancelled.store(true, Ordering::Relaxed);
            self.jobs = None;
            for mut batch in std::mem::take(&mut self.order) {
                cx.settle_columns(&mut batch.columns, outcome);
            }
            cx.settle_chunk(&mut self.ready.take_all(), outcome);
            self.mark = None;
            self.done = true;
        }
        self.input.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held::items(self.inside())
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> std::task::Poll<Result<(), Stop>> {
        self.input.poll_close(cx)
    }
}
