//! Stages that run futures, or work on other threads: order, concurrency, panics, ends.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use forebay::control::Retry;
use forebay::flow::Flow;
use forebay::operator::{Answer, Concurrency};
use forebay::outcome::Kind;
use forebay::source;
use forebay::testkit::replay;
use proptest::prelude::*;
use support::{abort, run, runtime};
use tokio::sync::Semaphore;

const MS: Duration = Duration::from_millis(1);

/// Waits so many turns of the scheduler.
async fn turns(count: u64) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

/// Goes back in the middle, and everything must come through.
fn survives_a_rewind(through: impl FnOnce(Flow<u64>) -> Flow<u64>) {
    let failed = AtomicUsize::new(0);
    let numbers = replay(0..300);
    let flow = through(numbers.on_unresolved(Answer::Rewind).barrier_every(50))
        .try_map(move |n| {
            if *n == 150 && failed.fetch_add(1, Ordering::Relaxed) == 0 {
                Err("once")
            } else {
                Ok(*n)
            }
        })
        .or_fail();
    let (result, snapshot) = run(flow.collect());
    let all: BTreeSet<_> = result.unwrap().into_iter().collect();
    assert_eq!(all, (0..300).collect::<BTreeSet<_>>());
    assert_eq!(snapshot.total().outcome(Kind::Failed), 1);
}

#[test]
fn every_stage_survives_a_rewind_and_keeps_barriers() {
    survives_a_rewind(|flow| {
        flow.map_async(8, |n| async move {
            turns(n % 3).await;
            n
        })
    });
    survives_a_rewind(|flow| {
        flow.map_async_unordered(8, |n| async move {
            turns(n % 3).await;
            n
        })
    });
    survives_a_rewind(|flow| {
        flow.map_async_keyed(
            Concurrency::limit(4).window(32),
            |n| n % 5,
            |n| async move {
                turns(n % 3).await;
                n
            },
        )
    });
    survives_a_rewind(|flow| flow.map_parallel(2, |n| n));
    survives_a_rewind(|flow| flow.map_blocking(2, |n| n));
}

#[test]
fn every_stage_settles_what_it_holds_when_aborted() {
    let endless = || source::iter(0_u64..);
    let slow = |n: u64| async move {
        tokio::time::sleep(MS).await;
        n
    };
    let stuck = |n: u64| async move {
        std::future::pending::<()>().await;
        n
    };
    for snapshot in [
        abort(endless().map_async(8, stuck).ignore()),
        abort(endless().map_async_unordered(8, stuck).ignore()),
        abort(
            endless()
                .map_async_keyed(Concurrency::limit(4).window(64), |n| n % 3, stuck)
                .ignore(),
        ),
        abort(endless().for_each_async(8, |_| std::future::pending())),
        abort(
            endless()
                .try_map_async(8, |_| async { Err::<u64, _>(1) })
                .retry(Retry::tries(9).backoff(MS, Duration::from_secs(9)))
                .or_fail()
                .ignore(),
        ),
    ] {
        assert_eq!(
            snapshot.total().outcome(Kind::Cancelled),
            snapshot.total().entered
        );
        assert!(snapshot.total().entered >= 8, "{snapshot}");
    }
    for snapshot in [
        abort(endless().map_async(8, slow).ignore()),
        abort(endless().map_async_unordered(8, slow).ignore()),
        abort(
            endless()
                .map_async_keyed(Concurrency::limit(4).window(64), |n| n % 3, slow)
                .ignore(),
        ),
        abort(endless().map_parallel(2, |n| n).ignore()),
        abort(endless().map_blocking(2, |n| n).ignore()),
        abort(endless().for_each_async(8, |_| tokio::time::sleep(MS))),
    ] {
        let total = snapshot.total();
        let ended = total.outcome(Kind::Cancelled) + total.outcome(Kind::Delivered);
        assert_eq!(total.entered, ended, "{snapshot}");
        assert!(ended > 0);
    }
}

/// Panics without a word, for tests that do so a thousand times.
fn quiet_panic(n: u64) {
    if n < u64::MAX {
        std::panic::resume_unwind(Box::new("planned"));
    }
}

