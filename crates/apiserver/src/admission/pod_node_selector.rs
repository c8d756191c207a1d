//! PodNodeSelector: a namespace (by the annotation `scheduler.alpha.kubernetes.io/node-selector`) or the cluster's
//! configuration says on which nodes its pods may run. Off by default.

use super::{Attributes, Operation, Plugin, forbidden};
use crate::reader::Reader;
use async_trait::async_trait;
use meta::status::Status;
use serde_json::Value;
use std::collections::BTreeMap;

const ANNOTATION: &str = "scheduler.alpha.kubernetes.io/node-selector";
const CLUSTER_DEFAULT: &str = "clusterDefaultNodeSelector";

type Labels = BTreeMap<String, String>;

pub struct PodNodeSelector {
    reader: Reader,
    /// By namespace what its pods may select at most; and the cluster's default.
    configured: BTreeMap<String, Labels>,
}

/// `a=b,c=d`
fn parse(text: &str) -> Result<Labels, String> {
    text.split(',')
        .map(str::trim)
        .filter(|p| !p.is_empty())
        .map(|p| match p.split_once('=') {
            Some((k, v)) => Ok((k.trim().to_string(), v.trim_start_matches('=').trim().to_string())),
            None => Err(format!("invalid selector: [{p}]")),
        })
        .collect()
}

impl PodNodeSelector {
    pub fn new(reader: Reader, configuration: &Value) -> Result<PodNodeSelector, String> {
        let plugin = &configuration["podNodeSelectorPluginConfig"];
        let mut configured = BTreeMap::new();
        for (k, v) in plugin.as_object().into_iter().flatten() {
            configured.insert(k.clone(), parse(v.as_str().unwrap_or_default())?);
        }
        Ok(PodNodeSelector { reader, configured })
    }

    fn of_namespace(&self, namespace: &str) -> Result<Labels, Status> {
        let Some(ns) = self.reader.get("", "namespaces", "", namespace) else {
            return Err(Status::not_found("", "namespaces", namespace));
        };
        match ns.value()["metadata"]["annotations"][ANNOTATION].as_str() {
            Some(text) => parse(text).map_err(Status::bad_request),
            None => Ok(self.configured.get(CLUSTER_DEFAULT).cloned().unwrap_or_default()),
        }
    }
}

fn selector(pod: &Value) -> Labels {
    let map = pod["spec"]["nodeSelector"].as_object().into_iter().flatten();
    map.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_string()))).collect()
}

fn conflict(a: &Labels, b: &Labels) -> bool {
    a.iter().any(|(k, v)| b.get(k).is_some_and(|w| w != v))
}

#[async_trait]
impl Plugin for PodNodeSelector {
    fn name(&self) -> &'static str {
        "PodNodeSelector"
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        if !a.is_main("", "pods") || a.operation != Operation::Create {
            return Ok(());
        }
        let of_namespace = self.of_namespace(a.namespace)?;
        if conflict(&of_namespace, &selector(a.object)) {
            return Err(forbidden(a, "pod node label selector conflicts with its namespace node label selector"));
        }
        for (k, v) in of_namespace {
            a.object["spec"]["nodeSelector"][k] = v.into();
        }
        Ok(())
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        if !a.is_main("", "pods") || a.operation != Operation::Create {
            return Ok(());
        }
        let pod = selector(a.object);
        if conflict(&self.of_namespace(a.namespace)?, &pod) {
            return Err(forbidden(a, "pod node label selector conflicts with its namespace node label selector"));
        }
        let allowed = self.configured.get(a.namespace).filter(|l| !l.is_empty());
        if let Some(allowed) = allowed
            && pod.iter().any(|(k, v)| allowed.get(k) != Some(v))
        {
            return Err(forbidden(a, "pod node label selector labels conflict with its namespace whitelist"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use crate::testing::reader;
    use serde_json::json;

    #[tokio::test]
    async fn namespaces_bring_their_selector() {
        let ns = |name: &str, notes: Value| json!({"apiVersion":"v1","kind":"Namespace","metadata":{"name":name,"annotations":notes}});
        let r =
            reader(&[ns("plain", json!({})), ns("ssd", json!({ANNOTATION:"disk=ssd"})), ns("few", json!({}))]).await;
        let config = json!({"podNodeSelectorPluginConfig":{"clusterDefaultNodeSelector":"pool=default","few":"pool=default,zone=a"}});
        let p = PodNodeSelector::new(r, &config).unwrap();
        let ask = |ns: &str, s: Value| {
            Write::create("", "pods", ns, json!({"metadata":{"name":"p"},"spec":{"nodeSelector":s}})).run(&p)
        };
        assert_eq!(ask("plain", json!({})).await.unwrap()["spec"]["nodeSelector"], json!({"pool":"default"}));
        assert_eq!(ask("ssd", json!({"a":"b"})).await.unwrap()["spec"]["nodeSelector"], json!({"a":"b","disk":"ssd"}));
        let e = ask("ssd", json!({"disk":"hdd"})).await.unwrap_err();
        assert!(e.message.ends_with("pod node label selector conflicts with its namespace node label selector"), "{e}");
        assert!(ask("few", json!({"zone":"a"})).await.is_ok());
        let e = ask("few", json!({"gpu":"yes"})).await.unwrap_err();
        assert!(e.message.ends_with("labels conflict with its namespace whitelist"), "{e}");
        assert!(PodNodeSelector::new(p.reader.clone(), &json!({"podNodeSelectorPluginConfig":{"x":"bad"}})).is_err());
    }
}
