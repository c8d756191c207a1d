//! Streams and proxies: `log`, `exec`, `attach`, `portforward`, and `proxy` of pods, services and nodes.
//!
//! The API server finds out where, checks, and passes bytes on; the protocols (WebSocket, SPDY) are spoken by the
//! node's kubelet.

use crate::admission::Operation;
use crate::proxying::{Proxy, Target};
use crate::registry::{Call, store_error, stored};
use crate::request_info::form_pairs;
use axum::body::Body;
use http::{Request, Response};
use meta::status::{Result, Status};
use serde_json::{Value, json};
use std::fmt::Write;

const KUBELET_ERROR_BYTES_MAX: usize = 10_000;

pub async fn connect(mut call: Call<'_>, request: Request<Body>, proxy: &Proxy) -> Result<Response<Body>> {
    let row = call.row.clone();
    let sub = call.info.subresource.clone();
    let name = call.info.name.clone();
    // `scheme:name:port` in proxies names more than the object.
    let (scheme, object_name, port) = if sub == "proxy" { split_proxy_name(&name) } else { ("", name.as_str(), "") };
    let store = call.registry.store.clone();
    store.barrier().await.map_err(store_error)?;
    let entry = store.get(&call.key(object_name)).ok_or_else(|| call.not_found(object_name))?;
    let object = call.decode(&entry);
    let query = request.uri().query().unwrap_or("").to_string();

    if sub != "log" {
        let mut options = connect_options(&row.kind, &sub, &query);
        call.admit(Operation::Connect, &sub, object_name, &mut options, None, &Value::Null).await?;
        call.admit_final(Operation::Connect, &sub, object_name, &mut options, None, &Value::Null).await?;
    }
    match (row.plural.as_str(), sub.as_str()) {
        ("pods", "log" | "exec" | "attach" | "portforward") => {
            let target = node_of(&call, &object)?;
            let path = kubelet_path(&object, &sub, &query)?;
            let response = proxy.forward(request, &target, &path).await?;
            // The kubelet speaks plain text; clients read a Status.
            if sub == "log" && !response.status().is_success() {
                let code = response.status().as_u16();
                let text =
                    axum::body::to_bytes(response.into_body(), KUBELET_ERROR_BYTES_MAX).await.unwrap_or_default();
                return Err(log_failure(code, &String::from_utf8_lossy(&text)));
            }
            Ok(response)
        }
        ("nodes", "proxy") => {
            let target = kubelet_target(&object, object_name)?;
            let path = format!("/{}{}", call.info.rest, question(&query));
            proxy.forward(request, &target, &path).await
        }
        ("pods", "proxy") => {
            let ip = object["status"]["podIP"].as_str().unwrap_or("");
            if ip.is_empty() {
                return Err(Status::bad_request("address not allowed: pod does not have an IP"));
            }
            let first = object["spec"]["containers"][0]["ports"][0]["containerPort"].as_u64();
            let port = port.parse::<u16>().ok().or(first.and_then(|p| p.try_into().ok())).unwrap_or(80);
            let target = Target { host: ip.into(), port, tls: scheme == "https", kubelet: false };
            let path = format!("/{}{}", call.info.rest, question(&query));
            proxy.forward_rewriting(request, &target, &path, &proxy_prefix(&call)).await
        }
        ("services", "proxy") => {
            let target = service_target(&call, &object, scheme, port)?;
            let path = format!("/{}{}", call.info.rest, question(&query));
            proxy.forward_rewriting(request, &target, &path, &proxy_prefix(&call)).await
        }
        _ => Err(Status::new(404, "NotFound", "the server could not find the requested resource")),
    }
}

/// Why the kubelet gives no log.
fn log_failure(code: u16, text: &str) -> Status {
    match code {
        400 => Status::bad_request(text),
        404 => Status::new(404, "NotFound", "the server could not find the requested resource"),
        503 => Status::unavailable(text),
        _ => Status::internal(text),
    }
}

fn question(query: &str) -> String {
    if query.is_empty() { String::new() } else { format!("?{query}") }
}

/// The path up to and including `/proxy`, which relative links of proxied pages are put behind.
fn proxy_prefix(call: &Call<'_>) -> String {
    let path = &call.info.path;
    match path.find("/proxy") {
        Some(i) => path[..i + "/proxy".len()].to_string(),
        None => path.clone(),
    }
}

