//! A container's environment: `envFrom`, then `env` over it, then Service variables where nothing else has the name.
//! Pure: every object that it refers to is given.

use super::expansion::expand;
use crate::objects::Resolved;
use crate::quantity::{ResourceMap, milli_of, parse_milli, value_of};
use k8s_openapi::api::core::v1::{Container, ObjectFieldSelector, Pod, ResourceFieldSelector};
use std::collections::BTreeMap;

/// Becomes the message of `CreateContainerConfigError`; texts are upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    #[error("configmap \"{0}\" not found")]
    ConfigMapMissing(String),
    #[error("secret \"{0}\" not found")]
    SecretMissing(String),
    #[error("couldn't find key {key} in ConfigMap {namespace}/{name}")]
    ConfigMapKeyMissing { namespace: String, name: String, key: String },
    #[error("couldn't find key {key} in Secret {namespace}/{name}")]
    SecretKeyMissing { namespace: String, name: String, key: String },
    #[error("fieldPath \"{0}\" isn't supported")]
    UnsupportedFieldPath(String),
    #[error("{0}")]
    Resource(String),
}

/// Facts that the downward API can tell and that aren't in the pod's spec.
#[derive(Clone, Debug, Default)]
pub struct Downward {
    pub node_name: String,
    pub host_ips: Vec<String>,
    pub pod_ips: Vec<String>,
    /// Of the node; stand in for limits that aren't set.
    pub allocatable: ResourceMap,
}

pub fn environment(
    pod: &Pod,
    container: &Container,
    objects: &Resolved,
    services: &BTreeMap<String, String>,
    downward: &Downward,
) -> Result<Vec<(String, String)>, EnvError> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let mut names: Vec<String> = Vec::new();
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    let mut put = |values: &mut BTreeMap<String, String>, name: String, value: String| {
        if values.insert(name.clone(), value).is_none() {
            names.push(name);
        }
    };
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or("");
        if let Some(r) = &source.config_map_ref {
            match objects.config_maps.get(&r.name) {
                Some(map) => {
                    for (k, v) in map.data.iter().flatten() {
                        put(&mut values, format!("{prefix}{k}"), v.clone());
                    }
                }
                None if r.optional == Some(true) => {}
                None => return Err(EnvError::ConfigMapMissing(r.name.clone())),
            }
        } else if let Some(r) = &source.secret_ref {
            match objects.secrets.get(&r.name) {
                Some(secret) => {
                    for (k, v) in secret.data.iter().flatten() {
                        put(&mut values, format!("{prefix}{k}"), String::from_utf8_lossy(&v.0).into_owned());
                    }
                }
                None if r.optional == Some(true) => {}
                None => return Err(EnvError::SecretMissing(r.name.clone())),
            }
        }
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            None => {
                let text = variable.value.as_deref().unwrap_or("");
                expand(text, |name| values.get(name).or_else(|| services.get(name)).cloned())
            }
            Some(source) => {
                if let Some(r) = &source.field_ref {
                    field(pod, r, downward)?
                } else if let Some(r) = &source.resource_field_ref {
                    resource(pod, container, r, downward)?
                } else if let Some(r) = &source.config_map_key_ref {
                    let optional = r.optional == Some(true);
                    let Some(map) = objects.config_maps.get(&r.name) else {
                        if optional {
                            continue;
                        }
                        return Err(EnvError::ConfigMapMissing(r.name.clone()));
                    };
                    match map.data.as_ref().and_then(|d| d.get(&r.key)) {
                        Some(v) => v.clone(),
                        None if optional => continue,
                        None => {
                            return Err(EnvError::ConfigMapKeyMissing {
                                namespace,
                                name: r.name.clone(),
                                key: r.key.clone(),
                            });
                        }
                    }
                } else if let Some(r) = &source.secret_key_ref {
                    let optional = r.optional == Some(true);
                    let Some(secret) = objects.secrets.get(&r.name) else {
                        if optional {
                            continue;
                        }
                        return Err(EnvError::SecretMissing(r.name.clone()));
                    };
                    match secret.data.as_ref().and_then(|d| d.get(&r.key)) {
                        Some(v) => String::from_utf8_lossy(&v.0).into_owned(),
                        None if optional => continue,
                        None => {
                            return Err(EnvError::SecretKeyMissing {
                                namespace,
                                name: r.name.clone(),
                                key: r.key.clone(),
                            });
                        }
                    }
                } else {
                    String::new()
                }
            }
        };
        put(&mut values, variable.name.clone(), value);
    }
    for (name, value) in services {
        if !values.contains_key(name) {
            put(&mut values, name.clone(), value.clone());
        }
    }
    Ok(names.into_iter().map(|n| (n.clone(), values.remove(&n).unwrap_or_default())).collect())
}

