//! Models of what two threads do at once, checked by loom in every order: the ring, groups gathered
//! behind it, the pages and the wake-ups of futures. Each is run with the roles of the threads both
//! ways, because loom misses orders when the spawned thread reads before it writes; and each counts
//! its runs, so that a model that explores nothing fails.
//!
//! `RUSTFLAGS="--cfg forebay_loom" cargo test --release --lib loom_models`
#![allow(clippy::unwrap_used)]

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use loom::future::block_on;
use loom::thread;

use crate::boundary::{Buffer, ring};
use crate::chunk::{Chunk, Element};
use crate::control::BatchLimits;
use crate::mark::Mark;
use crate::operator::grouped::Grouped;
use crate::operator::in_flight::Wakes;
use crate::operator::{Context, Demand, Fill, Held, Input, Operator, Sink, Spawn, Stage, Turn};
use crate::outcome::Outcome;
use crate::position::{Generation, Passes, SourceId, Tracker};
use crate::receipt::Run;
use crate::sync::{AtomicU64, AtomicWaker};
use crate::time::{self, Time};

struct NoSpawn;

impl Spawn for NoSpawn {
    fn spawn(&self, _: &str, _: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) {}
}

/// Runs a model and asserts that it was run in at least so many orders.
fn explore(at_least: usize, model: impl Fn() + Sync + Send + 'static) {
    explore_up_to(3, at_least, model);
}

/// The same, with at most so many preemptions: larger models have too many orders with more.
fn explore_up_to(preemptions: usize, at_least: usize, model: impl Fn() + Sync + Send + 'static) {
    let runs = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&runs);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let runs = runs.load(Ordering::Relaxed);
    assert!(runs >= at_least, "only {runs} orders were explored");
}

/// Runs two roles on two threads, the spawned one being the first or the second.
fn roles(swap: bool, one: impl FnOnce() + Send + 'static, two: impl FnOnce() + Send + 'static) {
    let (spawned, here): (Box<dyn FnOnce() + Send>, Box<dyn FnOnce() + Send>) = if swap {
        (Box::new(two), Box::new(one))
    } else {
        (Box::new(one), Box::new(two))
    };
    let other = thread::spawn(spawned);
    here();
    other.join().unwrap();
}

/// Offers the numbers from 0 on, one by one, and ends. After each it may wait for something.
fn produce(
    mut sink: impl Sink<u64>,
    stage: Arc<Stage>,
    count: u64,
    wait: impl Fn(u64) + Send,
) -> impl FnOnce() + Send {
    move || {
        let turn = Turn::new(Arc::new(NoSpawn));
        for n in 0..count {
            block_on(poll_fn(|task| {
                let mut cx = Context::new(task, &stage, &turn);
                match sink.poll_ready(&mut cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(ready) => {
                        assert!(ready.unwrap().unwrap().items >= 1);
                        let mut chunk = Chunk::default();
                        chunk.push(Element::new(n));
                        sink.accept(&mut cx, &mut chunk);
                        Poll::Ready(())
                    }
                }
            }));
            wait(n);
        }
        block_on(poll_fn(|task| {
            sink.poll_close(&mut Context::new(task, &stage, &turn))
        }))
        .map(drop)
        .unwrap();
    }
}

const ELEMENTS: u64 = 2;

fn ring_model(swap: bool) {
    let stage = Arc::new(Stage::new(1, false, false));
    let (sink, mut source) = ring::<u64>(Buffer::items(1), &stage);
    let produce = produce(sink, Arc::clone(&stage), ELEMENTS, |_| ());
    let consume = move || {
        let turn = Turn::new(Arc::new(NoSpawn));
        let mut got = Vec::new();
        loop {
            let mut chunk = Chunk::default();
            let fill = block_on(poll_fn(|task| {
                let mut cx = Context::new(task, &stage, &turn);
                match source.fill(&mut cx, &mut chunk, Demand::items(8)).unwrap() {
                    Fill::Pending if chunk.is_empty() => Poll::Pending,
                    fill => Poll::Ready(fill),
                }
            }));
            assert!(chunk.len() <= 1, "never more than the capacity");
            got.extend(chunk.values().iter().copied());
            if matches!(fill, Fill::Done) {
                break;
            }
        }
        assert_eq!(got, (0..ELEMENTS).collect::<Vec<_>>());
    };
    roles(swap, produce, consume);
}

#[test]
fn the_ring_loses_no_element_and_no_wake_up() {
    explore(20, || ring_model(false));
    explore(20, || ring_model(true));
}

