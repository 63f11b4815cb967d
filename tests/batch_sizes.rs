//! Batch sizes: what holds whatever they are told, and what others are known to do wrong.
#![allow(
    clippy::cast_sign_loss,
    clippy::float_cmp,
    clippy::unwrap_used,
    missing_docs
)]

use std::collections::VecDeque;
use std::time::Duration;

use forebay::control::BatchWindow;
use forebay::control::batch_size::{
    Aimd, BatchSample, BatchSize, LatencyTarget, Natural, UnderPressure,
};
use forebay::time::Time;
use proptest::prelude::*;

const US: Duration = Duration::from_micros(1);
const MS: Duration = Duration::from_millis(1);

/// What a batch of so many elements takes: 500 us, and 10 us for each.
fn service(items: usize) -> Duration {
    500 * US + 10 * US * items as u32
}

/// Twice what single elements could be served at is offered for ten seconds. The elements that were
/// served; what waited is part of the signal where `tells_wait`.
fn served_under_overload(size: &mut dyn BatchSize, gap: Duration, tells_wait: bool) -> usize {
    let end = Time::ZERO + 10_000 * MS;
    let (mut now, mut next, mut served) = (Time::ZERO, Time::ZERO, 0);
    let mut queue = VecDeque::new();
    while now < end {
        while next <= now {
            queue.push_back(next);
            next = next + gap;
        }
        let items = queue.len().min(size.size());
        let Some(oldest) = queue.front().copied().filter(|_| items > 0) else {
            now = next;
            continue;
        };
        queue.drain(..items);
        let wait = if tells_wait {
            now.since(oldest)
        } else {
            Duration::ZERO
        };
        let service = service(items);
        now = now + service;
        served += items;
        let sample = BatchSample {
            items,
            bytes: 0,
            service: wait + service,
        };
        size.on_batch(now, &sample);
    }
    served
}

/// Under overload every element is late by what it waited in the queue. Who shrinks batches for that
/// takes capacity away when it is needed most: the sample has no such figure, and this is why.
#[test]
fn known_failure_batches_that_shrink_by_the_wait_lose_capacity() {
    // Batches of 200 are served at 80 000 a second, single elements at 1960.
    let gap = Duration::from_nanos(12_500);
    let sizes: [fn() -> Box<dyn BatchSize>; 2] = [
        || Box::new(Aimd::builder(4 * MS).build().unwrap()),
        || Box::new(LatencyTarget::builder(4 * MS).build().unwrap()),
    ];
    for size in sizes {
        let mut right = size();
        let served = served_under_overload(&mut *right, gap, false);
        let name = right.snapshot().algorithm;
        assert!(served > 700_000, "{name}: {served} of 800 000");
        assert!(service(right.size()) <= 4 * MS, "{name}: {}", right.size());
        let mut wrong = size();
        let collapsed = served_under_overload(&mut *wrong, gap, true);
        assert!(collapsed < served / 2, "{name}: {collapsed} of {served}");
    }
}

/// What one batch allows grows and shrinks between elements: groups are cut by the bounds in force.
#[test]
fn a_window_cuts_by_the_size_of_the_moment_in_items_bytes_and_time() {
    let mut size = UnderPressure::builder()
        .bounds(2, 8)
        .initial(8)
        .bytes(100)
        .wait(MS)
        .build()
        .unwrap();
    let mut window = BatchWindow::new(size.limits());
    window.arrive(Time::ZERO, 6, 1);
    assert_eq!(window.ready(), 0, "six of eight");
    size.on_pressure(Time::ZERO, 1.0);
    size.on_batch(Time::ZERO, &BatchSample::default());
    window.set_limits(size.limits());
    assert_eq!(window.emit(), Some(6), "four are enough now");
    window.arrive(Time::ZERO, 4, 1);
    assert_eq!(window.emit(), Some(4));
    window.arrive(Time::ZERO, 3, 60);
    assert_eq!((window.emit(), window.emit()), (Some(1), Some(1)));
    assert_eq!(window.deadline(), Some(Time::ZERO + MS));
    window.tick(Time::ZERO + MS);
    assert_eq!(window.emit(), Some(1));
}

fn sizes() -> Vec<Box<dyn BatchSize>> {
    vec![
        Box::new(Natural::builder().bounds(1, 60).build().unwrap()),
        Box::new(Aimd::builder(MS).bounds(2, 60).initial(2).build().unwrap()),
        Box::new(LatencyTarget::builder(MS).bounds(1, 60).build().unwrap()),
        Box::new(UnderPressure::a7()),
    ]
}

