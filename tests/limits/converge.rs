//! Limits settle near the knee, from wherever they begin and wherever it moves to.

use std::time::Duration;

use forebay::control::limit::{Aimd, Gradient2, Limit, Vegas};

use crate::model::{Model, Seen, Service, Spread};

const MS: Duration = Duration::from_millis(1);
/// Of those who hold this up to doubt, set it to 50.
const SEEDS: u64 = 40;
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

fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn vegas_finds_the_knee_from_below_and_from_above() {
    let mut wrong = Vec::new();
    for spread in SPREADS {
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
    }
    none(&wrong);
}

/// How many service times it takes until throughput and limit have been near the knee for good, and
/// until throughput alone has; `None` if they were not within 40 looks.
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

#[test]
fn vegas_follows_a_step_of_capacity() {
    let mut wrong = Vec::new();
    for (before, after) in [(8, 16), (16, 8), (20, 28), (28, 20), (8, 32), (32, 8)] {
        for spread in [Spread::Constant, Spread::Exponential] {
            for seed in 1..=SEEDS {
                let mut limit = Vegas::default();
                let mut model = Model::new(Service::new(before, MS, spread), seed);
                model.run(&mut limit, 2_000.0);
                model.change(|service| service.workers = after);
                let (all, served) = settles(&mut model, &mut limit, after);
                if all.is_none_or(|services| services > 200.0) {
                    wrong.push(format!(
                        "{spread:?} {before} -> {after} seed {seed}: {all:?}"
                    ));
                }
            }
        }
    }
    none(&wrong);
}