/// Expands the container's command or arguments with its environment.
pub fn expand_all(words: Option<&Vec<String>>, env: &[(String, String)]) -> Vec<String> {
    words
        .into_iter()
        .flatten()
        .map(|w| expand(w, |name| env.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone())))
        .collect()
}

fn field(pod: &Pod, r: &ObjectFieldSelector, downward: &Downward) -> Result<String, EnvError> {
    let spec = pod.spec.as_ref();
    Ok(match r.field_path.as_str() {
        "spec.nodeName" => downward.node_name.clone(),
        "spec.serviceAccountName" => spec.and_then(|s| s.service_account_name.clone()).unwrap_or_default(),
        "status.hostIP" => downward.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => downward.host_ips.join(","),
        "status.podIP" => downward.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => downward.pod_ips.join(","),
        path => return metadata_field(pod, path),
    })
}

/// The paths that both environment and downward API volumes understand.
pub fn metadata_field(pod: &Pod, path: &str) -> Result<String, EnvError> {
    let m = &pod.metadata;
    if let Some((map, key)) = path.split_once("['").and_then(|(map, rest)| Some((map, rest.strip_suffix("']")?))) {
        let map = match map {
            "metadata.labels" => &m.labels,
            "metadata.annotations" => &m.annotations,
            _ => return Err(EnvError::UnsupportedFieldPath(path.to_owned())),
        };
        return Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    let lines = |map: &Option<BTreeMap<String, String>>| {
        map.iter().flatten().map(|(k, v)| format!("{k}={}", go_quote(v))).collect::<Vec<_>>().join("\n")
    };
    Ok(match path {
        "metadata.name" => m.name.clone().unwrap_or_default(),
        "metadata.namespace" => m.namespace.clone().unwrap_or_default(),
        "metadata.uid" => m.uid.clone().unwrap_or_default(),
        "metadata.labels" => lines(&m.labels),
        "metadata.annotations" => lines(&m.annotations),
        _ => return Err(EnvError::UnsupportedFieldPath(path.to_owned())),
    })
}

/// As Go's `%q`, which files of the downward API are written with.
fn go_quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Limits fall back to what the node can give; a missing request falls back to the limit.
pub fn resource(
    pod: &Pod,
    container: &Container,
    r: &ResourceFieldSelector,
    downward: &Downward,
) -> Result<String, EnvError> {
    let spec = pod.spec.as_ref();
    let target = match r.container_name.as_deref().filter(|n| !n.is_empty()) {
        Some(name) => spec
            .and_then(|s| s.init_containers.iter().flatten().chain(&s.containers).find(|c| c.name == name))
            .ok_or_else(|| EnvError::Resource(format!("container {name} not found")))?,
        None => container,
    };
    let requests = target.resources.as_ref().and_then(|r| r.requests.as_ref());
    let limits = target.resources.as_ref().and_then(|r| r.limits.as_ref());
    let (map, key) = match r.resource.split_once('.') {
        Some(("limits", key)) => (limits, key),
        Some(("requests", key)) if requests.is_some_and(|m| m.contains_key(key)) => (requests, key),
        Some(("requests", key)) => (limits.filter(|m| m.contains_key(key)), key),
        _ => {
            return Err(EnvError::Resource(format!("unsupported container resource : {}", r.resource)));
        }
    };
    let is_limit = r.resource.starts_with("limits.");
    let map = match map.filter(|m| m.contains_key(key)) {
        Some(map) => Some(map),
        None if is_limit => Some(&downward.allocatable),
        None => None,
    };
    let divisor = r.divisor.as_ref().and_then(|q| parse_milli(&q.0)).filter(|d| *d > 0).unwrap_or(1000);
    let amount = if key == "cpu" {
        let milli = milli_of(map, key);
        (milli + divisor - 1) / divisor
    } else {
        let value = i128::from(value_of(map, key)) * 1000;
        ((value + i128::from(divisor) - 1) / i128::from(divisor)) as i64
    };
    Ok(amount.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    fn check(container: serde_json::Value, want: Result<&[(&str, &str)], &str>) {
        let mut container = container;
        container["name"] = json!("c");
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"app": "web"}, "annotations": {"q": "a\"b\nc"}},
            "spec": {"containers": [container], "serviceAccountName": "sa"}
        }))
        .unwrap();
        let mut objects = Resolved::default();
        objects.config_maps.insert(
            "cm".into(),
            Arc::new(serde_json::from_value(json!({"metadata": {}, "data": {"k": "v", "z": "1"}})).unwrap()),
        );
        objects.secrets.insert(
            "s".into(),
            Arc::new(serde_json::from_value(json!({"metadata": {}, "data": {"pw": "aHVudGVy"}})).unwrap()),
        );
        let services = BTreeMap::from([("SVC".to_owned(), "10.0.0.1".to_owned())]);
        let downward = Downward {
            node_name: "n1".into(),
            host_ips: vec!["1.1.1.1".into()],
            pod_ips: vec!["10.42.0.5".into(), "fd00::5".into()],
            allocatable: serde_json::from_value(json!({"cpu": "2", "memory": "4Gi"})).unwrap(),
        };
        let got = environment(&pod, &pod.spec.as_ref().unwrap().containers[0], &objects, &services, &downward);
        match want {
            Ok(want) => {
                let got = got.unwrap();
                let got: Vec<(&str, &str)> =
                    got.iter().map(|(a, b)| (a.as_str(), b.as_str())).filter(|(n, _)| *n != "SVC").collect();
                assert_eq!(got, want);
            }
            Err(want) => assert_eq!(got.unwrap_err().to_string(), want),
        }
    }

    fn from(source: serde_json::Value) -> serde_json::Value {
        json!({"env": [{"name": "X", "valueFrom": source}]})
    }

    #[test]
    fn sources() {
        check(
            json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)/$(SVC)/$(C)"}, {"name": "C", "value": "3"}]}),
            Ok(&[("A", "1"), ("B", "1/10.0.0.1/$(C)"), ("C", "3")]),
        );
        check(
            json!({"envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "s"}}], "env": [{"name": "P_k", "value": "mine"}]}),
            Ok(&[("P_k", "mine"), ("P_z", "1"), ("pw", "hunter")]),
        );
        check(from(json!({"configMapKeyRef": {"name": "cm", "key": "k"}})), Ok(&[("X", "v")]));
        check(from(json!({"secretKeyRef": {"name": "s", "key": "pw"}})), Ok(&[("X", "hunter")]));
        check(from(json!({"secretKeyRef": {"name": "no", "key": "pw", "optional": true}})), Ok(&[]));
        for (path, want) in [
            ("metadata.name", "p"),
            ("metadata.labels['app']", "web"),
            ("metadata.labels", "app=\"web\""),
            ("metadata.annotations", "q=\"a\\\"b\\nc\""),
            ("spec.nodeName", "n1"),
            ("status.podIP", "10.42.0.5"),
            ("status.podIPs", "10.42.0.5,fd00::5"),
            ("status.hostIP", "1.1.1.1"),
        ] {
            check(from(json!({"fieldRef": {"fieldPath": path}})), Ok(&[("X", want)]));
        }
    }

    #[test]
    fn resources() {
        let limits = |resource: &str, divisor: Option<&str>| {
            let mut c = from(json!({"resourceFieldRef": {"resource": resource}}));
            if let Some(d) = divisor {
                c["env"][0]["valueFrom"]["resourceFieldRef"]["divisor"] = json!(d);
            }
            c["resources"] = json!({"limits": {"cpu": "1500m", "memory": "100Mi"}});
            c
        };
        check(limits("limits.cpu", None), Ok(&[("X", "2")]));
        check(limits("limits.cpu", Some("1m")), Ok(&[("X", "1500")]));
        check(limits("requests.cpu", Some("1m")), Ok(&[("X", "1500")]));
        check(limits("limits.memory", Some("1Mi")), Ok(&[("X", "100")]));
        check(from(json!({"resourceFieldRef": {"resource": "limits.memory"}})), Ok(&[("X", "4294967296")]));
        check(from(json!({"resourceFieldRef": {"resource": "requests.memory"}})), Ok(&[("X", "0")]));
    }

    #[test]
    fn failures_read_as_upstream_writes_them() {
        check(from(json!({"configMapKeyRef": {"name": "no", "key": "k"}})), Err("configmap \"no\" not found"));
        check(
            from(json!({"configMapKeyRef": {"name": "cm", "key": "no"}})),
            Err("couldn't find key no in ConfigMap ns/cm"),
        );
        check(from(json!({"secretKeyRef": {"name": "s", "key": "no"}})), Err("couldn't find key no in Secret ns/s"));
        check(json!({"envFrom": [{"secretRef": {"name": "no"}}]}), Err("secret \"no\" not found"));
    }
}
