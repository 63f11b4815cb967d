//! A consumer is under pressure when any of its figures is over its limit, and then goes through its
//! batch one by one.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use forebay::class::Class;
use forebay::control::batch_size::{BatchSample, BatchSize, UnderPressure};
use forebay::control::{
    Aging, Breach, ConsumerReading, Consumption, Deferral, DeferralSettings, Deferred, Leaving,
    Offer, PriorityQueue, PrioritySettings, Thresholds,
};
use forebay::time::Time;

#[path = "../examples/a7_consumer.rs"]
mod a7_consumer;

#[test]
fn row_a7_any_figure_over_its_limit_is_pressure() {
    let second = Duration::from_secs(1);
    let sequential = Consumption::Sequential {
        defer_from: Class::LOW,
    };
    let parallel = |at_once| Consumption::Parallel { at_once };
    let slots = |free| vec![Breach::Slots { free }];
    // Free slots of 10, average processing, memory, CPU: what is over its limit, and what follows.
    let table = [
        (10, second, 0.5, 0.5, vec![], parallel(10)),
        (2, second, 0.5, 0.5, vec![], parallel(2)),
        (1, second, 0.5, 0.5, slots(1), sequential),
        (0, second, 0.5, 0.5, slots(0), sequential),
        (5, 5 * second, 0.5, 0.5, vec![], parallel(5)),
        (
            5,
            Duration::from_millis(5001),
            0.5,
            0.5,
            vec![Breach::Average(Duration::from_millis(5001))],
            sequential,
        ),
        (5, second, 0.80, 0.5, vec![], parallel(5)),
        (
            5,
            second,
            0.801,
            0.5,
            vec![Breach::Memory(0.801)],
            sequential,
        ),
        (5, second, 0.5, 0.90, vec![], parallel(5)),
        (5, second, 0.5, 0.901, vec![Breach::Cpu(0.901)], sequential),
        (
            1,
            6 * second,
            0.9,
            0.95,
            vec![
                Breach::Slots { free: 1 },
                Breach::Average(6 * second),
                Breach::Memory(0.9),
                Breach::Cpu(0.95),
            ],
            sequential,
        ),
        (10, Duration::ZERO, 0.0, 0.0, vec![], parallel(10)),
    ];
    let thresholds = Thresholds::a7();
    for (free_slots, average, memory, cpu, breaches, consumption) in table {
        let reading = ConsumerReading {
            free_slots,
            average,
            memory,
            cpu,
        };
        let found: Vec<Breach> = thresholds.breaches(&reading).collect();
        assert_eq!(found, breaches, "{reading:?}");
        assert_eq!(thresholds.consumption(&reading), consumption, "{reading:?}");
    }
}

/// A reading with nothing over its limit, but for the free slots.
fn free(free_slots: usize) -> ConsumerReading {
    ConsumerReading {
        free_slots,
        average: Duration::from_millis(10),
        memory: 0.5,
        cpu: 0.5,
    }
}

#[test]
fn row_a7_the_batch_shrinks_under_pressure_and_grows_without() {
    let thresholds = Thresholds::a7();
    let mut size = UnderPressure::a7();
    assert_eq!(size.size(), 100);
    // Free slots of 10, size of the next batch.
    for (second, (slots, next)) in [
        (10, 110),
        (2, 120),
        (1, 60),
        (0, 30),
        (1, 15),
        (1, 10),
        (1, 10),
        (2, 20),
        (10, 30),
    ]
    .into_iter()
    .enumerate()
    {
        let now = Time::ZERO + Duration::from_secs(second as u64);
        let is_under = thresholds.breaches(&free(slots)).next().is_some();
        size.on_pressure(now, f64::from(u8::from(is_under)));
        let items = size.size();
        let sample = BatchSample {
            items,
            ..BatchSample::default()
        };
        size.on_batch(now, &sample);
        assert_eq!(size.size(), next, "second {second}");
        if items != next {
            let because = size.adjustments().last().next_back().unwrap().because;
            assert_eq!(because == "there is pressure", is_under, "second {second}");
        }
    }
}

/// Goes through a batch as a consumer does: what is processed, and what is deferred.
fn consume(
    reading: &ConsumerReading,
    batch: &[(Class, u32)],
    later: &mut Deferral<u32>,
) -> (Vec<u32>, usize) {
    let settings = PrioritySettings::items(batch.len()).aging(Aging::none());
    let mut queue = PriorityQueue::new(settings).unwrap();
    let (first, at_once) = match Thresholds::a7().consumption(reading) {
        Consumption::Parallel { at_once } => {
            return (batch.iter().map(|(_, id)| *id).collect(), at_once);
        }
        Consumption::Sequential { defer_from } => (defer_from, 1),
    };
    for (class, id) in batch {
        if *class >= first {
            let facts = Deferred::new(*class, 0);
            let room = later.defer(Time::ZERO, facts, *id, &mut Vec::new());
            assert_eq!(room, Ok(()));
        } else {
            let offer = Offer::new(*class, 0, Time::ZERO);
            let placed = queue.offer(Time::ZERO, offer, *id, &mut Vec::new());
            assert!(placed.is_queued());
        }
    }
    let next = || queue.pop(Time::ZERO).map(|served| served.entry.payload);
    (std::iter::from_fn(next).collect(), at_once)
}

#[test]
fn row_a7_under_pressure_high_goes_first_in_sequence_and_low_is_deferred_and_counted() {
    use Class as C;
    let batch = [
        (C::LOW, 1),
        (C::MEDIUM, 2),
        (C::HIGH, 3),
        (C::LOW, 4),
        (C::HIGH, 5),
    ];
    let mut later = Deferral::new(DeferralSettings::items(100), Time::ZERO).unwrap();
    // Without pressure: all, as they came, as many at once as there are slots.
    let processed = consume(&free(7), &batch, &mut later);
    assert_eq!(processed, (vec![1, 2, 3, 4, 5], 7));
    assert_eq!(later.snapshot().deferred[C::LOW.index()], 0);
    // With pressure: HIGH first, one by one; LOW waits for a later batch.
    let processed = consume(&free(1), &batch, &mut later);
    assert_eq!(processed, (vec![3, 5, 2], 1));
    assert_eq!(later.snapshot().deferred[C::LOW.index()], 2);
    // The later batch begins with them, once there is no pressure.
    assert_eq!(later.next(Time::ZERO, 1.0), None);
    let mut back = Vec::new();
    while let Some(Leaving::Reoffer(aside)) = later.next(Time::ZERO, 0.0) {
        back.push((aside.facts.class, aside.payload));
    }
    assert_eq!(back, [(C::LOW, 1), (C::LOW, 4)]);
    let processed = consume(&free(10), &back, &mut later);
    assert_eq!(processed, (vec![1, 4], 10));
}

#[test]
fn row_a7_the_example() {
    a7_consumer::main().unwrap();
}
