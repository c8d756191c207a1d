//! Resource quantities of typed objects as integers. What isn't a quantity counts as nothing: the API server has
//! checked what it let in.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// Thousandths of the unit, rounded up; `None` where the text isn't a quantity.
pub fn parse_milli(text: &str) -> Option<i64> {
    parsed(text).map(|q| q.milli_value())
}

fn parsed(text: &str) -> Option<meta::quantity::Quantity> {
    meta::quantity::Quantity::parse(text).ok()
}

pub fn milli(q: &Quantity) -> i64 {
    parse_milli(&q.0).unwrap_or(0)
}

/// Whole units, rounded up.
pub fn value(q: &Quantity) -> i64 {
    parsed(&q.0).map_or(0, |q| q.value())
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
            ("0.1m", Some(1)),
            ("64Mi", Some(67_108_864_000)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("", None),
            ("1Xi", None),
        ] {
            assert_eq!(parse_milli(text), want, "{text}");
        }
        assert_eq!(value(&Quantity("1500m".into())), 2);
        // More than thousandths can hold.
        assert_eq!(value(&Quantity("16Pi".into())), 16 << 50);
        assert_eq!(value(&Quantity("x".into())), 0);
    }
}
