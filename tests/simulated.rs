//! Simulated time: what runs in it, how it ends, and that a seed decides everything.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::boundary::{Buffer, WhenFull};
use forebay::chunk::Chunk;
use forebay::error::{Cause, Refused, RunError, Stop};
use forebay::flow::{Flow, Groups, Pipeline, Restart, WhenExhausted, restarting};
use forebay::operator::{Context, Demand, Fill, Source};
use forebay::outcome::{Kind, Reason};
use forebay::runtime::Snapshot;
use forebay::source;
use forebay::testkit::{Simulation, Trace, What};
use forebay::time::{self, Time, TimedOut};

#[path = "../examples/spike_time.rs"]
mod spike_time;

const MS: Duration = Duration::from_millis(1);

#[test]
fn the_same_seed_gives_the_same_trace_over_three_islands() {
    spike_time::main().unwrap();
}

#[test]
fn a_time_out_counts_from_when_a_future_first_waits() {
    let simulation = Simulation::new(1);
    let of = |worked_ms: u32, waited_ms: u32| {
        let call = async move {
            time::work(MS * worked_ms);
            time::sleep(MS * waited_ms).await;
            time::now()
        };
        simulation.block_on(async move {
            let from = time::now();
            time::timeout(MS * 10, call).await.map(|at| at.since(from))
        })
    };
    assert_eq!(of(7, 9).unwrap(), Ok(MS * 16));
    assert_eq!(of(7, 11).unwrap(), Err(TimedOut(MS * 10)));
    assert_eq!(of(20, 0).unwrap(), Ok(MS * 20), "ready at once");
}

#[test]
fn a_second_is_exact_and_takes_no_time() {
    let simulation = Simulation::new(1);
    let times = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&times);
    let pipeline = source::iter(1..=3_u64)
        .map_async(1, |n| async move {
            time::sleep(Duration::from_hours(1)).await;
            n
        })
        .for_each(move |n| seen.lock().unwrap().push((n, time::now().as_nanos())));
    simulation.run(pipeline).unwrap();
    let hour = 3_600_000_000_000;
    assert_eq!(
        *times.lock().unwrap(),
        [(1, hour), (2, 2 * hour), (3, 3 * hour)]
    );
}

#[test]
fn work_charges_the_clock() {
    let simulation = Simulation::new(1);
    let pipeline = source::iter(0..10_u64).map(|_| time::work(MS)).ignore();
    simulation.run(pipeline).unwrap();
    assert_eq!(simulation.now(), Time::from_nanos(10_000_000));
}

#[test]
fn what_waits_for_ever_is_stalled_and_named() {
    let simulation = Simulation::new(1);
    let pipeline = source::iter(0..10_u64)
        .map_async(2, |n| async move {
            if n == 3 {
                std::future::pending::<()>().await;
            }
            n
        })
        .named("stuck call")
        .collect()
        .named("all");
    let mut run = simulation.start(pipeline).unwrap();
    let error = run.join().unwrap_err();
    match error {
        RunError::Stopped {
            stage,
            cause: Cause::Stalled,
        } => assert_eq!(stage, "all"),
        other => panic!("{other:?}"),
    }
    let accounts = run.snapshot();
    accounts.check().unwrap();
    assert!(accounts.quiescent);
    let cancelled = accounts
        .stage("stuck call")
        .unwrap()
        .counts
        .reason(Reason::RunFailed);
    assert_eq!(cancelled, 2, "both in flight were cancelled: {accounts}");
}

#[test]
fn what_needs_tokio_is_told_so_with_its_stage() {
    for spawned in [false, true] {
        let simulation = Simulation::new(1);
        let pipeline = source::iter(0..10_u64)
            .map_async(2, move |n| async move {
                if spawned {
                    let _ = tokio::spawn(async {}).await;
                } else {
                    tokio::time::sleep(MS).await;
                }
                n
            })
            .named("tokio call")
            .buffer(4)
            .collect();
        let mut run = simulation.start(pipeline).unwrap();
        match run.join().unwrap_err() {
            RunError::Stopped {
                stage,
                cause: Cause::NeedsTokio,
            } => assert_eq!(stage, "tokio call"),
            other => panic!("{other:?}"),
        }
        run.snapshot().check().unwrap();
    }
}

