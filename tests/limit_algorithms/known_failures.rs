//! What other limits are known to do wrong, each with a test that fails if these do it.

use std::time::Duration;

use forebay::control::Sample;
use forebay::control::limit::{Aimd, Gradient2, Limit, MeanLatency, Vegas};
use forebay::time::Time;

use crate::model::{Model, Service, Spread};

const MS: Duration = Duration::from_millis(1);

fn lucky(count: usize, busy: usize) -> Sample {
    Sample {
        count,
        service: Duration::from_nanos(100),
        in_flight: busy,
        in_flight_peak: busy,
        ..Sample::default()
    }
}

/// One call that met a cache becomes the minimum for ever, and every other call looks queued
/// (Netflix concurrency-limits, issue 37).
#[test]
fn one_lucky_sample_does_not_collapse_the_limit() {
    for seed in 1..=10 {
        let mut limit = Vegas::default();
        let mut model = Model::new(Service::new(50, MS, Spread::Constant), seed);
        model.run(&mut limit, 2_000.0);
        let before = limit.limit();
        // One call; and then a whole round of them.
        for count in [1, before + 50] {
            limit.on_sample(model.now(), &lucky(count, before));
            let after = model.run(&mut limit, 200.0);
            assert!(after.least >= before * 4 / 5, "{before}, then {after:?}");
            assert!(after.busy > 0.97, "{after:?}");
        }
    }
}

/// The same of the others that go by latency: their averages move, the limit stays.
#[test]
fn one_lucky_round_does_not_collapse_gradient2_nor_the_mean() {
    let mut gradient = Gradient2::default();
    let mut model = Model::new(Service::new(50, MS, Spread::Constant), 1);
    model.run(&mut gradient, 2_000.0);
    let before = gradient.limit();
    for count in [1, before] {
        gradient.on_sample(model.now(), &lucky(count, before));
        let after = model.run(&mut gradient, 200.0);
        assert!(after.least >= before * 4 / 5, "{before}, then {after:?}");
        assert!(after.busy > 0.97, "{after:?}");
    }
    let mut mean = MeanLatency::a4();
    for n in 0..200 {
        let mut sample = lucky(1, 100);
        sample.service = Duration::from_millis(if n == 100 { 0 } else { 500 });
        mean.on_sample(Time::from_nanos(n), &sample);
        assert_eq!(mean.limit(), 100);
    }
}

/// A limit that overload has driven to the bottom stays there: what it allows is all it ever sees.
#[test]
fn a_limit_does_not_stay_at_1_after_load_subsides() {
    let limits: [Box<dyn Limit>; 3] = [
        Box::new(Aimd::default()),
        Box::new(Vegas::default()),
        Box::new(Gradient2::builder().bounds(1, 200).build().unwrap()),
    ];
    for mut limit in limits {
        let mut service = Service::new(1, MS, Spread::Exponential);
        service.queue = 0;
        let mut model = Model::new(service, 7);
        let name = limit.snapshot().algorithm;
        let overload = model.run(&mut *limit, 3_000.0);
        assert!(overload.least <= 2, "{name}: {overload:?}");
        // The service is well again, and little is asked of it; then it is asked for all it can do.
        model.change(|service| {
            service.workers = 30;
            service.queue = usize::MAX;
            service.load = 0.5;
        });
        model.run(&mut *limit, 500.0);
        model.change(|service| service.load = f64::INFINITY);
        model.run(&mut *limit, 3_000.0);
        let after = model.run(&mut *limit, 200.0);
        assert!(after.busy >= 0.9, "{name}: {after:?}");
    }
}

/// Envoy lowers the limit to 3 in order to measure, and sheds meanwhile (issue 8337).
#[test]
fn looking_for_the_base_lowers_no_limit() {
    for spread in [Spread::Constant, Spread::Exponential] {
        let mut limit = Vegas::builder().probe_every(16).build().unwrap();
        let mut model = Model::new(Service::new(20, MS, spread), 3);
        model.run(&mut limit, 2_000.0);
        let (mut probes, mut seen) = (0, limit.adjustments().total());
        let mut from = None;
        for _ in 0..2_000 {
            let looked = model.run(&mut limit, 2.0);
            assert!(looked.least >= 20, "below the knee: {looked:?}");
            let new = (limit.adjustments().total() - seen) as usize;
            seen = limit.adjustments().total();
            let changes: Vec<_> = limit
                .adjustments()
                .last()
                .rev()
                .take(new)
                .copied()
                .collect();
            for change in changes.iter().rev() {
                if change.because.starts_with("probe") {
                    probes += 1;
                    assert!(change.to > change.from, "{change}");
                    from = Some(change.from);
                } else if change.because == "the probe is over" {
                    assert_eq!(Some(change.to), from, "back to where it was");
                }
            }
        }
        assert!(probes >= 10, "{probes} probes");
    }
}

