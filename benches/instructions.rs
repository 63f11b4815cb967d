//! Instruction counts of the hot paths, under callgrind: the same on every run of one toolchain, so
//! that a regression shows whatever else the machine does.
//!
//! `cargo bench --bench instructions`. The base is benches/instructions.tsv; CI fails past +3 %.
#![allow(missing_docs, clippy::unwrap_used)]

use std::future::ready;
use std::hint::black_box;

use forebay::boundary::{Buffer, ClassBuffer, WhenFull};
use forebay::class::Class;
use forebay::control::limit::Vegas;
use forebay::control::{
    AdmissionHandle, AdmissionSettings, BreakerHandle, BreakerSettings, LimitHandle,
    PrioritySettings,
};
use forebay::flow::{Flow, Pipeline};
use forebay::operator::Calls;
use forebay::source;
use forebay::testkit::Simulation;
use forebay::time::Time;
use gungraun::{library_benchmark, library_benchmark_group, main};

const ELEMENTS: u64 = 20_000;

fn numbers(tracked: bool) -> Flow<u64> {
    let flow = source::iter(0..ELEMENTS);
    if tracked { flow } else { flow.untracked() }
}

fn sum(flow: Flow<u64>) -> Pipeline<u64> {
    flow.fold(0, |sum: &mut u64, n| *sum = sum.wrapping_add(n))
}

fn maps(mut flow: Flow<u64>, count: usize) -> Flow<u64> {
    for _ in 0..count {
        let odd = black_box(3);
        flow = flow.map(move |n| n.wrapping_mul(odd) ^ (n >> 3));
    }
    flow
}

/// In simulated time: on the wall clock islands choose the size of chunks by how long they take, and
/// no two runs are the same.
fn run(pipeline: Pipeline<u64>) -> u64 {
    Simulation::new(1).run(pipeline).unwrap().0
}

#[library_benchmark]
#[bench::untracked(false)]
#[bench::tracked(true)]
fn ten_maps(tracked: bool) -> u64 {
    run(sum(maps(numbers(tracked), 10)))
}

#[library_benchmark]
#[bench::untracked(false)]
#[bench::tracked(true)]
fn boundary_1024(tracked: bool) -> u64 {
    run(sum(numbers(tracked).buffer(1024)))
}

#[library_benchmark]
#[bench::untracked(false)]
#[bench::tracked(true)]
fn map_async_ready_16(tracked: bool) -> u64 {
    run(sum(numbers(tracked).map_async(16, |n| ready(n + 1))))
}

// A limit, a breaker and an admission, as in the default stack.
#[library_benchmark]
fn map_async_on_terms_16() -> u64 {
    let limit = Vegas::builder().initial(16).bounds(1, 16).build().unwrap();
    let breaker = BreakerHandle::new(BreakerSettings::default(), Time::ZERO).unwrap();
    let admission = AdmissionHandle::new(AdmissionSettings::default()).unwrap();
    let calls = Calls::under(&LimitHandle::new(limit)).breaker(&breaker);
    run(sum(
        numbers(true).map_async(calls.feeding(&admission), |n| ready(n + 1))
    ))
}

#[library_benchmark]
fn drop_head() -> u64 {
    run(sum(
        numbers(true).buffer(Buffer::items(256).when_full(WhenFull::DropHead))
    ))
}

/// A third of each class.
fn classified(tracked: bool) -> Flow<u64> {
    numbers(tracked).classify(|n| [Class::HIGH, Class::MEDIUM, Class::LOW][(n % 3) as usize])
}

#[library_benchmark]
#[bench::untracked(false)]
#[bench::tracked(true)]
fn classified_1024(tracked: bool) -> u64 {
    run(sum(classified(tracked).buffer(1024)))
}

// What an element costs that is let in, over the one of `classified_1024`.
#[library_benchmark]
#[bench::untracked(false)]
#[bench::tracked(true)]
fn admitted_by_class_1024(tracked: bool) -> u64 {
    let admission = AdmissionHandle::new(AdmissionSettings::default()).unwrap();
    let buffer = ClassBuffer::new(PrioritySettings::items(1024)).feeding(&admission);
    run(sum(classified(tracked)
        .admit(&admission)
        .buffer_by_class(buffer)))
}

library_benchmark_group!(
    name = hot_paths;
    benchmarks = ten_maps, boundary_1024, map_async_ready_16, map_async_on_terms_16,
        drop_head, classified_1024, admitted_by_class_1024
);

main!(library_benchmark_groups = hot_paths);
