//! `group_by`: a flow of its own for each key, and all their results merged.
//!
//! The flows of groups run in the same island, each with a waker of its own: none is polled unless
//! it was woken. Elements reach them through bounded queues.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::in_flight::Wakes;
use super::outlet::Outlet;
use super::pace::Patience;
use super::part::Part;
use super::{Context, Control, Demand, Fill, Held, Input, Operator, Stage, guard};
use crate::chunk::{Chunk, Queue};
use crate::error::Stop;
use crate::mark::Mark;
use crate::outcome::{Outcome, Reason};
use crate::position::SourceId;
use crate::time::{self, Sleep, Time};

/// What happens to an element of a new key when there are as many groups as allowed and none is
/// empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum WhenExhausted {
    /// It waits until a group is empty, or has had no element for the idle time.
    #[default]
    Backpressure,
    /// The group that was used longest ago completes, and hands on what it holds, to make room. Its
    /// key starts anew when it comes again.
    CloseOldest,
    /// It is shed.
    Shed,
    /// The run stops.
    Fail,
}

/// How many groups there may be, and how long they live.
///
/// A number is that many keys at once. Defaults: 16 elements may wait before each group, a group
/// completes when it had no element for 60 s, and when keys run out, elements wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Groups {
    pub(crate) max_keys: usize,
    pub(crate) buffer: usize,
    pub(crate) idle_after: Duration,
    pub(crate) when_exhausted: WhenExhausted,
}

impl Groups {
    /// At most that many keys at once; 0 counts as 1.
    #[must_use]
    pub fn keys(max_keys: usize) -> Groups {
        Groups {
            max_keys: max_keys.max(1),
            buffer: 16,
            idle_after: Duration::from_mins(1),
            when_exhausted: WhenExhausted::default(),
        }
    }

    /// How many elements may wait before each group; 0 counts as 1.
    #[must_use]
    pub fn buffer(mut self, items: usize) -> Groups {
        self.buffer = items.max(1);
        self
    }

    /// After how long without an element a group completes. Its key starts anew when it comes again.
    #[must_use]
    pub fn idle_after(mut self, idle: Duration) -> Groups {
        self.idle_after = idle;
        self
    }

    /// What happens to elements of new keys when keys have run out.
    #[must_use]
    pub fn when_exhausted(mut self, when_exhausted: WhenExhausted) -> Groups {
        self.when_exhausted = when_exhausted;
        self
    }
}

impl From<usize> for Groups {
    fn from(max_keys: usize) -> Groups {
        Groups::keys(max_keys)
    }
}

/// A group that was just built: what feeds it, what it gives, and its part of the run.
pub(crate) struct NewGroup<T, U> {
    pub(crate) outlet: Outlet<T>,
    pub(crate) input: Input<U>,
    pub(crate) part: Box<dyn Part>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// No more comes in; what is inside still comes out.
    Closing,
    /// Its flow ended by itself: what comes for its key is filtered.
    Ended,
}

struct Group<K, T, U> {
    key: K,
    flow: NewGroup<T, U>,
    phase: Phase,
    /// When it last got an element: by number, and by the clock.
    used: u64,
    at: Time,
    /// Elements about to be handed to it, and how many more it has room for.
    pending: Chunk<T>,
    room: usize,
    /// It gave the mark that is under way.
    marked: bool,
    /// It stands among the ready ones.
    queued: bool,
}

/// What became of the attempt to place an element.
enum Placed {
    Yes,
    /// Its group is full, or there is none for it now.
    Blocked,
    /// A group was just closed to make room: it may be gone already.
    Soon,
    /// A group is about to complete, and makes room when it has.
    Waits,
}

pub(crate) struct GroupBy<K, T, U, F, G> {
    input: Input<T>,
    /// The stage that sorts elements; the operator itself runs as the one that merges.
    split: Arc<Stage>,
    key: F,
    make: G,
    settings: Groups,
    buf: Chunk<T>,
    waiting: Queue<T>,
    keys: VecDeque<K>,
    index: BTreeMap<K, usize>,
    slots: Vec<Option<Group<K, T, U>>>,
    free: Vec<usize>,
    /// Groups by their last use.
    order: BTreeMap<u64, usize>,
    uses: u64,
    /// Groups that may have something to hand on.
    ready: VecDeque<usize>,
    /// Groups that were asked for nothing since, to be asked again once there is demand.
    unasked: BTreeSet<usize>,
    wakes: Arc<Wakes>,
    wakers: Vec<Waker>,
    idle: Option<Sleep>,
    /// The mark that is under way through the groups, joined with what they gave, and as they got it.
    mark: Option<Mark>,
    sent: Option<Mark>,
    /// What sources in groups are to know, those of later groups as well.
    paused: bool,
    draining: bool,
    done: bool,
}

