//! Event recorder: core/v1 Events as users read them with `kubectl get events` and `describe`.
//!
//! The same event told again raises `count` instead of making a new object, and each source is limited, so that a
//! loop that fails all the time can't flood the store. Source: events of client-go's `tools/record`.

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Normal,
    Warning,
}

/// Records events of one component. Cheap to clone; never blocks: events are dropped when the server can't keep up.
#[derive(Clone)]
pub struct Recorder {
    send: mpsc::Sender<Note>,
}

struct Note {
    about: ObjectReference,
    kind: Kind,
    reason: String,
    message: String,
}

/// Events that may wait to be written.
const QUEUE: usize = 1000;
/// Upstream's spam filter: so many events about one object at once, then one every five minutes.
const BURST: u32 = 25;
const REFILL: Duration = Duration::from_secs(300);
/// How long repeats are counted together.
const MEMORY: Duration = Duration::from_secs(600);
/// Objects, and events, that are remembered; upstream's `maxLruCacheEntries`.
const ENTRIES_MAX: usize = 4096;

impl Recorder {
    /// `component` is what the event's source says (`kubelet`, `deployment-controller`); `host` a node's name or empty.
    pub fn new(client: Client, component: &str, host: &str) -> Recorder {
        let (send, receive) = mpsc::channel(QUEUE);
        let writer = Writer {
            client,
            component: component.to_string(),
            host: host.to_string(),
            seen: HashMap::new(),
            budget: Budget::default(),
        };
        tokio::spawn(writer.run(receive));
        Recorder { send }
    }

    pub fn normal(&self, about: &ObjectReference, reason: &str, message: impl Into<String>) {
        self.record(about.clone(), Kind::Normal, reason, message);
    }

    pub fn warning(&self, about: &ObjectReference, reason: &str, message: impl Into<String>) {
        self.record(about.clone(), Kind::Warning, reason, message);
    }

    pub fn record(&self, about: ObjectReference, kind: Kind, reason: &str, message: impl Into<String>) {
        let mut message = message.into();
        if message.len() > 1024 {
            let cut = (0..=1021).rev().find(|i| message.is_char_boundary(*i)).unwrap_or(0);
            message.truncate(cut);
            message.push_str("...");
        }
        let note = Note { about, kind, reason: reason.to_string(), message };
        if self.send.try_send(note).is_err() {
            tracing::debug!(reason, "event dropped: the queue is full");
        }
    }
}

/// A reference to any object, for an event about it.
pub fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    let meta = object.meta();
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

struct Seen {
    name: String,
    namespace: String,
    count: i32,
    last: Instant,
}

struct Writer {
    client: Client,
    component: String,
    host: String,
    seen: HashMap<String, Seen>,
    budget: Budget,
}

/// Tokens left per object, and when they were counted.
#[derive(Default)]
struct Budget(HashMap<String, (f64, Instant)>);

impl Budget {
    /// Whether one more event about the object may be written. One that was made anew is another object.
    fn spend(&mut self, about: &ObjectReference, now: Instant) -> bool {
        make_room(&mut self.0, REFILL * BURST, now, |(_, at)| *at);
        let object =
            format!("{:?}/{:?}/{:?}/{:?}/{:?}", about.api_version, about.kind, about.namespace, about.name, about.uid);
        let (tokens, at) = self.0.entry(object).or_insert((f64::from(BURST), now));
        let gained = now.saturating_duration_since(*at).as_secs_f64() / REFILL.as_secs_f64();
        *tokens = (*tokens + gained).min(f64::from(BURST));
        *at = now;
        if *tokens < 1.0 {
            return false;
        }
        *tokens -= 1.0;
        true
    }
}

/// For one more entry: what is older than `age_max` goes from a full table, and if that isn't enough, the older half.
fn make_room<V>(table: &mut HashMap<String, V>, age_max: Duration, now: Instant, at: impl Fn(&V) -> Instant) {
    if table.len() < ENTRIES_MAX {
        return;
    }
    table.retain(|_, v| now.saturating_duration_since(at(v)) < age_max);
    if table.len() < ENTRIES_MAX {
        return;
    }
    let mut times: Vec<Instant> = table.values().map(&at).collect();
    let middle = times.len() / 2;
    let median = *times.select_nth_unstable(middle).1;
    table.retain(|_, v| at(v) > median);
}

