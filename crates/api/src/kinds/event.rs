//! Events, in both their shapes: core/v1 and events.k8s.io/v1 (where fields have other names).

use crate::strategy::{Column, NAMED, NameRule, Now, Strategy, column_of, named, since};
use crate::validation::access::*;
use crate::validation::values;
use meta::field::{Errors, Path};
use serde_json::{Value, json};

/// core/v1
pub struct Event;
/// events.k8s.io/v1
pub struct EventsEvent;

/// How long an event is kept, in seconds.
const TTL_SECONDS: u64 = 3600;

const COLUMNS: &[Column] = &[
    column_of("Last Seen", "string", 0, "api.core.v1.Event.lastTimestamp"),
    column_of("Type", "string", 0, "api.core.v1.Event.type"),
    column_of("Reason", "string", 0, "api.core.v1.Event.reason"),
    column_of("Object", "string", 0, "api.core.v1.Event.involvedObject"),
    column_of("Subobject", "string", 1, "api.core.v1.ObjectReference.fieldPath"),
    column_of("Source", "string", 1, "api.core.v1.Event.source"),
    column_of("Message", "string", 0, "api.core.v1.Event.message"),
    column_of("First Seen", "string", 1, "api.core.v1.Event.firstTimestamp"),
    column_of("Count", "string", 1, "api.core.v1.Event.count"),
    named("Name", 1, NAMED),
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
        fn is_collected(&self) -> bool {
            false
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
        any_event(obj, "reportingComponent", errors);
    }

    fn validate_update(&self, new: &Value, _old: &Value, errors: &mut Errors) {
        any_event(new, "reportingComponent", errors);
    }

    // Named after what they are about, and that may be a ClusterRole. Upstream asks no more of the metadata.
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn free_finalizers(&self) -> bool {
        true
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        let source = match text(source(obj), "component") {
            "" => controller(obj),
            s => s,
        };
        let mut fields: Vec<_> = FIELDS.iter().map(|f| f.0).zip(values(obj)).collect();
        fields.push(("source", source.to_string()));
        fields
    }

    shared!();
}

impl Strategy for EventsEvent {
    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        any_event(obj, "reportingController", errors);
        series(obj, errors);
        if !has(obj, "eventTime") {
            errors.required(Path::new("eventTime"), "");
        }
        let kind = text(obj, "type");
        if !["Normal", "Warning"].contains(&kind) {
            errors.invalid(Path::new("type"), "", format!("has invalid value: {kind}"));
        }
        // Fields of the old kind, by their old names.
        for (key, shown) in [
            ("deprecatedFirstTimestamp", "firstTimestamp"),
            ("deprecatedLastTimestamp", "lastTimestamp"),
            ("deprecatedCount", "count"),
            ("deprecatedSource", "source"),
        ] {
            if !is_zero(field(obj, key)) {
                errors.invalid(Path::new(shown), "", "needs to be unset");
            }
        }
    }

    // Only the series may grow.
    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        any_event(new, "reportingController", errors);
        if !same(field(new, "series"), field(old, "series")) {
            series(new, errors);
        }
        for (key, shown) in [
            ("regarding", "involvedObject"),
            ("reason", "reason"),
            ("note", "message"),
            ("deprecatedSource", "source"),
            ("deprecatedFirstTimestamp", "firstTimestamp"),
            ("deprecatedLastTimestamp", "lastTimestamp"),
            ("deprecatedCount", "count"),
            ("type", "type"),
            ("eventTime", "eventTime"),
            ("action", "action"),
            ("related", "related"),
            ("reportingController", "reportingController"),
            ("reportingInstance", "reportingInstance"),
        ] {
            values::immutable(field(new, key), field(old, key), Path::new(shown), errors);
        }
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        FIELDS.iter().map(|f| f.1).zip(values(obj)).collect()
    }

    shared!();
}

/// What both kinds of events share (`legacyValidateEvent`). Those of today have an `eventTime`, and must say more.
fn any_event(obj: &Value, controller_key: &str, errors: &mut Errors) {
    let own = text_at(obj, &["metadata", "namespace"]);
    let of = text(object(obj), "namespace");
    let modern = has(obj, "eventTime");
    // Things outside of namespaces have their events in `default`.
    let fits = match (modern, of.is_empty()) {
        (false, true) => own.is_empty() || own == "default",
        (false, false) => own == of,
        (true, true) => own == "default" || own == "kube-system",
        (true, false) => true,
    };
    if !fits {
        errors.invalid(Path::new("involvedObject.namespace"), of, "does not match event.namespace");
    }
    if modern {
        reporting(obj, controller_key, errors);
    }
    values::each(errors, &Path::new("namespace"), own, meta::names::dns1123_subdomain(own));
}

fn series(obj: &Value, errors: &mut Errors) {
    let series = field(obj, "series");
    if series.is_null() {
        return;
    }
    if int(series, "count").unwrap_or(0) < 2 {
        errors.invalid(Path::new("series.count"), "", "should be at least 2");
    }
    if !has(series, "lastObservedTime") {
        errors.required(Path::new("series.lastObservedTime"), "");
    }
}

fn reporting(obj: &Value, controller_key: &str, errors: &mut Errors) {
    const WORD_BYTES_MAX: usize = 128;
    const NOTE_BYTES_MAX: usize = 1024;
    let (by, p) = (text(obj, controller_key), Path::new(controller_key));
    if by.is_empty() {
        errors.required(p.clone(), "");
    }
    values::qualified_name(by, &p, errors);
    let short = |key: &str, value: &str, max: usize, errors: &mut Errors| {
        if value.len() > max {
            errors.invalid(Path::new(key), "", format!("can have at most {max} characters"));
        }
    };
    for key in ["reportingInstance", "action", "reason"] {
        if text(obj, key).is_empty() {
            errors.required(Path::new(key), "");
        }
        short(key, text(obj, key), WORD_BYTES_MAX, errors);
    }
    let note = either(obj, "message", "note").as_str().unwrap_or("");
    short("message", note, NOTE_BYTES_MAX, errors);
}

fn source(obj: &Value) -> &Value {
    either(obj, "source", "deprecatedSource")
}

fn controller(obj: &Value) -> &str {
    either(obj, "reportingComponent", "reportingController").as_str().unwrap_or("")
}

/// What selectors may look at, by core's names and by those of events.k8s.io. Selectors go by position, so both lists
/// have one order; core has `source` after them.
const FIELDS: [(&str, &str); 10] = [
    ("involvedObject.kind", "regarding.kind"),
    ("involvedObject.namespace", "regarding.namespace"),
    ("involvedObject.name", "regarding.name"),
    ("involvedObject.uid", "regarding.uid"),
    ("involvedObject.apiVersion", "regarding.apiVersion"),
    ("involvedObject.resourceVersion", "regarding.resourceVersion"),
    ("involvedObject.fieldPath", "regarding.fieldPath"),
    ("reason", "reason"),
    ("reportingComponent", "reportingController"),
    ("type", "type"),
];

fn values(obj: &Value) -> [String; FIELDS.len()] {
    let o = object(obj);
    [
        text(o, "kind"),
        text(o, "namespace"),
        text(o, "name"),
        text(o, "uid"),
        text(o, "apiVersion"),
        text(o, "resourceVersion"),
        text(o, "fieldPath"),
        text(obj, "reason"),
        controller(obj),
        text(obj, "type"),
    ]
    .map(str::to_string)
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
