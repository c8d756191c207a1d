//! The plugin `ValidatingAdmissionPolicy`.

use super::definition::{Binding, Policy};
use super::{Matched, Policies, Subject, error_type, input, misconfigured, params, versioned};
use crate::admission::{Attributes, Plugin, forbidden, matching};
use crate::metrics::figures::{VALIDATING_POLICIES, VALIDATING_POLICY_DURATIONS};
use async_trait::async_trait;
use cel::admission::{Failure, Input, Matched as Matches, message, run};
use cel::{Answers, Budget, Check, POLICY_BUDGET, Value as Cel};
use meta::status::{Cause, Result, Status};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const AUDIT_VALUE_BYTES_MAX: usize = 10 * 1024;

pub struct Validating(pub Arc<Policies>);

/// Why a policy doesn't let a write pass.
#[derive(Clone, Debug, PartialEq)]
struct Denial {
    /// Position of the validation.
    index: usize,
    message: String,
    reason: String,
    /// How long its expression took.
    took: Duration,
}

impl Denial {
    /// Of no validation in particular.
    fn of(message: String) -> Denial {
        Denial { index: 0, message, reason: String::new(), took: Duration::ZERO }
    }
}

/// What a policy says with one binding and one parameter.
#[derive(Debug, Default, PartialEq)]
struct Judgement {
    denials: Vec<Denial>,
    /// What would have denied, were failures not to be ignored.
    ignored: Vec<Denial>,
    /// Key and value, or why there is none.
    audit: Vec<(String, std::result::Result<String, String>)>,
}

#[async_trait]
impl Plugin for Validating {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<()> {
        let mut denied: Vec<(Arc<Policy>, Option<Arc<Binding>>, Denial)> = Vec::new();
        let mut failures = Vec::new();
        for Subject { policy, matched } in &self.0.subjects(a, false) {
            let configured = |binding: Option<Arc<Binding>>, why: &str| {
                let denial = Denial::of(misconfigured(binding.as_ref(), why));
                (!policy.fails_open).then(|| (policy.clone(), binding, denial))
            };
            let matched = match matched {
                Ok(m) => m,
                Err(why) => {
                    denied.extend(configured(None, why));
                    continue;
                }
            };
            for (binding, outcome) in self.apply(a, policy, matched, &mut failures).await? {
                match outcome {
                    Ok(denials) => {
                        denied.extend(denials.into_iter().map(|d| (policy.clone(), Some(binding.clone()), d)))
                    }
                    Err(why) => denied.extend(configured(Some(binding), &why)),
                }
            }
        }
        tell_auditors(a, &failures);
        match denied.into_iter().next() {
            None => Ok(()),
            Some((policy, binding, denial)) => Err(refusal(
                a,
                &policy.name,
                binding.as_ref().map(|b| b.name.as_str()),
                &denial.message,
                &denial.reason,
            )),
        }
    }
}

type Applied = Vec<(Arc<Binding>, std::result::Result<Vec<Denial>, String>)>;