#[test]
fn a_panic_of_another_kind_fails_its_element_alone() {
    let simulation = Simulation::new(1);
    let pipeline = source::iter(0..100_u64)
        .map(|n| {
            assert!(n != 7, "no");
            n
        })
        .collect();
    let (all, accounts) = simulation.run(pipeline).unwrap();
    assert_eq!(all.len(), 99);
    assert_eq!(accounts.total().outcome(Kind::Failed), 1);
}

#[tokio::test]
async fn inside_a_tokio_runtime_it_is_refused() {
    let simulation = Simulation::new(1);
    let refused = simulation.start(source::iter(0..3).ignore()).unwrap_err();
    assert!(matches!(refused, Refused::Runtime(_)), "{refused}");
}

#[test]
fn an_abort_at_a_simulated_time_cancels_what_is_inside() {
    let simulation = Simulation::new(1);
    let pipeline = source::iter(0_u64..)
        .buffer(10)
        .map_async(4, |n| async move {
            time::sleep(10 * MS).await;
            n
        })
        .ignore();
    let mut run = simulation.start(pipeline).unwrap();
    assert!(!run.advance(35 * MS));
    assert_eq!(simulation.now(), Time::from_nanos(35_000_000));
    assert_eq!(
        run.snapshot().total().outcome(Kind::Delivered),
        12,
        "four each 10 ms"
    );
    run.abort();
    let accounts = run.snapshot();
    accounts.check().unwrap();
    assert!(accounts.total().outcome(Kind::Cancelled) >= 4);
    assert_eq!(accounts.held(), 0);
    assert!(matches!(run.join(), Err(RunError::Aborted)));
    assert_eq!(
        simulation.now(),
        Time::from_nanos(35_000_000),
        "nothing had to be waited for"
    );
}

#[test]
fn a_drain_finishes_what_is_inside() {
    let simulation = Simulation::new(1);
    let pipeline = source::iter(0_u64..)
        .buffer(10)
        .map_async(4, |n| async move {
            time::sleep(10 * MS).await;
            n
        })
        .collect();
    let mut run = simulation.start(pipeline).unwrap();
    run.advance(25 * MS);
    let drained = run.drain(Duration::from_secs(1)).unwrap();
    assert!(drained.still_running.is_empty());
    let all = drained.output.unwrap();
    assert_eq!(all, (0..all.len() as u64).collect::<Vec<_>>());
    let accounts = run.snapshot();
    accounts.check().unwrap();
    assert_eq!(accounts.total().outcome(Kind::Cancelled), 0, "{accounts}");
}

#[test]
fn a_drain_past_its_deadline_names_what_is_left() {
    let simulation = Simulation::new(1);
    let pipeline = source::iter(0..4_u64)
        .map_async(4, |n| async move {
            time::sleep(Duration::from_secs(n)).await;
            n
        })
        .ignore()
        .named("slow");
    let mut run = simulation.start(pipeline).unwrap();
    run.advance(MS);
    let drained = run.drain(1500 * MS).unwrap();
    assert_eq!(drained.still_running, ["slow"]);
    assert_eq!(simulation.now(), Time::from_nanos(1_501_000_000));
    let accounts = run.snapshot();
    accounts.check().unwrap();
    assert_eq!(accounts.total().outcome(Kind::Cancelled), 2);
}

#[test]
fn islands_take_turns_although_no_time_passes() {
    let simulation = Simulation::new(3);
    let pipeline = source::iter(0..10_000_u64)
        .buffer(Buffer::items(100).when_full(WhenFull::DropHead))
        .collect();
    let (all, accounts) = simulation.run(pipeline).unwrap();
    accounts.check().unwrap();
    assert!(
        all.len() > 100,
        "the consumer had turns between the producer's: {}",
        all.len()
    );
    assert_eq!(
        accounts.total().outcome(Kind::Shed) + all.len() as u64,
        10_000
    );
}

