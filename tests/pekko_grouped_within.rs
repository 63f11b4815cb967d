//! Behaviours of Pekko's stream-tests specs that hold here as well, in words of our own: of
//! `FlowGroupedWithinSpec` (the first module), and of the specs of `grouped`, `take`, `drop`,
//! `mapConcat`, `filter`, `scan` and `statefulMap` (the second).
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use forebay::chunk::Chunk;
use forebay::error::{RunError, Stop};
use forebay::flow::Flow;
use forebay::operator::{Context, Demand, Fill, Sink, Source};
use forebay::outcome::Outcome;
use forebay::runtime::Running;
use tokio::sync::mpsc;

/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(20);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn on_tokio<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}

/// A source that hands on what the test sends.
struct Sent<T>(mpsc::UnboundedReceiver<Result<T, &'static str>>);

impl<T: Send> Source<T> for Sent<T> {
    type Position = ();

    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        positions: &mut Vec<()>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        while out.len() < want.items {
            match self.0.poll_recv(cx.task()) {
                Poll::Ready(Some(Ok(value))) => {
                    out.push_value(value);
                    positions.push(());
                }
                Poll::Ready(Some(Err(message))) => {
                    assert!(out.is_empty(), "these tests fail behind a pause");
                    return Err(Stop::error(message));
                }
                Poll::Ready(None) => return Ok(Fill::Done),
                Poll::Pending => return Ok(Fill::Pending),
            }
        }
        Ok(Fill::More)
    }
}

struct Wanted<U> {
    demand: usize,
    taken: std::collections::VecDeque<U>,
    waker: Option<Waker>,
}

/// A sink that takes what the test asks for.
struct Asked<U>(Arc<Mutex<Wanted<U>>>);

impl<U: Send> Sink<U> for Asked<U> {
    type Output = ();

    fn poll_ready(&mut self, cx: &mut Context<'_, '_>) -> Poll<Result<Option<Demand>, Stop>> {
        let mut wanted = self.0.lock().unwrap();
        wanted.waker = Some(cx.waker().clone());
        match wanted.demand {
            0 => Poll::Pending,
            demand => Poll::Ready(Ok(Some(Demand::items(demand)))),
        }
    }

    fn accept(&mut self, cx: &mut Context<'_, '_>, chunk: &mut Chunk<U>) {
        let mut wanted = self.0.lock().unwrap();
        wanted.demand -= chunk.len();
        for element in chunk.drain() {
            cx.settle(element.meta, Outcome::Delivered);
            wanted.taken.push_back(element.value);
        }
    }

    fn poll_close(&mut self, _: &mut Context<'_, '_>) -> Poll<Result<(), Stop>> {
        Poll::Ready(Ok(()))
    }
}

/// A running pipeline whose both ends are in the hands of the test.
struct Probes<T, U> {
    upstream: Option<mpsc::UnboundedSender<Result<T, &'static str>>>,
    downstream: Arc<Mutex<Wanted<U>>>,
    running: Running<()>,
}

impl<T: Send + 'static, U: Send + 'static> Probes<T, U> {
    fn start(stage: impl FnOnce(Flow<T>) -> Flow<U>) -> Probes<T, U> {
        let (upstream, receiver) = mpsc::unbounded_channel();
        let wanted = Wanted {
            demand: 0,
            taken: std::collections::VecDeque::new(),
            waker: None,
        };
        let downstream = Arc::new(Mutex::new(wanted));
        let flow = stage(Flow::from_source("sent", Sent(receiver)));
        let running = flow.to(Asked(Arc::clone(&downstream))).run().unwrap();
        Probes {
            upstream: Some(upstream),
            downstream,
            running,
        }
    }

    fn send(&self, values: impl IntoIterator<Item = T>) {
        for value in values {
            let _ = self.upstream.as_ref().unwrap().send(Ok(value));
        }
    }

    fn fail(&self) {
        let _ = self.upstream.as_ref().unwrap().send(Err("upstream failed"));
    }

    fn complete(&mut self) {
        self.upstream = None;
    }

