//! Warnings about a policy's expressions, in its status: what would fail for the types that the policy is about.
//!
//! In: the store's validating policies, each change at once. Out: `status.typeChecking` and `observedGeneration`.
//! An expression is checked against each type that the rules name without wildcards.

use crate::reader::prefix;
use crate::registry::{Catalogue, managed, stored};
use crate::server::Server;
use api::catalogue::Resource;
use cel::admission::{Compiler, Purpose};
use cel::types::Provider;
use cel::{CompileError, Type};
use meta::schema::{Shape, TypeId, Types};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use stdx::Shutdown;
use store::{Cas, Change, Entry, ListOptions};

const GROUP: &str = "admissionregistration.k8s.io";
const PLURAL: &str = "validatingadmissionpolicies";
const MANAGER: &str = "validatingadmissionpolicy-status-controller";
/// Of one rule; more types than this aren't looked at.
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
    let policy: Value = serde_json::from_slice(&entry.value).unwrap_or(Value::Null);
    let catalogue = server.registry.catalogue.load_full();
    let Some(checked) = observed(&policy, &catalogue) else { return Ok(()) };
    match server.registry.store.update(&entry.key, stored::encode(&checked), entry.mod_revision, None).await {
        // Whoever was faster comes by the watch.
        Ok(Cas::Done { .. } | Cas::Conflict(_)) => Ok(()),
        Err(e) => Err(e),
    }
}

/// The policy with its new status, where it has changed since it was last looked at.
fn observed(policy: &Value, catalogue: &Catalogue) -> Option<Value> {
    let generation = policy["metadata"]["generation"].as_i64()?;
    if generation <= policy["status"]["observedGeneration"].as_i64().unwrap_or(0) {
        return None;
    }
    let row = catalogue.find(GROUP, meta::object::split_api_version(meta::object::api_version(policy)).1, PLURAL)?;
    let mut checking = json!({});
    let warnings = warnings(policy, catalogue);
    if !warnings.is_empty() {
        checking["expressionWarnings"] = warnings.into();
    }
    let status = json!({"observedGeneration": generation, "typeChecking": checking});
    managed::apply_own_status(&row, policy, status, MANAGER)
        .inspect_err(|error| tracing::warn!(error = error.message, "a policy's status can't be applied"))
        .ok()
}

/// `{fieldRef, warning}` of each expression that doesn't fit some type.
pub fn warnings(policy: &Value, catalogue: &Catalogue) -> Vec<Value> {
    let spec = &policy["spec"];
    let rows = matched(spec, catalogue);
    let mut out = Vec::new();
    for (i, v) in spec["validations"].as_array().into_iter().flatten().enumerate() {
        for field in ["expression", "messageExpression"] {
            let Some(text) = v[field].as_str().filter(|t| !t.is_empty()) else { continue };
            let told: Vec<String> = rows.iter().filter_map(|row| checked(spec, catalogue, row, text)).collect();
            if !told.is_empty() {
                out.push(json!({"fieldRef": format!("spec.validations[{i}].{field}"), "warning": told.join("\n")}));
            }
        }
    }
    out
}

/// `apps/v1, Kind=Deployment: ERROR: ...`
fn checked(spec: &Value, catalogue: &Catalogue, row: &Arc<Resource>, text: &str) -> Option<String> {
    let (types, ty) = row.types();
    let arena = Arena { types, tag: "type" };
    let mut compiler = Compiler::new().with_object(arena.of(ty), Arc::new(arena.clone()));
    if spec["paramKind"].is_object() {
        let text = |key: &str| spec["paramKind"][key].as_str().unwrap_or_default();
        let param = catalogue.rows.iter().find(|r| r.kind == text("kind") && r.api_version() == text("apiVersion"));
        compiler = match param.map(|p| p.types()) {
            Some((types, ty)) => {
                let arena = Arena { types, tag: "param" };
                compiler.with_params(arena.of(ty)).with_types(Arc::new(arena))
            }
            None => compiler.with_params(Type::Dyn),
        };
    }
    let mut compiler = compiler.with_variables();
    for v in spec["variables"].as_array().into_iter().flatten() {
        // What is wrong with a variable shows where it is used.
        let _ = compiler.variable(v["name"].as_str().unwrap_or_default(), v["expression"].as_str().unwrap_or_default());
    }
    // Of what type the outcome is was tested when the policy was written.
    match compiler.compile(text, Purpose::Variable) {
        Err(CompileError::Issues(issues)) => {
            Some(format!("{}/{}, Kind={}: {issues}\n", row.group, row.version, row.kind))
        }
        _ => None,
    }
}

