//! Fan-out, fan-in and the stages that steer flows: what comes out, how ends spread, and whether
//! the accounts balance.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use forebay::boundary::{Buffer, WhenFull};
use forebay::error::{Refused, RunError, Stop};
use forebay::flow::{
    Ended, Flow, Groups, KillSwitch, Pipeline, Restart, WhenExhausted, restarting,
};
use forebay::operator::{Context, Control, Demand, Fill, Held, Input, Operator};
use forebay::outcome::{Kind, Reason};
use forebay::{chunk::Chunk, source};
use proptest::prelude::*;
use support::{run as run_any, run_well as run};

fn refused<O: Send + 'static>(pipeline: Pipeline<O>) -> Refused {
    match pipeline.block_on() {
        Err(RunError::Refused(refused)) => refused,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it ran"),
    }
}

/// Hands on the first elements only, then ends.
struct First<T> {
    input: Input<T>,
    left: usize,
}

impl<T: Send> Operator<T> for First<T> {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<T>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        if self.left == 0 {
            self.input.control(cx, Control::Cancel);
            return Ok(Fill::Done);
        }
        let fill = self.input.fill(cx, out, want.at_most(self.left))?;
        self.left -= out.len();
        Ok(fill)
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        self.input.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held::NONE
    }
}

fn first<T: Send + 'static>(flow: Flow<T>, count: usize) -> Flow<T> {
    flow.stage("first", |input| First { input, left: count })
}

/// A source that never has anything.
fn never<T: Send + 'static>() -> Flow<T> {
    struct Never;
    impl<T: Send> forebay::operator::Source<T> for Never {
        type Position = ();
        fn fill(
            &mut self,
            _: &mut Context<'_, '_>,
            _: &mut Chunk<T>,
            _: &mut Vec<()>,
            _: Demand,
        ) -> Result<Fill, Stop> {
            Ok(Fill::Pending)
        }
    }
    Flow::from_source("never", Never)
}

#[test]
fn broadcast_hands_every_element_to_every_branch() {
    let [a, b, c] = source::iter(0..10_000_u64).broadcast(32);
    let pipeline = a.collect().and(b.map(|n| n * 2).collect()).and(c.collect());
    let (((a, b), c), snapshot) = run(pipeline);
    assert_eq!(a, (0..10_000).collect::<Vec<_>>());
    assert_eq!(b, (0..10_000).map(|n| n * 2).collect::<Vec<_>>());
    assert_eq!(a, c);
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 10_000);
    assert_eq!(snapshot.stage("broadcast").unwrap().counts.made, 20_000);
    for name in ["broadcast[0]", "broadcast[1]", "broadcast[2]"] {
        let counts = &snapshot.stage(name).unwrap().counts;
        assert_eq!((counts.entered, counts.left), (10_000, 10_000), "{name}");
        assert!(counts.held_peak <= 32, "{name}");
    }
}

#[test]
fn a_slow_branch_that_sheds_holds_up_nobody() {
    let sheds = Buffer::items(16).when_full(WhenFull::DropHead);
    let [fast, slow] = source::iter(0..20_000_u64).broadcast([Buffer::items(64), sheds]);
    let slow = slow.for_each(|_| std::thread::sleep(Duration::from_millis(2)));
    let (outputs, snapshot) = run(fast.collect().and(slow));
    assert_eq!(outputs.0.len(), 20_000);
    let branch = &snapshot.stage("broadcast[1]").unwrap().counts;
    assert!(branch.reason(Reason::DropHead) > 15_000, "{snapshot}");
    let total = snapshot.total();
    assert_eq!(total.outcome(Kind::Shed), branch.reason(Reason::DropHead));
    assert_eq!(
        total.outcome(Kind::Delivered) + total.outcome(Kind::Shed),
        20_000
    );
}

#[test]
fn a_branch_that_ends_early_does_not_end_the_others() {
    let [whole, part] = source::iter(0..5_000_u64).broadcast(16);
    let (outputs, snapshot) = run(whole.collect().and(first(part, 10).collect()));
    assert_eq!(outputs.0.len(), 5_000);
    assert_eq!(outputs.1, (0..10).collect::<Vec<_>>());
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 5_000);
    assert_eq!(snapshot.total().outcome(Kind::Cancelled), 0);
}

#[test]
fn when_all_branches_have_ended_the_source_is_cancelled() {
    let [a, b] = source::iter(0_u64..).broadcast(16);
    let (outputs, _) = run(first(a, 10).collect().and(first(b, 40).collect()));
    assert_eq!(outputs.0.len(), 10);
    assert_eq!(outputs.1.len(), 40);
}

#[test]
fn an_unused_branch_is_refused_by_name() {
    let [a, _b] = source::iter(0..3).broadcast(4);
    assert_eq!(
        refused(a.collect()),
        Refused::Dangling {
            stage: "broadcast[1]".to_owned()
        }
    );
}

#[test]
fn buffers_must_fit_the_number_of_branches() {
    let [a, b] = source::iter(0..3).broadcast(vec![Buffer::items(4)]);
    let Refused::Setting { what, .. } = refused(a.collect().and(b.collect())) else {
        panic!("another refusal");
    };
    assert!(what.contains("2 branches and 1 buffers"), "{what}");
    let [a, b] = source::iter(0..3).balance(Buffer::items(4).when_full(WhenFull::DropNew));
    assert!(matches!(
        refused(a.collect().and(b.collect())),
        Refused::Setting { .. }
    ));
}