    fn request(&self, count: usize) {
        let mut wanted = self.downstream.lock().unwrap();
        wanted.demand += count;
        let waker = wanted.waker.take();
        drop(wanted);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn taken(&self) -> Option<U> {
        self.downstream.lock().unwrap().taken.pop_front()
    }

    async fn expect_next(&self) -> U {
        let next = async {
            loop {
                if let Some(next) = self.taken() {
                    return next;
                }
                tokio::time::sleep(ms(1)).await;
            }
        };
        tokio::time::timeout(LONG, next).await.expect("an element")
    }

    async fn expect_nothing_for(&self, span: Duration) {
        tokio::time::sleep(span).await;
        assert!(self.taken().is_none(), "nothing was expected");
    }

    /// The end, with nothing before it, and every element accounted for.
    async fn expect_end(mut self) -> Result<(), RunError> {
        let end = tokio::time::timeout(LONG, self.running.join())
            .await
            .expect("an end");
        assert!(
            self.taken().is_none(),
            "nothing was expected before the end"
        );
        let snapshot = self.running.snapshot();
        snapshot.check().unwrap();
        let stage = &snapshot.stages[1].counts;
        assert_eq!(stage.held, 0);
        end
    }
}

mod grouped_within {
    use super::*;
    use forebay::control::BatchLimits;
    use forebay::source;

    fn within(items: usize, span: Duration) -> Probes<u64, Vec<u64>> {
        Probes::start(|flow| flow.grouped_within((items, span)))
    }

    fn weighted(items: usize, bytes: u64, span: Duration) -> Probes<u64, Vec<u64>> {
        let limits = BatchLimits::new(items, span).bytes(bytes);
        Probes::start(move |flow| flow.weigh(|n| *n).grouped_within(limits))
    }

    #[test]
    fn group_elements_within_the_duration() {
        on_tokio(async {
            let mut probes = within(1000, ms(300));
            probes.request(100);
            probes.send(1..=4);
            tokio::time::sleep(ms(20)).await;
            probes.send(5..=9);
            assert_eq!(probes.expect_next().await, (1..=9).collect::<Vec<_>>());
            probes.send(10..=12);
            probes.expect_nothing_for(ms(100)).await;
            assert_eq!(probes.expect_next().await, [10, 11, 12]);
            probes.expect_nothing_for(ms(350)).await;
            probes.send([13]);
            probes.complete();
            assert_eq!(probes.expect_next().await, [13]);
            probes.expect_end().await.unwrap();
        });
    }

    #[test]
    fn deliver_buffered_elements_on_complete_before_the_timeout() {
        on_tokio(async {
            let mut probes = within(1000, Duration::from_hours(1));
            probes.request(100);
            probes.send(1..=3);
            probes.complete();
            assert_eq!(probes.expect_next().await, [1, 2, 3]);
            probes.expect_end().await.unwrap();
        });
    }

    #[test]
    fn deliver_buffered_elements_before_a_failure() {
        on_tokio(async {
            let probes = within(1000, Duration::from_hours(1));
            probes.send(1..=3);
            tokio::time::sleep(ms(20)).await;
            probes.fail();
            probes.expect_nothing_for(ms(50)).await;
            probes.request(1);
            assert_eq!(probes.expect_next().await, [1, 2, 3]);
            let error = probes.expect_end().await.unwrap_err();
            assert!(error.to_string().contains("upstream failed"), "{error}");
        });
    }

    #[test]
    fn buffer_groups_until_requested_from_downstream() {
        on_tokio(async {
            let mut probes = within(1000, ms(50));
            probes.request(1);
            probes.send(1..=4);
            assert_eq!(probes.expect_next().await, [1, 2, 3, 4]);
            probes.send(5..=7);
            probes.expect_nothing_for(ms(150)).await;
            probes.request(1);
            assert_eq!(probes.expect_next().await, [5, 6, 7]);
            probes.complete();
            probes.expect_end().await.unwrap();
        });
    }

    #[test]
    fn drop_empty_groups() {
        on_tokio(async {
            let mut probes = within(1000, ms(40));
            probes.request(2);
            probes.expect_nothing_for(ms(100)).await;
            probes.send([1, 2]);
            assert_eq!(probes.expect_next().await, [1, 2]);
            probes.expect_nothing_for(ms(100)).await;
            probes.request(3);
            probes.expect_nothing_for(ms(100)).await;
            probes.complete();
            probes.expect_end().await.unwrap();
        });
    }

    #[test]
    fn not_emit_an_empty_group_when_finished_while_not_being_pushed() {
        on_tokio(async {
            let mut probes = within(1000, ms(10));
            probes.request(1);
            probes.complete();
            probes.expect_end().await.unwrap();
        });
    }