#[test]
fn a_stage_that_wakes_itself_for_ever_is_found() {
    let simulation = Simulation::new(1);
    let pipeline = source::iter(0..1_u64)
        .map_async(1, |n| async move {
            std::future::poll_fn(|cx| {
                cx.waker().wake_by_ref();
                std::task::Poll::<()>::Pending
            })
            .await;
            n
        })
        .ignore();
    let mut run = simulation.start(pipeline).unwrap();
    let error = run.join().unwrap_err().to_string();
    assert!(
        error.contains("`ignore`") && error.contains("for ever"),
        "{error}"
    );
    run.snapshot().check().unwrap();
}

#[test]
fn dropping_the_handle_ends_the_run() {
    struct Told(Arc<AtomicU64>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let dropped = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&dropped);
    let simulation = Simulation::new(1);
    let pipeline = source::iter(0..5_u64)
        .map_async(5, move |_| {
            let told = Told(Arc::clone(&told));
            async move {
                time::sleep(MS).await;
                drop(told);
            }
        })
        .ignore();
    let mut run = simulation.start(pipeline).unwrap();
    run.advance(Duration::ZERO);
    drop(run);
    assert_eq!(dropped.load(Ordering::Relaxed), 5);
    simulation.advance(MS);
    assert!(
        simulation
            .trace()
            .events()
            .iter()
            .all(|event| !matches!(event.what, What::Timers(_)))
    );
}

#[test]
fn block_on_runs_a_script_beside_the_pipeline() {
    let simulation = Simulation::new(1);
    let pipeline = source::iter(0_u64..)
        .map_async(1, |_| time::sleep(MS))
        .ignore();
    let mut run = simulation.start(pipeline).unwrap();
    let stopper = run.stopper();
    simulation
        .block_on(async move {
            time::sleep(20 * MS + MS / 2).await;
            stopper.drain();
        })
        .unwrap();
    run.join().unwrap();
    assert_eq!(run.snapshot().total().outcome(Kind::Delivered), 21);
    let stalled = simulation
        .block_on(std::future::pending::<()>())
        .unwrap_err();
    assert!(matches!(
        stalled,
        RunError::Stopped {
            cause: Cause::Stalled,
            ..
        }
    ));
}

#[test]
fn an_element_is_late_from_its_deadline_on_and_not_before() {
    let pipeline = source::iter(1..=10_u64)
        .deadline(5 * MS)
        .buffer(100)
        .map_async(1, move |n| async move {
            time::sleep(MS).await;
            n
        })
        .expire()
        .collect();
    let (in_time, accounts) = Simulation::new(3).run(pipeline).unwrap();
    assert_eq!(
        in_time,
        [1, 2, 3, 4],
        "the fifth comes at its very deadline"
    );
    accounts.check().unwrap();
    let late = accounts
        .stage("expire")
        .unwrap()
        .counts
        .outcome(Kind::Expired);
    assert_eq!(late, 6);
}

#[test]
fn groups_by_time_and_number_between_uneven_stages() {
    let ms = Duration::from_millis;
    for seed in 0..40 {
        let pipeline = source::iter(0..400_u64)
            .map_async(1, move |n| async move {
                time::sleep(ms(n * n % 7)).await;
                n
            })
            .grouped_within((10, ms(12)))
            .map_async(1, move |group| async move {
                time::sleep(ms(group[0] * seed % 90)).await;
                group
            })
            .collect();
        let (groups, accounts) = Simulation::new(seed).run(pipeline).unwrap();
        accounts.check().unwrap();
        assert_eq!(groups.concat(), (0..400).collect::<Vec<_>>());
        assert!(groups.iter().all(|group| (1..=10).contains(&group.len())));
        assert!(
            groups.iter().any(|group| group.len() < 10),
            "time closed some"
        );
        assert!(accounts.stage("grouped_within").unwrap().counts.held_peak <= 20);
    }
}

