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
            match cel::parse_duration(every) {
                Ok(_) => Ok(()),
                Err(e) => Err(format!("failed to parse duration {schedule}: {e}")),
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
    let value = |s: &str| match names.iter().position(|n| n.eq_ignore_ascii_case(s)) {
        Some(i) => Ok(low + i as u32),
        None => number(s),
    };
    let (span, steps) = (part.split('/').next().unwrap_or(""), part.split('/').skip(1).collect::<Vec<_>>());
    let ends: Vec<&str> = span.split('-').collect();
    let (start, mut end) = match ends[..] {
        ["*" | "?", ..] => (low, high),
        [one] => value(one).map(|n| (n, n))?,
        [a, b] => (value(a)?, value(b)?),
        _ => return Err(format!("too many hyphens: {part}")),
    };
    let step = match steps[..] {
        [] => 1,
        [step] => number(step)?,
        _ => return Err(format!("too many slashes: {part}")),
    };
    // `N/step` is from N to the maximum.
    if ends.len() == 1 && !steps.is_empty() {
        end = high;
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
    if step == 0 {
        return Err(format!("step of range should be a positive number: {part}"));
    }
    Ok(())
}

fn number(s: &str) -> Result<u32, String> {
    match s.parse::<i64>() {
        Ok(n) if n < 0 => Err(format!("negative number ({n}) not allowed: {s}")),
        Ok(n) => Ok(u32::try_from(n).unwrap_or(u32::MAX)),
        Err(_) => Err(format!("failed to parse int from {s}: strconv.Atoi: parsing {s:?}: invalid syntax")),
    }
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
        for good in ["*/5 * * * *", "0 0 1 jan sun-fri", "@daily", "1,2-4/2 ? * * 6", "5/10 *-3 * * *", "@every 1h30m"]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, text) in [
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("61 * * * *", "end of range (61) above maximum (59): 61"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("a * * * *", "failed to parse int from a: strconv.Atoi: parsing \"a\": invalid syntax"),
            ("70/2 * * * *", "beginning of range (70) beyond end of range (59): 70/2"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("* * * */jan *", "failed to parse int from jan: strconv.Atoi: parsing \"jan\": invalid syntax"),
            ("@every 5 minutes", "failed to parse duration @every 5 minutes: time: invalid duration \"5 minutes\""),
            ("@never", "unrecognized descriptor: @never"),
        ] {
            assert_eq!(check(bad), Err(text.to_string()), "{bad}");
        }
    }
}
