//! A Deployment's counts and conditions, with upstream's reasons and messages.

use super::revision::{max_unavailable, replicas, size};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use std::time::Duration;

/// Upstream's way to say "no deadline".
const NO_DEADLINE: i32 = i32::MAX;

pub fn deadline(d: &Deployment) -> Option<i32> {
    d.spec.as_ref().and_then(|s| s.progress_deadline_seconds).filter(|s| *s != NO_DEADLINE)
}

pub fn has_deadline(d: &Deployment) -> bool {
    deadline(d).is_some()
}

pub fn condition(now: Timestamp, kind: &str, status: &str, reason: &str, message: &str) -> DeploymentCondition {
    DeploymentCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

pub fn find<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.as_ref()?.iter().find(|c| c.type_ == kind)
}

pub fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|c| c.type_ != kind);
    }
}

/// Puts a condition in; one with the same status and reason stays as it is.
pub fn set_condition(status: &mut DeploymentStatus, mut new: DeploymentCondition) {
    if let Some(old) = find(status, &new.type_) {
        if old.status == new.status && old.reason == new.reason {
            return;
        }
        if old.status == new.status {
            new.last_transition_time = old.last_transition_time.clone();
        }
    }
    remove(status, &new.type_);
    status.conditions.get_or_insert_default().push(new);
}

pub fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|s| s.available_replicas).unwrap_or(0)
}

pub fn actual(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |s| s.replicas)
}

/// Counts and the Available condition.
pub fn count(now: Timestamp, d: &Deployment, sets: &[ReplicaSet], new: Option<&ReplicaSet>) -> DeploymentStatus {
    let old = d.status.clone().unwrap_or_default();
    let sum = |f: &dyn Fn(&ReplicaSet) -> i32| sets.iter().map(f).sum::<i32>();
    let nonzero = |n: i32| (n != 0).then_some(n);
    let ready_and_up = sum(&available);
    let mut status = DeploymentStatus {
        observed_generation: d.metadata.generation,
        replicas: nonzero(sum(&actual)),
        updated_replicas: nonzero(new.map_or(0, actual)),
        ready_replicas: nonzero(sum(&|s| s.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0))),
        available_replicas: nonzero(ready_and_up),
        unavailable_replicas: nonzero((sum(&size) - ready_and_up).max(0)),
        terminating_replicas: sets
            .iter()
            .map(|s| s.status.as_ref().map_or(Some(0), |s| s.terminating_replicas))
            .sum::<Option<i32>>(),
        collision_count: old.collision_count,
        conditions: old.conditions,
    };
    let available = if ready_and_up >= replicas(d) - max_unavailable(d) {
        condition(now, "Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        condition(
            now,
            "Available",
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    };
    set_condition(&mut status, available);
    status
}

/// Everything is of the new template, and up.
pub fn is_complete(d: &Deployment, s: &DeploymentStatus) -> bool {
    let want = replicas(d);
    s.updated_replicas.unwrap_or(0) == want
        && s.replicas.unwrap_or(0) == want
        && s.available_replicas.unwrap_or(0) == want
        && s.observed_generation >= d.metadata.generation
}

fn is_progressing(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let n = |v: Option<i32>| v.unwrap_or(0);
    let stale = |s: &DeploymentStatus| n(s.replicas) - n(s.updated_replicas);
    n(new.updated_replicas) > n(old.updated_replicas)
        || stale(new) < stale(old)
        || n(new.ready_replicas) > n(old.ready_replicas)
        || n(new.available_replicas) > n(old.available_replicas)
}

/// How long until the deadline passes; zero once it has.
fn until_deadline(now: Timestamp, d: &Deployment, s: &DeploymentStatus) -> Option<Duration> {
    let seconds = deadline(d)?;
    let since = find(s, "Progressing")?.last_update_time.as_ref()?.0;
    let left = SignedDuration::from_secs(seconds.into()) - now.duration_since(since);
    Some(Duration::try_from(left).unwrap_or_default())
}

fn timed_out(now: Timestamp, d: &Deployment, s: &DeploymentStatus) -> bool {
    match find(s, "Progressing").and_then(|c| c.reason.as_deref()) {
        None | Some("NewReplicaSetAvailable") => false,
        Some("ProgressDeadlineExceeded") => true,
        Some(_) => until_deadline(now, d, s).is_some_and(|left| left.is_zero()),
    }
}

/// The status while a rollout may be under way, and when its deadline is to be looked at.
pub fn of_rollout(
    now: Timestamp,
    d: &Deployment,
    sets: &[ReplicaSet],
    new: Option<&ReplicaSet>,
) -> (DeploymentStatus, Option<Duration>) {
    let old = d.status.clone().unwrap_or_default();
    let mut status = count(now, d, sets, new);
    if !has_deadline(d) {
        remove(&mut status, "Progressing");
    }
    let current = find(&old, "Progressing").cloned();
    let settled = status.replicas == status.updated_replicas
        && current.as_ref().is_some_and(|c| c.reason.as_deref() == Some("NewReplicaSetAvailable"));
    if has_deadline(d) && !settled {
        let subject =
            new.map_or_else(|| format!("Deployment {:?}", d.name_any()), |s| format!("ReplicaSet {:?}", s.name_any()));
        if is_complete(d, &status) {
            let message = format!("{subject} has successfully progressed.");
            set_condition(&mut status, condition(now, "Progressing", "True", "NewReplicaSetAvailable", &message));
        } else if is_progressing(&old, &status) {
            let message = format!("{subject} is progressing.");
            let mut c = condition(now, "Progressing", "True", "ReplicaSetUpdated", &message);
            // Set anew each time, since its update time is what the deadline counts from.
            if let Some(current) = current.filter(|c| c.status == "True") {
                c.last_transition_time = current.last_transition_time;
            }
            remove(&mut status, "Progressing");
            set_condition(&mut status, c);
        } else if timed_out(now, d, &status) {
            let message = format!("{subject} has timed out progressing.");
            set_condition(&mut status, condition(now, "Progressing", "False", "ProgressDeadlineExceeded", &message));
        }
    }
    let failure = new
        .into_iter()
        .chain(sets)
        .filter_map(|s| s.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == "ReplicaFailure"))
        .next();
    match failure {
        Some(f) => set_condition(
            &mut status,
            DeploymentCondition {
                type_: f.type_.clone(),
                status: f.status.clone(),
                reason: f.reason.clone(),
                message: f.message.clone(),
                last_transition_time: f.last_transition_time.clone(),
                last_update_time: f.last_transition_time.clone(),
            },
        ),
        None => remove(&mut status, "ReplicaFailure"),
    }
    let waits = !is_complete(d, &status)
        && find(&status, "Progressing").is_some_and(|c| {
            !matches!(c.reason.as_deref(), Some("NewReplicaSetAvailable" | "ProgressDeadlineExceeded"))
        });
    let again = until_deadline(now, d, &status).filter(|_| waits).map(|left| left + Duration::from_secs(1));
    (status, again)
}
