//! `resource.Quantity`: exact decimal numbers with SI or binary suffixes (`100m`, `1.5Gi`, `12e3`).
//!
//! In: text of a client. Out: exact numbers to count with, and the canonical text that upstream would print.
//! Source: API reference, "Quantity". As upstream, finer than nano is rounded up and what doesn't fit is capped.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// A number `unscaled * 10^-9`, and how it was written.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    /// In nano units: the finest that upstream keeps.
    nano: i128,
    pub format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `12e6`
    DecimalExponent,
    /// `12Mi`
    BinarySi,
    /// `12M`
    DecimalSi,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const NANO: i128 = 1_000_000_000;
/// Upstream caps at 2^63-1 whole units.
const MAX: i128 = i64::MAX as i128 * NANO;

impl Quantity {
    pub const ZERO: Quantity = Quantity { nano: 0, format: Format::DecimalSi };

    /// Whole units, for example bytes.
    pub fn new(value: i64, format: Format) -> Quantity {
        Quantity { nano: i128::from(value) * NANO, format }
    }

    /// Thousandths, for example millicores.
    pub fn milli(value: i64) -> Quantity {
        Quantity { nano: i128::from(value) * 1_000_000, format: Format::DecimalSi }
    }

    pub fn parse(text: &str) -> Result<Quantity, ParseError> {
        parse(text)
    }

    /// From JSON as the API takes it: a string or a number.
    pub fn from_value(v: &serde_json::Value) -> Result<Quantity, ParseError> {
        match v {
            serde_json::Value::String(s) => parse(s),
            serde_json::Value::Number(n) => parse(&n.to_string()),
            serde_json::Value::Null => Ok(Quantity::ZERO),
            _ => Err(ParseError::Format),
        }
    }

    /// Whole units, rounded away from zero.
    pub fn value(&self) -> i64 {
        self.scaled(NANO)
    }

    /// Thousandths, rounded away from zero; capped to what fits.
    pub fn milli_value(&self) -> i64 {
        self.scaled(1_000_000)
    }

    /// Without what is finer than thousandths: rounded away from zero.
    pub fn round_up_to_milli(self) -> Quantity {
        Quantity { nano: div_away(self.nano, 1_000_000).saturating_mul(1_000_000).clamp(-MAX, MAX), ..self }
    }

    fn scaled(&self, unit: i128) -> i64 {
        let up = div_away(self.nano, unit);
        up.clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }

    pub fn as_f64(&self) -> f64 {
        self.nano as f64 / NANO as f64
    }

    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.nano.signum() as i32
    }

    /// The canonical text, which is the `Display` form.
    pub fn canonical(&self) -> String {
        self.to_string()
    }
}

/// The canonical form of a quantity in JSON, or why it is none.
pub fn canonicalize(v: &serde_json::Value) -> Result<String, ParseError> {
    Quantity::from_value(v).map(|q| q.to_string())
}

fn div_away(n: i128, d: i128) -> i128 {
    n / d + if n % d == 0 { 0 } else { n.signum() }
}

const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

fn parse(text: &str) -> Result<Quantity, ParseError> {
    let (negative, rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        Some(_) => (false, text),
        None => return Err(ParseError::Format),
    };
    let number_len = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, suffix) = rest.split_at(number_len);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(ParseError::Format);
    }
    let (factor, exponent, format) = suffix_of(suffix)?;

    // digits * 10^(exponent - len(fraction)) * factor, in nano.
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let scale = i64::from(exponent) - fraction.len() as i64 + 9;
    let nano = to_nano(digits, scale, factor);
    Ok(Quantity { nano: if negative { -nano } else { nano }, format })
}