#[test]
fn a_value_that_cannot_be_copied_fails_alone() {
    #[derive(Debug, PartialEq)]
    struct Odd(u64);
    impl Clone for Odd {
        fn clone(&self) -> Odd {
            assert!(self.0 % 100 != 3, "no copy");
            Odd(self.0)
        }
    }
    let [a, b] = source::iter((0..1000).map(Odd)).broadcast(16);
    let (outputs, snapshot) = run(a.collect().and(b.collect()));
    assert_eq!(outputs.0.len(), 990);
    assert_eq!(outputs.0, outputs.1);
    assert_eq!(snapshot.total().outcome(Kind::Failed), 10);
}

#[test]
fn balance_gives_to_the_branch_that_has_room() {
    let [slow, fast] = source::iter(0..2_000_u64).balance(4);
    let slow = slow
        .map(|_| std::thread::sleep(Duration::from_millis(5)))
        .fold(0, |n, ()| *n += 1);
    let fast = fast.fold(0, |n, _| *n += 1);
    let ((slow, fast), snapshot) = run(slow.and(fast));
    assert_eq!(slow + fast, 2_000);
    assert!(fast > 20 * slow, "{slow} {fast}");
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 2_000);
}

#[test]
fn partition_fails_what_belongs_nowhere() {
    let [a, b] = source::iter(0..3_000_u64).partition(8, |n| match n % 3 {
        0 if n % 300 == 0 => panic!("no branch"),
        rest => usize::try_from(rest).unwrap(),
    });
    let (outputs, snapshot) = run(a.collect().and(b.collect()));
    assert_eq!(outputs.0.len(), 990);
    assert_eq!(outputs.1.len(), 1000);
    let counts = &snapshot.stage("partition").unwrap().counts;
    assert_eq!(
        (
            counts.reason(Reason::Error),
            counts.reason(Reason::Panicked)
        ),
        (1000, 10)
    );
}

#[test]
fn partition_serves_others_while_one_branch_is_full() {
    // The first branch is full until the second has been served to its end.
    let served = Arc::new(tokio::sync::Notify::new());
    let tell = Arc::clone(&served);
    let [a, b] = source::iter(0..1_000_u64).partition(4, |n| usize::from(*n >= 4));
    let waits = a.map_async(1, move |n| {
        let served = Arc::clone(&served);
        async move {
            if n == 0 {
                served.notified().await;
            }
        }
    });
    let waits = waits.ignore();
    let tells = b.for_each(move |n| {
        if n == 999 {
            tell.notify_one();
        }
    });
    let (_, snapshot) = run(waits.and(tells));
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 1_000);
}

#[test]
fn what_is_diverted_goes_its_own_way() {
    let rest = source::iter(0..5_000_u64)
        .divert_to(
            4,
            |n| n % 5 == 0,
            |side| side.for_each(|n| assert!(n % 5 == 0)),
        )
        .collect();
    let (rest, snapshot) = run(rest);
    assert_eq!(rest, (0..5_000).filter(|n| n % 5 != 0).collect::<Vec<_>>());
    assert_eq!(
        snapshot
            .stage("for_each")
            .unwrap()
            .counts
            .outcome(Kind::Delivered),
        1_000
    );
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 5_000);
}

#[test]
fn a_side_that_ended_filters_what_is_diverted() {
    let rest = source::iter(0..5_000_u64)
        .divert_to(4, |n| n % 2 == 0, |side| first(side, 3).collect())
        .collect();
    let (rest, snapshot) = run(rest);
    assert_eq!(rest.len(), 2_500);
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 2_503);
    assert_eq!(snapshot.total().outcome(Kind::Filtered), 2_497);
}

#[test]
fn merge_takes_all_and_keeps_the_order_of_each() {
    let flows = (0..5_u64).map(|k| source::iter((0..1000).map(move |n| (k, n))));
    let mut flows: Vec<_> = flows.collect();
    let merged = flows.remove(0).merge(flows);
    let (all, snapshot) = run(merged.collect());
    assert_eq!(all.len(), 5_000);
    for k in 0..5 {
        let of: Vec<_> = all
            .iter()
            .filter(|(from, _)| *from == k)
            .map(|(_, n)| *n)
            .collect();
        assert_eq!(of, (0..1000).collect::<Vec<_>>());
    }
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 5_000);
}

#[test]
fn merge_is_fair_to_inputs_that_always_have_elements() {
    let endless = |k: u64| source::iter(std::iter::repeat(k));
    let merged = endless(0).merge([endless(1), endless(2)]).buffer(1);
    let (all, _) = run(first(merged, 3_000).collect());
    for k in 0..3 {
        let count = all.iter().filter(|of| **of == k).count();
        assert!((500..=1_500).contains(&count), "{count} of {k}");
    }
}

#[test]
fn merge_prioritized_keeps_proportions_and_wastes_no_turn() {
    let endless = |k: u64| source::iter(std::iter::repeat(k));
    let merged = endless(0).merge_prioritized(8, [(1, endless(1)), (1, never())]);
    let (all, _) = run(first(merged, 9_000).collect());
    let of_first = all.iter().filter(|of| **of == 0).count();
    assert!((7_900..=8_100).contains(&of_first), "{of_first}");
}

#[test]
fn concat_reads_one_after_the_other() {
    let all =
        source::iter(0..500).concat([source::iter(500..600).buffer(4), source::iter(600..700)]);
    let (all, _) = run(all.collect());
    assert_eq!(all, (0..700).collect::<Vec<_>>());
}

