//! Scalars that have one canonical form in JSON: quantities, times, durations.

/// A quantity in its one canonical form, or upstream's complaint.
pub fn canonical_quantity(text: &str) -> Result<String, String> {
    meta::quantity::Quantity::parse(text).map(|q| q.canonical()).map_err(|e| e.to_string())
}

/// RFC 3339 with any offset, as Go's `time.Parse` takes it.
pub fn parse_time(text: &str) -> Option<jiff::Timestamp> {
    // jiff is more liberal than Go: it takes a space for `T`, and no offset at all in some places.
    let b = text.as_bytes();
    if b.len() < 20 || b[10] != b'T' || !b[0].is_ascii_digit() || b[4] != b'-' || b[13] != b':' {
        return None;
    }
    text.parse().ok()
}

/// `2026-01-02T03:04:05Z`
pub fn format_time(t: jiff::Timestamp) -> String {
    // Down to whole seconds, towards the past, also before 1970.
    let seconds = t.as_nanosecond().div_euclid(1_000_000_000) as i64;
    jiff::Timestamp::from_second(seconds).unwrap_or(t).to_string()
}

/// `2026-01-02T03:04:05.000006Z`
pub fn format_micro_time(t: jiff::Timestamp) -> String {
    format!("{t:.6}")
}

/// Go's complaint about a time that doesn't parse; `layout` is Go's name of the format.
pub fn time_error(text: &str, layout: &str) -> String {
    format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\"")
}

/// Go's `time.ParseDuration`, in nanoseconds.
pub fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(r) => (true, r),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: f64 = 0.0;
    let mut exact: i64 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number = &rest[..end];
        rest = &rest[end..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit: i64 = match &rest[..unit_end] {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        rest = &rest[unit_end..];
        match number.parse::<i64>() {
            Ok(n) => exact = exact.checked_add(n.checked_mul(unit)?)?,
            Err(_) => total += number.parse::<f64>().ok()? * unit as f64,
        }
    }
    let sum = exact.checked_add(total.round() as i64)?;
    Some(if negative { -sum } else { sum })
}

/// Go's `time.Duration.String`: `1h0m0s`, `1.5s`, `200ms`.
pub fn format_duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".into();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    let fraction = |value: u64, unit: u64| {
        let (whole, part) = (value / unit, value % unit);
        if part == 0 {
            return whole.to_string();
        }
        let digits = format!("{part:0width$}", width = unit.ilog10() as usize);
        format!("{whole}.{}", digits.trim_end_matches('0'))
    };
    let text = match n {
        0..1_000 => format!("{n}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(n, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(n, 1_000_000)),
        _ => {
            let minutes = n / 60_000_000_000;
            let seconds = fraction(n % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, m) => format!("{m}m{seconds}s"),
                (h, m) => format!("{h}h{m}m{seconds}s"),
            }
        }
    };
    format!("{sign}{text}")
}