#[test]
fn an_endless_source_whose_elements_all_fail_can_be_aborted() {
    let endless = || source::iter(0_u64..);
    let call = |n: u64| async move {
        quiet_panic(n);
        n
    };
    for snapshot in [
        abort(endless().map_async(8, call).ignore()),
        abort(endless().map_async_unordered(8, call).ignore()),
        abort(endless().map_async_keyed(4, |n| n % 3, call).ignore()),
        abort(
            endless()
                .map_parallel(2, |n| {
                    quiet_panic(n);
                    n
                })
                .ignore(),
        ),
        abort(endless().for_each_async(8, |n| async move { quiet_panic(n) })),
        abort(
            endless()
                .try_map(|n| Err::<u64, _>(*n))
                .or_discard()
                .ignore(),
        ),
    ] {
        let total = snapshot.total();
        assert!(
            total.outcome(Kind::Failed) + total.outcome(Kind::Shed) > 8,
            "{snapshot}"
        );
    }
}

#[test]
fn a_sink_of_futures_drops_those_of_a_source_that_goes_back() {
    let failed = AtomicUsize::new(0);
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let see = Arc::clone(&seen);
    let numbers = replay(0..300);
    let (result, snapshot) = run(numbers
        .on_unresolved(Answer::Rewind)
        .try_map(move |n| {
            if *n == 150 && failed.fetch_add(1, Ordering::Relaxed) == 0 {
                Err("once")
            } else {
                Ok(*n)
            }
        })
        .or_fail()
        .for_each_async(16, move |n| {
            let seen = Arc::clone(&see);
            async move {
                turns(n % 7).await;
                seen.lock().unwrap().insert(n);
            }
        }));
    result.unwrap();
    assert_eq!(*seen.lock().unwrap(), (0..300).collect::<BTreeSet<_>>());
    assert_eq!(snapshot.total().outcome(Kind::Failed), 1);
}

#[test]
fn unordered_hands_on_what_is_done_while_the_first_runs() {
    let gate = Arc::new(Semaphore::new(0));
    let open = Arc::clone(&gate);
    let (send, receive) = async_channel::bounded(64);
    let pipeline = source::iter(0..20_u64)
        .map_async_with(gate, 4, |_, n| async move { n })
        .map_async_unordered(4, {
            let gate = Arc::clone(&open);
            move |n| {
                let gate = Arc::clone(&gate);
                async move {
                    if n == 0 {
                        gate.acquire().await.unwrap().forget();
                    }
                    n
                }
            }
        })
        .for_each_async(1, move |n| {
            let send = send.clone();
            async move { send.send(n).await.unwrap() }
        });
    runtime().block_on(async {
        let mut running = pipeline.run().unwrap();
        for n in 1..20 {
            assert_eq!(receive.recv().await.unwrap(), n);
        }
        open.add_permits(1);
        running.join().await.unwrap();
        assert_eq!(receive.recv().await.unwrap(), 0);
        running.snapshot().check().unwrap();
    });
}

