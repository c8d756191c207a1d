//! What a Job needs next: the pure part.
//!
//! In: the Job, its pods, the time. Out: the status to write, pods to make, to delete, and to let go (their finalizer
//! is taken once the status has counted them). Upstream: `job_controller.go`, KEP-2307 (tracking with finalizers).

use super::indexes;
use super::policy::{self, Verdict};
use crate::pods;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Keeps a pod until its Job's status has counted it.
pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// Label and annotation of an indexed Job's pods.
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How often an index had failed before this pod.
pub const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// Pods are made again after 10 s, 20 s, … up to ten minutes.
const BACKOFF: Duration = Duration::from_secs(10);
const BACKOFF_MAX: Duration = Duration::from_secs(600);
/// How many uids a status may hold while they wait to be counted.
const UNCOUNTED_MAX: usize = 500;

/// A pod to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Make {
    pub index: Option<i32>,
    /// Earlier failures of the index, where the Job limits them.
    pub failures: Option<i32>,
}

#[derive(Debug, Default)]
pub struct Plan {
    pub status: JobStatus,
    pub make: Vec<Make>,
    /// To be deleted; `true` where the pod is let go first, because its end is no failure.
    pub delete: Vec<(Arc<Pod>, bool)>,
    /// Whose finalizer goes once the status is written.
    pub count: Vec<Arc<Pod>>,
    /// When to look again without any change.
    pub again: Option<Duration>,
    /// Events: whether it is a warning, reason, message.
    pub tell: Vec<(bool, &'static str, String)>,
}

pub fn condition<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    status.conditions.as_deref()?.iter().find(|c| c.type_ == kind && c.status == "True")
}

/// When the Job ended, if it did.
pub fn finished(job: &Job) -> Option<Timestamp> {
    let status = job.status.as_ref()?;
    let end = condition(status, "Complete").or_else(|| condition(status, "Failed"))?;
    end.last_transition_time.as_ref().map(|t| t.0)
}

pub fn is_tracked(pod: &Pod) -> bool {
    pod.finalizers().iter().any(|f| f == FINALIZER)
}

pub fn index_of(pod: &Pod) -> Option<i32> {
    pod.annotations().get(INDEX).or_else(|| pod.labels().get(INDEX))?.parse().ok()
}

fn failures_before(pod: &Pod) -> i32 {
    pod.annotations().get(FAILURES).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// When a pod's last container ended.
fn ended(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod.status.as_ref()?.container_statuses.as_deref().unwrap_or_default();
    let ends = statuses.iter().filter_map(|c| c.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref());
    ends.map(|t| t.0).max().or_else(|| pod.metadata.deletion_timestamp.as_ref().map(|t| t.0))
}

fn uids(list: &Option<Vec<String>>) -> BTreeSet<String> {
    list.iter().flatten().cloned().collect()
}

/// One look at a Job.
struct Look<'a> {
    now: Timestamp,
    job: &'a Job,
    pods: &'a [Arc<Pod>],
    completions: Option<i32>,
    indexed: bool,
    /// The limit of failures per index.
    per_index: Option<i32>,
    /// Terminating pods aren't replaced, and aren't failed, before they have ended.
    only_failed: bool,
    suspended: bool,
}

pub fn plan(now: Timestamp, job: &Job, mine: &[Arc<Pod>]) -> Plan {
    let Some(spec) = &job.spec else { return Plan::default() };
    let indexed = spec.completion_mode.as_deref() == Some("Indexed");
    let look = Look {
        now,
        job,
        pods: mine,
        completions: spec.completions,
        indexed,
        per_index: spec.backoff_limit_per_index.filter(|_| indexed),
        only_failed: spec.pod_replacement_policy.as_deref() == Some("Failed") || spec.pod_failure_policy.is_some(),
        suspended: spec.suspend == Some(true),
    };
    look.plan()
}

