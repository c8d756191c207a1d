//! Warnings about a policy's expressions, in its status: what would fail for the types that the policy is about.
//!
//! In: the store's validating policies, each change at once. Out: `status.typeChecking` and `observedGeneration`.
//! An expression is checked against each type that the rules name without wildcards.

use crate::reader::prefix;
use crate::registry::{Catalogue, stored};
use crate::server::Server;
use api::catalogue::Resource;
use cel::admission::{Compiler, Purpose};
use cel::types::Provider;
use cel::{CompileError, Type};
use meta::schema::{Shape, TypeId, Types};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use stdx::Shutdown;
use store::{Cas, Change, Entry, ListOptions};

const GROUP: &str = "admissionregistration.k8s.io";
const PLURAL: &str = "validatingadmissionpolicies";
/// More types than this aren't looked at.
const TYPES_MAX: usize = 10;
const BATCH: usize = 64;
const RETRY: Duration = Duration::from_secs(1);

/// Follows policies until `shutdown`.
pub async fn run(server: Arc<Server>, shutdown: Shutdown) {
    loop {
        tokio::select! {
            _ = shutdown.cancelled() => return,
            done = follow(&server) => match done {
                Err(store::Error::Closed) => return,
                Err(error) => tracing::warn!(%error, "policies are read anew"),
                Ok(()) => {}
            },
        }
        tokio::select! {
            _ = shutdown.cancelled() => return,
            _ = tokio::time::sleep(RETRY) => {}
        }
    }
}

async fn follow(server: &Arc<Server>) -> store::Result<()> {
    let store = &server.registry.store;
    let all = prefix(GROUP, PLURAL, "");
    let page = store.list(&all, &ListOptions::default())?;
    let mut watcher = store.watch(&all, page.revision)?;
    for entry in page.entries {
        observe(server, &entry).await?;
    }
    loop {
        for event in watcher.next(BATCH).await? {
            if let Change::Put { entry, .. } = event.change {
                observe(server, &entry).await?;
            }
        }
    }
}

async fn observe(server: &Arc<Server>, entry: &Entry) -> store::Result<()> {
    let mut policy: Value = serde_json::from_slice(&entry.value).unwrap_or(Value::Null);
    let generation = policy["metadata"]["generation"].clone();
    if generation.is_null() || policy["status"]["observedGeneration"] == generation {
        return Ok(());
    }
    let catalogue = server.registry.catalogue.load_full();
    let mut checking = json!({});
    let warnings = warnings(&policy, &catalogue);
    if !warnings.is_empty() {
        checking["expressionWarnings"] = warnings.into();
    }
    if !policy["status"].is_object() {
        policy["status"] = json!({});
    }
    policy["status"]["observedGeneration"] = generation;
    policy["status"]["typeChecking"] = checking;
    match server.registry.store.update(&entry.key, stored::encode(&policy), entry.mod_revision, None).await {
        // Whoever was faster comes by the watch.
        Ok(Cas::Done { .. } | Cas::Conflict(_)) => Ok(()),
        Err(e) => Err(e),
    }
}

/// `{fieldRef, warning}` of each expression that doesn't fit some type.
pub fn warnings(policy: &Value, catalogue: &Catalogue) -> Vec<Value> {
    let spec = &policy["spec"];
    let rows = matched(spec, catalogue);
    let mut out = Vec::new();
    for (i, v) in spec["validations"].as_array().into_iter().flatten().enumerate() {
        for (field, purpose) in [("expression", Purpose::Condition), ("messageExpression", Purpose::Message)] {
            let Some(text) = v[field].as_str().filter(|t| !t.is_empty()) else { continue };
            let warning: String = rows.iter().filter_map(|row| checked(spec, catalogue, row, text, purpose)).collect();
            if !warning.is_empty() {
                out.push(json!({"fieldRef": format!("spec.validations[{i}].{field}"), "warning": warning}));
            }
        }
    }
    out
}

