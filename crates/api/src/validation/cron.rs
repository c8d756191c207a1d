//! Whether a text is a cron schedule of five fields, or one of the `@` words. Decides nothing about times.

/// Bounds and names of each field, in order.
const FIELDS: [(u32, u32, &[&str]); 5] = [
    (0, 59, &[]),
    (0, 23, &[]),
    (1, 31, &[]),
    (1, 12, &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]),
    (0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
];

/// `Err` holds what is wrong, in the words of the cron library that upstream uses.
pub fn check(schedule: &str) -> Result<(), String> {
    if let Some((zone, rest)) = schedule.split_once(' ')
        && let Some(name) = zone.strip_prefix("CRON_TZ=").or_else(|| zone.strip_prefix("TZ="))
    {
        return match is_time_zone(name) {
            true => check(rest.trim()),
            false => Err(format!("provided bad location {name}: unknown time zone {name}")),
        };
    }
    if let Some(word) = schedule.strip_prefix('@') {
        let known = ["yearly", "annually", "monthly", "weekly", "daily", "midnight", "hourly"];
        return if known.contains(&word) {
            Ok(())
        } else if let Some(every) = word.strip_prefix("every ") {
            match every.parse::<jiff::SignedDuration>() {
                Ok(_) => Ok(()),
                Err(_) => Err(format!("failed to parse duration {schedule}: time: invalid duration {every:?}")),
            }
        } else {
            Err(format!("unrecognized descriptor: {schedule}"))
        };
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != 5 {
        let shown: Vec<&str> = fields.clone();
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), shown.join(" ")));
    }
    for (text, (low, high, names)) in fields.iter().zip(FIELDS) {
        for part in text.split(',').filter(|p| !p.is_empty()) {
            range(part, low, high, names)?;
        }
    }
    Ok(())
}

/// Whether the database of time zones has this very name; to Go, unlike to our reader, letters' case means something.
pub fn is_time_zone(name: &str) -> bool {
    jiff::tz::TimeZone::get(name).is_ok_and(|zone| zone.iana_name() == Some(name))
}

fn range(part: &str, low: u32, high: u32, names: &[&str]) -> Result<(), String> {
    let (span, step) = match part.split_once('/') {
        Some((_, step)) if step.contains('/') => return Err(format!("too many slashes: {part}")),
        Some((span, step)) => (span, Some(step)),
        None => (part, None),
    };
    let value = |s: &str| -> Result<u32, String> {
        if let Some(i) = names.iter().position(|n| n.eq_ignore_ascii_case(s)) {
            return Ok(low + i as u32);
        }
        s.parse::<u32>()
            .map_err(|_| format!("failed to parse int from {s}: strconv.Atoi: parsing {s:?}: invalid syntax"))
    };
    let (start, end) = match span {
        "*" | "?" => (low, high),
        _ => match span.split_once('-') {
            Some((_, b)) if b.contains('-') => return Err(format!("too many hyphens: {part}")),
            Some((a, b)) => (value(a)?, value(b)?),
            None => {
                let n = value(span)?;
                (n, n)
            }
        },
    };
    if let Some(step) = step
        && value(step)? == 0
    {
        return Err(format!("step of range should be a positive number: {part}"));
    }
    if start < low {
        return Err(format!("beginning of range ({start}) below minimum ({low}): {part}"));
    }
    if end > high {
        return Err(format!("end of range ({end}) above maximum ({high}): {part}"));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {part}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn time_zones() {
        for good in ["UTC", "Europe/Berlin", "US/Pacific", "Etc/GMT+5", "EST"] {
            assert!(super::is_time_zone(good), "{good}");
        }
        for bad in ["utc", "america/new_york", "America/new_york", "Nowhere/Land", ""] {
            assert!(!super::is_time_zone(bad), "{bad}");
        }
    }

    #[test]
    fn schedules() {
        for good in ["*/5 * * * *", "0 0 1 jan sun-fri", "@daily", "1,2-4/2 ? * * 6"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, text) in [
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("61 * * * *", "end of range (61) above maximum (59): 61"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("a * * * *", "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax"),
            ("@never", "unrecognized descriptor: @never"),
        ] {
            assert_eq!(check(bad), Err(text.to_string()), "{bad}");
        }
    }
}
