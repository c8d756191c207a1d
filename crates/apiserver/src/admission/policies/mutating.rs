//! The plugin `MutatingAdmissionPolicy`.

use super::definition::{Mutation, Policy};
use super::{Policies, Subject, Trouble, input, params, versioned};
use crate::admission::{Attributes, Plugin, forbidden, matching, webhooks};
use api::catalogue::Resource;
use async_trait::async_trait;
use cel::admission::{Failure, Input, Matched, run};
use cel::mutation::check_names;
use cel::{Answers, Budget, Check, POLICY_BUDGET, Value as Cel};
use meta::apply::{Managed, Structure, Writer};
use meta::schema::{Field, List, Shape, Topology, TypeId, Types};
use meta::status::{Cause, Result, Status};
use serde_json::Value;
use std::sync::Arc;

const NAME: &str = "MutatingAdmissionPolicy";
/// Parts that a patch may have.
const STEPS_MAX: u64 = 1_000_000;

pub struct Mutating(pub Arc<Policies>);

#[async_trait]
impl Plugin for Mutating {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<()> {
        let (subjects, troubles) = self.0.subjects(a, true);
        if subjects.is_empty() && troubles.is_empty() {
            return Ok(());
        }
        a.reinvocation.begin(NAME, a.object);
        let result = self.round(a, &subjects, troubles).await;
        a.reinvocation.end(NAME, a.object);
        result
    }
}

impl Mutating {
    async fn round(&self, a: &mut Attributes<'_>, subjects: &[Subject], mut troubles: Vec<Trouble>) -> Result<()> {
        for subject in subjects {
            let policy = &subject.policy;
            for binding in &subject.bindings {
                let namespace = matching::namespace_of(a);
                let params = match params::collect(policy, binding, &namespace, &a.catalogue, &self.0.reader) {
                    Ok(p) => p,
                    Err(why) => {
                        let why = format!("failed to configure binding: {why}");
                        troubles.push(Trouble::new(policy, Some(binding), why));
                        continue;
                    }
                };
                for param in &params {
                    let meta = &param["metadata"];
                    let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
                    let id = format!(
                        "{}/{}/{}/{}",
                        policy.name,
                        binding.name,
                        text(&meta["namespace"]),
                        text(&meta["name"])
                    );
                    for why in self.invoke(a, subject, param, &id).await? {
                        troubles.push(Trouble::new(policy, Some(binding), why));
                    }
                }
            }
        }
        let told: Vec<String> = troubles
            .into_iter()
            .filter(|t| !t.policy.fails_open)
            .map(|t| match &t.binding {
                Some(b) => format!("policy '{}' with binding '{b}' denied request: {}", t.policy.name, t.message),
                None => format!("policy '{}' denied request: failed to configure policy: {}", t.policy.name, t.message),
            })
            .collect();
        let Some(first) = told.first() else { return Ok(()) };
        let mut status = forbidden(a, "admission request denied by policy");
        status.message = first.clone();
        status.reason = "Invalid";
        status.code = 422;
        if let Some(details) = &mut status.details {
            let cause = |message: String| Cause { reason: String::new(), message, field: String::new() };
            details.causes.extend(told.into_iter().map(cause));
        }
        Err(status)
    }

    /// One policy with one binding and one parameter. Gives what kept it from changing the object.
    async fn invoke(&self, a: &mut Attributes<'_>, subject: &Subject, param: &Value, id: &str) -> Result<Vec<String>> {
        let Subject { policy, row, .. } = subject;
        let (before, old) = versioned(a, row).await?;
        let request = input::request(a, row);
        let resource = input::request_resource(a);
        let namespace = input::namespace(a, &self.0.reader)?;
        let given = policy.param_kind.as_ref().map(|_| param);
        let mut answers = Answers::new();
        let matched = input::answered(&self.0.authorizer, a.user, &mut answers, |answers| {
            let input = Input {
                object: &before,
                old_object: &old,
                request: &request,
                params: given,
                namespace: &namespace,
                answers,
                resource: &resource,
                variables: &policy.variables,
            };
            match policy.conditions.evaluate(&input.vars()) {
                Ok(m) => Ok(Ok(m == Matched::Yes)),
                Err(Failure::Unanswered(check)) => Err(check),
                Err(f) => Ok(Err(f.text().unwrap_or_default())),
            }
        })
        .await;
        match matched {
            Ok(true) => {}
            Ok(false) => return Ok(Vec::new()),
            Err(why) => return Ok(vec![why]),
        }
        if !a.reinvocation.is_due(NAME, id) || before.is_null() {
            return Ok(Vec::new());
        }
        let mut object = before.clone();
        let mut failed = Vec::new();
        for mutation in &policy.mutations {
            let patched = input::answered(&self.0.authorizer, a.user, &mut answers, |answers| {
                let input = Input {
                    object: &object,
                    old_object: &old,
                    request: &request,
                    params: given,
                    namespace: &namespace,
                    answers,
                    resource: &resource,
                    variables: &policy.variables,
                };
                patch(policy, mutation, &input)
            })
            .await;
            match patched.and_then(|p| changed(row, a.subresource, &object, mutation, p)) {
                Ok(new) => object = new,
                Err(why) => failed.push(why),
            }
        }
        if object != before {
            a.reinvocation.changed(NAME);
            *a.object = webhooks::in_version(a, &object, row, a.resource).await?;
        }
        if policy.reinvoked {
            a.reinvocation.invoked(NAME, id);
        }
        Ok(failed)
    }
}

