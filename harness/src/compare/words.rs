//! Numbers of the scorecard as people read them: three digits, the interval in the unit of the
//! estimate, and `–` where nothing was measured.

use super::measure::{Estimate, Unit};
use crate::report::text::thousands;

/// What is shown where nothing was measured.
pub const NOT_MEASURED: &str = "–";
/// What is shown where what was waited for did not come.
pub const NEVER: &str = "not in the run";

/// A number with its unit: `1.6 %`, `85 ms`, `1.18 s`, `200/s`, `246`.
pub fn said(unit: Unit, value: f64) -> String {
    let (factor, suffix) = scale(unit, value);
    format!("{}{suffix}", digits(unit, suffix, value * factor))
}

/// A share as per cent.
pub fn percent(share: f64) -> String {
    said(Unit::Share, share)
}

/// An estimate with its interval: `1.6 % (1.1–2.3)`.
pub fn estimated(unit: Unit, estimate: &Estimate) -> String {
    match (value(unit, estimate), interval(unit, estimate)) {
        (value, Some(interval)) => format!("{value} ({interval})"),
        (value, None) => value,
    }
}

/// An estimate without its interval.
pub fn value(unit: Unit, estimate: &Estimate) -> String {
    match estimate.value {
        Some(value) => said(unit, value),
        None if estimate.never => NEVER.to_owned(),
        None => NOT_MEASURED.to_owned(),
    }
}

/// An estimate's interval in the unit in which the estimate itself is said: `1.1–2.3`. `None` where
/// an end is not known.
pub fn interval(unit: Unit, estimate: &Estimate) -> Option<String> {
    let (value, ends) = (estimate.value?, estimate.interval()?);
    let (factor, suffix) = scale(unit, value);
    let end = |end: f64| digits(unit, suffix, end * factor);
    // A dash between negative numbers would be read as a sign.
    let between = if ends.low < 0.0 { " to " } else { "–" };
    Some(format!("{}{between}{}", end(ends.low), end(ends.high)))
}

/// By what a number is multiplied before it is said, and what stands behind it then.
fn scale(unit: Unit, value: f64) -> (f64, &'static str) {
    match unit {
        Unit::Share => (100.0, " %"),
        Unit::Seconds if value.abs() < 1.0 => (1e3, " ms"),
        Unit::Seconds => (1.0, " s"),
        Unit::Milliseconds if value.abs() < 1e3 => (1.0, " ms"),
        Unit::Milliseconds => (1e-3, " s"),
        Unit::OperationsPerSecond => (1.0, "/s"),
        Unit::Writes | Unit::Versions => (1.0, ""),
    }
}

/// About three digits; never all of something that is less, nor nothing of something that is more.
fn digits(unit: Unit, suffix: &str, value: f64) -> String {
    let size = value.abs();
    if unit == Unit::Share && (99.95..100.0).contains(&value) {
        return format!("{:.2}", value.min(99.99));
    }
    if size > 0.0 && size < 0.001 {
        return if value > 0.0 { "<0.001" } else { ">-0.001" }.to_owned();
    }
    if size >= 99.95 || value.fract() == 0.0 {
        let sign = if value < 0.0 { "-" } else { "" };
        return format!("{sign}{}", thousands(size.round() as u64));
    }
    let decimals = match size {
        9.995.. => 1,
        // A hundredth of a millisecond or of a per cent is no news.
        1.0.. if suffix == " ms" || unit == Unit::Share => 1,
        0.1.. => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_in_the_unit_that_fits() {
        for (unit, value, text) in [
            (Unit::Share, 0.0188, "1.9 %"),
            (Unit::Share, 0.0, "0 %"),
            (Unit::Share, 0.000_000_1, "<0.001 %"),
            (Unit::Share, 0.999_99, "99.99 %"),
            (Unit::Share, 1.0, "100 %"),
            (Unit::Seconds, 0.0854, "85.4 ms"),
            (Unit::Seconds, 1.1799, "1.18 s"),
            (Unit::Milliseconds, 4_867.0, "4.87 s"),
            (Unit::Milliseconds, 2.43, "2.4 ms"),
            (Unit::OperationsPerSecond, 1_999.4, "1,999/s"),
            (Unit::Writes, 246.4, "246"),
            (Unit::Writes, -0.5, "-0.50"),
        ] {
            assert_eq!(said(unit, value), text);
        }
    }

    #[test]
    fn the_interval_is_in_the_unit_of_the_estimate() {
        let mut estimate = Estimate {
            value: Some(0.98),
            low: Some(0.95),
            high: Some(1.04),
            n: 20,
            never: false,
        };
        assert_eq!(estimated(Unit::Seconds, &estimate), "980 ms (950–1,040)");
        estimate.high = None;
        assert_eq!(estimated(Unit::Seconds, &estimate), "980 ms");
        assert_eq!(estimated(Unit::Seconds, &Estimate::default()), "–");
        estimate.value = None;
        estimate.never = true;
        assert_eq!(estimated(Unit::Seconds, &estimate), "not in the run");
    }
}
