//! The list of pages of one sequence: issue, progress, settled position, rewind.

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::counts::SourceCounts;
use super::page::{Page, RESUMED, kind_of};
use super::signal::{Passes, Signal, Unresolved};
use super::{Epoch, Generation, SourceId};
use crate::class::Class;
use crate::outcome::{Kind, Outcome, Reason};
use crate::sync::{Mutex, lock};

/// Retired pages kept for reuse.
const POOL: usize = 32;

/// Tracks the elements of one sequence of a source: a file, a partition, a queue.
///
/// `P` is what the source needs to start again behind an element: a byte offset, a Kafka offset,
/// `()` where it cannot. Cloning gives another handle to the same tracker.
pub struct Tracker<P> {
    shared: Arc<Shared<P>>,
}

struct Shared<P> {
    signal: Arc<Signal>,
    window: u64,
    list: Mutex<List<P>>,
}

struct List<P> {
    /// How far the settled position has come.
    settled: u64,
    /// The number of the next element.
    next: u64,
    /// The largest `next` of all generations.
    high: u64,
    generation: Generation,
    epoch: Epoch,
    /// Pages with how many of their elements are handed out, and those the source resolved itself.
    pages: VecDeque<Slot>,
    /// Whether the last page may take more elements.
    open: bool,
    /// Commits under way: while there is one, [`Tracker::poll_rewind`] waits.
    commits: usize,
    pool: Vec<Arc<Page>>,
    /// Positions of the elements from `settled` on.
    positions: VecDeque<P>,
    last: Option<P>,
    retired: SourceCounts,
}

struct Slot {
    page: Arc<Page>,
    len: u32,
    resolved: u64,
    /// Elements the position passes as they ended: the source answers for them by other means.
    passed: u64,
}

impl Slot {
    /// The settled elements that the settled position may pass.
    fn passable(&self) -> u64 {
        self.page.passable(self.resolved | self.passed)
    }
}

fn within(len: u32) -> u64 {
    if len >= 64 { u64::MAX } else { (1 << len) - 1 }
}

/// How far a source is settled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settled<P> {
    /// The number of the first element that is not settled.
    pub sequence: u64,
    /// The position of the last element before it; `None` while there is none.
    pub position: Option<P>,
    /// The generation this holds for.
    pub generation: Generation,
}

/// Where an epoch ends: what a commit at its barrier covers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frontier<P> {
    /// The epoch that ends.
    pub epoch: Epoch,
    /// The number of the first element behind it.
    pub sequence: u64,
    /// The position of the last element handed over before it; `None` while there is none.
    pub position: Option<P>,
    /// The generation this holds for.
    pub generation: Generation,
}

impl<P> Clone for Tracker<P> {
    fn clone(&self) -> Self {
        Tracker {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<P> fmt::Debug for Tracker<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = lock(&self.shared.list);
        f.debug_struct("Tracker")
            .field("source", &self.shared.signal.source)
            .field("settled", &list.settled)
            .field("next", &list.next)
            .field("generation", &list.generation)
            .finish_non_exhaustive()
    }
}

impl<P: Clone + Send + fmt::Debug + 'static> Tracker<P> {
    /// A tracker whose first element will have the number 0.
    ///
    /// `window` bounds how many elements may lie between the settled position and the newest one;
    /// 0 counts as 1.
    #[must_use]
    pub fn new(source: SourceId, window: usize, passes: Passes) -> Tracker<P> {
        Tracker {
            shared: Arc::new(Shared {
                signal: Arc::new(Signal::new(source, passes)),
                window: window.max(1) as u64,
                list: Mutex::new(List {
                    settled: 0,
                    next: 0,
                    high: 0,
                    generation: Generation(0),
                    epoch: Epoch(0),
                    pages: VecDeque::new(),
                    open: false,
                    commits: 0,
                    pool: Vec::new(),
                    positions: VecDeque::new(),
                    last: None,
                    retired: SourceCounts::default(),
                }),
            }),
        }
    }

    /// Whose elements these are.
    #[must_use]
    pub fn source(&self) -> SourceId {
        self.shared.signal.source
    }

