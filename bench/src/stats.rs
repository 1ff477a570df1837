//! What repeats of a measurement come to: the middle, the ends, and how it is written.

use serde::Serialize;

/// The repeats of one measurement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The middle repeat; of an even number the mean of the two.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// How many there were.
    pub repeats: usize,
}

impl Spread {
    /// Of at least one repeat; `None` of none.
    pub fn of(mut repeats: Vec<f64>) -> Option<Self> {
        repeats.sort_by(f64::total_cmp);
        let upper = *repeats.get(repeats.len() / 2)?;
        let lower = *repeats.get((repeats.len() - 1) / 2)?;
        Some(Self {
            median: f64::midpoint(lower, upper),
            min: *repeats.first()?,
            max: *repeats.last()?,
            repeats: repeats.len(),
        })
    }
}

/// Median and, in brackets where there is more than one repeat, smallest and largest, to three digits.
impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            median,
            min,
            max,
            repeats,
        } = *self;
        if repeats == 1 {
            return f.write_str(&digits(median));
        }
        write!(f, "{} ({}..{})", digits(median), digits(min), digits(max))
    }
}

/// Three significant digits are more than such a measurement has.
pub fn digits(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        "0".into()
    } else if size < 0.01 {
        format!("{value:.4}")
    } else if size < 1.0 {
        format!("{value:.3}")
    } else if size < 10.0 {
        format!("{value:.2}")
    } else if size < 100.0 {
        format!("{value:.1}")
    } else {
        let step = 10f64.powf(size.log10().floor() - 2.0);
        format!("{:.0}", (value / step).round() * step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_middle_and_the_ends() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!(
            (spread.min, spread.median, spread.max, spread.repeats),
            (1.0, 2.0, 3.0, 3)
        );
        assert_eq!(Spread::of(vec![4.0, 1.0]).unwrap().median, 2.5);
        assert!(Spread::of(vec![]).is_none());
    }

    #[test]
    fn three_digits_are_told() {
        for (value, text) in [
            (0.0, "0"),
            (0.001_23, "0.0012"),
            (0.123_4, "0.123"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (123.4, "123"),
            (12_345.0, "12300"),
            (-12.34, "-12.3"),
        ] {
            assert_eq!(digits(value), text);
        }
    }

    #[test]
    fn one_repeat_has_no_brackets() {
        assert_eq!(Spread::of(vec![2.0]).unwrap().to_string(), "2.00");
        assert_eq!(
            Spread::of(vec![2.0, 1.0, 4.0]).unwrap().to_string(),
            "2.00 (1.00..4.00)"
        );
    }
}
