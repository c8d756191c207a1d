//! CronJob.

use super::{columns, job, pod};
use crate::strategy::{Column, NAME, Now, Strategy, column, since};
use crate::validation::access::*;
use crate::validation::{cron, objectmeta, values, workload};
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
                pod::defaults::template(s, "template");
            }
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let (spec, path) = (field(obj, "spec"), Path::new("spec"));
        // A Job's name is this one and an 11-character suffix.
        let name = text_at(obj, &["metadata", "name"]);
        if name.len() > 52 {
            errors.invalid(Path::new("metadata.name"), name, "must be no more than 52 characters");
        }
        let schedule = text(spec, "schedule");
        let p = path.child("schedule");
        if schedule.is_empty() {
            errors.required(p, "");
        } else if schedule.contains("TZ") {
            errors.invalid(p, schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead");
        } else if let Err(e) = cron::check(schedule) {
            errors.invalid(p, schedule, e);
        }
        if has(spec, "timeZone") {
            let zone = text(spec, "timeZone");
            let p = path.child("timeZone");
            if zone.is_empty() {
                errors.invalid(p, zone, "timeZone must be nil or non-empty string");
            } else if zone.eq_ignore_ascii_case("local") {
                errors.invalid(
                    p,
                    zone,
                    "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
                );
            } else if jiff::tz::TimeZone::get(zone).is_err() {
                errors.invalid(p, zone, format!("unknown time zone {zone}"));
            }
        }
        let supported = ["Allow", "Forbid", "Replace"];
        values::required_one_of(text(spec, "concurrencyPolicy"), &supported, path.child("concurrencyPolicy"), errors);
        let counts = ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"];
        workload::non_negative(spec, &counts, &path, errors);
        let template = field(spec, "jobTemplate");
        let p = path.child("jobTemplate");
        objectmeta::template_meta(template, &p, errors);
        let js = field(template, "spec");
        if flag(js, "manualSelector") {
            values::push(
                errors,
                meta::field::Reason::NotSupported,
                p.child("spec.manualSelector"),
                true,
                "supported values: \"nil\", \"false\"",
            );
        }
        job::spec(js, &p.child("spec"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        let mut found = Errors::default();
        self.validate_create(new, &mut found);
        // An old schedule that newer rules refuse may stay as it is.
        let kept = same(at(new, &["spec", "schedule"]), at(old, &["spec", "schedule"]));
        let zone = same(at(new, &["spec", "timeZone"]), at(old, &["spec", "timeZone"]));
        found.0.retain(|e| {
            !(kept && e.path.as_str() == "spec.schedule"
                || zone && e.path.as_str() == "spec.timeZone"
                || e.path.as_str() == "metadata.name")
        });
        errors.0.append(&mut found.0);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut out = Vec::new();
        if old.is_none() {
            values::name_as_label(new, "Pod names and hostnames", &mut out);
        }
        let (job, path) = (at(new, &["spec", "jobTemplate", "spec"]), Path::new("spec.jobTemplate.spec"));
        job::spec_warnings(job, &path, &mut out);
        out
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Schedule", "string", 0),
            column("Timezone", "string", 0),
            column("Suspend", "boolean", 0),
            column("Active", "integer", 0),
            column("Last Schedule", "string", 0),
            column("Age", "string", 0),
            column("Containers", "string", 1),
            column("Images", "string", 1),
            column("Selector", "string", 1),
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
