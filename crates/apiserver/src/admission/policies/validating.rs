//! The plugin `ValidatingAdmissionPolicy`.

use super::definition::{Binding, Policy};
use super::{Policies, Subject, Trouble, input, params, versioned};
use crate::admission::{Attributes, Plugin, forbidden, matching};
use async_trait::async_trait;
use cel::admission::{Failure, Input, Matched, message, run};
use cel::{Answers, Budget, Check, POLICY_BUDGET, Value as Cel};
use meta::status::{Cause, Result, Status};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

const AUDIT_VALUE_BYTES_MAX: usize = 10 * 1024;

pub struct Validating(pub Arc<Policies>);

/// Why a policy doesn't let a write pass.
#[derive(Clone, Debug, PartialEq)]
struct Denial {
    /// Position of the validation.
    index: usize,
    message: String,
    reason: String,
}

/// What a policy says with one binding and one parameter.
#[derive(Debug, Default, PartialEq)]
struct Judgement {
    denials: Vec<Denial>,
    /// Key and value, or why there is none.
    audit: Vec<(String, std::result::Result<String, String>)>,
}

#[async_trait]
impl Plugin for Validating {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<()> {
        let (subjects, troubles) = self.0.subjects(a, false);
        let mut denied: Vec<(Arc<Policy>, Option<String>, String, String)> = Vec::new();
        let configured = |t: Trouble| {
            let text = t.configuration();
            (!t.policy.fails_open).then_some((t.policy, t.binding, text, String::new()))
        };
        denied.extend(troubles.into_iter().filter_map(configured));
        for subject in &subjects {
            for (binding, outcome) in self.apply(a, subject).await? {
                let judgements = match outcome {
                    Ok(j) => j,
                    Err(why) => {
                        denied.extend(configured(Trouble::new(&subject.policy, Some(&binding), why)));
                        continue;
                    }
                };
                for denial in judgements {
                    denied.push((subject.policy.clone(), Some(binding.name.clone()), denial.message, denial.reason));
                }
            }
        }
        match denied.into_iter().next() {
            None => Ok(()),
            Some((policy, binding, why, reason)) => Err(refusal(a, &policy.name, binding.as_deref(), &why, &reason)),
        }
    }
}

type Applied = Vec<(Arc<Binding>, std::result::Result<Vec<Denial>, String>)>;

impl Validating {
    /// One policy with each of its bindings. Warnings and audit annotations are given on the way.
    async fn apply(&self, a: &Attributes<'_>, subject: &Subject) -> Result<Applied> {
        let Policies { reader, authorizer, .. } = self.0.as_ref();
        let policy = &subject.policy;
        let mut annotations: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut applied = Vec::new();
        let (object, old) = match versioned(a, &subject.row).await {
            Ok(both) => both,
            Err(s) => {
                let why = format!("failed to convert object version: {}", s.message);
                return Ok(subject.bindings.iter().map(|b| (b.clone(), Err(why.clone()))).collect());
            }
        };
        let request = input::request(a, &subject.row);
        let resource = input::request_resource(a);
        let mut answers = Answers::new();
        for binding in &subject.bindings {
            let namespace_name = matching::namespace_of(a);
            let params = match params::collect(policy, binding, &namespace_name, &a.catalogue, reader) {
                Ok(p) => p,
                Err(why) => {
                    applied.push((binding.clone(), Err(why)));
                    continue;
                }
            };
            let namespace = input::namespace(a, reader)?;
            let mut denials = Vec::new();
            for param in &params {
                let judgement = input::answered(authorizer, a.user, &mut answers, |answers| {
                    let input = Input {
                        object: &object,
                        old_object: &old,
                        request: &request,
                        params: policy.param_kind.as_ref().map(|_| param),
                        namespace: &namespace,
                        answers,
                        resource: &resource,
                        variables: &policy.variables,
                    };
                    judge(policy, &input)
                })
                .await;
                for denial in judgement.denials {
                    act(a, policy, binding, denial, &mut denials);
                }
                for (key, value) in judgement.audit {
                    match value {
                        Ok(value) => {
                            let values = annotations.entry(key).or_default();
                            if !values.contains(&value) {
                                values.push(value);
                            }
                        }
                        Err(message) => denials.push(Denial { index: 0, message, reason: String::new() }),
                    }
                }
            }
            applied.push((binding.clone(), Ok(denials)));
        }
        for (key, values) in annotations {
            a.audit.annotate(format!("{}/{key}", policy.name), values.join(", "));
        }
        Ok(applied)
    }
}

