//! Rows as paths with operations.

use super::definitions::{Definitions, Flavor};
use super::pieces::Pieces;
use api::catalogue::{Resource, Subresource};
use meta::schema::Shape;
use serde_json::{Map, Value, json};
use std::sync::Arc;

const BODIES: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
    "application/strategic-merge-patch+json",
];

/// The forms that a kind's bodies may have.
fn bodies(r: &Resource) -> &'static [&'static str] {
    // Protobuf goes by tables that custom resources don't have.
    if r.is_builtin() { &BODIES } else { &BODIES[..2] }
}

/// The forms that a kind's patches may have. Strategic merge goes by what is known of built-in types only; kubectl
/// believes what stands here.
fn patches(r: &Resource) -> &'static [&'static str] {
    if r.is_builtin() { &PATCHES } else { &PATCHES[..3] }
}

/// What a watch is answered in besides.
const STREAMS: [&str; 2] = ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];

/// Query parameters: name, type, what it is for.
type Parameter = (&'static str, &'static str, &'static str);

const PRETTY: Parameter = ("pretty", "string", "If 'true', the output is indented.");
const LIST: &[Parameter] = &[
    ("allowWatchBookmarks", "boolean", "Asks for BOOKMARK events in a watch."),
    ("continue", "string", "Where an earlier, limited list stopped."),
    ("fieldSelector", "string", "Restricts the list by fields."),
    ("labelSelector", "string", "Restricts the list by labels."),
    ("limit", "integer", "At most so many objects in one answer."),
    ("resourceVersion", "string", "The version that the answer must be as fresh as."),
    ("resourceVersionMatch", "string", "How resourceVersion is applied: Exact or NotOlderThan."),
    ("sendInitialEvents", "boolean", "Starts a watch with the objects that exist, then a bookmark."),
    ("timeoutSeconds", "integer", "Bounds the time of the call."),
    ("watch", "boolean", "Streams changes instead of returning a list."),
];
const WRITE: &[Parameter] = &[
    ("dryRun", "string", "'All' runs every step but the commit."),
    ("fieldManager", "string", "Who makes these changes; at most 128 printable characters."),
    ("fieldValidation", "string", "What to do with unknown and duplicate fields: Ignore, Warn or Strict."),
];
const FORCE: Parameter = ("force", "boolean", "Takes conflicting fields over; apply patches only.");
const DELETE: &[Parameter] = &[
    ("dryRun", "string", "'All' runs every step but the commit."),
    ("gracePeriodSeconds", "integer", "Seconds before the object is deleted; zero is at once."),
    (
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
        "Deletes an object that can't be read from storage, without its finalizers.",
    ),
    ("orphanDependents", "boolean", "Deprecated; propagationPolicy says more."),
    ("propagationPolicy", "string", "What becomes of dependents: Orphan, Background or Foreground."),
];

/// `api/v1`, `apis/apps/v1`
pub fn root(r: &Resource) -> String {
    if r.group.is_empty() { format!("api/{}", r.version) } else { format!("apis/{}/{}", r.group, r.version) }
}

/// `apps`, `core`, `rbacAuthorization`, `stableExampleCom`: a group as client generators' names have it.
fn group_id(r: &Resource) -> String {
    let group = if r.group.is_empty() { "core" } else { &r.group };
    let parts = group.strip_suffix(".k8s.io").unwrap_or(group).split(|c: char| !c.is_alphanumeric());
    let mut out = String::new();
    for part in parts {
        out.push_str(&if out.is_empty() { part.to_string() } else { capitalized(part) });
    }
    out
}

/// `AppsV1`, `CoreV1`, as operation ids have it.
fn group_version_id(r: &Resource) -> String {
    capitalized(&group_id(r)) + &capitalized(&r.version)
}

fn capitalized(s: &str) -> String {
    let mut chars = s.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// One operation, before it is written in the words of v2 or v3.
#[derive(Clone)]
struct Operation<'a> {
    /// HTTP method, lower case.
    method: &'static str,
    /// `x-kubernetes-action`
    action: &'static str,
    /// Start of the operation's id, and what follows its group and version.
    verb: (&'a str, &'a str),
    kind: (&'a str, &'a str, &'a str),
    query: Vec<Parameter>,
    body: Option<Value>,
    consumes: &'static [&'static str],
    /// `None` where plain text is answered.
    answer: Option<Value>,
    codes: &'static [(&'static str, &'static str)],
}

const OK: &[(&str, &str)] = &[("200", "OK")];
const OK_CREATED: &[(&str, &str)] = &[("200", "OK"), ("201", "Created")];
const OK_CREATED_ACCEPTED: &[(&str, &str)] = &[("200", "OK"), ("201", "Created"), ("202", "Accepted")];
const OK_ACCEPTED: &[(&str, &str)] = &[("200", "OK"), ("202", "Accepted")];

/// Paths that belong to no group; in version 3 each has a document of its own.
pub const ROOTS: [&str; 5] = ["api", "apis", "version", ".well-known/openid-configuration", "openid/v1/jwks"];

/// Adds the paths of discovery itself, as upstream's clients call them. `only`: the one that a document of version 3 is
/// about.
pub fn discovery(rows: &[Arc<Resource>], only: Option<&str>, defs: &mut Definitions, paths: &mut Pieces) {
    const VERSIONS: &str = "get available API versions";
    const KEYS: &str = "get the keys by which service account tokens are verified";
    const OPENID: &str = "get the OpenID configuration of the issuer of service account tokens";
    const CODE: &str = "get the version information for this server";
    let mut put = |path: &str, id: &str, tag: &str, text: &str, answer: &str| {
        if only.is_some_and(|only| only != path) {
            return;
        }
        let (schema, types): (_, &[&str]) = match (tag, answer) {
            ("version", name) => (defs.named(name), &BODIES[..1]),
            ("openid", _) => (json!({"type": "string"}), &["application/jwk-set+json"]),
            ("WellKnown", _) => (json!({"type": "string"}), &BODIES[..1]),
            (_, name) => (defs.meta(name), &BODIES),
        };
        let mut op = json!({"description": text, "operationId": id, "tags": [tag]});
        let ok = match defs.flavor {
            Flavor::V2 => {
                if !schema["$ref"].is_null() {
                    op["consumes"] = json!(types);
                }
                op["produces"] = json!(types);
                op["schemes"] = json!(["https"]);
                json!({"description": "OK", "schema": schema})
            }
            Flavor::V3 => {
                let content: Map<String, Value> =
                    types.iter().map(|t| (t.to_string(), json!({"schema": schema}))).collect();
                json!({"description": "OK", "content": content})
            }
        };
        op["responses"] = json!({"200": ok, "401": {"description": "Unauthorized"}});
        paths.insert(format!("/{path}/"), defs.form.path(&json!({"get": op})));
    };
    put("api", "getCoreAPIVersions", "core", VERSIONS, "APIVersions");
    put("apis", "getAPIVersions", "apis", VERSIONS, "APIGroupList");
    put("version", "getCodeVersion", "version", CODE, "apimachinery.pkg.version.Info");
    let id = "getServiceAccountIssuerOpenIDConfiguration";
    put(".well-known/openid-configuration", id, "WellKnown", OPENID, "");
    put("openid/v1/jwks", "getServiceAccountIssuerOpenIDKeyset", "openid", KEYS, "");
    // Custom resources are served by another part of upstream's server, which publishes no such paths.
    for r in rows.iter().filter(|r| r.is_builtin()) {
        let (group, id) = (group_id(r), capitalized(&group_id(r)));
        let version = &r.version;
        if !r.group.is_empty() {
            let path = format!("apis/{}", r.group);
            put(&path, &format!("get{id}APIGroup"), &group, "get information of a group", "APIGroup");
        }
        let (id, tag) = (format!("get{}APIResources", group_version_id(r)), format!("{group}_{version}"));
        put(&root(r), &id, &tag, "get available resources", "APIResourceList");
    }
}

/// Adds a row's paths.
pub fn add(r: &Resource, defs: &mut Definitions, paths: &mut Pieces) {
    let root = format!("/{}", root(r));
    let scope = if r.namespaced { format!("{root}/namespaces/{{namespace}}") } else { root.clone() };
    let collection = format!("{scope}/{}", r.plural);
    let item = format!("{collection}/{{name}}");
    let scoped = if r.namespaced { "Namespaced" } else { "" };

    let kind = (r.group.as_str(), r.version.as_str(), r.kind.as_str());
    let get = |action, verb, query: &[Parameter], answer| Operation {
        method: "get",
        action,
        verb: (verb, ""),
        kind,
        query: query.to_vec(),
        body: None,
        consumes: &[],
        answer: Some(answer),
        codes: OK,
    };

    let mut ops = Vec::new();
    if r.has_verb("list") {
        ops.push(get("list", "list", LIST, defs.list(r)));
    }
    if r.has_verb("create") {
        let object = defs.object(r);
        ops.push(write(r, "post", "create", kind, WRITE, object, OK_CREATED_ACCEPTED));
    }
    if r.has_verb("deletecollection") {
        let mut query = LIST.to_vec();
        query.retain(|p| p.0 != "watch" && p.0 != "allowWatchBookmarks");
        query.extend(DELETE.iter().copied());
        query.sort_unstable_by_key(|p| p.0);
        ops.push(Operation {
            method: "delete",
            action: "deletecollection",
            verb: ("delete", "Collection"),
            kind,
            query,
            body: Some(defs.meta("DeleteOptions")),
            consumes: bodies(r),
            answer: Some(defs.meta("Status")),
            codes: OK,
        });
    }
    put_path(r, defs, paths, &collection, scoped, &r.kind, "", ops);

    let mut ops = Vec::new();
    if r.has_verb("get") {
        ops.push(get("get", "read", &[], defs.object(r)));
    }
    if r.has_verb("update") {
        let object = defs.object(r);
        ops.push(write(r, "put", "replace", kind, WRITE, object, OK_CREATED));
    }
    if r.has_verb("patch") {
        let (patch, object) = (defs.patch(), defs.object(r));
        ops.push(patch_operation(r, kind, patch, object));
    }
    if r.has_verb("delete") {
        ops.push(Operation {
            method: "delete",
            action: "delete",
            verb: ("delete", ""),
            kind,
            query: DELETE.to_vec(),
            body: Some(defs.meta("DeleteOptions")),
            consumes: bodies(r),
            answer: Some(defs.meta("Status")),
            codes: OK_ACCEPTED,
        });
    }
    put_path(r, defs, paths, &item, scoped, &r.kind, "", ops);

    let everywhere = format!("{root}/{}", r.plural);
    if r.namespaced && r.has_verb("list") {
        let list = get("list", "list", LIST, defs.list(r));
        put_path(r, defs, paths, &everywhere, "", &r.kind, "ForAllNamespaces", vec![list]);
    }
    // The older way to watch, which custom resources never had.
    if r.is_builtin() && r.has_verb("watch") {
        let watch = |path: &str| path.replacen(&root, &format!("{root}/watch"), 1);
        let event = defs.meta("WatchEvent");
        let mut ways = vec![(item.as_str(), "watch", scoped, ""), (&collection, "watchlist", scoped, "List")];
        if r.namespaced {
            ways.push((&everywhere, "watchlist", "", "ListForAllNamespaces"));
        }
        for (path, action, scoped, suffix) in ways {
            let op = get(action, "watch", LIST, event.clone());
            put_path(r, defs, paths, &watch(path), scoped, &r.kind, suffix, vec![op]);
        }
    }

    for s in &r.subresources {
        let ops = subresource(r, s, defs);
        let suffix = capitalized(&s.name);
        put_path(r, defs, paths, &format!("{item}/{}", s.name), scoped, &r.kind, &suffix, ops.clone());
        if s.connect && s.name == "proxy" {
            put_path(r, defs, paths, &format!("{item}/proxy/{{path}}"), scoped, &r.kind, "ProxyWithPath", ops);
        }
    }
}

fn write<'a>(
    r: &Resource,
    method: &'static str,
    verb: &'a str,
    kind: (&'a str, &'a str, &'a str),
    query: &[Parameter],
    object: Value,
    codes: &'static [(&'static str, &'static str)],
) -> Operation<'a> {
    Operation {
        method,
        action: method,
        verb: (verb, ""),
        kind,
        query: query.to_vec(),
        body: Some(object.clone()),
        consumes: bodies(r),
        answer: Some(object),
        codes,
    }
}