#[test]
fn zip_pairs_by_number_and_settles_what_has_no_partner() {
    let left = source::iter(0..1_000_u64).map_async(8, |n| async move {
        if n % 3 == 0 {
            tokio::task::yield_now().await;
        }
        n
    });
    let right = source::iter(0..700_u64).buffer(16);
    let (pairs, snapshot) = run(left.zip(right).collect());
    assert_eq!(pairs, (0..700).map(|n| (n, n)).collect::<Vec<_>>());
    let total = snapshot.total();
    assert_eq!(total.outcome(Kind::Delivered), 1_400);
    assert_eq!(total.entered, 1_400 + total.outcome(Kind::Cancelled));
    assert!(snapshot.stage("zip").unwrap().counts.held_peak <= 512);
}

#[test]
fn branches_of_a_broadcast_can_be_zipped() {
    let [a, b] = source::iter(0..10_000_u64).broadcast(3);
    let (pairs, snapshot) = run(a
        .map(|n| n + 1)
        .zip(b.map_async(2, |n| async move { n }))
        .collect());
    assert_eq!(pairs, (0..10_000).map(|n| (n + 1, n)).collect::<Vec<_>>());
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 10_000);
}

#[test]
fn a_certain_deadlock_is_refused_before_it_starts() {
    let declare = |buffer: Buffer| {
        let [a, b] = source::iter(0..10_000_u64).broadcast([Buffer::items(16), buffer]);
        let odd = a.divert_to(4, |n| n % 2 == 0, Flow::ignore);
        odd.zip(b)
    };
    let refusal = refused(declare(Buffer::items(16)).collect());
    let Refused::Deadlock { stage, why } = refusal else {
        panic!("{refusal}")
    };
    assert_eq!(stage, "zip");
    assert!(why.contains("`divert` changes how many"), "{why}");
    let sheds = Buffer::items(16).when_full(WhenFull::DropHead);
    run(declare(sheds).collect());

    let [a, b] = source::iter(0..10_000_u64).broadcast(16);
    let refusal = refused(a.concat([b]).collect());
    assert!(matches!(refusal, Refused::Deadlock { stage, .. } if stage == "concat"));
}

#[test]
fn flows_of_different_sources_and_a_change_before_the_fan_out_are_not_refused() {
    let odd = source::iter(0..100_u64).divert_to(4, |n| n % 2 == 0, Flow::ignore);
    let (pairs, _) = run(odd.zip(source::iter(0..10_u64)).collect());
    assert_eq!(pairs.len(), 10);
    let odd = source::iter(0..100_u64).divert_to(4, |n| n % 2 == 0, Flow::ignore);
    let [a, b] = odd.broadcast(4);
    let (pairs, _) = run(a.zip(b).collect());
    assert_eq!(pairs.len(), 50);
}

#[test]
fn barriers_are_aligned_where_flows_join() {
    let [a, b] = source::iter(0..1_000_u64).barrier_every(100).broadcast(16);
    let slow = b.map(|n| {
        std::thread::sleep(Duration::from_micros(50));
        n
    });
    let merged = a.merge([slow]).stage("epochs", |input| Epochs {
        input,
        buf: Chunk::default(),
        epoch: 0,
    });
    let (all, snapshot) = run(merged.collect());
    assert_eq!(all.len(), 2_000);
    // All elements of an epoch come before those of the next, whichever branch they took.
    assert!(all.iter().all(|(epoch, n)| *epoch == n / 100), "{all:?}");
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 1_000);
}

/// Numbers elements by the barriers that came before them.
struct Epochs {
    input: Input<u64>,
    buf: Chunk<u64>,
    epoch: u64,
}

impl Operator<(u64, u64)> for Epochs {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<(u64, u64)>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let fill = self.input.fill(cx, &mut self.buf, want)?;
        for element in self.buf.drain() {
            let value = (self.epoch, element.value);
            out.push(forebay::chunk::Element {
                value,
                meta: element.meta,
            });
        }
        if matches!(fill, Fill::Mark(_)) {
            self.epoch += 1;
        }
        Ok(fill)
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        self.input.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held::NONE
    }
}

#[test]
fn a_consumer_that_leaves_wakes_a_source_that_waits() {
    let [a, b] = never::<u64>().merge([source::iter(0..20)]).broadcast(64);
    let (outputs, _) = run(first(a, 5).collect().and(first(b, 7).collect()));
    assert_eq!((outputs.0.len(), outputs.1.len()), (5, 7));
    let (some, _) = run(first(never::<u64>().merge([source::iter(0..20)]).buffer(64), 5).collect());
    assert_eq!(some.len(), 5);
}

#[test]
fn an_error_in_a_branch_stops_the_run_and_all_is_accounted_for() {
    struct Fails;
    impl Operator<u64> for Fails {
        fn fill(
            &mut self,
            _: &mut Context<'_, '_>,
            _: &mut Chunk<u64>,
            _: Demand,
        ) -> Result<Fill, Stop> {
            Err(Stop::error("no"))
        }
        fn control(&mut self, _: &mut Context<'_, '_>, _: Control) {}
        fn held(&self) -> Held {
            Held::NONE
        }
    }
    let [a, b] = source::iter(0_u64..).broadcast(16);
    let fails = b.buffer(4).merge([Flow::from_operator("fails", |_| Fails)]);
    let (result, _) = run_any(a.ignore().and(fails.ignore()));
    let Err(RunError::Stopped { stage, .. }) = result else {
        panic!("{result:?}")
    };
    assert_eq!(stage, "fails");
}

