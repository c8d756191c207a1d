//! CronJob.

use super::{columns, job};
use crate::strategy::{AGE, Column, NAME, Now, Strategy, column_of, since};
use crate::validation::access::*;
use crate::validation::{cron, values, workload};
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct CronJob;

impl Strategy for CronJob {
    fn defaults(&self, obj: &mut Value) {
        let Some(spec) = ensure_object(obj, "spec") else {
            return;
        };
        fill_zero(spec, "concurrencyPolicy", "Allow");
        fill(spec, "suspend", false);
        fill(spec, "successfulJobsHistoryLimit", 3);
        fill(spec, "failedJobsHistoryLimit", 1);
        if let Some(t) = ensure_object(spec, "jobTemplate") {
            if !has(t, "metadata") {
                set(t, "metadata", json!({}));
            }
            if let Some(s) = ensure_object(t, "spec") {
                job::nested_defaults(s);
            }
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        spec(field(obj, "spec"), &Value::Null, errors);
        // A Job's name is this one and an 11-character suffix.
        let name = text_at(obj, &["metadata", "name"]);
        if name.len() > 52 {
            errors.invalid(Path::new("metadata.name"), name, "must be no more than 52 characters");
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        spec(field(new, "spec"), field(old, "spec"), errors);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        if old.is_none() {
            values::name_as_label(new, "Pod names and hostnames", &mut out);
        }
        let (job, path) = (at(new, &["spec", "jobTemplate", "spec"]), Path::new("spec.jobTemplate.spec"));
        let generation = |o: &Value| at(o, &["metadata", "generation"]).clone();
        if old.is_none_or(|old| generation(old) != generation(new)) {
            job::spec_warnings(job, &path, &mut out);
        }
        if old.is_some() && text_at(new, &["spec", "schedule"]).contains("TZ") {
            out.push("cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details".to_string());
        }
        out
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column_of("Schedule", "string", 0, "api.batch.v1.CronJobSpec.schedule"),
            column_of("Timezone", "string", 0, "api.batch.v1.CronJobSpec.timeZone"),
            column_of("Suspend", "boolean", 0, "api.batch.v1.CronJobSpec.suspend"),
            column_of("Active", "integer", 0, "api.batch.v1.CronJobStatus.active"),
            column_of("Last Schedule", "string", 0, "api.batch.v1.CronJobStatus.lastScheduleTime"),
            AGE,
            columns::CONTAINERS,
            columns::IMAGES,
            column_of("Selector", "string", 1, "api.batch.v1.JobSpec.selector"),
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let (spec, status) = (field(obj, "spec"), field(obj, "status"));
        let job = at(spec, &["jobTemplate", "spec"]);
        let [containers, images] = columns::containers_and_images(at(job, &["template", "spec"]));
        let last = if has(status, "lastScheduleTime") {
            json!(since(field(status, "lastScheduleTime"), now))
        } else {
            json!("<none>")
        };
        vec![
            columns::name(obj),
            json!(text(spec, "schedule")),
            columns::or_none(text(spec, "timeZone")),
            columns::or_unset(field(spec, "suspend")),
            json!(list(status, "active").len()),
            last,
            columns::age_cell(obj, now),
            containers,
            images,
            json!(crate::validation::selector::shown(field(job, "selector"))),
        ]
    }

    fn has_generation(&self) -> bool {
        true
    }
}

/// `old` is the older version's, or null: a time zone in a schedule was allowed once.
fn spec(spec: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("spec");
    let (schedule, p) = (text(spec, "schedule"), path.child("schedule"));
    if schedule.is_empty() {
        errors.required(p, "");
    } else {
        if let Err(e) = cron::check(schedule) {
            errors.invalid(p.clone(), schedule, e);
        }
        let allowed = text(old, "schedule").contains("TZ");
        if schedule.contains("TZ") && !allowed {
            errors.invalid(p, schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
        } else if schedule.contains("TZ") && has(spec, "timeZone") {
            errors.invalid(p, schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule");
        }
    }
    workload::non_negative(spec, &["startingDeadlineSeconds"], &path, errors);
    if has(spec, "timeZone") && field(spec, "timeZone") != field(old, "timeZone") {
        time_zone(text(spec, "timeZone"), &path.child("timeZone"), errors);
    }
    let supported = ["Allow", "Forbid", "Replace"];
    values::required_one_of(text(spec, "concurrencyPolicy"), &supported, path.child("concurrencyPolicy"), errors);
    let (job, p) = (at(spec, &["jobTemplate", "spec"]), path.child("jobTemplate.spec"));
    job::spec(job, &p, errors);
    if has(job, "selector") {
        errors.invalid(p.child("selector"), field(job, "selector").clone(), "`selector` will be auto-generated");
    }
    if flag(job, "manualSelector") {
        errors.not_supported(p.child("manualSelector"), true, &["nil", "false"]);
    }
    workload::non_negative(spec, &["successfulJobsHistoryLimit", "failedJobsHistoryLimit"], &path, errors);
}

fn time_zone(zone: &str, p: &Path, errors: &mut Errors) {
    if zone.is_empty() {
        return errors.invalid(p.clone(), zone, "timeZone must be nil or non-empty string");
    }
    let unknown = format!("unknown time zone {zone}");
    let part = |s: &str| {
        (1..=14).contains(&s.len())
            && !s.starts_with('-')
            && ![".", ".."].contains(&s)
            && s.chars().all(|c| c.is_ascii_alphanumeric() || ".-_+".contains(c))
    };
    if !zone.split('/').all(part) {
        return errors.invalid(p.clone(), zone, unknown);
    }
    if zone.eq_ignore_ascii_case("local") {
        let text = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.invalid(p.clone(), zone, text);
    }
    // Go knows this name, too.
    if zone != "Local" && !cron::is_time_zone(zone) {
        errors.invalid(p.clone(), zone, unknown);
    }
}
