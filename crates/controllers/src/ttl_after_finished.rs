//! Deletes Jobs some time after their end (`ttlSecondsAfterFinished`, KEP-592).

use crate::Context;
use crate::job::plan::finished;
use crate::ownership;
use client::Queue;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Preconditions, PropagationPolicy};
use std::time::Duration;

const NAME: &str = "ttl-after-finished-controller";
const WORKERS: usize = 2;

/// How long the Job may still stay; `None` when it may stay for good.
fn left(job: &Job, now: Timestamp) -> Option<SignedDuration> {
    let ttl = job.spec.as_ref()?.ttl_seconds_after_finished?;
    if job.metadata.deletion_timestamp.is_some() {
        return None;
    }
    Some(SignedDuration::from_secs(ttl.into()) - now.duration_since(finished(job)?))
}

pub async fn run(context: Context) {
    let queue = Queue::new();
    let jobs = context.informers.of::<Job>();
    let q = queue.clone();
    jobs.on_change(move |change| {
        if left(change.object(), Timestamp::UNIX_EPOCH).is_some() {
            q.add(client::informer::key_of(&**change.object()));
        }
    });
    jobs.wait_synced().await;
    let client = context.client(NAME);
    queue
        .run(NAME, WORKERS, context.shutdown.clone(), move |key| {
            let (jobs, client) = (jobs.clone(), client.clone());
            async move {
                let Some(job) = jobs.get(&key) else { return Ok(None) };
                let Some(left) = left(&job, Timestamp::now()) else { return Ok(None) };
                if left.is_positive() {
                    return Ok(Some(Duration::try_from(left).unwrap_or_default()));
                }
                let params = DeleteParams {
                    propagation_policy: Some(PropagationPolicy::Foreground),
                    // Somebody may have given it more time.
                    preconditions: Some(Preconditions { uid: job.uid(), resource_version: job.resource_version() }),
                    ..DeleteParams::default()
                };
                let api: Api<Job> = Api::namespaced(client, &job.namespace().unwrap_or_default());
                match api.delete(&job.name_any(), &params).await {
                    Ok(_) => Ok(None),
                    Err(e) if ownership::gone(&e) => Ok(None),
                    Err(e) => Err(e),
                }
            }
        })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn time_runs_from_the_end() {
        let job = |ttl: serde_json::Value, kind: &str| -> Job {
            serde_json::from_value(json!({
                "metadata": {"name": "j"}, "spec": {"ttlSecondsAfterFinished": ttl, "template": {}},
                "status": {"conditions": [
                    {"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
            }))
            .unwrap()
        };
        let now: Timestamp = "2026-01-01T00:00:10Z".parse().unwrap();
        for (what, job, want) in [
            ("complete", job(json!(30), "Complete"), Some(20)),
            ("failed and due", job(json!(0), "Failed"), Some(-10)),
            ("no limit", job(json!(null), "Complete"), None),
            ("goes on", job(json!(5), "Suspended"), None),
        ] {
            assert_eq!(left(&job, now).map(|d| d.as_secs()), want, "{what}");
        }
    }
}
