//! What stages of one's own may rely on: through the public API alone.
#![allow(clippy::unwrap_used, missing_docs)]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use forebay::chunk::{Chunk, Meta};
use forebay::error::{Refused, RunError, Stop};
use forebay::flow::{Accounts, Flow};
use forebay::mark::{Barrier, CommitToken, Mark};
use forebay::operator::{Answer, Context, Control, Demand, Fill, Held, Input, Operator, Sink};
use forebay::outcome::{Kind, Outcome, Reason};
use forebay::position::Tracker;
use forebay::source;
use forebay::topology::NodeSpec;
use tokio::sync::watch;

/// Hands on what it gets, and notes that it was closed.
struct Closing {
    input: Input<u64>,
    fails_at: Option<u64>,
    closed: Arc<AtomicBool>,
}

impl Operator<u64> for Closing {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<u64>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let fill = self.input.fill(cx, out, want)?;
        if out
            .values()
            .iter()
            .any(|value| Some(*value) == self.fails_at)
        {
            cx.settle_chunk(out, Outcome::Failed(Reason::Error));
            return Err(Stop::error("no more"));
        }
        Ok(fill)
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        self.input.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held::NONE
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.closed.store(true, Ordering::Relaxed);
        self.input.poll_close(cx)
    }
}

fn closing(fails_at: Option<u64>, closed: &Arc<AtomicBool>) -> Flow<u64> {
    let closed = Arc::clone(closed);
    source::iter(0_u64..).stage("closing", move |input| Closing {
        input,
        fails_at,
        closed,
    })
}

#[tokio::test]
async fn a_stage_is_closed_after_an_error() {
    let closed = Arc::new(AtomicBool::new(false));
    let mut running = closing(Some(100), &closed).ignore().run().unwrap();
    let ended = running.join().await;
    assert!(matches!(ended, Err(RunError::Stopped { stage, .. }) if stage == "closing"));
    assert!(closed.load(Ordering::Relaxed));
    running.snapshot().check().unwrap();
}

#[tokio::test]
async fn a_stage_is_closed_after_an_abort() {
    let closed = Arc::new(AtomicBool::new(false));
    let mut running = closing(None, &closed)
        .map_async(4, |value| async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            value
        })
        .ignore()
        .run()
        .unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    running.abort().await;
    assert!(closed.load(Ordering::Relaxed));
    running.snapshot().check().unwrap();
}