/// `name`, `name:port`, `scheme:name:port`.
fn split_proxy_name(name: &str) -> (&str, &str, &str) {
    let parts: Vec<&str> = name.split(':').collect();
    match parts.as_slice() {
        [scheme, name, port] => (scheme, name, port),
        [name, port] => ("", name, port),
        _ => ("", name, ""),
    }
}

fn connect_options(kind: &str, sub: &str, query: &str) -> Value {
    let suffix = match sub {
        "exec" => "ExecOptions",
        "attach" => "AttachOptions",
        "portforward" => "PortForwardOptions",
        _ => "ProxyOptions",
    };
    let mut o = json!({"kind": format!("{kind}{suffix}"), "apiVersion": "v1"});
    let mut command = Vec::new();
    for (k, v) in form_pairs(query) {
        match k.as_str() {
            "command" => command.push(Value::from(v)),
            "stdin" | "stdout" | "stderr" | "tty" => o[k] = (v == "true" || v == "1").into(),
            "container" | "path" => o[k] = v.into(),
            _ => {}
        }
    }
    if !command.is_empty() {
        o["command"] = command.into();
    }
    o
}

fn node_of(call: &Call<'_>, pod: &Value) -> Result<Target> {
    let name = pod["metadata"]["name"].as_str().unwrap_or("");
    let node = pod["spec"]["nodeName"].as_str().unwrap_or("");
    if node.is_empty() {
        return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
    }
    let key = crate::reader::key("", "nodes", "", node);
    let entry = call.registry.store.get(&key).ok_or_else(|| Status::not_found("", "nodes", node))?;
    kubelet_target(&stored::decode(&entry), node)
}

/// Where a node's kubelet listens.
fn kubelet_target(node: &Value, name: &str) -> Result<Target> {
    let addresses = node["status"]["addresses"].as_array().cloned().unwrap_or_default();
    let of =
        |kind: &str| addresses.iter().find(|a| a["type"] == kind).and_then(|a| a["address"].as_str()).map(String::from);
    let host = ["InternalIP", "ExternalIP", "Hostname"].iter().find_map(|k| of(k)).ok_or_else(|| {
        // Differs from upstream, which answers 500: the node will tell its addresses in time.
        Status::unavailable(format!("no preferred addresses found for node {name:?}; known addresses: []"))
    })?;
    let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64().unwrap_or(10250);
    Ok(Target { host, port: port as u16, tls: true, kubelet: true })
}

/// The kubelet's own path for a pod's subresource.
fn kubelet_path(pod: &Value, sub: &str, query: &str) -> Result<String> {
    let name = pod["metadata"]["name"].as_str().unwrap_or("");
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or("");
    if sub == "portforward" {
        return Ok(format!("/portForward/{namespace}/{name}{}", question(query)));
    }
    let asked = form_pairs(query).find(|(k, _)| k == "container").map(|(_, v)| v).unwrap_or_default();
    let container = choose_container(pod, &asked, name)?;
    let mut out = match sub {
        "log" => format!("/containerLogs/{namespace}/{name}/{container}?"),
        other => format!("/{other}/{namespace}/{name}/{container}?"),
    };
    for (k, v) in form_pairs(query) {
        let k = match (sub, k.as_str()) {
            (_, "container") => continue,
            ("exec" | "attach", "stdin") => "input",
            ("exec" | "attach", "stdout") => "output",
            ("exec" | "attach", "stderr") => "error",
            _ => k.as_str(),
        };
        let v = if matches!(k, "input" | "output" | "error" | "tty") {
            if v == "true" || v == "1" { "1".to_string() } else { continue }
        } else {
            v
        };
        let _ = write!(out, "{}={}&", escape(k), escape(&v));
    }
    out.truncate(out.trim_end_matches(['&', '?']).len());
    Ok(out)
}