/// From 1 upwards by ones (Vector, issue 3255).
#[test]
fn it_does_not_take_a_hundred_rounds_from_1_to_a_hundred() {
    let mut limit = Vegas::builder().initial(1).build().unwrap();
    let mut model = Model::new(Service::new(100, MS, Spread::Constant), 1);
    while limit.limit() < 100 {
        model.run(&mut limit, 1.0);
        assert!(limit.snapshot().rounds <= 60, "{:?}", limit.snapshot());
    }
    let last = limit
        .adjustments()
        .last()
        .map(|one| one.to)
        .collect::<Vec<_>>();
    let first: Vec<f64> = last.iter().copied().take(7).collect();
    assert_eq!(first, [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]);
}

/// Calls of a service that fails now and then, told as tries, or each element as one slow success.
fn told(limit: &mut Vegas, rounds: u64, as_tries: bool, failing: bool) {
    for round in 0..rounds {
        let now = limit.snapshot().rounds + round;
        // 30 of 100 elements fail twice, and are tried again 10 ms later.
        let (count, failures, service_us) = match (failing, as_tries) {
            (false, _) => (100, 0, 1_000),
            (true, true) => (160, 60, 1_000),
            (true, false) => (100, 0, 700 + 300 * 23),
        };
        let busy = limit.limit();
        limit.on_sample(
            Time::from_nanos(now * 5_000_000 + round),
            &Sample {
                count,
                failures,
                service: Duration::from_micros(service_us),
                in_flight: busy,
                in_flight_peak: busy,
                ..Sample::default()
            },
        );
    }
}

/// Vector records a request with its retries as one slow success (issue 3255): the limit is cut for
/// a queue that is none. The sample's meaning forbids it: every try is a call.
#[test]
fn retries_are_calls_of_their_own_and_no_slow_success() {
    let run = |as_tries: bool| {
        let mut limit = Vegas::builder().bounds(1, 100).initial(50).build().unwrap();
        told(&mut limit, 100, as_tries, false);
        let before = limit.limit();
        told(&mut limit, 20, as_tries, true);
        (before, limit.limit())
    };
    let (before, after) = run(true);
    assert!(after >= before, "told as tries: {before}, {after}");
    let (before, after) = run(false);
    assert!(
        after <= before / 2,
        "told as slow successes: {before}, {after}"
    );
}

/// Gradient2's long average learns overload as normal, and its limit drifts up as long as that lasts.
#[test]
fn gradient2_does_not_drift_up_under_sustained_overload() {
    let run = |drift: f64| {
        let builder = Gradient2::builder().bounds(4, 1_000).long(100);
        let mut limit = builder.drift(drift).build().unwrap();
        let mut model = Model::new(Service::new(20, MS, Spread::Exponential), 5);
        model.run(&mut limit, 3_000.0);
        let early = model.run(&mut limit, 1_000.0).limit;
        model.run(&mut limit, 50_000.0);
        (early, model.run(&mut limit, 1_000.0).limit)
    };
    let (early, late) = run(1.5);
    assert!(
        late <= 1.25 * early && late <= 3.0 * 20.0,
        "{early}, {late}"
    );
    let (early, late) = run(f64::INFINITY);
    assert!(late > 10.0 * 20.0, "as in the original: {early}, {late}");
}

/// A limit of an idle hour is no limit that was tried: it must not have grown meanwhile.
#[test]
fn no_limit_grows_while_little_is_asked_for() {
    let limits: [Box<dyn Limit>; 3] = [
        Box::new(Aimd::default()),
        Box::new(Vegas::default()),
        Box::new(Gradient2::default()),
    ];
    for mut limit in limits {
        let mut service = Service::new(30, MS, Spread::Exponential);
        service.load = 3.0;
        let mut model = Model::new(service, 11);
        let seen = model.run(&mut *limit, 20_000.0);
        // Once in a while ten arrive at once, and use half of the limit; three is what is usual.
        assert!(seen.most <= 40, "{}: {seen:?}", limit.snapshot().algorithm);
    }
}