impl Writer {
    async fn run(mut self, mut receive: mpsc::Receiver<Note>) {
        while let Some(note) = receive.recv().await {
            if self.budget.spend(&note.about, Instant::now())
                && let Err(e) = self.write(&note).await
            {
                tracing::debug!(reason = note.reason, error = %e, "event was not recorded");
            }
        }
    }

    async fn write(&mut self, note: &Note) -> Result<(), kube::Error> {
        let a = &note.about;
        let id = format!(
            "{:?}|{:?}|{:?}|{:?}|{:?}|{:?}|{}|{}",
            a.kind, a.namespace, a.name, a.uid, a.field_path, note.kind, note.reason, note.message
        );
        let now = Time(k8s_openapi::jiff::Timestamp::now());
        make_room(&mut self.seen, MEMORY, Instant::now(), |s| s.last);
        if let Some(seen) = self.seen.get_mut(&id).filter(|s| s.last.elapsed() < MEMORY) {
            let api: Api<Event> = Api::namespaced(self.client.clone(), &seen.namespace);
            let patch = serde_json::json!({"count": seen.count + 1, "lastTimestamp": now});
            match api.patch(&seen.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(_) => {
                    seen.count += 1;
                    seen.last = Instant::now();
                    return Ok(());
                }
                // Expired meanwhile: make it anew.
                Err(kube::Error::Api(e)) if e.code == 404 => {}
                Err(e) => return Err(e),
            }
        }
        let namespace = a.namespace.clone().filter(|n| !n.is_empty()).unwrap_or_else(|| "default".to_string());
        let name = format!("{}.{:x}", a.name.clone().unwrap_or_default(), now.0.as_nanosecond());
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            involved_object: a.clone(),
            type_: Some(if note.kind == Kind::Normal { "Normal" } else { "Warning" }.to_string()),
            reason: Some(note.reason.clone()),
            message: Some(note.message.clone()),
            count: Some(1),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            source: Some(EventSource {
                component: Some(self.component.clone()),
                host: (!self.host.is_empty()).then(|| self.host.clone()),
            }),
            reporting_component: Some(self.component.clone()),
            reporting_instance: Some(self.host.clone()),
            ..Event::default()
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        api.create(&PostParams::default(), &event).await?;
        self.seen.insert(id, Seen { name, namespace, count: 1, last: Instant::now() });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, uid: &str) -> ObjectReference {
        ObjectReference { name: Some(name.into()), uid: Some(uid.into()), ..ObjectReference::default() }
    }

    #[test]
    fn an_object_has_a_burst_and_then_one_event_in_five_minutes() {
        let (mut budget, t) = (Budget::default(), Instant::now());
        let spent =
            |budget: &mut Budget, about: &ObjectReference, now| (0..100).filter(|_| budget.spend(about, now)).count();
        let a = pod("a", "1");
        assert_eq!(spent(&mut budget, &a, t), 25);
        for (seconds, want) in [(299, 0), (301, 1), (302, 0), (301 + 600, 2), (1_000_000, 25)] {
            assert_eq!(spent(&mut budget, &a, t + Duration::from_secs(seconds)), want, "after {seconds} s");
        }
        let later = t + Duration::from_secs(1_000_000);
        assert_eq!(spent(&mut budget, &pod("a", "2"), later), 25, "made anew under its old name");
    }

    #[test]
    fn tables_stay_small_however_many_objects_there_are() {
        let (mut budget, t) = (Budget::default(), Instant::now());
        for i in 0..3 * ENTRIES_MAX as u64 {
            assert!(budget.spend(&pod("p", &i.to_string()), t + Duration::from_millis(i)));
            assert!(budget.0.len() <= ENTRIES_MAX);
        }
        assert!(budget.0.len() > ENTRIES_MAX / 3, "what came last is remembered");
        // All at the same time.
        let mut table: HashMap<String, Instant> = (0..ENTRIES_MAX).map(|i| (i.to_string(), t)).collect();
        make_room(&mut table, MEMORY, t, |at| *at);
        assert!(table.is_empty());
        // Those that are over go first.
        let of = |i: usize| if i.is_multiple_of(4) { t } else { t + MEMORY };
        let mut table: HashMap<String, Instant> = (0..ENTRIES_MAX).map(|i| (i.to_string(), of(i))).collect();
        make_room(&mut table, MEMORY, t + MEMORY, |at| *at);
        assert_eq!(table.len(), ENTRIES_MAX / 4 * 3);
    }
}
