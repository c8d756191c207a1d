//! Cells that several kinds print alike.

use crate::strategy::{CREATED, Column, NAME, Now, age, column, column_of};
use crate::validation::access::*;
use serde_json::{Value, json};

/// Kinds that upstream prints with its generic table.
pub const NAME_AND_CREATED: &[Column] = &[NAME, column_of("Created At", "date", 0, CREATED)];

/// Of a pod template.
pub const CONTAINERS: Column = column("Containers", "string", 1, "Names of the template's containers.");
pub const IMAGES: Column = column("Images", "string", 1, "Images of the template's containers.");

pub fn name_and_created(obj: &Value) -> Vec<Value> {
    vec![name(obj), at(obj, &["metadata", "creationTimestamp"]).clone()]
}

/// `metadata.name`
pub fn name(obj: &Value) -> Value {
    json!(text_at(obj, &["metadata", "name"]))
}

pub fn age_cell(obj: &Value, now: Now) -> Value {
    json!(age(obj, now))
}

/// The text, or `<none>`.
pub fn or_none(s: &str) -> Value {
    if s.is_empty() { json!("<none>") } else { json!(s) }
}

pub fn or_unset(v: &Value) -> Value {
    match v {
        Value::Null => json!("<unset>"),
        Value::Bool(b) => json!(if *b { "True" } else { "False" }),
        other => other.clone(),
    }
}

pub fn number(v: &Value, key: &str) -> Value {
    json!(int(v, key).unwrap_or(0))
}

/// Names and images of a pod spec's containers, each joined by commas.
pub fn containers_and_images(pod_spec: &Value) -> [Value; 2] {
    let all = list(pod_spec, "containers");
    let join = |key| all.iter().map(|c| text(c, key)).collect::<Vec<_>>().join(",");
    [json!(join("name")), json!(join("image"))]
}

/// `a=b,c=d`, or `<none>`.
pub fn labels(map: &Value) -> Value {
    let all: Vec<String> =
        map.as_object().into_iter().flatten().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or(""))).collect();
    or_none(&all.join(","))
}

/// At most `max` items, then ` + N more...`.
pub fn at_most(items: &[String], max: usize, empty: &str) -> String {
    match items.len() {
        0 => empty.to_string(),
        n if n > max => format!("{} + {} more...", items[..max].join(","), n - max),
        _ => items.join(","),
    }
}

/// `RWO,ROX`, without repeats and in upstream's order.
pub fn access_modes(modes: &[&str]) -> String {
    [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")]
        .iter()
        .filter(|(long, _)| modes.contains(long))
        .map(|m| m.1)
        .collect::<Vec<_>>()
        .join(",")
}
