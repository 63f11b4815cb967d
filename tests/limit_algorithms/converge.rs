//! Limits settle near the knee, from wherever they begin and wherever it moves to.

use std::time::Duration;

use forebay::control::limit::{Aimd, Gradient2, Limit, Vegas};

use crate::model::{Model, Seen, Service, Spread};

const MS: Duration = Duration::from_millis(1);
const SEEDS: u64 = 5;
const SPREADS: [Spread; 3] = [Spread::Constant, Spread::Exponential, Spread::Bimodal];

/// The highest limit on average that is near the knee: Vegas keeps a queue of up to `beta`, which is
/// 6 times log10 of the limit, and grants the service the standard errors of its latency. Where one
/// call in ten takes ten times as long, those are large.
fn highest(knee: usize, spread: Spread) -> f64 {
    let knee = knee as f64;
    let doubt = if spread == Spread::Bimodal { 2.0 } else { 1.25 };
    knee * doubt + 9.0 * (1.5 * knee).log10().max(1.0)
}

/// What is wrong with a limit that should be near the knee.
fn far(seen: &Seen, knee: usize, spread: Spread, what: &str) -> Option<String> {
    let lost = seen.busy < 0.95;
    let high = seen.limit > highest(knee, spread);
    (lost || high).then(|| {
        let which = if lost {
            "throughput is lost"
        } else {
            "too high"
        };
        format!("{which}: {spread:?} {what}, knee {knee}: {seen:?}")
    })
}

/// At most that share of all runs may be wrong: where service times vary, so do decisions.
fn few(wrong: &[String], runs: u64, share: f64) {
    let share_wrong = wrong.len() as f64 / runs as f64;
    let list = wrong.join("\n");
    assert!(share_wrong <= share, "{} of {runs}:\n{list}", wrong.len());
}

#[test]
fn vegas_finds_the_knee_from_below_and_from_above() {
    for (spread, allowed) in [
        (Spread::Constant, 0.0),
        (Spread::Exponential, 0.02),
        (Spread::Bimodal, 0.09),
    ] {
        let mut wrong = Vec::new();
        for knee in [1, 4, 16, 100] {
            for initial in [1, 20, 200] {
                for seed in 1..=SEEDS {
                    let mut limit = Vegas::builder().initial(initial).build().unwrap();
                    let mut model = Model::new(Service::new(knee, MS, spread), seed);
                    // A limit 200 times too high sees 200 service times pass before one round ends.
                    let times = (initial / knee).max(1) as f64;
                    let slow = if initial == 1 { 2_000.0 } else { 0.0 };
                    model.run(&mut limit, 1_000.0 + slow + 100.0 * times);
                    let seen = model.run(&mut limit, 4_000.0 / (knee as f64).sqrt());
                    let what = format!("from {initial}, seed {seed}");
                    wrong.extend(far(&seen, knee, spread, &what));
                }
            }
        }
        few(&wrong, 4 * 3 * SEEDS, allowed);
    }
}

/// How many service times it takes until throughput and limit are near the knee for good, and until
/// throughput alone is; `None` if they are not within 800.
fn settles(model: &mut Model, limit: &mut dyn Limit, knee: usize) -> (Option<f64>, Option<f64>) {
    const LOOK: f64 = 20.0;
    let looks: Vec<Seen> = (0..60).map(|_| model.run(limit, LOOK)).collect();
    let since = |good: &dyn Fn(&Seen) -> bool| {
        let bad = looks.iter().rposition(|seen| !good(seen));
        let looks = bad.map_or(0, |look| look + 1);
        (looks <= 40).then_some(looks as f64 * LOOK)
    };
    let served = |seen: &Seen| seen.busy >= 0.9;
    let high = highest(knee, model.service.spread);
    let all = since(&|seen: &Seen| served(seen) && seen.limit <= 1.2 * high);
    (all, since(&served))
}

