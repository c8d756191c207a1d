//! CronJobs: a Job at each of its times.
//!
//! In: CronJobs and the Jobs that they own. Out: Jobs, named after their time so that none is made twice, fewer of the
//! old ones, and the status. Upstream: `cronjob_controllerv2.go`.

pub mod schedule;

use crate::{Context, job, ownership};
use client::{Client, Informer, Queue, Recorder};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, PostParams, Preconditions};
use schedule::{MANY, Schedule};
use std::sync::Arc;
use std::time::Duration;

const NAME: &str = "cronjob-controller";
const WORKERS: usize = 5;
/// The time that a Job stands for, in the schedule's time zone.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// Timers fire early; a look before its time would be for nothing.
const LATE: Duration = Duration::from_millis(100);

/// What the schedule asks for now.
#[derive(Debug, PartialEq)]
pub enum Due {
    /// Nothing until then.
    Wait(Option<Timestamp>),
    /// A time has passed, but longer ago than `startingDeadlineSeconds`.
    TooLate(Timestamp),
    Now {
        time: Timestamp,
        too_many: bool,
    },
}

/// Looks at the schedule from the last time that was served on.
pub fn due(
    now: Timestamp,
    spec: &CronJobSpec,
    schedule: &Schedule,
    created: Timestamp,
    last: Option<Timestamp>,
) -> Due {
    let mut since = last.unwrap_or(created);
    let deadline = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
    if let Some(d) = deadline
        && let Ok(bound) = now.checked_sub(d)
    {
        since = since.max(bound);
    }
    match schedule.missed(since, now) {
        None => match (deadline, schedule.missed(last.unwrap_or(created), now)) {
            (Some(_), Some(m)) => Due::TooLate(m.latest),
            _ => Due::Wait(schedule.next(now)),
        },
        Some(m) => Due::Now { time: m.latest, too_many: m.count > MANY },
    }
}

struct Driver {
    client: Client,
    recorder: Recorder,
    cronjobs: Arc<Informer<CronJob>>,
    jobs: Arc<Informer<Job>>,
}

pub async fn run(context: Context) {
    let queue = Queue::new();
    let driver = Driver {
        client: context.client(NAME),
        recorder: context.recorder(NAME),
        cronjobs: context.informers.of::<CronJob>(),
        jobs: context.informers.of::<Job>(),
    };
    let q = queue.clone();
    driver.cronjobs.on_change(move |change| q.add(client::informer::key_of(&**change.object())));
    let q = queue.clone();
    driver.jobs.on_change(move |change| {
        if let Some(key) = ownership::owner_key(&change.object().metadata, "batch", "CronJob") {
            q.add(key);
        }
    });
    driver.cronjobs.wait_synced().await;
    driver.jobs.wait_synced().await;
    let driver = Arc::new(driver);
    queue
        .run(NAME, WORKERS, context.shutdown.clone(), move |key| {
            let driver = driver.clone();
            async move { driver.sync(&key).await }
        })
        .await;
}

impl Driver {
    async fn sync(&self, key: &str) -> Result<Option<Duration>, kube::Error> {
        let Some(cronjob) = self.cronjobs.get(key) else { return Ok(None) };
        let now = Timestamp::now();
        let mut new = (*cronjob).clone();
        let mine: Vec<Arc<Job>> = self
            .jobs
            .in_namespace(&cronjob.namespace().unwrap_or_default())
            .into_iter()
            .filter(|j| ownership::is_controlled_by(&j.metadata, &cronjob.metadata))
            .collect();
        self.note_ends(&mut new, &mine);
        self.note_missing(&mut new, &mine).await?;
        self.forget_old(&cronjob, &mine).await?;
        let started = self.start(&mut new, &mine, now).await;
        if new.status != cronjob.status {
            let api: Api<CronJob> = Api::namespaced(self.client.clone(), &cronjob.namespace().unwrap_or_default());
            match api.replace_status(&cronjob.name_any(), &PostParams::default(), &new).await {
                Ok(written) => self.cronjobs.remember(written),
                Err(e) if ownership::gone(&e) => return Ok(None),
                Err(e) => return Err(e),
            }
        }
        let next = started?;
        Ok(next.map(|t| Duration::try_from(t.duration_since(Timestamp::now())).unwrap_or_default() + LATE))
    }

