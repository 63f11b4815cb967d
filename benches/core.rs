//! Throughput of the core beside its peers, in one run: nanoseconds an element.
//!
//! `cargo bench --bench core -- [FILTER]`. Closures read a number through `black_box` that the
//! compiler cannot know, so that no chain of them folds into one.
#![allow(missing_docs, clippy::unwrap_used)]

use std::future::{Future, IntoFuture, ready};
use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use forebay::boundary::{Buffer, WhenFull};
use forebay::control::BatchLimits;
use forebay::flow::{Flow, Pipeline};
use forebay::source;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::runtime::Runtime;

const ELEMENTS: u64 = 200_000;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn numbers(tracked: bool) -> Flow<u64> {
    let flow = source::iter(0..ELEMENTS);
    if tracked { flow } else { flow.untracked() }
}

fn sum(flow: Flow<u64>) -> Pipeline<u64> {
    flow.fold(0, |sum: &mut u64, n| *sum = sum.wrapping_add(n))
}

fn step() -> impl FnMut(u64) -> u64 + Clone + Send + 'static {
    let odd = black_box(3);
    move |n: u64| n.wrapping_mul(odd) ^ (n >> 3)
}

fn group<'a>(
    criterion: &'a mut Criterion,
    name: &str,
) -> criterion::BenchmarkGroup<'a, criterion::measurement::WallTime> {
    let mut group = criterion.benchmark_group(name);
    group
        .throughput(Throughput::Elements(ELEMENTS))
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    group
}

fn flow_map(criterion: &mut Criterion) {
    let runtime = runtime();
    for stages in [1, 5, 10] {
        let mut group = group(criterion, &format!("flow_map/{stages}"));
        for tracked in [false, true] {
            let name = if tracked {
                "forebay_tracked"
            } else {
                "forebay"
            };
            group.bench_function(name, |b| {
                b.iter(|| {
                    let mut flow = numbers(tracked);
                    for _ in 0..stages {
                        flow = flow.map(step());
                    }
                    runtime.block_on(sum(flow).into_future()).unwrap()
                });
            });
        }
        group.bench_function("futures", |b| {
            b.iter(|| {
                let flow = stream::iter(0..ELEMENTS);
                runtime.block_on(async {
                    let add = |sum: u64, n| ready(sum.wrapping_add(n));
                    macro_rules! maps {
                        ($flow:expr,) => { $flow.fold(0, add).await };
                        ($flow:expr, $_:tt $($rest:tt)*) => { maps!($flow.map(step()), $($rest)*) };
                    }
                    match stages {
                        1 => maps!(flow, 1),
                        5 => maps!(flow, 1 2 3 4 5),
                        _ => maps!(flow, 1 2 3 4 5 6 7 8 9 10),
                    }
                })
            });
        });
        group.bench_function("futures_boxed", |b| {
            b.iter(|| {
                let mut flow: BoxStream<'static, u64> = stream::iter(0..ELEMENTS).boxed();
                for _ in 0..stages {
                    flow = flow.map(step()).boxed();
                }
                runtime.block_on(flow.fold(0_u64, |sum, n| ready(sum.wrapping_add(n))))
            });
        });
        group.finish();
    }
}

/// A channel between two tasks, `hops` times in a row.
macro_rules! channel_bench {
    ($group:expr, $runtime:expr, $hops:expr, $name:literal, $make:expr, |$tx:ident, $n:ident| $send:expr, |$rx:ident| $recv:expr) => {
        $group.bench_function($name, |b| {
            b.iter(|| {
                $runtime.block_on(async {
                    let ($tx, first) = $make;
                    tokio::spawn(async move {
                        for $n in 0..ELEMENTS {
                            $send;
                        }
                    });
                    let mut last = first;
                    for _ in 1..$hops {
                        let ($tx, next) = $make;
                        #[allow(unused_mut)]
                        let mut $rx = last;
                        tokio::spawn(async move {
                            while let Some($n) = $recv {
                                $send;
                            }
                        });
                        last = next;
                    }
                    #[allow(unused_mut)]
                    let mut $rx = last;
                    tokio::spawn(async move {
                        let mut sum = 0_u64;
                        while let Some(n) = $recv {
                            sum = sum.wrapping_add(n);
                        }
                        sum
                    })
                    .await
                    .unwrap()
                })
            });
        });
    };
}

