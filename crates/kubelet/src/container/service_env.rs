//! Environment variables for Services ("docker links"), which every container gets unless `enableServiceLinks` is false;
//! those of the `kubernetes` Service of the default namespace it gets in any case.

use k8s_openapi::api::core::v1::Service;
use std::collections::BTreeMap;
use std::sync::Arc;

fn variable_prefix(service: &str) -> String {
    service.to_ascii_uppercase().replace('-', "_")
}

/// `services` in any order; headless and address-less ones give nothing.
pub fn variables(services: &[Arc<Service>], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut chosen: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let (Some(name), Some(ns)) = (service.metadata.name.as_deref(), service.metadata.namespace.as_deref()) else {
            continue;
        };
        if ns == "default" && name == "kubernetes" {
            // A Service of that name in the pod's own namespace takes precedence.
            chosen.entry(name).or_insert(service);
        } else if links && ns == namespace {
            chosen.insert(name, service);
        }
    }
    let mut out = BTreeMap::new();
    for (name, service) in chosen {
        let Some(spec) = &service.spec else { continue };
        let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else {
            continue;
        };
        let Some(first) = spec.ports.iter().flatten().next() else {
            continue;
        };
        let prefix = variable_prefix(name);
        let host_in_url = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        out.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
        out.insert(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
        for port in spec.ports.iter().flatten() {
            if let Some(port_name) = port.name.as_deref().filter(|n| !n.is_empty()) {
                out.insert(format!("{prefix}_SERVICE_PORT_{}", variable_prefix(port_name)), port.port.to_string());
            }
        }
        for (i, port) in spec.ports.iter().flatten().enumerate() {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let (lower, upper) = (protocol.to_ascii_lowercase(), protocol.to_ascii_uppercase());
            let url = format!("{lower}://{host_in_url}:{}", port.port);
            if i == 0 {
                out.insert(format!("{prefix}_PORT"), url.clone());
            }
            let port_prefix = format!("{prefix}_PORT_{}_{upper}", port.port);
            out.insert(port_prefix.clone(), url);
            out.insert(format!("{port_prefix}_PROTO"), lower);
            out.insert(format!("{port_prefix}_PORT"), port.port.to_string());
            out.insert(format!("{port_prefix}_ADDR"), ip.to_owned());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(ns: &str, name: &str, ip: &str, ports: serde_json::Value) -> Arc<Service> {
        Arc::new(
            serde_json::from_value(
                json!({"metadata": {"name": name, "namespace": ns}, "spec": {"clusterIP": ip, "ports": ports}}),
            )
            .unwrap(),
        )
    }

    #[test]
    fn links() {
        let services = [
            service("default", "kubernetes", "10.43.0.1", json!([{"name": "https", "port": 443}])),
            service("a", "redis-master", "10.43.0.7", json!([{"port": 6379}])),
            service("b", "other", "10.43.0.8", json!([{"port": 1}])),
            service("a", "headless", "None", json!([{"port": 1}])),
        ];
        let got = variables(&services, "a", true);
        assert_eq!(got["KUBERNETES_SERVICE_HOST"], "10.43.0.1");
        assert_eq!(got["KUBERNETES_SERVICE_PORT_HTTPS"], "443");
        assert_eq!(got["REDIS_MASTER_SERVICE_PORT"], "6379");
        assert_eq!(got["REDIS_MASTER_PORT"], "tcp://10.43.0.7:6379");
        assert_eq!(got["REDIS_MASTER_PORT_6379_TCP_ADDR"], "10.43.0.7");
        assert_eq!(got["REDIS_MASTER_PORT_6379_TCP_PROTO"], "tcp");
        assert!(!got.keys().any(|k| k.starts_with("OTHER") || k.starts_with("HEADLESS")));
        let got = variables(&services, "a", false);
        assert!(got.contains_key("KUBERNETES_PORT") && !got.contains_key("REDIS_MASTER_PORT"));
    }
}