/// A round is 50 calls at least: 200 service times are 32 rounds of 8 workers, 128 of 32.
#[test]
fn vegas_follows_a_step_of_capacity_within_200_service_times() {
    let steps = [(8, 16), (16, 8), (20, 28), (28, 20), (8, 32), (32, 8)];
    for (spread, allowed) in [(Spread::Constant, 0.0), (Spread::Exponential, 0.08)] {
        let (mut wrong, mut lost) = (Vec::new(), Vec::new());
        for (before, after) in steps {
            for seed in 1..=SEEDS {
                let mut limit = Vegas::default();
                let mut model = Model::new(Service::new(before, MS, spread), seed);
                model.run(&mut limit, 2_000.0);
                model.change(|service| service.workers = after);
                let (all, served) = settles(&mut model, &mut limit, after);
                let what =
                    format!("{spread:?} {before} -> {after} seed {seed}: {all:?}, {served:?}");
                if all.is_none_or(|services| services > 200.0) {
                    wrong.push(what.clone());
                }
                // A step to 1.4 times the capacity: what the gate of convergence asks for.
                let within = if after > 2 * before { 160.0 } else { 40.0 };
                if served.is_none_or(|services| services > within) {
                    lost.push(what);
                }
            }
        }
        few(&wrong, 6 * SEEDS, allowed);
        few(&lost, 6 * SEEDS, allowed);
    }
}

#[test]
fn vegas_tells_a_slow_service_from_a_full_one() {
    for (factor, seed) in [(2.0, 1), (2.0, 2), (5.0, 3), (0.5, 4), (0.5, 5), (0.1, 6)] {
        let mut limit = Vegas::default();
        let mut model = Model::new(Service::new(16, MS, Spread::Exponential), seed);
        model.run(&mut limit, 2_000.0);
        // The same workers, each call so many times as long.
        model.change(|service| service.mean_ns *= factor);
        model.run(&mut limit, 2_000.0);
        let seen = model.run(&mut limit, 1_000.0);
        if factor > 1.0 {
            let wrong = far(&seen, 16, Spread::Exponential, &format!("{factor} times"));
            assert!(wrong.is_none(), "{wrong:?}");
        } else {
            // What was measured while calls of both kinds were under way is not quite the base.
            assert!(seen.busy > 0.95 && seen.limit < 4.0 * 16.0, "{seen:?}");
        }
    }
}

#[test]
fn vegas_keeps_a_service_from_collapsing_where_more_calls_slow_all() {
    for seed in 1..=SEEDS {
        let mut service = Service::new(16, MS, Spread::Exponential);
        // Each call that waits makes the others take 2 % longer.
        service.contention = 0.02;
        let mut limit = Vegas::default();
        let mut model = Model::new(service, seed);
        model.run(&mut limit, 2_000.0);
        let seen = model.run(&mut limit, 1_000.0);
        let ideal = 16_000.0;
        assert!(
            seen.answered as f64 >= 0.75 * ideal,
            "seed {seed}: {seen:?}"
        );
        // What no limit at all would do.
        let mut open = Aimd::builder().initial(200).build().unwrap();
        let mut model = Model::new(service, seed);
        model.run(&mut open, 2_000.0);
        let seen = model.run(&mut open, 1_000.0);
        assert!(
            (seen.answered as f64) < 0.4 * ideal,
            "seed {seed}: {seen:?}"
        );
    }
}

#[test]
fn aimd_and_vegas_keep_to_a_service_that_refuses() {
    for seed in 1..=SEEDS {
        for spread in SPREADS {
            let mut service = Service::new(16, MS, spread);
            // 16 at work and 4 that wait; the next is refused.
            service.queue = 4;
            let mut limits: [Box<dyn Limit>; 2] =
                [Box::new(Aimd::default()), Box::new(Vegas::default())];
            for limit in &mut limits {
                let mut model = Model::new(service, seed);
                model.run(&mut **limit, 2_000.0);
                let seen = model.run(&mut **limit, 1_000.0);
                let what = format!(
                    "{} {spread:?} seed {seed}: {seen:?}",
                    limit.snapshot().algorithm
                );
                assert!(seen.busy >= 0.85, "throughput is lost: {what}");
                assert!((14.0..=22.0).contains(&seen.limit), "{what}");
                assert!(seen.drops as f64 <= 0.15 * seen.answered as f64, "{what}");
            }
        }
    }
}

#[test]
fn gradient2_settles_within_its_tolerance_times_its_drift() {
    for seed in 1..=SEEDS {
        for knee in [30, 60] {
            let mut limit = Gradient2::default();
            let mut model = Model::new(Service::new(knee, MS, Spread::Exponential), seed);
            model.run(&mut limit, 2_000.0);
            let seen = model.run(&mut limit, 2_000.0);
            let what = format!("seed {seed}, knee {knee}: {seen:?}");
            assert!(seen.busy >= 0.95, "{what}");
            let most = 1.5 * 1.5 * 1.2 * knee as f64 + 10.0;
            assert!(seen.limit <= most, "{what}");
        }
    }
}