/// `digits * 10^scale * factor`, rounded up, capped at [`MAX`]. Any number of digits is fine; beyond the twentieth
/// after the point they only matter for rounding up.
fn to_nano(digits: &str, scale: i64, factor: i128) -> i128 {
    const FRACTION_DIGITS: usize = 20;
    let whole_len = digits.len() as i64 + scale;
    if digits.is_empty() {
        return 0;
    }
    if whole_len > 28 {
        return MAX;
    }
    let (whole, fraction) = if whole_len <= 0 {
        // Leading zeros of the fraction; a few more than we look at change nothing.
        let zeros = whole_len.unsigned_abs().min(2 * FRACTION_DIGITS as u64) as usize;
        (String::new(), format!("{}{digits}", "0".repeat(zeros)))
    } else if scale >= 0 {
        (format!("{digits}{}", "0".repeat(scale as usize)), String::new())
    } else {
        let (w, f) = digits.split_at(whole_len as usize);
        (w.to_string(), f.to_string())
    };
    let (near, far) = fraction.split_at(fraction.len().min(FRACTION_DIGITS));
    let whole: i128 = whole.parse().unwrap_or(0);
    let near: i128 = format!("{near:0<FRACTION_DIGITS$}").parse().unwrap_or(0);
    // At most 10^20 * 2^60, which fits.
    let near = near * factor;
    let one = 10i128.pow(FRACTION_DIGITS as u32);
    let round_up = near % one != 0 || far.bytes().any(|b| b != b'0');
    whole.checked_mul(factor).and_then(|n| n.checked_add(near / one + i128::from(round_up))).map_or(MAX, |n| n.min(MAX))
}

/// Factor, power of ten and format of a suffix.
fn suffix_of(suffix: &str) -> Result<(i128, i32, Format), ParseError> {
    if let Some((_, e)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
        return Ok((1, *e, Format::DecimalSi));
    }
    if let Some((_, bits)) = BINARY.iter().find(|(s, _)| *s == suffix) {
        return Ok((1 << bits, 0, Format::BinarySi));
    }
    let letters = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let digits = letters.strip_prefix(['-', '+']).unwrap_or(letters);
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ParseError::Format);
    }
    match suffix.strip_prefix(['e', 'E']) {
        Some(exponent) => exponent
            .parse::<i64>()
            .map(|e| (1, e.clamp(-1000, 1000) as i32, Format::DecimalExponent))
            .map_err(|_| ParseError::Suffix),
        None => Err(ParseError::Suffix),
    }
}

impl fmt::Display for Quantity {
    /// Canonical: no fraction, the largest suffix that keeps the number whole.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let whole = self.nano % NANO == 0;
        // Small and broken binary numbers read better, and lose nothing, in decimal.
        if self.format == Format::BinarySi && whole && self.nano.abs() >= 1024 * NANO {
            let (mut n, mut suffix) = (self.nano / NANO, "");
            for (s, _) in BINARY {
                if n % 1024 != 0 {
                    break;
                }
                n /= 1024;
                suffix = s;
            }
            return write!(f, "{n}{suffix}");
        }
        let (mut n, mut exponent) = (self.nano, -9);
        while n % 1000 == 0 && exponent < 18 {
            n /= 1000;
            exponent += 3;
        }
        if self.format == Format::DecimalExponent {
            return if exponent == 0 { write!(f, "{n}") } else { write!(f, "{n}e{exponent}") };
        }
        let suffix = DECIMAL.iter().find(|(_, e)| *e == exponent).map_or("", |(s, _)| s);
        write!(f, "{n}{suffix}")
    }
}

impl FromStr for Quantity {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Quantity, ParseError> {
        parse(s)
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Quantity) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Quantity) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

impl std::ops::Add for Quantity {
    type Output = Quantity;
    /// In the format of `self` unless that is zero, as upstream.
    fn add(self, other: Quantity) -> Quantity {
        let format = if self.is_zero() { other.format } else { self.format };
        Quantity { nano: self.nano.saturating_add(other.nano).clamp(-MAX, MAX), format }
    }
}

impl std::ops::Neg for Quantity {
    type Output = Quantity;
    fn neg(self) -> Quantity {
        Quantity { nano: -self.nano, ..self }
    }
}

impl std::ops::Sub for Quantity {
    type Output = Quantity;
    fn sub(self, other: Quantity) -> Quantity {
        self + -other
    }
}

impl std::ops::AddAssign for Quantity {
    fn add_assign(&mut self, other: Quantity) {
        *self = *self + other;
    }
}