fn async_boundary(criterion: &mut Criterion) {
    let runtime = runtime();
    for (hops, capacity) in [(0, 1024), (1, 16), (1, 1024), (3, 16), (3, 1024)] {
        let mut group = group(criterion, &format!("async_boundary/{hops}x{capacity}"));
        for tracked in [false, true] {
            let name = if tracked {
                "forebay_tracked"
            } else {
                "forebay"
            };
            group.bench_function(name, |b| {
                b.iter(|| {
                    let mut flow = numbers(tracked);
                    for _ in 0..hops {
                        flow = flow.buffer(capacity);
                    }
                    runtime.block_on(sum(flow).into_future()).unwrap()
                });
            });
        }
        if hops > 0 {
            channel_bench!(
                group,
                runtime,
                hops,
                "tokio_mpsc",
                tokio::sync::mpsc::channel::<u64>(capacity),
                |tx, n| tx.send(n).await.unwrap(),
                |rx| rx.recv().await
            );
            channel_bench!(
                group,
                runtime,
                hops,
                "async_channel",
                async_channel::bounded::<u64>(capacity),
                |tx, n| tx.send(n).await.unwrap(),
                |rx| rx.recv().await.ok()
            );
            channel_bench!(
                group,
                runtime,
                hops,
                "kanal",
                kanal::bounded_async::<u64>(capacity),
                |tx, n| tx.send(n).await.unwrap(),
                |rx| rx.recv().await.ok()
            );
            channel_bench!(
                group,
                runtime,
                hops,
                "flume",
                flume::bounded::<u64>(capacity),
                |tx, n| tx.send_async(n).await.unwrap(),
                |rx| rx.recv_async().await.ok()
            );
        }
        group.finish();
    }
}

/// A future that wakes itself once.
struct WakeOnce(bool);