/// Types that the rules name, each once, by group, version and kind.
fn matched(spec: &Value, catalogue: &Catalogue) -> Vec<Arc<Resource>> {
    let mut rows: BTreeMap<(String, String, String), Arc<Resource>> = BTreeMap::new();
    'rules: for rule in spec["matchConstraints"]["resourceRules"].as_array().into_iter().flatten() {
        let texts = |key: &str| -> Vec<&str> {
            let mut all: Vec<&str> = rule[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            all.sort_unstable();
            all
        };
        let (groups, versions, resources) = (texts("apiGroups"), texts("apiVersions"), texts("resources"));
        if groups.iter().chain(&versions).any(|t| t.contains('*')) {
            continue;
        }
        let mut count = 0;
        for (group, version) in groups.iter().flat_map(|g| versions.iter().map(move |v| (g, v))) {
            for resource in resources.iter().filter(|r| !r.contains(['*', '/'])) {
                // As upstream's mapper, which takes no group for any.
                let found = catalogue.rows.iter().filter(|r| {
                    (group.is_empty() || r.group == *group)
                        && r.version == *version
                        && (r.plural == *resource || r.singular == *resource)
                });
                for row in found {
                    rows.insert((row.group.clone(), row.version.clone(), row.kind.clone()), row.clone());
                    count += 1;
                    if count == TYPES_MAX {
                        break 'rules;
                    }
                }
            }
        }
    }
    rows.into_values().collect()
}

/// An arena of types as the expressions' checker sees it. Types are named by their place in it.
#[derive(Clone)]
struct Arena {
    types: Arc<Types>,
    /// Tells two arenas apart.
    tag: &'static str,
}

