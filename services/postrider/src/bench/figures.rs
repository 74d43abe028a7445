//! Arithmetic of the results: percentiles, medians, ratios. Pure.

use std::time::Duration;

/// The value that `share` of all values do not exceed (nearest rank): 0.5 the median, 0.99 all but the slowest hundredth.
pub fn percentile(values: &mut [Duration], share: f64) -> Option<Duration> {
    values.sort_unstable();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length is an index")]
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.clamp(1, values.len().max(1)) - 1).copied()
}

/// The middle value, or the mean of the two in the middle.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    match sorted.len() % 2 {
        1 => Some(upper),
        _ => sorted.get(sorted.len() / 2 - 1).map(|lower| (lower + upper) / 2.0),
    }
}

/// How often `other` goes into `ours`.
pub fn ratio(ours: Option<f64>, other: Option<f64>) -> Option<f64> {
    let ratio = ours? / other?;
    ratio.is_finite().then_some(ratio)
}

/// Milliseconds.
pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// So many in that time, a second.
pub fn rate(count: usize, within: Duration) -> f64 {
    count as f64 / within.as_secs_f64().max(1e-9)
}

/// A number with three digits that matter, and no more than three after the point.
pub fn shown(value: Option<f64>) -> String {
    let Some(value) = value else { return "-".to_owned() };
    match value.abs() {
        big if big >= 100.0 => thousands(value),
        middle if middle >= 10.0 => format!("{value:.1}"),
        small if small >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let mut values: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
        let mut at = |share| percentile(&mut values, share).unwrap().as_millis();
        assert_eq!((at(0.5), at(0.99), at(1.0), at(0.0)), (100, 198, 200, 1));
        assert_eq!(percentile(&mut [], 0.5), None);
        assert_eq!(percentile(&mut [Duration::from_secs(3)], 0.99), Some(Duration::from_secs(3)));
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(&[5.0, 1.0, 3.0]), Some(3.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[f64::NAN, 2.0]), Some(2.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn numbers_are_shown_as_precisely_as_they_are_known() {
        let text: Vec<String> = [12_345.6, 99.94, 1.234, 0.1234].map(|value| shown(Some(value))).into();
        assert_eq!(text, ["12,346", "99.9", "1.23", "0.123"]);
        assert_eq!(shown(ratio(Some(1.0), Some(0.0))), "-");
    }
}
