//! Models of what two threads do at once, checked by loom in every order: the ring, the pages and
//! the wake-ups of futures. Each is run with the roles of the threads both ways, because loom misses
//! orders when the spawned thread reads before it writes; and each counts its runs, so that a model
//! that explores nothing fails.
//!
//! `RUSTFLAGS="--cfg forebay_loom" cargo test --release --lib loom_models`
#![allow(clippy::unwrap_used)]

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use loom::future::block_on;
use loom::thread;

use crate::boundary::{Buffer, ring};
use crate::chunk::{Chunk, Element};
use crate::operator::in_flight::Wakes;
use crate::operator::{Context, Demand, Fill, Operator, Sink, Spawn, Stage, Turn};
use crate::outcome::Outcome;
use crate::position::{Passes, SourceId, Tracker};
use crate::receipt::Run;

struct NoSpawn;

impl Spawn for NoSpawn {
    fn spawn(&self, _: &str, _: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) {}
}

/// Runs a model and asserts that it was run in at least so many orders.
fn explore(at_least: usize, model: impl Fn() + Sync + Send + 'static) {
    let runs = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&runs);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
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

const ELEMENTS: u64 = 2;

fn ring_model(swap: bool) {
    let stage = Arc::new(Stage::new(1, false, false));
    let (mut sink, mut source) = ring::<u64>(Buffer::items(1), &stage);
    let (sink_stage, source_stage) = (Arc::clone(&stage), stage);
    let produce = move || {
        let turn = Turn::new(Arc::new(NoSpawn));
        for n in 0..ELEMENTS {
            block_on(poll_fn(|task| {
                let mut cx = Context::new(task, &sink_stage, &turn);
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
        }
        block_on(poll_fn(|task| {
            sink.poll_close(&mut Context::new(task, &sink_stage, &turn))
        }))
        .unwrap();
    };
    let consume = move || {
        let turn = Turn::new(Arc::new(NoSpawn));
        let mut got = Vec::new();
        loop {
            let mut chunk = Chunk::default();
            let fill = block_on(poll_fn(|task| {
                let mut cx = Context::new(task, &source_stage, &turn);
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

fn wakes_model(swap: bool) {
    let wakes = Arc::new(Wakes::new(1));
    let theirs = Arc::clone(&wakes);
    let sleep = move || {
        block_on(poll_fn(|task| {
            if wakes.take(0) != 0 || !wakes.sleep(task.waker()) {
                return Poll::Ready(());
            }
            Poll::Pending
        }));
    };
    roles(swap, move || theirs.wake(0), sleep);
}

#[test]
fn a_woken_future_is_polled() {
    explore(3, || wakes_model(false));
    explore(3, || wakes_model(true));
}