#[test]
fn a_kill_switch_ends_several_flows_and_finishes_what_passed_it() {
    let switch = KillSwitch::new();
    let handle = switch.clone();
    let a = source::iter(0_u64..)
        .buffer(16)
        .kill_switch(&switch)
        .map(move |n| {
            if n == 1_000 {
                handle.shutdown();
            }
            n
        });
    let b = never::<u64>().buffer(16).kill_switch(&switch).collect();
    let ((a, b), snapshot) = run(a.collect().and(b));
    assert!(a.len() > 1_000 && a.iter().copied().eq(0..a.len() as u64));
    assert_eq!(b, Vec::<u64>::new());
    let killed: u64 = snapshot
        .stages
        .iter()
        .map(|stage| stage.counts.reason(Reason::Killed))
        .sum();
    assert_eq!(killed, snapshot.total().outcome(Kind::Cancelled));
    assert_eq!(snapshot.total().outcome(Kind::Delivered), a.len() as u64);
}

#[test]
fn a_cancellation_keeps_its_reason_across_boundaries() {
    let switch = KillSwitch::new();
    let handle = switch.clone();
    let flow = source::iter(0_u64..)
        .buffer(64)
        .buffer(64)
        .kill_switch(&switch);
    let slow = flow.map_async(1, move |n| {
        let handle = handle.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            handle.shutdown();
            n
        }
    });
    let (_, snapshot) = run(slow.collect());
    let total = snapshot.total();
    assert!(total.outcome(Kind::Cancelled) > 64, "{snapshot}");
    let killed: u64 = snapshot
        .stages
        .iter()
        .map(|stage| stage.counts.reason(Reason::Killed))
        .sum();
    assert_eq!(killed, total.outcome(Kind::Cancelled), "{snapshot}");
}

#[test]
fn an_aborted_kill_switch_fails_the_flow() {
    let switch = KillSwitch::new();
    switch.abort("enough");
    switch.shutdown();
    let (result, _) = run_any(source::iter(0..10).kill_switch(&switch).collect());
    let Err(RunError::Stopped { stage, cause }) = result else {
        panic!("{result:?}")
    };
    assert_eq!(
        (stage.as_str(), cause.to_string().as_str()),
        ("kill_switch", "enough")
    );
}

#[test]
fn terminations_tell_how_each_point_ended() {
    let (flow, completed) = source::iter(0..10).watch_termination();
    run(flow.collect());
    assert!(matches!(completed.ended(), Some(Ended::Completed)));
    let (flow, cancelled) = source::iter(0_u64..).watch_termination();
    run(first(flow, 10).collect());
    assert!(matches!(cancelled.ended(), Some(Ended::Cancelled)));
    let switch = KillSwitch::new();
    switch.abort("enough");
    let (flow, failed) = source::iter(0..10).kill_switch(&switch).watch_termination();
    run_any(flow.collect()).0.unwrap_err();
    assert!(matches!(failed.ended(), Some(Ended::Failed(cause)) if cause.to_string() == "enough"));
    let (flow, unused) = source::iter(0..10).watch_termination();
    drop(flow);
    assert!(matches!(unused.ended(), Some(Ended::Cancelled)));
}

/// Counts up from a position and fails behind some.
struct Counter {
    next: u64,
    fail_at: Option<u64>,
    end: u64,
}

impl forebay::operator::Source<u64> for Counter {
    type Position = u64;

    fn fill(
        &mut self,
        _: &mut Context<'_, '_>,
        out: &mut Chunk<u64>,
        positions: &mut Vec<u64>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        let end = self.fail_at.unwrap_or(self.end);
        if self.next == end {
            return if self.fail_at.is_some() {
                Err(Stop::error("broken"))
            } else {
                Ok(Fill::Done)
            };
        }
        while self.next < end && out.len() < want.items.min(7) {
            out.push_value(self.next);
            positions.push(self.next);
            self.next += 1;
        }
        Ok(Fill::More)
    }
}

fn soon() -> Restart {
    Restart::backoff(Duration::from_millis(1), Duration::from_millis(4))
}

#[test]
fn a_restarted_source_goes_on_behind_the_last_element_it_handed_over() {
    let flow = restarting(soon(), |resume| {
        let next = resume.position::<u64>().map_or(0, |last| last + 1);
        let fail_at = (next < 900).then_some(next + 100);
        Flow::from_source(
            "counter",
            Counter {
                next,
                fail_at,
                end: 1_000,
            },
        )
    });
    let (all, snapshot) = run(flow.collect());
    assert_eq!(all, (0..1_000).collect::<Vec<_>>());
    assert_eq!(snapshot.total().entered, 1_000);
    assert_eq!(
        snapshot.stage("restarting/counter").unwrap().counts.left,
        1_000
    );
    assert_eq!(
        snapshot.stages.len(),
        3,
        "ten sources are one line: {snapshot}"
    );
}

#[test]
fn what_is_inside_a_flow_that_fails_is_cancelled() {
    let flow = restarting(soon(), |resume| {
        let fail_at = (resume.restarts() < 3).then_some(100);
        Flow::from_source(
            "counter",
            Counter {
                next: 0,
                fail_at,
                end: 200,
            },
        )
        .buffer(64)
        .map_async(8, |n| async move {
            tokio::task::yield_now().await;
            n
        })
    });
    let (all, snapshot) = run(flow.collect());
    assert_eq!(all[all.len() - 200..], (0..200).collect::<Vec<_>>());
    let total = snapshot.total();
    assert_eq!(total.entered, 500);
    assert_eq!(
        total.outcome(Kind::Delivered) + total.outcome(Kind::Cancelled),
        500
    );
    assert_eq!(total.outcome(Kind::Delivered), all.len() as u64);
    assert!(snapshot.islands.iter().all(|island| island.ended));
}

