//! What repeated measurements say about their mean.

/// A mean, and the interval that has the true one with 95 % confidence.
#[derive(Clone, Copy, PartialEq, Debug, serde::Serialize)]
pub(crate) struct Interval {
    pub(crate) mean: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Interval {
    /// By Student's t over the values; `None` for fewer than two.
    pub(crate) fn of(values: &[f64]) -> Option<Interval> {
        let n = values.len() as f64;
        if n < 2.0 {
            return None;
        }
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let half = t_975(n - 1.0) * (squares / (n - 1.0) / n).sqrt();
        Some(Interval {
            mean,
            low: mean - half,
            high: mean + half,
        })
    }
}

/// The 97.5th percentile of Student's t, by the expansion about the normal one (Abramowitz and Stegun
/// 26.7.5): within 0.1 % from 6 degrees of freedom on; below it is too small by up to a half.
fn t_975(freedom: f64) -> f64 {
    let z = 1.959_963_985_f64;
    let z = [z, z.powi(3), z.powi(5), z.powi(7), z.powi(9)];
    let terms = [
        (z[1] + z[0]) / 4.0,
        (5.0 * z[2] + 16.0 * z[1] + 3.0 * z[0]) / 96.0,
        (3.0 * z[3] + 19.0 * z[2] + 17.0 * z[1] - 15.0 * z[0]) / 384.0,
        (79.0 * z[4] + 776.0 * z[3] + 1482.0 * z[2] - 1920.0 * z[1] - 945.0 * z[0]) / 92_160.0,
    ];
    let powers = [1, 2, 3, 4].map(|power| freedom.powi(power));
    let corrections = terms.iter().zip(powers).map(|(term, power)| term / power);
    z[0] + corrections.sum::<f64>()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_quantiles_are_those_of_the_tables() {
        for (freedom, table) in [
            (5.0, 2.5706),
            (10.0, 2.2281),
            (19.0, 2.0930),
            (29.0, 2.0452),
        ] {
            let t = t_975(freedom);
            assert!(
                (t / table - 1.0).abs() < 2e-3,
                "{freedom}: {t}, not {table}"
            );
        }
    }

    #[test]
    fn an_interval_is_about_the_mean_and_narrows() {
        let few = Interval::of(&[1.0, 2.0, 3.0, 1.0, 2.0, 3.0]).unwrap();
        // 2.5706 * sqrt(0.8 / 6)
        assert!((few.mean - 2.0).abs() < 1e-9);
        assert!((few.high - 2.0 - 0.9387).abs() < 1e-3, "{few:?}");
        let many = Interval::of(&[1.0, 2.0, 3.0].repeat(20)).unwrap();
        assert!(many.high - many.low < few.high - few.low);
        assert_eq!(Interval::of(&[1.0]), None);
    }
}