    /// How many more elements may be handed over now.
    #[must_use]
    pub fn credit(&self) -> usize {
        let mut list = lock(&self.shared.list);
        list.advance();
        self.shared.window.saturating_sub(list.next - list.settled) as usize
    }

    /// How many elements lie between the settled position and the newest one.
    #[must_use]
    pub fn outstanding(&self) -> u64 {
        let mut list = lock(&self.shared.list);
        list.advance();
        list.next - list.settled
    }

    /// The credit, or pending until an element is settled. At least 1 when ready.
    pub fn poll_credit(&self, cx: &mut Context<'_>) -> Poll<usize> {
        match self.credit() {
            0 => {
                self.shared.signal.wait(cx.waker());
                match self.credit() {
                    0 => Poll::Pending,
                    credit => Poll::Ready(credit),
                }
            }
            credit => Poll::Ready(credit),
        }
    }

    /// Ready when every element handed over so far is settled in a way the position may pass, or
    /// when some element ended unresolved.
    pub fn poll_quiet(&self, cx: &mut Context<'_>) -> Poll<()> {
        let quiet = || {
            let mut list = lock(&self.shared.list);
            list.advance();
            list.all_done() || self.shared.signal.first_report().is_some()
        };
        if quiet() {
            return Poll::Ready(());
        }
        self.shared.signal.wait(cx.waker());
        if quiet() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Ready when every element handed over so far is settled, however. One task may wait on a
    /// tracker: this is for who goes on with it after its source has ended.
    pub fn poll_idle(&self, cx: &mut Context<'_>) -> Poll<()> {
        let idle = || lock(&self.shared.list).all_done();
        if idle() {
            return Poll::Ready(());
        }
        self.shared.signal.wait(cx.waker());
        if idle() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Wakes this task at the next progress. The caller looks again after this call.
    pub(crate) fn watch(&self, cx: &Context<'_>) {
        self.shared.signal.wait(cx.waker());
    }

    /// Numbers the elements at the given positions and hands out their places: page and mask.
    pub(crate) fn issue(
        &self,
        positions: impl IntoIterator<Item = P>,
        mut each: impl FnMut(Arc<Page>, u64),
    ) {
        let mut list = lock(&self.shared.list);
        let mut positions = positions.into_iter();
        let signal = &self.shared.signal;
        let mut done = false;
        while !done {
            let room = list.room(signal);
            let (from, page) = (room.len, Arc::clone(&room.page));
            let mut taken = 0;
            while from + taken < 64 {
                if let Some(position) = positions.next() {
                    list.positions.push_back(position);
                    taken += 1;
                } else {
                    done = true;
                    break;
                }
            }
            if taken == 0 {
                break;
            }
            list.grow(taken);
            let mask = within(from + taken) & !within(from);
            each(page, mask);
        }
    }

    /// Counts elements that came in and ended at once, before they had a number: refused offers.
    pub fn refuse(&self, class: Option<Class>, outcome: Outcome, count: u64) {
        let mut list = lock(&self.shared.list);
        let class = class.map_or(Class::COUNT, Class::index);
        list.retired.entered += count;
        list.retired.classes[class].outcomes[outcome.kind() as usize] += count;
    }

    /// Notes elements that a resumed run does not hand over again: they count as settled, and as
    /// `resumed` instead of `entered`.
    pub fn skip(&self, positions: impl IntoIterator<Item = P>) {
        self.issue(positions, |page, mask| page.skip(mask));
        lock(&self.shared.list).advance();
    }

    /// How far everything is settled.
    #[must_use]
    pub fn settled(&self) -> Settled<P> {
        let mut list = lock(&self.shared.list);
        list.advance();
        Settled {
            sequence: list.settled,
            position: list.last.clone(),
            generation: list.generation,
        }
    }

    /// The settled position, and for each element above it whether a resumed run may skip it, the
    /// first in the lowest bit of the first word.
    #[must_use]
    pub fn settled_above(&self) -> (Settled<P>, Vec<u64>) {
        let mut list = lock(&self.shared.list);
        list.advance();
        let settled = Settled {
            sequence: list.settled,
            position: list.last.clone(),
            generation: list.generation,
        };
        let count = (list.next - list.settled) as usize;
        let mut words = vec![0_u64; count.div_ceil(64)];
        for slot in &list.pages {
            let passable = slot.passable() & within(slot.len);
            for bit in super::page::bits(passable) {
                let sequence = slot.page.base + u64::from(bit);
                if let Some(index) = sequence.checked_sub(list.settled) {
                    words[index as usize / 64] |= 1 << (index % 64);
                }
            }
        }
        (settled, words)
    }

    /// The settled position, and the positions of the elements above it that a resumed run may skip,
    /// in order.
    pub(crate) fn passed_above(&self) -> (Settled<P>, Vec<P>) {
        let mut list = lock(&self.shared.list);
        list.advance();
        let mut above = Vec::new();
        for slot in &list.pages {
            for bit in super::page::bits(slot.passable() & within(slot.len)) {
                let sequence = slot.page.base + u64::from(bit);
                let index = sequence.checked_sub(list.settled);
                let position = index.and_then(|index| list.positions.get(index as usize));
                above.extend(position.cloned());
            }
        }
        let settled = Settled {
            sequence: list.settled,
            position: list.last.clone(),
            generation: list.generation,
        };
        (settled, above)
    }

    /// The position of an element that is not settled yet, or was not passed.
    #[must_use]
    pub fn position_of(&self, sequence: u64) -> Option<P> {
        let list = lock(&self.shared.list);
        let index = sequence.checked_sub(list.settled)?;
        list.positions.get(index as usize).cloned()
    }

    /// The next element that ended unresolved, in the order of their ends.
    #[must_use]
    pub fn take_unresolved(&self) -> Option<Unresolved> {
        self.shared.signal.take_report()
    }

    /// The first such element, left in place.
    #[must_use]
    pub fn first_unresolved(&self) -> Option<Unresolved> {
        self.shared.signal.first_report()
    }

    /// Wakes this task when an element ends unresolved.
    pub fn register(&self, cx: &Context<'_>) {
        self.shared.signal.register(cx.waker());
    }

    /// The source resolved an element itself (it diverted it): the settled position may pass, and
    /// the element counts as dead-lettered.
    pub fn resolve(&self, unresolved: &Unresolved) {
        self.answer(unresolved, |slot, bit| slot.resolved |= bit);
    }

    /// The source answers for an element by other means, such as releasing its claim so that
    /// somebody takes it again: the settled position may pass, and the element counts as it ended.
    pub fn pass(&self, unresolved: &Unresolved) {
        self.answer(unresolved, |slot, bit| slot.passed |= bit);
    }

    fn answer(&self, unresolved: &Unresolved, mut with: impl FnMut(&mut Slot, u64)) {
        let mut list = lock(&self.shared.list);
        for slot in &mut list.pages {
            let first = slot.page.base;
            if slot.page.generation == unresolved.generation
                && (first..first + u64::from(slot.len)).contains(&unresolved.sequence)
            {
                with(slot, 1 << (unresolved.sequence - first));
            }
        }
        list.advance();
        drop(list);
        self.shared.signal.wake();
    }

    /// Ends the epoch: elements handed over from now on belong to the next. Returns what lies
    /// before, for the [`CommitToken`](crate::mark::CommitToken) of the barrier.
    pub fn barrier(&self) -> Frontier<P> {
        let mut list = lock(&self.shared.list);
        list.advance();
        let frontier = Frontier {
            epoch: list.epoch,
            sequence: list.next,
            position: list.positions.back().or(list.last.as_ref()).cloned(),
            generation: list.generation,
        };
        list.epoch.0 += 1;
        list.open = false;
        frontier
    }

    /// Goes back to the settled position: receipts handed out before are inert from now on, and
    /// what they stood for counts as cancelled (rewound). Returns where to read again.
    ///
    /// It does so at once, whatever [`Commit`](crate::mark::Commit) is under way: for a claim that
    /// was lost. A source that goes back by itself uses [`Tracker::poll_rewind`].
    #[must_use]
    pub fn rewind(&self) -> Settled<P> {
        let mut list = lock(&self.shared.list);
        list.rewind(&self.shared.signal)
    }

    /// As [`Tracker::rewind`], but waits for the [`Commit`](crate::mark::Commit) that is under way:
    /// what it commits is not read again.
    pub fn poll_rewind(&self, cx: &mut Context<'_>) -> Poll<Settled<P>> {
        let attempt = || {
            let mut list = lock(&self.shared.list);
            (list.commits == 0).then(|| list.rewind(&self.shared.signal))
        };
        if let Some(settled) = attempt() {
            return Poll::Ready(settled);
        }
        self.shared.signal.wait(cx.waker());
        attempt().map_or(Poll::Pending, Poll::Ready)
    }

    /// The generation elements are handed over in now.
    #[must_use]
    pub fn generation(&self) -> Generation {
        lock(&self.shared.list).generation
    }

    /// The epoch elements are handed over in now.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        lock(&self.shared.list).epoch
    }

    pub(crate) fn walker(&self) -> Arc<dyn Walk> {
        Arc::clone(&self.shared) as Arc<dyn Walk>
    }
}

impl<P: Clone> List<P> {
    fn rewind(&mut self, signal: &Signal) -> Settled<P> {
        self.advance();
        self.cut_off();
        self.generation.0 += 1;
        self.retired.rewinds += 1;
        self.next = self.settled;
        self.open = false;
        self.positions.clear();
        signal.clear_reports();
        Settled {
            sequence: self.settled,
            position: self.last.clone(),
            generation: self.generation,
        }
    }
}

impl<P> List<P> {
    /// The page that takes the next element.
    fn room(&mut self, signal: &Arc<Signal>) -> &Slot {
        let full = self.pages.back().is_none_or(|slot| slot.len == 64);
        if full || !self.open {
            let page = match self.pool.pop() {
                Some(mut pooled) => match Arc::get_mut(&mut pooled) {
                    Some(page) => {
                        page.reuse(self.next, self.generation, self.epoch);
                        pooled
                    }
                    None => Arc::new(Page::new(
                        self.next,
                        self.generation,
                        self.epoch,
                        Arc::clone(signal),
                    )),
                },
                None => Arc::new(Page::new(
                    self.next,
                    self.generation,
                    self.epoch,
                    Arc::clone(signal),
                )),
            };
            if self.pages.back().is_some_and(|slot| slot.len == 0) {
                self.pages.pop_back();
            }
            self.pages.push_back(Slot {
                page,
                len: 0,
                resolved: 0,
                passed: 0,
            });
            self.open = true;
        }
        &self.pages[self.pages.len() - 1]
    }