/// Runs a declaration twice with each of some seeds: the runs of a seed must be one, event by event.
/// Gives what each seed came to.
fn repeats<O: Send + PartialEq + std::fmt::Debug + 'static>(
    declare: impl Fn() -> Pipeline<O>,
) -> Vec<(O, Snapshot, Trace)> {
    let play = |seed| {
        let simulation = Simulation::new(seed);
        let (output, accounts) = simulation.run(declare()).unwrap();
        accounts.check().unwrap();
        (output, accounts, simulation.trace())
    };
    (0..20)
        .map(|seed| {
            let (first, second) = (play(seed), play(seed));
            assert_eq!(first.0, second.0, "seed {seed}");
            let events = first.2.events().iter().zip(second.2.events());
            for (number, (one, other)) in events.enumerate() {
                assert_eq!(one, other, "event {number} of seed {seed}");
            }
            assert!(first.2 == second.2, "seed {seed}");
            first
        })
        .collect()
}

/// Numbers up to 60 that can be read from any position, until it fails.
struct Numbers {
    next: u64,
    fails_at: u64,
}

impl Source<u64> for Numbers {
    type Position = u64;

    fn fill(
        &mut self,
        _: &mut Context<'_, '_>,
        out: &mut Chunk<u64>,
        positions: &mut Vec<u64>,
        want: Demand,
    ) -> Result<Fill, Stop> {
        while out.len() < want.items && self.next < 60 {
            if self.next == self.fails_at {
                return Err(Stop::error("as planned"));
            }
            out.push_value(self.next);
            positions.push(self.next);
            self.next += 1;
        }
        Ok(if self.next == 60 {
            Fill::Done
        } else {
            Fill::More
        })
    }
}

#[test]
fn a_restarting_flow_waits_in_simulated_time_and_repeats() {
    let runs = repeats(|| {
        restarting(Restart::backoff(MS, 60_000 * MS), |resume| {
            let next = resume.position().map_or(0, |last: u64| last + 1);
            let fails_at = if next < 50 { next + 10 } else { u64::MAX };
            Flow::from_source("numbers", Numbers { next, fails_at })
                .map_async(1, |n| async move {
                    time::sleep(Duration::from_micros(n % 3 * 100)).await;
                    n
                })
                .buffer(4)
        })
        .map(|n| (n, time::now()))
        .collect()
    });
    for (all, accounts, _) in &runs {
        let counts = accounts.total();
        assert_eq!(counts.entered, 60, "{accounts}");
        assert_eq!(
            counts.outcome(Kind::Delivered) + counts.outcome(Kind::Cancelled),
            60
        );
        let times: Vec<u64> = all.iter().map(|(_, at)| at.as_nanos()).collect();
        // Five waits that double from a millisecond, each up to a fifth longer.
        let (least, most) = (31_000_000, 31_000_000 * 6 / 5 + 60 * 200_000);
        let last = *times.last().unwrap();
        assert!((least..=most).contains(&last), "{last}");
    }
    assert!(
        runs.iter().any(|run| run.2 != runs[0].2),
        "the seed decides the order of tasks"
    );
}

#[test]
fn groups_that_come_and_go_repeat() {
    for islands in [false, true] {
        let runs = repeats(|| {
            let groups = Groups::keys(5)
                .buffer(3)
                .idle_after(Duration::from_micros(700))
                .when_exhausted(WhenExhausted::CloseOldest);
            source::iter(0..300_u64)
                .group_by(
                    groups,
                    |n| n * n % 13,
                    move |key, group| {
                        let key = *key;
                        let group = if islands { group.buffer(2) } else { group };
                        group.map_async(2, move |n| async move {
                            time::sleep(Duration::from_micros((n ^ key) % 5 * 90)).await;
                            (key, n)
                        })
                    },
                )
                .collect()
        });
        for (all, accounts, _) in &runs {
            let mut numbers: Vec<u64> = all.iter().map(|(_, n)| *n).collect();
            numbers.sort_unstable();
            assert_eq!(numbers, (0..300).collect::<Vec<_>>());
            for key in 0..13 {
                let of_key = all.iter().filter(|(of, _)| *of == key);
                assert!(of_key.map(|(_, n)| n).is_sorted(), "order of key {key}");
            }
            assert_eq!(accounts.total().outcome(Kind::Delivered), 300);
        }
        // One island leaves nothing to the seed.
        assert_eq!(runs.iter().any(|run| run.2 != runs[0].2), islands);
    }
}