impl Look<'_> {
    fn plan(&self) -> Plan {
        let Some(spec) = &self.job.spec else { return Plan::default() };
        let old = self.job.status.clone().unwrap_or_default();
        let mut plan = Plan { status: old.clone(), ..Plan::default() };
        if finished(self.job).is_some() {
            // Whatever is left of it holds nothing more to count.
            plan.count = self.pods.iter().filter(|p| is_tracked(p)).cloned().collect();
            return plan;
        }

        // What has ended. Pods that wait in `uncounted` are counted for good once their finalizer is gone.
        let waiting = old.uncounted_terminated_pods.clone().unwrap_or_default();
        let (mut succeeding, mut failing) = (uids(&waiting.succeeded), uids(&waiting.failed));
        let tracked: BTreeSet<&str> =
            self.pods.iter().filter(|p| is_tracked(p)).filter_map(|p| p.metadata.uid.as_deref()).collect();
        let settle = |set: &mut BTreeSet<String>| {
            let before = set.len();
            set.retain(|uid| tracked.contains(uid.as_str()));
            (before - set.len()) as i32
        };
        let mut succeeded = old.succeeded.unwrap_or(0) + settle(&mut succeeding);
        let failed = old.failed.unwrap_or(0) + settle(&mut failing);

        let limit = self.completions.unwrap_or(0);
        let mut done = indexes::parse(old.completed_indexes.as_deref().unwrap_or(""), limit);
        let mut lost = indexes::parse(old.failed_indexes.as_deref().unwrap_or(""), limit);
        let mut ending: Option<(bool, &'static str, String)> = None;
        if let Some(c) = condition(&old, "FailureTarget") {
            ending = Some((false, reason_of(c), c.message.clone().unwrap_or_default()));
        } else if let Some(c) = condition(&old, "SuccessCriteriaMet") {
            ending = Some((true, reason_of(c), c.message.clone().unwrap_or_default()));
        }

        let replaced = self.replaced();
        for pod in self.pods.iter().filter(|p| is_tracked(p)) {
            if succeeding.len() + failing.len() >= UNCOUNTED_MAX {
                break;
            }
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            let index = index_of(pod).filter(|i| *i < limit);
            if pods::phase(pod) == "Succeeded" {
                if !self.indexed {
                    succeeding.insert(uid);
                } else if let Some(i) = index {
                    done.insert(i);
                }
                plan.count.push(pod.clone());
            } else if self.is_failed(pod) {
                let verdict = policy::verdict(spec, pod);
                if let (Verdict::FailJob(why), None) = (&verdict, &ending) {
                    ending = Some((false, "PodFailurePolicy", why.clone()));
                }
                if let (Some(most), Some(i)) = (self.per_index, index)
                    && (verdict == Verdict::FailIndex || (verdict != Verdict::Ignore && failures_before(pod) >= most))
                    && !done.contains(&i)
                {
                    lost.insert(i);
                }
                // Where failures are limited by index, the pod itself is the record of them until another takes over.
                let settled = match (self.per_index, index) {
                    (Some(_), Some(i)) => {
                        ending.is_some() || lost.contains(&i) || done.contains(&i) || replaced.contains(&uid)
                    }
                    _ => true,
                };
                if verdict != Verdict::Ignore {
                    failing.insert(uid);
                }
                if settled {
                    plan.count.push(pod.clone());
                }
            }
        }
        if self.indexed {
            lost.retain(|i| !done.contains(i));
            succeeded = done.len() as i32;
        }
        let succeeded_now = if self.indexed { succeeded } else { succeeded + succeeding.len() as i32 };
        let failed_now = failed + failing.len() as i32;

        let active: Vec<Arc<Pod>> = self.pods.iter().filter(|p| pods::is_active(p)).cloned().collect();
        let terminating = self.pods.iter().filter(|p| pods::is_terminating(p) && !pods::is_finished(p)).count();
        let mut start = old.start_time.clone();
        if start.is_none() && !self.suspended {
            start = Some(Time(self.now));
        }

        if ending.is_none() {
            ending = self.end(&active, start.as_ref(), succeeded_now, failed_now, &done, &lost);
        }

        let mut conditions = old.conditions.clone().unwrap_or_default();
        let mut left = active.len();
        let mut all_over = false;
        match &ending {
            Some((success, reason, message)) => {
                let kind = if *success { "SuccessCriteriaMet" } else { "FailureTarget" };
                set(&mut conditions, kind, "True", reason, message, self.now);
                // Ending it isn't the pods' fault when the Job has succeeded.
                plan.delete = active.iter().take(pods::BURST).map(|p| (p.clone(), *success)).collect();
                left -= plan.delete.len();
                all_over = active.is_empty() && terminating == 0 && succeeding.is_empty() && failing.is_empty();
                if all_over {
                    let kind = if *success { "Complete" } else { "Failed" };
                    set(&mut conditions, kind, "True", reason, message, self.now);
                    plan.tell.push(if *success {
                        (false, "Completed", "Job completed".to_string())
                    } else {
                        (true, *reason, message.clone())
                    });
                }
            }
            None => {
                self.manage(&mut plan, &active, terminating, succeeded_now, &done, &lost);
                self.suspend(&mut conditions, &mut start, &mut plan);
                left -= plan.delete.len();
            }
        }

        if self.indexed {
            plan.status.completed_indexes = Some(indexes::format(&done)).filter(|t| !t.is_empty());
        }
        if self.per_index.is_some() {
            plan.status.failed_indexes = Some(indexes::format(&lost));
        }
        let positive = |n: i32| (n != 0).then_some(n);
        let ready = active.iter().filter(|p| pods::is_ready(p)).count() as i32;
        plan.status.active = positive(left as i32);
        plan.status.ready = Some(ready.min(left as i32));
        plan.status.terminating = Some((terminating + plan.delete.len()) as i32);
        plan.status.succeeded = positive(succeeded);
        plan.status.failed = positive(failed);
        plan.status.start_time = start;
        plan.status.conditions = (!conditions.is_empty()).then_some(conditions);
        if all_over && ending.as_ref().is_some_and(|e| e.0) {
            plan.status.completion_time = Some(Time(self.now));
        }
        let list = |s: BTreeSet<String>| (!s.is_empty()).then(|| s.into_iter().collect::<Vec<_>>());
        plan.status.uncounted_terminated_pods =
            Some(UncountedTerminatedPods { succeeded: list(succeeding), failed: list(failing) });
        if let (Some(deadline), Some(start), false, None) =
            (spec.active_deadline_seconds, &plan.status.start_time, self.suspended, &ending)
        {
            let left = SignedDuration::from_secs(deadline) - self.now.duration_since(start.0);
            wake(&mut plan.again, Duration::try_from(left).unwrap_or_default() + Duration::from_millis(5));
        }
        plan
    }

    fn is_failed(&self, pod: &Pod) -> bool {
        match pods::phase(pod) {
            "Failed" => true,
            "Succeeded" => false,
            _ => !self.only_failed && pods::is_terminating(pod),
        }
    }

    /// Failed pods whose index has got a newer pod.
    fn replaced(&self) -> BTreeSet<String> {
        let mut newest: HashMap<i32, i32> = HashMap::new();
        for pod in self.pods {
            if let Some(i) = index_of(pod) {
                let n = newest.entry(i).or_insert(0);
                *n = (*n).max(failures_before(pod));
            }
        }
        self.pods
            .iter()
            .filter(|p| index_of(p).is_some_and(|i| newest.get(&i).is_some_and(|n| *n > failures_before(p))))
            .filter_map(|p| p.metadata.uid.clone())
            .collect()
    }

    /// Whether it is over, why, and whether that is a success.
    fn end(
        &self,
        active: &[Arc<Pod>],
        start: Option<&Time>,
        succeeded: i32,
        failed: i32,
        done: &BTreeSet<i32>,
        lost: &BTreeSet<i32>,
    ) -> Option<(bool, &'static str, String)> {
        let spec = self.job.spec.as_ref()?;
        let limit = spec.backoff_limit.unwrap_or(6);
        if failed > limit || self.restarted_too_often(limit) {
            let text = "Job has reached the specified backoff limit";
            return Some((false, "BackoffLimitExceeded", text.into()));
        }
        if let (Some(deadline), Some(start), false) = (spec.active_deadline_seconds, start, self.suspended)
            && self.now.duration_since(start.0) >= SignedDuration::from_secs(deadline)
        {
            let text = "Job was active longer than specified deadline";
            return Some((false, "DeadlineExceeded", text.into()));
        }
        if self.per_index.is_some() {
            if spec.max_failed_indexes.is_some_and(|most| lost.len() as i32 > most) {
                let text = "Job has exceeded the specified maximal number of failed indexes";
                return Some((false, "MaxFailedIndexesExceeded", text.into()));
            }
            let all = self.completions.is_some_and(|c| (done.len() + lost.len()) as i32 >= c);
            if all && !lost.is_empty() {
                return Some((false, "FailedIndexes", "Job has failed indexes".into()));
            }
        }
        if self.indexed
            && let Some(rule) = policy::success(spec, done)
        {
            return Some((true, "SuccessPolicy", format!("Matched rules at index {rule}")));
        }
        let complete = match self.completions {
            // A work queue: one success says that there is no more work; the others are let to finish.
            None => succeeded > 0 && active.is_empty(),
            Some(wanted) => succeeded >= wanted,
        };
        complete.then(|| (true, "CompletionsReached", "Reached expected number of succeeded pods".to_string()))
    }

    /// Containers that are restarted in place count, too.
    fn restarted_too_often(&self, limit: i32) -> bool {
        let in_place = |p: &&Arc<Pod>| {
            p.spec.as_ref().and_then(|s| s.restart_policy.as_deref()) == Some("OnFailure")
                && matches!(pods::phase(p), "Running" | "Pending")
        };
        let restarts: i32 = self
            .pods
            .iter()
            .filter(in_place)
            .filter_map(|p| p.status.as_ref())
            .flat_map(|s| [s.init_container_statuses.as_deref(), s.container_statuses.as_deref()])
            .flatten()
            .flatten()
            .map(|c| c.restart_count)
            .sum();
        if limit == 0 { restarts > 0 } else { restarts >= limit }
    }

    /// As many pods as there should be.
    fn manage(
        &self,
        plan: &mut Plan,
        active: &[Arc<Pod>],
        terminating: usize,
        succeeded: i32,
        done: &BTreeSet<i32>,
        lost: &BTreeSet<i32>,
    ) {
        let Some(spec) = &self.job.spec else { return };
        if self.job.metadata.deletion_timestamp.is_some() {
            return;
        }
        if self.suspended {
            plan.delete = active.iter().take(pods::BURST).map(|p| (p.clone(), true)).collect();
            return;
        }
        let parallelism = spec.parallelism.unwrap_or(1).max(0);
        let want = match self.completions {
            None if succeeded > 0 => active.len(),
            None => parallelism as usize,
            Some(c) => (c - succeeded - lost.len() as i32).clamp(0, parallelism) as usize,
        };
        // Surplus pods, and those of indexes that are done, lost or held twice.
        let mut seen = BTreeSet::new();
        let (mut keep, mut drop): (Vec<Arc<Pod>>, Vec<Arc<Pod>>) = (Vec::new(), Vec::new());
        let mut ranked = active.to_vec();
        pods::rank_for_deletion(&mut ranked, self.now);
        for pod in ranked.into_iter().rev() {
            let fits = !self.indexed
                || index_of(&pod).is_some_and(|i| {
                    i < self.completions.unwrap_or(0) && !done.contains(&i) && !lost.contains(&i) && seen.insert(i)
                });
            if fits && keep.len() < want { keep.push(pod) } else { drop.push(pod) }
        }
        plan.delete = drop.into_iter().take(pods::BURST).map(|p| (p, true)).collect();
        if !plan.delete.is_empty() {
            return;
        }
        let held = keep.len() + if self.only_failed { terminating } else { 0 };
        let missing = pods::makeable(want.saturating_sub(held), &keep);
        if missing == 0 {
            return;
        }
        if self.indexed {
            self.make_indexed(plan, &keep, missing, done, lost);
        } else if let Some(wait) = self.backoff(self.pods.iter()) {
            wake(&mut plan.again, wait);
        } else {
            plan.make = vec![Make { index: None, failures: None }; missing];
        }
    }

    fn make_indexed(
        &self,
        plan: &mut Plan,
        keep: &[Arc<Pod>],
        missing: usize,
        done: &BTreeSet<i32>,
        lost: &BTreeSet<i32>,
    ) {
        let mut held: BTreeSet<i32> = keep.iter().filter_map(|p| index_of(p)).collect();
        if self.only_failed {
            held.extend(
                self.pods
                    .iter()
                    .filter(|p| pods::is_terminating(p) && !pods::is_finished(p))
                    .filter_map(|p| index_of(p)),
            );
        }
        let mut earlier: BTreeMap<i32, Vec<&Arc<Pod>>> = BTreeMap::new();
        for pod in self.pods.iter().filter(|p| self.is_failed(p)) {
            if let Some(i) = index_of(pod) {
                earlier.entry(i).or_default().push(pod);
            }
        }
        let all = self.backoff(self.pods.iter());
        for i in 0..self.completions.unwrap_or(0) {
            if plan.make.len() >= missing {
                break;
            }
            if held.contains(&i) || done.contains(&i) || lost.contains(&i) {
                continue;
            }
            let before = earlier.get(&i).map(Vec::as_slice).unwrap_or_default();
            let wait = if self.per_index.is_some() { self.backoff(before.iter().copied()) } else { all };
            match wait {
                Some(wait) => wake(&mut plan.again, wait),
                None => {
                    let spec = self.job.spec.as_ref();
                    let counted =
                        |p: &&Arc<Pod>| i32::from(spec.is_some_and(|s| policy::verdict(s, p) != Verdict::Ignore));
                    let failures = before.iter().map(|p| failures_before(p) + counted(&p)).max().unwrap_or(0);
                    plan.make.push(Make { index: Some(i), failures: self.per_index.map(|_| failures) });
                }
            }
        }
    }

    /// How long to wait before making pods again, after failures since the last success.
    fn backoff<'p>(&self, pods: impl Iterator<Item = &'p Arc<Pod>> + Clone) -> Option<Duration> {
        let success = pods.clone().filter(|p| pods::phase(p) == "Succeeded").filter_map(|p| ended(p)).max();
        let failures: Vec<Timestamp> = pods
            .filter(|p| pods::phase(p) == "Failed")
            .filter_map(|p| ended(p))
            .filter(|t| success.is_none_or(|s| *t > s))
            .collect();
        let last = *failures.iter().max()?;
        let doublings = u32::try_from(failures.len() - 1).unwrap_or(u32::MAX).min(10);
        let delay = (BACKOFF * 2u32.pow(doublings)).min(BACKOFF_MAX);
        let passed = Duration::try_from(self.now.duration_since(last)).unwrap_or_default();
        // Times are written in whole seconds.
        delay.checked_sub(passed).filter(|d| !d.is_zero())
    }

    /// Keeps the Suspended condition, and the start time that goes with it.
    fn suspend(&self, conditions: &mut Vec<JobCondition>, start: &mut Option<Time>, plan: &mut Plan) {
        let is = conditions.iter().any(|c| c.type_ == "Suspended" && c.status == "True");
        if self.suspended && !is {
            set(conditions, "Suspended", "True", "JobSuspended", "Job suspended", self.now);
            *start = None;
            plan.tell.push((false, "Suspended", "Job suspended".to_string()));
        } else if !self.suspended && is {
            set(conditions, "Suspended", "False", "JobResumed", "Job resumed", self.now);
            *start = Some(Time(self.now));
            plan.tell.push((false, "Resumed", "Job resumed".to_string()));
        }
    }
}