impl<K, T, U, F, G> GroupBy<K, T, U, F, G>
where
    K: Ord + Clone + Send,
    T: Send,
    U: Send,
    F: FnMut(&T) -> K + Send,
    G: FnMut(&K) -> Result<NewGroup<T, U>, Stop> + Send,
{
    pub(crate) fn new(
        input: Input<T>,
        split: Arc<Stage>,
        settings: Groups,
        key: F,
        make: G,
    ) -> GroupBy<K, T, U, F, G> {
        GroupBy {
            input,
            split,
            key,
            make,
            settings,
            buf: Chunk::default(),
            waiting: Queue::default(),
            keys: VecDeque::new(),
            index: BTreeMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            order: BTreeMap::new(),
            uses: 0,
            ready: VecDeque::new(),
            unasked: BTreeSet::new(),
            wakes: Arc::new(Wakes::new()),
            wakers: Vec::new(),
            idle: None,
            mark: None,
            sent: None,
            paused: false,
            draining: false,
            done: false,
        }
    }

    fn group(&mut self, slot: usize) -> Option<&mut Group<K, T, U>> {
        self.slots.get_mut(slot).and_then(Option::as_mut)
    }

    fn groups(&mut self) -> impl Iterator<Item = &mut Group<K, T, U>> {
        self.slots.iter_mut().flatten()
    }

    fn queue(&mut self, slot: usize) {
        if let Some(group) = self.slots.get_mut(slot).and_then(Option::as_mut)
            && !std::mem::replace(&mut group.queued, true)
        {
            self.ready.push_back(slot);
        }
    }

    fn take_woken(&mut self) {
        let wakes = Arc::clone(&self.wakes);
        wakes.take(|slot| self.queue(slot));
    }

    fn remove(&mut self, slot: usize) {
        if let Some(group) = self.slots.get_mut(slot).and_then(Option::take) {
            self.index.remove(&group.key);
            self.order.remove(&group.used);
            self.free.push(slot);
        }
    }

    /// Asks groups that may have something. `Some` when there is something to hand on.
    fn poll_groups(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<U>,
        want: Demand,
    ) -> Result<Option<Fill>, Stop> {
        for _ in 0..self.ready.len() {
            let Some(slot) = self.ready.pop_front() else {
                break;
            };
            let Some(waker) = self.wakers.get(slot).cloned() else {
                continue;
            };
            let Some(group) = self.slots.get_mut(slot).and_then(Option::as_mut) else {
                continue;
            };
            group.queued = false;
            if group.marked {
                // It is asked again once all have given the mark.
                continue;
            }
            let input = &mut group.flow.input;
            let fill = cx.with_waker(&waker, |cx| input.fill(cx, out, want))?;
            match fill {
                Fill::More => self.queue(slot),
                Fill::Pending if want.is_none() => {
                    self.unasked.insert(slot);
                }
                Fill::Pending => {}
                Fill::Mark(mark) => {
                    if let Some(own) = self.take_mark(slot, mark) {
                        self.queue(slot);
                        return Ok(Some(Fill::Mark(own)));
                    }
                }
                Fill::Done => self.ended(cx, slot, &waker)?,
            }
            if !out.is_empty() {
                return Ok(Some(Fill::More));
            }
        }
        Ok(None)
    }

    /// A group gave a mark: its copy of the one under way, or one of a source inside it, which is
    /// handed on at once because nothing of that source comes by another group.
    fn take_mark(&mut self, slot: usize, mark: Mark) -> Option<Mark> {
        let is_copy = |sent| mark.holds(sent);
        if !self.sent.as_ref().is_some_and(is_copy) {
            return Some(mark);
        }
        if let (Some(Mark::Barrier(joined)), Mark::Barrier(given)) = (&mut self.mark, mark) {
            joined.join(given);
        }
        if let Some(group) = self.group(slot) {
            group.marked = true;
        }
        None
    }

    /// The flow of a group is done.
    fn ended(&mut self, cx: &mut Context<'_, '_>, slot: usize, waker: &Waker) -> Result<(), Stop> {
        let Some(group) = self.group(slot) else {
            return Ok(());
        };
        let input = &mut group.flow.input;
        if cx
            .with_waker(waker, |cx| input.poll_close(cx))?
            .is_pending()
        {
            return Ok(());
        }
        if group.phase == Phase::Open {
            group.phase = Phase::Ended;
        }
        if group.phase == Phase::Closing {
            self.remove(slot);
        }
        Ok(())
    }

    /// Lets a group complete. What it holds still comes out.
    fn close(&mut self, cx: &mut Context<'_, '_>, slot: usize) {
        let split = Arc::clone(&self.split);
        let Some(group) = self.group(slot) else {
            return;
        };
        if group.phase == Phase::Ended {
            self.remove(slot);
            return;
        }
        group.phase = Phase::Closing;
        // A queue is closed at once.
        let _ = group.flow.outlet.poll_close(&mut cx.for_stage(&split));
        let used = group.used;
        self.order.remove(&used);
        self.queue(slot);
    }

    /// Lets all groups complete. False if all were about to.
    fn close_all(&mut self, cx: &mut Context<'_, '_>) -> bool {
        let mut some = false;
        while let Some(slot) = self.order.values().next().copied() {
            self.close(cx, slot);
            some = true;
        }
        some
    }

    /// Makes room for a new key, now or soon; blocked if no group may go.
    fn retire(&mut self, cx: &mut Context<'_, '_>) -> Placed {
        if self.groups().any(|group| group.phase == Phase::Closing) {
            return Placed::Waits;
        }
        let empty = self.order.values().copied().find(|slot| {
            let group = self.slots.get(*slot).and_then(Option::as_ref);
            group.is_some_and(|group| {
                group.pending.is_empty()
                    && (group.phase == Phase::Ended || group.flow.part.held() == 0)
            })
        });
        let oldest = || self.order.values().next().copied();
        let found = match self.settings.when_exhausted {
            WhenExhausted::CloseOldest => empty.or_else(oldest),
            _ => empty,
        };
        match found {
            Some(slot) => {
                self.close(cx, slot);
                Placed::Soon
            }
            None => Placed::Blocked,
        }
    }

    /// Builds the group of a key; there is a slot for it.
    fn open(&mut self, cx: &mut Context<'_, '_>, key: &K, now: Time) -> Result<usize, Stop> {
        let mut flow = (self.make)(key)?;
        if self.paused {
            flow.input.control(cx, Control::Pause);
        }
        if self.draining {
            flow.input.control(cx, Control::Drain);
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.wakers.push(self.wakes.waker(self.slots.len() - 1));
            self.slots.len() - 1
        });
        self.slots[slot] = Some(Group {
            key: key.clone(),
            flow,
            phase: Phase::Open,
            used: self.uses,
            at: now,
            pending: Chunk::default(),
            room: 0,
            marked: false,
            queued: false,
        });
        self.index.insert(key.clone(), slot);
        self.order.insert(self.uses, slot);
        self.uses += 1;
        self.queue(slot);
        Ok(slot)
    }

    /// Places the first element that waits.
    fn place(&mut self, cx: &mut Context<'_, '_>, key: &K) -> Result<Placed, Stop> {
        let now = cx.now();
        let slot = match self.index.get(key) {
            Some(slot) => *slot,
            None if self.index.len() < self.settings.max_keys => self.open(cx, key, now)?,
            None => {
                let placed = self.retire(cx);
                if matches!(placed, Placed::Blocked) {
                    return self.exhausted(cx);
                }
                return Ok(placed);
            }
        };
        let Some(group) = self.slots.get_mut(slot).and_then(Option::as_mut) else {
            return Ok(Placed::Blocked);
        };
        if group.phase == Phase::Closing {
            return Ok(Placed::Blocked);
        }
        if group.room == 0 {
            let split = &self.split;
            match group.flow.outlet.poll_ready(&mut cx.for_stage(split))? {
                Poll::Pending => return Ok(Placed::Blocked),
                Poll::Ready(Some(demand)) => {
                    group.room = demand.items.saturating_sub(group.pending.len());
                }
                // What comes for a group that has ended is settled as it is handed over.
                Poll::Ready(None) => group.room = usize::MAX,
            }
            if group.room == 0 {
                return Ok(Placed::Blocked);
            }
        }
        group.room -= 1;
        if let Some(element) = self.waiting.pop() {
            group.pending.push(element);
        }
        group.at = now;
        let (before, used) = (group.used, self.uses);
        group.used = used;
        self.order.remove(&before);
        self.order.insert(used, slot);
        self.uses += 1;
        Ok(Placed::Yes)
    }

    fn exhausted(&mut self, cx: &mut Context<'_, '_>) -> Result<Placed, Stop> {
        let keys = self.settings.max_keys;
        match self.settings.when_exhausted {
            WhenExhausted::Backpressure | WhenExhausted::CloseOldest => Ok(Placed::Blocked),
            WhenExhausted::Fail => {
                Err(Stop::error(format!("more than {keys} keys at once")).at(self.split.id))
            }
            WhenExhausted::Shed => {
                if let Some(element) = self.waiting.pop() {
                    let outcome = Outcome::Shed(Reason::Limit);
                    cx.for_stage(&self.split).settle(element.meta, outcome);
                }
                Ok(Placed::Yes)
            }
        }
    }

    /// Hands elements that wait to their groups, until one cannot be placed.
    fn dispatch(&mut self, cx: &mut Context<'_, '_>) -> Result<Placed, Stop> {
        let mut last = Ok(Placed::Yes);
        while let Some(key) = self.keys.pop_front() {
            let placed = self.place(cx, &key);
            if !matches!(placed, Ok(Placed::Yes)) {
                self.keys.push_front(key);
                last = placed;
                break;
            }
        }
        let split = Arc::clone(&self.split);
        for group in self.groups() {
            if !group.pending.is_empty() {
                let NewGroup { outlet, .. } = &mut group.flow;
                outlet.accept(&mut cx.for_stage(&split), &mut group.pending);
            }
        }
        last
    }

    /// Takes in a chunk. False if nothing came.
    fn pull(&mut self, cx: &mut Context<'_, '_>) -> Result<bool, Stop> {
        let split = Arc::clone(&self.split);
        let mut cx = cx.for_stage(&split);
        let want = Demand::items(Chunk::<T>::MAX);
        let fill = self.input.fill(&mut cx, &mut self.buf, want)?;
        let came = !self.buf.is_empty();
        for element in self.buf.drain() {
            match guard(|| (self.key)(&element.value)) {
                Ok(key) => {
                    self.keys.push_back(key);
                    self.waiting.push(element);
                }
                Err(_) => cx.settle(element.meta, Outcome::Failed(Reason::Panicked)),
            }
        }
        match fill {
            Fill::More => Ok(true),
            Fill::Pending => Ok(came),
            Fill::Done => {
                self.done = true;
                Ok(true)
            }
            Fill::Mark(mark) => {
                if let Mark::Rewind(source, _) = mark {
                    self.rewind(&mut cx, source);
                }
                self.mark = Some(mark);
                Ok(true)
            }
        }
    }

    /// Drops what waits of a source that goes back.
    fn rewind(&mut self, cx: &mut Context<'_, '_>, source: SourceId) {
        let mut keys = std::mem::take(&mut self.keys).into_iter();
        let mut kept = VecDeque::new();
        let mut dropped = self.waiting.extract(|element| {
            let of = element
                .meta
                .receipt
                .standing()
                .is_none_or(|at| at.source == source);
            let key = keys.next();
            if !of {
                kept.extend(key);
            }
            of
        });
        self.keys = kept;
        cx.settle_chunk(&mut dropped, Outcome::Cancelled(Reason::Rewound));
    }

    /// Copies the mark that is under way to all groups, once what came before it is placed.
    fn send_mark(&mut self, cx: &mut Context<'_, '_>) {
        let split = Arc::clone(&self.split);
        let Some(mark) = self.mark.clone() else {
            return;
        };
        for group in self.groups().filter(|group| group.phase == Phase::Open) {
            // A queue takes a mark at once.
            let _ = group.flow.outlet.mark(&mut cx.for_stage(&split), &mark);
        }
        self.sent = Some(mark);
    }

    /// Whether all groups that go on gave the mark, and those that close have.
    fn marks_given(&mut self) -> bool {
        self.groups()
            .all(|group| group.marked || group.phase == Phase::Ended)
    }

    /// The mark is through.
    fn ask_again(&mut self) {
        for slot in 0..self.slots.len() {
            if let Some(group) = self.group(slot)
                && std::mem::take(&mut group.marked)
            {
                self.queue(slot);
            }
        }
    }

    /// Lets groups complete that had no element for the idle time. Pending until the next one.
    fn poll_idle(&mut self, cx: &mut Context<'_, '_>) -> Poll<()> {
        loop {
            let Some(slot) = self.order.values().next().copied() else {
                return Poll::Pending;
            };
            let Some(group) = self.group(slot) else {
                return Poll::Pending;
            };
            let at = group.at + self.settings.idle_after;
            if at <= cx.now() {
                self.close(cx, slot);
                return Poll::Ready(());
            }
            std::task::ready!(time::poll_until(&mut self.idle, at, cx.task()));
            let _ = cx.clock();
        }
    }

    fn step(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<U>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let mut patience = Patience::default();
        if !want.is_none() {
            for slot in std::mem::take(&mut self.unasked) {
                self.queue(slot);
            }
        }
        loop {
            self.take_woken();
            if let Some(fill) = self.poll_groups(cx, out, want)? {
                return Ok(fill);
            }
            let placed = self.dispatch(cx)?;
            let mut moved = matches!(placed, Placed::Soon);
            if self.keys.is_empty() {
                if self.mark.is_some() {
                    if self.sent.is_none() {
                        self.send_mark(cx);
                        moved = true;
                    } else if self.marks_given() {
                        self.sent = None;
                        self.ask_again();
                        if let Some(mark) = self.mark.take() {
                            return Ok(Fill::Mark(mark));
                        }
                    }
                } else if !self.done {
                    moved |= self.pull(cx)?;
                } else {
                    moved |= self.close_all(cx);
                    if self.index.is_empty() {
                        return Ok(Fill::Done);
                    }
                }
            }
            moved |= self.poll_idle(cx).is_ready();
            let goes_on = moved || !self.ready.is_empty();
            if !goes_on && self.wakes.sleep(cx.waker()) {
                return Ok(Fill::Pending);
            }
            // Groups may wake themselves for ever, and elements end here without an end.
            if patience.is_over(cx) {
                return Ok(Fill::Pending);
            }
        }
    }
}

