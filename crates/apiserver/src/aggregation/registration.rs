//! An APIService for every group version that this server serves itself, so that `kubectl get apiservices` and
//! clients that wait for one see them all. Pure.

use crate::discovery::group_priority;
use crate::reader::Object;
use api::catalogue::Resource;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// `onstart` on those of built-in kinds, `true` on those of custom resources. Others are the users' own.
pub const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// What is served here, as APIServices by name. The aggregation layer's own group isn't listed, as upstream's.
pub fn desired(rows: &[Arc<Resource>]) -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    for r in rows.iter().filter(|r| r.group != "apiregistration.k8s.io") {
        let name = format!("{}.{}", r.version, r.group);
        let builtin = r.is_builtin();
        out.entry(name).or_insert_with_key(|name| {
            json!({
                "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                "metadata": {"name": name, "labels": {MANAGED: if builtin { "onstart" } else { "true" }}},
                "spec": {
                    "group": r.group, "version": r.version,
                    "groupPriorityMinimum": if builtin { group_priority(&r.group) } else { 1000 },
                    "versionPriority": if builtin { version_priority(&r.group, &r.version) } else { 100 },
                },
            })
        });
    }
    out
}

/// Upstream's table, where it isn't 15.
fn version_priority(group: &str, version: &str) -> i32 {
    match (group, version) {
        ("", _) => 1,
        ("autoscaling", "v2") => 30,
        ("flowcontrol.apiserver.k8s.io", _) => 21,
        (_, version) if version.contains("beta") => 9,
        _ => 15,
    }
}

#[derive(Debug, PartialEq)]
pub enum Action {
    Create(Value),
    Delete(String),
}

/// From what is served and what is registered to what is to be done. Built-in ones are made at the start only: who
/// deletes one is heard until then.
pub fn plan(desired: &BTreeMap<String, Value>, existing: &[Object], starting: bool) -> Vec<Action> {
    let existing: BTreeMap<String, Value> = existing
        .iter()
        .map(|o| {
            let v = o.value();
            (v["metadata"]["name"].as_str().unwrap_or("").to_string(), v["metadata"]["labels"][MANAGED].clone())
        })
        .collect();
    let mut out = Vec::new();
    for (name, object) in desired {
        let onstart = object["metadata"]["labels"][MANAGED] == "onstart";
        if !existing.contains_key(name) && (starting || !onstart) {
            out.push(Action::Create(object.clone()));
        }
    }
    for (name, managed) in existing {
        if managed.is_string() && !desired.contains_key(&name) {
            out.push(Action::Delete(name));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::reader;

    #[tokio::test]
    async fn every_group_version_is_registered_once() {
        let wanted = desired(&api::catalogue::builtin());
        assert!(wanted.contains_key("v1.") && wanted.contains_key("v2.autoscaling"));
        assert!(!wanted.contains_key("v1.apiregistration.k8s.io"));
        assert_eq!(wanted["v1.apps"]["spec"]["groupPriorityMinimum"], 17800);
        let gone = json!({"apiVersion":"apiregistration.k8s.io/v1","kind":"APIService",
            "metadata":{"name":"v1.gone","labels":{MANAGED:"true"}}});
        let own = json!({"apiVersion":"apiregistration.k8s.io/v1","kind":"APIService","metadata":{"name":"v1.own"}});
        let r = reader(&[wanted["v1.apps"].clone(), gone, own]).await;
        let existing = r.list("apiregistration.k8s.io", "apiservices", "").unwrap();
        let todo = plan(&wanted, &existing, true);
        assert_eq!(todo.len(), wanted.len());
        assert!(todo.contains(&Action::Delete("v1.gone".into())));
        assert_eq!(plan(&wanted, &existing, false), [Action::Delete("v1.gone".into())]);
    }
}
