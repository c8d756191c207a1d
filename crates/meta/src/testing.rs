//! Generators that the property tests of this crate share.

use proptest::prelude::*;
use serde_json::{Map, Value};

/// Any JSON value without nulls, nested a few levels, over few keys so that two values meet.
pub fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (-3i64..4).prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec(("[a-d]", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<String, Value>>())),
        ]
    })
}

pub fn json_object() -> impl Strategy<Value = Value> {
    prop::collection::vec(("[a-d]", json_value()), 0..4)
        .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<String, Value>>()))
}
