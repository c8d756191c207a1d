//! Events, aggregated: the same event again only raises its count. Written by one background task; a full queue drops
//! the newest rather than holding up a pod.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use std::collections::HashMap;
use tokio::sync::mpsc;

const COMPONENT: &str = "kubelet";
const QUEUE_MAX: usize = 1000;
/// Events whose counts are remembered.
const REMEMBERED_MAX: usize = 4096;
/// A burst per object and, after that, one more every five minutes.
const BURST: f64 = 25.0;
const REFILL_PER_SECOND: f64 = 1.0 / 300.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Normal,
    Warning,
}

#[derive(Clone, Debug)]
struct Occurrence {
    object: ObjectReference,
    severity: Severity,
    reason: String,
    message: String,
}

#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Occurrence>,
}

pub fn pod_reference(pod: &Pod, field_path: Option<String>) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        field_path,
    }
}

impl Recorder {
    /// Starts the writer; it ends when the last recorder is dropped.
    pub fn start(client: Client, host: String) -> Recorder {
        let (queue, mut rx) = mpsc::channel::<Occurrence>(QUEUE_MAX);
        tokio::spawn(async move {
            let mut counts: HashMap<Key, Known> = HashMap::new();
            let mut buckets: HashMap<String, (f64, Timestamp)> = HashMap::new();
            while let Some(occurrence) = rx.recv().await {
                let now = Timestamp::now();
                if counts.len() > REMEMBERED_MAX {
                    counts.clear();
                }
                if buckets.len() > REMEMBERED_MAX {
                    buckets.clear();
                }
                let who = format!(
                    "{}/{}",
                    occurrence.object.uid.as_deref().unwrap_or_default(),
                    occurrence.object.name.as_deref().unwrap_or_default()
                );
                let (tokens, at) = buckets.entry(who).or_insert((BURST, now));
                *tokens = (*tokens + now.duration_since(*at).as_secs_f64() * REFILL_PER_SECOND).min(BURST);
                *at = now;
                if *tokens < 1.0 {
                    continue;
                }
                *tokens -= 1.0;
                if let Err(error) = write(&client, &host, &mut counts, &occurrence, now).await {
                    tracing::debug!(%error, reason = occurrence.reason, "event wasn't written");
                }
            }
        });
        Recorder { queue }
    }

    pub fn record(&self, object: ObjectReference, severity: Severity, reason: &str, message: impl Into<String>) {
        let mut message = message.into();
        if message.len() > 1024 {
            let mut end = 1020;
            while !message.is_char_boundary(end) {
                end -= 1;
            }
            message.truncate(end);
            message.push_str("...");
        }
        let _ = self.queue.try_send(Occurrence { object, severity, reason: reason.to_owned(), message });
    }

    pub fn pod(&self, pod: &Pod, severity: Severity, reason: &str, message: impl Into<String>) {
        self.record(pod_reference(pod, None), severity, reason, message);
    }
}

type Key = (String, String, String, bool, String, String);

struct Known {
    name: String,
    count: i32,
}

async fn write(
    client: &Client,
    host: &str,
    counts: &mut HashMap<Key, Known>,
    o: &Occurrence,
    now: Timestamp,
) -> kube::Result<()> {
    let namespace = o.object.namespace.clone().unwrap_or_else(|| "default".into());
    let api = Api::<Event>::namespaced(client.clone(), &namespace);
    let now_time = Time(crate::pods::status::whole_seconds(now));
    let key: Key = (
        format!(
            "{}/{}/{}",
            o.object.kind.as_deref().unwrap_or_default(),
            namespace,
            o.object.name.as_deref().unwrap_or_default()
        ),
        o.object.uid.clone().unwrap_or_default(),
        o.object.field_path.clone().unwrap_or_default(),
        o.severity == Severity::Warning,
        o.reason.clone(),
        o.message.clone(),
    );
    if let Some(known) = counts.get_mut(&key) {
        known.count += 1;
        let patch = serde_json::json!({"count": known.count, "lastTimestamp": now_time});
        match api.patch(&known.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(_) => return Ok(()),
            // It has expired: a new one begins.
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
    }
    let base = o.object.name.as_deref().unwrap_or("unknown");
    let name = format!("{base}.{:x}", now.as_nanosecond());
    let event = Event {
        metadata: ObjectMeta { name: Some(name.clone()), namespace: Some(namespace), ..Default::default() },
        involved_object: o.object.clone(),
        reason: Some(o.reason.clone()),
        message: Some(o.message.clone()),
        type_: Some(if o.severity == Severity::Warning { "Warning" } else { "Normal" }.into()),
        count: Some(1),
        first_timestamp: Some(now_time.clone()),
        last_timestamp: Some(now_time),
        source: Some(EventSource { component: Some(COMPONENT.into()), host: Some(host.to_owned()) }),
        reporting_component: Some(COMPONENT.into()),
        reporting_instance: Some(host.to_owned()),
        ..Default::default()
    };
    api.create(&PostParams::default(), &event).await?;
    counts.insert(key, Known { name, count: 1 });
    Ok(())
}
