//! What a version of a custom resource means to the engine.

use super::compiled::Compiled;
use super::jsonpath::JsonPath;
use super::{Version, default, embedded, validate};
use crate::strategy::{About, CREATED, Column, METADATA, NAME, Now, ScalePaths, Strategy, column_of, since};
use crate::validation::objectmeta;
use meta::field::{Errors, Path, Reason, go_float};
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;

impl Strategy for Version {
    fn status_keeps(&self) -> &'static [&'static str] {
        METADATA
    }

    fn defaults(&self, obj: &mut Value) {
        default::default(obj, &self.schema.compiled().schema);
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        // Unlike those of built-in kinds, labels and annotations stay as they are, too.
        let (status, fields) = (new.get("status").cloned(), new["metadata"].get("managedFields").cloned());
        *new = old.clone();
        set(new, "status", status);
        set(&mut new["metadata"], "managedFields", fields);
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        self.validate(obj, None, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate(new, Some(old), errors);
    }

    /// Of the schema only what it says of `status` is asked, and embedded objects aren't looked at.
    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let compiled = self.schema.compiled();
        if let (Some(schema), Some(status)) = (compiled.schema.properties.get("status"), new.get("status")) {
            validate::validate(schema, status, old.get("status"), &Path::new("status"), errors);
        }
        self.validate_scale_status(new, errors);
        self.validate_lists_and_rules(&compiled, new, Some(old), errors);
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, old: &Value, errors: &mut Errors) {
        self.validate(new, Some(old), errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        objectmeta::finalizer_warnings(new, old)
    }

    fn deprecation(&self) -> Option<&str> {
        self.deprecation.as_deref()
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&str, String)> {
        self.selectable
            .iter()
            .map(|(name, path)| {
                let found = path.as_ref().and_then(|p| p.find(obj).first().map(|v| text(v)));
                (name.as_str(), found.unwrap_or_default())
            })
            .collect()
    }

    fn columns(&self) -> &[Column] {
        &self.columns
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let mut out = vec![obj["metadata"]["name"].clone()];
        for (column, path) in self.columns.iter().skip(1).zip(&self.cells) {
            let found = path.as_ref().and_then(|p| p.find(obj).first().copied());
            out.push(found.map_or(Value::Null, |v| cell(&column.kind, v, now)));
        }
        out
    }

    /// A client that doesn't say which version it saw would overwrite blindly.
    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn free_finalizers(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        true
    }

    /// Everything but metadata counts; with a status subresource, status is as before when this is asked.
    fn bumps_generation(&self, new: &Value, old: &Value) -> bool {
        let relevant = |v: &Value| -> Vec<(String, Value)> {
            let o = v.as_object().into_iter().flatten();
            o.filter(|(k, _)| *k != "metadata").map(|(k, v)| (k.clone(), v.clone())).collect()
        };
        relevant(new) != relevant(old)
    }

    fn scale(&self) -> Option<ScalePaths> {
        self.scale.clone()
    }

    fn openapi_schema(&self) -> Option<Arc<Value>> {
        Some(Arc::new(self.schema.value()))
    }
}

fn set(target: &mut Value, key: &str, value: Option<Value>) {
    if let Some(o) = target.as_object_mut() {
        match value {
            Some(v) => o.insert(key.to_string(), v),
            None => o.remove(key),
        };
    }
}

impl Version {
    fn validate(&self, new: &Value, old: Option<&Value>, errors: &mut Errors) {
        let compiled = self.schema.compiled();
        validate::validate(&compiled.schema, new, old, &Path::root(), errors);
        if let Some(scale) = &self.scale {
            replicas(new, &scale.spec_replicas, errors);
        }
        self.validate_scale_status(new, errors);
        embedded::validate(&compiled.schema, new, errors);
        self.validate_lists_and_rules(&compiled, new, old, errors);
    }

    fn validate_lists_and_rules(&self, compiled: &Compiled, new: &Value, old: Option<&Value>, errors: &mut Errors) {
        // What was ambiguous already may stay so.
        let sound_before = old.is_none_or(|o| {
            let mut found = Errors::default();
            validate::keyed_lists(&compiled.schema, o, &Path::root(), &mut found);
            found.is_empty()
        });
        if sound_before {
            validate::keyed_lists(&compiled.schema, new, &Path::root(), errors);
        }
        let Some(rules) = self.schema.rules(compiled) else { return };
        let blocking = errors.0.iter().any(|e| {
            matches!(
                e.reason,
                Reason::NotSupported | Reason::Required | Reason::TooLong | Reason::TooMany | Reason::TypeInvalid
            )
        });
        if blocking {
            errors.invalid(
                Path::root(),
                Value::Null,
                "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
            );
        } else {
            rules.validate(&compiled.schema, new, old, errors);
        }
    }

    fn validate_scale_status(&self, obj: &Value, errors: &mut Errors) {
        let Some(scale) = &self.scale else { return };
        replicas(obj, &scale.status_replicas, errors);
        if let Err(why) = nested(obj, &scale.selector, "string", Value::is_string) {
            errors.invalid(Path::new(&format!(".{}", scale.selector)), "", why);
        }
    }
}

