//! Timestamps and durations in the forms that Go reads and writes.

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

/// Seconds of 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z, which CEL's timestamps lie between.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// A Go duration (`1h30m`, `-1.5s`, `0`) in nanoseconds.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let bad = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let (number, after) = rest.split_at(end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let scale: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(bad()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(bad());
        }
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| bad())? };
        total = whole.checked_mul(scale).and_then(|n| total.checked_add(n)).ok_or_else(bad)?;
        let digits = &fraction[..fraction.len().min(18)];
        if !digits.is_empty() {
            let value: i128 = digits.parse().map_err(|_| bad())?;
            total += value * scale / 10i128.pow(digits.len() as u32);
        }
        if total > i128::from(i64::MAX) + 1 {
            return Err(bad());
        }
        rest = next;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| bad())
}

/// `3600s`, `1.5s`
pub fn show_duration(nanos: i64) -> String {
    let (sign, abs) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    let (seconds, fraction) = (abs / 1_000_000_000, abs % 1_000_000_000);
    if fraction == 0 {
        return format!("{sign}{seconds}s");
    }
    format!("{sign}{seconds}.{}s", format!("{fraction:09}").trim_end_matches('0'))
}

/// A moment between the years 1 and 9999, in nanoseconds since 1970. Jiff's own ends some hours earlier, which
/// people who write `9999-12-31T23:59:59Z` for "never" would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(i128);

const SECOND: i128 = 1_000_000_000;

impl Timestamp {
    pub fn from_second(seconds: i64) -> Option<Timestamp> {
        Timestamp::from_nanos(i128::from(seconds) * SECOND)
    }

    fn from_nanos(nanos: i128) -> Option<Timestamp> {
        let seconds = nanos.div_euclid(SECOND);
        (i128::from(*SECONDS.start())..=i128::from(*SECONDS.end())).contains(&seconds).then_some(Timestamp(nanos))
    }

    pub fn as_second(self) -> i64 {
        self.0.div_euclid(SECOND) as i64
    }

    /// Later by a duration in nanoseconds.
    pub fn plus(self, nanos: i128) -> Option<Timestamp> {
        Timestamp::from_nanos(self.0 + nanos)
    }

    /// Nanoseconds since another moment.
    pub fn since(self, other: Timestamp) -> i128 {
        self.0 - other.0
    }

    /// As clocks in a zone show it.
    pub fn at(self, zone: &TimeZone) -> DateTime {
        let clamped = jiff::Timestamp::from_second(self.as_second())
            .unwrap_or_else(|_| if self.0 > 0 { jiff::Timestamp::MAX } else { jiff::Timestamp::MIN });
        let offset = i128::from(zone.to_offset(clamped).seconds());
        let local = self.0 + offset * SECOND;
        let (seconds, nanos) = (local.div_euclid(SECOND) as i64, local.rem_euclid(SECOND) as i64);
        let epoch = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
        epoch.checked_add(jiff::SignedDuration::new(seconds, nanos as i32)).unwrap_or(if self.0 > 0 {
            DateTime::MAX
        } else {
            DateTime::MIN
        })
    }
}

/// RFC 3339.
pub fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let b = text.as_bytes();
    // Jiff also reads forms that RFC 3339 hasn't.
    let shape = text.is_ascii() && b.len() >= 20 && (b[4], b[7], b[10], b[13], b[16]) == (b'-', b'-', b'T', b':', b':');
    if !shape {
        return None;
    }
    let (local, offset) = match text.strip_suffix('Z') {
        Some(local) => (local, 0),
        None => {
            let (local, zone) = text.split_at(b.len() - 6);
            let sign = match zone.as_bytes()[0] {
                b'+' => 1,
                b'-' => -1,
                _ => return None,
            };
            let (hours, minutes) = zone[1..].split_once(':')?;
            let (hours, minutes): (i128, i128) = (hours.parse().ok()?, minutes.parse().ok()?);
            if !(0..24).contains(&hours) || !(0..60).contains(&minutes) {
                return None;
            }
            (local, sign * (hours * 60 + minutes) * 60)
        }
    };
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    let fraction = local.get(19..)?;
    if !(fraction.is_empty() || fraction.strip_prefix('.').is_some_and(|f| !f.is_empty() && f.len() <= 9 && digits(f)))
    {
        return None;
    }
    let local: DateTime = local.parse().ok()?;
    Timestamp::from_nanos(nanos_of(local) - offset * SECOND)
}

