//! What a Job's status may say: other controllers than Kubernetes' own (`managedBy`) write it too, and clients rely
//! on its promises. Only what a write changes is looked at, so that statuses from older rules can still be updated.

use crate::validation::access::*;
use crate::validation::conditions::states;
use crate::validation::seen::Seen;
use crate::validation::workload;
use meta::field::{Errors, Path};
use serde_json::Value;

/// Upstream's `ValidateJobUpdateStatus`.
pub fn validate(new: &Value, old: &Value, errors: &mut Errors) {
    let p = Path::new("status");
    let (n, o, spec) = (field(new, "status"), field(old, "status"), field(new, "spec"));
    workload::non_negative(n, &["active", "succeeded", "failed", "ready", "terminating"], &p, errors);
    uncounted(field(n, "uncountedTerminatedPods"), &p.child("uncountedTerminatedPods"), errors);
    let changed = |key: &str| !same(field(n, key), field(o, key));
    let turned = |kind: &str| is_true(n, kind) != is_true(o, kind);
    let (complete, failed) = (is_true(n, "Complete"), is_true(n, "Failed"));
    let (met, target) = (is_true(n, "SuccessCriteriaMet"), is_true(n, "FailureTarget"));
    let finished = complete || failed;
    let finish_turned = finished != (is_true(o, "Complete") || is_true(o, "Failed"));
    let conditions = |text: &str, errors: &mut Errors| errors.invalid_omitted(p.child("conditions"), text);

    if (turned("Complete") || turned("Failed")) && complete && failed {
        conditions("cannot set Complete=True and Failed=true conditions", errors);
    }
    if (turned("Complete") || turned("FailureTarget")) && complete && target {
        conditions("cannot set Complete=True and FailureTarget=true conditions", errors);
    }
    completion_time(n, turned("Complete") || changed("completionTime"), complete, &p, errors);
    if (changed("startTime") || changed("completionTime"))
        && let (Some(start), Some(end)) = (time(n, "startTime"), time(n, "completionTime"))
        && end < start
    {
        let value = field(n, "completionTime").clone();
        errors.invalid(p.child("completionTime"), value, "must be equal to or after `startTime`");
    }
    if (turned("Failed") || changed("failedIndexes")) && failed && !target {
        conditions("cannot set Failed=True condition without the FailureTarget=true condition", errors);
    }
    if (turned("Complete") || turned("SuccessCriteriaMet")) && complete && !met {
        conditions("cannot set Complete=True condition without the SuccessCriteriaMet=true condition", errors);
    }
    if (finish_turned || changed("active"))
        && finished
        && let Some(active) = int(n, "active").filter(|a| *a > 0)
    {
        errors.invalid(p.child("active"), active, "active>0 is invalid for finished job");
    }
    let nothing_to_do = flag(spec, "suspend") && int(spec, "completions") == Some(0);
    if (finish_turned || changed("startTime")) && !nothing_to_do && finished && !has(n, "startTime") {
        errors.required(p.child("startTime"), "startTime is required for finished job");
    }
    let uncounted = field(n, "uncountedTerminatedPods");
    let some_uncounted = ["failed", "succeeded"].iter().any(|k| !list(uncounted, k).is_empty());
    if (finish_turned || changed("uncountedTerminatedPods")) && finished && some_uncounted {
        let p = p.child("uncountedTerminatedPods");
        errors.invalid(p, uncounted.clone(), "must be empty for finished job");
    }
    indexes(n, spec, changed("completedIndexes"), changed("failedIndexes"), &p, errors);
    if (finish_turned || changed("terminating"))
        && finished
        && let Some(n) = int(n, "terminating").filter(|t| *t > 0)
    {
        errors.invalid(p.child("terminating"), n, "terminating>0 is invalid for finished job");
    }
    if (changed("ready") || changed("active"))
        && let Some(ready) = int(n, "ready").filter(|r| *r > int(n, "active").unwrap_or(0))
    {
        errors.invalid(p.child("ready"), ready, "cannot set more ready pods than active");
    }
    if met && failed {
        conditions("cannot set SuccessCriteriaMet=True and Failed=true conditions", errors);
    }
    if met && target {
        conditions("cannot set SuccessCriteriaMet=True and FailureTarget=true conditions", errors);
    }
    if has(spec, "successPolicy") && complete && !met {
        let text = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        conditions(text, errors);
    }
    transitions(new, n, o, &p, errors);
}