/// Evaluates a mutation to what it wants to be applied. Pure.
fn patch(
    policy: &Policy,
    mutation: &Mutation,
    input: &Input<'_>,
) -> std::result::Result<std::result::Result<Value, String>, Box<Check>> {
    let vars = input.vars();
    let mut budget = Budget::new(POLICY_BUDGET);
    let e = &mutation.expression;
    let value = match run(&e.program, &e.text, &vars, &mut budget) {
        Ok(v) => v,
        Err(Failure::Unanswered(check)) => return Err(check),
        Err(f) => return Ok(Err(f.text().unwrap_or_default())),
    };
    tracing::trace!(policy = policy.name, "mutation evaluated");
    let json =
        |v: &Cel<'_>| v.to_json(&mut STEPS_MAX.clone()).ok_or_else(|| "patch can't be expressed as JSON".to_string());
    Ok(if mutation.applies {
        match &value {
            Cel::Struct(s) => check_names(s).map_err(|e| format!("type mismatch: {e}")).and_then(|()| json(&value)),
            other => Err(format!("unexpected evaluation result type: {}", other.type_name())),
        }
    } else {
        match &value {
            Cel::List(_) => json(&value),
            other => Err(format!(
                "type mismatch: JSONPatchType.expression should evaluate to array, got {}",
                other.type_name()
            )),
        }
    })
}

/// The object after a patch, with its kind's defaults.
fn changed(
    row: &Resource,
    subresource: &str,
    object: &Value,
    mutation: &Mutation,
    patch: Value,
) -> std::result::Result<Value, String> {
    let patched = if mutation.applies {
        merged(row, subresource, object, patch)?
    } else {
        let operations: Vec<Value> = patch.as_array().cloned().unwrap_or_default();
        for op in &operations {
            for needed in ["op", "path"] {
                if op[needed].as_str().is_none_or(str::is_empty) {
                    return Err(format!("JSONPatch {needed} must be set"));
                }
            }
        }
        let patched = meta::patch::json::apply_if(object, &Value::Array(operations));
        match patched.map_err(|s| format!("JSON Patch: {}", s.message))? {
            Some(patched) => patched,
            None => return Ok(object.clone()),
        }
    };
    webhooks::conform(row, subresource, object, patched)
}

fn key_default(_: TypeId, key: &str) -> Option<Value> {
    (key == "protocol").then(|| "TCP".into())
}

/// Server-side apply without owners.
fn merged(row: &Resource, subresource: &str, object: &Value, mut patch: Value) -> std::result::Result<Value, String> {
    let (group, version, kind) = matching::kind_of(row, subresource);
    let (types, ty) = if kind == row.kind {
        row.types()
    } else {
        match api::facts::facts().kind(&group, &version, &kind) {
            Some(ty) => (api::facts::types().clone(), ty),
            None => return Err(format!("Resource kind {kind} not found")),
        }
    };
    let mut atomics = Vec::new();
    find_atomics(&types, ty, &patch, "", &mut atomics);
    if !atomics.is_empty() {
        let all = atomics.join(", ");
        return Err(format!("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {all}"));
    }
    if let Some(o) = patch.as_object_mut() {
        for key in ["apiVersion", "kind"] {
            o.insert(key.into(), object[key].clone());
        }
    }
    let structure = Structure::new(&types, ty).with_key_default(&key_default);
    let api_version = row.api_version();
    let writer = Writer { manager: "", api_version: &api_version, subresource, now: jiff::Timestamp::UNIX_EPOCH };
    let managed = object["metadata"].get("managedFields").cloned();
    let done = meta::apply::merge(&structure, object, &patch, &Managed::default(), &writer, true)
        .map_err(|f| Status::from(f).message)?;
    let mut merged = done.object;
    if let (Some(fields), true) = (managed, merged["metadata"].is_object()) {
        merged["metadata"]["managedFields"] = fields;
    }
    Ok(merged)
}

/// Places in a patch where the whole of a list, map or object would be replaced.
fn find_atomics(types: &Types, ty: TypeId, value: &Value, path: &str, found: &mut Vec<String>) {
    match (types.shape(ty), value) {
        (Shape::Struct(s), Value::Object(fields)) => {
            if s.atomic {
                return found.push(path.to_string());
            }
            for (name, v) in fields {
                if let Some(Field { ty, .. }) = s.field(name) {
                    find_atomics(types, *ty, v, &format!("{path}.{name}"), found);
                }
            }
        }
        (Shape::Map { atomic: true, .. }, Value::Object(_)) => found.push(path.to_string()),
        (Shape::Map { value: ty, .. }, Value::Object(entries)) => {
            for (key, v) in entries {
                find_atomics(types, *ty, v, &format!("{path}.{key}"), found);
            }
        }
        (Shape::List(List { topology: Topology::Atomic, .. }), Value::Array(_)) => found.push(path.to_string()),
        (Shape::List(l), Value::Array(items)) => {
            for (i, v) in items.iter().enumerate() {
                find_atomics(types, l.item, v, &format!("{path}[{i}]"), found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn atomic_parts_may_not_be_applied() {
        let rows = api::catalogue::builtin();
        let row = api::catalogue::find(&rows, "", "v1", "pods").unwrap();
        let found = |patch: Value| {
            let mut all = Vec::new();
            let (types, ty) = row.types();
            find_atomics(&types, ty, &patch, "", &mut all);
            all.join(" ")
        };
        assert_eq!(
            found(json!({"spec":{"containers":[{"name":"a","image":"b"}]},"metadata":{"labels":{"a":"b"}}})),
            ""
        );
        assert_eq!(found(json!({"spec":{"containers":[{"name":"a","args":["x"]}]}})), ".spec.containers[0].args");
        assert_eq!(found(json!({"spec":{"nodeSelector":{"a":"b"}}})), ".spec.nodeSelector");
    }
}
