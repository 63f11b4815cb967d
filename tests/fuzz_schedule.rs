//! Whole pipelines under the fuzzing scheduler, for `FOREBAY_FUZZ_SECONDS` (default 2): wake-ups,
//! demand, the size of chunks and the order of tasks are drawn from a seed, which is printed.
//! `FOREBAY_FUZZ_SEED` runs that seed alone.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use forebay::boundary::{Buffer, WhenFull};
use forebay::control::BatchLimits;
use forebay::flow::Pipeline;
use forebay::outcome::Kind;
use forebay::source;
use forebay::testkit::{SimulatedRun, Simulation, fuzzed};
use forebay::time;

type Out = Arc<Mutex<Vec<u64>>>;

/// A pipeline over 0..count, and what its result must be.
struct Subject {
    name: &'static str,
    declare: fn(u64, u64) -> Pipeline<Vec<u64>>,
    judge: fn(u64, Vec<u64>),
}

fn nap(seed: u64, n: u64) -> Duration {
    Duration::from_nanos((seed ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) % 70_000)
}

fn in_order(count: u64, out: Vec<u64>) {
    assert_eq!(out, (0..count).collect::<Vec<_>>());
}

fn in_any_order(count: u64, mut out: Vec<u64>) {
    out.sort_unstable();
    in_order(count, out);
}

fn increasing(count: u64, out: Vec<u64>) {
    assert!(
        out.is_sorted_by(|a, b| a < b) && out.iter().all(|n| *n < count),
        "{out:?}"
    );
}

const SUBJECTS: [Subject; 5] = [
    Subject {
        name: "three islands with calls",
        declare: |seed, count| {
            source::iter(0..count)
                .map_async(5, move |n| async move {
                    time::sleep(nap(seed, n)).await;
                    n
                })
                .buffer(3)
                .map_async(2, move |n| async move {
                    if n % 3 == 0 {
                        time::sleep(nap(seed, n) / 4).await;
                    }
                    n
                })
                .async_boundary()
                .map(|n| n)
                .collect()
        },
        judge: in_order,
    },
    Subject {
        name: "groups by time, taken apart again",
        declare: |seed, count| {
            source::iter(0..count)
                .map_async(1, move |n| async move {
                    time::sleep(nap(seed, n) / 2).await;
                    n
                })
                .grouped_within(BatchLimits::new(7, Duration::from_micros(50)))
                .buffer(2)
                .map_concat(|group| group)
                .collect()
        },
        judge: in_order,
    },
    Subject {
        name: "balanced over two branches of different speed",
        declare: |seed, count| {
            let [fast, slow] = source::iter(0..count).balance(3);
            let slow = slow.map_async(2, move |n| async move {
                time::sleep(nap(seed, n)).await;
                n
            });
            fast.merge([slow]).collect()
        },
        judge: in_any_order,
    },
    Subject {
        name: "broadcast and zipped",
        declare: |seed, count| {
            let [left, right] = source::iter(0..count).broadcast(4);
            let right = right.map_async(3, move |n| async move {
                time::sleep(nap(seed, n)).await;
                n
            });
            let check = |(a, b)| {
                assert_eq!(a, b);
                a
            };
            left.zip(right).map(check).collect()
        },
        judge: in_order,
    },
    Subject {
        name: "an over-fast source through drop-head",
        declare: |seed, count| {
            source::iter(0..count)
                .buffer(Buffer::items(8).when_full(WhenFull::DropHead))
                .map_async(1, move |n| async move {
                    time::sleep(nap(seed, n) / 8).await;
                    n
                })
                .collect()
        },
        judge: increasing,
    },
];

/// How a run is brought to its end.
fn end(run: &mut SimulatedRun<Vec<u64>>, seed: u64, count: u64, out: &Out) -> Option<u64> {
    let after = Duration::from_nanos(seed % 900_000);
    match seed % 4 {
        0 if !run.advance(after) => {
            run.abort();
            None
        }
        1 if !run.advance(after) => {
            let drained = run.drain(Duration::from_mins(1)).unwrap();
            assert!(
                drained.still_running.is_empty(),
                "{:?}",
                drained.still_running
            );
            *out.lock().unwrap() = drained.output.unwrap();
            Some(run.snapshot().sources[0].counts.entered)
        }
        2 => {
            run.pause(true);
            run.advance(after);
            run.pause(false);
            *out.lock().unwrap() = run.join().unwrap();
            Some(count)
        }
        _ => {
            *out.lock().unwrap() = run.join().unwrap();
            Some(count)
        }
    }
}

fn play(seed: u64) {
    let subject = &SUBJECTS[(seed / 4 % SUBJECTS.len() as u64) as usize];
    let count = seed / 32 % 300;
    println!("seed {seed}: {} of {count}", subject.name);
    let simulation = Simulation::new(seed);
    let mut run = simulation
        .start(fuzzed(seed, || (subject.declare)(seed, count)))
        .unwrap();
    let out = Out::default();
    let complete = end(&mut run, seed, count, &out);
    let accounts = run.snapshot();
    if let Err(found) = accounts.check() {
        panic!("{found:?}\n{accounts}");
    }
    assert_eq!(accounts.held(), 0, "{accounts}");
    assert_eq!(accounts.total().outcome(Kind::Failed), 0, "{accounts}");
    if let Some(count) = complete {
        let out = std::mem::take(&mut *out.lock().unwrap());
        (subject.judge)(count, out);
    }
}

#[test]
fn whole_pipelines_bear_any_schedule() {
    if let Ok(seed) = std::env::var("FOREBAY_FUZZ_SEED") {
        play(seed.parse().expect("FOREBAY_FUZZ_SEED is a number"));
        return;
    }
    let seconds: u64 = std::env::var("FOREBAY_FUZZ_SECONDS").map_or(2, |text| {
        text.parse().expect("FOREBAY_FUZZ_SECONDS is a number")
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let first = now.as_nanos() as u64 >> 10;
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut played = 0;
    while played < 20 || Instant::now() < until {
        let seed = first.wrapping_add(played * 0x9e37_79b9);
        if let Err(panic) = std::panic::catch_unwind(|| play(seed)) {
            println!("failed: FOREBAY_FUZZ_SEED={seed} shows it again");
            std::panic::resume_unwind(panic);
        }
        played += 1;
    }
    println!("{played} runs from seed {first}");
}

#[test]
fn a_seed_gives_one_run() {
    for seed in 0..40 {
        let traces = [(); 2].map(|()| {
            let simulation = Simulation::new(seed);
            let subject = &SUBJECTS[seed as usize % SUBJECTS.len()];
            let pipeline = fuzzed(seed, || (subject.declare)(seed, 100));
            let mut run = simulation.start(pipeline).unwrap();
            run.join().unwrap();
            simulation.trace()
        });
        assert!(traces[0] == traces[1], "seed {seed}");
    }
}
