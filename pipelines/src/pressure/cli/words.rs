//! Figures, to be read.

use std::fmt::Write as _;

use crate::measure::{Figures, Settled};

fn of_settled(settled: &Settled) -> String {
    let Settled {
        ms,
        resolution_ms,
        repeats,
        standard_error,
    } = settled;
    let times = if *repeats == 1 {
        "once"
    } else {
        "times laid over each other"
    };
    let repeats = if *repeats == 1 {
        String::new()
    } else {
        format!("{repeats} ")
    };
    let below = if settled.is_below_resolution() {
        "<= "
    } else {
        ""
    };
    format!(
        "{below}{ms:.3} ms ({repeats}{times}, resolution {resolution_ms:.3} ms, standard error {standard_error})"
    )
}

/// The figures of a run, to be read.
pub(super) fn of_run(figures: &Figures) -> String {
    let mut text = format!(
        "{}  {}  seed {}  {}\n  goodput {:.3} of {:.0}/s   inversions {}   refused {:.0}/s at {} ns each   peak {} KiB in flight{}\n",
        figures.scenario,
        figures.system,
        figures.seed,
        figures.mode,
        figures.goodput,
        figures.capacity_per_s,
        figures.inversions,
        figures.more.refused_per_s,
        figures.refusal_ns,
        figures.peak_in_flight_bytes / 1024,
        figures
            .peak_rss_kib
            .map_or(String::new(), |kib| format!("   RSS grew by {kib} KiB")),
    );
    let settling = &figures.settling;
    for (what, settled) in [
        ("converged", settling.convergence),
        ("recovered", settling.recovery),
    ] {
        if let Some(settled) = settled {
            let _ = writeln!(text, "  {what} within {}", of_settled(&settled));
        }
    }
    for rank in crate::scenario::Rank::ALL {
        let class = figures.classes.of(rank);
        let us = |us: Option<f64>| us.map_or("-".to_owned(), |us| format!("{us:.0}"));
        let _ = writeln!(
            text,
            "  {:<7} offered {:>8}  in time {:>8}  late {:>7}  shed {:>8}  expired {:>7}  failed {:>6}  p50 {:>7}  p99 {:>8}  p99.9 {:>8} us  rejected p99 {:>8} us  Jain {}",
            rank.name(),
            class.offered,
            class.in_deadline,
            class.late,
            class.shed,
            class.expired,
            class.failed,
            us(class.latency_us.p50),
            us(class.latency_us.p99),
            us(class.latency_us.p999),
            us(class.time_to_reject_us.p99),
            class
                .jain
                .map_or("-".to_owned(), |jain| format!("{jain:.3}")),
        );
    }
    for gate in &figures.gates {
        let _ = writeln!(
            text,
            "  {} {:<24} {} against {}",
            if gate.met { "met   " } else { "MISSED" },
            gate.name,
            gate.shown(),
            gate.limit
        );
    }
    text
}
