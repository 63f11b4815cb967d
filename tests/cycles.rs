//! Cycles and marks: a barrier waits until nothing is inside, a rewind passes at once.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use forebay::chunk::{Chunk, Element};
use forebay::error::{RunError, Stop};
use forebay::flow::{Cycle, Flow};
use forebay::mark::Mark;
use forebay::operator::{Answer, Context, Control, Demand, Held, Sink};
use forebay::outcome::{Kind, Outcome, Reason};
use forebay::runtime::Snapshot;
use forebay::testkit::replay;
use forebay::topology::{Guarantee, NodeSpec};
use support::run;

const COUNT: u64 = 300;

fn numbers() -> Flow<(u64, u64)> {
    replay(0..COUNT)
        .on_unresolved(Answer::Rewind)
        .map(|n| (n, n))
}

/// Sends each number round until it is 0: over two islands and a pool of futures. The call with that
/// number fails.
fn round(flow: Flow<(u64, u64)>, fails_at: &'static [u64]) -> Flow<u64> {
    let calls = Arc::new(AtomicU64::new(0));
    flow.feedback(16, move |numbers| {
        let (out, again) = numbers.divert(8, |(_, left)| *left > 0);
        let next = again.map_async(4, move |(n, left)| {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            async move {
                if left % 3 == 0 {
                    tokio::task::yield_now().await;
                }
                assert!(!fails_at.contains(&call), "this call fails");
                (n, left / 2)
            }
        });
        (out.map(|(n, _)| n), next)
    })
}

/// Keeps what it gets until a barrier comes, and settles it then, if its source may commit.
#[derive(Default)]
struct Commits {
    kept: Vec<Element<u64>>,
    committed: Arc<Mutex<Vec<u64>>>,
    refused: bool,
}

impl Commits {
    fn drop_if(&mut self, cx: &mut Context<'_, '_>, goes: impl Fn(&Element<u64>) -> bool) {
        for element in self.kept.extract_if(.., |element| goes(element)) {
            cx.settle(element.meta, Outcome::Cancelled(Reason::Rewound));
        }
    }
}

impl Sink<u64> for Commits {
    type Output = ();

    fn poll_ready(&mut self, _: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        Poll::Ready(Ok(Some(Demand::items(5))))
    }

    fn accept(&mut self, _: &mut Context<'_, '_>, chunk: &mut Chunk<u64>) {
        self.kept.extend(chunk.drain());
    }

    fn mark(&mut self, cx: &mut Context<'_, '_>, mark: &Mark) -> Poll<Result<(), Stop>> {
        match mark {
            Mark::Rewind(source, _) => self.drop_if(cx, |of| of.meta.receipt.is_of(*source)),
            Mark::Barrier(barrier) => match barrier.begin() {
                Some(_commit) => {
                    for element in self.kept.drain(..) {
                        assert!(element.meta.receipt.is_live());
                        self.committed.lock().unwrap().push(element.value);
                        cx.settle(element.meta, Outcome::Delivered);
                    }
                }
                None => {
                    self.drop_if(cx, |_| true);
                    self.refused = true;
                }
            },
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, _: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        Poll::Ready(Ok(()))
    }

    fn take_control(&mut self) -> Option<Control> {
        std::mem::take(&mut self.refused).then_some(Control::RequestRewind)
    }

    fn held(&self) -> Held {
        Held::items(self.kept.len())
    }
}

/// Runs into a sink that settles by barriers alone, and returns what it committed, in order.
fn commit(flow: Flow<u64>) -> (Vec<u64>, Snapshot) {
    let sink = Commits::default();
    let committed = Arc::clone(&sink.committed);
    let pipeline = flow
        .to_stage(NodeSpec::new("commits").holds(COUNT as usize), sink)
        .guarantee(Guarantee::ExactlyOnce);
    let (result, snapshot) = run(pipeline);
    result.unwrap();
    let mut all = committed.lock().unwrap().clone();
    all.sort_unstable();
    (all, snapshot)
}

#[test]
fn what_is_inside_comes_before_the_last_barrier() {
    let flow = round(numbers(), &[]);
    let (all, snapshot) = commit(flow);
    assert_eq!(all, (0..COUNT).collect::<Vec<_>>());
    assert_eq!(snapshot.total().replayed, 0);
}

#[test]
fn every_barrier_waits_for_what_is_inside() {
    let flow = replay(0..COUNT)
        .on_unresolved(Answer::Rewind)
        .window(40)
        .barrier_every(20)
        .map(|n| (n, n));
    // The sink settles by barriers alone: behind one too few, the window would stay full.
    let (all, _) = commit(round(flow, &[]));
    assert_eq!(all, (0..COUNT).collect::<Vec<_>>());
}

#[test]
fn what_is_inside_comes_again_after_a_rewind_and_is_committed_once() {
    let flow = replay(0..COUNT)
        .on_unresolved(Answer::Rewind)
        .window(40)
        .barrier_every(20)
        .map(|n| (n, n));
    let (all, snapshot) = commit(round(flow, &[50, 400, 1_200]));
    assert_eq!(all, (0..COUNT).collect::<Vec<_>>());
    let total = snapshot.total();
    assert_eq!(total.outcome(Kind::Delivered), COUNT);
    assert_eq!(total.outcome(Kind::Failed), 3);
    assert!(total.replayed > 0, "it went back");
}

#[test]
fn a_cycle_goes_back_before_a_sink_that_knows_no_marks() {
    let (result, snapshot) = run(round(numbers(), &[50, 400, 1_200]).collect());
    let mut all = result.unwrap();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all, (0..COUNT).collect::<Vec<_>>());
    assert_eq!(snapshot.total().outcome(Kind::Failed), 3);
}

#[test]
fn a_stage_that_gathers_behind_a_cycle_gets_the_rest_before_the_last_barrier() {
    for answer in [Answer::Rewind, Answer::Divert] {
        let flow = replay(0..COUNT).on_unresolved(answer).map(|n| (n, n));
        let (result, _) = run(round(flow, &[]).grouped(7).collect());
        let groups = result.unwrap();
        assert_eq!(groups.iter().map(Vec::len).sum::<usize>(), COUNT as usize);
        assert!(groups.iter().rev().skip(1).all(|group| group.len() == 7));
    }
}

#[test]
fn a_barrier_that_what_is_inside_cannot_reach_is_an_error() {
    let cycle = Cycle::items(COUNT as usize).stalled_after(Duration::from_millis(50));
    let flow = numbers().feedback(cycle, |numbers| {
        let (out, again) = numbers.divert(8, |(_, left)| *left > 0);
        // The last few never become a group, and so never leave.
        let next = again
            .grouped(3)
            .map_concat(|group| group)
            .map(|(n, left)| (n, left / 2));
        (out, next)
    });
    let (result, _) = run(flow.ignore());
    let Err(RunError::Stopped { stage, cause }) = result else {
        panic!("{result:?}")
    };
    assert_eq!(stage, "feedback", "{cause}");
    assert!(cause.to_string().contains("stands still"), "{cause}");
}