/// A mark is all that comes, and nobody asks for elements.
fn mark_model(swap: bool) {
    let stage = Arc::new(Stage::new(1, false, false));
    let (mut sink, mut source) = ring::<u64>(Buffer::items(1), &stage);
    let here = Arc::clone(&stage);
    let produce = move || {
        let turn = Turn::new(Arc::new(NoSpawn));
        let mark = Mark::Rewind(SourceId::new(1), Generation(1));
        block_on(poll_fn(|task| {
            sink.mark(&mut Context::new(task, &here, &turn), &mark)
        }))
        .unwrap();
    };
    let consume = move || {
        let turn = Turn::new(Arc::new(NoSpawn));
        let fill = block_on(poll_fn(|task| {
            let (mut cx, mut chunk) = (Context::new(task, &stage, &turn), Chunk::default());
            match source.fill(&mut cx, &mut chunk, Demand::NONE).unwrap() {
                Fill::Pending => Poll::Pending,
                fill => Poll::Ready(fill),
            }
        }));
        assert!(matches!(fill, Fill::Mark(Mark::Rewind(..))));
    };
    roles(swap, produce, consume);
}

#[test]
fn a_mark_wakes_whoever_asks_for_nothing() {
    explore(4, || mark_model(false));
    explore(4, || mark_model(true));
}

/// Time that stands still, or goes on to a timer as soon as one is set.
struct Jumps {
    jumps: bool,
    now: std::sync::atomic::AtomicU64,
}

impl time::Clock for Jumps {
    fn now(&self) -> Time {
        Time::from_nanos(self.now.load(Ordering::Relaxed))
    }
    fn wake_at(&self, at: Time, waker: &Waker) -> u64 {
        if self.jumps {
            self.now.store(at.as_nanos(), Ordering::Relaxed);
            waker.wake_by_ref();
        }
        0
    }
    fn forget(&self, _: u64) {}
    fn work(&self, _: u64) {}
    #[cfg(feature = "testkit")]
    fn step(&self, _: Time) -> bool {
        false
    }
    fn lacks_tokio(&self) {}
}

/// How many elements came out, for a producer that waits for them.
#[derive(Default)]
struct Seen {
    count: AtomicU64,
    waiting: AtomicWaker,
}

impl Seen {
    fn add(&self, count: usize) {
        self.count.fetch_add(count as u64, Ordering::AcqRel);
        self.waiting.wake();
    }

    fn wait_for(&self, count: u64) {
        block_on(poll_fn(|task| {
            self.waiting.register(task.waker());
            match self.count.load(Ordering::Acquire) {
                seen if seen >= count => Poll::Ready(()),
                _ => Poll::Pending,
            }
        }));
    }
}

/// Gathers groups of at most two behind a ring, asked for none, one and many by turns. The producer
/// goes on only when a group has come out that must: one that is full, or whose time is up.
fn grouped_model(swap: bool, within: Duration, jumps: bool) {
    let count = if jumps { 2 } else { 3 };
    let _clock = time::enter(Arc::new(Jumps {
        jumps,
        now: std::sync::atomic::AtomicU64::new(0),
    }));
    let ring_stage = Arc::new(Stage::new(1, false, false));
    let stage = Stage::new(2, false, false);
    let (sink, source) = ring::<u64>(Buffer::items(1), &ring_stage);
    let seen = Arc::new(Seen::default());
    let theirs = Arc::clone(&seen);
    let produce = produce(sink, Arc::clone(&ring_stage), count, move |n| {
        if jumps || n == 1 {
            theirs.wait_for(n + 1);
        }
    });
    let limits = BatchLimits::new(2, within);
    let mut grouped = Grouped::new(Input::new(Box::new(source), ring_stage), limits);
    let consume = move || {
        let turn = Turn::new(Arc::new(NoSpawn));
        let mut groups: Vec<Vec<u64>> = Vec::new();
        let mut asks = [1, 8].into_iter().cycle();
        let mut fill = |items: usize| {
            block_on(poll_fn(|task| {
                let mut cx = Context::new(task, &stage, &turn);
                let mut out = Chunk::default();
                let none = grouped.fill(&mut cx, &mut out, Demand::NONE).unwrap();
                assert!(out.is_empty() && matches!(none, Fill::Pending | Fill::Done));
                let fill = grouped.fill(&mut cx, &mut out, Demand::items(items));
                assert!(out.len() <= items, "never more than was asked for");
                for element in out.drain() {
                    seen.add(element.value.len());
                    groups.push(element.value);
                }
                assert!(grouped.held().items <= 4, "one group waits, one gathers");
                match fill.unwrap() {
                    Fill::Pending => Poll::Pending,
                    fill => Poll::Ready(fill),
                }
            }))
        };
        while !matches!(fill(asks.next().unwrap()), Fill::Done) {}
        assert_eq!(groups.concat(), (0..count).collect::<Vec<_>>());
        let sizes: Vec<usize> = groups.iter().map(Vec::len).collect();
        assert_eq!(sizes, if jumps { vec![1, 1] } else { vec![2, 1] });
        assert_eq!(grouped.held(), Held::NONE);
    };
    roles(swap, produce, consume);
}

