//! Flows that are built while a run goes on: what they must keep of what is around them, and what
//! that must keep of them.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::task::Poll;
use std::time::Duration;

use forebay::chunk::{Chunk, Element};
use forebay::dead_letter::DeadLetterFn;
use forebay::error::{BoxError, Cause, Refused, RunError, Stop};
use forebay::flow::{DeadLetters, Flow, Restart, restarting};
use forebay::mark::Mark;
use forebay::operator::{Answer, Context, Demand, Held, Sink};
use forebay::outcome::{Kind, Outcome};
use forebay::runtime::Snapshot;
use forebay::source::{self, Line, Lines};
use forebay::testkit::replay;
use forebay::topology::NodeSpec;

const COUNT: u64 = 100;

fn numbers(answer: Answer) -> Flow<u64> {
    replay(0..COUNT).on_unresolved(answer)
}

/// Runs to the end, within 5 s, and checks the accounts.
async fn run<T: Send + 'static>(flow: Flow<T>) -> (Result<Vec<T>, RunError>, Snapshot) {
    let mut running = flow.collect().run().unwrap();
    let joined = tokio::time::timeout(Duration::from_secs(5), running.join()).await;
    let snapshot = running.snapshot();
    let result = joined.unwrap_or_else(|_| panic!("it stands still:\n{snapshot}"));
    snapshot.check().unwrap();
    (result, snapshot)
}

/// The stage whose flow was refused, and why.
async fn refused<T: Send + std::fmt::Debug + 'static>(flow: Flow<T>) -> (String, Refused) {
    let (result, snapshot) = run(flow).await;
    let Err(RunError::Stopped {
        stage,
        cause: Cause::Error(error),
    }) = result
    else {
        panic!("{result:?}");
    };
    // Nothing was handed on as if it had been done, and nothing counts as lost.
    let total = snapshot.total();
    assert_eq!(total.outcome(Kind::Delivered), 0, "{snapshot}");
    assert_eq!(total.outcome(Kind::Cancelled), total.entered, "{snapshot}");
    (stage, error.downcast_ref::<Refused>().unwrap().clone())
}

fn cannot_go_back(stage: &str) -> Refused {
    Refused::Guarantee {
        guarantee: "going back (Answer::Rewind)",
        stage: stage.to_owned(),
        why: "has state that a rewind would have to rebuild: use `stateful_map_with_rebuild`"
            .to_owned(),
    }
}

/// Sums up, and cannot take it back.
fn sums(flow: Flow<u64>) -> Flow<u64> {
    flow.scan(0, |sum, n| {
        *sum += n;
    })
}

fn again() -> Restart {
    Restart::backoff(Duration::from_millis(1), Duration::from_millis(1))
}

#[tokio::test]
async fn a_group_that_cannot_go_back_is_refused_behind_a_source_that_does() {
    let flow = numbers(Answer::Rewind).group_by(4, |n| n % 2, |_, group| sums(group));
    let (stage, why) = refused(flow).await;
    assert_eq!(stage, "group_by[merge]");
    assert_eq!(why, cannot_go_back("scan"));
}

#[tokio::test]
async fn a_group_in_a_group_that_cannot_go_back_is_refused_as_well() {
    let flow = numbers(Answer::Rewind).group_by(
        4,
        |n| n % 2,
        |_, group| group.group_by(4, |n| n % 3, |_, group| sums(group)),
    );
    let (_, why) = refused(flow).await;
    assert_eq!(why, cannot_go_back("scan"));
}

#[tokio::test]
async fn a_group_that_cannot_go_back_is_no_matter_where_nothing_does() {
    let flow = numbers(Answer::Stop).group_by(4, |n| n % 2, |_, group| sums(group));
    assert_eq!(run(flow).await.0.unwrap().len(), COUNT as usize);
}

#[tokio::test]
async fn a_source_that_goes_back_is_refused_inside_of_stages_that_cannot() {
    let flow = sums(restarting(again(), |_| numbers(Answer::Rewind)));
    let (stage, why) = refused(flow).await;
    assert_eq!(stage, "restarting");
    assert_eq!(why, cannot_go_back("scan"));
}