#[test]
fn a_busy_key_holds_back_its_own_elements_alone() {
    let gate = Arc::new(Semaphore::new(0));
    let open = Arc::clone(&gate);
    let (send, receive) = async_channel::bounded(64);
    // Key 0 is stuck; three more of it come in between.
    let elements = [
        (0, 0),
        (1, 0),
        (0, 1),
        (2, 0),
        (0, 2),
        (1, 1),
        (0, 3),
        (3, 0),
    ];
    let pipeline = source::iter(elements)
        .map_async_keyed(
            Concurrency::limit(2).window(8),
            |(key, _)| *key,
            move |(key, n)| {
                let gate = Arc::clone(&gate);
                async move {
                    if (key, n) == (0, 0) {
                        gate.acquire().await.unwrap().forget();
                    }
                    (key, n)
                }
            },
        )
        .for_each(move |element| send.try_send(element).unwrap());
    runtime().block_on(async {
        let mut running = pipeline.run().unwrap();
        let mut first = Vec::new();
        for _ in 0..4 {
            first.push(receive.recv().await.unwrap());
        }
        let at = |element| first.iter().position(|other| *other == element);
        assert!(at((1, 0)) < at((1, 1)), "order is kept by key: {first:?}");
        first.sort_unstable();
        assert_eq!(
            first,
            [(1, 0), (1, 1), (2, 0), (3, 0)],
            "the other keys go on"
        );
        // An element is settled after its closure ran, so a moment after it was seen here.
        for _ in 0..500 {
            if running.snapshot().total().unsettled() == 4 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert_eq!(running.snapshot().total().unsettled(), 4);
        open.add_permits(1);
        running.join().await.unwrap();
        let rest: Vec<_> = std::iter::from_fn(|| receive.try_recv().ok()).collect();
        assert_eq!(rest, [(0, 0), (0, 1), (0, 2), (0, 3)]);
        running.snapshot().check().unwrap();
    });
}

#[test]
fn a_panic_in_a_key_frees_the_key() {
    let (result, snapshot) = run(source::iter(0..100_u64)
        .map_async_keyed(
            Concurrency::limit(4).window(16),
            |n| {
                assert!(*n != 50, "no key");
                n % 2
            },
            |n| {
                assert!(n != 10, "no future");
                async move {
                    turns(1).await;
                    assert!(n % 10 != 7, "no");
                    n
                }
            },
        )
        .collect());
    assert_eq!(result.unwrap().len(), 88);
    assert_eq!(snapshot.total().outcome(Kind::Failed), 12);
}

#[test]
fn for_each_async_delivers_when_the_future_has_ended() {
    let gate = Arc::new(Semaphore::new(0));
    let open = Arc::clone(&gate);
    let pipeline = source::iter(0..10_u64).for_each_async(4, move |_| {
        let gate = Arc::clone(&gate);
        async move { gate.acquire().await.unwrap().forget() }
    });
    runtime().block_on(async {
        let mut running = pipeline.run().unwrap();
        tokio::time::sleep(30 * MS).await;
        let snapshot = running.snapshot();
        assert_eq!(snapshot.total().outcome(Kind::Delivered), 0);
        assert_eq!(snapshot.stage("for_each_async").unwrap().counts.held, 4);
        open.add_permits(10);
        running.join().await.unwrap();
        let snapshot = running.snapshot();
        snapshot.check().unwrap();
        assert_eq!(snapshot.total().outcome(Kind::Delivered), 10);
    });
    let (result, snapshot) = run(source::iter(0..100_u64).for_each_async(3, |n| async move {
        turns(n % 2).await;
        assert!(n % 10 != 3, "no");
    }));
    result.unwrap();
    assert_eq!(snapshot.total().outcome(Kind::Failed), 10);
}

#[test]
fn blocking_work_runs_on_so_many_threads_and_keeps_order() {
    let (busy, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, most) = (Arc::clone(&busy), Arc::clone(&peak));
    let pipeline = source::iter(0..40_u64)
        .map_blocking(4, move |n| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(MS * (1 + (n * 7 % 5) as u32));
            now.fetch_sub(1, Ordering::SeqCst);
            n
        })
        .collect();
    let (result, _) = run(pipeline);
    assert_eq!(result.unwrap(), (0..40).collect::<Vec<_>>());
    assert_eq!(peak.load(Ordering::SeqCst), 4);

    let (result, snapshot) = run(source::iter(0..20_u64)
        .map_blocking(2, |n| {
            assert!(n % 10 != 3, "no");
            n
        })
        .collect());
    assert_eq!(result.unwrap().len(), 18);
    assert_eq!(snapshot.total().outcome(Kind::Failed), 2);
}

#[test]
fn lanes_run_at_the_same_time_keep_order_and_contain_panics() {
    // Two lanes meet at a barrier that one alone could not pass.
    let meet = Arc::new(std::sync::Barrier::new(2));
    let both = Arc::clone(&meet);
    let (result, _) = run(source::iter(0..64_u64)
        .map_parallel(2, move |n| {
            if n % 32 == 0 {
                both.wait();
            }
            n
        })
        .collect());
    assert_eq!(result.unwrap(), (0..64).collect::<Vec<_>>());

    let (result, snapshot) = run(source::iter(0..10_000_u64)
        .map_parallel(3, |n| {
            assert!(n % 100 != 3, "no");
            n
        })
        .collect());
    let expected: Vec<_> = (0..10_000).filter(|n| n % 100 != 3).collect();
    assert_eq!(result.unwrap(), expected);
    assert_eq!(snapshot.total().outcome(Kind::Failed), 100);
    let counts = &snapshot.stage("map_parallel").unwrap().counts;
    assert!(counts.held_peak <= (3 * 2 + 1) * 32, "{}", counts.held_peak);
}