#[test]
fn a_group_that_wakes_itself_lets_other_islands_run() {
    const PATIENCE: u64 = 100_000;
    for seed in 0..10 {
        let released = Arc::new(AtomicU64::new(0));
        let release = Arc::clone(&released);
        let [left, right] = source::iter(0..2_u64).broadcast(4);
        let waits = left.group_by(
            4,
            |n| *n,
            move |_, group| {
                let released = Arc::clone(&released);
                group.map_async(1, move |_| {
                    let released = Arc::clone(&released);
                    let mut polls = 0;
                    std::future::poll_fn(move |cx| {
                        polls += 1;
                        if released.load(Ordering::Relaxed) == 2 || polls == PATIENCE {
                            return std::task::Poll::Ready(polls);
                        }
                        cx.waker().wake_by_ref();
                        std::task::Poll::Pending
                    })
                })
            },
        );
        let releases = right.for_each(move |_| {
            release.fetch_add(1, Ordering::Relaxed);
        });
        let pipeline = waits.collect().and(releases);
        let ((polls, ()), accounts) = Simulation::new(seed).run(pipeline).unwrap();
        accounts.check().unwrap();
        assert!(polls.iter().all(|polls| *polls < PATIENCE), "{polls:?}");
    }
}

/// Ends of calls of one second in a stage before one that is full for ten.
fn ends_before_a_full_stage(behind: impl FnOnce(Flow<u64>) -> Flow<u64>) -> Vec<u64> {
    let simulation = Simulation::new(1);
    let ends = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&ends);
    let calls = source::iter(0..4_u64).map_async(4, move |n| {
        let seen = Arc::clone(&seen);
        async move {
            // The second second begins when the first was noticed.
            time::sleep(1000 * MS * if n == 0 { 1 } else { 2 }).await;
            time::sleep(1000 * MS).await;
            seen.lock()
                .unwrap()
                .push(time::now().as_nanos() / 1_000_000_000);
            n
        }
    });
    simulation.run(behind(calls).ignore()).unwrap();
    Arc::try_unwrap(ends).unwrap().into_inner().unwrap()
}

async fn ten_seconds(n: u64) -> u64 {
    time::sleep(10_000 * MS).await;
    n
}

#[test]
fn calls_go_on_while_the_stage_behind_them_is_full() {
    let on_time = [2, 3, 3, 3];
    assert_eq!(
        ends_before_a_full_stage(|flow| flow.map_async(1, ten_seconds)),
        on_time
    );
    assert_eq!(
        ends_before_a_full_stage(|flow| flow.map_async_unordered(1, ten_seconds)),
        on_time
    );
    assert_eq!(
        ends_before_a_full_stage(|flow| flow.map_async_keyed(1, |_| 0, ten_seconds)),
        on_time
    );
    assert_eq!(
        ends_before_a_full_stage(|flow| {
            flow.try_map(|n| Ok::<u64, std::fmt::Error>(*n))
                .or_stop()
                .map_async(1, ten_seconds)
        }),
        on_time
    );
}

#[test]
fn what_waits_for_its_other_half_goes_on() {
    let on_time = [2, 3, 3, 3];
    let late = source::unfold_async(0, |n| async move {
        time::sleep(10_000 * MS).await;
        Some((n + 1, n))
    });
    assert_eq!(
        ends_before_a_full_stage(|flow| flow.zip(late).map(|(n, _): (u64, u64)| n)),
        on_time
    );
}
