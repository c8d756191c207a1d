//! Resource quantities as integers. Rounds up, as upstream's `Value()` and `MilliValue()` do.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// Thousandths of the unit; `None` where the text isn't a quantity.
pub fn parse_milli(text: &str) -> Option<i64> {
    let split = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    // numerator and denominator of the suffix, in thousandths
    let (num, den): (i128, i128) = match suffix {
        "n" => (1, 1_000_000),
        "u" => (1, 1_000),
        "m" => (1, 1),
        "" => (1_000, 1),
        "k" => (1_000_000, 1),
        "M" => (1_000_000_000, 1),
        "G" => (1_000_000_000_000, 1),
        "T" => (10i128.pow(15), 1),
        "P" => (10i128.pow(18), 1),
        "E" => (10i128.pow(21), 1),
        "Ki" => (1_000 << 10, 1),
        "Mi" => (1_000 << 20, 1),
        "Gi" => (1_000 << 30, 1),
        "Ti" => (1_000i128 << 40, 1),
        "Pi" => (1_000i128 << 50, 1),
        "Ei" => (1_000i128 << 60, 1),
        exponent => {
            let e: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            match e {
                -9..=18 if e >= 0 => (1_000 * 10i128.pow(e as u32), 1),
                -9..0 => (1_000, 10i128.pow(e.unsigned_abs())),
                _ => return None,
            }
        }
    };
    let negative = number.starts_with('-');
    let number = number.trim_start_matches(['+', '-']);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.len() > 18 || whole.len() > 18 {
        return None;
    }
    let scale = 10i128.pow(fraction.len() as u32);
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction: i128 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let numerator = (whole * scale + fraction).checked_mul(num)?;
    let denominator = scale * den;
    let milli = (numerator + denominator - 1) / denominator;
    let milli = milli.min(i64::MAX as i128) as i64;
    Some(if negative { -milli } else { milli })
}

pub fn milli(q: &Quantity) -> i64 {
    parse_milli(&q.0).unwrap_or(0)
}

/// Whole units, rounded up.
pub fn value(q: &Quantity) -> i64 {
    let m = milli(q);
    if m == i64::MAX {
        // Beyond what thousandths can hold: only sizes in bytes get this large.
        return parse_milli(q.0.trim_end_matches('i')).map_or(i64::MAX, |_| i64::MAX);
    }
    m.div_euclid(1000) + i64::from(m.rem_euclid(1000) > 0)
}

pub type ResourceMap = BTreeMap<String, Quantity>;

pub fn milli_of(map: Option<&ResourceMap>, key: &str) -> i64 {
    map.and_then(|m| m.get(key)).map_or(0, milli)
}

pub fn value_of(map: Option<&ResourceMap>, key: &str) -> i64 {
    map.and_then(|m| m.get(key)).map_or(0, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        for (text, want) in [
            ("1", Some(1000)),
            ("100m", Some(100)),
            ("1.5", Some(1500)),
            ("0.1m", Some(1)),
            ("1Ki", Some(1_024_000)),
            ("64Mi", Some(67_108_864_000)),
            ("1e3", Some(1_000_000)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("-2", Some(-2000)),
            ("2k", Some(2_000_000)),
            ("", None),
            ("x", None),
            ("1Xi", None),
        ] {
            assert_eq!(parse_milli(text), want, "{text}");
        }
        assert_eq!(value(&Quantity("1500m".into())), 2);
    }
}