fn patch_operation<'a>(r: &Resource, kind: (&'a str, &'a str, &'a str), patch: Value, object: Value) -> Operation<'a> {
    let mut query = WRITE.to_vec();
    query.push(FORCE);
    Operation {
        method: "patch",
        action: "patch",
        verb: ("patch", ""),
        kind,
        query,
        body: Some(patch),
        consumes: patches(r),
        answer: Some(object),
        codes: OK_CREATED,
    }
}

/// The query parameters that an options type makes: its plain fields.
fn options(kind: &str) -> Vec<Parameter> {
    let types = api::facts::types();
    let Some(Shape::Struct(options)) = types.named(&format!("api.core.v1.{kind}")).map(|ty| types.shape(ty)) else {
        return Vec::new();
    };
    let mut out = Vec::new();
    for field in options.fields.iter().filter(|f| f.name != "kind" && f.name != "apiVersion") {
        let ty = match types.shape(field.ty) {
            Shape::List(list) => types.shape(list.item),
            other => other,
        };
        let ty = match ty {
            Shape::Bool => "boolean",
            Shape::Int32 | Shape::Int64 => "integer",
            Shape::String => "string",
            _ => continue,
        };
        out.push((field.name.as_str(), ty, ""));
    }
    out.sort_unstable_by_key(|p| p.0);
    out
}