/// Batches as a stage might tell them, and as none should; with the pressure before each.
fn batches() -> impl Strategy<Value = Vec<(u64, BatchSample, f64)>> {
    let items = prop_oneof![Just(0_usize), 1..5_usize, 40..700_usize];
    let ns = prop_oneof![
        Just(0_u64),
        1..5_000_u64,
        500_000..3_000_000_u64,
        Just(1 << 50)
    ];
    let pressure = prop_oneof![0.0..1.5_f64, Just(f64::NAN), Just(1.0)];
    let one = (0..10_000_000_u64, items, ns, pressure).prop_map(|(after, items, ns, pressure)| {
        let sample = BatchSample {
            items,
            bytes: items as u64 * 7,
            service: Duration::from_nanos(ns),
        };
        (after, sample, pressure)
    });
    prop::collection::vec(one, 0..300)
}

/// Tells all, with times that many times as long. The sizes after each.
fn tell(size: &mut dyn BatchSize, batches: &[(u64, BatchSample, f64)], times: u32) -> Vec<usize> {
    let mut now = Time::ZERO;
    let mut seen = Vec::new();
    for (after, sample, pressure) in batches {
        now = now + Duration::from_nanos(*after) * times;
        size.on_pressure(now, *pressure);
        let sample = BatchSample {
            service: sample.service * times,
            ..*sample
        };
        size.on_batch(now, &sample);
        seen.push(size.size());
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_size_stays_within_its_bounds_and_explains_each_change(batches in batches()) {
        for mut size in sizes() {
            let (mut now, mut before) = (Time::ZERO, size.size());
            for (after, sample, pressure) in &batches {
                now = now + Duration::from_nanos(*after);
                let told = size.adjustments().total();
                size.on_pressure(now, *pressure);
                size.on_batch(now, sample);
                let snapshot = size.snapshot();
                prop_assert_eq!(snapshot.size, size.size());
                prop_assert!(snapshot.least >= 1);
                prop_assert!((snapshot.least..=snapshot.most).contains(&snapshot.size));
                prop_assert_eq!(size.limits().max_items(), size.size());
                prop_assert!(size.adjustments().last().count() <= 64);
                let changes = size.adjustments().total() - told;
                prop_assert!(changes <= 1, "one batch, one change");
                prop_assert_eq!(changes == 1, size.size() != before);
                if changes == 1 {
                    let last = size.adjustments().last().next_back().unwrap();
                    prop_assert_eq!((last.from, last.to), (before as f64, size.size() as f64));
                    prop_assert!(last.at == now && !last.because.is_empty());
                }
                before = size.size();
            }
        }
    }

    #[test]
    fn the_same_batches_give_the_same_sizes(batches in batches()) {
        for (mut one, mut other) in sizes().into_iter().zip(sizes()) {
            prop_assert_eq!(tell(&mut *one, &batches, 1), tell(&mut *other, &batches, 1));
            prop_assert_eq!(one.snapshot(), other.snapshot());
        }
    }

    /// 2^10 is a thousand: what is 1 ms in one run is 1 s in the other.
    #[test]
    fn a_service_a_thousand_times_slower_gets_the_same_sizes(batches in batches()) {
        // A clock that sees nothing of a batch says 0, which is no time that could be scaled.
        let long_enough = |(after, sample, pressure): (u64, BatchSample, f64)| {
            let service = sample.service.clamp(10 * US, 1000 * MS);
            (after, BatchSample { service, ..sample }, pressure)
        };
        let batches: Vec<_> = batches.into_iter().map(long_enough).collect();
        let fit = |target| LatencyTarget::builder(target).bounds(1, 60).build().unwrap();
        let fast = tell(&mut fit(MS), &batches, 1);
        prop_assert_eq!(fast, tell(&mut fit(MS * 1024), &batches, 1024));
        let steps = |target| Aimd::builder(target).bounds(1, 60).build().unwrap();
        let fast = tell(&mut steps(MS), &batches, 1);
        prop_assert_eq!(fast, tell(&mut steps(MS * 1024), &batches, 1024));
    }

    /// Whatever it was told before: batches that cost a line bring it back to the target.
    #[test]
    fn no_size_is_stuck_whatever_it_was_told_before(batches in batches()) {
        let mut fit = LatencyTarget::builder(5 * MS).bounds(1, 1000).build().unwrap();
        let mut steps = Aimd::builder(5 * MS).bounds(1, 1000).cool_down(0).build().unwrap();
        for size in [&mut fit as &mut dyn BatchSize, &mut steps] {
            tell(size, &batches, 1);
            let mut last = VecDeque::new();
            for n in 0..3000 {
                let items = size.size();
                let sample = BatchSample { items, bytes: 0, service: service(items) };
                size.on_batch(Time::from_nanos(1 << 55) + MS * n, &sample);
                last.push_back(size.size());
                // Now and then a batch of half the size is asked for, to compare.
                last.drain(..last.len().saturating_sub(4));
            }
            // (5 ms - 0.5 ms) / 10 us = 450
            let largest = last.iter().copied().max();
            prop_assert!(largest.is_some_and(|size| (360..=450).contains(&size)), "{:?}", last);
        }
    }
}
