//! What a kind *means*, beyond its structure: the hooks that the generic engine calls, in this order.
//!
//! create: decode → [`Strategy::defaults`] → [`Strategy::prepare_create`] → admission (mutating) →
//!         defaults → [`Strategy::validate_create`] → admission (validating) → commit
//! update: decode → defaults → [`Strategy::prepare_update`] → admission → [`Strategy::validate_update`] → commit
//!
//! The engine itself does what all kinds share: ObjectMeta (uid, creationTimestamp, generation, name rules),
//! resourceVersion, managedFields, finalizers and deletion.

use meta::field::Errors;
use serde_json::Value;
use std::borrow::Cow;

/// Which rule `metadata.name` follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain, at most 253 characters. Most kinds.
    Subdomain,
    /// RFC 1123 label, at most 63 (Namespace, and Service since relaxed validation).
    Label,
    /// Anything that is one path segment: not `.` or `..`, no `/` or `%` (RBAC kinds).
    PathSegment,
}

/// A column of a printed table. Texts of built-in kinds are constants, those of custom resources are owned.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: Cow<'static, str>,
    /// `string`, `integer`, `number`, `boolean`, `date`.
    pub kind: Cow<'static, str>,
    /// `name` for the Name column, else empty.
    pub format: Cow<'static, str>,
    pub about: About,
    /// 0 is shown always, 1 only with `-o wide`.
    pub priority: i32,
}

/// What a column shows.
#[derive(Clone, Debug, PartialEq)]
pub enum About {
    Text(Cow<'static, str>),
    /// A field, as `api.core.v1.PodStatus.podIP`; the text is OpenAPI's.
    Field(&'static str),
}

/// Where `scale` finds its numbers in an object: dotted paths, for example `spec.replicas`.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalePaths {
    pub spec_replicas: Cow<'static, str>,
    pub status_replicas: Cow<'static, str>,
    /// A LabelSelector, (ReplicationController) a plain map, or (custom resources) a string; empty where there is none.
    pub selector: Cow<'static, str>,
}

/// The metadata that clients may change at any time.
pub const METADATA: &[&str] = &["labels", "annotations", "finalizers", "ownerReferences"];

/// Now, as RFC 3339 in whole seconds, and the caller's clock for ages.
#[derive(Clone, Copy, Debug)]
pub struct Now(pub jiff::Timestamp);

/// The meaning of one kind. Every method has a sensible default, so a kind's file holds only what is special.
///
/// Objects are whole JSON objects that have been decoded against their type: no unknown fields, right JSON
/// types, non-pointer zero values dropped where Go's `omitempty` drops them.
pub trait Strategy: Send + Sync + 'static {
    /// Fills in upstream's defaults. Idempotent. Runs on every decode of a request body.
    fn defaults(&self, _obj: &mut Value) {}

    /// Drops what clients may not set on create, and sets what the server owns. The default clears `status`
    /// where the kind has a status subresource.
    fn prepare_create(&self, obj: &mut Value, has_status: bool) {
        if has_status && let Some(o) = obj.as_object_mut() {
            o.remove("status");
        }
    }

    /// As `prepare_create`, for a write to the main resource. The default keeps the old `status`
    /// where the kind has a status subresource.
    fn prepare_update(&self, new: &mut Value, old: &Value, has_status: bool) {
        if has_status && let Some(o) = new.as_object_mut() {
            match old.get("status") {
                Some(s) => o.insert("status".to_string(), s.clone()),
                None => o.remove("status"),
            };
        }
    }

    /// A write to `status`: everything else comes from the old object. The engine has already restored `spec`
    /// and every other top-level field but `metadata` and `status`.
    fn prepare_status_update(&self, _new: &mut Value, _old: &Value) {}

