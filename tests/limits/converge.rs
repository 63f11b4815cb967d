//! Limits settle near the knee, from wherever they begin and wherever it moves to.

use std::time::Duration;

use forebay::control::limit::{Aimd, Gradient2, Limit, Vegas};

use crate::model::{Model, Seen, Service, Spread};

const MS: Duration = Duration::from_millis(1);
const SPREADS: [Spread; 3] = [Spread::Constant, Spread::Exponential, Spread::Bimodal];

/// The highest limit on average that is near the knee: Vegas keeps a queue of up to `beta`, which is
/// 6 times log10 of the limit, and grants the service one standard error of the latency.
fn highest(knee: usize) -> f64 {
    let knee = knee as f64;
    knee * 1.25 + 7.5 * (1.5 * knee).log10().max(1.0)
}

/// What is wrong with a limit that should be near the knee.
fn far(seen: &Seen, knee: usize, what: &str) -> Option<String> {
    let lost = seen.goodput < 0.93;
    let high = seen.limit > highest(knee);
    (lost || high).then(|| {
        let which = if lost { "throughput is lost" } else { "too high" };
        format!("{which}: {what}, knee {knee}: {seen:?}")
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
                for seed in 1..=5 {
                    let mut limit = Vegas::builder().initial(initial).build().unwrap();
                    let mut model = Model::new(Service::new(knee, MS, spread), seed);
                    // A limit 200 times too high sees 200 service times pass before one round ends.
                    let times = (initial / knee).max(1) as f64;
                    model.run(&mut limit, 1_000.0 + 100.0 * times);
                    let seen = model.run(&mut limit, 4_000.0 / (knee as f64).sqrt());
                    let what = format!("{spread:?} from {initial}, seed {seed}");
                    wrong.extend(far(&seen, knee, &what));
                }
            }
        }
    }
    none(&wrong);
}
