//! A consumer is under pressure when any of its figures is over its limit, and then goes through its
//! batch one by one.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use forebay::class::Class;
use forebay::control::{Breach, ConsumerReading, Consumption, Thresholds};

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
