//! What a Job's own rules say of pods: `podFailurePolicy` (KEP-3329) and `successPolicy` (KEP-3998).

use super::indexes;
use k8s_openapi::api::batch::v1::{JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt;
use std::collections::BTreeSet;

/// What to do about a failed pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Count,
    Ignore,
    FailIndex,
    /// With the message for the Job's condition.
    FailJob(String),
}

/// The first rule that matches decides; without one the pod counts.
pub fn verdict(spec: &JobSpec, pod: &Pod) -> Verdict {
    let rules = spec.pod_failure_policy.as_ref().map(|p| p.rules.as_slice()).unwrap_or_default();
    for (i, rule) in rules.iter().enumerate() {
        if let Some(why) = matches(rule, pod) {
            return match rule.action.as_str() {
                "Ignore" => Verdict::Ignore,
                "FailIndex" => Verdict::FailIndex,
                "FailJob" => Verdict::FailJob(format!("{why} matching FailJob rule at index {i}")),
                _ => Verdict::Count,
            };
        }
    }
    Verdict::Count
}

fn matches(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let place = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    if let Some(codes) = &rule.on_exit_codes {
        let all = [status.init_container_statuses.as_deref(), status.container_statuses.as_deref()];
        return all.into_iter().flatten().flatten().find_map(|c| {
            let code = exit_code(codes, c)?;
            Some(format!("Container {} for pod {place} failed with exit code {code}", c.name))
        });
    }
    let conditions = status.conditions.as_deref().unwrap_or_default();
    rule.on_pod_conditions.as_deref().unwrap_or_default().iter().find_map(|pattern| {
        let wanted = pattern.status.as_deref().unwrap_or("True");
        let c = conditions.iter().find(|c| c.type_ == pattern.type_ && c.status == wanted)?;
        Some(format!("Pod {place} has condition {}", c.type_))
    })
}

/// The exit code of a container that the requirement matches. Success never does.
fn exit_code(requirement: &PodFailurePolicyOnExitCodesRequirement, container: &ContainerStatus) -> Option<i32> {
    if requirement.container_name.as_ref().is_some_and(|n| *n != container.name) {
        return None;
    }
    let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
    let listed = requirement.values.contains(&code);
    let hit = match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    };
    (hit && code != 0).then_some(code)
}

/// The first success rule that the succeeded indexes fulfil.
pub fn success(spec: &JobSpec, succeeded: &BTreeSet<i32>) -> Option<usize> {
    let completions = spec.completions.unwrap_or(0);
    spec.success_policy.as_ref()?.rules.iter().position(|rule| {
        let counted = match &rule.succeeded_indexes {
            Some(text) => {
                let wanted = indexes::parse(text, completions);
                let hit = wanted.intersection(succeeded).count();
                if rule.succeeded_count.is_none() {
                    return hit == wanted.len() && !wanted.is_empty();
                }
                hit
            }
            None => succeeded.len(),
        };
        rule.succeeded_count.is_some_and(|n| i32::try_from(counted).unwrap_or(i32::MAX) >= n)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(v: Value) -> JobSpec {
        serde_json::from_value(v).unwrap()
    }

    #[test]
    fn failures_are_judged_by_the_first_rule_that_matches() {
        let rules = spec(json!({"template": {}, "podFailurePolicy": {"rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "FailJob", "onExitCodes": {"containerName": "main", "operator": "In", "values": [42]}},
            {"action": "FailIndex", "onExitCodes": {"operator": "NotIn", "values": [1, 2]}},
        ]}}));
        let pod = |container: &str, code: i32, conditions: Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "status": {
                "phase": "Failed", "conditions": conditions,
                "containerStatuses": [{"name": container, "image": "", "imageID": "", "ready": false, "restartCount": 0,
                    "state": {"terminated": {"exitCode": code}}}]}}))
            .unwrap()
        };
        let disrupted = json!([{"type": "DisruptionTarget", "status": "True"}]);
        let message = "Container main for pod n/p failed with exit code 42 matching FailJob rule at index 1";
        for (what, pod, want) in [
            ("disrupted", pod("main", 42, disrupted), Verdict::Ignore),
            ("the named code", pod("main", 42, json!([])), Verdict::FailJob(message.into())),
            ("another container's", pod("side", 42, json!([])), Verdict::FailIndex),
            ("a code that is left out", pod("main", 1, json!([])), Verdict::Count),
            ("success", pod("main", 0, json!([])), Verdict::Count),
        ] {
            assert_eq!(verdict(&rules, &pod), want, "{what}");
        }
    }

    #[test]
    fn success_rules() {
        let s = |rule: Value| spec(json!({"template": {}, "completions": 5, "successPolicy": {"rules": [rule]}}));
        for (rule, done, want) in [
            (json!({"succeededIndexes": "0,2"}), vec![0, 1], None),
            (json!({"succeededIndexes": "0,2"}), vec![0, 2], Some(0)),
            (json!({"succeededCount": 2}), vec![4], None),
            (json!({"succeededCount": 2}), vec![3, 4], Some(0)),
            (json!({"succeededCount": 1, "succeededIndexes": "0-2"}), vec![3, 4], None),
            (json!({"succeededCount": 1, "succeededIndexes": "0-2"}), vec![1, 4], Some(0)),
        ] {
            assert_eq!(success(&s(rule.clone()), &done.clone().into_iter().collect()), want, "{rule} {done:?}");
        }
    }
}
