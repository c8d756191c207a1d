//! Keeps priority and fairness in step with its objects: takes over changes, writes the Dangling condition, and
//! maintains the objects that the server itself provides.
//!
//! Looks at the world and closes the gap; a change of any FlowSchema or PriorityLevelConfiguration wakes it.

use super::config::Config;
use crate::bootstrap::{flow_control, run};
use crate::server::Server;
use http::Method;
use meta::status::Result;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use stdx::Shutdown;
use store::Watcher;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const RESOURCES: [(&str, &str); 2] =
    [("FlowSchema", "flowschemas"), ("PriorityLevelConfiguration", "prioritylevelconfigurations")];
/// Upstream's field manager for the condition.
const MANAGER: &str = "api-priority-and-fairness-config-consumer-v1";
const RETRY: Duration = Duration::from_secs(1);

pub async fn run(server: Arc<Server>, shutdown: Shutdown) {
    loop {
        let once = async {
            let store = &server.registry.store;
            let after = store.revision();
            let mut watchers = Vec::new();
            for (_, plural) in RESOURCES {
                watchers.push(store.watch(&crate::reader::prefix(GROUP, plural, ""), after));
            }
            let done = reconcile(&server).await;
            let Ok(mut watchers) = watchers.into_iter().collect::<store::Result<Vec<_>>>() else {
                return tokio::time::sleep(RETRY).await;
            };
            if let Err(error) = done {
                tracing::warn!(%error, "priority and fairness could not be brought up to date; trying again");
                return tokio::time::sleep(RETRY).await;
            }
            let (schemas, levels) = watchers.split_at_mut(1);
            tokio::select! {
                () = changed(&mut schemas[0]) => {}
                () = changed(&mut levels[0]) => {}
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = once => {}
        }
    }
}

async fn changed(watcher: &mut Box<dyn Watcher>) {
    loop {
        match watcher.next(64).await {
            Ok(events) if events.is_empty() => {}
            Ok(_) => return,
            // Compacted: read anew. Closed: the server is about to stop, don't spin until it has.
            Err(_) => return tokio::time::sleep(RETRY).await,
        }
    }
}

fn objects(server: &Server) -> Result<Vec<Value>> {
    let reader = crate::reader::Reader::new(server.registry.store.clone());
    let mut out = Vec::new();
    for (kind, plural) in RESOURCES {
        for object in reader.list(GROUP, plural, "")? {
            let mut value = object.value().as_ref().clone();
            value["kind"] = kind.into();
            out.push(value);
        }
    }
    Ok(out)
}

async fn reconcile(server: &Arc<Server>) -> Result<()> {
    let present = objects(server)?;
    let config = Config::new(&present);
    let conditions: Vec<(String, Value)> = config
        .dangling
        .iter()
        .filter_map(|d| {
            let schema = present.iter().find(|o| o["kind"] == "FlowSchema" && o["metadata"]["name"] == *d.schema)?;
            wrong(schema, &d.level, d.missing).map(|status| (d.schema.clone(), status))
        })
        .collect();
    if let Some(fairness) = server.flow.fairness() {
        fairness.configure(config);
    }
    for (name, condition) in conditions {
        let path = format!("/apis/{GROUP}/v1/flowschemas/{name}");
        let Ok(mut schema) = run::send(server, Method::GET, &path, None).await else { continue };
        let conditions = &mut schema["status"]["conditions"];
        match conditions.as_array_mut() {
            Some(list) => {
                list.retain(|c| c["type"] != "Dangling");
                list.push(condition);
            }
            None => *conditions = json!([condition]),
        }
        match run::send(server, Method::PUT, &format!("{path}/status?fieldManager={MANAGER}"), Some(schema)).await {
            // Changed or deleted meanwhile: that woke us already.
            Err(s) if !matches!(s.code, 404 | 409) => return Err(s),
            _ => {}
        }
    }
    let wanted = flow_control::objects();
    for object in &wanted {
        run::one(server, object.clone()).await?;
    }
    for stranger in present.iter().filter(|o| flow_control::is_maintained(o)) {
        let same = |o: &&Value| o["kind"] == stranger["kind"] && o["metadata"]["name"] == stranger["metadata"]["name"];
        if wanted.iter().any(|o| same(&o)) {
            continue;
        }
        let plural = RESOURCES.iter().find(|(k, _)| stranger["kind"] == *k).map_or("", |(_, p)| p);
        let name = stranger["metadata"]["name"].as_str().unwrap_or_default();
        let _ = run::send(server, Method::DELETE, &format!("/apis/{GROUP}/v1/{plural}/{name}"), None).await;
    }
    Ok(())
}

/// The Dangling condition that the schema should have, if it has another one.
fn wrong(schema: &Value, level: &str, missing: bool) -> Option<Value> {
    let (status, reason, message) = match missing {
        true => (
            "True",
            "NotFound",
            format!(
                "This FlowSchema references the PriorityLevelConfiguration object named {level:?} but there is no such object"
            ),
        ),
        false => (
            "False",
            "Found",
            format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} and it exists"),
        ),
    };
    let now = schema["status"]["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == "Dangling");
    if now.is_some_and(|c| c["status"] == status && c["reason"] == reason && c["message"] == message) {
        return None;
    }
    let since = now
        .filter(|c| c["status"] == status)
        .map_or_else(|| meta::object::time(jiff::Timestamp::now()).into(), |c| c["lastTransitionTime"].clone());
    Some(
        json!({"type": "Dangling", "status": status, "reason": reason, "message": message, "lastTransitionTime": since}),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_say_whether_the_level_exists_and_since_when() {
        let mut schema = json!({"metadata": {"name": "s"}});
        let first = wrong(&schema, "l", true).unwrap();
        assert_eq!((&first["status"], &first["reason"]), (&json!("True"), &json!("NotFound")));
        schema["status"]["conditions"] = json!([first]);
        assert_eq!(wrong(&schema, "l", true), None);
        schema["status"]["conditions"][0]["lastTransitionTime"] = "2020-01-01T00:00:00Z".into();
        // Another level that doesn't exist either is no transition.
        assert_eq!(wrong(&schema, "m", true).unwrap()["lastTransitionTime"], "2020-01-01T00:00:00Z");
        assert_ne!(wrong(&schema, "m", false).unwrap()["lastTransitionTime"], "2020-01-01T00:00:00Z");
    }
}
