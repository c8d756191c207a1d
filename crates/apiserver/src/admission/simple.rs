//! Small plugins that are off by default: AlwaysAdmit, AlwaysDeny, DenyServiceExternalIPs,
//! LimitPodHardAntiAffinityTopology, NamespaceExists, ExtendedResourceToleration.

use super::{Attributes, Operation, Plugin, forbidden};
use crate::reader::Reader;
use async_trait::async_trait;
use meta::status::Status;
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub struct AlwaysAdmit;

#[async_trait]
impl Plugin for AlwaysAdmit {
    fn name(&self) -> &'static str {
        "AlwaysAdmit"
    }
}

/// Refuses every write, for tests of clients.
pub struct AlwaysDeny;

#[async_trait]
impl Plugin for AlwaysDeny {
    fn name(&self) -> &'static str {
        "AlwaysDeny"
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        Err(forbidden(a, "admission control is denying all modifications"))
    }
}

/// No new addresses in a Service's `externalIPs` (CVE-2020-8554).
pub struct DenyServiceExternalIPs;

#[async_trait]
impl Plugin for DenyServiceExternalIPs {
    fn name(&self) -> &'static str {
        "DenyServiceExternalIPs"
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        if !a.is_main("", "services") || !matches!(a.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        let ips = |v: &Value| -> BTreeSet<String> {
            let all = v["spec"]["externalIPs"].as_array().into_iter().flatten();
            all.filter_map(|i| i.as_str().map(str::to_string)).collect()
        };
        let old = a.old.map(&ips).unwrap_or_default();
        if ips(a.object).is_subset(&old) {
            return Ok(());
        }
        Err(forbidden(a, "Use of external IPs is denied by admission control."))
    }
}

/// Hard anti-affinity may spread pods over nodes, but not over whole zones.
pub struct LimitPodHardAntiAffinityTopology;

#[async_trait]
impl Plugin for LimitPodHardAntiAffinityTopology {
    fn name(&self) -> &'static str {
        "LimitPodHardAntiAffinityTopology"
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        if !a.is_main("", "pods") || !matches!(a.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        let terms = &a.object["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        for term in terms.as_array().into_iter().flatten() {
            let key = term["topologyKey"].as_str().unwrap_or_default();
            if key != "kubernetes.io/hostname" {
                return Err(forbidden(
                    a,
                    format!(
                        "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key} but only key \
                         kubernetes.io/hostname is allowed"
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// Nothing is written in a namespace that doesn't exist.
pub struct NamespaceExists {
    pub reader: Reader,
}

#[async_trait]
impl Plugin for NamespaceExists {
    fn name(&self) -> &'static str {
        "NamespaceExists"
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        let of_namespaces = a.resource.group.is_empty() && a.resource.plural == "namespaces";
        if a.namespace.is_empty() || of_namespaces || self.reader.get("", "namespaces", "", a.namespace).is_some() {
            return Ok(());
        }
        Err(Status::not_found("", "namespaces", a.namespace))
    }
}

/// Pods that ask for an extended resource tolerate nodes that are tainted for it.
pub struct ExtendedResourceToleration;

#[async_trait]
impl Plugin for ExtendedResourceToleration {
    fn name(&self) -> &'static str {
        "ExtendedResourceToleration"
    }

    async fn admit(&self, a: &mut Attributes<'_>) -> Result<(), Status> {
        if !a.is_main("", "pods") || !matches!(a.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        let mut wanted = BTreeSet::new();
        for list in ["containers", "initContainers"] {
            for c in a.object["spec"][list].as_array().into_iter().flatten() {
                for name in c["resources"]["requests"].as_object().into_iter().flat_map(|r| r.keys()) {
                    let domain = name.split_once('/').map_or("", |(d, _)| d);
                    if !domain.is_empty() && !domain.ends_with("kubernetes.io") && !name.starts_with("requests.") {
                        wanted.insert(name.clone());
                    }
                }
            }
        }
        for name in wanted {
            let toleration = json!({"key": name, "operator": "Exists"});
            match a.object["spec"].get_mut("tolerations").and_then(Value::as_array_mut) {
                Some(list) if list.contains(&toleration) => {}
                Some(list) => list.push(toleration),
                None => a.object["spec"]["tolerations"] = json!([toleration]),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use crate::testing::reader;

    async fn refusal(write: Write, plugin: &dyn Plugin) -> String {
        write.run(plugin).await.err().map(|e| e.message).unwrap_or_default()
    }

    #[tokio::test]
    async fn each_refuses_what_it_is_for() {
        let service = |ips: Value| json!({"metadata":{"name":"s"},"spec":{"externalIPs":ips}});
        let create = |ips| Write::create("", "services", "d", service(ips));
        assert_eq!(refusal(create(json!([])), &DenyServiceExternalIPs).await, "");
        let text = "services \"s\" is forbidden: Use of external IPs is denied by admission control.";
        assert_eq!(refusal(create(json!(["1.2.3.4"])), &DenyServiceExternalIPs).await, text);
        let fewer =
            Write::update("", "services", "d", service(json!(["1.2.3.4", "2.3.4.5"])), service(json!(["2.3.4.5"])));
        assert_eq!(refusal(fewer, &DenyServiceExternalIPs).await, "");

        let pod = |key: &str| {
            let terms = json!([{"topologyKey":key}]);
            let spec = json!({"affinity":{"podAntiAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":terms}}});
            Write::create("", "pods", "d", json!({"metadata":{"name":"p"},"spec":spec}))
        };
        assert_eq!(refusal(pod("kubernetes.io/hostname"), &LimitPodHardAntiAffinityTopology).await, "");
        let text = refusal(pod("zone"), &LimitPodHardAntiAffinityTopology).await;
        assert!(text.ends_with("has TopologyKey zone but only key kubernetes.io/hostname is allowed"), "{text}");

        let any = || Write::create("", "configmaps", "none", json!({"metadata":{"name":"c"}}));
        assert_eq!(
            refusal(any(), &NamespaceExists { reader: reader(&[]).await }).await,
            "namespaces \"none\" not found"
        );
        assert!(refusal(any(), &AlwaysDeny).await.ends_with("admission control is denying all modifications"));
        assert_eq!(refusal(any(), &AlwaysAdmit).await, "");
    }

    #[tokio::test]
    async fn extended_resources_are_tolerated_once() {
        let pod = json!({"metadata":{"name":"p"},"spec":{"containers":[
            {"resources":{"requests":{"cpu":"1","example.com/gpu":"1"}}},{"resources":{"requests":{"example.com/gpu":"1"}}}]}});
        let got = Write::create("", "pods", "d", pod).admit(&ExtendedResourceToleration).await.unwrap();
        assert_eq!(got["spec"]["tolerations"], json!([{"key":"example.com/gpu","operator":"Exists"}]));
    }
}
