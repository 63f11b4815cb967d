//! A clock of one tick a second takes what a fast producer made meanwhile, conflated; and a throttle
//! lets 100 a second pass, 20 at once, faster once it is told so. In simulated time.
//!
//! `cargo run --features testkit --example a2_throttle`

use std::time::Duration;

use forebay::control::ThrottleMode;
use forebay::flow::Rate;
use forebay::source;
use forebay::testkit::Simulation;
use forebay::time;

const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn main() -> Result<(), Box<dyn std::error::Error>> {
    let simulation = Simulation::new(2);
    // A thousand readings a second; of which the clock wants the sum since its last tick.
    let readings = source::unfold_async((), |()| async {
        time::sleep(Duration::from_millis(1)).await;
        Some(((), 1_u32))
    });
    let clock = source::tick(SECOND).skip(1);
    let sums = clock
        .zip(readings.conflate(|sum, one| *sum += one))
        .map(|(_, sum)| sum)
        .take(5)
        .collect();
    let (sums, _) = simulation.run(sums)?;
    eprintln!("{sums:?} readings a second");
    assert!(sums[2..].iter().all(|sum| (998..=1002).contains(sum)));

    // Orders that come all at once are shaped; after 500 of them the rate is raised.
    let rate = Rate::new(100.0, 20, ThrottleMode::Shaping)?;
    let handle = rate.clone();
    let times = source::iter(0..1000_u32)
        .throttle(&rate)
        .map(move |n| {
            if n == 499 {
                let set = handle.set(1000.0, "the service has more workers now");
                assert!(set.is_ok(), "{set:?}");
            }
            time::now()
        })
        .collect();
    let began = simulation.now();
    let (times, _) = simulation.run(times)?;
    let at = |n: usize| times[n].since(began);
    eprintln!(
        "20 at once, 500 after {:?}, 1000 after {:?}",
        at(499),
        at(999)
    );
    assert_eq!(at(19), Duration::ZERO, "the burst");
    assert!(
        (4.7..4.9).contains(&at(499).as_secs_f64()),
        "480 at 100 a second"
    );
    assert!(
        (5.2..5.4).contains(&at(999).as_secs_f64()),
        "500 at 1000 a second"
    );
    eprintln!("{:?}", rate.adjustments());
    Ok(())
}