/// `apps/v1, Kind=Deployment: ERROR: ...`
fn checked(spec: &Value, catalogue: &Catalogue, row: &Arc<Resource>, text: &str, purpose: Purpose) -> Option<String> {
    let (types, ty) = row.types();
    let arena = Arena(types.clone());
    let mut compiler = Compiler::new().with_object(arena.of(ty), Arc::new(arena.clone()));
    if spec["paramKind"].is_object() {
        let text = |key: &str| spec["paramKind"][key].as_str().unwrap_or_default();
        let param = catalogue.rows.iter().find(|r| r.kind == text("kind") && r.api_version() == text("apiVersion"));
        compiler = match param.map(|p| p.types()) {
            // One arena holds all built-in types; a custom resource has its own.
            Some((of, ty)) if Arc::ptr_eq(&of, &types) => compiler.with_params(arena.of(ty)),
            _ => compiler.with_params(Type::Dyn),
        };
    }
    let mut compiler = compiler.with_variables();
    for v in spec["variables"].as_array().into_iter().flatten() {
        // What is wrong with a variable shows where it is used.
        let _ = compiler.variable(v["name"].as_str().unwrap_or_default(), v["expression"].as_str().unwrap_or_default());
    }
    match compiler.compile(text, purpose) {
        Err(CompileError::Issues(issues)) => Some(format!("{}, Kind={}: {issues}\n", row.api_version(), row.kind)),
        _ => None,
    }
}

/// Types that the rules name, each once.
fn matched(spec: &Value, catalogue: &Catalogue) -> Vec<Arc<Resource>> {
    let mut rows: Vec<Arc<Resource>> = Vec::new();
    for rule in spec["matchConstraints"]["resourceRules"].as_array().into_iter().flatten() {
        let texts =
            |key: &str| -> Vec<&str> { rule[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect() };
        let (groups, versions, resources) = (texts("apiGroups"), texts("apiVersions"), texts("resources"));
        if groups.contains(&"*") || versions.contains(&"*") || resources.contains(&"*") {
            continue;
        }
        for group in &groups {
            for version in &versions {
                for resource in &resources {
                    let found = catalogue.find(group, version, resource);
                    rows.extend(found.filter(|r| !rows.iter().any(|known| Arc::ptr_eq(known, r))));
                    if rows.len() == TYPES_MAX {
                        return rows;
                    }
                }
            }
        }
    }
    rows
}

/// An arena of types as the expressions' checker sees it. Types are named by their place in it.
#[derive(Clone)]
struct Arena(Arc<Types>);

const PREFIX: &str = "kubernetes.type";

impl Arena {
    fn of(&self, id: TypeId) -> Type {
        match self.0.shape(id) {
            Shape::Struct(s) if s.preserve_unknown => Type::Dyn,
            Shape::Struct(_) => Type::Named(format!("{PREFIX}{}.{}", id.0, self.0.get(id).name).into()),
            Shape::Map { value, .. } => Type::map(Type::String, self.of(*value)),
            Shape::List(l) => Type::list(self.of(l.item)),
            Shape::Bool => Type::Bool,
            Shape::Int32 | Shape::Int64 => Type::Int,
            Shape::Double => Type::Double,
            Shape::String | Shape::Duration => Type::String,
            Shape::Bytes => Type::Bytes,
            Shape::Time | Shape::MicroTime => Type::Timestamp,
            Shape::Quantity | Shape::IntOrString | Shape::FieldsV1 | Shape::RawExtension | Shape::Any => Type::Dyn,
        }
    }
}

impl Provider for Arena {
    fn field(&self, type_name: &str, field: &str) -> Option<Option<Type>> {
        let number = type_name.strip_prefix(PREFIX)?.split('.').next()?;
        let id = TypeId(number.parse().ok()?);
        match self.0.types.get(id.0 as usize).map(|t| &t.shape) {
            Some(Shape::Struct(s)) => Some(s.field(field).map(|f| self.of(f.ty))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_fail_is_told_per_type() {
        let catalogue = Catalogue::new(api::catalogue::builtin());
        let policy = |expression: &str, resources: Value| {
            json!({"spec":{"matchConstraints":{"resourceRules":[{"apiGroups":["apps"],"apiVersions":["v1"],"resources":resources}]},
                "variables":[{"name":"r","expression":"object.spec.replicas"}],
                "validations":[{"expression":expression}]}})
        };
        let told = |p: Value| warnings(&p, &catalogue);
        assert_eq!(
            told(policy("object.spec.replicas > 1 && variables.r < 9", json!(["deployments"]))),
            Vec::<Value>::new()
        );
        assert_eq!(told(policy("object.spec.foo > 1", json!(["*"]))), Vec::<Value>::new());
        assert_eq!(
            told(policy("object.spec.foo > 1", json!(["deployments"]))),
            vec![json!({"fieldRef":"spec.validations[0].expression",
                "warning":"apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'foo'\n | object.spec.foo > 1\n | ...........^\n"})]
        );
        assert_eq!(
            told(policy("object.spec.replicas > '1'", json!(["deployments"])))[0]["warning"]
                .as_str()
                .and_then(|w| w.lines().next()),
            Some(
                "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'"
            )
        );
    }
}