impl<K, T, U, F, G> Operator<U> for GroupBy<K, T, U, F, G>
where
    K: Ord + Clone + Send,
    T: Send,
    U: Send,
    F: FnMut(&T) -> K + Send,
    G: FnMut(&K) -> Result<NewGroup<T, U>, Stop> + Send,
{
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<U>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let fill = self.step(cx, out, want);
        self.split.ledger.hold(self.waiting.len(), 0);
        fill
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        let split = Arc::clone(&self.split);
        match signal {
            Control::Pause => self.paused = true,
            Control::Resume => self.paused = false,
            Control::Drain => self.draining = true,
            Control::Cancel | Control::RequestRewind => {}
        }
        if signal == Control::Cancel {
            let mut cx = cx.for_stage(&split);
            let outcome = cx.leftover();
            cx.settle_chunk(&mut self.waiting.take_all(), outcome);
            self.keys.clear();
            self.split.ledger.hold(0, 0);
            self.done = true;
        }
        for (group, waker) in self.slots.iter_mut().zip(&self.wakers) {
            let Some(group) = group else { continue };
            if signal == Control::Cancel {
                let _ = group.flow.outlet.poll_close(&mut cx.for_stage(&split));
            }
            let input = &mut group.flow.input;
            cx.with_waker(waker, |cx| input.control(cx, signal));
        }
        self.input.control(&mut cx.for_stage(&split), signal);
    }

    fn held(&self) -> Held {
        Held::NONE
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        let mut waits = false;
        for group in self.groups() {
            waits |= group.flow.input.poll_close(cx)?.is_pending();
        }
        let split = Arc::clone(&self.split);
        waits |= self
            .input
            .poll_close(&mut cx.for_stage(&split))?
            .is_pending();
        if waits {
            Poll::Pending
        } else {
            Poll::Ready(Ok(()))
        }
    }
}