impl std::ops::SubAssign for Quantity {
    fn sub_assign(&mut self, other: Quantity) {
        *self = *self - other;
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Quantity>>(items: I) -> Quantity {
        items.fold(Quantity::ZERO, |a, b| a + b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn canonical_texts() {
        for (text, want) in [
            ("0", "0"),
            ("00", "0"),
            ("-0", "0"),
            ("0.0Ki", "0"),
            ("0e5", "0"),
            ("1", "1"),
            ("+1", "1"),
            ("-1", "-1"),
            ("1.0", "1"),
            (".5", "500m"),
            ("5.", "5"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("0.1", "100m"),
            ("1.5", "1500m"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("1234567", "1234567"),
            ("1000000", "1M"),
            ("1.5k", "1500"),
            ("1Ki", "1Ki"),
            ("1024Ki", "1Mi"),
            ("1.5Gi", "1536Mi"),
            ("0.5Ki", "512"),
            ("1000Ki", "1000Ki"),
            ("0.5Mi", "512Ki"),
            ("0.0001Ki", "102400u"),
            ("1500.5Ki", "1536512"),
            ("1.1Ki", "1126400m"),
            ("12e6", "12e6"),
            ("12E6", "12e6"),
            ("12e5", "1200e3"),
            ("1e-3", "1e-3"),
            ("1e0", "1"),
            ("1.5e3", "1500"),
            ("1E", "1E"),
            ("1Ei", "1Ei"),
            ("1n", "1n"),
            ("1u", "1u"),
            ("1000n", "1u"),
            ("0.1n", "1n"),
            ("1.0000000001", "1000000001n"),
            ("-0.1n", "-1n"),
            ("10E", "9223372036854775807"),
            ("1000000000000000000000000000000000000000000", "9223372036854775807"),
            ("16Ei", "9223372036854775807"),
            ("1e1000000", "9223372036854775807"),
            ("1e-1000000", "1e-9"),
            ("0.00000000000000000000000000000000000000001", "1n"),
        ] {
            let q = Quantity::parse(text);
            assert_eq!(q.map(|q| q.to_string()).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn faults() {
        use ParseError::*;
        for (text, why) in [
            ("", Format),
            ("a", Format),
            (" 1", Format),
            ("1 ", Format),
            ("1 Ki", Format),
            ("--1", Format),
            (".", Format),
            ("1.2.3", Format),
            ("1x", Format),
            ("1Kix", Format),
            ("ä", Format),
            ("-", Format),
            ("1K", Suffix),
            ("1ki", Suffix),
            ("1mi", Suffix),
            ("1e", Suffix),
            ("1e+", Suffix),
            ("1KK", Suffix),
            ("1e1.5", Format),
            ("1m5", Suffix),
        ] {
            assert_eq!(Quantity::parse(text), Err(why), "{text:?}");
        }
    }

    #[test]
    fn rounding_goes_away_from_zero() {
        for (text, value, milli) in [
            ("1", 1, 1000),
            ("100m", 1, 100),
            ("1n", 1, 1),
            ("-100m", -1, -100),
            ("1001m", 2, 1001),
            ("1Ki", 1024, 1024000),
            ("8Ei", i64::MAX, i64::MAX),
            ("-1n", -1, -1),
            ("2500u", 1, 3),
        ] {
            let q: Quantity = text.parse().expect(text);
            assert_eq!((q.value(), q.milli_value()), (value, milli), "{text}");
        }
    }

    #[test]
    fn sums_keep_the_first_format() {
        let q = |t: &str| t.parse::<Quantity>().expect(t);
        assert_eq!((q("1Gi") + q("1")).to_string(), "1073741825");
        assert_eq!((q("1Gi") + q("1Mi")).to_string(), "1025Mi");
        assert_eq!((q("0") + q("1Mi")).to_string(), "1Mi");
        assert_eq!((q("1") - q("100m")).to_string(), "900m");
        assert_eq!([q("1"), q("2Ki")].into_iter().sum::<Quantity>().value(), 2049);
        assert!(q("1Ki") > q("1k"));
        assert_eq!(q("1000m"), q("1"));
    }

    fn texts() -> impl proptest::strategy::Strategy<Value = String> {
        "[+-]?[0-9]{1,12}(\\.[0-9]{0,6})?(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|e-?[0-9]|)"
    }

    proptest! {
        #[test]
        fn canonical_text_round_trips(text in texts()) {
            let q = Quantity::parse(&text).expect("a quantity");
            let again = Quantity::parse(&q.to_string()).expect("canonical text");
            prop_assert_eq!(q, again);
            prop_assert_eq!(q.to_string(), again.to_string());
        }

        #[test]
        fn arithmetic_is_exact(a in -1_000_000_000i64..1_000_000_000, b in -1_000_000_000i64..1_000_000_000) {
            let (x, y) = (Quantity::milli(a), Quantity::milli(b));
            prop_assert_eq!((x + y).milli_value(), a + b);
            prop_assert_eq!((x - y).milli_value(), a - b);
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,12}") {
            let _ = Quantity::parse(&text).map(|q| q.to_string());
        }
    }
}