#[test]
fn a_stage_stays_within_its_declared_bound() {
    let slow = |n: u64| async move {
        turns(n % 5).await;
        n
    };
    let stages: [(Flow<u64>, u64); 3] = [
        (
            source::iter(0..2000).map_async(Concurrency::limit(4).window(16), slow),
            16,
        ),
        (source::iter(0..2000).map_async_unordered(8, slow), 8),
        (
            source::iter(0..2000).map_async_keyed(
                Concurrency::limit(4).window(32),
                |n| n % 3,
                slow,
            ),
            32,
        ),
    ];
    for (flow, bound) in stages {
        let (result, snapshot) = run(flow.named("stage").buffer(2).for_each(|_| ()));
        result.unwrap();
        let peak = snapshot.stage("stage").unwrap().counts.held_peak;
        assert!((2..=bound).contains(&peak), "{peak} of {bound}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever the order in which futures end, each stage keeps the order it promises, and what
    /// panics is the only thing that is missing.
    #[test]
    fn results_keep_the_promised_order(
        delays in proptest::collection::vec((0_u64..6, 0_u64..4, 0_u8..20), 0..150),
        limit in 1_usize..9,
        extra in 0_usize..20,
        capacity in 1_usize..6,
    ) {
        let elements: Vec<_> = delays.iter().copied().enumerate().collect();
        let lost = |panics: u8| panics == 0;
        let kept: Vec<usize> =
            elements.iter().filter(|(_, (_, _, p))| !lost(*p)).map(|(at, _)| *at).collect();
        let call = move |(at, (delay, key, panics)): (usize, (u64, u64, u8))| async move {
            turns(delay).await;
            assert!(!lost(panics), "planned");
            (at, key)
        };
        let concurrency = Concurrency::limit(limit).window(limit + extra);
        let source = || source::iter(elements.clone());
        let places = |all: &[(usize, u64)]| all.iter().map(|(at, _)| *at).collect::<Vec<_>>();

        let (result, snapshot) =
            run(source().map_async(concurrency, call).buffer(capacity).collect());
        prop_assert_eq!(&places(&result.unwrap()), &kept);
        prop_assert_eq!(snapshot.total().outcome(Kind::Delivered), kept.len() as u64);

        let (result, _) =
            run(source().map_async_unordered(limit, call).buffer(capacity).collect());
        let mut all = places(&result.unwrap());
        all.sort_unstable();
        prop_assert_eq!(&all, &kept);

        let keyed = source().map_async_keyed(concurrency, |(_, (_, key, _))| *key, call);
        let (result, _) = run(keyed.buffer(capacity).collect());
        let mut by_key = BTreeMap::<u64, Vec<usize>>::new();
        for (at, key) in result.unwrap() {
            by_key.entry(key).or_default().push(at);
        }
        for places in by_key.values() {
            prop_assert!(places.is_sorted(), "a key lost its order: {places:?}");
        }
        let mut all: Vec<_> = by_key.into_values().flatten().collect();
        all.sort_unstable();
        prop_assert_eq!(&all, &kept);
    }

    /// One element of a key at a time, whatever comes.
    #[test]
    fn a_key_never_runs_twice_at_once(
        keys in proptest::collection::vec((0_u64..4, 0_u64..4), 1..100),
        limit in 2_usize..8,
    ) {
        let busy = Arc::new(Mutex::new(BTreeSet::new()));
        let (result, _) = run(source::iter(keys.clone())
            .map_async_keyed(Concurrency::limit(limit).window(20), |(key, _)| *key, {
                let busy = Arc::clone(&busy);
                move |(key, delay)| {
                    let busy = Arc::clone(&busy);
                    async move {
                        let alone = busy.lock().unwrap().insert(key);
                        turns(delay).await;
                        busy.lock().unwrap().remove(&key);
                        alone
                    }
                }
            })
            .collect());
        let alone = result.unwrap();
        prop_assert_eq!(alone.len(), keys.len());
        prop_assert!(alone.into_iter().all(|alone| alone));
    }
}

#[test]
fn a_slow_lane_of_futures_does_not_slow_the_others() {
    // 8 at once, 20 ms each: 40 elements take 5 rounds, not 40.
    let began = Instant::now();
    let (result, _) = run(source::iter(0..40_u64)
        .map_async_unordered(8, |n| async move {
            tokio::time::sleep(20 * MS).await;
            n
        })
        .collect());
    assert_eq!(result.unwrap().len(), 40);
    assert!(began.elapsed() < 400 * MS, "{:?}", began.elapsed());
}