impl Arena {
    fn of(&self, id: TypeId) -> Type {
        match self.types.shape(id) {
            // Fields that are kept without being known can't be mentioned, as in the rules of custom resources.
            Shape::Struct(_) => {
                Type::Named(format!("kubernetes.{}{}.{}", self.tag, id.0, self.types.get(id).name).into())
            }
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
        let number = type_name.strip_prefix("kubernetes.")?.strip_prefix(self.tag)?.split('.').next()?;
        let id = TypeId(number.parse().ok()?);
        match self.types.types.get(id.0 as usize).map(|t| &t.shape) {
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

    #[test]
    fn a_status_is_applied_once_a_generation() {
        let catalogue = Catalogue::new(api::catalogue::builtin());
        let policy = |generation: i64, field: &str| {
            json!({"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicy",
                "metadata":{"name":"p","uid":"u","generation":generation,"managedFields":[{"manager":"kubectl",
                    "operation":"Update","apiVersion":"admissionregistration.k8s.io/v1","fieldsType":"FieldsV1",
                    "fieldsV1":{"f:spec":{"f:validations":{}}}}]},
                "spec":{"matchConstraints":{"resourceRules":[{"apiGroups":["apps"],"apiVersions":["v1"],
                    "resources":["deployments"]}]},"validations":[{"expression":format!("object.{field} == 1")}]}})
        };
        let owned = |policy: &Value| {
            let entries = policy["metadata"]["managedFields"].as_array().unwrap();
            let mine = entries.iter().find(|e| e["manager"] == MANAGER).unwrap();
            assert_eq!(
                (&mine["operation"], &mine["subresource"], entries.len()),
                (&json!("Apply"), &json!("status"), 2)
            );
            mine["fieldsV1"].clone()
        };
        let mut wrong = observed(&policy(1, "foo"), &catalogue).unwrap();
        assert_eq!(wrong["status"]["typeChecking"]["expressionWarnings"].as_array().map(Vec::len), Some(1));
        assert_eq!(
            owned(&wrong),
            json!({"f:status":{"f:observedGeneration":{},"f:typeChecking":{"f:expressionWarnings":{}}}})
        );
        assert_eq!(observed(&wrong, &catalogue), None);
        wrong["spec"] = policy(2, "spec.replicas")["spec"].clone();
        wrong["metadata"]["generation"] = 2.into();
        let right = observed(&wrong, &catalogue).unwrap();
        assert_eq!(right["status"], json!({"observedGeneration":2,"typeChecking":{}}));
        assert_eq!(owned(&right), json!({"f:status":{"f:observedGeneration":{},"f:typeChecking":{}}}));
    }

    #[test]
    fn rows_are_in_order_and_params_have_types() {
        let catalogue = Catalogue::new(api::catalogue::builtin());
        let told = |rules: Value, param: Value, field: &str, expression: &str| {
            let mut validation = json!({"expression": "true"});
            validation[field] = expression.into();
            let spec = json!({"matchConstraints":{"resourceRules":rules},"paramKind":param,"validations":[validation]});
            warnings(&json!({"spec": spec}), &catalogue)
        };
        let rule =
            |group: &str, resources: Value| json!({"apiGroups":[group],"apiVersions":["v1"],"resources":resources});
        let both = json!([rule("apps", json!(["statefulsets", "deployments/scale", "*"])), rule("", json!(["pods"]))]);
        let place = "ERROR: <input>:1:7: undefined field 'foo'\n | object.foo == 1\n | ......^";
        assert_eq!(
            told(both, Value::Null, "expression", "object.foo == 1"),
            [json!({"fieldRef":"spec.validations[0].expression",
                "warning":format!("/v1, Kind=Pod: {place}\n\napps/v1, Kind=StatefulSet: {place}\n")})]
        );
        let map = json!({"apiVersion":"v1","kind":"ConfigMap"});
        let pods = || json!([rule("", json!(["pods"]))]);
        for (param, field, expression, want) in [
            (map.clone(), "expression", "params.data.x == object.metadata.name", ""),
            (map.clone(), "expression", "params.date.x == 'y'", "undefined field 'date'"),
            (map.clone(), "messageExpression", "params.date.x", "undefined field 'date'"),
            (json!({"apiVersion":"v1","kind":"Nope"}), "expression", "params.date.x == 'y'", ""),
            (Value::Null, "expression", "params.x == 'y'", "undeclared reference to 'params' (in container '')"),
            (
                map.clone(),
                "messageExpression",
                "authorizer.group('').resource('x').check('get').allowed() ? 'a' : 'b'",
                "",
            ),
            (map, "messageExpression", "1", ""),
        ] {
            let told = told(pods(), param, field, expression);
            let first = told.first().and_then(|w| w["warning"].as_str()).and_then(|w| w.lines().next());
            assert!(
                first.unwrap_or_default().ends_with(want) && first.is_none() == want.is_empty(),
                "{expression}: {told:?}"
            );
        }
    }

    #[test]
    fn fields_that_are_kept_unknown_are_none() {
        let mut types = Types::default();
        let shape = Shape::Struct(meta::schema::Struct { preserve_unknown: true, ..Default::default() });
        let ty = types.push(meta::schema::Type { name: "x".into(), shape });
        let arena = Arena { types: Arc::new(types), tag: "type" };
        let compiler = Compiler::new().with_object(arena.of(ty), Arc::new(arena));
        let e = compiler.compile("object.foo == 1", Purpose::Variable).unwrap_err();
        assert!(e.to_string().contains("undefined field 'foo'"), "{e}");
    }
}