    #[test]
    fn reset_the_time_window_when_max_elements_are_reached() {
        on_tokio(async {
            let mut probes = within(3, ms(400));
            probes.request(2);
            probes.expect_nothing_for(ms(300)).await;
            probes.send(1..=4);
            assert_eq!(probes.expect_next().await, [1, 2, 3]);
            // Time that ran before the fourth element, or since the first, is nothing to its group.
            probes.expect_nothing_for(ms(300)).await;
            assert_eq!(probes.expect_next().await, [4]);
            probes.complete();
            probes.expect_end().await.unwrap();
        });
    }

    #[test]
    fn reset_the_time_window_when_exactly_max_elements_are_reached() {
        on_tokio(async {
            let mut probes = within(3, ms(50));
            probes.request(2);
            probes.send(1..=3);
            assert_eq!(probes.expect_next().await, [1, 2, 3]);
            probes.expect_nothing_for(ms(120)).await;
            probes.complete();
            probes.expect_end().await.unwrap();
        });
    }

    #[test]
    fn group_evenly_and_with_a_rest() {
        for count in [30_u64, 31, 32] {
            let groups = source::iter(0..count)
                .grouped_within((3, Duration::from_mins(10)))
                .collect()
                .block_on()
                .unwrap();
            let all: Vec<u64> = (0..count).collect();
            assert_eq!(
                groups,
                all.chunks(3).map(<[u64]>::to_vec).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn group_with_small_groups_under_back_pressure() {
        on_tokio(async {
            let mut probes = within(1, Duration::from_hours(24));
            probes.send(1..=10);
            probes.complete();
            for n in 1..=10 {
                probes.expect_nothing_for(ms(3)).await;
                probes.request(1);
                assert_eq!(probes.expect_next().await, [n]);
            }
            probes.expect_end().await.unwrap();
        });
    }

    #[test]
    fn handle_elements_larger_than_the_limit() {
        on_tokio(async {
            let mut probes = weighted(100, 100, Duration::from_mins(1));
            probes.send([1, 2, 3, 101, 4, 5, 6]);
            probes.complete();
            for group in [vec![1, 2, 3], vec![101], vec![4, 5, 6]] {
                probes.request(1);
                assert_eq!(probes.expect_next().await, group);
            }
            probes.expect_end().await.unwrap();
        });
    }

    #[test]
    fn not_drop_a_pending_last_element_on_upstream_finish() {
        on_tokio(async {
            let mut probes = weighted(100, 5, Duration::from_mins(1));
            probes.send([1, 2, 3]);
            probes.complete();
            probes.expect_nothing_for(ms(30)).await;
            probes.request(1);
            assert_eq!(probes.expect_next().await, [1, 2]);
            probes.expect_nothing_for(ms(30)).await;
            probes.request(1);
            assert_eq!(probes.expect_next().await, [3]);
            probes.expect_end().await.unwrap();
        });
    }

    #[test]
    fn not_emit_an_empty_group_if_the_first_element_is_heavier_than_the_limit() {
        on_tokio(async {
            let mut probes = weighted(100, 10, Duration::from_mins(1));
            probes.request(2);
            probes.send([11]);
            assert_eq!(probes.expect_next().await, [11], "at once: it is full");
            probes.complete();
            probes.expect_end().await.unwrap();
        });
    }

    #[test]
    fn group_by_max_weight_and_max_number_of_elements() {
        on_tokio(async {
            let mut probes = weighted(3, 10, Duration::from_mins(1));
            probes.send([1, 2, 3, 4, 5, 6, 11, 7, 2]);
            probes.complete();
            for group in [vec![1, 2, 3], vec![4, 5], vec![6], vec![11], vec![7, 2]] {
                probes.request(1);
                assert_eq!(probes.expect_next().await, group);
            }
            probes.expect_end().await.unwrap();
        });
    }

    #[test]
    fn keep_the_current_group_and_its_weight_when_the_cost_function_throws() {
        on_tokio(async {
            let limits = BatchLimits::new(100, Duration::from_mins(1)).bytes(5);
            let mut probes: Probes<u64, Vec<u64>> = Probes::start(move |flow| {
                let cost = |n: &u64| match n {
                    99 => std::panic::resume_unwind(Box::new("no cost")),
                    n => *n,
                };
                flow.weigh(cost).grouped_within(limits)
            });
            probes.send([2, 2, 99, 3]);
            probes.complete();
            for group in [vec![2, 2], vec![3]] {
                probes.request(1);
                assert_eq!(probes.expect_next().await, group);
            }
            probes.expect_end().await.unwrap();
        });
    }
}

mod others {
    use super::*;
    use forebay::source;

    #[test]
    fn grouped_waits_for_a_whole_group_and_hands_on_the_rest_at_the_end() {
        on_tokio(async {
            let mut probes: Probes<u64, Vec<u64>> = Probes::start(|flow| flow.grouped(3));
            probes.request(10);
            probes.send([1, 2]);
            probes.expect_nothing_for(ms(50)).await;
            probes.send([3, 4]);
            assert_eq!(probes.expect_next().await, [1, 2, 3]);
            probes.complete();
            assert_eq!(probes.expect_next().await, [4]);
            probes.expect_end().await.unwrap();
        });
    }

    #[test]
    fn take_completes_eagerly_when_nothing_is_to_be_taken() {
        on_tokio(async {
            let probes: Probes<u64, u64> = Probes::start(|flow| flow.take(0));
            let sender = probes.upstream.clone();
            probes.expect_end().await.unwrap();
            assert!(
                sender.unwrap().is_closed(),
                "upstream was cancelled, not completed"
            );
        });
    }

    #[test]
    fn take_cancels_upstream_with_the_last_element() {
        on_tokio(async {
            let probes: Probes<u64, u64> = Probes::start(|flow| flow.take(2));
            probes.request(10);
            probes.send(1..=5);
            assert_eq!(
                [probes.expect_next().await, probes.expect_next().await],
                [1, 2]
            );
            probes.expect_end().await.unwrap();
        });
    }

    #[test]
    fn drop_leaves_out_the_first_and_nothing_for_zero() {
        for count in [0_usize, 4, 50] {
            let rest = source::iter(0..20_u64)
                .skip(count)
                .collect()
                .block_on()
                .unwrap();
            assert_eq!(rest, (0..20).skip(count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn map_concat_with_a_slow_downstream() {
        on_tokio(async {
            let mut probes: Probes<u64, u64> =
                Probes::start(|flow| flow.map_concat(|n| (0..n).map(move |part| n * 10 + part)));
            probes.send([2, 0, 3]);
            probes.complete();
            for expected in [20, 21, 30, 31, 32] {
                probes.expect_nothing_for(ms(3)).await;
                probes.request(1);
                assert_eq!(probes.expect_next().await, expected);
            }
            // An end is told when something is asked for.
            probes.request(1);
            probes.expect_end().await.unwrap();
        });
    }

    #[test]
    fn map_concat_goes_on_after_an_element_whose_function_throws() {
        let ends = source::iter([1_u64, 2, 3]).map_concat(|n| match n {
            2 => std::panic::resume_unwind(Box::new("no")),
            n => vec![n, n],
        });
        assert_eq!(ends.collect().block_on().unwrap(), [1, 1, 3, 3]);
    }

    #[test]
    fn filter_does_not_blow_up_with_high_request_counts() {
        on_tokio(async {
            let mut probes: Probes<u64, u64> = Probes::start(|flow| flow.filter(|n| *n == 9_999));
            probes.request(usize::MAX);
            probes.send(0..10_000);
            assert_eq!(probes.expect_next().await, 9_999);
            probes.complete();
            probes.expect_end().await.unwrap();
        });
    }

    #[test]
    fn scan_hands_on_each_state_and_fails_with_its_function() {
        on_tokio(async {
            let probes: Probes<u64, u64> = Probes::start(|flow| {
                flow.scan(0, |sum, n| match n {
                    0 => std::panic::resume_unwind(Box::new("division by zero")),
                    n => *sum += n,
                })
            });
            probes.request(10);
            probes.send([2, 3]);
            assert_eq!(
                [probes.expect_next().await, probes.expect_next().await],
                [2, 5]
            );
            probes.send([0, 7]);
            let error = probes.expect_end().await.unwrap_err();
            assert!(error.to_string().contains("division by zero"), "{error}");
        });
    }

    #[test]
    fn stateful_map_changes_its_state_across_elements() {
        let changed = source::iter([1, 3, 3, 2, 2]).stateful_map(None, |last, n| {
            let is_new = last.replace(n) != Some(n);
            is_new.then_some(n)
        });
        let distinct = changed.filter_map(|n| n).collect().block_on().unwrap();
        assert_eq!(distinct, [1, 3, 2]);
    }
}