/// Does what the binding wants done about a denial.
fn act(a: &Attributes<'_>, policy: &Policy, binding: &Binding, denial: Denial, denials: &mut Vec<Denial>) {
    for action in &binding.actions {
        match action.as_str() {
            "Deny" => denials.push(denial.clone()),
            "Audit" => {
                let told = json!([{
                    "message": denial.message, "policy": policy.name, "binding": binding.name,
                    "expressionIndex": denial.index, "validationActions": binding.actions,
                }]);
                a.audit.annotate("validation.policy.admission.k8s.io/validation_failure", told.to_string());
            }
            "Warn" => a.told.lock().push(format!(
                "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                policy.name, binding.name, denial.message
            )),
            _ => {}
        }
    }
}

/// Evaluates a policy. Pure; errors are questions that have to be answered first.
fn judge(policy: &Policy, input: &Input<'_>) -> std::result::Result<Judgement, Box<Check>> {
    let vars = input.vars();
    let failed = |message: String| {
        let denial = Denial { index: 0, message, reason: String::new() };
        Judgement { denials: if policy.fails_open { Vec::new() } else { vec![denial] }, audit: Vec::new() }
    };
    match policy.conditions.evaluate(&vars) {
        Ok(Matched::Yes) => {}
        Ok(Matched::No(_)) => return Ok(Judgement::default()),
        Err(Failure::Unanswered(check)) => return Err(check),
        Err(f) => return Ok(failed(f.text().unwrap_or_default())),
    }
    let mut budget = Budget::new(POLICY_BUDGET);
    let mut results = Vec::new();
    for v in &policy.validations {
        match run(&v.condition.program, &v.condition.text, &vars, &mut budget) {
            Ok(value) => results.push(Ok(matches!(value, Cel::Bool(true)))),
            Err(Failure::Failed(why)) => results.push(Err(why)),
            Err(Failure::Unanswered(check)) => return Err(check),
            Err(Failure::Budget) => return Ok(failed(Failure::Budget.text().unwrap_or_default())),
        }
    }
    let mut out = Judgement::default();
    for (index, (v, result)) in policy.validations.iter().zip(results).enumerate() {
        match result {
            Ok(true) => {}
            Err(_) if policy.fails_open => {}
            Err(message) => out.denials.push(Denial { index, message, reason: String::new() }),
            Ok(false) => {
                let expressed = match &v.message_expression {
                    Some(e) => match run(&e.program, &e.text, &vars, &mut budget) {
                        Ok(value) => message(&value),
                        Err(Failure::Unanswered(check)) => return Err(check),
                        Err(f) => {
                            let error = f.text().unwrap_or_default();
                            tracing::debug!(policy = policy.name, error, "message expression failed");
                            None
                        }
                    },
                    None => None,
                };
                let message = expressed
                    .or_else(|| (!v.message.is_empty()).then(|| v.message.clone()))
                    .unwrap_or_else(|| format!("failed expression: {}", v.condition.text.trim()));
                out.denials.push(Denial { index, message, reason: v.reason.clone() });
            }
        }
    }
    let mut budget = Budget::new(POLICY_BUDGET);
    for (key, e) in &policy.audit_annotations {
        let value = match run(&e.program, &e.text, &vars, &mut budget) {
            Ok(Cel::Null) => continue,
            Ok(Cel::String(s)) if s.trim().is_empty() => continue,
            Ok(Cel::String(s)) => Ok(shortened(s.trim())),
            Ok(other) => Err(format!(
                "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or null.",
                e.text,
                other.type_name()
            )),
            Err(Failure::Unanswered(check)) => return Err(check),
            Err(_) if policy.fails_open => continue,
            Err(f) => Err(f.text().unwrap_or_default()),
        };
        out.audit.push((key.clone(), value));
    }
    Ok(out)
}

fn shortened(text: &str) -> String {
    let end = (0..=AUDIT_VALUE_BYTES_MAX.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    text[..end].to_string()
}

fn refusal(a: &Attributes<'_>, policy: &str, binding: Option<&str>, why: &str, reason: &str) -> Status {
    let message = match binding {
        Some(binding) => {
            format!("ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {why}")
        }
        None => format!("ValidatingAdmissionPolicy '{policy}' denied request: {why}"),
    };
    let mut status = forbidden(a, &message);
    let (code, reason) = match reason {
        "Forbidden" => (403, "Forbidden"),
        "Unauthorized" => (401, "Unauthorized"),
        "RequestEntityTooLarge" => (413, "RequestEntityTooLarge"),
        _ => (422, "Invalid"),
    };
    (status.code, status.reason) = (code, reason);
    if let Some(details) = &mut status.details {
        details.causes.push(Cause { reason: String::new(), message, field: String::new() });
    }
    status
}