impl Future for WakeOnce {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.0 {
            return Poll::Ready(());
        }
        self.0 = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

async fn self_waking(n: u64) -> u64 {
    WakeOnce(false).await;
    n + 1
}

async fn spawned(n: u64) -> u64 {
    tokio::spawn(async move { n + 1 }).await.unwrap()
}

fn map_async(criterion: &mut Criterion) {
    let runtime = runtime();
    for limit in [1, 4, 16, 64] {
        macro_rules! pair {
            ($kind:literal, $future:expr) => {
                let mut group = group(criterion, &format!("map_async_{}/{limit}", $kind));
                for tracked in [false, true] {
                    let name = if tracked {
                        "forebay_tracked"
                    } else {
                        "forebay"
                    };
                    group.bench_function(name, |b| {
                        b.iter(|| {
                            let flow = numbers(tracked).map_async(limit, $future);
                            runtime.block_on(sum(flow).into_future()).unwrap()
                        });
                    });
                }
                group.bench_function("futures_buffered", |b| {
                    b.iter(|| {
                        let flow = stream::iter(0..ELEMENTS).map($future).buffered(limit);
                        runtime.block_on(flow.fold(0_u64, |sum, n| ready(sum.wrapping_add(n))))
                    });
                });
                group.finish();
            };
        }
        pair!("ready", |n| ready(n + 1));
        pair!("self_waking", self_waking);
        pair!("spawned", spawned);
    }
}

/// Work of about a microsecond.
fn churn(mut n: u64) -> u64 {
    for _ in 0..400 {
        n = black_box(n)
            .wrapping_mul(6_364_136_223_846_793_005)
            .rotate_left(7);
    }
    n
}

/// That work on two other cores and then so many futures in flight: in two lanes before the futures,
/// which take whole batches, and beside them in a task for each element, as `buffered` has it.
fn map_async_lanes(criterion: &mut Criterion) {
    let runtime = runtime();
    for limit in [1, 4, 16, 64] {
        let mut group = group(criterion, &format!("map_async_lanes/{limit}"));
        for tracked in [false, true] {
            let name = if tracked {
                "forebay_2_lanes_tracked"
            } else {
                "forebay_2_lanes"
            };
            group.bench_function(name, |b| {
                b.iter(|| {
                    let flow = numbers(tracked)
                        .map_parallel(2, churn)
                        .map_async(limit, self_waking);
                    runtime.block_on(sum(flow).into_future()).unwrap()
                });
            });
        }
        group.bench_function("futures_buffered", |b| {
            b.iter(|| {
                let work = |n| async move {
                    let n = tokio::spawn(async move { churn(n) }).await.unwrap();
                    self_waking(n).await
                };
                let flow = stream::iter(0..ELEMENTS).map(work).buffered(limit);
                runtime.block_on(flow.fold(0_u64, |sum, n| ready(sum.wrapping_add(n))))
            });
        });
        group.finish();
    }
}

/// The same work in lanes on other cores and in line.
fn lanes(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = group(criterion, "map_parallel");
    for lanes in [1, 2] {
        group.bench_function(format!("forebay_{lanes}_lanes"), |b| {
            b.iter(|| {
                let flow = numbers(true).map_parallel(lanes, churn);
                runtime.block_on(sum(flow).into_future()).unwrap()
            });
        });
    }
    group.bench_function("in_line", |b| {
        b.iter(|| {
            runtime
                .block_on(sum(numbers(true).map(churn)).into_future())
                .unwrap()
        });
    });
    group.finish();
}

fn grouping(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = group(criterion, "grouped_within/1000_in_10_ms");
    for tracked in [false, true] {
        let name = if tracked {
            "forebay_tracked"
        } else {
            "forebay"
        };
        group.bench_function(name, |b| {
            b.iter(|| {
                let limits = BatchLimits::new(1000, Duration::from_millis(10));
                let flow = numbers(tracked).grouped_within(limits);
                let count = flow.fold(0, |count: &mut usize, group| *count += group.len());
                runtime.block_on(count.into_future()).unwrap()
            });
        });
    }
    // The nearest of futures: by number alone.
    group.bench_function("futures_chunks", |b| {
        b.iter(|| {
            let flow = stream::iter(0..ELEMENTS).chunks(1000);
            runtime.block_on(flow.fold(0, |count, group| ready(count + group.len())))
        });
    });
    group.finish();
}

fn graphs(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = group(criterion, "broadcast_4_and_merge");
    for tracked in [false, true] {
        let name = if tracked {
            "forebay_tracked"
        } else {
            "forebay"
        };
        group.bench_function(name, |b| {
            b.iter(|| {
                let [first, second, third, fourth] = numbers(tracked).broadcast(1024);
                let flow = first.merge([second, third, fourth]);
                runtime.block_on(sum(flow).into_future()).unwrap()
            });
        });
    }
    group.bench_function("tokio_broadcast", |b| {
        b.iter(|| {
            runtime.block_on(async {
                let (tx, _) = tokio::sync::broadcast::channel::<u64>(ELEMENTS as usize);
                let readers: Vec<_> = (0..4)
                    .map(|_| {
                        let mut rx = tx.subscribe();
                        tokio::spawn(async move {
                            let mut sum = 0_u64;
                            while let Ok(n) = rx.recv().await {
                                sum = sum.wrapping_add(n);
                            }
                            sum
                        })
                    })
                    .collect();
                for n in 0..ELEMENTS {
                    tx.send(n).unwrap();
                }
                drop(tx);
                for reader in readers {
                    black_box(reader.await.unwrap());
                }
            });
        });
    });
    group.finish();

    let mut group = self::group(criterion, "merge_2");
    for tracked in [false, true] {
        let name = if tracked {
            "forebay_tracked"
        } else {
            "forebay"
        };
        group.bench_function(name, |b| {
            b.iter(|| {
                let half = || {
                    let flow = source::iter(0..ELEMENTS / 2);
                    if tracked { flow } else { flow.untracked() }
                };
                runtime
                    .block_on(sum(half().merge([half()])).into_future())
                    .unwrap()
            });
        });
    }
    group.bench_function("futures_select", |b| {
        b.iter(|| {
            let half = || stream::iter(0..ELEMENTS / 2);
            let flow = stream::select(half(), half());
            runtime.block_on(flow.fold(0_u64, |sum, n| ready(sum.wrapping_add(n))))
        });
    });
    group.finish();
}

fn receipts(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = group(criterion, "whole_pipeline");
    for tracked in [false, true] {
        let name = if tracked { "tracked" } else { "untracked" };
        group.bench_function(name, |b| {
            b.iter(|| {
                let flow = numbers(tracked)
                    .map(step())
                    .map(step())
                    .map(step())
                    .buffer(1024)
                    .map_async(64, |n| ready(n + 1));
                runtime.block_on(sum(flow).into_future()).unwrap()
            });
        });
    }
    group.finish();
}

/// A source that never waits, through a buffer that drops its oldest, into a consumer that needs a
/// microsecond an element: prints what was offered and delivered a second, and how busy the
/// consumer was.
fn over_fast_source(_: &mut Criterion) {
    let runtime = runtime();
    let one = Duration::from_micros(1);
    for capacity in [64, 1000] {
        let seconds = 2.0;
        let started = std::time::Instant::now();
        let until = started + Duration::from_secs_f64(seconds);
        let mut offered = 0_u64;
        let endless = std::iter::from_fn(move || {
            offered += 1;
            // The clock is read once in 4096 elements, so that the source stays over-fast.
            (offered & 4095 != 0 || std::time::Instant::now() < until).then_some(offered)
        });
        let (offered, delivered, busy) = runtime.block_on(async {
            let mut running = source::iter(endless)
                .buffer(Buffer::items(capacity).when_full(WhenFull::DropHead))
                .for_each(move |_| forebay::time::work(one))
                .run()
                .unwrap();
            running.join().await.unwrap();
            let snapshot = running.snapshot();
            snapshot.check().unwrap();
            let consumer = snapshot.islands.last().unwrap().time;
            (
                snapshot.stages[0].counts.made,
                snapshot.stage("for_each").unwrap().counts.settled_total(),
                consumer.busy_share(),
            )
        });
        let took = started.elapsed().as_secs_f64();
        eprintln!(
            "over_fast_source/drop_head_{capacity}: offered {:.1} M/s, delivered {:.0} k/s, consumer busy {:.1} %",
            offered as f64 / took / 1e6,
            delivered as f64 / took / 1e3,
            busy * 100.0,
        );
    }
}

criterion_group!(
    benches,
    flow_map,
    async_boundary,
    map_async,
    map_async_lanes,
    lanes,
    grouping,
    graphs,
    receipts,
    over_fast_source
);
criterion_main!(benches);