/// What may not be taken back.
fn transitions(new: &Value, n: &Value, o: &Value, p: &Path, errors: &mut Errors) {
    let spec = field(new, "spec");
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if is_true(o, kind) && !is_true(n, kind) {
            let text = format!("cannot disable the terminal {kind}=True condition");
            errors.invalid_omitted(p.child("conditions"), text);
        }
    }
    // An elastic Indexed Job may shrink below what has succeeded already.
    let elastic = text(spec, "completionMode") == "Indexed" && field(spec, "completions") == field(spec, "parallelism");
    for key in ["failed", "succeeded"] {
        let (is, was) = (int(n, key).unwrap_or(0), int(o, key).unwrap_or(0));
        if is < was && !(key == "succeeded" && elastic) {
            errors.invalid(p.child(key), is, format!("cannot decrease the {key} counter"));
        }
    }
    let moved = |key: &str| has(o, key) && field(n, key) != field(o, key);
    if has(n, "completionTime") && moved("completionTime") {
        let value = field(n, "completionTime").clone();
        errors.invalid(p.child("completionTime"), value, "field is immutable");
    }
    let resumes = is_true(o, "Suspended") && states(n).get("Suspended") == Some(&"False");
    if moved("startTime") && !resumes && !flag(spec, "suspend") {
        errors.required(p.child("startTime"), "startTime cannot be removed for unsuspended job");
    }
    let met = |s: &Value| is_true(s, "SuccessCriteriaMet");
    if met(o) && !met(n) {
        errors.invalid_omitted(p.child("conditions"), "cannot disable the SuccessCriteriaMet=True condition");
    }
    if is_true(o, "Complete") && !met(o) && met(n) {
        let text = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        errors.invalid_omitted(p.child("conditions"), text);
    }
}

fn completion_time(n: &Value, looked_at: bool, complete: bool, p: &Path, errors: &mut Errors) {
    let p = p.child("completionTime");
    match field(n, "completionTime") {
        _ if !looked_at => {}
        Value::Null if complete => errors.required(p, "completionTime is required for Complete jobs"),
        Value::Null => {}
        at if !complete => {
            let text = "cannot set completionTime when there is no Complete=True condition";
            errors.invalid(p, at.clone(), text);
        }
        _ => {}
    }
}

fn uncounted(pods: &Value, path: &Path, errors: &mut Errors) {
    let mut seen: Seen<&str> = Seen::default();
    for key in ["succeeded", "failed"] {
        for (i, uid) in texts(pods, key).into_iter().enumerate() {
            let p = path.child(key).index(i);
            if uid.is_empty() {
                errors.invalid(p, uid, "must not be empty");
            } else if seen.again(uid) {
                errors.duplicate(p, uid);
            }
        }
    }
}

fn indexes(n: &Value, spec: &Value, completed: bool, failed: bool, p: &Path, errors: &mut Errors) {
    let (done, lost) = (text(n, "completedIndexes"), field(n, "failedIndexes").as_str());
    let completions = int(spec, "completions");
    let per_index = has(spec, "backoffLimitPerIndex");
    if completed
        && let Some(c) = completions
        && let Err(e) = super::count_indexes(done, c)
    {
        errors.invalid(p.child("completedIndexes"), done, format!("error parsing completedIndexes: {e}"));
    }
    if failed
        && per_index
        && let (Some(c), Some(lost)) = (completions, lost)
        && let Err(e) = super::count_indexes(lost, c)
    {
        errors.invalid(p.child("failedIndexes"), lost, format!("error parsing failedIndexes: {e}"));
    }
    if completed && !done.is_empty() && text(spec, "completionMode") != "Indexed" {
        let text = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.invalid(p.child("completedIndexes"), done, text);
    }
    let Some(lost) = lost else {
        return;
    };
    if failed && !per_index {
        let text = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.invalid(p.child("failedIndexes"), lost, text);
    }
    if (completed || failed)
        && let Some(c) = completions
        && let Some(both) = overlap(done, lost, c)
    {
        let text = format!("failedIndexes and completedIndexes overlap at index: {both}");
        errors.invalid(p.child("failedIndexes"), lost, text);
    }
}

