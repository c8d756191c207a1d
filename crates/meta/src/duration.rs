//! Go's durations: `300ms`, `1h15m`, `-1.5h`, as `time.ParseDuration` reads them.

use std::time::Duration;

/// Errors are in Go's words. A negative duration counts as zero: nobody here can wait for less than no time.
pub fn parse_go(text: &str) -> Result<Duration, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanos = 0f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        if !number.bytes().any(|b| b.is_ascii_digit()) || number.matches('.').count() > 1 {
            return Err(invalid());
        }
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        nanos += number
            * match unit {
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                "" => return Err(format!("time: missing unit in duration {text:?}")),
                other => return Err(format!("time: unknown unit {other:?} in duration {text:?}")),
            };
        rest = after;
    }
    if nanos > i64::MAX as f64 {
        return Err(invalid());
    }
    Ok(if negative { Duration::ZERO } else { Duration::from_nanos(nanos.round() as u64) })
}

#[cfg(test)]
mod tests {
    use super::parse_go;
    use std::time::Duration;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, want) in [
            ("1h15m30.5s", Ok(Duration::from_millis(4_530_500))),
            ("300ms", Ok(Duration::from_millis(300))),
            ("0", Ok(Duration::ZERO)),
            ("-2s", Ok(Duration::ZERO)),
            (".5s", Ok(Duration::from_millis(500))),
            ("30", Err("time: missing unit in duration \"30\"")),
            ("3x", Err("time: unknown unit \"x\" in duration \"3x\"")),
            ("", Err("time: invalid duration \"\"")),
            ("s", Err("time: invalid duration \"s\"")),
            ("1.2.3s", Err("time: invalid duration \"1.2.3s\"")),
            ("99999999999h", Err("time: invalid duration \"99999999999h\"")),
        ] {
            assert_eq!(parse_go(text), want.map_err(String::from), "{text}");
        }
    }
}