#[test]
fn a_flow_that_fails_too_often_stops_the_run() {
    let settings = soon().max_restarts(3, Duration::from_secs(5));
    let flow = restarting(settings, |_| {
        Flow::from_source(
            "counter",
            Counter {
                next: 0,
                fail_at: Some(10),
                end: 0,
            },
        )
    });
    let (result, snapshot) = run_any(flow.collect());
    let Err(RunError::Stopped { stage, cause }) = result else {
        panic!("{result:?}")
    };
    assert_eq!(
        (stage.as_str(), cause.to_string().as_str()),
        ("restarting/counter", "broken")
    );
    assert_eq!(snapshot.total().entered, 40);
}

#[test]
fn a_restarting_flow_can_be_cancelled_while_it_waits() {
    let settings = Restart::backoff(Duration::from_mins(1), Duration::from_mins(1));
    let flow = restarting(settings, |_| {
        Flow::from_source(
            "counter",
            Counter {
                next: 0,
                fail_at: Some(10),
                end: 0,
            },
        )
    });
    let (all, _) = run(first(flow.buffer(64), 10).collect());
    assert_eq!(all.len(), 10);
}

#[test]
fn a_nested_guarantee_is_kept() {
    let flow = restarting(soon(), |_| {
        source::iter(0..10).buffer(Buffer::items(4).when_full(WhenFull::DropHead))
    });
    let (result, _) = run_any(
        flow.guarantee(forebay::topology::Guarantee::AtLeastOnce)
            .collect(),
    );
    let Err(RunError::Stopped { stage, cause }) = result else {
        panic!("{result:?}")
    };
    assert_eq!(stage, "restarting");
    assert!(cause.to_string().contains("`buffer` sheds"), "{cause}");
}

#[test]
fn each_key_has_a_flow_of_its_own_in_order() {
    let flow = source::iter(0..20_000_u64).group_by(
        64,
        |n| n % 50,
        |key, group| {
            let key = *key;
            let mut seen = 0;
            group.map(move |n| {
                seen += 1;
                (key, seen, n)
            })
        },
    );
    let (all, snapshot) = run(flow.collect());
    assert_eq!(all.len(), 20_000);
    assert!(all.iter().all(|(key, seen, n)| (seen - 1) * 50 + key == *n));
    let counts = &snapshot.stage("group_by/map").unwrap().counts;
    assert_eq!((counts.entered, counts.left), (20_000, 20_000));
    assert_eq!(snapshot.stages.len(), 6, "{snapshot}");
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 20_000);
}

#[test]
fn more_groups_than_anything_can_run_at_once_do_not_deadlock() {
    let flow = source::iter(0..3_000_u64).group_by(
        Groups::keys(1_000).buffer(1),
        |n| n % 1_000,
        |_, group| {
            group.map_async(1, |n| async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                n
            })
        },
    );
    let (mut all, _) = run(flow.buffer(1).map_async(1, |n| async move { n }).collect());
    all.sort_unstable();
    assert_eq!(all, (0..3_000).collect::<Vec<_>>());
}

#[test]
fn groups_with_islands_of_their_own_are_part_of_the_run() {
    let flow = source::iter(0..2_000_u64).group_by(
        8,
        |n| n % 8,
        |_, group| group.map(|n| n + 1).buffer(4).map(|n| n - 1),
    );
    let (mut all, snapshot) = run(flow.collect());
    all.sort_unstable();
    assert_eq!(all, (0..2_000).collect::<Vec<_>>());
    assert!(snapshot.islands.iter().all(|island| island.ended));
    assert_eq!(
        snapshot.stage("group_by/buffer").unwrap().counts.left,
        2_000
    );
}

#[test]
fn empty_groups_make_room_for_new_keys_and_reports_do_not_grow() {
    let flow = source::iter(0..5_000_u64).group_by(4, |n| *n, |_, group| group.map(|n| n));
    let (mut all, snapshot) = run(flow.collect());
    all.sort_unstable();
    assert_eq!(all, (0..5_000).collect::<Vec<_>>());
    assert_eq!(snapshot.stages.len(), 6);
}