#[tokio::test]
async fn a_source_that_goes_back_in_a_group_is_refused_before_stages_that_cannot() {
    let flow = source::iter(0..10_u64).group_by(
        4,
        |n| n % 2,
        |_, group| group.merge([numbers(Answer::Rewind)]),
    );
    let (stage, why) = refused(sums(flow)).await;
    assert_eq!(stage, "group_by[merge]");
    assert_eq!(why, cannot_go_back("scan"));
}

#[tokio::test]
async fn a_restarted_flow_within_another_knows_what_is_around_both() {
    let flow = restarting(again(), |_| {
        restarting(again(), |_| numbers(Answer::Rewind))
    });
    let (_, why) = refused(sums(flow)).await;
    assert_eq!(why, cannot_go_back("scan"));
}

#[tokio::test]
async fn a_restarted_flow_that_cannot_go_back_is_no_matter_beside_a_source_that_does() {
    let mut fails = true;
    let back = numbers(Answer::Rewind).try_map(move |n| {
        if *n == 42 && std::mem::take(&mut fails) {
            return Err("not yet");
        }
        Ok(*n)
    });
    let beside = restarting(again(), |_| sums(source::iter(0..COUNT)));
    let (result, snapshot) = run(back.or_fail().merge([beside])).await;
    let all = BTreeSet::from_iter(result.unwrap());
    assert!((0..COUNT).all(|n| all.contains(&n)) && all.contains(&(COUNT * (COUNT - 1) / 2)));
    assert_eq!(snapshot.sources[0].counts.rewinds, 1);
}

