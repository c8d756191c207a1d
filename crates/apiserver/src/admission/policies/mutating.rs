//! The plugin `MutatingAdmissionPolicy`.

use super::definition::{Binding, Mutation, Policy};
use super::{Matched, Policies, Subject, error_type, input, misconfigured, params, versioned};
use crate::admission::{Attributes, Operation, Plugin, forbidden, matching, webhooks};
use crate::metrics::figures::{MUTATING_POLICIES, MUTATING_POLICY_DURATIONS};
use api::catalogue::Resource;
use async_trait::async_trait;
use cel::admission::{Failure as Failed, Input, Matched as Matches, run};
use cel::mutation::check_names;
use cel::{Answers, Budget, Check, List, POLICY_BUDGET, Struct, Value as Cel};
use meta::apply::{Managed, Structure, Writer};
use meta::patch::json as json_patch;
use meta::schema::{Field, Shape, Topology, TypeId, Types};
use meta::status::{Cause, Result, Status};
use serde_json::Value;
use std::sync::Arc;
use std::time::Instant;

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
        // Nothing mutates what is deleted.
        if a.operation == Operation::Delete {
            return Ok(());
        }
        let subjects = self.0.subjects(a, true);
        if subjects.is_empty() {
            return Ok(());
        }
        a.reinvocation.begin(NAME, a.object);
        let result = self.round(a, &subjects).await;
        a.reinvocation.end(NAME, a.object);
        result
    }
}

/// A policy with one binding and one parameter.
struct Invocation<'s> {
    policy: &'s Arc<Policy>,
    row: &'s Arc<Resource>,
    binding: &'s Arc<Binding>,
    param: Value,
}

/// Why a policy doesn't let the write pass.
struct Denial<'s> {
    policy: &'s Policy,
    binding: Option<&'s Binding>,
    why: String,
    reason: &'static str,
}

/// Why a mutation wasn't done.
enum Failure {
    /// `failurePolicy` decides.
    Policy(String),
    Request(Status),
}