    /// Takes Jobs that have ended out of the active list.
    fn note_ends(&self, cronjob: &mut CronJob, mine: &[Arc<Job>]) {
        let about = client::events::reference(cronjob);
        let status = cronjob.status.get_or_insert_default();
        for j in mine {
            let Some(end) = job::plan::finished(j) else { continue };
            let complete = j.status.as_ref().is_some_and(|s| job::plan::condition(s, "Complete").is_some());
            let active = status.active.get_or_insert_default();
            let before = active.len();
            active.retain(|r| r.uid != j.metadata.uid);
            if active.len() < before {
                let how = if complete { "Complete" } else { "Failed" };
                let text = format!("Saw completed job: {}, condition: {how}", j.name_any());
                self.recorder.normal(&about, "SawCompletedJob", text);
            }
            let end = j.status.as_ref().and_then(|s| s.completion_time.as_ref()).map_or(end, |t| t.0);
            if complete && status.last_successful_time.as_ref().is_none_or(|t| t.0 < end) {
                status.last_successful_time = Some(Time(end));
            }
        }
    }

    /// Takes Jobs that are gone out of the active list. A Job that was just started may not have been heard of yet, so it
    /// is the API that is asked.
    async fn note_missing(&self, cronjob: &mut CronJob, mine: &[Arc<Job>]) -> Result<(), kube::Error> {
        let about = client::events::reference(cronjob);
        let api: Api<Job> = Api::namespaced(self.client.clone(), &cronjob.namespace().unwrap_or_default());
        let status = cronjob.status.get_or_insert_default();
        let mut still = Vec::new();
        for r in status.active.take().unwrap_or_default() {
            let name = r.name.as_deref().unwrap_or_default();
            let known = mine.iter().any(|j| j.metadata.uid == r.uid);
            if known || api.get_opt(name).await?.is_some_and(|j| j.metadata.uid == r.uid) {
                still.push(r);
            } else {
                self.recorder.normal(&about, "MissingJob", format!("Active job went missing: {name}"));
            }
        }
        status.active = Some(still).filter(|active| !active.is_empty());
        Ok(())
    }

    /// Deletes the oldest finished Jobs beyond the history limits.
    async fn forget_old(&self, cronjob: &CronJob, mine: &[Arc<Job>]) -> Result<(), kube::Error> {
        let spec = &cronjob.spec;
        for (kind, limit) in
            [("Complete", spec.successful_jobs_history_limit), ("Failed", spec.failed_jobs_history_limit)]
        {
            let Some(limit) = limit else { continue };
            let ended = |j: &&Arc<Job>| {
                j.metadata.deletion_timestamp.is_none()
                    && j.status.as_ref().is_some_and(|s| job::plan::condition(s, kind).is_some())
            };
            let mut old: Vec<&Arc<Job>> = mine.iter().filter(ended).collect();
            old.sort_by_key(|j| (j.status.as_ref().and_then(|s| s.start_time.as_ref()).map(|t| t.0), j.name_any()));
            let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
            for j in old.into_iter().take(surplus) {
                self.delete(cronjob, j).await?;
            }
        }
        Ok(())
    }

