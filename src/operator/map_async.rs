//! `map_async`: a future for each element, results in order.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;

use super::in_flight::InFlight;
use super::pace::Patience;
use super::{Context, Control, Demand, Fill, Held, Input, Operator};
use crate::chunk::{Chunk, Columns};
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
    Done(U),
    /// Its future panicked: it is settled when its turn comes.
    Failed,
}

pub(crate) struct MapAsync<T, U, F, Fut: Future> {
    input: Input<T>,
    buf: Chunk<T>,
    f: F,
    flight: InFlight<Fut, ()>,
    /// What is inside, oldest first, and what belongs to each: results leave in order, so that
    /// columns can stay columns.
    order: VecDeque<Entry<U>>,
    columns: Columns,
    /// The key of the first entry.
    first: u64,
    window: usize,
    mark: Option<Mark>,
    /// The input failed: told when what came before it has gone.
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
            columns: Columns::default(),
            first: 0,
            window: concurrency.window,
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
    fn poll_woken(&mut self) {
        let MapAsync {
            order,
            first,
            flight,
            ..
        } = self;
        flight.poll_woken(|finished| {
            let index = finished.key.wrapping_sub(*first) as usize;
            if let Some(entry) = order.get_mut(index) {
                *entry = finished.result.map_or(Entry::Failed, Entry::Done);
            }
        });
    }

    /// Hands on what is done and has nothing before it.
    fn emit(&mut self, cx: &mut Context<'_, '_>, out: &mut Chunk<U>, want: Demand) {
        let mut run = 0;
        while out.values.len() < want.items {
            match self.order.front() {
                Some(Entry::Done(_)) => {
                    if let Some(Entry::Done(value)) = self.order.pop_front() {
                        out.values.push(value);
                        run += 1;
                        self.first += 1;
                    }
                }
                Some(Entry::Failed) => {
                    self.columns
                        .move_front(std::mem::take(&mut run), &mut out.columns);
                    self.fail_first(cx);
                }
                _ => break,
            }
        }
        self.columns.move_front(run, &mut out.columns);
        while let Some(Entry::Failed) = self.order.front() {
            self.fail_first(cx);
        }
    }

    fn fail_first(&mut self, cx: &mut Context<'_, '_>) {
        self.order.pop_front();
        self.first += 1;
        cx.settle(
            self.columns.pop().unwrap_or_default(),
            Outcome::Failed(Reason::Panicked),
        );
    }

    /// Starts a future for each element of `buf`. Results that are ready at once, with nothing
    /// before them, go straight to `out`.
    fn start_all(&mut self, cx: &mut Context<'_, '_>, out: &mut Chunk<U>, want: Demand) {
        let MapAsync {
            buf,
            f,
            flight,
            order,
            columns,
            first,
            ..
        } = self;
        let Chunk {
            values,
            columns: arrived,
        } = buf;
        // Elements that went straight on, then elements that stay: in this order, because nothing
        // goes straight on behind one that stays.
        let (mut straight, mut staying) = (0, 0);
        for value in values.drain(..) {
            let key = *first + order.len() as u64;
            match flight.start(|| f(value), || (key, ())) {
                Some(Ok(value)) if order.is_empty() && out.values.len() < want.items => {
                    out.values.push(value);
                    straight += 1;
                }
                Some(Err(_)) => {
                    arrived.move_front(std::mem::take(&mut straight), &mut out.columns);
                    arrived.move_front(std::mem::take(&mut staying), columns);
                    let meta = arrived.pop().unwrap_or_default();
                    cx.settle(meta, Outcome::Failed(Reason::Panicked));
                }
                Some(Ok(value)) => {
                    order.push_back(Entry::Done(value));
                    staying += 1;
                }
                None => {
                    order.push_back(Entry::Running);
                    staying += 1;
                }
            }
        }
        arrived.move_front(straight, &mut out.columns);
        arrived.move_front(staying, columns);
    }

    /// Drops what it holds of a source that goes back.
    fn rewind(&mut self, cx: &mut Context<'_, '_>, source: SourceId) {
        let mut kept = Columns::default();
        let mut entries = VecDeque::new();
        let mut keys = BTreeMap::new();
        for (index, entry) in std::mem::take(&mut self.order).into_iter().enumerate() {
            let meta = self.columns.pop().unwrap_or_default();
            if meta.receipt.is_of(source) {
                cx.settle(meta, Outcome::Cancelled(Reason::Rewound));
            } else {
                keys.insert(self.first + index as u64, entries.len() as u64);
                entries.push_back(entry);
                kept.push(meta);
            }
        }
        self.flight
            .cancel(|key, ()| !keys.contains_key(&key), |_, ()| {});
        self.flight
            .rename(|key| keys.get(&key).copied().unwrap_or(key));
        self.first = 0;
        self.order = entries;
        self.columns = kept;
    }

    /// Takes in as many elements as may run. What the input came to.
    fn pull(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<U>,
        want: Demand,
    ) -> Result<Option<Fill>, Stop> {
        if self.done || self.mark.is_some() {
            return Ok(None);
        }
        // Without room it asks for nothing: what the stages before have in flight goes on.
        let room = self.flight.room().min(self.window - self.order.len());
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
        let mut rounds = 0;
        let mut patience = Patience::default();
        loop {
            self.poll_woken();
            self.emit(cx, out, want);
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
                Err(stop) => {
                    // What came before it goes first.
                    self.failed = Some(stop);
                    self.done = true;
                    continue;
                }
                Ok(Some(Fill::More)) => {
                    // Everything may have failed: others must get their turn all the same.
                    if out.is_empty() && patience.is_over(cx) {
                        return Ok(Fill::Pending);
                    }
                    continue;
                }
                Ok(_) => {}
            }
            if self.mark.is_some() && self.order.is_empty() {
                continue;
            }
            if self.done && self.order.is_empty() && self.mark.is_none() {
                if self.failed.is_some() && !out.is_empty() {
                    return Ok(Fill::More);
                }
                return self.failed.take().map_or(Ok(Fill::Done), Err);
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
            self.flight.cancel(|_, ()| true, |_, ()| {});
            self.order.clear();
            cx.settle_columns(&mut self.columns, outcome);
            self.done = true;
        }
        self.input.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held::items(self.order.len())
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> std::task::Poll<Result<(), Stop>> {
        self.input.poll_close(cx)
    }
}
