//! `map_async_unordered` and `map_async_keyed`: a future for each element, results as they come.
//!
//! With keys, elements of one key run one after the other, and so keep their order; the others wait
//! behind them inside the window, and hold nobody back but their own key.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;

use super::calls::Tally;
use super::in_flight::InFlight;
use super::pace::Patience;
use super::{Context, Control, Demand, Fill, Held, Input, Operator, guard};
use crate::chunk::{Chunk, Element, Meta, Queue};
use crate::error::Stop;
use crate::mark::Mark;
use crate::operator::Concurrency;
use crate::outcome::{Outcome, Reason};
use crate::position::SourceId;

/// How many rounds of futures that wake themselves one call may poll.
const ROUNDS: usize = 8;

pub(crate) struct Unordered<T, U, K, F, Fut: Future, G> {
    input: Input<T>,
    buf: Chunk<T>,
    f: F,
    key_of: G,
    flight: InFlight<Fut, (Meta, Option<K>)>,
    /// What may start as soon as there is a place.
    runnable: VecDeque<Runnable<T, K>>,
    /// By key that runs or may: the elements behind it.
    behind: BTreeMap<K, VecDeque<Element<T>>>,
    /// How many elements `behind` holds.
    waiting: usize,
    ready: Queue<U>,
    window: usize,
    /// The terms on which calls begin, if there are any.
    tally: Option<Tally>,
    mark: Option<Mark>,
    /// The input failed: told when what came before it has gone.
    failed: Option<Stop>,
    done: bool,
}

struct Runnable<T, K> {
    element: Element<T>,
    key: Option<K>,
    /// It waited behind its key: it has the place of the one before it, and needs a permit anew.
    parked: bool,
}

impl<T, U, K, F, Fut: Future, G> Unordered<T, U, K, F, Fut, G> {
    pub(crate) fn new(input: Input<T>, concurrency: Concurrency, key_of: G, f: F) -> Self {
        Unordered {
            input,
            buf: Chunk::default(),
            f,
            key_of,
            flight: InFlight::new(concurrency.limit),
            runnable: VecDeque::new(),
            behind: BTreeMap::new(),
            waiting: 0,
            ready: Queue::default(),
            window: concurrency.window,
            tally: None,
            mark: None,
            failed: None,
            done: false,
        }
    }

    /// Its calls begin on those terms.
    pub(crate) fn on_terms(mut self, tally: &Tally) -> Self {
        self.tally = Some(tally.clone());
        self
    }

    fn inside(&self) -> usize {
        self.flight.running() + self.runnable.len() + self.waiting + self.ready.len()
    }
}