impl Validating {
    /// One policy with each of its bindings. Warnings and audit annotations are given on the way.
    async fn apply(
        &self,
        a: &Attributes<'_>,
        policy: &Policy,
        matched: &Matched,
        failures: &mut Vec<Audited>,
    ) -> Result<Applied> {
        let Policies { reader, authorizer, .. } = self.0.as_ref();
        let mut annotations: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut applied = Vec::new();
        let (object, old) = match versioned(a, &matched.row).await {
            Ok(both) => both,
            Err(s) => {
                let why = format!("failed to convert object version: {}", s.message);
                return Ok(matched.bindings.iter().map(|(b, _)| (b.clone(), Err(why.clone()))).collect());
            }
        };
        let request = input::request(a, &matched.row);
        let resource = input::request_resource(a);
        let mut answers = Answers::new();
        for (binding, matches) in &matched.bindings {
            if let Err(why) = matches {
                applied.push((binding.clone(), Err(why.clone())));
                continue;
            }
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
                for ignored in judgement.ignored {
                    count(policy, binding, &ignored, "allow");
                }
                for denial in judgement.denials {
                    act(a, policy, binding, denial, &mut denials, failures);
                }
                for (key, value) in judgement.audit {
                    match value {
                        Ok(value) => {
                            let values = annotations.entry(key).or_default();
                            if !values.contains(&value) {
                                values.push(value);
                            }
                        }
                        Err(message) => {
                            let denial = Denial::of(message);
                            count(policy, binding, &denial, "deny");
                            denials.push(denial);
                        }
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
fn act(
    a: &Attributes<'_>,
    policy: &Policy,
    binding: &Binding,
    denial: Denial,
    denials: &mut Vec<Denial>,
    failures: &mut Vec<Audited>,
) {
    for action in &binding.actions {
        count(policy, binding, &denial, &action.to_lowercase());
        match action.as_str() {
            "Deny" => denials.push(denial.clone()),
            "Audit" => failures.push(Audited {
                message: denial.message.clone(),
                policy: policy.name.clone(),
                binding: binding.name.clone(),
                expression_index: denial.index,
                validation_actions: binding.actions.clone(),
            }),
            "Warn" => a.told.lock().push(format!(
                "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                policy.name, binding.name, denial.message
            )),
            _ => {}
        }
    }
}

fn count(policy: &Policy, binding: &Binding, denial: &Denial, action: &str) {
    let labels = format!(
        "enforcement_action=\"{action}\",error_type=\"{}\",policy=\"{}\",policy_binding=\"{}\"",
        error_type(&denial.message),
        policy.name,
        binding.name
    );
    VALIDATING_POLICIES.add(labels.clone());
    VALIDATING_POLICY_DURATIONS.observe(labels, denial.took.as_secs_f64());
}

/// A denial as auditors are told of it, in the order in which upstream writes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Audited {
    message: String,
    policy: String,
    binding: String,
    expression_index: usize,
    validation_actions: Vec<String>,
}

/// Upstream's limit.
const AUDITED_MAX: usize = 50;

fn tell_auditors(a: &Attributes<'_>, failures: &[Audited]) {
    if failures.is_empty() || !a.audit.is_on() {
        return;
    }
    let told = serde_json::to_string(&failures[..failures.len().min(AUDITED_MAX)]).unwrap_or_default();
    a.audit.annotate("validation.policy.admission.k8s.io/validation_failure", told);
}

/// Evaluates a policy. Pure; errors are questions that have to be answered first.
fn judge(policy: &Policy, input: &Input<'_>) -> std::result::Result<Judgement, Box<Check>> {
    let failed = |message: Option<String>| {
        let all = message.map(Denial::of).into_iter().collect();
        match policy.fails_open {
            true => Judgement { ignored: all, ..Judgement::default() },
            false => Judgement { denials: all, ..Judgement::default() },
        }
    };
    match policy.conditions.evaluate(&input.for_conditions().vars()) {
        Ok(Matches::Yes) => {}
        Ok(Matches::No(_)) => return Ok(Judgement::default()),
        Err(Failure::Unanswered(check)) => return Err(check),
        Err(f) => return Ok(failed(f.text())),
    }
    let vars = input.vars();
    let mut budget = Budget::new(POLICY_BUDGET);
    let mut results = Vec::new();
    for v in &policy.validations {
        let started = Instant::now();
        match run(&v.condition.program, &v.condition.text, &vars, &mut budget) {
            Ok(value) => results.push((Ok(matches!(value, Cel::Bool(true))), started.elapsed())),
            Err(Failure::Failed(why)) => results.push((Err(why), started.elapsed())),
            Err(Failure::Unanswered(check)) => return Err(check),
            Err(f @ Failure::Budget) => return Ok(failed(f.text())),
        }
    }
    // All messages are made, whether they are needed or not: what they cost counts.
    let mut messages = Vec::new();
    let mut spent = None;
    for v in &policy.validations {
        let Some(e) = &v.message_expression else {
            messages.push(None);
            continue;
        };
        match run(&e.program, &e.text, &vars, &mut budget) {
            Ok(value) => messages.push(message(&value)),
            Err(Failure::Unanswered(check)) => return Err(check),
            Err(f @ Failure::Budget) => {
                spent = f.text().map(|why| format!("failed messageExpression: {why}"));
                break;
            }
            Err(Failure::Failed(error)) => {
                tracing::debug!(policy = policy.name, error, "message expression failed");
                messages.push(None);
            }
        }
    }
    let mut out = Judgement::default();
    for (index, (v, (result, took))) in policy.validations.iter().zip(results).enumerate() {
        let failed = if policy.fails_open { &mut out.ignored } else { &mut out.denials };
        match (result, &spent) {
            (Err(message), _) => failed.push(Denial { index, took, ..Denial::of(message) }),
            (Ok(_), Some(message)) => failed.push(Denial { index, took, ..Denial::of(message.clone()) }),
            (Ok(true), None) => {}
            (Ok(false), None) => {
                let message = messages
                    .get_mut(index)
                    .and_then(Option::take)
                    .or_else(|| (!v.message.is_empty()).then(|| v.message.clone()))
                    .unwrap_or_else(|| format!("failed expression: {}", v.condition.text.trim()));
                out.denials.push(Denial { index, message, reason: v.reason.clone(), took });
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
            Err(f @ Failure::Budget) => return Ok(failed(f.text())),
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