    async fn delete(&self, cronjob: &CronJob, job: &Job) -> Result<(), kube::Error> {
        let api: Api<Job> = Api::namespaced(self.client.clone(), &job.namespace().unwrap_or_default());
        let about = client::events::reference(cronjob);
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: job.uid(), resource_version: None }),
            ..DeleteParams::background()
        };
        match api.delete(&job.name_any(), &params).await {
            Ok(_) => {
                self.recorder.normal(&about, "SuccessfulDelete", format!("Deleted job {}", job.name_any()));
                Ok(())
            }
            Err(e) if ownership::gone(&e) || ownership::code(&e) == Some(409) => Ok(()),
            Err(e) => {
                self.recorder.warning(&about, "FailedDelete", format!("Deleted job: {}", ownership::message(&e)));
                Err(e)
            }
        }
    }

    /// Starts what is due. Returns when to look again.
    async fn start(
        &self,
        cronjob: &mut CronJob,
        mine: &[Arc<Job>],
        now: Timestamp,
    ) -> Result<Option<Timestamp>, kube::Error> {
        let about = client::events::reference(cronjob);
        let spec = cronjob.spec.clone();
        if cronjob.metadata.deletion_timestamp.is_some() || spec.suspend == Some(true) {
            return Ok(None);
        }
        let schedule = match Schedule::parse(&spec.schedule, spec.time_zone.as_deref()) {
            Ok(s) => s,
            Err(e) => {
                let text = format!("unparseable schedule: {:?} : {e}", spec.schedule);
                self.recorder.warning(&about, "UnparseableSchedule", text);
                return Ok(None);
            }
        };
        let created = cronjob.metadata.creation_timestamp.as_ref().map_or(now, |t| t.0);
        let last = cronjob.status.as_ref().and_then(|s| s.last_schedule_time.as_ref()).map(|t| t.0);
        let time = match due(now, &spec, &schedule, created, last) {
            Due::Wait(None) => {
                // A day that no month has, in upstream's words.
                let why = "time difference between two schedules is less than 1 second";
                let text = format!("invalid schedule: {} : {why}", spec.schedule);
                self.recorder.warning(&about, "InvalidSchedule", text);
                return Ok(None);
            }
            Due::Wait(next) => return Ok(next),
            Due::TooLate(time) => {
                let text = format!("Missed scheduled time to start a job: {time}");
                self.recorder.warning(&about, "MissSchedule", text);
                return Ok(schedule.next(now));
            }
            Due::Now { time, too_many } => {
                if too_many {
                    let text = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
                    self.recorder.warning(&about, "TooManyMissedTimes", text);
                }
                time
            }
        };
        let next = schedule.next(now);
        let name = format!("{}-{}", cronjob.name_any(), time.as_second() / 60);
        let active: Vec<ObjectReference> = cronjob.status.as_ref().and_then(|s| s.active.clone()).unwrap_or_default();
        if active.iter().any(|r| r.name.as_deref() == Some(name.as_str())) {
            return Ok(next);
        }
        match spec.concurrency_policy.as_deref() {
            Some("Forbid") if !active.is_empty() => {
                let text = "Not starting job because prior execution is running and concurrency policy is Forbid";
                self.recorder.normal(&about, "JobAlreadyActive", text);
                return Ok(next);
            }
            Some("Replace") => {
                for j in mine.iter().filter(|j| active.iter().any(|r| r.uid == j.metadata.uid)) {
                    self.delete(cronjob, j).await?;
                }
                cronjob.status.get_or_insert_default().active = None;
            }
            _ => {}
        }
        let job = job_of(cronjob, &spec, &name, time);
        let api: Api<Job> = Api::namespaced(self.client.clone(), &cronjob.namespace().unwrap_or_default());
        let made = match api.create(&PostParams::default(), &job).await {
            Ok(made) => {
                self.recorder.normal(&about, "SuccessfulCreate", format!("Created job {name}"));
                made
            }
            Err(e) if ownership::namespace_terminates(&e) => return Ok(None),
            Err(e) if ownership::code(&e) == Some(409) => {
                // Made before a restart, when the status had no time to tell; or somebody else's.
                let present = api.get(&name).await?;
                if !ownership::is_controlled_by(&present.metadata, &cronjob.metadata) {
                    let text = format!("Error creating job: {}", ownership::message(&e));
                    self.recorder.warning(&about, "FailedCreate", text);
                    return Err(e);
                }
                present
            }
            Err(e) => {
                let text = format!("Error creating job: {}", ownership::message(&e));
                self.recorder.warning(&about, "FailedCreate", text);
                return Err(e);
            }
        };
        let status = cronjob.status.get_or_insert_default();
        if job::plan::finished(&made).is_none() {
            status.active.get_or_insert_default().push(client::events::reference(&made));
        }
        status.last_schedule_time = Some(Time(time));
        self.jobs.remember(made);
        Ok(next)
    }
}

