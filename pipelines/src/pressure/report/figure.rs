//! One small plot of a scenario: what systems do in time, and how long HIGH takes.

use super::plot::{self, Curve, Kind};
use crate::measure::{Bin, Figures};

/// The plot of these runs of one scenario, a curve a system.
pub(crate) fn figure(runs: &[&Figures]) -> Result<String, String> {
    let mut goodput: Vec<Curve> = runs
        .iter()
        .map(|run| over_time(run, |bin| Some(bin.goodput)))
        .collect();
    if let Some(first) = runs.first() {
        let offered = first.more.series.bins.iter();
        let offered = offered.map(|bin| (bin.at_s, bin.offered)).collect();
        goodput.push(Curve::new("offered", offered));
    }
    let high: Vec<Curve> = runs
        .iter()
        .map(|run| over_time(run, |bin| bin.p99_us.high))
        .collect();
    let svg = plot::draw_pair(
        (
            "done in time, x capacity, over s",
            &goodput,
            Kind::Logarithmic,
        ),
        ("HIGH: p99 in us, over s", &high, Kind::Logarithmic),
    )?;
    // Markdown ends a block of HTML at a line with nothing on it.
    let lines = svg.lines().filter(|line| !line.trim().is_empty());
    Ok(lines.collect::<Vec<_>>().join("\n") + "\n")
}

fn over_time(run: &Figures, of: impl Fn(&Bin) -> Option<f64>) -> Curve {
    let bins = run.more.series.bins.iter();
    let points = bins.filter_map(|bin| Some((bin.at_s, of(bin)?)));
    Curve::new(&run.system, points.collect())
}
