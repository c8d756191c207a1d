//! The difference between two statuses as a strategic merge patch. Conditions merge by type, so that those of others
//! survive; lists of containers are replaced whole.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

/// `None` when nothing differs. The uid makes it fail on a pod of the same name that is another one.
pub fn patch(uid: &str, old: &PodStatus, new: &PodStatus) -> Option<Value> {
    let (Ok(Value::Object(old)), Ok(Value::Object(new))) =
        (serde_json::to_value(old).map(pruned), serde_json::to_value(new).map(pruned))
    else {
        return None;
    };
    let mut status = Map::new();
    for key in old.keys().chain(new.keys()) {
        if old.get(key) == new.get(key) || status.contains_key(key) {
            continue;
        }
        let value = match (key.as_str(), new.get(key)) {
            (_, None) => Value::Null,
            ("conditions", Some(Value::Array(conditions))) => {
                let before = old.get(key).and_then(Value::as_array);
                let of_type = |list: Option<&Vec<Value>>, t: &Value| {
                    list.and_then(|l| l.iter().find(|c| c["type"] == *t).cloned())
                };
                let changed: Vec<Value> = conditions
                    .iter()
                    .filter_map(|c| {
                        let was = of_type(before, &c["type"]);
                        if was.as_ref() == Some(c) {
                            return None;
                        }
                        let mut c = c.clone();
                        // What is no longer said must be taken back explicitly.
                        for field in ["reason", "message"] {
                            if c.get(field).is_none() && was.as_ref().is_some_and(|w| w.get(field).is_some()) {
                                c[field] = Value::Null;
                            }
                        }
                        Some(c)
                    })
                    .collect();
                if changed.is_empty() {
                    continue;
                }
                Value::Array(changed)
            }
            // These merge by address, which would keep the addresses of before.
            ("podIPs" | "hostIPs", Some(Value::Array(ips))) => {
                let mut list = ips.clone();
                for gone in old.get(key).and_then(Value::as_array).into_iter().flatten().filter(|ip| !ips.contains(ip))
                {
                    list.push(json!({"$patch": "delete", "ip": gone["ip"]}));
                }
                Value::Array(list)
            }
            (_, Some(value)) => value.clone(),
        };
        status.insert(key.clone(), value);
    }
    (!status.is_empty()).then(|| json!({"metadata": {"uid": uid}, "status": status}))
}

/// Without empty objects and lists: whether a server keeps `lastState: {}` must not make a difference.
fn pruned(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(k, v)| (k, pruned(v)))
                .filter(|(_, v)| {
                    !matches!(v, Value::Object(m) if m.is_empty()) && !matches!(v, Value::Array(l) if l.is_empty())
                })
                .collect(),
        ),
        Value::Array(list) => Value::Array(list.into_iter().map(pruned).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs() {
        let status = |v: Value| serde_json::from_value::<PodStatus>(v).unwrap();
        let a = status(
            json!({"phase": "Pending", "reason": "x", "podIPs": [{"ip": "1.1.1.1"}], "conditions": [{"type": "Ready", "status": "False", "reason": "R"}, {"type": "Other", "status": "True"}]}),
        );
        assert_eq!(patch("u", &a, &a), None);
        let state = |last: Value| {
            status(
                json!({"containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 0, "lastState": last}]}),
            )
        };
        assert_eq!(patch("u", &state(json!(null)), &state(json!({}))), None);
        let b = status(
            json!({"phase": "Running", "podIPs": [{"ip": "2.2.2.2"}], "conditions": [{"type": "Ready", "status": "True"}, {"type": "Other", "status": "True"}]}),
        );
        assert_eq!(
            patch("u", &a, &b).unwrap(),
            json!({"metadata": {"uid": "u"}, "status": {
                "phase": "Running", "reason": null,
                "podIPs": [{"ip": "2.2.2.2"}, {"$patch": "delete", "ip": "1.1.1.1"}],
                "conditions": [{"type": "Ready", "status": "True", "reason": null}]
            }})
        );
    }
}