#[tokio::test]
async fn a_source_that_goes_back_in_a_group_goes_back() {
    let flow = source::iter(0..10_u64).group_by(
        4,
        |n| n % 2,
        |key, group| {
            let mut fails = *key == 0;
            let numbers = numbers(Answer::Rewind).try_map(move |n| {
                if *n == 42 && std::mem::take(&mut fails) {
                    return Err("not yet");
                }
                Ok(*n)
            });
            group.merge([numbers.or_fail()])
        },
    );
    let (result, _) = run(flow.map_async(4, |n| async move { n })).await;
    let mut all = result.unwrap();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all, (0..COUNT).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_group_knows_that_the_source_before_it_keeps_the_original_bytes() {
    let flow = source::lines(Lines::read("text", &b"1\nx\n2\n"[..])).group_by(
        4,
        |_| 0,
        |_, group| {
            let letters = DeadLetters::new(4, DeadLetterFn(|_| Ok(())));
            let parsed = group.try_map(|line: &Line| {
                std::str::from_utf8(&line.bytes)?
                    .parse::<u64>()
                    .map_err(BoxError::from)
            });
            parsed.or_dead_letter(&letters)
        },
    );
    let (result, snapshot) = run(flow).await;
    assert_eq!(result.unwrap(), [1, 2]);
    assert_eq!(snapshot.total().outcome(Kind::DeadLettered), 1);
}

/// Odd numbers fail.
fn failing(flow: Flow<u64>, letters: &DeadLetters) -> Flow<u64> {
    flow.try_map(|n| if n % 2 == 0 { Ok(*n) } else { Err("odd") })
        .encode(|n| n.to_string().into())
        .or_dead_letter(letters)
}

fn refused_letters() -> Refused {
    Refused::Setting {
        stage: "kept".to_owned(),
        what: "flows that are built as the run goes on (groups, restarted flows) cannot share dead \
               letters that were declared outside: make `DeadLetters::new(..)` where the flow is built"
            .to_owned(),
    }
}

#[tokio::test]
async fn groups_that_share_dead_letters_are_refused_by_name() {
    let letters = DeadLetters::new(4, DeadLetterFn(|_| Ok(()))).named("kept");
    // Already the first: how many groups there will be is up to the elements.
    let flow = numbers(Answer::Stop).group_by(4, |_| 0, move |_, group| failing(group, &letters));
    assert_eq!(refused(flow).await.1, refused_letters());
}

#[tokio::test]
async fn flows_that_are_restarted_and_share_dead_letters_are_refused_by_name() {
    let letters = DeadLetters::new(4, DeadLetterFn(|_| Ok(()))).named("kept");
    let flow = restarting(again(), move |_| failing(numbers(Answer::Stop), &letters));
    assert_eq!(refused(flow).await.1, refused_letters());
}

#[tokio::test]
async fn each_group_may_have_dead_letters_of_its_own() {
    let flow = numbers(Answer::Stop).group_by(
        4,
        |n| n % 4,
        |_, group| failing(group, &DeadLetters::new(4, DeadLetterFn(|_| Ok(())))),
    );
    let (result, snapshot) = run(flow).await;
    assert_eq!(result.unwrap().len(), COUNT as usize / 2);
    assert_eq!(snapshot.total().outcome(Kind::DeadLettered), COUNT / 2);
}

/// Keeps what it gets until a barrier of its source comes.
#[derive(Default)]
struct ByBarrier {
    kept: Vec<Element<u64>>,
}

impl Sink<u64> for ByBarrier {
    type Output = ();

    fn poll_ready(&mut self, _: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        Poll::Ready(Ok(Some(Demand::items(5))))
    }

    fn accept(&mut self, _: &mut Context<'_, '_>, chunk: &mut Chunk<u64>) {
        self.kept.extend(chunk.drain());
    }

    fn mark(&mut self, cx: &mut Context<'_, '_>, mark: &Mark) -> Poll<Result<(), Stop>> {
        if let Mark::Barrier(barrier) = mark {
            let ends = |element: &mut Element<u64>| {
                let standing = element.meta.receipt.standing();
                standing.is_some_and(|at| barrier.is_of(at.source))
            };
            for element in self.kept.extract_if(.., ends) {
                cx.settle(element.meta, Outcome::Delivered);
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, _: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        Poll::Ready(Ok(()))
    }

    fn held(&self) -> Held {
        Held::items(self.kept.len())
    }
}

#[tokio::test]
async fn a_barrier_through_groups_is_one_of_the_sources_in_them_as_well() {
    let numbers = || numbers(Answer::Rewind).window(40).barrier_every(20);
    let flow = numbers().group_by(2, |n| n % 2, move |_, group| group.merge([numbers()]));
    let spec = NodeSpec::new("by_barrier").holds(3 * COUNT as usize);
    // Behind a barrier without the token of its source, the window of that would stay full.
    let mut running = flow.to_stage(spec, ByBarrier::default()).run().unwrap();
    let joined = tokio::time::timeout(Duration::from_secs(5), running.join()).await;
    let snapshot = running.snapshot();
    joined
        .unwrap_or_else(|_| panic!("it stands still:\n{snapshot}"))
        .unwrap();
    snapshot.check().unwrap();
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 3 * COUNT);
}

#[tokio::test]
async fn sources_in_groups_rest_and_drain_with_the_others() {
    let flow = source::iter(0..4_u64).group_by(
        4,
        |n| *n,
        |_, group| {
            group.merge([source::repeat(7).map_async(4, |n| async move {
                tokio::task::yield_now().await;
                n
            })])
        },
    );
    let mut running = flow.ignore().run().unwrap();
    let stopper = running.stopper();
    let taken = || running.snapshot().stage("ignore").unwrap().counts.entered;
    let rest = || tokio::time::sleep(Duration::from_millis(30));
    rest().await;
    stopper.pause(true);
    rest().await;
    let resting = taken();
    assert!(resting > 4);
    rest().await;
    assert_eq!(taken(), resting);
    stopper.pause(false);
    rest().await;
    assert!(taken() > resting);
    let drained = running.drain(Duration::from_secs(5)).await.unwrap();
    assert_eq!(drained.still_running, [""; 0]);
}
