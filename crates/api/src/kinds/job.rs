//! Job. What its status may say is in `job/status.rs`.

mod status;

use super::{columns, pod};
use crate::strategy::{AGE, Column, NAME, Now, Strategy, column, column_of, human_duration};
use crate::validation::access::*;
use crate::validation::seen::Seen;
use crate::validation::{podspec, selector, values, workload};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct Job;

const UID_LABEL: &str = "batch.kubernetes.io/controller-uid";
const NAME_LABEL: &str = "batch.kubernetes.io/job-name";
/// Indexed Jobs of more pods than this would make objects too big.
const PARALLELISM_INDEXED_MAX: i64 = 100_000;
const FAILED_INDEXES_MAX: i64 = 100_000;
/// Above so many completions, other limits get tighter.
const COMPLETIONS_SOFT_LIMIT: i64 = 100_000;
const PARALLELISM_MANY_MAX: i64 = 10_000;
const FAILED_INDEXES_MANY_MAX: i64 = 10_000;
const RULES_MAX: usize = 20;
const SUCCEEDED_INDEXES_BYTES_MAX: usize = 64 * 1024;
const MANAGED_BY_BYTES_MAX: usize = 63;

impl Strategy for Job {
    fn defaults(&self, obj: &mut Value) {
        let labels = at(obj, &["spec", "template", "metadata", "labels"]).clone();
        if labels.as_object().is_some_and(|l| !l.is_empty())
            && let Some(m) = ensure_object(obj, "metadata")
        {
            fill_zero(m, "labels", labels);
        }
        let Some(spec) = ensure_object(obj, "spec") else {
            return;
        };
        if !has(spec, "completions") && !has(spec, "parallelism") {
            set(spec, "completions", 1);
        }
        fill(spec, "parallelism", 1);
        let per_index = has(spec, "backoffLimitPerIndex");
        fill(spec, "backoffLimit", if per_index { i32::MAX } else { 6 });
        fill(spec, "completionMode", "NonIndexed");
        for key in ["suspend", "manualSelector"] {
            fill(spec, key, false);
        }
        let policy = if has(spec, "podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
        fill(spec, "podReplacementPolicy", policy);
        nested_defaults(spec);
    }

    fn prepare_create(&self, obj: &mut Value, _has_status: bool) {
        remove(obj, "status");
        let uid = text_at(obj, &["metadata", "uid"]).to_string();
        let name = text_at(obj, &["metadata", "name"]).to_string();
        let Some(spec) = ensure_object(obj, "spec") else {
            return;
        };
        if flag(spec, "manualSelector") {
            return;
        }
        if let Some(labels) = ensure_object(spec, "template")
            .and_then(|t| ensure_object(t, "metadata"))
            .and_then(|m| ensure_object(m, "labels"))
        {
            for (key, value) in [("controller-uid", &uid), ("job-name", &name), (UID_LABEL, &uid), (NAME_LABEL, &name)]
            {
                // A different value shows that the user wanted a selector of their own; validation says so.
                fill(labels, key, value.as_str());
            }
        }
        if let Some(m) = ensure_object(spec, "selector").and_then(|s| ensure_object(s, "matchLabels")) {
            fill(m, UID_LABEL, uid);
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        validate(obj, true, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let (n, o, path) = (field(new, "spec"), field(old, "spec"), Path::new("spec"));
        // Older Jobs may lack the labels with a prefix.
        let had = at(o, &["template", "metadata", "labels"]);
        validate(new, has(had, NAME_LABEL) && has(had, UID_LABEL), errors);
        let fixed = |key: &str, errors: &mut Errors| {
            values::immutable(field(n, key), field(o, key), path.child(key), errors);
        };
        if text(n, "completionMode") != "Indexed" {
            fixed("completions", errors);
        } else if field(n, "completions") != field(o, "completions")
            && has(n, "completions")
            && field(n, "completions") != field(n, "parallelism")
        {
            let text = "can only be modified in tandem with spec.parallelism";
            errors.invalid(path.child("completions"), field(n, "completions").clone(), text);
        }
        fixed("selector", errors);
        template_update(new, old, &path, errors);
        for key in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
            fixed(key, errors);
        }
    }

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        status::validate(new, old, errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        let generation = |o: &Value| at(o, &["metadata", "generation"]).clone();
        if old.is_none() {
            values::name_as_label(new, "Pod names and hostnames", &mut out);
        }
        if old.is_none_or(|old| generation(old) != generation(new)) {
            spec_warnings(field(new, "spec"), &Path::new("spec"), &mut out);
        }
        out
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        vec![("status.successful", int(field(obj, "status"), "succeeded").unwrap_or(0).to_string())]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Status", "string", 0, "What has become of the job."),
            column_of("Completions", "string", 0, "api.batch.v1.JobStatus.succeeded"),
            column("Duration", "string", 0, "How long the job took, or takes already."),
            AGE,
            columns::CONTAINERS,
            columns::IMAGES,
            column_of("Selector", "string", 1, "api.batch.v1.JobSpec.selector"),
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let (spec, status) = (field(obj, "spec"), field(obj, "status"));
        let [containers, images] = columns::containers_and_images(at(spec, &["template", "spec"]));
        let succeeded = int(status, "succeeded").unwrap_or(0);
        let completions = match (int(spec, "completions"), int(spec, "parallelism").unwrap_or(0)) {
            (Some(n), _) => format!("{succeeded}/{n}"),
            (None, p) if p > 1 => format!("{succeeded}/1 of {p}"),
            _ => format!("{succeeded}/1"),
        };
        let time = |key| text(status, key).parse::<jiff::Timestamp>().ok();
        let duration = match (time("startTime"), time("completionTime")) {
            (None, _) => String::new(),
            (Some(start), end) => human_duration(end.unwrap_or(now.0).as_second() - start.as_second()),
        };
        vec![
            columns::name(obj),
            json!(state(obj)),
            json!(completions),
            json!(duration),
            columns::age_cell(obj, now),
            containers,
            images,
            json!(selector::shown(field(spec, "selector"))),
        ]
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn default_orphan(&self) -> bool {
        true
    }
}

fn state(job: &Value) -> &'static str {
    let has_condition = |kind: &str| status::is_true(field(job, "status"), kind);
    if has_condition("Complete") {
        "Complete"
    } else if has_condition("Failed") {
        "Failed"
    } else if has(field(job, "metadata"), "deletionTimestamp") {
        "Terminating"
    } else if has_condition("Suspended") {
        "Suspended"
    } else if has_condition("FailureTarget") {
        "FailureTarget"
    } else if has_condition("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

/// The defaults that a Job's spec has in a CronJob, too.
pub fn nested_defaults(spec: &mut Value) {
    if let Some(p) = object_mut(spec, "podFailurePolicy") {
        for rule in items_mut(p, "rules") {
            for pattern in items_mut(rule, "onPodConditions") {
                fill_zero(pattern, "status", "True");
            }
        }
    }
    pod::defaults::template(spec, "template");
}

/// `prefixed`: the labels that a Job's selector is made of are there with their prefix, too.
fn validate(job: &Value, prefixed: bool, errors: &mut Errors) {
    let sp = field(job, "spec");
    generated_selector(job, prefixed, errors);
    spec_and_selector(sp, &Path::new("spec"), errors);
    // Hostnames of pods are made of the Job's name and an index.
    let completions = int(sp, "completions").unwrap_or(0);
    if text(sp, "completionMode") == "Indexed" && completions > 0 {
        let job = text_at(job, &["metadata", "name"]);
        let name = format!("{job}-{}", completions - 1);
        if !meta::names::dns1123_label(&name).is_empty() {
            let text = format!("will not able to create pod with invalid DNS label: {name}");
            errors.invalid(Path::new("metadata.name"), job, text);
        }
    }
}

fn generated_selector(job: &Value, prefixed: bool, errors: &mut Errors) {
    let sp = field(job, "spec");
    if flag(sp, "manualSelector") || !has(sp, "selector") {
        return;
    }
    let labels = at(sp, &["template", "metadata", "labels"]);
    let path = Path::new("spec.template.metadata.labels");
    let (uid, name) = (text_at(job, &["metadata", "uid"]), text_at(job, &["metadata", "name"]));
    let expected = [("controller-uid", uid), ("job-name", name), (UID_LABEL, uid), (NAME_LABEL, name)];
    let expected = if prefixed { &expected[..] } else { &expected[..2] };
    for &(key, want) in expected {
        let text = format!("must be '{want}'");
        match labels.get(key).and_then(Value::as_str) {
            None => errors.required(path.key(key), text),
            Some(have) if have != want => errors.invalid(path.key(key), labels.clone(), text),
            Some(_) => {}
        }
    }
    let own: Value = expected.iter().map(|(k, v)| (k.to_string(), json!(v))).collect::<serde_json::Map<_, _>>().into();
    if selector::is_readable(field(sp, "selector")) && !selector::matches(field(sp, "selector"), &own) {
        errors.invalid(Path::new("spec.selector"), field(sp, "selector").clone(), "`selector` not auto-generated");
    }
}

fn spec_and_selector(sp: &Value, path: &Path, errors: &mut Errors) {
    spec(sp, path, errors);
    if !has(sp, "selector") {
        errors.required(path.child("selector"), "");
    } else {
        selector::label_selector(field(sp, "selector"), &path.child("selector"), errors);
    }
    let labels = at(sp, &["template", "metadata", "labels"]);
    let matches = selector::matches(field(sp, "selector"), labels) || !selector::is_readable(field(sp, "selector"));
    workload::matches_template(matches, sp, path, errors);
}

/// Of a JobSpec; also of a CronJob's.
pub fn spec_warnings(sp: &Value, path: &Path, out: &mut Vec<String>) {
    let many = |key: &str, n: i64| int(sp, key).is_some_and(|v| v > n);
    if text(sp, "completionMode") == "Indexed"
        && many("completions", COMPLETIONS_SOFT_LIMIT)
        && many("parallelism", PARALLELISM_MANY_MAX)
    {
        out.push(format!(
            "{path}: In Indexed Jobs with a number of completions higher than 10^5 and parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
        ));
    }
    out.extend(pod::warnings::of(field(sp, "template"), &path.child("template")));
}

/// A JobSpec; also a CronJob's template.
pub fn spec(sp: &Value, path: &Path, errors: &mut Errors) {
    let counts = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    workload::non_negative(sp, &counts, path, errors);
    if has(sp, "maxFailedIndexes") && !has(sp, "backoffLimitPerIndex") {
        errors.required(path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    if has(sp, "managedBy") {
        let (manager, p) = (text(sp, "managedBy"), path.child("managedBy"));
        values::domain_prefixed_path(manager, &p, errors);
        if manager.len() > MANAGED_BY_BYTES_MAX {
            errors.too_long(p, MANAGED_BY_BYTES_MAX);
        }
    }
    let mode = text(sp, "completionMode");
    if has(sp, "completionMode") {
        values::one_of(mode, &["NonIndexed", "Indexed"], path.child("completionMode"), errors);
    }
    if mode == "Indexed" {
        if !has(sp, "completions") {
            errors.required(path.child("completions"), "when completion mode is Indexed");
        }
        if int(sp, "parallelism").is_some_and(|p| p > PARALLELISM_INDEXED_MAX) {
            errors.invalid(
                path.child("parallelism"),
                field(sp, "parallelism").clone(),
                format!("must be less than or equal to {PARALLELISM_INDEXED_MAX} when completion mode is Indexed"),
            );
        }
        indexed_limits(sp, path, errors);
    } else {
        for key in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if has(sp, key) {
                errors.invalid(path.child(key), field(sp, key).clone(), "requires indexed completion mode");
            }
        }
    }
    if has(sp, "podFailurePolicy") {
        failure_policy(sp, &path.child("podFailurePolicy"), errors);
    }
    if has(sp, "successPolicy") && mode != "Indexed" {
        let p = path.child("successPolicy");
        errors.invalid(p, field(sp, "successPolicy").clone(), "requires indexed completion mode");
    } else if has(sp, "successPolicy") {
        success_policy(sp, &path.child("successPolicy"), errors);
    }
    let replacement = text(sp, "podReplacementPolicy");
    if has(sp, "podReplacementPolicy") {
        let p = path.child("podReplacementPolicy");
        if has(sp, "podFailurePolicy") {
            values::one_of(replacement, &["Failed"], p, errors);
        } else {
            values::one_of(replacement, &["Failed", "TerminatingOrFailed"], p, errors);
        }
    }
    podspec::pod_template(field(sp, "template"), &path.child("template"), errors);
    let restart = text_at(sp, &["template", "spec", "restartPolicy"]);
    let p = path.child("template.spec.restartPolicy");
    match restart {
        "" | "Always" => errors.required(p, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if has(sp, "podFailurePolicy") => {
            errors.invalid(p, restart, "only \"Never\" is supported when podFailurePolicy is specified")
        }
        "OnFailure" | "Never" => {}
        other => errors.not_supported(p, other, &["OnFailure", "Never"]),
    }
}

fn indexed_limits(sp: &Value, path: &Path, errors: &mut Errors) {
    let n = |key: &str| int(sp, key);
    let p = path.child("maxFailedIndexes");
    if let Some(max) = n("maxFailedIndexes") {
        if n("completions").is_some_and(|c| max > c) {
            errors.invalid(p.clone(), max, "must be less than or equal to completions");
        }
        if max > FAILED_INDEXES_MAX {
            errors.invalid(p.clone(), max, format!("must be less than or equal to {FAILED_INDEXES_MAX}"));
        }
    }
    if !has(sp, "backoffLimitPerIndex") || n("completions").is_none_or(|c| c <= COMPLETIONS_SOFT_LIMIT) {
        return;
    }
    let many = |max: i64| {
        format!(
            "must be less than or equal to {max} when completions are above {COMPLETIONS_SOFT_LIMIT} and used with backoff limit per index"
        )
    };
    if !has(sp, "maxFailedIndexes") {
        let text = format!("must be specified when completions is above {COMPLETIONS_SOFT_LIMIT}");
        errors.required(p.clone(), text);
    }
    if let Some(v) = n("parallelism").filter(|v| *v > PARALLELISM_MANY_MAX) {
        errors.invalid(path.child("parallelism"), v, many(PARALLELISM_MANY_MAX));
    }
    if let Some(v) = n("maxFailedIndexes").filter(|v| *v > FAILED_INDEXES_MANY_MAX) {
        errors.invalid(p, v, many(FAILED_INDEXES_MANY_MAX));
    }
}

fn success_policy(sp: &Value, path: &Path, errors: &mut Errors) {
    let (rules, path) = (list_at(sp, &["successPolicy", "rules"]), path.child("rules"));
    let completions = int(sp, "completions").unwrap_or(0);
    if rules.is_empty() {
        errors.required(path.clone(), "at least one rules must be specified when the successPolicy is specified");
    }
    if rules.len() > RULES_MAX {
        errors.too_many(path.clone(), rules.len(), RULES_MAX);
    }
    for (i, rule) in rules.iter().enumerate() {
        let p = path.index(i);
        let (indexes, count) = (has(rule, "succeededIndexes"), int(rule, "succeededCount"));
        if !indexes && count.is_none() {
            errors.required(p.clone(), "at least one of succeededCount or succeededIndexes must be specified");
        }
        let mut total = 0;
        if indexes {
            let (given, q) = (text(rule, "succeededIndexes"), p.child("succeededIndexes"));
            if given.len() > SUCCEEDED_INDEXES_BYTES_MAX {
                errors.too_long(q.clone(), SUCCEEDED_INDEXES_BYTES_MAX);
            }
            match count_indexes(given, completions) {
                Ok(n) => total = n,
                Err(e) => errors.invalid(q, given, format!("error parsing succeededIndexes: {e}")),
            }
        }
        if let Some(n) = count {
            let q = p.child("succeededCount");
            values::non_negative(field(rule, "succeededCount"), q.clone(), errors);
            if n > completions {
                let text = format!("must be less than or equal to {completions} (the number of specified completions)");
                errors.invalid(q.clone(), n, text);
            }
            if indexes && n > total {
                let text = format!(
                    "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
                );
                errors.invalid(q, n, text);
            }
        }
    }
}

/// How many indexes a text like `0,2-4` names.
fn count_indexes(given: &str, completions: i64) -> Result<i64, String> {
    let (mut last, mut total) = (None, 0);
    for part in given.split(',').filter(|_| !given.is_empty()) {
        let (from, to) = interval(part, completions)?;
        if let Some(previous) = last.filter(|l| *l >= from) {
            return Err(format!("non-increasing order, previous: {previous}, current: {from}"));
        }
        total += to - from + 1;
        last = Some(to);
    }
    Ok(total)
}

/// The ends of an interval like `2-4` or `3`.
fn interval(part: &str, completions: i64) -> Result<(i64, i64), String> {
    let index = |end: &str| match end.parse::<i64>() {
        Ok(n) if n >= completions => Err(format!("too large index: {end:?}")),
        Ok(n) => Ok(n),
        Err(_) => Err(format!("cannot convert string to integer for index: {end:?}")),
    };
    match part.split('-').collect::<Vec<_>>()[..] {
        [one] => index(one).map(|n| (n, n)),
        [from, to] => match (index(from)?, index(to)?) {
            (from, to) if from >= to => Err(format!("non-increasing order, previous: {from}, current: {to}")),
            ends => Ok(ends),
        },
        _ => Err(format!(
            "the fragment {part:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        )),
    }
}

fn failure_policy(sp: &Value, path: &Path, errors: &mut Errors) {
    let names: Seen<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|l| list_at(sp, &["template", "spec", l]))
        .map(|c| text(c, "name"))
        .collect();
    let rules = list_at(sp, &["podFailurePolicy", "rules"]);
    if rules.len() > RULES_MAX {
        errors.too_many(path.child("rules"), rules.len(), RULES_MAX);
    }
    for (i, rule) in rules.iter().enumerate() {
        let p = path.child("rules").index(i);
        let supported = ["Count", "FailIndex", "FailJob", "Ignore"];
        match text(rule, "action") {
            "" => errors.required(p.child("action"), format!("valid values: {}", go_list(&supported))),
            "FailIndex" if !has(sp, "backoffLimitPerIndex") => {
                errors.invalid(p.child("action"), "FailIndex", "requires the backoffLimitPerIndex to be set");
            }
            action => values::one_of(action, &supported, p.child("action"), errors),
        }
        let (codes, conditions) = (has(rule, "onExitCodes"), list(rule, "onPodConditions"));
        if codes {
            exit_codes(field(rule, "onExitCodes"), &names, &p.child("onExitCodes"), errors);
        }
        if conditions.len() > RULES_MAX {
            errors.too_many(p.child("onPodConditions"), conditions.len(), RULES_MAX);
        }
        for (j, c) in conditions.iter().enumerate() {
            let q = p.child("onPodConditions").index(j);
            values::qualified_name(text(c, "type"), &q.child("type"), errors);
            let statuses = ["False", "True", "Unknown"];
            match text(c, "status") {
                "" => errors.required(q.child("status"), format!("valid values: {}", go_list(&statuses))),
                status => values::one_of(status, &statuses, q.child("status"), errors),
            }
        }
        if codes && !conditions.is_empty() {
            errors.invalid_omitted(p, "specifying both OnExitCodes and OnPodConditions is not supported");
        } else if !codes && conditions.is_empty() {
            errors.invalid_omitted(p, "specifying one of OnExitCodes and OnPodConditions is required");
        }
    }
}

/// `["a" "b"]`, as Go quotes a list of strings.
fn go_list(items: &[&str]) -> String {
    format!("[{}]", items.iter().map(|i| format!("{i:?}")).collect::<Vec<_>>().join(" "))
}

fn exit_codes(c: &Value, names: &Seen<&str>, path: &Path, errors: &mut Errors) {
    let operators = ["In", "NotIn"];
    match text(c, "operator") {
        "" => errors.required(path.child("operator"), format!("valid values: {}", go_list(&operators))),
        operator => values::one_of(operator, &operators, path.child("operator"), errors),
    }
    if has(c, "containerName") && !names.has(&text(c, "containerName")) {
        let text_of = "must be one of the container or initContainer names in the pod template";
        errors.invalid(path.child("containerName"), text(c, "containerName"), text_of);
    }
    let (vs, path) = (list(c, "values"), path.child("values"));
    if vs.is_empty() {
        errors.invalid(path.clone(), field(c, "values").clone(), "at least one value is required");
    } else if vs.len() > 255 {
        errors.too_many(path.clone(), vs.len(), 255);
    }
    let mut seen = Seen::default();
    for (j, v) in vs.iter().enumerate() {
        if text(c, "operator") == "In" && v.as_i64() == Some(0) {
            errors.invalid(path.index(j), 0, "must not be 0 for the In operator");
        }
        if seen.again(v) {
            errors.duplicate(path.index(j), v.clone());
        }
    }
    if !vs.is_sorted_by_key(|v| v.as_i64()) {
        errors.invalid(path, Value::Array(vs.to_vec()), "must be ordered");
    }
}

/// The template is fixed, but where a suspended Job's pods may run can still be said before its first start.
fn template_update(new: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    let mut allowed = at(old, &["spec", "template"]).clone();
    let wanted = at(new, &["spec", "template"]);
    let status = field(old, "status");
    let idle = flag(field(old, "spec"), "suspend")
        && int(status, "active").unwrap_or(0) == 0
        && (!has(status, "startTime") || status::is_true(status, "Suspended"));
    if idle {
        for (part, keys) in [
            ("metadata", &["annotations", "labels"][..]),
            ("spec", &["nodeSelector", "tolerations", "schedulingGates"][..]),
        ] {
            if let Some(t) = ensure_object(&mut allowed, part) {
                keys.iter().for_each(|k| copy_field(t, field(wanted, part), k));
            }
        }
        if let Some(t) = ensure_object(&mut allowed, "spec") {
            let node = at(wanted, &["spec", "affinity", "nodeAffinity"]);
            if let Some(a) = ensure_object(t, "affinity") {
                copy_field(a, &json!({"nodeAffinity": node}), "nodeAffinity");
            }
            for lists in ["initContainers", "containers"] {
                let wanted = list_at(wanted, &["spec", lists]);
                items_mut(t, lists).zip(wanted).for_each(|(c, w)| copy_field(c, w, "resources"));
            }
        }
    }
    let path = path.child("template");
    if idle && !same(field(wanted, "spec"), field(&allowed, "spec")) {
        errors.invalid(path.child("spec"), field(wanted, "spec").clone(), values::IMMUTABLE);
    } else if !same(wanted, &allowed) {
        errors.invalid(path, wanted.clone(), values::IMMUTABLE);
    }
}