/// A count of replicas, where one is given. Paths are told as the definition has them, with a dot first.
fn replicas(obj: &Value, path: &str, errors: &mut Errors) {
    let at = Path::new(&format!(".{path}"));
    match nested(obj, path, "int64", Value::is_i64).map(|v| v.and_then(Value::as_i64)) {
        Err(why) => errors.invalid(at, 0, why),
        Ok(Some(n)) if n < 0 => errors.invalid(at, n, "should be a non-negative integer"),
        Ok(Some(n)) if n > i64::from(i32::MAX) => {
            errors.invalid(at, n, format!("should be less than or equal to {}", i32::MAX));
        }
        Ok(_) => {}
    }
}

/// Whether an object has the replicas of its Scale. The error says which field isn't what the Scale needs.
pub fn has_replicas(obj: &Value, paths: &ScalePaths) -> Result<bool, String> {
    let found = nested(obj, &paths.spec_replicas, "int64", Value::is_i64)?.is_some();
    nested(obj, &paths.status_replicas, "int64", Value::is_i64)?;
    nested(obj, &paths.selector, "string", Value::is_string)?;
    Ok(found)
}

/// A field by its path (upstream's `unstructured.Nested…`); `None` where there is none.
fn nested<'v>(obj: &'v Value, path: &str, wanted: &str, fits: fn(&Value) -> bool) -> Result<Option<&'v Value>, String> {
    if path.is_empty() {
        return Ok(None);
    }
    let wrong = |at: &str, v: &Value, wanted: &str| {
        let (shown, kind) = go_value(v);
        format!(".{at} accessor error: {shown} is of the type {kind}, expected {wanted}")
    };
    let (mut value, mut walked) = (obj, 0);
    for step in path.split('.') {
        walked += step.len();
        value = match value {
            Value::Null => return Ok(None),
            Value::Object(map) => match map.get(step) {
                Some(v) => v,
                None => return Ok(None),
            },
            other => return Err(wrong(&path[..walked], other, "map[string]interface {}")),
        };
        walked += 1;
    }
    if fits(value) { Ok(Some(value)) } else { Err(wrong(path, value, wanted)) }
}

/// A value and its type as Go prints them.
fn go_value(v: &Value) -> (String, &'static str) {
    match v {
        Value::Null => ("<nil>".into(), "<nil>"),
        Value::Bool(b) => (b.to_string(), "bool"),
        Value::Number(n) if n.is_i64() => (n.to_string(), "int64"),
        Value::Number(n) => (go_float(n.as_f64().unwrap_or_default()), "float64"),
        Value::String(s) => (s.clone(), "string"),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|i| go_value(i).0).collect();
            (format!("[{}]", items.join(" ")), "[]interface {}")
        }
        Value::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", go_value(v).0)).collect();
            (format!("map[{}]", pairs.join(" ")), "map[string]interface {}")
        }
    }
}

/// The columns of a table, the name first, and where the others find their cells.
pub(super) fn columns(declared: &Value) -> (Vec<Column>, Vec<Option<JsonPath>>) {
    let (mut columns, mut cells) = (vec![NAME], Vec::new());
    let declared = declared.as_array().map(Vec::as_slice).unwrap_or_default();
    if declared.is_empty() {
        columns.push(column_of("Age", "date", 0, CREATED));
        cells.push(JsonPath::parse(".metadata.creationTimestamp").ok());
    }
    for c in declared {
        let text = |key: &str| Cow::Owned(c[key].as_str().unwrap_or("").to_string());
        let path = c["jsonPath"].as_str().unwrap_or("");
        let description = match c["description"].as_str().unwrap_or("") {
            "" => format!("Custom resource definition column (in JSONPath format): {path}"),
            given => given.to_string(),
        };
        columns.push(Column {
            name: text("name"),
            kind: text("type"),
            format: text("format"),
            about: About::Text(description.into()),
            priority: c["priority"].as_i64().unwrap_or(0) as i32,
        });
        cells.push(JsonPath::parse(path).ok());
    }
    (columns, cells)
}

/// A value as a cell of a column's type; null where it isn't of that type.
fn cell(kind: &str, value: &Value, now: Now) -> Value {
    match (kind, value) {
        ("string", v) => text(v).into(),
        ("integer", Value::Number(n)) => n.as_i64().or(n.as_f64().map(|f| f as i64)).into(),
        ("number", Value::Number(n)) => n.as_f64().into(),
        ("boolean", Value::Bool(b)) => (*b).into(),
        ("date", Value::String(s)) if s.is_empty() => "<unknown>".into(),
        ("date", Value::String(s)) => match s.parse::<jiff::Timestamp>() {
            Ok(_) => since(value, now).into(),
            Err(_) => "<invalid>".into(),
        },
        _ => Value::Null,
    }
}

fn text(v: &Value) -> String {
    match v {
        Value::String(s) => s.clone(),
        Value::Number(n) if n.is_f64() => go_float(n.as_f64().unwrap_or_default()),
        other => other.to_string(),
    }
}
