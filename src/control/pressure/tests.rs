#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn ms(n: u64) -> Time {
    Time::from_nanos(n * 1_000_000)
}

fn pressure() -> Pressure {
    Pressure::new(PressureSettings::new()).unwrap()
}

#[test]
fn the_greatest_wins_and_is_named() {
    let mut pressure = pressure();
    pressure.read(ms(0), Reading::SlowCalls(0.2));
    pressure.read(ms(0), Reading::Memory(0.8));
    let why = pressure.explain(ms(0));
    assert_eq!(why.signal, Some(Signal::Memory));
    assert!((why.score - 0.5).abs() < 1e-9);
    assert_eq!(
        why.to_string(),
        "0.50: memory is 0.8, which counts from 0.7 to 0.9"
    );
    assert!((why.scores[Signal::SlowCalls as usize].unwrap() - 0.25).abs() < 1e-9);
    let last = *pressure.adjustments().last().next_back().unwrap();
    assert_eq!(last.because, "the memory is the greatest");
}

#[test]
fn the_processor_counts_only_while_work_is_queued() {
    let mut pressure = pressure();
    pressure.read(ms(0), Reading::Cpu(1.0));
    assert!(
        pressure.score(ms(0)).abs() < 1e-9,
        "busy, and nothing waits"
    );
    pressure.read(ms(0), Reading::Queued(1));
    assert!((pressure.score(ms(0)) - 1.0).abs() < 1e-9);
    assert_eq!(pressure.explain(ms(0)).signal, Some(Signal::Cpu));
    pressure.read(ms(0), Reading::Queued(0));
    assert!(pressure.score(ms(0)).abs() < 1e-9);
}

#[test]
fn memory_is_a_gate_with_hysteresis() {
    let mut pressure = pressure();
    let table = [
        (0.89, false),
        (0.90, true),
        (0.881, true),
        (0.879, false),
        (0.89, false),
        (0.95, true),
        (0.2, false),
    ];
    for (share, shut) in table {
        pressure.read(ms(0), Reading::Memory(share));
        assert_eq!(pressure.gate_is_shut(), shut, "at {share}");
    }
    pressure.read(ms(0), Reading::Memory(1.0));
    assert!(pressure.explain(ms(0)).to_string().contains("nothing more"));
    assert!(pressure.gate_is_shut() && pressure.score(ms(5000)).abs() < 1e-9);
}

#[test]
fn a_score_falls_only_when_its_value_has_fallen_far_enough() {
    let mut pressure = pressure();
    let mut score = |value| {
        pressure.read(ms(0), Reading::SlowCalls(value));
        (pressure.score(ms(0)) * 1000.0).round() as i64
    };
    assert_eq!(score(0.30), 500);
    assert_eq!(score(0.28), 500, "less than a tenth of the span");
    assert_eq!(score(0.26), 500);
    assert_eq!(score(0.24), 450, "a tenth behind");
    assert_eq!(score(0.30), 500);
    assert_eq!(score(0.9), 1000);
    assert_eq!(score(0.47), 1000, "from the end of the scale, not from 0.9");
    assert_eq!(score(0.1), 0, "at the low end at once");
}

#[test]
fn what_nobody_reads_any_more_counts_no_more() {
    let mut pressure = pressure();
    pressure.read(ms(0), Reading::QueueDelay(Duration::from_secs(1)));
    assert!((pressure.score(ms(1000)) - 1.0).abs() < 1e-9);
    assert!(pressure.score(ms(1001)).abs() < 1e-9);
    assert_eq!(pressure.explain(ms(1001)).signal, None);
}

#[test]
fn impossible_settings_are_named() {
    let field = |settings: PressureSettings| Pressure::new(settings).unwrap_err().field;
    let new = PressureSettings::new;
    assert_eq!(field(new().band(Signal::Cpu, 1.0, 1.0)), "cpu");
    assert_eq!(field(new().band(Signal::Memory, f64::NAN, 1.0)), "memory");
    assert_eq!(field(new().hysteresis(1.0)), "hysteresis");
    assert_eq!(field(new().stale_after(Duration::ZERO)), "stale_after");
    let mut without = Pressure::new(new().without(Signal::Memory)).unwrap();
    without.read(ms(0), Reading::Memory(2.0));
    assert!(!without.gate_is_shut() && without.score(ms(0)).abs() < 1e-9);
}

fn readings() -> impl Strategy<Value = Vec<(u64, Reading)>> {
    let reading = prop_oneof![
        (0..200_u64).prop_map(|n| Reading::QueueDelay(Duration::from_millis(n))),
        (0..40_u64).prop_map(|n| Reading::RuntimeLag(Duration::from_millis(n))),
        (0.0..1.2_f64).prop_map(Reading::SlowCalls),
        (0.0..1.2_f64).prop_map(Reading::Cpu),
        (0.0..1.2_f64).prop_map(Reading::Memory),
        Just(Reading::Memory(f64::NAN)),
        (0..3_usize).prop_map(Reading::Queued),
    ];
    proptest::collection::vec((0..600_u64, reading), 1..100)
}

proptest! {
    /// Whatever is read: the score is the greatest of those of the signals; each is that of its value
    /// or above it by no more than the hysteresis; a larger value never gives a smaller score.
    #[test]
    fn the_score_follows_what_is_read(readings in readings(), larger in 0.0..0.5_f64) {
        let mut pressure = pressure();
        let mut now = Time::ZERO;
        for (after, reading) in readings {
            now = now + Duration::from_millis(after);
            let mut other = pressure.clone();
            pressure.read(now, reading);
            let why = pressure.explain(now);
            let greatest = why.scores.iter().flatten().fold(0.0_f64, |most, one| most.max(*one));
            prop_assert!((why.score - greatest).abs() < 1e-12);
            prop_assert!((0.0..=1.0).contains(&why.score));
            prop_assert_eq!(why.signal.is_some(), why.score > 0.0);
            if let Some((signal, value)) = reading.value().filter(|(_, value)| !value.is_nan()) {
                let band = PressureSettings::new().bands[signal as usize].unwrap();
                if let Some(score) = why.scores[signal as usize] {
                    let plain = band.score(value);
                    prop_assert!(score >= plain - 1e-9 && score <= plain + 0.1 + 1e-9);
                }
                let more = match reading {
                    Reading::SlowCalls(share) => Reading::SlowCalls(share + larger),
                    Reading::Cpu(share) => Reading::Cpu(share + larger),
                    Reading::Memory(share) => Reading::Memory(share + larger),
                    same => same,
                };
                other.read(now, more);
                prop_assert!(other.score(now) >= pressure.score(now) - 1e-9);
                prop_assert!(other.gate_is_shut() >= pressure.gate_is_shut());
            }
            prop_assert!(pressure.adjustments().last().count() <= 64);
        }
    }
}