/// The named container, or the only one (or the one that an annotation makes the default).
fn choose_container(pod: &Value, asked: &str, pod_name: &str) -> Result<String> {
    let names = |list: &str| -> Vec<String> {
        pod["spec"][list]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|c| c["name"].as_str().map(String::from))
            .collect()
    };
    let (containers, init, ephemeral) = (names("containers"), names("initContainers"), names("ephemeralContainers"));
    if !asked.is_empty() {
        if [&containers, &init, &ephemeral].iter().any(|l| l.iter().any(|n| n == asked)) {
            return Ok(asked.to_string());
        }
        return Err(Status::bad_request(format!("container {asked} is not valid for pod {pod_name}")));
    }
    if let Some(d) = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str()
        && containers.iter().any(|c| c == d)
    {
        return Ok(d.to_string());
    }
    match containers.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Status::bad_request(format!("pod {pod_name} has no containers"))),
        many => {
            let mut text =
                format!("a container name must be specified for pod {pod_name}, choose one of: [{}]", many.join(" "));
            if !init.is_empty() {
                let _ = write!(text, " or one of the init containers: [{}]", init.join(" "));
            }
            if !ephemeral.is_empty() {
                let _ = write!(text, " or one of the ephemeral containers: [{}]", ephemeral.join(" "));
            }
            Err(Status::bad_request(text))
        }
    }
}

/// A ready endpoint of the Service.
fn service_target(call: &Call<'_>, service: &Value, scheme: &str, port: &str) -> Result<Target> {
    let name = service["metadata"]["name"].as_str().unwrap_or("");
    let unavailable = || Status::unavailable(format!("no endpoints available for service {name:?}"));
    let ports = service["spec"]["ports"].as_array().cloned().unwrap_or_default();
    let chosen = match port {
        "" if ports.len() == 1 => ports.first(),
        "" => ports.iter().find(|p| p["name"].as_str().unwrap_or("").is_empty()).or(ports.first()),
        wanted => ports
            .iter()
            .find(|p| p["name"] == wanted || p["port"].as_u64().map(|n| n.to_string()).as_deref() == Some(wanted)),
    };
    let Some(chosen) = chosen else {
        return Err(Status::unavailable(format!("no service port {port:?} found for service {name:?}")));
    };
    let port_name = chosen["name"].as_str().unwrap_or("");
    let prefix = crate::reader::prefix("discovery.k8s.io", "endpointslices", &call.info.namespace);
    let page = call.registry.store.list(&prefix, &Default::default()).map_err(store_error)?;
    let mut found = Vec::new();
    for e in &page.entries {
        let slice = stored::decode(e);
        if slice["metadata"]["labels"]["kubernetes.io/service-name"] != name {
            continue;
        }
        let Some(target_port) = slice["ports"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|p| p["name"].as_str().unwrap_or("") == port_name)
            .and_then(|p| p["port"].as_u64())
        else {
            continue;
        };
        for ep in slice["endpoints"].as_array().into_iter().flatten() {
            if ep["conditions"]["ready"] != false
                && let Some(ip) = ep["addresses"][0].as_str()
            {
                found.push((ip.to_string(), target_port as u16));
            }
        }
    }
    if found.is_empty() {
        return Err(unavailable());
    }
    let (host, port) = found.swap_remove(rand::random_range(0..found.len()));
    Ok(Target { host, port, tls: scheme == "https", kubelet: false })
}

/// Percent-encodes a query part.
fn escape(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    for b in s.bytes() {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') {
            out.push(b as char);
        } else {
            let _ = write!(out, "%{b:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelets_words_reach_the_reader_of_a_log() {
        let s = log_failure(400, "container \"c\" in pod \"p\" is waiting to start: ContainerCreating");
        assert_eq!((s.code, s.reason), (400, "BadRequest"));
        assert_eq!(s.message, "container \"c\" in pod \"p\" is waiting to start: ContainerCreating");
        assert_eq!(log_failure(500, "disk").code, 500);
    }

    #[test]
    fn exec_parameters_take_the_kubelets_names() {
        let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [{"name": "c"}]}});
        for (sub, query, want) in [
            (
                "exec",
                "command=ls&command=-l+a&stdin=true&stdout=true&tty=false",
                "/exec/n/p/c?command=ls&command=-l%20a&input=1&output=1",
            ),
            ("log", "follow=true&tailLines=5", "/containerLogs/n/p/c?follow=true&tailLines=5"),
            ("portforward", "ports=80", "/portForward/n/p?ports=80"),
        ] {
            assert_eq!(kubelet_path(&pod, sub, query).unwrap(), want);
        }
        assert!(kubelet_path(&pod, "exec", "container=x").unwrap_err().message.contains("is not valid for pod p"));
    }
}
