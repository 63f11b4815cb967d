#![allow(clippy::unwrap_used)]

use std::time::Duration;

use proptest::prelude::*;

use super::virtual_queue::{Load, Run, SERVICE_S, Seen, Service, Spread, run};
use super::*;
use crate::class::Class;
use crate::time::Time;

const SEEDS: std::ops::RangeInclusive<u64> = 1..=5;

/// The windows after that second.
fn after(windows: &[Seen], second: f64) -> &[Seen] {
    let first = windows.partition_point(|seen| seen.ends_s <= second);
    &windows[first..]
}

fn sum(windows: &[Seen], of: impl Fn(&Seen) -> u64) -> f64 {
    windows.iter().map(of).sum::<u64>() as f64
}

/// What was completed, as a share of the capacity.
fn goodput(windows: &[Seen]) -> f64 {
    let span_s = windows.len() as f64 * 0.01;
    sum(windows, |seen| seen.completed) * SERVICE_S / span_s
}

fn high_lost(windows: &[Seen]) -> f64 {
    sum(windows, |seen| seen.offered[0] - seen.admitted[0])
}

/// The mean and the standard deviation of what was admitted in a window, in units of the capacity.
fn admitted(windows: &[Seen]) -> (f64, f64) {
    let loads = || {
        let settings = AdmissionSettings::default();
        windows.iter().map(move |seen| seen.admitted_load(settings))
    };
    let mean = loads().sum::<f64>() / windows.len() as f64;
    let squares: f64 = loads().map(|load| (load - mean).powi(2)).sum();
    (mean, (squares / windows.len() as f64).sqrt())
}

const TWICE: Load = |_| [0.4, 0.4, 1.2];
const TENFOLD: Load = |_| [0.4, 0.6, 9.0];

#[test]
fn at_twice_and_at_ten_times_the_capacity_is_used_and_high_is_untouched() {
    for (load, service) in [
        (TWICE, Service::Exponential),
        (TWICE, Service::Bimodal),
        (TENFOLD, Service::Exponential),
        (TENFOLD, Service::Bimodal),
    ] {
        for seed in SEEDS {
            let windows = run(&Run {
                service,
                seed,
                ..Run::new(load)
            });
            let steady = after(&windows, 0.8);
            assert!(goodput(steady) > 0.95, "{service:?}: {}", goodput(steady));
            assert!(
                high_lost(&windows) < 0.5,
                "{} HIGH lost",
                high_lost(&windows)
            );
            assert!(sum(&windows, |seen| seen.inversions) < 0.5);
            let queued = sum(steady, |seen| seen.queued as u64) / steady.len() as f64;
            assert!(
                (15.0..120.0).contains(&queued),
                "{queued} queued, 50 is the target"
            );
        }
    }
}

#[test]
fn after_a_step_to_1_4_times_the_capacity_it_converges_within_two_windows() {
    let from_half: Load = |s| {
        if s < 1.0 {
            [0.2, 0.1, 0.2]
        } else {
            [0.4, 0.3, 0.7]
        }
    };
    let from_full: Load = |s| {
        if s < 1.0 {
            [0.3, 0.3, 0.4]
        } else {
            [0.4, 0.3, 0.7]
        }
    };
    // At just the capacity a queue comes and goes, and what is left of it is served first.
    for (load, near) in [(from_half, 0.12), (from_full, 0.25)] {
        for seed in SEEDS {
            let windows = run(&Run {
                seed,
                ..Run::new(load)
            });
            // The window of the step sees it; the next is set by it, but for noise.
            let settled = &after(&windows, 1.0)[2..];
            let (mean, _) = admitted(&settled[..10]);
            assert!((mean - 1.0).abs() < near, "{mean} after the step");
            assert!(goodput(settled) > 0.97);
            assert!(high_lost(&windows) < 0.5);
            assert!(sum(&windows, |seen| seen.refused_by_queue) < 0.5);
        }
    }
}