#[test]
fn groups_that_gather_close_by_age_or_by_declaration() {
    struct Last {
        input: Input<u64>,
        buf: Chunk<u64>,
        last: Option<forebay::chunk::Element<u64>>,
    }
    impl Operator<u64> for Last {
        fn fill(
            &mut self,
            cx: &mut Context<'_, '_>,
            out: &mut Chunk<u64>,
            want: Demand,
        ) -> Result<Fill, Stop> {
            loop {
                let fill = self.input.fill(cx, &mut self.buf, want)?;
                for element in self.buf.drain() {
                    if let Some(before) = self.last.replace(element) {
                        cx.settle(
                            before.meta,
                            forebay::outcome::Outcome::Filtered(Reason::Plain),
                        );
                    }
                }
                match fill {
                    Fill::More => {}
                    Fill::Done => {
                        out_last(&mut self.last, out);
                        return Ok(Fill::Done);
                    }
                    fill => return Ok(fill),
                }
            }
        }
        fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
            if signal == Control::Cancel
                && let Some(last) = self.last.take()
            {
                let outcome = cx.leftover();
                cx.settle(last.meta, outcome);
            }
            self.input.control(cx, signal);
        }
        fn held(&self) -> Held {
            Held::items(usize::from(self.last.is_some()))
        }
    }
    fn out_last(last: &mut Option<forebay::chunk::Element<u64>>, out: &mut Chunk<u64>) {
        if let Some(last) = last.take() {
            out.push(last);
        }
    }
    let last = |groups: Groups| {
        let grouped = source::iter(0..1_000_u64).group_by(
            groups,
            |n| n / 10,
            |_, group| {
                group.stage("last", |input| Last {
                    input,
                    buf: Chunk::default(),
                    last: None,
                })
            },
        );
        grouped.collect()
    };
    let expected: Vec<u64> = (0..100).map(|n| n * 10 + 9).collect();
    let (mut all, _) = run(last(
        Groups::keys(5).when_exhausted(WhenExhausted::CloseOldest),
    ));
    all.sort_unstable();
    assert_eq!(all, expected);
    let (mut all, _) = run(last(Groups::keys(5).idle_after(Duration::from_millis(5))));
    all.sort_unstable();
    assert_eq!(all, expected);
    let (result, _) = run_any(last(Groups::keys(5).when_exhausted(WhenExhausted::Fail)));
    let Err(RunError::Stopped { stage, .. }) = result else {
        panic!("{result:?}")
    };
    assert_eq!(stage, "group_by");
    let (some, snapshot) = run(last(Groups::keys(5).when_exhausted(WhenExhausted::Shed)));
    assert_eq!(some.len(), 5);
    assert_eq!(snapshot.total().outcome(Kind::Shed), 950);
}

#[test]
fn group_by_gives_nothing_up_while_an_empty_group_makes_room() {
    // Each group has an island of its own, and so takes a while to complete.
    for when in [WhenExhausted::Shed, WhenExhausted::Fail] {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (queue, flow) = source::queue(1);
            let (seen, mut saw) = tokio::sync::mpsc::unbounded_channel();
            let groups = Groups::keys(1).when_exhausted(when);
            let mut running = flow
                .group_by(groups, |n: &u64| *n, |_, group| group.buffer(4))
                .for_each(move |n| seen.send(n).unwrap())
                .run()
                .unwrap();
            for n in 0..50 {
                let _ = queue.offer(n).await;
                // Its group is empty once it is out.
                let next = tokio::time::timeout(Duration::from_secs(5), saw.recv()).await;
                assert_eq!(next.ok().flatten(), Some(n), "{}", running.snapshot());
            }
            queue.complete();
            running.join().await.unwrap();
            let snapshot = running.snapshot();
            assert_eq!(snapshot.total().outcome(Kind::Delivered), 50);
            snapshot.check().unwrap();
        });
    }
}

#[test]
fn group_by_gives_nothing_up_while_an_idle_group_completes() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (queue, flow) = source::queue(1);
        let groups = Groups::keys(1)
            .idle_after(Duration::from_millis(20))
            .when_exhausted(WhenExhausted::Shed);
        let slow = |n| async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            n
        };
        let mut running = flow
            .group_by(
                groups,
                |n: &u64| *n,
                move |_, group| group.map_async(1, slow),
            )
            .collect()
            .run()
            .unwrap();
        let _ = queue.offer(0).await;
        // The group is idle by now, and its element is still inside.
        tokio::time::sleep(Duration::from_millis(60)).await;
        let _ = queue.offer(1).await;
        queue.complete();
        assert_eq!(
            running.join().await.unwrap(),
            [0, 1],
            "{}",
            running.snapshot()
        );
    });
}

#[test]
fn a_group_that_ends_early_filters_what_comes_for_its_key() {
    let flow = source::iter(0..1_000_u64).group_by(10, |n| n % 10, |_, group| first(group, 3));
    let (all, snapshot) = run(flow.collect());
    assert_eq!(all.len(), 30);
    assert_eq!(snapshot.total().outcome(Kind::Filtered), 970);
}

#[test]
fn barriers_pass_groups_aligned() {
    let flow = source::iter(0..1_000_u64).barrier_every(100).group_by(
        8,
        |n| n % 7,
        |key, group| {
            let slow = *key == 3;
            group.map_async(4, move |n| async move {
                if slow {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                n
            })
        },
    );
    let epochs = flow.stage("epochs", |input| Epochs {
        input,
        buf: Chunk::default(),
        epoch: 0,
    });
    let (all, _) = run(epochs.collect());
    assert_eq!(all.len(), 1_000);
    assert!(all.iter().all(|(epoch, n)| *epoch == n / 100));
}

#[test]
fn a_run_with_groups_can_be_aborted_and_balances() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let flow = source::iter(0_u64..).group_by(
            100,
            |n| n % 100,
            |_, group| {
                group.buffer(4).map_async(2, |n| async move {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    n
                })
            },
        );
        let mut running = flow.ignore().run().unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        running.abort().await;
        let snapshot = running.snapshot();
        snapshot.check().unwrap();
        assert!(
            snapshot.total().outcome(Kind::Cancelled) > 100,
            "{snapshot}"
        );
        assert!(running.still_running().is_empty());
    });
}

#[test]
fn no_position_passes_what_a_failure_in_a_branch_left_behind() {
    let flow = Flow::from_source(
        "counter",
        Counter {
            next: 0,
            fail_at: None,
            end: 1_000,
        },
    );
    let [a, b] = flow.broadcast(64);
    let fails = b
        .buffer(64)
        .stage("fails", |input| FailsBehind { input, left: 20 });
    let (result, snapshot) = run_any(a.ignore().and(fails.ignore()));
    assert!(matches!(result, Err(RunError::Stopped { stage, .. }) if stage == "fails"));
    assert_eq!(snapshot.total().outcome(Kind::Filtered), 0, "{snapshot}");
    assert!(
        snapshot.total().outcome(Kind::Delivered) <= 20,
        "{snapshot}"
    );
}

