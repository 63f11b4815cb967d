//! `map_async`: a future for each element, results in order.

use std::collections::VecDeque;
use std::future::Future;

use super::in_flight::InFlight;
use super::{Context, Control, Demand, Fill, Held, Input, Operator, guard};
use crate::chunk::{Chunk, Element, Meta};
use crate::error::Stop;
use crate::mark::Mark;
use crate::outcome::{Outcome, Reason};
use crate::position::SourceId;

/// How many rounds of futures that wake themselves one call may poll.
const ROUNDS: usize = 8;

/// How many futures may run at once, and how many elements may wait for their turn behind them.
///
/// A number is a limit with a reorder window of the same size: at most so many futures run, and at
/// most so many elements are inside. A larger window lets fast elements run ahead of a slow one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Concurrency {
    pub(crate) limit: usize,
    pub(crate) window: usize,
}

impl Concurrency {
    /// At most that many futures in flight; 0 counts as 1.
    #[must_use]
    pub fn limit(limit: usize) -> Concurrency {
        Concurrency {
            limit: limit.max(1),
            window: limit.max(1),
        }
    }

    /// At most that many elements inside, running or done and waiting for those before them; at
    /// least the limit.
    #[must_use]
    pub fn window(mut self, window: usize) -> Concurrency {
        self.window = window.max(self.limit);
        self
    }
}

impl From<usize> for Concurrency {
    fn from(limit: usize) -> Self {
        Concurrency::limit(limit)
    }
}

enum Entry<U> {
    Running,
    Done(Element<U>),
    /// Settled here: it failed, or was cancelled.
    Gone,
}

pub(crate) struct MapAsync<T, U, F, Fut: Future> {
    input: Input<T>,
    buf: Chunk<T>,
    f: F,
    flight: InFlight<Fut>,
    /// What is inside, oldest first; the number of the first.
    order: VecDeque<Entry<U>>,
    first: u64,
    window: usize,
    /// Entries that left nothing, and wait to be passed over.
    gone: usize,
    mark: Option<Mark>,
    failed: Option<Stop>,
    done: bool,
}

impl<T, U, F, Fut: Future> MapAsync<T, U, F, Fut> {
    pub(crate) fn new(input: Input<T>, concurrency: Concurrency, f: F) -> Self {
        MapAsync {
            input,
            buf: Chunk::default(),
            f,
            flight: InFlight::new(concurrency.limit),
            order: VecDeque::new(),
            first: 0,
            window: concurrency.window,
            gone: 0,
            mark: None,
            failed: None,
            done: false,
        }
    }
}

