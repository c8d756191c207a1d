//! From a Service to an endpoint: what the service proxy does for pods, done for the server itself, which so needs
//! no rules in the kernel.

use crate::reader::Reader;
use meta::status::Status;
use serde_json::Value;

/// A Service's port, by number or by name (or number as text), as the caller says.
#[derive(Clone, Debug, PartialEq)]
pub enum PortRef {
    Number(u16),
    /// Empty: the only port, or the one without a name.
    Named(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

/// One of the Service's ready endpoints, at random. Texts are those of upstream's `ResolveEndpoint`.
pub fn ready_endpoint(reader: &Reader, namespace: &str, name: &str, port: &PortRef) -> Result<Endpoint, Status> {
    let service =
        reader.get("", "services", namespace, name).ok_or_else(|| Status::not_found("", "services", name))?.value();
    let ports = service["spec"]["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let chosen = match port {
        PortRef::Number(n) => ports.iter().find(|p| p["port"] == *n),
        PortRef::Named(n) if n.is_empty() => match ports {
            [one] => Some(one),
            many => many.iter().find(|p| p["name"].as_str().unwrap_or("").is_empty()),
        },
        PortRef::Named(n) => ports
            .iter()
            .find(|p| p["name"] == n.as_str())
            .or_else(|| n.parse::<u16>().ok().and_then(|n| ports.iter().find(|p| p["port"] == n))),
    };
    if service["spec"]["type"] == "ExternalName" {
        let number = chosen.and_then(|p| p["port"].as_u64()).and_then(|p| p.try_into().ok());
        let number = number.or(match port {
            PortRef::Number(n) => Some(*n),
            PortRef::Named(n) => n.parse().ok(),
        });
        if let (Some(host), Some(port)) = (service["spec"]["externalName"].as_str(), number) {
            return Ok(Endpoint { host: host.to_string(), port });
        }
    }
    let Some(chosen) = chosen else {
        let shown = match port {
            PortRef::Number(n) => n.to_string(),
            PortRef::Named(n) => format!("{n:?}"),
        };
        return Err(Status::unavailable(format!("no service port {shown} found for service {name:?}")));
    };
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
