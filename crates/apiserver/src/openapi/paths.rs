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

/// Query parameters: name, type, what it is for (in words of our own: upstream's are in none of the data that we have).
type Parameter = (&'static str, &'static str, &'static str);

const PRETTY: Parameter = (
    "pretty",
    "string",
    "'true' indents the output. 'false' is the default, but for browsers, curl and wget, as they call themselves.",
);
const LIST: &[Parameter] = &[
    (
        "allowWatchBookmarks",
        "boolean",
        "Asks a watch for events of type BOOKMARK, from whose resourceVersion it can be taken up again. When they come is for the server to say. Of no meaning without watch.",
    ),
    (
        "continue",
        "string",
        "Where a limited list stopped: metadata.continue of its last answer, beside the same other parameters. Once the server has no more of that state (after five to fifteen minutes), it answers 410 with another token, by which the rest comes from the latest state, with all that has changed since. Not for watches, which may begin at the list's resourceVersion.",
    ),
    ("fieldSelector", "string", "Restricts the list by the objects' fields; all by default."),
    ("labelSelector", "string", "Restricts the list by the objects' labels; all by default."),
    (
        "limit",
        "integer",
        "At most so many objects in one answer. Where there are more, metadata.continue of the answer gets the next of the same state; no other number says so, since what is filtered out counts, and an answer may have none. Not for watches.",
    ),
    (
        "resourceVersion",
        "string",
        "Which versions the answer may be of, or the one after which a watch begins; unset by default. See https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions.",
    ),
    (
        "resourceVersionMatch",
        "string",
        "How a list's resourceVersion is meant, Exact or NotOlderThan; unset by default, and better set wherever there is one. See https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions.",
    ),
    (
        "sendInitialEvents",
        "boolean",
        "Begins a watch with an ADDED event for each object there is, and a bookmark with the annotation k8s.io/initial-events-end: \"true\" and their resourceVersion behind them. They are at least as new as resourceVersion, or the latest where that is unset; resourceVersionMatch has to be NotOlderThan. By default true for an empty resourceVersion and 0, as ever, else false.",
    ),
    ("timeoutSeconds", "integer", "Ends a list or watch after so many seconds, whatever goes on."),
    (
        "watch",
        "boolean",
        "Answers with a stream of what is added, changed and removed after resourceVersion, in place of a list.",
    ),
];
const WRITE: &[Parameter] = &[
    ("dryRun", "string", ""),
    (
        "fieldManager",
        "string",
        "Who makes the change, in at most 128 printable characters. To be given with apply patches; otherwise the user agent's name is taken.",
    ),
    (
        "fieldValidation",
        "string",
        "What becomes of fields that are unknown, or there twice. Ignore: they are dropped, and of two the last counts. Warn, the default: so, with a warning about each. Strict: the request is refused with 400, and all are named.",
    ),
];
const FORCE: Parameter = (
    "force",
    "boolean",
    "Takes fields that are in conflict from those who own them. To be left out of patches that don't apply.",
);
/// Without texts, as `dryRun` above: those are of the fields of DeleteOptions.
const DELETE: &[Parameter] = &[
    ("dryRun", "string", ""),
    ("gracePeriodSeconds", "integer", ""),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean", ""),
    ("orphanDependents", "boolean", ""),
    ("propagationPolicy", "string", ""),
];
/// Parameters of logs and streams.
const OPTIONS: &[(&str, &str)] = &[
    ("command", "The program and its arguments, one each; no shell is between."),
    ("container", "Which container of the pod; the only one by default."),
    ("follow", "Stays, and sends what is written from now on."),
    (
        "insecureSkipTLSVerifyBackend",
        "Takes the node's certificate unseen, where it can't be verified: the log may be anybody's.",
    ),
    ("limitBytes", "Ends after so many bytes, which may be within a line, and more than a few."),
    ("path", "The path, below what is asked."),
    ("ports", "The ports that are wanted."),
    ("previous", "The log of the container that ran before this one."),
    ("sinceSeconds", "Only what was written in so many seconds before now. Not beside sinceTime."),
    ("stderr", "Sends what goes to standard error."),
    ("stdin", "Takes standard input."),
    ("stdout", "Sends what goes to standard output."),
    ("stream", "Which stream of the container: All (the default), Stdout or Stderr."),
    ("tailLines", "Begins so many lines before the end of the log, or of the time that is asked for."),
    ("timestamps", "Puts the time before each line, as RFC 3339 or RFC 3339 with nanoseconds."),
    ("tty", "Gives the program a terminal."),
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

/// A path that tells what else there is.
pub struct Discovery {
    /// Which document of version 3 it stands in: `apis`, `apis/apps`, `apis/apps/v1`.
    pub document: String,
    id: String,
    tag: String,
    text: &'static str,
    answer: Answer,
}

enum Answer {
    /// A type, in the forms of all types.
    Meta(&'static str),
    Version,
    /// Text of a media type.
    Text(&'static str),
}

/// All of them, as upstream's clients call them.
pub fn discovery(rows: &[Arc<Resource>]) -> Vec<Discovery> {
    const VERSIONS: &str = "get available API versions";
    let put = |document: &str, id: &str, tag: &str, text, answer| Discovery {
        document: document.to_string(),
        id: id.to_string(),
        tag: tag.to_string(),
        text,
        answer,
    };
    let mut out = vec![
        put(
            ".well-known/openid-configuration",
            "getServiceAccountIssuerOpenIDConfiguration",
            "WellKnown",
            "get the OpenID configuration of who issues service account tokens",
            Answer::Text("application/json"),
        ),
        put("api", "getCoreAPIVersions", "core", VERSIONS, Answer::Meta("APIVersions")),
        put("apis", "getAPIVersions", "apis", VERSIONS, Answer::Meta("APIGroupList")),
        put(
            "openid/v1/jwks",
            "getServiceAccountIssuerOpenIDKeyset",
            "openid",
            "get the keys that service account tokens are verified with, as a JSON Web Key Set",
            Answer::Text("application/jwk-set+json"),
        ),
        put("version", "getCodeVersion", "version", "get the version information for this server", Answer::Version),
    ];
    // Custom resources are served by another part of upstream's server, which publishes no such paths.
    for r in rows.iter().filter(|r| r.is_builtin()) {
        let (group, id) = (group_id(r), capitalized(&group_id(r)));
        let (of_group, of_version) = (format!("apis/{}", r.group), root(r));
        if !r.group.is_empty() && !out.iter().any(|d| d.document == of_group) {
            let answer = Answer::Meta("APIGroup");
            out.push(put(&of_group, &format!("get{id}APIGroup"), &group, "get information of a group", answer));
        }
        if !out.iter().any(|d| d.document == of_version) {
            let (id, tag) = (format!("get{}APIResources", group_version_id(r)), format!("{group}_{}", r.version));
            out.push(put(&of_version, &id, &tag, "get available resources", Answer::Meta("APIResourceList")));
        }
    }
    out
}

impl Discovery {
    pub fn add(&self, defs: &mut Definitions, paths: &mut Pieces) {
        let (schema, types): (Value, &[&str]) = match &self.answer {
            Answer::Meta(name) => (defs.meta(name), &BODIES),
            Answer::Version => (defs.named("apimachinery.pkg.version.Info"), &BODIES[..1]),
            Answer::Text(media_type) => (json!({"type": "string"}), std::slice::from_ref(media_type)),
        };
        let mut op = json!({"description": self.text, "operationId": self.id, "tags": [self.tag]});
        let ok = match defs.flavor {
            Flavor::V2 => {
                if !matches!(self.answer, Answer::Text(_)) {
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
        paths.insert(format!("/{}/", self.document), defs.form.path(&json!({"get": op})));
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
        let text = OPTIONS.iter().find(|o| o.0 == field.name).map_or("", |o| o.1);
        out.push((field.name.as_str(), ty, text));
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
    let texts = defs.texts_of_meta("DeleteOptions");
    let text = |p: &Parameter| if p.2.is_empty() { texts.get(p.0).copied().unwrap_or_default() } else { p.2 };
    let mut parameters: Vec<Value> = op.query.iter().map(|p| parameter(flavor, "query", p.0, p.1, text(p))).collect();
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