fn subresource<'a>(r: &'a Resource, s: &'a Subresource, defs: &mut Definitions) -> Vec<Operation<'a>> {
    let kind = (s.group.as_str(), s.version.as_str(), s.kind.as_str());
    let same = kind == (r.group.as_str(), r.version.as_str(), r.kind.as_str());
    let object = if same { Some(defs.object(r)) } else { defs.kind(kind.0, kind.1, kind.2) };
    let object = object.unwrap_or_else(|| json!({"type": "object"}));
    let mut out = Vec::new();
    for verb in &s.verbs {
        out.push(match (verb.as_str(), s.connect) {
            (v, true) => Operation {
                method: match v {
                    "create" => "post",
                    "update" => "put",
                    "delete" => "delete",
                    "patch" => "patch",
                    _ => "get",
                },
                action: "connect",
                verb: match v {
                    "create" => ("connect", "Post"),
                    "update" => ("connect", "Put"),
                    "delete" => ("connect", "Delete"),
                    "patch" => ("connect", "Patch"),
                    _ => ("connect", "Get"),
                },
                kind,
                query: options(&s.kind),
                body: None,
                consumes: &[],
                answer: None,
                codes: OK,
            },
            ("get", _) => Operation {
                method: "get",
                action: "get",
                verb: ("read", ""),
                kind,
                query: if s.name == "log" { options("PodLogOptions") } else { Vec::new() },
                body: None,
                consumes: &[],
                answer: (s.name != "log").then(|| object.clone()),
                codes: OK,
            },
            ("create", _) => write(r, "post", "create", kind, WRITE, object.clone(), OK_CREATED_ACCEPTED),
            ("update", _) => write(r, "put", "replace", kind, WRITE, object.clone(), OK_CREATED),
            ("patch", _) => patch_operation(r, kind, defs.patch(), object.clone()),
            _ => continue,
        });
    }
    out
}

