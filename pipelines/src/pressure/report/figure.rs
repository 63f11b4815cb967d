//! One small plot of a scenario: what systems do in time, of all and of HIGH.

use super::plot::{self, Curve, Kind};
use crate::measure::{Bin, Figures};

/// The plot of these runs of one scenario, a curve a system.
pub(crate) fn figure(runs: &[&Figures]) -> Result<String, String> {
    let curves = |of: fn(&Bin) -> Option<f64>| -> Vec<Curve> {
        let curve = |run: &&Figures| {
            let bins = run.more.series.bins.iter();
            let points = bins.filter_map(|bin| Some((bin.at_s, of(bin)?)));
            Curve::new(&run.system, points.collect())
        };
        runs.iter().map(curve).collect()
    };
    let svg = plot::draw_pair(
        (
            "done in time, in multiples of the capacity, over seconds",
            &curves(|bin| Some(bin.goodput)),
            Kind::LinearBelowNames,
        ),
        (
            "part of HIGH done in time, over seconds",
            &curves(|bin| bin.high_in_time),
            Kind::LinearBelowNames,
        ),
    )?;
    // Markdown ends a block of HTML at a line with nothing on it.
    let lines = svg.lines().filter(|line| !line.trim().is_empty());
    Ok(lines.collect::<Vec<_>>().join("\n") + "\n")
}