/// Nanoseconds since 1970 by a clock at UTC.
fn nanos_of(t: DateTime) -> i128 {
    let epoch = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
    t.duration_since(epoch).as_nanos()
}

/// `2024-02-29`
pub fn parse_date(text: &str) -> Option<Timestamp> {
    if text.len() != 10 {
        return None;
    }
    let date: jiff::civil::Date = text.parse().ok()?;
    Timestamp::from_nanos(nanos_of(date.to_datetime(jiff::civil::Time::midnight())))
}

pub fn show_timestamp(t: Timestamp) -> String {
    let local = t.at(&TimeZone::UTC);
    let whole = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        local.year(),
        local.month(),
        local.day(),
        local.hour(),
        local.minute(),
        local.second()
    );
    match local.subsec_nanosecond() {
        0 => format!("{whole}Z"),
        n => format!("{whole}.{}Z", format!("{n:09}").trim_end_matches('0')),
    }
}

/// `UTC`, `Europe/Berlin`, `+02:00`, `-08:00`, `02:00`
pub fn zone(text: &str) -> Result<TimeZone, String> {
    if let Some((hours, minutes)) = text.split_once(':') {
        let negative = hours.starts_with('-');
        let parse = |t: &str| t.trim_start_matches(['+', '-']).parse::<i32>().ok().filter(|n| (0..=99).contains(n));
        let (Some(h), Some(m)) = (parse(hours), parse(minutes)) else {
            return Err(format!("unknown time zone {text}"));
        };
        let seconds = (h * 60 + m) * 60 * if negative { -1 } else { 1 };
        return Offset::from_seconds(seconds).map(TimeZone::fixed).map_err(|_| format!("unknown time zone {text}"));
    }
    if text.is_empty() || text == "UTC" {
        return Ok(TimeZone::UTC);
    }
    TimeZone::get(text).map_err(|_| format!("unknown time zone {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, nanos, shown) in [
            ("1h30m", 5_400_000_000_000, "5400s"),
            ("-1.5s", -1_500_000_000, "-1.5s"),
            ("0", 0, "0s"),
            ("1us", 1_000, "0.000001s"),
            (".5s", 500_000_000, "0.5s"),
        ] {
            assert_eq!(parse_duration(text), Ok(nanos), "{text}");
            assert_eq!(show_duration(nanos), shown);
        }
        for text in ["", "1", "s", "1d", "1h-1m", "9999999999h", "1..2s", "."] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(show_duration(i64::MIN), "-9223372036.854775808s");
    }

    #[test]
    fn timestamps_are_rfc_3339() {
        assert_eq!(
            parse_timestamp("2023-01-01T00:00:00Z").map(show_timestamp).as_deref(),
            Some("2023-01-01T00:00:00Z")
        );
        assert_eq!(
            parse_timestamp("2023-01-01T02:00:00.5+02:00").map(show_timestamp).as_deref(),
            Some("2023-01-01T00:00:00.5Z")
        );
        for text in [
            "2023-01-01",
            "2023-01-01 00:00:00Z",
            "2023-01-01T00:00:00",
            "x",
            "2023-13-01T00:00:00Z",
            "2023-01-01T00:00:00.Z",
            "2023-01-01T00:00:00+24:00",
            "0000-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_timestamp(text), None, "{text}");
        }
        for text in ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"] {
            assert_eq!(parse_timestamp(text).map(show_timestamp).as_deref(), Some(text));
        }
        assert!(parse_date("2024-02-29").is_some() && parse_date("2023-02-29").is_none());
    }
}