/// Hands on the first elements, then fails.
struct FailsBehind {
    input: Input<u64>,
    left: usize,
}

impl Operator<u64> for FailsBehind {
    fn fill(
        &mut self,
        cx: &mut Context<'_, '_>,
        out: &mut Chunk<u64>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        if self.left == 0 {
            return Err(Stop::error("no"));
        }
        let fill = self.input.fill(cx, out, want.at_most(self.left))?;
        self.left -= out.len();
        Ok(fill)
    }

    fn control(&mut self, cx: &mut Context<'_, '_>, signal: Control) {
        self.input.control(cx, signal);
    }

    fn held(&self) -> Held {
        Held::NONE
    }
}

#[test]
fn a_cycle_completes_when_nothing_is_inside_any_more() {
    // Collatz: each number goes round until it is 1, over two islands and a pool of futures.
    let flow = source::iter(1..2_000_u64)
        .map(|n| (n, 0_u32))
        .feedback(32, |numbers| {
            let (ones, others) = numbers.divert(8, |(n, _)| *n != 1);
            let next = others.map_async(4, |(n, steps)| async move {
                if n % 3 == 0 {
                    tokio::task::yield_now().await;
                }
                (if n % 2 == 0 { n / 2 } else { 3 * n + 1 }, steps + 1)
            });
            (ones, next.buffer(4))
        });
    let (all, snapshot) = run(flow.collect());
    assert_eq!(all.len(), 1_999);
    assert_eq!(all.iter().map(|(_, steps)| steps).max(), Some(&181));
    assert_eq!(snapshot.total().outcome(Kind::Delivered), 1_999);
    assert!(snapshot.stage("feedback[back]").unwrap().counts.held_peak <= 32);
}

#[test]
fn what_ends_inside_a_cycle_does_not_keep_it_open() {
    // Elements end in an island of the cycle, seen by nobody at its head.
    let flow = source::iter(0..500_u64).feedback(8, |numbers| {
        let [out, inside] = numbers.partition(4, |n| usize::from(n % 5 != 0));
        let (again, lost) = inside.divert(4, |n| n % 5 == 3);
        let again = again
            .map(|n| n + 1)
            .divert_to(4, |n| n % 5 == 3, Flow::ignore);
        (
            out.merge([lost.stage("first", |input| First { input, left: 3 })]),
            again,
        )
    });
    let (all, snapshot) = run(flow.collect());
    assert_eq!(all.iter().filter(|n| **n % 5 == 0).count(), 200);
    assert_eq!(snapshot.total().outcome(Kind::Cancelled), 0);
}

#[test]
fn a_body_that_makes_more_than_the_cycle_holds_is_an_error_or_sheds() {
    let double = |cycle: forebay::flow::Cycle| {
        source::iter(0..100_u64).feedback(cycle, |numbers| {
            let [out, again] = numbers.broadcast(64);
            let [a, b] = again.broadcast(64);
            (out, a.merge([b]))
        })
    };
    let cycle = forebay::flow::Cycle::items(16);
    let (result, _) = run_any(double(cycle).collect());
    let Err(RunError::Stopped { stage, cause }) = result else {
        panic!("{result:?}")
    };
    assert!(stage.starts_with("feedback"), "{stage}");
    assert!(cause.to_string().contains("overflowed"), "{cause}");
    let sheds = cycle.when_full(WhenFull::DropNew);
    let (some, snapshot) = run(first(double(sheds), 10_000).collect());
    assert_eq!(some.len(), 10_000);
    assert!(
        snapshot
            .stage("feedback[back]")
            .unwrap()
            .counts
            .reason(Reason::DropNew)
            > 0
    );
}

#[test]
fn a_cycle_that_stands_still_is_an_error() {
    let cycle = forebay::flow::Cycle::items(4).stalled_after(Duration::from_millis(50));
    let flow = source::iter(0..100_u64).feedback(cycle, |numbers| {
        let [out, again] = numbers.partition(16, |n| usize::from(n % 2 == 0));
        // Nothing comes back, and nothing is ever let go.
        (
            out,
            again.map_async(8, |n| async move {
                std::future::pending::<()>().await;
                n
            }),
        )
    });
    let (result, _) = run_any(flow.collect());
    let Err(RunError::Stopped { stage, cause }) = result else {
        panic!("{result:?}")
    };
    assert_eq!(stage, "feedback");
    assert!(cause.to_string().contains("stands still"), "{cause}");
}

#[test]
fn a_cycle_ends_with_whoever_takes_from_it() {
    let flow = source::iter(0_u64..).feedback(8, |numbers| {
        let [out, again] = numbers.partition(4, |n| usize::from(n % 2 == 1));
        (out, again.map(|n| n + 1))
    });
    let (some, snapshot) = run(first(flow.buffer(4), 100).collect());
    assert_eq!(some.len(), 100);
    assert!(snapshot.islands.iter().all(|island| island.ended));
}

#[test]
fn a_cycle_cannot_hold_what_builds_flows() {
    let flow = source::iter(0..10_u64).feedback(8, |numbers| {
        let (out, again) = numbers.divert(4, |n| n % 2 == 1);
        (
            out,
            again.group_by(4, |n| *n, |_, group| group.map(|n| n + 1)),
        )
    });
    let Refused::Setting { stage, what } = refused(flow.collect()) else {
        panic!("another")
    };
    assert_eq!(stage, "feedback");
    assert!(what.contains("`group_by` builds flows"), "{what}");
}

