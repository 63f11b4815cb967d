//! What it costs to be ready for too much: a refusal, an element that is let in, calls on terms.
//!
//! `cargo bench --bench pressure -- [FILTER]`. Wanted: a refusal at most 10 ns; an element that passes
//! admission and a buffer by class at most 15 ns more than one that passes a plain buffer
//! (`element/admitted_over_plain`: rounds of both in turn, so that neither has the quieter machine).
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::future::{IntoFuture, ready};
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use forebay::boundary::ClassBuffer;
use forebay::class::Class;
use forebay::control::limit::Vegas;
use forebay::control::{
    AdmissionHandle, AdmissionSettings, BreakerHandle, BreakerSettings, Gate, LimitHandle,
    PrioritySettings,
};
use forebay::flow::{Flow, Pipeline};
use forebay::operator::Calls;
use forebay::source;
use forebay::time;

const ELEMENTS: u64 = 200_000;

fn numbers() -> Flow<u64> {
    source::iter(0..ELEMENTS).untracked()
}

/// A third of each class.
fn classified() -> Flow<u64> {
    numbers().classify(|n| [Class::HIGH, Class::MEDIUM, Class::LOW][(n % 3) as usize])
}

fn sum(flow: Flow<u64>) -> Pipeline<u64> {
    flow.fold(0, |sum: &mut u64, n| *sum = sum.wrapping_add(n))
}

fn admission() -> AdmissionHandle {
    AdmissionHandle::new(AdmissionSettings::default()).unwrap()
}

fn breaker() -> BreakerHandle {
    BreakerHandle::new(BreakerSettings::default(), time::now()).unwrap()
}

/// A limit, a breaker and an admission, as in the default stack.
fn all_terms(most: usize) -> Calls {
    let limit = Vegas::builder().initial(most).bounds(1, most);
    let limit = LimitHandle::new(limit.build().unwrap());
    Calls::under(&limit)
        .breaker(&breaker())
        .feeding(&admission())
}

fn refusal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("refusal");
    let gate = Gate::open();
    gate.set(Gate::before(Class::MEDIUM, 0.5));
    let mut number = 0_u64;
    group.bench_function("gate", |bencher| {
        bencher.iter(|| {
            number += 1;
            black_box(gate.admits(black_box(Class::LOW), Gate::dither(number)))
        });
    });
    let open = breaker();
    let now = time::now();
    open.force_open(now);
    group.bench_function("breaker", |bencher| {
        bencher.iter(|| black_box(open.try_acquire(black_box(now)).is_err()));
    });
    let closed = breaker();
    group.bench_function("permit_and_report", |bencher| {
        bencher.iter(|| {
            if let Ok(permit) = closed.try_acquire(black_box(now)) {
                permit.success(now, Duration::from_micros(10));
            }
        });
    });
    group.finish();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

fn plain() -> Pipeline<u64> {
    sum(classified().buffer(1024))
}

fn admitted() -> Pipeline<u64> {
    let admission = admission();
    let buffer = ClassBuffer::new(PrioritySettings::items(1024)).feeding(&admission);
    sum(classified().admit(&admission).buffer_by_class(buffer))
}

/// What an element that is let in costs more than one behind a plain buffer.
fn over_plain(_: &mut Criterion) {
    const NAME: &str = "element/admitted_over_plain";
    let mut filters = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    let rounds = if std::env::args().any(|arg| arg == "--test") {
        1
    } else {
        100
    };
    if filters.next().is_some_and(|filter| !NAME.contains(&filter)) {
        return;
    }
    let runtime = runtime();
    let element_ns = |make: fn() -> Pipeline<u64>| {
        let began = Instant::now();
        runtime.block_on(make().into_future()).unwrap();
        began.elapsed().as_nanos() as f64 / ELEMENTS as f64
    };
    let mut over: Vec<f64> = (0..rounds)
        .map(|round| {
            if round % 2 == 0 {
                let before = element_ns(plain);
                element_ns(admitted) - before
            } else {
                element_ns(admitted) - element_ns(plain)
            }
        })
        .collect();
    over.sort_by(f64::total_cmp);
    // Where the median of all rounds there could be lies, 95 times in 100: ranks about the middle.
    let spread = usize::isqrt(rounds);
    let middle = over.len() / 2;
    let (low, high) = (middle.saturating_sub(spread), middle + spread);
    println!(
        "{NAME}  {:.1} ns an element [{:.1} to {:.1}]; wanted: at most 15",
        over[middle],
        over[low],
        over[high.min(over.len() - 1)],
    );
}

fn pipelines(criterion: &mut Criterion) {
    let runtime = runtime();
    let mut group = criterion.benchmark_group("element");
    group
        .throughput(Throughput::Elements(ELEMENTS))
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    let mut bench = |name: &str, make: fn() -> Pipeline<u64>| {
        group.bench_function(name, |bencher| {
            bencher.iter(|| runtime.block_on(make().into_future()).unwrap());
        });
    };
    bench("buffer", plain);
    bench("buffer_by_class", || {
        sum(classified().buffer_by_class(PrioritySettings::items(1024)))
    });
    bench("admit_and_buffer", || {
        sum(classified().admit(&admission()).buffer(1024))
    });
    bench("admit_and_buffer_by_class", admitted);
    bench("map_async_16", || sum(classified().map_async(16, ready)));
    bench("map_async_under_a_limit", || {
        let limit = Vegas::builder().initial(16).bounds(1, 16).build().unwrap();
        sum(classified().map_async(&LimitHandle::new(limit), ready))
    });
    bench("map_async_behind_a_breaker", || {
        sum(classified().map_async(Calls::limit(16).breaker(&breaker()), ready))
    });
    bench("map_async_on_all_terms", || {
        sum(classified().map_async(all_terms(16), ready))
    });
    // A turn for each call, as at low load.
    bench("map_async_1", || sum(classified().map_async(1, ready)));
    bench("map_async_1_on_all_terms", || {
        sum(classified().map_async(all_terms(1), ready))
    });
    group.finish();
}

criterion_group!(benches, refusal, over_plain, pipelines);
criterion_main!(benches);