#[test]
fn after_a_step_to_10_times_the_capacity_it_converges_within_two_windows() {
    for seed in SEEDS {
        let windows = run(&Run {
            seed,
            ..Run::new(|s| {
                if s < 1.0 {
                    [0.2, 0.1, 0.2]
                } else {
                    [0.4, 0.6, 9.0]
                }
            })
        });
        let settled = &after(&windows, 1.0)[2..];
        let (mean, _) = admitted(&settled[..30]);
        assert!((0.5..1.15).contains(&mean), "{mean} after the step");
        let steady = &settled[50..];
        assert!(goodput(steady) > 0.95);
        assert!(high_lost(&windows) < 0.5);
    }
}

#[test]
fn when_the_load_has_passed_everything_is_admitted_again_within_two_windows() {
    for seed in SEEDS {
        let windows = run(&Run {
            seed,
            ..Run::new(|s| {
                if s < 1.0 {
                    [0.4, 0.6, 9.0]
                } else {
                    [0.2, 0.1, 0.2]
                }
            })
        });
        let calm = &after(&windows, 1.0)[2..];
        let offered = sum(calm, |seen| seen.offered.iter().sum());
        let admitted = sum(calm, |seen| seen.admitted.iter().sum());
        assert!(
            (offered - admitted).abs() < 0.5,
            "stuck: {admitted} of {offered}"
        );
    }
}

#[test]
fn high_is_untouched_up_to_the_capacity_whatever_lies_behind_it() {
    for seed in SEEDS {
        let windows = run(&Run {
            seed,
            ..Run::new(|_| [0.9, 0.0, 9.0])
        });
        assert!(high_lost(&windows) < 0.5, "{} lost", high_lost(&windows));
        assert!(goodput(after(&windows, 0.8)) > 0.95);
    }
}

#[test]
fn high_beyond_the_capacity_is_cut_and_nothing_below_it_is_admitted() {
    let windows = run(&Run::new(|_| [2.0, 1.0, 1.0]));
    let steady = after(&windows, 0.8);
    assert!(sum(steady, |seen| seen.admitted[1] + seen.admitted[2]) < 0.5);
    assert!(goodput(steady) > 0.95);
}

#[test]
fn dithering_avoids_the_swing_of_a_cliff() {
    let of = |spread| {
        let windows = run(&Run {
            spread,
            ..Run::new(|_| [0.4, 0.0, 1.6])
        });
        admitted(after(&windows, 0.8)).1
    };
    let (spread, cliff) = (of(Spread::Even), of(Spread::None));
    assert!(
        spread < 0.25,
        "{spread} of the capacity from window to window"
    );
    assert!(cliff > 0.6, "all or nothing of LOW swings by {cliff}");
}

#[test]
fn a_stall_does_not_close_the_gate_to_high() {
    for seed in SEEDS {
        let windows = run(&Run {
            stall_s: (1.0, 1.2),
            items: 3000,
            seed,
            ..Run::new(TENFOLD)
        });
        assert!(
            high_lost(&windows) < 0.5,
            "{} HIGH lost",
            high_lost(&windows)
        );
        let again = after(&windows, 1.3);
        assert!(goodput(again) > 0.95, "{}", goodput(again));
    }
}

#[test]
fn a_capacity_that_is_overestimated_is_found_in_the_queue() {
    for seed in SEEDS {
        let windows = run(&Run {
            unseen: 0.2,
            seed,
            ..Run::new(TWICE)
        });
        let steady = after(&windows, 0.8);
        let queued = sum(steady, |seen| seen.queued as u64) / steady.len() as f64;
        // The target of 5 ms is 62 at the capacity it knows.
        assert!((40.0..85.0).contains(&queued), "{queued} queued");
        assert!(goodput(steady) > 0.95);
    }
}

#[test]
fn what_calm_sums_up_does_not_let_the_next_overload_in() {
    let mut admission = Admission::new(AdmissionSettings::default(), Time::ZERO).unwrap();
    let mut window = AdmissionWindow {
        offered: [40, 20, 30, 0, 0, 0, 0, 0],
        completed: 90,
        busy: Duration::from_millis(9),
        workers: 1,
        queued: 0,
    };
    for _ in 0..100 {
        let now = admission.window_ends();
        assert_eq!(admission.on_window(now, &window), Gate::ALL);
    }
    window.offered[2] = 340;
    window.queued = 50;
    admission.on_window(admission.window_ends(), &window);
    let ratio = admission.snapshot().reject_ratio;
    assert!(
        (ratio - 0.75).abs() < 0.001,
        "100 of 400, the queue as long as it should be: {ratio}"
    );
}

