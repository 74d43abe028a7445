//! Times as people write and read them on the command line: RFC 3339, or how long ago. Pure: the clock is handed in.

use std::time::Duration;

use postrider_model::Timestamp;
use prost_types::Timestamp as WireTime;

/// A moment as given: `2026-11-22T09:30:00Z`, `2026-11-22`, `now`, or `10m`, `2h`, `1d` ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// That moment.
    At(Timestamp),
    /// So long before now.
    Ago(Duration),
}

impl Moment {
    /// The moment as it travels.
    pub(super) fn wire(self) -> WireTime {
        let at = match self {
            Self::At(at) => at,
            Self::Ago(ago) => postrider_runtime::clock::now().before(ago),
        };
        let nanos = i32::try_from(at.as_millis() % 1000).unwrap_or(0) * 1_000_000;
        WireTime { seconds: i64::try_from(at.as_secs()).unwrap_or(i64::MAX), nanos }
    }
}

/// Reads a moment; for clap.
pub(super) fn parse_moment(text: &str) -> Result<Moment, String> {
    let no = || {
        "expected a time such as 2026-11-22T09:30:00Z or 2026-11-22 (UTC), `now`, or how long ago: 30s, 10m, 2h, 1d, 1w"
            .to_owned()
    };
    if text == "now" {
        return Ok(Moment::Ago(Duration::ZERO));
    }
    if let Some(ago) = parse_span(text) {
        return Ok(Moment::Ago(ago));
    }
    parse_rfc3339(text).map(Moment::At).ok_or_else(no)
}

fn parse_span(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return None,
    };
    let digits = text.strip_suffix(unit)?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut fields = date.split('-');
    let (year, month, day) = (number(fields.next()?, 4)?, number(fields.next()?, 2)?, number(fields.next()?, 2)?);
    if fields.next().is_some() || year < 1970 || !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    let midnight = days_from_civil(year, month, day) * 86_400_000;
    let Some(time) = time else { return Some(Timestamp::from_millis(midnight)) };
    let (clock, offset_minutes) = split_offset(time)?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut fields = clock.split(':');
    let (hour, minute) = (number(fields.next()?, 2)?, number(fields.next()?, 2)?);
    let second = fields.next().map_or(Some(0), |second| number(second, 2))?;
    if fields.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let millis: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let local = midnight + ((hour * 60 + minute) * 60 + second) * 1000 + millis;
    let utc = i64::try_from(local).ok()? - offset_minutes * 60_000;
    u64::try_from(utc).ok().map(Timestamp::from_millis)
}

/// The clock part, and the minutes that it is ahead of UTC.
fn split_offset(time: &str) -> Option<(&str, i64)> {
    if let Some(clock) = time.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let at = time.rfind(['+', '-'])?;
    let (clock, offset) = time.split_at(at);
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    let ahead = i64::try_from(hours * 60 + minutes).ok()?;
    Some((clock, if offset.starts_with('-') { -ahead } else { ahead }))
}

fn number(text: &str, digits: usize) -> Option<u64> {
    (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 (proleptic Gregorian calendar); the inverse of `Timestamp::civil`.
fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// A moment off the wire, if it is one.
pub(super) fn moment(time: Option<&WireTime>) -> Option<Timestamp> {
    let time = time?;
    let millis = u64::try_from(time.seconds).ok()?.checked_mul(1000)?;
    Some(Timestamp::from_millis(millis + u64::try_from(time.nanos / 1_000_000).unwrap_or(0)))
}

/// RFC 3339 with milliseconds; empty if absent.
pub(super) fn rfc3339(time: Option<&WireTime>) -> String {
    moment(time).map(|at| at.to_string()).unwrap_or_default()
}

/// RFC 3339 in whole seconds, for tables; empty if absent.
pub(super) fn short(time: Option<&WireTime>) -> String {
    moment(time)
        .map(|at| {
            let (year, month, day, hour, minute, second, _) = at.civil();
            format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
        })
        .unwrap_or_default()
}

/// How long something takes or took, in its two largest units: `4d 3h`, `2m 5s`, `0s`.
pub(super) fn span(span: Duration) -> String {
    let total = span.as_secs();
    let units = [(total / 86_400, 'd'), (total / 3_600 % 24, 'h'), (total / 60 % 60, 'm'), (total % 60, 's')];
    let Some(first) = units.iter().position(|(count, _)| *count > 0) else { return "0s".into() };
    let shown = units.iter().skip(first).take(2).filter(|(count, _)| *count > 0);
    shown.map(|(count, unit)| format!("{count}{unit}")).collect::<Vec<_>>().join(" ")
}

/// How long something took: to the millisecond below ten seconds, else as [`span`].
pub(super) fn took(time: Duration) -> String {
    match time.as_millis() {
        millis @ 0..1_000 => format!("{millis}ms"),
        1_000..10_000 => format!("{:.1}s", time.as_secs_f64()),
        _ => span(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, printed: &str) {
        match parse_moment(text) {
            Ok(Moment::At(at)) => assert_eq!(at.to_string(), printed),
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn rfc_3339_is_read_with_offsets_and_fractions() {
        check("2024-02-29T12:34:56.789Z", "2024-02-29T12:34:56.789Z");
        check("2024-02-29T12:34:56Z", "2024-02-29T12:34:56.000Z");
        check("2024-02-29t12:34:56.7z", "2024-02-29T12:34:56.700Z");
        check("2026-11-22 10:30:00+01:00", "2026-11-22T09:30:00.000Z");
        check("2026-01-01T00:15:00-05:30", "2026-01-01T05:45:00.000Z");
        check("2026-11-22T10:30Z", "2026-11-22T10:30:00.000Z");
        check("2026-11-22", "2026-11-22T00:00:00.000Z");
    }

    #[test]
    fn spans_are_counted_back_from_now() {
        assert_eq!(parse_moment("10m"), Ok(Moment::Ago(Duration::from_secs(600))));
        assert_eq!(parse_moment("1d"), Ok(Moment::Ago(Duration::from_secs(86_400))));
        assert_eq!(parse_moment("now"), Ok(Moment::Ago(Duration::ZERO)));
    }

    #[test]
    fn what_is_no_time_is_refused_with_examples() {
        for bad in
            ["", "m", "-1h", "1y", "2026-13-01", "2026-02-30", "2026-11-22T10:30:00", "2026-11-22T25:00:00Z", "x"]
        {
            assert!(parse_moment(bad).is_err_and(|why| why.contains("10m")), "{bad:?}");
        }
    }

    #[test]
    fn days_agree_with_the_calendar_of_the_model() {
        for day in (0..40_000).step_by(17) {
            let (year, month, date, ..) = Timestamp::from_millis(day * 86_400_000).civil();
            assert_eq!(days_from_civil(year, month, date), day);
        }
    }

    #[test]
    fn spans_print_in_two_units() {
        assert_eq!(span(Duration::from_secs(0)), "0s");
        assert_eq!(span(Duration::from_secs(125)), "2m 5s");
        assert_eq!(span(Duration::from_secs(7_200)), "2h");
        assert_eq!(span(Duration::from_secs(4 * 86_400 + 3 * 3_600 + 59)), "4d 3h");
    }

    #[test]
    fn what_took_less_than_ten_seconds_is_told_by_parts_of_a_second() {
        let told = [3, 999, 1_260, 9_940, 125_000].map(|millis| took(Duration::from_millis(millis)));
        assert_eq!(told, ["3ms", "999ms", "1.3s", "9.9s", "2m 5s"]);
    }
}
