//! Comparisons as text.

use std::fmt::Write as _;

use super::{AFTER_MEASURES, Comparison, MEASURES, Row};

impl Comparison {
    /// The median of the seeds, and where they differ their least and most.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        for (name, rows) in &self.scenarios {
            let mut cells = vec![vec![name.clone()]];
            cells[0].extend(MEASURES.iter().map(|measure| measure.name.to_owned()));
            cells[0].extend(AFTER_MEASURES.map(str::to_owned));
            cells.extend(rows.iter().map(Row::cells));
            text.push_str(&align(&cells));
            text.push('\n');
        }
        text
    }
}

impl Row {
    /// As they are shown: name, measures, gates, where it is worse and better than forebay.
    pub(crate) fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.system.clone()];
        let measured = self.spreads.iter().zip(self.resolutions).zip(&MEASURES);
        for ((spread, resolution), measure) in measured {
            let digits = measure.digits;
            cells.push(match spread {
                None => "-".to_owned(),
                Some(spread) => {
                    let show = |value: f64| {
                        if value.is_infinite() {
                            "never".to_owned()
                        } else if resolution.is_some_and(|resolution| value <= resolution) {
                            format!("<={value:.digits$}")
                        } else {
                            format!("{value:.digits$}")
                        }
                    };
                    let (least, most) = (show(spread.least), show(spread.most));
                    let mut cell = show(spread.median);
                    if least != most {
                        let _ = write!(cell, " ({least}..{most})");
                    }
                    cell
                }
            });
        }
        cells.push(self.refusal_ns.to_string());
        cells.push(format!("{} of {}", self.gates.0, self.gates.1));
        cells.push(self.worse.join(", "));
        cells.push(self.better.join(", "));
        cells
    }
}

/// Columns of equal width: names and the last two to the left.
pub(super) fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(String::len)
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (number, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = if number == 0 || number + 2 >= columns {
                write!(line, "{cell:<width$}  ")
            } else {
                write!(line, "{cell:>width$}  ")
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