#[test]
fn the_expected_wait_and_service_are_those_of_the_service() {
    let mut admission = Admission::new(AdmissionSettings::default(), Time::ZERO).unwrap();
    for n in 1..=20 {
        let window = AdmissionWindow {
            offered: [10, 10, 10, 0, 0, 0, 0, 0],
            completed: 30,
            busy: Duration::from_millis(15),
            workers: 4,
            queued: 0,
        };
        let now = Time::ZERO + Duration::from_millis(10) * n;
        assert_eq!(admission.on_window(now, &window), Gate::ALL);
    }
    let forecast = admission.forecast();
    assert!(
        (forecast.capacity_per_s - 8000.0).abs() < 1.0,
        "4 workers of 0.5 ms"
    );
    assert_eq!(forecast.service.as_micros(), 500);
    assert_eq!(forecast.wait(80).as_micros(), 10_000);
}

#[test]
fn it_tells_what_it_did_and_why() {
    let mut admission = Admission::new(AdmissionSettings::default(), Time::ZERO).unwrap();
    let mut window = AdmissionWindow {
        offered: [40, 20, 40, 0, 0, 0, 0, 0],
        completed: 100,
        busy: Duration::from_millis(10),
        workers: 1,
        queued: 50,
    };
    let at = |n: u32| Time::ZERO + Duration::from_millis(10) * n;
    admission.on_window(at(1), &window);
    window.offered[2] = 340;
    admission.on_window(at(2), &window);
    window.queued = 200;
    admission.on_window(at(3), &window);
    (window.offered[2], window.queued) = (0, 0);
    admission.on_window(at(4), &window);
    let why: Vec<_> = admission
        .adjustments()
        .last()
        .map(|one| one.because)
        .collect();
    let expected = [
        "the offers exceed the capacity",
        "the queue is longer than its target",
        "the offers are within the capacity",
    ];
    assert_eq!(why, expected);
    assert_eq!(admission.snapshot().windows, 4);
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let field = |settings: AdmissionSettings| settings.check().err().map(|e| e.field);
    let fine = AdmissionSettings::default();
    assert_eq!(
        field(AdmissionSettings::target(Duration::ZERO)),
        Some("target")
    );
    assert_eq!(field(fine.window(Duration::from_secs(11))), Some("window"));
    assert_eq!(field(fine.correction(0.9)), Some("correction"));
    assert_eq!(field(fine.correction(f64::NAN)), Some("correction"));
    assert_eq!(field(fine.protect(None)), None);
}

fn any_window() -> impl Strategy<Value = AdmissionWindow> {
    let offered = proptest::collection::vec(prop_oneof![Just(0), 0..5000_u64], Class::COUNT);
    (
        offered,
        0..2000_u64,
        0..20_000_u64,
        0..9_usize,
        0..100_000_usize,
    )
        .prop_map(
            |(offered, completed, busy_us, workers, queued)| AdmissionWindow {
                offered: offered.try_into().unwrap(),
                completed,
                busy: Duration::from_micros(busy_us),
                workers,
                queued,
            },
        )
}

proptest! {
    #[test]
    fn whatever_it_is_told_its_figures_are_in_range(
        windows in proptest::collection::vec((any_window(), 0..50_000_u64), 1..60),
        target_us in 1..10_000_000_u64,
    ) {
        let settings = AdmissionSettings::target(Duration::from_micros(target_us));
        let mut admission = Admission::new(settings, Time::ZERO).unwrap();
        let mut now = Time::ZERO;
        for (window, pause_us) in windows {
            now = now + Duration::from_micros(pause_us);
            let threshold = admission.on_window(now, &window);
            let seen = admission.snapshot();
            prop_assert!(threshold <= Gate::ALL && threshold == seen.threshold);
            prop_assert!((0.0..=1.0).contains(&seen.reject_ratio));
            prop_assert!((-0.5..=0.25).contains(&seen.trim));
            prop_assert!(seen.capacity_per_s >= 0.0 && seen.capacity_per_s.is_finite());
            if seen.offered_per_s < seen.capacity_per_s * 0.5 && pause_us > 0 {
                prop_assert_eq!(threshold, Gate::ALL);
            }
        }
    }
}