/// The first index that is in both of two texts like `0,2-4`; unreadable parts are skipped.
fn overlap(a: &str, b: &str, completions: i64) -> Option<i64> {
    let intervals = |text: &str| -> Vec<(i64, i64)> {
        text.split(',').filter_map(|part| super::interval(part, completions).ok()).collect()
    };
    let (a, b) = (intervals(a), intervals(b));
    let (mut i, mut j) = (0, 0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        if x.0 <= y.1 && y.0 <= x.1 {
            return Some(x.0.max(y.0));
        }
        if x.1 < y.0 { i += 1 } else { j += 1 }
    }
    None
}

pub fn is_true(status: &Value, kind: &str) -> bool {
    list(status, "conditions").iter().any(|c| text(c, "type") == kind && text(c, "status") == "True")
}

fn time(status: &Value, key: &str) -> Option<jiff::Timestamp> {
    text(status, key).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn faults(spec: Value, old: Value, new: Value) -> String {
        let mut errors = Errors::default();
        let job = |status| json!({"spec": spec, "status": status});
        validate(&job(new), &job(old), &mut errors);
        errors.joined()
    }

    fn conditions(kinds: &[&str]) -> Value {
        kinds.iter().map(|k| json!({"type": k, "status": "True"})).collect()
    }

    #[test]
    fn the_end_of_a_job_is_told_whole() {
        let at = "2026-01-01T00:00:00Z";
        let done = json!({"startTime": at, "completionTime": at, "succeeded": 1, "conditions": conditions(&["SuccessCriteriaMet", "Complete"])});
        assert_eq!(faults(json!({}), json!({"startTime": at}), done.clone()), "[]");
        for (change, text) in [
            (
                json!({"conditions": conditions(&["Complete"])}),
                "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
            ),
            (
                json!({"completionTime": null}),
                "status.completionTime: Required value: completionTime is required for Complete jobs",
            ),
            (json!({"startTime": null}), "status.startTime: Required value: startTime is required for finished job"),
            (json!({"active": 1}), "status.active: Invalid value: 1: active>0 is invalid for finished job"),
            (json!({"ready": 1}), "status.ready: Invalid value: 1: cannot set more ready pods than active"),
            (json!({"completionTime": "2025-01-01T00:00:00Z"}), "must be equal to or after `startTime`"),
            (
                json!({"completedIndexes": "0"}),
                "cannot set non-empty completedIndexes when non-indexed completion mode",
            ),
            (
                json!({"uncountedTerminatedPods": {"succeeded": ["a", "a"]}}),
                "status.uncountedTerminatedPods.succeeded[1]: Duplicate value: \"a\"",
            ),
        ] {
            let mut new = done.clone();
            for (k, v) in change.as_object().into_iter().flatten() {
                new[k] = v.clone();
            }
            let got = faults(json!({}), json!({"startTime": at}), new);
            assert!(got.contains(text), "{text}: {got}");
        }
        let got = faults(json!({}), done.clone(), json!({"startTime": at, "completionTime": at, "conditions": []}));
        assert!(got.contains("cannot disable the terminal Complete=True condition"), "{got}");
        assert!(got.contains("status.succeeded: Invalid value: 0: cannot decrease the succeeded counter"), "{got}");
    }

    #[test]
    fn indexes_are_done_or_lost() {
        assert_eq!(overlap("0-2,5", "3,5-6", 9), Some(5));
        assert_eq!(overlap("0-2", "3-4", 9), None);
        let spec = json!({"completionMode": "Indexed", "completions": 5, "parallelism": 5, "backoffLimitPerIndex": 1});
        let got = faults(spec, json!({}), json!({"completedIndexes": "0-2", "failedIndexes": "2,9"}));
        assert!(got.contains("error parsing failedIndexes: too large index: \"9\""), "{got}");
        assert!(got.contains("failedIndexes and completedIndexes overlap at index: 2"), "{got}");
    }
}
