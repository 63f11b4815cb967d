//! What holds whatever a limit is told.

use std::time::Duration;

use forebay::control::Sample;
use forebay::control::limit::{Aimd, Fixed, Gradient2, Limit, MeanLatency, Vegas};
use forebay::time::Time;
use proptest::prelude::*;

use crate::model::{Model, Service, Spread};

/// Samples as a stage might give them, and as none should.
fn samples() -> impl Strategy<Value = Vec<(u64, Sample)>> {
    let service = prop_oneof![
        Just(0_u64),
        1..5_000_u64,
        1_000_000..2_000_000_u64,
        Just(1 << 40)
    ];
    let count = prop_oneof![Just(0_usize), 1..4_usize, 50..400_usize];
    let one = (
        0..10_000_000_u64,
        count,
        0..500_usize,
        service,
        0..300_usize,
        0..20_u64,
    );
    let sample = one.prop_map(|(after, count, drops, service, busy, oldest)| {
        let drops = if drops % 3 == 0 { drops } else { 0 };
        let sample = Sample {
            count,
            failures: count / 7,
            drops,
            service: Duration::from_nanos(service),
            wait: Duration::from_nanos(after),
            in_flight: busy / 2,
            in_flight_peak: busy,
            oldest: Duration::from_secs(oldest),
            queued: busy,
        };
        (after, sample)
    });
    prop::collection::vec(sample, 0..300)
}

fn limits() -> Vec<Box<dyn Limit>> {
    vec![
        Box::new(Fixed::new(9).unwrap()),
        Box::new(Aimd::builder().bounds(1, 60).build().unwrap()),
        Box::new(Vegas::builder().bounds(1, 60).round(20).build().unwrap()),
        Box::new(Gradient2::builder().bounds(1, 60).build().unwrap()),
        Box::new(MeanLatency::builder().bounds(2, 120).build().unwrap()),
    ]
}

/// Tells the samples, with all times that many times as long. The limits after each.
fn tell(limit: &mut dyn Limit, samples: &[(u64, Sample)], times: u32) -> Vec<usize> {
    let mut now = Time::ZERO;
    let mut seen = Vec::new();
    for (after, sample) in samples {
        now = now + Duration::from_nanos(*after) * times;
        let sample = Sample {
            service: sample.service * times,
            wait: sample.wait * times,
            oldest: sample.oldest * times,
            ..*sample
        };
        limit.on_sample(now, &sample);
        seen.push(limit.limit());
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_limit_stays_within_its_bounds_and_explains_each_change(samples in samples()) {
        for mut limit in limits() {
            let mut before = limit.limit() as f64;
            let mut now = Time::ZERO;
            for (after, sample) in &samples {
                now = now + Duration::from_nanos(*after);
                let told = limit.adjustments().total();
                limit.on_sample(now, sample);
                let snapshot = limit.snapshot();
                prop_assert_eq!(snapshot.limit, limit.limit());
                prop_assert!(snapshot.least >= 1);
                prop_assert!((snapshot.least..=snapshot.most).contains(&snapshot.limit));
                prop_assert!(snapshot.queue.is_none_or(|queue| queue >= 0.0 && queue.is_finite()));
                prop_assert!(limit.adjustments().last().count() <= 64);
                let changes = (limit.adjustments().total() - told) as usize;
                if changes > 0 && changes <= 64 {
                    let first = limit.adjustments().last().rev().nth(changes - 1).unwrap();
                    let last = limit.adjustments().last().next_back().unwrap();
                    prop_assert_eq!(first.from, before);
                    prop_assert_eq!(last.to, limit.limit() as f64);
                    prop_assert_eq!(last.at, now);
                    prop_assert!(!last.because.is_empty());
                }
                prop_assert!(changes > 0 || before == limit.limit() as f64);
                before = limit.limit() as f64;
            }
        }
    }

    /// 2^23 is 8.4 million: what is 1 us in one run is 8.4 s in the other, and floats scale exactly.
    #[test]
    fn a_service_millions_of_times_slower_gets_the_same_limits(samples in samples()) {
        let samples: Vec<_> = samples
            .into_iter()
            .map(|(after, sample)| {
                let service = sample.service.clamp(Duration::from_nanos(1), Duration::from_millis(5));
                (after, Sample { service, ..sample })
            })
            .collect();
        let vegas = || Vegas::builder().bounds(1, 60).round(20).build().unwrap();
        let gradient = || Gradient2::builder().bounds(1, 60).build().unwrap();
        let fast = tell(&mut vegas(), &samples, 1);
        prop_assert_eq!(fast, tell(&mut vegas(), &samples, 1 << 23));
        let fast = tell(&mut gradient(), &samples, 1);
        prop_assert_eq!(fast, tell(&mut gradient(), &samples, 1 << 23));
    }

    #[test]
    fn the_same_samples_give_the_same_limits(samples in samples()) {
        for (mut one, mut other) in limits().into_iter().zip(limits()) {
            prop_assert_eq!(tell(&mut *one, &samples, 1), tell(&mut *other, &samples, 1));
            prop_assert_eq!(one.snapshot(), other.snapshot());
        }
    }

}

proptest! {
    // Each case runs a model of a service.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn no_limit_is_stuck_whatever_it_was_told_before(samples in samples()) {
        let limits: [Box<dyn Limit>; 3] = [
            Box::new(Aimd::builder().bounds(1, 60).build().unwrap()),
            Box::new(Vegas::builder().bounds(1, 60).round(20).build().unwrap()),
            Box::new(Gradient2::builder().bounds(1, 60).build().unwrap()),
        ];
        for mut limit in limits {
            tell(&mut *limit, &samples, 1);
            // A service for which 40 at once are right, and which is always asked for more.
            let service = Service::new(40, Duration::from_millis(1), Spread::Constant);
            let mut model = Model::after(service, 1, 1 << 45);
            model.run(&mut *limit, 2_500.0);
            let seen = model.run(&mut *limit, 200.0);
            prop_assert!(seen.busy >= 0.75, "{:?}: {:?}", limit.snapshot(), seen);
        }
    }
}