#[test]
fn groups_gathered_behind_a_ring_are_whole_and_in_order() {
    for within in [Duration::MAX, Duration::from_secs(1)] {
        explore_up_to(2, 1_000, move || grouped_model(false, within, false));
        explore_up_to(2, 1_000, move || grouped_model(true, within, false));
    }
}

#[test]
fn groups_closed_by_time_behind_a_ring_lose_no_element() {
    let within = Duration::from_secs(1);
    explore_up_to(2, 1_000, move || grouped_model(false, within, true));
    explore_up_to(2, 1_000, move || grouped_model(true, within, true));
}

fn page_model(swap: bool) {
    let tracker: Tracker<u64> = Tracker::new(SourceId::new(0), 2, Passes::resolved());
    let mut places = Vec::new();
    tracker.issue(0..2, |page, mask| places.push((page, mask)));
    let waits = tracker.clone();
    let settle = move || {
        for (page, mask) in places {
            page.settle(mask, Outcome::Delivered, 0);
        }
    };
    let wait = move || {
        assert_eq!(block_on(poll_fn(|task| waits.poll_credit(task))), 2);
        assert_eq!(waits.settled().position, Some(1));
    };
    roles(swap, settle, wait);
    assert!(tracker.walker().counts().balances());
}

#[test]
fn a_settlement_wakes_the_source_that_waits_for_credit() {
    explore(4, || page_model(false));
    explore(4, || page_model(true));
}

fn halves_model(swap: bool) {
    let tracker: Tracker<u64> = Tracker::new(SourceId::new(0), 8, Passes::resolved());
    let mut place = None;
    tracker.issue(0..4, |page, mask| place = Some((page, mask)));
    let (page, _) = place.unwrap();
    let other = Arc::clone(&page);
    roles(
        swap,
        move || page.settle(0b0011, Outcome::Delivered, 0),
        move || other.settle(0b1100, Outcome::Filtered(crate::outcome::Reason::Plain), 0),
    );
    let counts = tracker.walker().counts();
    assert_eq!(counts.unsettled(), 0);
    assert_eq!(tracker.settled().sequence, 4);
    assert!(counts.balances());
}

#[test]
fn two_settlers_of_one_page_do_not_disturb_each_other() {
    explore(2, || halves_model(false));
    explore(2, || halves_model(true));
}

fn branches_model(swap: bool) {
    let tracker: Tracker<u64> = Tracker::new(SourceId::new(0), 8, Passes::resolved());
    let mut whole = None;
    tracker.issue(0..2, |page, mask| whole = Some(Run::page(page, mask)));
    let mut branches = whole.unwrap().fork(2);
    let (second, first) = (branches.pop().unwrap(), branches.pop().unwrap());
    roles(
        swap,
        move || first.settle(Outcome::Delivered, 0),
        move || second.settle(Outcome::Shed(crate::outcome::Reason::Plain), 0),
    );
    let counts = tracker.walker().counts();
    assert_eq!(
        counts.unsettled(),
        0,
        "neither branch saw that all parts had ended"
    );
    assert_eq!(counts.outcome(crate::outcome::Kind::Shed), 2);
    assert!(counts.balances());
}

#[test]
fn of_two_branches_that_settle_at_once_one_settles_the_element() {
    explore(4, || branches_model(false));
    explore(4, || branches_model(true));
}

/// The future in that slot wakes itself while the operator goes to sleep.
fn wakes_model(slot: usize, swap: bool) {
    let wakes = Arc::new(Wakes::new());
    let waker = wakes.waker(slot);
    let sleep = move || {
        block_on(poll_fn(|task| {
            let mut woken = None;
            wakes.take(|slot| woken = Some(slot));
            if let Some(woken) = woken {
                assert_eq!(woken, slot);
                return Poll::Ready(());
            }
            if !wakes.sleep(task.waker()) {
                return Poll::Ready(());
            }
            Poll::Pending
        }));
    };
    roles(swap, move || waker.wake(), sleep);
}

#[test]
fn a_woken_future_is_polled() {
    // In the first word, and in one that was added.
    for slot in [0, 64] {
        explore(3, move || wakes_model(slot, false));
        explore(3, move || wakes_model(slot, true));
    }
}
