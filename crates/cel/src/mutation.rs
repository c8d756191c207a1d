//! Types that mutations construct: `Object{spec: Object.spec{...}}` and `JSONPatch{op: ...}` (KEP-3962).

use crate::types::{Provider, Type};
use crate::value::{List, Map, Struct, Value};

pub const OBJECT: &str = "Object";
pub const JSON_PATCH: &str = "JSONPatch";

pub fn constructible(name: &str) -> bool {
    name == JSON_PATCH || name == OBJECT || name.starts_with("Object.")
}

pub struct MutationTypes;

impl Provider for MutationTypes {
    fn field(&self, type_name: &str, field: &str) -> Option<Option<Type>> {
        if type_name == JSON_PATCH {
            return Some(match field {
                "op" | "path" | "from" => Some(Type::String),
                "value" => Some(Type::Dyn),
                _ => None,
            });
        }
        // Fields are checked against the object's schema when the result is applied.
        constructible(type_name).then_some(Some(Type::Dyn))
    }
}

/// Types must be named like the place they are used at: `Object.spec` is what `spec` holds, items of a list are
/// named like the list. What the whole is called is for others to say.
pub fn check_names(value: &Struct<'_>) -> Result<(), String> {
    let mut wrong = Vec::new();
    check(value, &value.name, &mut wrong);
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

fn check(value: &Struct<'_>, expected: &str, wrong: &mut Vec<String>) {
    let given = &value.name;
    if **given != *expected {
        wrong.push(format!(
            "unexpected type name {given:?}, expected {expected:?}, which matches field name path from root Object type"
        ));
    }
    for (name, field) in &value.fields {
        check_value(field, &format!("{expected}.{name}"), wrong);
    }
}

fn check_value(value: &Value<'_>, path: &str, wrong: &mut Vec<String>) {
    match value {
        Value::Struct(s) => check(s, path, wrong),
        Value::List(List::Owned(items)) => items.iter().for_each(|item| check_value(item, path, wrong)),
        Value::Map(Map::Owned(entries)) => entries.values().for_each(|item| check_value(item, path, wrong)),
        Value::Optional(Some(v)) => check_value(v, path, wrong),
        _ => {}
    }
}