#[expect(clippy::too_many_arguments, reason = "one call site's worth of names for an operation's id")]
fn put_path(
    r: &Resource,
    defs: &mut Definitions,
    paths: &mut Pieces,
    path: &str,
    scoped: &str,
    kind: &str,
    suffix: &str,
    ops: Vec<Operation<'_>>,
) {
    if ops.is_empty() {
        return;
    }
    let mut out = Map::new();
    let tag = format!("{}_{}", group_id(r), r.version);
    for op in ops {
        let id = format!("{}{}{}{scoped}{kind}{suffix}", op.verb.0, group_version_id(r), op.verb.1);
        let mut produces = bodies(r).to_vec();
        if matches!(op.action, "list" | "watch" | "watchlist") {
            produces.extend(STREAMS.iter().filter(|s| r.is_builtin() || !s.contains("protobuf")));
        }
        let (method, text) = (op.method.to_string(), purpose(&op, kind, suffix));
        let mut written = operation(defs, op, &produces, &id, &tag);
        written["description"] = text.into();
        out.insert(method, written);
    }
    let mut parameters = Vec::new();
    for (name, what) in [
        ("name", format!("name of the {kind}")),
        ("namespace", "object name and auth scope, such as for teams and projects".to_string()),
        ("path", "path to the resource".to_string()),
    ] {
        if path.contains(&format!("{{{name}}}")) {
            parameters.push(parameter(defs.flavor, "path", name, "string", &what));
        }
    }
    parameters.push(parameter(defs.flavor, "query", PRETTY.0, PRETTY.1, PRETTY.2));
    out.insert("parameters".to_string(), parameters.into());
    paths.insert(path.to_string(), defs.form.path(&Value::Object(out)));
}