    fn grow(&mut self, taken: u32) {
        if let Some(slot) = self.pages.back_mut() {
            slot.len += taken;
        }
        self.next += u64::from(taken);
        self.retired.entered += u64::from(taken);
        let replayed = self
            .next
            .min(self.high)
            .saturating_sub(self.next - u64::from(taken));
        self.retired.replayed += replayed;
        self.high = self.high.max(self.next);
    }

    /// Moves the settled position over what is settled, and retires pages that are settled whole.
    fn advance(&mut self) {
        while let Some(slot) = self.pages.front() {
            let passed = slot.passable().trailing_ones().min(slot.len);
            let settled = slot.page.base + u64::from(passed);
            while self.settled < settled {
                if let Some(position) = self.positions.pop_front() {
                    self.last = Some(position);
                }
                self.settled += 1;
            }
            let closed = slot.len == 64 || self.pages.len() > 1 || !self.open;
            if passed < slot.len || !closed {
                return;
            }
            let Some(slot) = self.pages.pop_front() else {
                return;
            };
            tally(
                &slot.page,
                within(slot.len),
                slot.resolved,
                &mut self.retired,
            );
            if self.pool.len() < POOL {
                self.pool.push(slot.page);
            }
        }
    }

    /// Whether no element before that number ended in a way the settled position may not pass.
    fn is_clear_to(&self, sequence: u64) -> bool {
        self.pages.iter().all(|slot| {
            let before = sequence.saturating_sub(slot.page.base).min(64) as u32;
            let stuck = slot.page.done() & !slot.passable();
            stuck & within(slot.len.min(before)) == 0
        })
    }