/// A part of a graph with one input and one output.
#[derive(Clone, Debug)]
enum Part {
    Map,
    Buffer(usize),
    Divert(u64),
    Broadcast(usize, Vec<Part>),
    Partition(usize, Vec<Part>),
    Balance(usize, Vec<Part>),
}

fn part() -> impl Strategy<Value = Part> {
    let leaf = prop_oneof![
        Just(Part::Map),
        (1..20_usize).prop_map(Part::Buffer),
        (2..5_u64).prop_map(Part::Divert),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let inner = || proptest::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            (1..20_usize, inner()).prop_map(|(size, parts)| Part::Broadcast(size, parts)),
            (1..20_usize, inner()).prop_map(|(size, parts)| Part::Partition(size, parts)),
            (1..20_usize, inner()).prop_map(|(size, parts)| Part::Balance(size, parts)),
        ]
    })
}

impl Part {
    fn build(&self, flow: Flow<u64>) -> Flow<u64> {
        let rejoin = |flows: Vec<Flow<u64>>, parts: &[Part]| {
            let mut flows: Vec<_> = flows
                .into_iter()
                .zip(parts)
                .map(|(flow, part)| part.build(flow))
                .collect();
            flows.remove(0).merge(flows)
        };
        match self {
            Part::Map => flow.map(|n| n.wrapping_mul(3)),
            Part::Buffer(size) => flow.buffer(*size),
            Part::Divert(by) => {
                let by = *by;
                flow.divert_to(3, move |n| n % by == 0, Flow::ignore)
            }
            Part::Broadcast(size, parts) => rejoin(flow.broadcast_vec(parts.len(), *size), parts),
            Part::Balance(size, parts) => rejoin(flow.balance_vec(parts.len(), *size), parts),
            Part::Partition(size, parts) => {
                let count = parts.len();
                let by = move |n: &u64| usize::try_from(*n).unwrap() % count;
                rejoin(flow.partition_vec(count, *size, by), parts)
            }
        }
    }

    /// How many elements come out at most; exact where no element's way is left to chance.
    fn model(&self, values: Vec<u64>) -> Vec<u64> {
        match self {
            Part::Map => values.into_iter().map(|n| n.wrapping_mul(3)).collect(),
            Part::Buffer(_) => values,
            Part::Divert(by) => values.into_iter().filter(|n| n % by != 0).collect(),
            Part::Broadcast(_, parts) => parts
                .iter()
                .flat_map(|part| part.model(values.clone()))
                .collect(),
            Part::Partition(_, parts) => {
                let count = parts.len();
                let of = |index: usize| {
                    let of = |n: &&u64| usize::try_from(**n).unwrap() % count == index;
                    values.iter().filter(of).copied().collect()
                };
                (0..count)
                    .flat_map(|index| parts[index].model(of(index)))
                    .collect()
            }
            Part::Balance(_, parts) => parts[0].model(values),
        }
    }

    fn by_chance(&self) -> bool {
        match self {
            Part::Balance(_, parts) => parts.len() > 1 || parts[0].by_chance(),
            Part::Broadcast(_, parts) | Part::Partition(_, parts) => {
                parts.iter().any(Part::by_chance)
            }
            _ => false,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn random_graphs_conserve_elements(parts in proptest::collection::vec(part(), 1..4), count in 0..300_u64) {
        let flow = parts.iter().fold(source::iter(0..count), |flow, part| part.build(flow));
        let (mut all, snapshot) = run(flow.collect());
        let total = snapshot.total();
        prop_assert_eq!(total.entered, count);
        prop_assert_eq!(total.outcome(Kind::Delivered), count);
        if !parts.iter().any(Part::by_chance) {
            let mut expected = parts.iter().fold((0..count).collect(), |values, part| part.model(values));
            all.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(all, expected);
        }
    }
}

/// What a join of flows with and without barriers is refused with.
fn refused_for_barriers(pipeline: forebay::flow::Pipeline<Vec<u64>>) -> Option<String> {
    match pipeline.block_on() {
        Ok(_) => None,
        Err(RunError::Refused(refused)) => Some(refused.to_string()),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn an_input_that_never_gives_barriers_is_refused_beside_one_that_does() {
    let with = || source::iter(0..100_u64).barrier_every(10).map(|n| n);
    let endless = || source::stream(futures_util::stream::iter(0..5_u64));
    let why = refused_for_barriers(with().merge([endless().buffer(4)]).collect());
    assert_eq!(
        why.unwrap(),
        "`merge`: it hands on a barrier when each input gave one, and `stream` gives none: `iter` \
         would stand still until that ends. Declare `.barrier_every(..)` there as well, or at neither"
    );
    let why = refused_for_barriers(endless().merge_prioritized(1, [(2, with())]).collect());
    assert!(why.unwrap().starts_with("`merge_prioritized`: "));
    // Values at hand end at once, an input may have both, and parts of one source have the same.
    let fine = [
        with().merge([source::iter(0..5)]),
        with().merge([endless().barrier_every(3)]),
        endless().merge([endless()]),
        with().concat([endless()]),
    ];
    for flow in fine {
        assert_eq!(refused_for_barriers(flow.collect()), None);
    }
    let [left, right] = with().broadcast(4);
    assert_eq!(refused_for_barriers(left.merge([right]).collect()), None);
}
