//! Events, in both their shapes: core/v1 and events.k8s.io/v1 (where fields have other names).

use crate::strategy::{Column, Now, Strategy, column, since};
use crate::validation::access::*;
use crate::validation::values;
use meta::field::{Errors, Path};
use serde_json::{Value, json};
use std::borrow::Cow;

/// core/v1
pub struct Event;
/// events.k8s.io/v1
pub struct EventsEvent;

/// How long an event is kept, in seconds.
const TTL_SECONDS: u64 = 3600;

const COLUMNS: &[Column] = &[
    column("Last Seen", "string", 0),
    column("Type", "string", 0),
    column("Reason", "string", 0),
    column("Object", "string", 0),
    column("Subobject", "string", 1),
    column("Source", "string", 1),
    column("Message", "string", 0),
    column("First Seen", "string", 1),
    column("Count", "string", 1),
    Column {
        name: Cow::Borrowed("Name"),
        kind: Cow::Borrowed("string"),
        format: Cow::Borrowed("name"),
        description: Cow::Borrowed(""),
        priority: 1,
    },
];

/// The field under its core name or its events.k8s.io name.
fn either<'a>(obj: &'a Value, core: &str, new: &str) -> &'a Value {
    if has(obj, core) { field(obj, core) } else { field(obj, new) }
}

fn object(obj: &Value) -> &Value {
    either(obj, "involvedObject", "regarding")
}

macro_rules! shared {
    () => {
        fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
            fields(obj)
        }

        fn columns(&self) -> &'static [Column] {
            COLUMNS
        }

        fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
            row(obj, now)
        }

        fn allow_create_on_update(&self) -> bool {
            true
        }

        fn ttl_seconds(&self) -> Option<u64> {
            Some(TTL_SECONDS)
        }
    };
}

impl Strategy for Event {
    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        namespace(obj, "involvedObject", errors);
        // Events of the new kind, sent in the old shape, follow part of the new rules.
        if has(obj, "eventTime") {
            reporting(obj, "reportingComponent", errors);
        }
    }

    fn validate_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        self.validate_create(new, errors);
    }

    shared!();
}

impl Strategy for EventsEvent {
    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        namespace(obj, "regarding", errors);
        if !has(obj, "eventTime") {
            errors.required(Path::new("eventTime"), "");
        }
        reporting(obj, "reportingController", errors);
        if text(obj, "note").len() > 1024 {
            errors.invalid(Path::new("note"), "", "can have at most 1024 characters");
        }
        for key in ["deprecatedFirstTimestamp", "deprecatedLastTimestamp"] {
            if has(obj, key) {
                let p = Path::new(match key {
                    "deprecatedFirstTimestamp" => "firstTimestamp",
                    _ => "lastTimestamp",
                });
                errors.invalid(p, field(obj, key).clone(), "needs to be unset");
            }
        }
        if int(obj, "deprecatedCount").is_some_and(|n| n != 0) {
            errors.invalid(Path::new("count"), field(obj, "deprecatedCount").clone(), "needs to be unset");
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        // Only the series may grow.
        for key in [
            "eventTime",
            "reportingController",
            "reportingInstance",
            "action",
            "reason",
            "regarding",
            "related",
            "note",
            "type",
        ] {
            let p = match key {
                "regarding" => "involvedObject",
                "note" => "message",
                k => k,
            };
            values::immutable(field(new, key), field(old, key), Path::new(p), errors);
        }
    }

    shared!();
}

fn namespace(obj: &Value, key: &str, errors: &mut Errors) {
    let own = text_at(obj, &["metadata", "namespace"]);
    let of = text(field(obj, key), "namespace");
    if of.is_empty() {
        // Things outside of namespaces have their events in `default`.
        if own != "default" && own != "kube-system" && !own.is_empty() {
            errors.invalid(Path::new("involvedObject.namespace"), of, "does not match event.namespace");
        }
    } else if of != own {
        errors.invalid(Path::new("involvedObject.namespace"), of, "does not match event.namespace");
    }
}

fn reporting(obj: &Value, controller_key: &str, errors: &mut Errors) {
    let controller = text(obj, controller_key);
    let p = Path::new("reportingController");
    if controller.is_empty() {
        errors.required(p, "");
    } else {
        values::qualified_name(controller, &p, errors);
    }
    for (key, required) in [("reportingInstance", true), ("action", true), ("reason", true)] {
        let v = text(obj, key);
        if v.is_empty() && required {
            errors.required(Path::new(key), "");
        } else if v.len() > 128 {
            errors.invalid(Path::new(key), "", "can have at most 128 characters");
        }
    }
    match text(obj, "type") {
        "" => errors.required(Path::new("type"), ""),
        "Normal" | "Warning" => {}
        other => errors.invalid(Path::new("type"), "", format!("has invalid value: {other}")),
    }
}

fn source(obj: &Value) -> &Value {
    either(obj, "source", "deprecatedSource")
}

fn controller(obj: &Value) -> &str {
    either(obj, "reportingComponent", "reportingController").as_str().unwrap_or("")
}

fn fields(obj: &Value) -> Vec<(&'static str, String)> {
    let o = object(obj);
    let source = match text(source(obj), "component") {
        "" => controller(obj),
        s => s,
    };
    vec![
        ("involvedObject.kind", text(o, "kind").to_string()),
        ("involvedObject.namespace", text(o, "namespace").to_string()),
        ("involvedObject.name", text(o, "name").to_string()),
        ("involvedObject.uid", text(o, "uid").to_string()),
        ("involvedObject.apiVersion", text(o, "apiVersion").to_string()),
        ("involvedObject.resourceVersion", text(o, "resourceVersion").to_string()),
        ("involvedObject.fieldPath", text(o, "fieldPath").to_string()),
        ("reason", text(obj, "reason").to_string()),
        ("reportingComponent", controller(obj).to_string()),
        ("source", source.to_string()),
        ("type", text(obj, "type").to_string()),
    ]
}

fn row(obj: &Value, now: Now) -> Vec<Value> {
    let first = either(obj, "firstTimestamp", "deprecatedFirstTimestamp");
    let last = either(obj, "lastTimestamp", "deprecatedLastTimestamp");
    let first_seen = if first.is_null() { since(field(obj, "eventTime"), now) } else { since(first, now) };
    let series = field(obj, "series");
    let mut last_seen = if last.is_null() { first_seen.clone() } else { since(last, now) };
    let mut count = either(obj, "count", "deprecatedCount").as_i64().unwrap_or(0);
    if !series.is_null() {
        last_seen = since(field(series, "lastObservedTime"), now);
        count = int(series, "count").unwrap_or(0);
    } else if count == 0 {
        count = 1;
    }
    let o = object(obj);
    let kind = text(o, "kind").to_lowercase();
    let target = match text(o, "name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let src = source(obj);
    let component = match text(src, "component") {
        "" => controller(obj),
        c => c,
    };
    let host = match text(src, "host") {
        "" => text(obj, "reportingInstance"),
        h => h,
    };
    let from = if host.is_empty() { component.to_string() } else { format!("{component}, {host}") };
    vec![
        json!(last_seen),
        json!(text(obj, "type")),
        json!(text(obj, "reason")),
        json!(target),
        json!(text(o, "fieldPath")),
        json!(from),
        json!(either(obj, "message", "note").as_str().unwrap_or("").trim()),
        json!(first_seen),
        json!(count),
        json!(text_at(obj, &["metadata", "name"])),
    ]
}