/// Waits at the first barrier until an element behind it has begun to be worked on.
struct WaitsAtBarrier {
    begun: watch::Receiver<u64>,
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Sink<u64> for WaitsAtBarrier {
    type Output = ();

    fn poll_ready(&mut self, _: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        Poll::Ready(Ok(Some(Demand::items(16))))
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<u64>) {
        cx.settle_chunk(chunk, Outcome::Delivered);
    }

    fn mark(&mut self, cx: &mut Context<'_, '_>, _: &Mark) -> Poll<Result<(), Stop>> {
        let mut begun = self.begun.clone();
        let waiting = self.waiting.get_or_insert_with(|| {
            Box::pin(async move {
                let _ = begun.wait_for(|begun| *begun > 10).await;
            })
        });
        std::task::ready!(waiting.as_mut().poll(cx.task()));
        self.waiting = None;
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, _: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn stages_go_on_while_a_mark_waits_for_the_sink() {
    let (tell, begun) = watch::channel(0);
    let mut running = source::iter(0..20_u64)
        .barrier_every(10)
        .map_async(4, move |value| {
            tell.send_modify(|begun| *begun += 1);
            async move {
                tokio::task::yield_now().await;
                value
            }
        })
        .to(WaitsAtBarrier {
            begun,
            waiting: None,
        })
        .run()
        .unwrap();
    let joined = tokio::time::timeout(Duration::from_secs(10), running.join()).await;
    joined.expect("the stages stood still").unwrap();
    let snapshot = running.snapshot();
    snapshot.check().unwrap();
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 20);
}

/// Two sequences under one source: evens and odds.
struct TwoSequences {
    accounts: Accounts,
    trackers: Vec<Tracker<u64>>,
    next: u64,
    credit: Arc<AtomicU64>,
}

impl Operator<u64> for TwoSequences {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<u64>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        if self.trackers.is_empty() {
            assert_eq!(self.accounts.answer(), Answer::Rewind);
            assert_eq!(self.accounts.barrier_every(), 5);
            self.trackers = vec![self.accounts.tracker(), self.accounts.tracker()];
            let credit = self.trackers[0].credit() as u64;
            self.credit.store(credit, Ordering::Relaxed);
        }
        if self.next == 10 {
            return Ok(Fill::Done);
        }
        if want.is_none() {
            return Ok(Fill::Pending);
        }
        out.push_value(self.next);
        let tracker = self.trackers[(self.next % 2) as usize].clone();
        cx.track(out, &tracker, [self.next]);
        self.next += 1;
        Ok(Fill::More)
    }

    fn control(&mut self, _: &mut Context<'_, '_>, _: Control) {}

    fn held(&self) -> Held {
        Held::NONE
    }
}

#[tokio::test]
async fn an_operator_that_tracks_by_itself_reads_the_declaration() {
    let credit = Arc::new(AtomicU64::new(0));
    let mut running = Flow::from_operator("two", {
        let credit = Arc::clone(&credit);
        move |accounts| TwoSequences {
            accounts,
            trackers: Vec::new(),
            next: 0,
            credit,
        }
    })
    .window(7)
    .barrier_every(5)
    .on_unresolved(Answer::Rewind)
    .collect()
    .run()
    .unwrap();
    assert_eq!(running.join().await.unwrap(), (0..10).collect::<Vec<_>>());
    assert_eq!(credit.load(Ordering::Relaxed), 7);
    let snapshot = running.snapshot();
    snapshot.check().unwrap();
    assert_eq!(snapshot.total().entered, 10);
}

#[tokio::test]
async fn an_operator_that_tracks_by_itself_cannot_be_untracked() {
    let refused = Flow::from_operator("two", |accounts| TwoSequences {
        accounts,
        trackers: Vec::new(),
        next: 0,
        credit: Arc::default(),
    })
    .untracked()
    .ignore()
    .run();
    assert!(matches!(refused, Err(Refused::Setting { stage, .. }) if stage == "two"));
}

/// Takes from its inputs in turn, one element each.
struct InTurn {
    inputs: Vec<Input<u64>>,
    turn: usize,
}

impl Operator<u64> for InTurn {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<u64>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        if self.inputs.iter().all(Input::is_done) {
            return Ok(Fill::Done);
        }
        let turn = self.turn % self.inputs.len();
        self.turn += 1;
        let fill = self.inputs[turn].fill(cx, out, want.at_most(1))?;
        Ok(match fill {
            Fill::Mark(mark) => Fill::Mark(mark),
            _ if !out.is_empty() => Fill::More,
            _ => {
                cx.waker().wake_by_ref();
                Fill::Pending
            }
        })
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        for input in &mut self.inputs {
            input.control(cx, signal);
        }
    }

    fn held(&self) -> Held {
        Held::NONE
    }
}

#[tokio::test]
async fn flows_meet_in_a_stage_of_ones_own() {
    let mut running = source::iter([1, 4])
        .stage_with(
            [source::iter([2, 5]), source::iter([3, 6])],
            NodeSpec::new("in_turn"),
            |inputs| InTurn { inputs, turn: 0 },
        )
        .collect()
        .run()
        .unwrap();
    assert_eq!(running.join().await.unwrap(), [1, 2, 3, 4, 5, 6]);
    running.snapshot().check().unwrap();
}

/// A source that hands over four elements and a barrier, then waits to go back or to end.
struct Gives {
    accounts: Accounts,
    tracker: Option<Tracker<u64>>,
    given: u64,
    marked: bool,
    back: bool,
}

/// Keeps what it gets, and commits at the barrier unless it must not.
struct Keeps {
    kept: Vec<Meta>,
    refused: Arc<AtomicBool>,
}

