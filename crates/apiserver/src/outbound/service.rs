//! From a Service to an endpoint: what the service proxy does for pods, done for the server itself, which so needs
//! no rules in the kernel.

use crate::reader::Reader;
use meta::status::Status;
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

/// One of the Service's ready endpoints, at random. Texts are those of upstream's `ResolveEndpoint`.
pub fn ready_endpoint(reader: &Reader, namespace: &str, name: &str, port: u16) -> Result<Endpoint, Status> {
    let service =
        reader.get("", "services", namespace, name).ok_or_else(|| Status::not_found("", "services", name))?.value();
    if service["spec"]["type"] == "ExternalName"
        && let Some(host) = service["spec"]["externalName"].as_str()
    {
        return Ok(Endpoint { host: host.to_string(), port });
    }
    let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let chosen = ports
        .find(|p| p["port"] == port)
        .ok_or_else(|| Status::unavailable(format!("no service port {port} found for service {name:?}")))?;
    let port_name = chosen["name"].as_str().unwrap_or("");
    let mut found = Vec::new();
    for slice in reader.list("discovery.k8s.io", "endpointslices", namespace)? {
        let slice = slice.value();
        if slice["metadata"]["labels"]["kubernetes.io/service-name"] == name {
            found.extend(ready_in(&slice, port_name));
        }
    }
    if found.is_empty() {
        return Err(Status::unavailable(format!("no endpoints available for service {name:?}")));
    }
    Ok(found.swap_remove(rand::random_range(0..found.len())))
}

/// Where the `proxy` of a Service leads: one of its pods, and nowhere else, for who may write Services and endpoints must
/// not reach through the server what only the server can. Upstream: the Service's `ResourceLocation`.
pub fn proxied_pod(reader: &Reader, namespace: &str, name: &str, port: &str) -> Result<Endpoint, Status> {
    let service =
        reader.get("", "services", namespace, name).ok_or_else(|| Status::not_found("", "services", name))?.value();
    let port_name = match port.parse::<i64>() {
        Err(_) => port,
        Ok(number) => {
            let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
            let declared = ports
                .find(|p| p["port"] == number)
                .ok_or_else(|| Status::unavailable(format!("no service port {number} found for service {name:?}")))?;
            declared["name"].as_str().unwrap_or("")
        }
    };
    let mut found = Vec::new();
    for slice in reader.list("discovery.k8s.io", "endpointslices", namespace)? {
        let mut slice = (*slice.value()).clone();
        if slice["metadata"]["labels"]["kubernetes.io/service-name"] == name {
            if let Some(endpoints) = slice["endpoints"].as_array_mut() {
                endpoints.retain(|e| is_of_pod(reader, namespace, e));
            }
            found.extend(ready_in(&slice, port_name));
        }
    }
    if found.is_empty() {
        let id = if port.is_empty() { name.to_string() } else { format!("{name}:{port}") };
        return Err(Status::unavailable(format!("no endpoints available for service {id:?}")));
    }
    Ok(found.swap_remove(rand::random_range(0..found.len())))
}

/// The endpoint is a pod of this namespace, at an address of the pod.
fn is_of_pod(reader: &Reader, namespace: &str, endpoint: &Value) -> bool {
    let target = &endpoint["targetRef"];
    let Some(pod) = target["name"].as_str().and_then(|name| reader.get("", "pods", namespace, name)) else {
        return false;
    };
    let status = &pod.value()["status"];
    let mut addresses = status["podIPs"].as_array().into_iter().flatten().map(|ip| &ip["ip"]);
    target["namespace"] == namespace && addresses.any(|ip| ip.is_string() && *ip == endpoint["addresses"][0])
}

/// The slice's ready addresses with its port of that name.
fn ready_in(slice: &Value, port_name: &str) -> Vec<Endpoint> {
    let ports = slice["ports"].as_array().into_iter().flatten();
    let port = ports
        .filter(|p| p["name"].as_str().unwrap_or("") == port_name)
        .find_map(|p| p["port"].as_u64().and_then(|n| u16::try_from(n).ok()));
    let Some(port) = port else { return Vec::new() };
    slice["endpoints"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|e| e["conditions"]["ready"] != false)
        .filter_map(|e| e["addresses"][0].as_str())
        .map(|host| Endpoint { host: host.to_string(), port })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::reader;
    use serde_json::json;

    #[tokio::test]
    async fn proxies_lead_to_pods_alone() {
        let service = |name: &str, spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "n"}, "spec": spec});
        let slice = |name: &str, endpoint: Value| {
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"name": name, "namespace": "n", "labels": {"kubernetes.io/service-name": name}},
                "ports": [{"name": "http", "port": 8080}], "endpoints": [endpoint]})
        };
        let pod = |ip: &str, namespace: &str| json!({"addresses": [ip], "targetRef": {"kind": "Pod", "namespace": namespace, "name": "p"}});
        let ports = json!({"ports": [{"name": "http", "port": 80}]});
        let reader = reader(&[
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"},
                "status": {"podIPs": [{"ip": "10.0.0.1"}]}}),
            service("web", ports.clone()),
            slice("web", pod("10.0.0.1", "n")),
            service("elsewhere", ports.clone()),
            slice("elsewhere", pod("169.254.169.254", "n")),
            service("others", ports.clone()),
            slice("others", pod("10.0.0.1", "other")),
            service("by-hand", ports),
            slice("by-hand", json!({"addresses": ["10.0.0.1"]})),
            service("named", json!({"type": "ExternalName", "externalName": "localhost", "ports": [{"port": 80}]})),
        ])
        .await;
        let of = |name: &str, port: &str| match proxied_pod(&reader, "n", name, port) {
            Ok(e) => format!("{}:{}", e.host, e.port),
            Err(s) => format!("{} {}", s.code, s.message),
        };
        for port in ["80", "http"] {
            assert_eq!(of("web", port), "10.0.0.1:8080");
        }
        assert_eq!(of("web", ""), "503 no endpoints available for service \"web\"");
        assert_eq!(of("web", "81"), "503 no service port 81 found for service \"web\"");
        for name in ["elsewhere", "others", "by-hand", "named"] {
            assert_eq!(of(name, "80"), format!("503 no endpoints available for service \"{name}:80\""));
        }
        assert_eq!(of("none", "80"), "404 services \"none\" not found");
    }
}