fn job_of(cronjob: &CronJob, spec: &CronJobSpec, name: &str, time: Timestamp) -> Job {
    let template = spec.job_template.metadata.clone().unwrap_or_default();
    let zone = spec.time_zone.as_deref().and_then(|z| TimeZone::get(z).ok()).unwrap_or(TimeZone::UTC);
    let shown = time.to_zoned(zone).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string().replace("+00:00", "Z");
    let mut annotations = template.annotations.unwrap_or_default();
    annotations.insert(SCHEDULED.to_string(), shown);
    Job {
        metadata: ObjectMeta {
            name: Some(name.to_string()),
            namespace: cronjob.namespace(),
            labels: template.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![ownership::controller_reference(cronjob)]),
            ..ObjectMeta::default()
        },
        spec: spec.job_template.spec.clone(),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_due() {
        let at = |t: &str| -> Timestamp { t.parse().unwrap() };
        let schedule = Schedule::parse("*/5 * * * *", Some("UTC")).unwrap();
        let spec = |deadline: Option<i64>| -> CronJobSpec {
            serde_json::from_value(
                json!({"schedule": "*/5 * * * *", "jobTemplate": {}, "startingDeadlineSeconds": deadline}),
            )
            .unwrap()
        };
        let created = at("2026-01-01T00:01:00Z");
        let run = |time: &str| Due::Now { time: at(time), too_many: false };
        for (what, now, deadline, last, want) in [
            ("not yet", "2026-01-01T00:04:59Z", None, None, Due::Wait(Some(at("2026-01-01T00:05:00Z")))),
            ("first", "2026-01-01T00:05:00Z", None, None, run("2026-01-01T00:05:00Z")),
            (
                "served already",
                "2026-01-01T00:05:10Z",
                None,
                Some("2026-01-01T00:05:00Z"),
                Due::Wait(Some(at("2026-01-01T00:10:00Z"))),
            ),
            ("only the latest", "2026-01-01T00:21:00Z", None, None, run("2026-01-01T00:20:00Z")),
            ("too late", "2026-01-01T00:21:00Z", Some(30), None, Due::TooLate(at("2026-01-01T00:20:00Z"))),
            ("in time", "2026-01-01T00:20:20Z", Some(30), None, run("2026-01-01T00:20:00Z")),
        ] {
            assert_eq!(due(at(now), &spec(deadline), &schedule, created, last.map(at)), want, "{what}");
        }
        let years = due(at("2027-01-01T00:00:00Z"), &spec(None), &schedule, created, None);
        assert_eq!(years, Due::Now { time: at("2027-01-01T00:00:00Z"), too_many: true });
    }

    #[test]
    fn jobs_carry_their_time() {
        let cronjob: CronJob = serde_json::from_value(json!({"metadata": {"name": "c", "namespace": "n", "uid": "u"},
            "spec": {"schedule": "@daily", "timeZone": "Europe/Berlin", "jobTemplate": {"metadata": {"labels": {"a": "b"}}}}}))
        .unwrap();
        let time = "2026-07-01T22:00:00Z".parse().unwrap();
        let job = job_of(&cronjob, &cronjob.spec, "c-1", time);
        assert_eq!(job.annotations()[SCHEDULED], "2026-07-02T00:00:00+02:00");
        assert_eq!(job.labels()["a"], "b");
        assert!(ownership::is_controlled_by(&job.metadata, &cronjob.metadata));
    }
}