/// Reasons are few; a status that somebody else wrote may hold another.
fn reason_of(c: &JobCondition) -> &'static str {
    const KNOWN: [&str; 7] = [
        "PodFailurePolicy",
        "BackoffLimitExceeded",
        "DeadlineExceeded",
        "MaxFailedIndexesExceeded",
        "FailedIndexes",
        "SuccessPolicy",
        "CompletionsReached",
    ];
    KNOWN.into_iter().find(|k| Some(*k) == c.reason.as_deref()).unwrap_or("Unknown")
}

fn wake(again: &mut Option<Duration>, after: Duration) {
    *again = Some(again.map_or(after, |a| a.min(after)));
}

fn set(conditions: &mut Vec<JobCondition>, kind: &str, status: &str, reason: &str, message: &str, now: Timestamp) {
    if conditions.iter().any(|c| c.type_ == kind && c.status == status) {
        return;
    }
    conditions.retain(|c| c.type_ != kind);
    conditions.push(JobCondition {
        type_: kind.to_string(),
        status: status.to_string(),
        reason: Some(reason.to_string()),
        message: Some(message.to_string()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn now() -> Timestamp {
        "2026-01-01T01:00:00Z".parse().unwrap()
    }

    fn job(spec: Value, status: Value) -> Job {
        let mut spec = spec;
        spec["template"] = json!({"spec": {"containers": []}});
        serde_json::from_value(json!({"metadata": {"name": "j", "uid": "j"}, "spec": spec, "status": status})).unwrap()
    }

    /// `name[@index[^failures]]:phase`, with `!` when it is being deleted and `-` when it is counted already.
    fn pod(text: &str) -> Arc<Pod> {
        let (name, phase) = text.split_once(':').unwrap();
        let (phase, going) = (phase.trim_end_matches(['!', '-']), phase.contains('!'));
        let (name, at) = name.split_once('@').unwrap_or((name, ""));
        let (index, failures) = at.split_once('^').unwrap_or((at, "0"));
        let ended = json!([{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:00:00Z"}}}]);
        let annotations = if at.is_empty() { json!({}) } else { json!({INDEX: index, FAILURES: failures}) };
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "uid": name, "annotations": annotations,
                    "finalizers": if text.ends_with('-') { json!([]) } else { json!([FINALIZER]) },
                    "deletionTimestamp": going.then_some("2026-01-01T00:59:00Z")},
                "spec": {"containers": [], "nodeName": "n"},
                "status": {"phase": phase,
                    "containerStatuses": if matches!(phase, "Failed" | "Succeeded") { ended } else { json!([]) }},
            }))
            .unwrap(),
        )
    }

    fn look(spec: Value, status: Value, pods: &[&str]) -> Plan {
        plan(now(), &job(spec, status), &pods.iter().map(|p| pod(p)).collect::<Vec<_>>())
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<String> {
        pods.iter().map(|p| p.name_any()).collect()
    }

    fn reasons(plan: &Plan) -> Vec<String> {
        let all = plan.status.conditions.iter().flatten();
        all.map(|c| format!("{}={}/{}", c.type_, c.status, c.reason.as_deref().unwrap_or(""))).collect()
    }

    #[test]
    fn as_many_pods_as_there_is_work_for() {
        let make = |spec: Value, status: Value, pods: &[&str]| look(spec, status, pods).make.len();
        let three = json!({"parallelism": 3, "completions": 5, "backoffLimit": 6});
        for (what, spec, status, pods, want) in [
            ("none yet", three.clone(), json!({}), &[][..], 3),
            ("some run", three.clone(), json!({}), &["a:Running", "b:Pending"][..], 1),
            ("few are left", three.clone(), json!({"succeeded": 4}), &[][..], 1),
            ("a work queue", json!({"parallelism": 2}), json!({}), &[][..], 2),
            ("a work queue that is empty", json!({"parallelism": 2}), json!({"succeeded": 1}), &["a:Running"][..], 0),
            ("suspended", json!({"parallelism": 2, "suspend": true}), json!({}), &[][..], 0),
            (
                "terminating ones are replaced",
                json!({"parallelism": 1, "completions": 2}),
                json!({}),
                &["a:Running!"][..],
                1,
            ),
            (
                "unless they have to fail first",
                json!({"parallelism": 1, "completions": 2, "podReplacementPolicy": "Failed"}),
                json!({}),
                &["a:Running!"][..],
                0,
            ),
        ] {
            assert_eq!(make(spec, status, pods), want, "{what}");
        }
    }

    #[test]
    fn an_end_is_counted_once() {
        let spec = json!({"parallelism": 1, "completions": 2, "backoffLimit": 6});
        // Seen: the uid is written down, the number isn't raised yet.
        let p = look(spec.clone(), json!({}), &["a:Succeeded", "b:Failed"]);
        let waiting = p.status.uncounted_terminated_pods.clone().unwrap();
        assert_eq!(
            (waiting.succeeded.unwrap(), waiting.failed.unwrap()),
            (vec!["a".to_string()], vec!["b".to_string()])
        );
        assert_eq!((p.status.succeeded, p.status.failed, names(&p.count).len()), (None, None, 2));
        // Not let go yet: nothing is counted twice.
        let status = serde_json::to_value(&p.status).unwrap();
        let again = look(spec.clone(), status.clone(), &["a:Succeeded", "b:Failed"]);
        assert_eq!(again.status.succeeded, None);
        // Let go: now it counts.
        let p = look(spec, status, &["a:Succeeded-", "b:Failed-"]);
        assert_eq!((p.status.succeeded, p.status.failed), (Some(1), Some(1)));
        assert_eq!(p.status.uncounted_terminated_pods, Some(UncountedTerminatedPods::default()));
    }

    #[test]
    fn ends() {
        let uncounted = json!({"succeeded": 1});
        for (what, spec, status, pods, want) in [
            (
                "complete",
                json!({"completions": 1}),
                uncounted.clone(),
                &["a:Succeeded-"][..],
                vec!["SuccessCriteriaMet=True/CompletionsReached", "Complete=True/CompletionsReached"],
            ),
            (
                "complete, not counted yet",
                json!({"completions": 1}),
                json!({}),
                &["a:Succeeded"][..],
                vec!["SuccessCriteriaMet=True/CompletionsReached"],
            ),
            (
                "too many failures",
                json!({"completions": 1, "backoffLimit": 0}),
                json!({"failed": 1}),
                &[][..],
                vec!["FailureTarget=True/BackoffLimitExceeded", "Failed=True/BackoffLimitExceeded"],
            ),
            (
                "failures, but one runs still",
                json!({"completions": 2, "parallelism": 2, "backoffLimit": 0}),
                json!({"failed": 1}),
                &["a:Running"][..],
                vec!["FailureTarget=True/BackoffLimitExceeded"],
            ),
            (
                "too late",
                json!({"completions": 1, "activeDeadlineSeconds": 60}),
                json!({"startTime": "2026-01-01T00:00:00Z"}),
                &[][..],
                vec!["FailureTarget=True/DeadlineExceeded", "Failed=True/DeadlineExceeded"],
            ),
            (
                "suspended ones have time",
                json!({"completions": 1, "activeDeadlineSeconds": 60, "suspend": true}),
                json!({"startTime": "2026-01-01T00:00:00Z"}),
                &[][..],
                vec!["Suspended=True/JobSuspended"],
            ),
            (
                "resumed",
                json!({"completions": 1}),
                json!({"conditions": [{"type": "Suspended", "status": "True"}]}),
                &[][..],
                vec!["Suspended=False/JobResumed"],
            ),
            (
                "all indexes, some lost",
                json!({"completions": 2, "completionMode": "Indexed", "backoffLimit": 99, "backoffLimitPerIndex": 0}),
                json!({"completedIndexes": "0", "failedIndexes": "1"}),
                &[][..],
                vec!["FailureTarget=True/FailedIndexes", "Failed=True/FailedIndexes"],
            ),
            (
                "too many indexes lost",
                json!({"completions": 5, "completionMode": "Indexed", "backoffLimit": 99, "backoffLimitPerIndex": 0,
                "maxFailedIndexes": 1}),
                json!({"failedIndexes": "1,3"}),
                &[][..],
                vec!["FailureTarget=True/MaxFailedIndexesExceeded", "Failed=True/MaxFailedIndexesExceeded"],
            ),
            (
                "a success rule",
                json!({"completions": 5, "completionMode": "Indexed", "successPolicy": {"rules": [{"succeededIndexes": "2"}]}}),
                json!({"completedIndexes": "2"}),
                &[][..],
                vec!["SuccessCriteriaMet=True/SuccessPolicy", "Complete=True/SuccessPolicy"],
            ),
        ] {
            assert_eq!(reasons(&look(spec, status, pods)), want, "{what}");
        }
    }

    #[test]
    fn what_an_end_does_to_pods_that_run() {
        let failed =
            look(json!({"completions": 2, "parallelism": 2, "backoffLimit": 0}), json!({"failed": 1}), &["a:Running"]);
        assert!(!failed.delete[0].1, "they count as failed");
        let fewer = look(json!({"completions": 9, "parallelism": 1}), json!({}), &["a:Running", "b:Running"]);
        assert_eq!((fewer.delete.len(), fewer.delete[0].1), (1, true), "nobody's fault");
        let suspended = look(json!({"completions": 9, "suspend": true}), json!({}), &["a:Running"]);
        assert_eq!((suspended.delete.len(), suspended.delete[0].1, suspended.status.active), (1, true, None));
    }

    #[test]
    fn indexes_get_a_pod_each() {
        let spec = json!({"completions": 4, "parallelism": 4, "completionMode": "Indexed", "backoffLimit": 6});
        let p = look(spec, json!({"completedIndexes": "0"}), &["a@2:Running", "b@2:Running", "c@3:Succeeded"]);
        assert_eq!(p.status.completed_indexes.as_deref(), Some("0,3"));
        assert_eq!(p.delete.len(), 1, "one index, one pod");
        let spec = json!({"completions": 4, "parallelism": 4, "completionMode": "Indexed", "backoffLimit": 6});
        let p = look(spec, json!({"completedIndexes": "0"}), &["a@2:Running"]);
        assert_eq!(p.make.iter().filter_map(|m| m.index).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn failures_of_an_index_are_remembered_by_its_pods() {
        let spec = json!({"completions": 1, "parallelism": 1, "completionMode": "Indexed", "backoffLimit": 99, "backoffLimitPerIndex": 1});
        let p = look(spec.clone(), json!({}), &["a@0:Failed"]);
        assert_eq!(p.make, [Make { index: Some(0), failures: Some(1) }]);
        assert!(p.count.is_empty(), "it is the record until another takes over");
        let p = look(spec.clone(), json!({}), &["a@0:Failed", "b@0^1:Running"]);
        assert_eq!(names(&p.count), ["a"]);
        let p = look(spec, json!({}), &["b@0^1:Failed"]);
        assert_eq!(p.status.failed_indexes.as_deref(), Some("0"));
        assert_eq!(reasons(&p), ["FailureTarget=True/FailedIndexes"]);
    }

    #[test]
    fn failures_slow_it_down() {
        let soon: Arc<Pod> = {
            let mut p = (*pod("a:Failed-")).clone();
            let ended = json!([{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:59:58Z"}}}]);
            p.status.as_mut().unwrap().container_statuses = serde_json::from_value(ended).unwrap();
            Arc::new(p)
        };
        let p = plan(now(), &job(json!({"completions": 1, "backoffLimit": 6}), json!({"failed": 1})), &[soon]);
        assert_eq!((p.make.len(), p.again), (0, Some(Duration::from_secs(8))));
    }

    #[test]
    fn an_ended_job_holds_no_pod() {
        let status =
            json!({"conditions": [{"type": "Failed", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        let p = look(json!({"completions": 1}), status.clone(), &["a:Failed"]);
        assert_eq!((names(&p.count), p.make.len()), (vec!["a".to_string()], 0));
        assert_eq!(serde_json::to_value(p.status.conditions).unwrap().as_array().unwrap().len(), 1);
    }
}