    /// Metadata that a write to `status` leaves as it is: [`METADATA`] where upstream has `ResetObjectMetaForStatus`.
    fn status_keeps(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether the garbage collector looks after such objects, so that a deletion can be told to wait for it.
    fn is_collected(&self) -> bool {
        true
    }

    /// What a kind puts on an object when its deletion is asked for the first time (CustomResourceDefinition's
    /// finalizer).
    fn prepare_delete(&self, _obj: &mut Value, _now: jiff::Timestamp) {}

    fn validate_create(&self, _obj: &Value, _errors: &mut Errors) {}

    /// Includes whatever of `validate_create` upstream repeats on update, plus immutability.
    fn validate_update(&self, _new: &Value, _old: &Value, _errors: &mut Errors) {}

    fn validate_status_update(&self, _new: &Value, _old: &Value, _errors: &mut Errors) {}

    /// A write to a subresource that changes a part of `spec` (`resize`, `ephemeralcontainers`, `finalize`, `approval`, `binding`).
    /// Everything outside that part is already as in the old object.
    fn validate_subresource_update(&self, _subresource: &str, _new: &Value, _old: &Value, _errors: &mut Errors) {}

    /// `Warning` headers; `old` is `None` on create.
    fn warnings(&self, _new: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    /// `Warning` headers for a new object as it comes, before [`Strategy::prepare_create`].
    fn arrival_warnings(&self, _new: &Value) -> Vec<String> {
        Vec::new()
    }

    /// `Warning` headers for a write to `status`.
    fn status_warnings(&self, _new: &Value, _old: &Value) -> Vec<String> {
        Vec::new()
    }

    /// What every client of this kind is told in a `Warning` header: that and why it should use another.
    fn deprecation(&self) -> Option<&str> {
        None
    }

    /// Fields for field selectors, beyond `metadata.name` and `metadata.namespace`, with this object's values
    /// (missing ones as the empty string, as upstream has it). Names and their order are the same for every object.
    fn selectable_fields(&self, _obj: &Value) -> Vec<(&str, String)> {
        Vec::new()
    }

    fn columns(&self) -> &[Column] {
        DEFAULT_COLUMNS
    }

    /// One cell per column, in order. Ages are strings like `5m`, `<unknown>` when missing.
    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        vec![obj["metadata"]["name"].clone(), crate::strategy::age(obj, now).into()]
    }

    /// What is to be said of the row as a whole; the only type there is, `Completed`, is of objects that are done.
    fn row_conditions(&self, _obj: &Value) -> Option<Value> {
        None
    }

    /// Rows of a printed list are sorted by this first, then by name.
    fn row_order(&self, _obj: &Value) -> i64 {
        0
    }

    fn name_rule(&self) -> NameRule {
        NameRule::Subdomain
    }

    /// Whether finalizers need no prefix: upstream asks for one of all kinds but custom resources and what defines them.
    fn free_finalizers(&self) -> bool {
        false
    }

    /// PUT of a missing object creates it (for example Lease, Endpoints, RBAC kinds, Node? no).
    fn allow_create_on_update(&self) -> bool {
        false
    }

    /// PUT without a resourceVersion is allowed.
    fn allow_unconditional_update(&self) -> bool {
        true
    }

    /// Whether `metadata.generation` is kept at all for this kind.
    fn has_generation(&self) -> bool {
        false
    }

    /// Whether this write bumps `metadata.generation`.
    fn bumps_generation(&self, new: &Value, old: &Value) -> bool {
        new.get("spec") != old.get("spec")
    }

    fn scale(&self) -> Option<ScalePaths> {
        None
    }

    /// When no `propagationPolicy` is asked for, dependents are orphaned (ReplicationController v1, Job v1
    /// over the old default); everything else is collected in the background.
    fn default_orphan(&self) -> bool {
        false
    }

    /// The OpenAPI v3 schema to publish, with its descriptions, where the type isn't built in: a custom
    /// resource's `openAPIV3Schema`.
    fn openapi_schema(&self) -> Option<std::sync::Arc<Value>> {
        None
    }

    /// Seconds that live objects are kept; only Events (3600).
    fn ttl_seconds(&self) -> Option<u64> {
        None
    }
}

pub const NAMED: &str = "apimachinery.pkg.apis.meta.v1.ObjectMeta.name";
pub const CREATED: &str = "apimachinery.pkg.apis.meta.v1.ObjectMeta.creationTimestamp";
/// Kinds with no printed columns of their own.
pub const DEFAULT_COLUMNS: &[Column] = &[NAME, AGE];
pub const NAME: Column = named("Name", 0, NAMED);
pub const AGE: Column = column_of("Age", "string", 0, CREATED);

/// A plain column: `column("Ready", "string", 0, "Whether it is ready.")`.
pub const fn column(name: &'static str, kind: &'static str, priority: i32, text: &'static str) -> Column {
    formatted(name, kind, "", priority, About::Text(Cow::Borrowed(text)))
}

/// A column that shows a field: `column_of("IP", "string", 1, "api.core.v1.PodStatus.podIP")`.
pub const fn column_of(name: &'static str, kind: &'static str, priority: i32, field: &'static str) -> Column {
    formatted(name, kind, "", priority, About::Field(field))
}

/// A column of names.
pub const fn named(name: &'static str, priority: i32, field: &'static str) -> Column {
    formatted(name, "string", "name", priority, About::Field(field))
}

const fn formatted(
    name: &'static str,
    kind: &'static str,
    format: &'static str,
    priority: i32,
    about: About,
) -> Column {
    Column { name: Cow::Borrowed(name), kind: Cow::Borrowed(kind), format: Cow::Borrowed(format), about, priority }
}

/// Age of an object as kubectl shows it (`HumanDuration`): `30s`, `5m`, `5m30s`, `3h`, `2d`, `1y`.
pub fn age(obj: &Value, now: Now) -> String {
    since(&obj["metadata"]["creationTimestamp"], now)
}

/// Time since an RFC 3339 value, or `<unknown>`.
pub fn since(timestamp: &Value, now: Now) -> String {
    match timestamp.as_str().and_then(|s| s.parse::<jiff::Timestamp>().ok()) {
        Some(t) => human_duration(now.0.as_second() - t.as_second()),
        None => "<unknown>".to_string(),
    }
}

/// Upstream's `duration.HumanDuration`.
pub fn human_duration(seconds: i64) -> String {
    let s = seconds;
    if s < -1 {
        return "<invalid>".to_string();
    }
    if s < 0 {
        return "0s".to_string();
    }
    let (m, h, d) = (s / 60, s / 3600, s / 86400);
    let two = |a: i64, ua: &str, b: i64, ub: &str| {
        if b == 0 { format!("{a}{ua}") } else { format!("{a}{ua}{b}{ub}") }
    };
    if s < 120 {
        format!("{s}s")
    } else if m < 10 {
        two(m, "m", s % 60, "s")
    } else if m < 180 {
        format!("{m}m")
    } else if h < 8 {
        two(h, "h", m % 60, "m")
    } else if h < 48 {
        format!("{h}h")
    } else if h < 24 * 8 {
        two(d, "d", h % 24, "h")
    } else if d < 365 * 2 {
        format!("{d}d")
    } else if d < 365 * 8 {
        two(d / 365, "y", d % 365, "d")
    } else {
        format!("{}y", d / 365)
    }
}