    fn all_done(&self) -> bool {
        self.pages
            .iter()
            .all(|slot| slot.page.done() & within(slot.len) == within(slot.len))
    }

    /// Makes all pages inert and counts what they held.
    fn cut_off(&mut self) {
        while let Some(slot) = self.pages.pop_front() {
            let all = within(slot.len);
            let open = slot.page.retire(all);
            slot.page.count(open, |class, _, count| {
                self.retired.classes[class].outcomes[Kind::Cancelled as usize] += count;
            });
            tally(&slot.page, all & !open, slot.resolved, &mut self.retired);
        }
    }
}

fn tally(page: &Page, within: u64, resolved: u64, into: &mut SourceCounts) {
    let mut add = |class: usize, code: Option<u8>, count: u64| match code {
        None => into.classes[class].unsettled += count,
        Some(RESUMED) => {
            into.entered -= count;
            into.resumed += count;
        }
        Some(code) => {
            if let Some(kind) = kind_of(code) {
                into.classes[class].outcomes[kind as usize] += count;
            }
        }
    };
    page.count(within & !resolved, &mut add);
    page.count(within & resolved, |class, _, count| {
        into.diverted += count;
        into.classes[class].outcomes[Kind::DeadLettered as usize] += count;
    });
}

/// A position of a source whose type is known elsewhere.
type AnyPosition = Option<Box<dyn Any + Send>>;

/// What the ledger sees of a tracker.
pub(crate) trait Walk: Send + Sync {
    /// What is reported and not answered is forgotten: its source is given up.
    fn forgive(&self);
    /// The position of the last element handed over, and the last of those settled.
    fn positions(&self) -> (AnyPosition, AnyPosition);
    fn counts(&self) -> SourceCounts;
    /// Receipts that were dropped unsettled, by the stage that ran then.
    fn abandoned(&self) -> BTreeMap<u32, u64>;
    fn end(&self, reason: Reason);
    /// Begins a commit of what lies before that number, unless the source went back since, or an
    /// element there ended in a way that must not be passed.
    fn begin_commit(&self, generation: Generation, sequence: u64) -> bool;
    fn end_commit(&self);
    /// The first element that ended unresolved and was not answered, with its position.
    fn first_unresolved(&self) -> Option<(SourceId, Unresolved, String)>;
}

impl<P: Clone + Send + fmt::Debug + 'static> Walk for Shared<P> {
    fn counts(&self) -> SourceCounts {
        let mut list = lock(&self.list);
        list.advance();
        let mut counts = list.retired.clone();
        for slot in &list.pages {
            tally(&slot.page, within(slot.len), slot.resolved, &mut counts);
        }
        counts.doubled = self.signal.doubled();
        counts
    }

