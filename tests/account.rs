//! What the account of a run finds by itself: stages that tell it one thing and the source another.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::task::Poll;

use forebay::chunk::{Chunk, Element};
use forebay::error::Stop;
use forebay::flow::Pipeline;
use forebay::operator::{Context, Control, Demand, Fill, Held, Input, Operator, Sink};
use forebay::outcome::{Kind, Outcome, Reason};
use forebay::receipt::Receipt;
use forebay::runtime::Snapshot;
use forebay::source;

/// Does something to one element, and hands on what comes back.
struct Tampers<F> {
    input: Input<u64>,
    buf: Chunk<u64>,
    with: F,
}

impl<F> Operator<u64> for Tampers<F>
where
    F: FnMut(&mut Context<'_, '_>, Element<u64>) -> Option<Element<u64>> + Send,
{
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<u64>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        loop {
            let fill = self.input.fill(cx, &mut self.buf, want)?;
            for element in self.buf.drain() {
                if element.value == 42 {
                    if let Some(element) = (self.with)(cx, element) {
                        out.push(element);
                    }
                } else {
                    out.push(element);
                }
            }
            if !matches!(fill, Fill::More) || !out.is_empty() {
                return Ok(fill);
            }
        }
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        self.input.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held::NONE
    }

    fn poll_close(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        self.input.poll_close(cx)
    }
}

fn tampered<F>(with: F) -> Pipeline<Vec<u64>>
where
    F: FnMut(&mut Context<'_, '_>, Element<u64>) -> Option<Element<u64>> + Send + 'static,
{
    source::iter(0..100_u64)
        .map(|n| n)
        .stage("tampers", |input| Tampers {
            input,
            buf: Chunk::default(),
            with,
        })
        .buffer(16)
        .collect()
}

async fn run<O: Send + 'static>(pipeline: Pipeline<O>) -> Snapshot {
    let mut running = pipeline.run().unwrap();
    running.join().await.unwrap();
    running.snapshot()
}

/// What `check` finds: stage and complaint.
fn found(snapshot: &Snapshot) -> Vec<(String, String)> {
    let wrong = snapshot.check().unwrap_err();
    wrong.into_iter().map(|one| (one.stage, one.what)).collect()
}

fn pair(stage: &str, what: &str) -> (String, String) {
    (stage.to_owned(), what.to_owned())
}

#[tokio::test]
async fn a_stage_that_drops_a_receipt_and_hands_the_value_on_is_named() {
    let snapshot = run(tampered(|_, mut element| {
        drop(std::mem::take(&mut element.meta.receipt));
        Some(element)
    }))
    .await;
    assert_eq!(
        found(&snapshot),
        [pair(
            "tampers",
            "1 receipts were dropped, not settled: of `iter`"
        )]
    );
    let abandoned = BTreeMap::from([("tampers".to_owned(), 1)]);
    assert_eq!(snapshot.sources[0].abandoned, abandoned);
    assert_eq!(snapshot.total().outcome(Kind::Failed), 1);
}

#[tokio::test]
async fn a_dropped_part_of_an_element_is_found_as_well() {
    let snapshot = run(tampered(|_, mut element| {
        let part = element.meta.receipt.fork();
        drop(part);
        Some(element)
    }))
    .await;
    assert_eq!(found(&snapshot)[0].0, "tampers");
}

#[tokio::test]
async fn an_outcome_told_to_one_side_alone_is_found() {
    // The receipt says filtered; the account of the stage, delivered.
    let snapshot = run(tampered(|cx, mut element| {
        let receipt = std::mem::replace(&mut element.meta.receipt, Receipt::none());
        receipt.settle(Outcome::Filtered(Reason::Plain));
        cx.settle(element.meta, Outcome::Expired);
        None
    }))
    .await;
    assert_eq!(
        found(&snapshot),
        [
            pair("iter", "the stages count 0 filtered, and the sources 1"),
            pair("tampers", "the stages count 1 expired, and the sources 0"),
        ]
    );
}

#[tokio::test]
async fn an_outcome_that_no_stage_counts_is_found_where_elements_are_copied() {
    // The receipt says failed; the account of the stage, filtered.
    let [one, other] = source::iter(0..100_u64).broadcast(16);
    let tampers = one.stage("tampers", |input| Tampers {
        input,
        buf: Chunk::default(),
        with: |cx: &mut Context<'_, '_>, mut element: Element<u64>| {
            let receipt = std::mem::take(&mut element.meta.receipt);
            receipt.settle(Outcome::Failed(Reason::Plain));
            cx.settle(element.meta, Outcome::Filtered(Reason::Plain));
            None
        },
    });
    let snapshot = run(tampers.collect().and(other.ignore())).await;
    assert_eq!(
        found(&snapshot),
        [pair(
            "iter",
            "no stage counts one failed, and it was told so of 1"
        )]
    );
}

#[tokio::test]
async fn a_stage_of_a_group_that_drops_receipts_is_named() {
    let flow = source::iter(0..100_u64).group_by(
        4,
        |n| n % 2,
        |_, group| {
            group.stage("tampers", |input| Tampers {
                input,
                buf: Chunk::default(),
                with: |_: &mut Context<'_, '_>, mut element: Element<u64>| {
                    drop(std::mem::take(&mut element.meta.receipt));
                    Some(element)
                },
            })
        },
    );
    let snapshot = run(flow.collect()).await;
    assert_eq!(
        found(&snapshot),
        [pair(
            "group_by/tampers",
            "1 receipts were dropped, not settled: of `iter`"
        )]
    );
}

/// Takes the receipt off each element, and counts it as delivered.
struct Forgets;

impl Sink<u64> for Forgets {
    type Output = ();

    fn poll_ready(&mut self, _: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        Poll::Ready(Ok(Some(Demand::items(16))))
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<u64>) {
        for mut element in chunk.drain() {
            drop(std::mem::take(&mut element.meta.receipt));
            cx.settle(element.meta, Outcome::Delivered);
        }
    }

    fn poll_close(&mut self, _: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_sink_that_drops_receipts_is_named() {
    let snapshot = run(source::iter(0..100_u64).to(Forgets).named("forgets")).await;
    assert_eq!(
        found(&snapshot),
        [pair(
            "forgets",
            "100 receipts were dropped, not settled: of `iter`"
        )]
    );
}

#[tokio::test]
async fn a_receipt_dropped_where_no_stage_runs_is_one_of_the_source() {
    let (send, dropped) = std::sync::mpsc::channel();
    let pipeline = tampered(move |_, mut element| {
        let receipt = std::mem::take(&mut element.meta.receipt);
        let send = send.clone();
        std::thread::spawn(move || {
            drop(receipt);
            send.send(()).unwrap();
        });
        Some(element)
    });
    let mut running = pipeline.run().unwrap();
    running.join().await.unwrap();
    dropped.recv().unwrap();
    let snapshot = running.snapshot();
    assert_eq!(
        found(&snapshot),
        [pair(
            "iter",
            "1 receipts were dropped, not settled: of `iter`"
        )]
    );
}

#[tokio::test]
async fn what_an_abort_leaves_is_not_abandoned() {
    let mut running = source::iter(0_u64..)
        .map_async(8, |n| async move {
            tokio::task::yield_now().await;
            n
        })
        .buffer(64)
        .for_each_async(4, |_| std::future::pending())
        .run()
        .unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    running.abort().await;
    let snapshot = running.snapshot();
    snapshot.check().unwrap();
    assert!(snapshot.sources[0].abandoned.is_empty());
}