impl Mutating {
    async fn round(&self, a: &mut Attributes<'_>, subjects: &[Subject]) -> Result<()> {
        let (invocations, mut denied) = self.invocations(a, subjects);
        let mut touched = false;
        for invocation in &invocations {
            let Invocation { policy, binding, .. } = invocation;
            for why in self.invoke(a, invocation, &mut touched).await? {
                denied.push(Denial { policy, binding: Some(*binding), why, reason: "Invalid" });
            }
        }
        if touched {
            // As upstream, whether anything came of it or not.
            a.reinvocation.changed(NAME);
        }
        let text = |d: &Denial<'_>| match d.binding {
            Some(b) => format!("policy '{}' with binding '{}' denied request: {}", d.policy.name, b.name, d.why),
            None => format!("policy {:?} denied request: {}", d.policy.name, d.why),
        };
        let counts = denied.iter().filter(|d| !d.policy.fails_open);
        let told: Vec<(String, &str)> = counts.map(|d| (text(d), d.reason)).collect();
        let Some((first, reason)) = told.first() else { return Ok(()) };
        let mut status = forbidden(a, "admission request denied by policy");
        status.message = first.clone();
        status.reason = reason;
        if let Some(details) = &mut status.details {
            let cause = |(message, _)| Cause { reason: String::new(), message, field: String::new() };
            details.causes.extend(told.into_iter().map(cause));
        }
        Err(status)
    }

    /// What is to be done, and what can't be because policies and bindings are as they are.
    fn invocations<'s>(&self, a: &Attributes<'_>, subjects: &'s [Subject]) -> (Vec<Invocation<'s>>, Vec<Denial<'s>>) {
        let (mut invocations, mut denied) = (Vec::new(), Vec::new());
        let mut configured = |policy: &'s Policy, binding: Option<&'s Arc<Binding>>, why: &str| {
            let why = misconfigured(binding, why);
            denied.push(Denial { policy, binding: binding.map(|b| &**b), why, reason: "Forbidden" });
        };
        let namespace = matching::namespace_of(a);
        for Subject { policy, matched } in subjects {
            let Matched { row, bindings } = match matched {
                Ok(m) => m,
                Err(why) => {
                    configured(policy, None, why);
                    continue;
                }
            };
            for (binding, matches) in bindings {
                let params = matches
                    .clone()
                    .and_then(|()| params::collect(policy, binding, &namespace, &a.catalogue, &self.0.reader));
                match params {
                    Ok(params) => {
                        let all = params.into_iter().map(|param| Invocation { policy, row, binding, param });
                        invocations.extend(all);
                    }
                    Err(why) => configured(policy, Some(binding), &why),
                }
            }
        }
        (invocations, denied)
    }

    /// Gives what kept mutations from being done. `touched`: whether any was done.
    async fn invoke(&self, a: &mut Attributes<'_>, i: &Invocation<'_>, touched: &mut bool) -> Result<Vec<String>> {
        let Invocation { policy, row, .. } = i;
        let (before, old) = versioned(a, row).await?;
        let request = input::request(a, row);
        let resource = input::request_resource(a);
        let namespace = input::namespace(a, &self.0.reader)?;
        let given = policy.param_kind.as_ref().map(|_| &i.param);
        let mut answers = Answers::new();
        let matches = input::answered(&self.0.authorizer, a.user, &mut answers, |answers| {
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
            match policy.conditions.evaluate(&input.for_conditions().vars()) {
                Ok(m) => Ok(Ok(m == Matches::Yes)),
                Err(Failed::Unanswered(check)) => Err(check),
                Err(f) => Ok(Err(f.text().unwrap_or_default())),
            }
        })
        .await;
        match matches {
            Ok(true) => {}
            Ok(false) => return Ok(Vec::new()),
            Err(why) => return Ok(vec![why]),
        }
        let meta = &i.param["metadata"];
        let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
        let id = format!("{}/{}/{}/{}", policy.name, i.binding.name, text(&meta["namespace"]), text(&meta["name"]));
        if !a.reinvocation.is_due(NAME, &id) {
            return Ok(Vec::new());
        }
        let mut object = before.clone();
        let mut failed = Vec::new();
        let mutations = if before.is_null() { &[] } else { policy.mutations.as_slice() };
        for mutation in mutations {
            let started = Instant::now();
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
            let done = patched.map_err(Failure::Policy);
            let done = done.and_then(|p| changed(row, a.subresource, &object, mutation, p));
            count(policy, i.binding, done.as_ref().err(), started);
            match done {
                Ok(new) => {
                    object = new;
                    *touched = true;
                }
                Err(Failure::Policy(why)) => failed.push(why),
                Err(Failure::Request(s)) => return Err(s),
            }
        }
        if object != before {
            a.reinvocation.changed(NAME);
            *a.object = webhooks::in_version(a, &object, row, a.resource).await?;
        }
        if policy.reinvoked {
            a.reinvocation.invoked(NAME, &id);
        }
        Ok(failed)
    }
}

fn count(policy: &Policy, binding: &Binding, failure: Option<&Failure>, started: Instant) {
    let error = match failure {
        None => "no_error",
        Some(Failure::Policy(why)) => error_type(why),
        Some(Failure::Request(s)) => error_type(&s.message),
    };
    let labels = format!("error_type=\"{error}\",policy=\"{}\",policy_binding=\"{}\"", policy.name, binding.name);
    MUTATING_POLICIES.add(labels.clone());
    MUTATING_POLICY_DURATIONS.observe(labels, started.elapsed().as_secs_f64());
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
    if let Err(why) = &e.program {
        return Ok(Err(why.clone()));
    }
    let value = match run(&e.program, &e.text, &vars, &mut budget) {
        Ok(v) => v,
        Err(Failed::Unanswered(check)) => return Err(check),
        Err(f) => return Ok(Err(f.text().unwrap_or_default())),
    };
    tracing::trace!(policy = policy.name, "mutation evaluated");
    let json =
        |v: &Cel<'_>| v.to_json(&mut STEPS_MAX.clone()).ok_or_else(|| "patch can't be expressed as JSON".to_string());
    let named = |s: &Struct<'_>| check_names(s).map_err(|e| format!("type mismatch: {e}"));
    Ok(match (&value, mutation.applies) {
        (Cel::Struct(s), true) => named(s).and_then(|()| json(&value)),
        (other, true) => {
            Err(format!("unsupported return type from ApplyConfiguration expression: {}", other.type_name()))
        }
        (Cel::List(List::Owned(operations)), false) => {
            let named = operations.iter().try_for_each(|o| match o {
                Cel::Struct(operation) => match operation.fields.get("value") {
                    Some(Cel::Struct(s)) => named(s),
                    _ => Ok(()),
                },
                _ => Ok(()),
            });
            named.and_then(|()| json(&value)).map(operations_of)
        }
        (Cel::List(_), false) => json(&value).map(operations_of),
        (_, false) => Err("type mismatch: JSONPatchType.expression should evaluate to array".to_string()),
    })
}