    fn abandoned(&self) -> BTreeMap<u32, u64> {
        self.signal.abandoned()
    }

    fn forgive(&self) {
        self.signal.clear_reports();
    }

    fn positions(&self) -> (AnyPosition, AnyPosition) {
        let mut list = lock(&self.list);
        list.advance();
        let last = list.positions.back().or(list.last.as_ref());
        let boxed = |position: &P| Box::new(position.clone()) as Box<dyn Any + Send>;
        (last.map(boxed), list.last.as_ref().map(boxed))
    }

    fn end(&self, reason: Reason) {
        self.signal.end(reason);
    }

    fn begin_commit(&self, generation: Generation, sequence: u64) -> bool {
        let mut list = lock(&self.list);
        let may = list.generation == generation && list.is_clear_to(sequence);
        list.commits += usize::from(may);
        may
    }

    fn end_commit(&self) {
        lock(&self.list).commits -= 1;
        self.signal.progress();
    }

    fn first_unresolved(&self) -> Option<(SourceId, Unresolved, String)> {
        let unresolved = self.signal.first_report()?;
        let list = lock(&self.list);
        let position = unresolved
            .sequence
            .checked_sub(list.settled)
            .and_then(|index| list.positions.get(index as usize))
            .map_or_else(
                || "an unknown position".to_owned(),
                |position| format!("{position:?}"),
            );
        Some((self.signal.source, unresolved, position))
    }
}