impl<T, U, K, F, Fut, G> Unordered<T, U, K, F, Fut, G>
where
    K: Ord + Clone,
    F: FnMut(T) -> Fut,
    Fut: Future<Output = U>,
    G: FnMut(&T) -> Option<K>,
{
    /// An element of that key has ended: the next one of it may run.
    fn release(&mut self, key: Option<K>) {
        let Some(key) = key else { return };
        match self.behind.get_mut(&key).and_then(VecDeque::pop_front) {
            Some(element) => {
                self.waiting -= 1;
                self.tally.iter().for_each(Tally::take_over);
                self.runnable.push_back(Runnable {
                    element,
                    key: Some(key),
                    parked: true,
                });
            }
            None => {
                self.behind.remove(&key);
            }
        }
    }

    fn finish(
        &mut self,
        cx: &mut Context<'_, '_>,
        result: Result<U, String>,
        meta: Meta,
        key: Option<K>,
    ) {
        match result {
            Ok(value) => self.ready.push(Element { value, meta }),
            Err(_) => cx.settle(meta, Outcome::Failed(Reason::Panicked)),
        }
        self.release(key);
    }

    fn poll_woken(&mut self, cx: &mut Context<'_, '_>) {
        let mut finished = Vec::new();
        self.flight.poll_woken(|one| finished.push(one));
        for one in finished {
            let (meta, key) = one.meta;
            self.finish(cx, one.result, meta, key);
        }
    }

    fn start(&mut self, cx: &mut Context<'_, '_>) {
        while self.flight.room() > 0 {
            if let Some(Runnable { parked: true, .. }) = self.runnable.front()
                && let Some(tally) = &self.tally
                && tally.poll_resume(cx).is_pending()
            {
                return;
            }
            let Some(Runnable { element, key, .. }) = self.runnable.pop_front() else {
                return;
            };
            let Element { value, meta } = element;
            let mut belongs = Some((meta, key));
            let f = &mut self.f;
            let result = self
                .flight
                .start(|| f(value), || (0, belongs.take().unwrap_or_default()));
            if let (Some(result), Some((meta, key))) = (result, belongs) {
                self.finish(cx, result, meta, key);
            }
        }
    }

    fn take_in(&mut self, cx: &mut Context<'_, '_>) {
        let Unordered {
            buf,
            key_of,
            runnable,
            behind,
            waiting,
            tally,
            ..
        } = self;
        for element in buf.drain() {
            let Ok(key) = guard(|| key_of(&element.value)) else {
                tally.iter().for_each(Tally::park);
                cx.settle(element.meta, Outcome::Failed(Reason::Panicked));
                continue;
            };
            if let Some(key) = &key {
                if let Some(queue) = behind.get_mut(key) {
                    tally.iter().for_each(Tally::park);
                    queue.push_back(element);
                    *waiting += 1;
                    continue;
                }
                behind.insert(key.clone(), VecDeque::new());
            }
            runnable.push_back(Runnable {
                element,
                key,
                parked: false,
            });
        }
    }

    /// An element is dropped that could have started.
    fn drop_runnable(&self, parked: bool) {
        match &self.tally {
            Some(tally) if parked => tally.free(),
            Some(tally) => tally.park(),
            None => {}
        }
    }

    /// Drops what it holds of a source that goes back.
    fn rewind(&mut self, cx: &mut Context<'_, '_>, source: SourceId) {
        let of = |meta: &Meta| meta.receipt.is_of(source);
        let mut dropped = Vec::new();
        for queue in self.behind.values_mut() {
            for element in std::mem::take(queue) {
                if of(&element.meta) {
                    dropped.push(element.meta);
                } else {
                    queue.push_back(element);
                }
            }
        }
        self.waiting -= dropped.len();
        let mut freed = Vec::new();
        for one in std::mem::take(&mut self.runnable) {
            if of(&one.element.meta) {
                self.drop_runnable(one.parked);
                dropped.push(one.element.meta);
                freed.push(one.key);
            } else {
                self.runnable.push_back(one);
            }
        }
        self.flight.cancel(
            |_, (meta, _)| of(meta),
            |_, (meta, key)| {
                dropped.push(meta);
                freed.push(key);
            },
        );
        for key in freed {
            self.release(key);
        }
        let mut ready = self.ready.extract(|element| of(&element.meta));
        cx.settle_chunk(&mut ready, Outcome::Cancelled(Reason::Rewound));
        for meta in dropped {
            cx.settle(meta, Outcome::Cancelled(Reason::Rewound));
        }
    }

    /// Takes in as many elements as there is room for. True if there may be more at once.
    fn pull(&mut self, cx: &mut Context<'_, '_>) -> bool {
        let room = self.window.saturating_sub(self.inside());
        if self.done || self.mark.is_some() {
            return false;
        }
        // Without room it asks for nothing: what the stages before have in flight goes on.
        let fill = self.input.fill(cx, &mut self.buf, Demand::items(room));
        self.take_in(cx);
        self.start(cx);
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

    fn cancel(&mut self, cx: &mut Context<'_, '_>) {
        let outcome = cx.leftover();
        self.flight
            .cancel(|_, _| true, |_, (meta, _)| cx.settle(meta, outcome));
        for one in std::mem::take(&mut self.runnable) {
            self.drop_runnable(one.parked);
            cx.settle(one.element.meta, outcome);
        }
        for element in std::mem::take(&mut self.behind).into_values().flatten() {
            cx.settle(element.meta, outcome);
        }
        self.waiting = 0;
        cx.settle_chunk(&mut self.ready.take_all(), outcome);
        self.mark = None;
        self.done = true;
    }
}

impl<T, U, K, F, Fut, G> Operator<U> for Unordered<T, U, K, F, Fut, G>
where
    T: Send,
    U: Send,
    K: Ord + Clone + Send,
    F: FnMut(T) -> Fut + Send,
    Fut: Future<Output = U> + Send,
    G: FnMut(&T) -> Option<K> + Send,
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
            self.poll_woken(cx);
            self.start(cx);
            if !want.is_none() && self.ready.take(want, out) > 0 {
                return Ok(Fill::More);
            }
            let empty = self.inside() == 0;
            let passes = |mark: &Mark| empty || matches!(mark, Mark::Rewind(..));
            if let Some(mark) = self.mark.take_if(|mark| passes(mark)) {
                return Ok(Fill::Mark(mark));
            }
            if self.done && empty {
                return self.failed.take().map_or(Ok(Fill::Done), Err);
            }
            let more = self.pull(cx);
            if more && self.ready.is_empty() && patience.is_over(cx) {
                return Ok(Fill::Pending);
            }
            let told = self
                .mark
                .as_ref()
                .is_some_and(|mark| matches!(mark, Mark::Rewind(..)) || self.inside() == 0);
            let has_news = !self.ready.is_empty() && !want.is_none();
            if more || told || has_news || (self.done && self.inside() == 0) {
                continue;
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
            self.cancel(cx);
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