/// What an operation on a kind, or on a subresource of it, is for.
fn purpose(op: &Operation<'_>, kind: &str, suffix: &str) -> String {
    let part = match suffix {
        "" | "List" | "ForAllNamespaces" | "ListForAllNamespaces" => String::new(),
        sub => format!("{} of ", sub.trim_end_matches("WithPath").to_lowercase()),
    };
    match op.action {
        "list" => format!("list or watch objects of kind {kind}"),
        "watch" => format!("watch one object of kind {kind}; lists with the 'watch' parameter do the same"),
        "watchlist" => format!("watch objects of kind {kind}; lists with the 'watch' parameter do the same"),
        "deletecollection" => format!("delete a collection of {kind}"),
        "connect" => format!("connect {} requests to {part}{kind}", op.method.to_uppercase()),
        "post" => format!("create {part}a {kind}"),
        "delete" => format!("delete a {kind}"),
        "put" => format!("replace {part}the specified {kind}"),
        "patch" => format!("partially update {part}the specified {kind}"),
        _ => format!("read {part}the specified {kind}"),
    }
}

fn parameter(flavor: Flavor, place: &str, name: &str, ty: &str, what: &str) -> Value {
    let mut out = json!({"name": name, "in": place, "uniqueItems": true});
    if !what.is_empty() {
        out["description"] = what.into();
    }
    if place == "path" {
        out["required"] = true.into();
    }
    match flavor {
        Flavor::V2 => out["type"] = ty.into(),
        Flavor::V3 => {
            out["schema"] = json!({"type": ty, "uniqueItems": true});
            if let Some(o) = out.as_object_mut() {
                o.remove("uniqueItems");
            }
        }
    }
    out
}

fn operation(defs: &mut Definitions, op: Operation<'_>, produces: &[&str], id: &str, tag: &str) -> Value {
    let flavor = defs.flavor;
    let mut parameters: Vec<Value> = op.query.iter().map(|p| parameter(flavor, "query", p.0, p.1, p.2)).collect();
    let mut out = json!({
        "operationId": id,
        "tags": [tag],
        "x-kubernetes-action": op.action,
        "x-kubernetes-group-version-kind": {"group": op.kind.0, "version": op.kind.1, "kind": op.kind.2},
    });
    let optional_body = op.method == "delete";
    let mut responses = Map::new();
    match flavor {
        Flavor::V2 => {
            for (code, text) in op.codes {
                let schema = op.answer.clone().unwrap_or_else(|| json!({"type": "string"}));
                responses.insert(code.to_string(), json!({"description": text, "schema": schema}));
            }
            if let Some(body) = op.body {
                let mut p = json!({"name": "body", "in": "body", "schema": body});
                if !optional_body {
                    p["required"] = true.into();
                }
                parameters.insert(0, p);
            }
            let consumes: &[&str] = if op.consumes.is_empty() { &["*/*"] } else { op.consumes };
            out["consumes"] = json!(consumes);
            out["produces"] = if op.answer.is_some() { json!(produces) } else { json!(["*/*"]) };
            out["schemes"] = json!(["https"]);
        }
        Flavor::V3 => {
            for (code, text) in op.codes {
                let content: Map<String, Value> = match &op.answer {
                    Some(schema) => produces.iter().map(|b| (b.to_string(), json!({"schema": schema}))).collect(),
                    None => [("*/*".to_string(), json!({"schema": {"type": "string"}}))].into_iter().collect(),
                };
                responses.insert(code.to_string(), json!({"description": text, "content": content}));
            }
            if let Some(body) = op.body {
                let types: &[&str] = if op.method == "patch" { op.consumes } else { &["*/*"] };
                let content: Map<String, Value> =
                    types.iter().map(|t| (t.to_string(), json!({"schema": body}))).collect();
                out["requestBody"] = json!({"content": content});
                if !optional_body {
                    out["requestBody"]["required"] = true.into();
                }
            }
        }
    }
    responses.insert("401".to_string(), json!({"description": "Unauthorized"}));
    out["responses"] = Value::Object(responses);
    if !parameters.is_empty() {
        out["parameters"] = parameters.into();
    }
    out
}