/// Every operation has a name and a path, be they empty.
fn operations_of(mut patch: Value) -> Value {
    for operation in patch.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        for key in ["op", "path"] {
            operation.entry(key).or_insert_with(|| "".into());
        }
        if operation.get("from").is_some_and(|f| f == "") {
            operation.remove("from");
        }
    }
    patch
}

/// The object after a patch, with its kind's defaults.
fn changed(
    row: &Resource,
    subresource: &str,
    object: &Value,
    mutation: &Mutation,
    patch: Value,
) -> std::result::Result<Value, Failure> {
    let patched = if mutation.applies {
        merged(row, subresource, object, patch)?
    } else {
        match json_patch::perform(object, patch.as_array().map(Vec::as_slice).unwrap_or_default()) {
            Ok(patched) => patched,
            // Who tests means that nothing is to be done otherwise.
            Err(undone) if undone.by_test => return Ok(object.clone()),
            Err(undone) => return Err(Failure::Policy(format!("JSON Patch: {}", undone.why))),
        }
    };
    webhooks::conform(row, subresource, object, patched, !mutation.applies).map_err(|why| match mutation.applies {
        true => Failure::Policy(why),
        false => Failure::Request(Status::internal(why)),
    })
}

fn key_default(_: TypeId, key: &str) -> Option<Value> {
    (key == "protocol").then(|| "TCP".into())
}

/// Server-side apply without owners.
fn merged(row: &Resource, subresource: &str, object: &Value, mut patch: Value) -> std::result::Result<Value, Failure> {
    let (group, version, kind) = matching::kind_of(row, subresource);
    let (types, ty) = if kind == row.kind {
        row.types()
    } else {
        match api::facts::facts().kind(&group, &version, &kind) {
            Some(ty) => (api::facts::types().clone(), ty),
            None => {
                return Err(Failure::Request(Status::unavailable(format!(
                    "Resource kind {group}/{version}, Kind={kind} not found. There can be a delay between when CustomResourceDefinitions are created and when they are available."
                ))));
            }
        }
    };
    let fail = |why: String| Failure::Policy(format!("error applying patch: {why}"));
    if let Some(o) = patch.as_object_mut() {
        for key in ["apiVersion", "kind"] {
            o.insert(key.into(), object[key].clone());
        }
    }
    let structure = Structure::new(&types, ty).with_key_default(&key_default);
    meta::apply::field_set(&structure, &patch)
        .map_err(|why| fail(format!("failed to convert patch object to typed object: {why}")))?;
    let mut atomics = Vec::new();
    find_atomics(&types, ty, &patch, "", &mut atomics);
    if !atomics.is_empty() {
        let all = atomics.join(", ");
        return Err(fail(format!("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {all}")));
    }
    let api_version = row.api_version();
    let writer = Writer { manager: "", api_version: &api_version, subresource, now: jiff::Timestamp::UNIX_EPOCH };
    let managed = object["metadata"].get("managedFields").cloned();
    let done = meta::apply::merge(&structure, object, &patch, &Managed::default(), &writer, true)
        .map_err(|f| fail(format!("failed to merge patch: {}", Status::from(f).message)))?;
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
                found.push(path.to_string());
            }
            for (name, v) in fields {
                if let Some(Field { ty, .. }) = s.field(name) {
                    find_atomics(types, *ty, v, &format!("{path}.{name}"), found);
                }
            }
        }
        (Shape::Map { atomic: true, .. }, Value::Object(_)) => found.push(path.to_string()),
        (Shape::List(l), Value::Array(items)) => {
            if l.topology == Topology::Atomic {
                found.push(path.to_string());
            }
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