impl<T, U, F, Fut> MapAsync<T, U, F, Fut>
where
    F: FnMut(T) -> Fut,
    Fut: Future<Output = U>,
{
    fn poll_woken(&mut self, cx: &mut Context<'_, '_>) {
        let MapAsync {
            order,
            first,
            gone,
            flight,
            ..
        } = self;
        flight.poll_woken(|finished| {
            let entry = match finished.result {
                Ok(value) => Entry::Done(Element {
                    value,
                    meta: finished.meta,
                }),
                Err(_) => {
                    cx.settle(finished.meta, Outcome::Failed(Reason::Panicked));
                    *gone += 1;
                    Entry::Gone
                }
            };
            if let Some(slot) = order.get_mut((finished.key - *first) as usize) {
                *slot = entry;
            }
        });
    }

    /// Hands on what is done and has nothing before it.
    fn emit(&mut self, out: &mut Chunk<U>, want: Demand) {
        while out.len() < want.items {
            match self.order.front() {
                Some(Entry::Done(_) | Entry::Gone) => {}
                _ => return,
            }
            self.first += 1;
            match self.order.pop_front() {
                Some(Entry::Done(element)) => out.push(element),
                _ => self.gone -= 1,
            }
        }
    }

    /// Drops entries at the front that left nothing to hand on.
    fn trim(&mut self) {
        while let Some(Entry::Gone) = self.order.front() {
            self.order.pop_front();
            self.first += 1;
            self.gone -= 1;
        }
    }

    /// Starts a future for each element of `buf`. Results that are ready at once, with nothing
    /// before them, go straight to `out`; their columns are moved in runs.
    fn start_all(&mut self, cx: &mut Context<'_, '_>, out: &mut Chunk<U>, want: Demand) {
        let MapAsync {
            buf,
            f,
            flight,
            order,
            first,
            ..
        } = self;
        let columns = &mut buf.columns;
        let mut straight = 0;
        for value in buf.values.drain(..) {
            let future = match guard(|| f(value)) {
                Ok(future) => future,
                Err(_) => {
                    columns.move_front(std::mem::take(&mut straight), &mut out.columns);
                    cx.settle(
                        columns.pop().unwrap_or_default(),
                        Outcome::Failed(Reason::Panicked),
                    );
                    continue;
                }
            };
            let key = *first + order.len() as u64;
            let before = straight;
            let ready = flight.start(future, || {
                columns.move_front(before, &mut out.columns);
                straight = 0;
                (key, columns.pop().unwrap_or_default())
            });
            match ready {
                None => order.push_back(Entry::Running),
                Some(Ok(value)) if order.is_empty() && out.values.len() < want.items => {
                    out.values.push(value);
                    straight += 1;
                }
                Some(result) => {
                    columns.move_front(std::mem::take(&mut straight), &mut out.columns);
                    let meta = columns.pop().unwrap_or_default();
                    match result {
                        Ok(value) => order.push_back(Entry::Done(Element { value, meta })),
                        Err(_) => cx.settle(meta, Outcome::Failed(Reason::Panicked)),
                    }
                }
            }
        }
        columns.move_front(straight, &mut out.columns);
    }

    /// Drops what it holds of a source that goes back.
    fn rewind(&mut self, cx: &mut Context<'_, '_>, source: SourceId) {
        let of = |meta: &Meta| meta.receipt.is_of(source);
        let MapAsync {
            order,
            first,
            gone,
            flight,
            ..
        } = self;
        flight.cancel(of, |key, meta| {
            cx.settle(meta, Outcome::Cancelled(Reason::Rewound));
            if let Some(entry) = order.get_mut((key - *first) as usize) {
                *entry = Entry::Gone;
                *gone += 1;
            }
        });
        for entry in order.iter_mut() {
            if matches!(entry, Entry::Done(element) if of(&element.meta))
                && let Entry::Done(element) = std::mem::replace(entry, Entry::Gone)
            {
                cx.settle(element.meta, Outcome::Cancelled(Reason::Rewound));
                *gone += 1;
            }
        }
        self.trim();
    }

    /// Takes in as many elements as may run. What the input came to.
    fn pull(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<U>,
        want: Demand,
    ) -> Result<Option<Fill>, Stop> {
        let room = self.flight.room().min(self.window - self.order.len());
        if self.done || self.mark.is_some() || room == 0 {
            return Ok(None);
        }
        let fill = self.input.fill(cx, &mut self.buf, Demand::items(room))?;
        self.start_all(cx, out, want);
        match fill {
            Fill::Done => self.done = true,
            Fill::Mark(Mark::Rewind(source, generation)) => {
                self.rewind(cx, source);
                self.mark = Some(Mark::Rewind(source, generation));
                return Ok(None);
            }
            Fill::Mark(mark) => {
                self.mark = Some(mark);
                return Ok(None);
            }
            Fill::More => return Ok(Some(Fill::More)),
            Fill::Pending => {}
        }
        Ok(Some(fill))
    }
}

impl<T, U, F, Fut> Operator<U> for MapAsync<T, U, F, Fut>
where
    T: Send,
    U: Send,
    F: FnMut(T) -> Fut + Send,
    Fut: Future<Output = U> + Send,
{
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<U>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        if let Some(stop) = self.failed.take() {
            return Err(stop);
        }
        let mut rounds = 0;
        loop {
            self.poll_woken(cx);
            self.emit(out, want);
            self.trim();
            if let Some(mark) = &self.mark {
                let passes = matches!(mark, Mark::Rewind(..)) || self.order.is_empty();
                if passes
                    && out.is_empty()
                    && let Some(mark) = self.mark.take()
                {
                    return Ok(Fill::Mark(mark));
                }
                if passes {
                    return Ok(Fill::More);
                }
            }
            let full = !want.is_none() && out.len() >= want.items;
            if full {
                return Ok(Fill::More);
            }
            match self.pull(cx, out, want) {
                Err(stop) if out.is_empty() => return Err(stop),
                Err(stop) => {
                    // What is ready goes first; the error is told at the next call.
                    self.failed = Some(stop);
                    return Ok(Fill::More);
                }
                Ok(Some(Fill::More)) => continue,
                Ok(_) => {}
            }
            if self.mark.is_some() && self.order.is_empty() {
                continue;
            }
            if self.done && self.order.is_empty() && self.mark.is_none() {
                return Ok(Fill::Done);
            }
            if matches!(self.order.front(), Some(Entry::Done(_))) && !want.is_none() {
                if out.len() < want.items {
                    continue;
                }
                return Ok(Fill::More);
            }
            rounds += 1;
            if rounds < ROUNDS && self.flight.is_woken() {
                continue;
            }
            if !self.flight.sleep(cx.waker()) {
                if rounds < ROUNDS {
                    continue;
                }
                cx.waker().wake_by_ref();
            }
            return Ok(Fill::Pending);
        }
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        if signal == Control::Cancel {
            let outcome = cx.leftover();
            self.flight
                .cancel(|_| true, |_, meta| cx.settle(meta, outcome));
            for entry in self.order.drain(..) {
                if let Entry::Done(element) = entry {
                    cx.settle(element.meta, outcome);
                }
            }
            self.gone = 0;
            self.done = true;
        }
        self.input.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held::items(self.order.len() - self.gone)
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> std::task::Poll<Result<(), Stop>> {
        self.input.poll_close(cx)
    }
}
