//! Curves as SVG.

use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

/// A line with a name.
pub(super) struct Curve {
    name: String,
    points: Vec<(f64, f64)>,
}

impl Curve {
    pub(super) fn new(name: &str, points: Vec<(f64, f64)>) -> Curve {
        Curve {
            name: name.to_owned(),
            points,
        }
    }
}

/// The vertical axis.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Linear,
    /// With room for the names above the curves.
    LinearBelowNames,
    Logarithmic,
}

const SIZE: (u32, u32) = (560, 260);
/// Of two side by side.
const PAIR: (u32, u32) = (880, 260);
const COLORS: [RGBColor; 4] = [
    RGBColor(214, 120, 20),
    RGBColor(20, 130, 70),
    RGBColor(40, 90, 200),
    RGBColor(150, 40, 150),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws curves over seconds.
pub(super) fn draw(title: &str, curves: &[Curve], kind: Kind) -> Result<String, String> {
    drawn(SIZE, |root| panel(root, title, curves, kind))
}

/// Draws two such plots side by side.
pub(super) fn draw_pair(
    left: (&str, &[Curve], Kind),
    right: (&str, &[Curve], Kind),
) -> Result<String, String> {
    drawn(PAIR, |root| {
        let (one, other) = root.split_horizontally(PAIR.0 / 2);
        panel(&one, left.0, left.1, left.2)?;
        panel(&other, right.0, right.1, right.2)
    })
}

fn drawn(
    size: (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> Result<(), String>,
) -> Result<String, String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE).map_err(|error| error.to_string())?;
        draw(&root)?;
        root.present().map_err(|error| error.to_string())?;
    }
    Ok(svg)
}

fn panel(root: &Area<'_>, title: &str, curves: &[Curve], kind: Kind) -> Result<(), String> {
    let points = || curves.iter().flat_map(|curve| curve.points.iter());
    let seconds = points().map(|point| point.0).fold(0.001, f64::max);
    let top = points().map(|point| point.1).fold(0.0, f64::max);
    let area = root
        .titled(title, ("sans-serif", 15))
        .map_err(|error| error.to_string())?;
    match kind {
        Kind::Linear | Kind::LinearBelowNames => {
            let room = if kind == Kind::Linear { 1.05 } else { 1.75 };
            let most = if top > 0.0 { top * room } else { 1.0 };
            lines(&area, curves, 0.0..seconds, 0.0..most)
        }
        Kind::Logarithmic => {
            let positive = points().map(|point| point.1).filter(|value| *value > 0.0);
            let least = positive.fold(f64::INFINITY, f64::min);
            let least = if least.is_finite() { least * 0.8 } else { 1.0 };
            let range = (least..top.max(least * 10.0) * 1.2).log_scale();
            lines(&area, curves, 0.0..seconds, range)
        }
    }
}

fn lines<Y>(
    area: &Area<'_>,
    curves: &[Curve],
    seconds: std::ops::Range<f64>,
    values: Y,
) -> Result<(), String>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let told = |error: DrawingAreaErrorKind<_>| format!("{error}");
    let mut chart = ChartBuilder::on(area)
        .margin(6)
        .x_label_area_size(22)
        .y_label_area_size(52)
        .build_cartesian_2d(seconds, values)
        .map_err(told)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(8)
        .y_labels(6)
        .draw()
        .map_err(told)?;
    for (curve, color) in curves.iter().zip(COLORS) {
        let line = LineSeries::new(curve.points.iter().copied(), color.stroke_width(1));
        chart
            .draw_series(line)
            .map_err(told)?
            .label(curve.name.clone())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], color));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .border_style(BLACK.mix(0.3))
        .background_style(WHITE.mix(0.8))
        .draw()
        .map_err(told)?;
    Ok(())
}