impl Operator<u64> for Gives {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<u64>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let accounts = &self.accounts;
        let tracker = self
            .tracker
            .get_or_insert_with(|| accounts.tracker())
            .clone();
        if std::mem::take(&mut self.back) {
            let Poll::Ready(settled) = tracker.poll_rewind(cx.task()) else {
                self.back = true;
                return Ok(Fill::Pending);
            };
            while tracker.take_unresolved().is_some() {}
            (self.given, self.marked) = (0, false);
            let mark = Mark::Rewind(tracker.source(), settled.generation);
            return Ok(Fill::Mark(mark));
        }
        if self.given < 4 {
            if want.is_none() {
                return Ok(Fill::Pending);
            }
            let given = self.given..4.min(self.given + want.items as u64);
            self.given = given.end;
            given.clone().for_each(|value| out.push_value(value));
            cx.track(out, &tracker, given);
            return Ok(Fill::More);
        }
        if !std::mem::replace(&mut self.marked, true) {
            let end = tracker.barrier();
            let token = CommitToken::new(tracker.source(), end.epoch, end.position);
            let token = token.covering(&tracker, &end);
            return Ok(Fill::Mark(Mark::Barrier(Barrier::new(token))));
        }
        Ok(match tracker.poll_quiet(cx.task()) {
            Poll::Ready(()) if tracker.settled().sequence == 4 => Fill::Done,
            _ => Fill::Pending,
        })
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        if signal == Control::RequestRewind {
            self.back = true;
            cx.waker().wake_by_ref();
        }
    }

    fn held(&self) -> Held {
        Held::NONE
    }
}

impl Sink<u64> for Keeps {
    type Output = ();

    fn poll_ready(&mut self, _: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        Poll::Ready(Ok(Some(Demand::items(16))))
    }

    fn accept(&mut self, _: &mut Context<'_, '_>, chunk: &mut Chunk<u64>) {
        self.kept.extend(chunk.drain().map(|element| element.meta));
    }

    fn mark(&mut self, cx: &mut Context<'_, '_>, mark: &Mark) -> Poll<Result<(), Stop>> {
        let Mark::Barrier(barrier) = mark else {
            return Poll::Ready(Ok(()));
        };
        let commit = barrier.begin();
        let outcome = if commit.is_some() {
            assert!(self.kept.iter().all(|meta| meta.receipt.is_live()));
            assert_eq!(barrier.tokens()[0].detail::<Option<u64>>(), Some(&Some(3)));
            Outcome::Delivered
        } else {
            self.refused.store(true, Ordering::Relaxed);
            Outcome::Cancelled(Reason::Rewound)
        };
        for meta in self.kept.drain(..) {
            cx.settle(meta, outcome);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, _: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        Poll::Ready(Ok(()))
    }

    fn take_control(&mut self) -> Option<Control> {
        let asks = self.refused.load(Ordering::Relaxed) && self.kept.is_empty();
        (asks && self.refused.swap(false, Ordering::Relaxed)).then_some(Control::RequestRewind)
    }

    fn held(&self) -> Held {
        Held::items(self.kept.len())
    }
}

#[tokio::test]
async fn a_barrier_behind_a_failure_is_not_committed() {
    let failed = AtomicBool::new(false);
    let mut running = Flow::from_operator("gives", |accounts| Gives {
        accounts,
        tracker: None,
        given: 0,
        marked: false,
        back: false,
    })
    .on_unresolved(Answer::Rewind)
    .map(move |value| {
        let fails = value == 2 && !failed.swap(true, Ordering::Relaxed);
        assert!(!fails, "fails the first time");
        value
    })
    .to_stage(
        NodeSpec::new("keeps").holds(4),
        Keeps {
            kept: Vec::new(),
            refused: Arc::new(AtomicBool::new(false)),
        },
    )
    .run()
    .unwrap();
    let joined = tokio::time::timeout(Duration::from_secs(10), running.join()).await;
    joined.expect("it never went back").unwrap();
    let snapshot = running.snapshot();
    snapshot.check().unwrap();
    let total = snapshot.total();
    assert_eq!((total.entered, total.replayed), (8, 4));
    assert_eq!(total.outcome(Kind::Delivered), 4);
    assert_eq!(total.outcome(Kind::Failed), 1);
    assert_eq!(total.outcome(Kind::Cancelled), 3);
}
