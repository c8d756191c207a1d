//! Streams and proxies: `log`, `exec`, `attach`, `portforward`, and `proxy` of pods, services and nodes.
//!
//! The API server finds out where, checks, and passes bytes on; the protocols (WebSocket, SPDY) are spoken by the
//! node's kubelet.

use crate::admission::Operation;
use crate::outbound::proxied_pod;
use crate::pipeline::not_served;
use crate::proxying::Proxy;
use crate::reader::Reader;
use crate::registry::{Call, store_error, stored};
use crate::request_info::form_pairs;
use axum::body::Body;
use http::{Request, Response};
use meta::field::{Errors, Path};
use meta::status::{Result, Status};
use serde_json::{Value, json};
use std::fmt::Write;

const KUBELET_ERROR_BYTES_MAX: usize = 10_000;

pub async fn connect(mut call: Call<'_>, request: Request<Body>, proxy: &Proxy) -> Result<Response<Body>> {
    let row = call.row.clone();
    let sub = call.info.subresource.clone();
    let name = call.info.name.clone();
    // `scheme:name:port` in proxies names more than the object.
    let (scheme, object_name, port) = match sub.as_str() {
        "proxy" => split_proxy_name(&name)
            .ok_or_else(|| Status::bad_request(format!("invalid {} request {name:?}", row.kind.to_lowercase())))?,
        _ => ("", name.as_str(), ""),
    };
    let query = request.uri().query().unwrap_or("").to_string();
    if sub == "log" {
        check_log_options(&query, object_name)?;
    }
    let store = call.registry.store.clone();
    store.barrier().await.map_err(store_error)?;
    let entry = store.get(&call.key(object_name)).ok_or_else(|| call.not_found(object_name))?;
    let object = call.decode(&entry);

    let mut options = connect_options(&row.kind, &sub, &query);
    if sub == "proxy" {
        // Where to, as the URL has it, whatever the query says.
        options["path"] = proxied_path(&call.info.rest, &call.info.path).into();
    }
    if sub != "log" {
        call.admit(Operation::Connect, &sub, object_name, &mut options, None, &Value::Null).await?;
        call.admit_final(Operation::Connect, &sub, object_name, &mut options, None, &Value::Null).await?;
    }
    if sub == "proxy" {
        return pass_on(&call, request, proxy, &object, (scheme, object_name, port)).await;
    }
    let path = kubelet_path(&object, &sub, &query, &options)?;
    if sub == "log" && object["spec"]["nodeName"].as_str().unwrap_or("").is_empty() {
        // A pod that has no node yet has said nothing.
        let mut nothing = Response::new(Body::empty());
        *nothing.status_mut() = http::StatusCode::NO_CONTENT;
        return Ok(nothing);
    }
    let (host, kubelet_port) = node_of(&call, &object)?;
    let target = proxy.kubelet(&host, kubelet_port);
    let (path, query) = path.split_once('?').unwrap_or((&path, ""));
    let response = proxy.forward(request, &target, path, query).await?;
    // The kubelet speaks plain text; clients read a Status.
    if sub == "log" && !response.status().is_success() {
        let code = response.status().as_u16();
        let text = axum::body::to_bytes(response.into_body(), KUBELET_ERROR_BYTES_MAX).await.unwrap_or_default();
        return Err(log_failure(code, &String::from_utf8_lossy(&text)));
    }
    Ok(response)
}

/// `proxy` of a pod, a Service or a node: any method, any path below, redirects and upgrades included.
async fn pass_on(
    call: &Call<'_>,
    request: Request<Body>,
    proxy: &Proxy,
    object: &Value,
    (scheme, name, port): (&str, &str, &str),
) -> Result<Response<Body>> {
    let raw = request.uri().path().to_string();
    let query = request.uri().query().unwrap_or("").to_string();
    let (prefix, rest) = split_proxy_path(&raw, call.row.namespaced);
    // Pages' relative links need a slash to hang on (kubernetes/kubernetes#4958).
    if rest.is_empty() && matches!(*request.method(), http::Method::GET | http::Method::HEAD) && !is_upgrade(&request) {
        let mut r = Response::new(Body::empty());
        *r.status_mut() = http::StatusCode::MOVED_PERMANENTLY;
        let to = format!("{raw}/{}", question(&query));
        r.headers_mut().insert(http::header::LOCATION, http::HeaderValue::try_from(to).map_err(Status::internal)?);
        return Ok(r);
    }
    let path = if rest.is_empty() { "/" } else { rest };
    let tls = scheme == "https";
    let target = match call.row.plural.as_str() {
        "nodes" => {
            let (host, kubelet_port) = kubelet_address(object, name)?;
            match port_number(port, "node", &call.info.name)? {
                None => proxy.kubelet(&host, kubelet_port),
                Some(p) if p == kubelet_port => proxy.kubelet(&host, kubelet_port),
                Some(p) => proxy.anyone(tls, &host, p),
            }
        }
        "pods" => {
            let ip = object["status"]["podIP"].as_str().unwrap_or("");
            if !ip.parse::<std::net::IpAddr>().is_ok_and(may_be_proxied) {
                return Err(Status::bad_request("address not allowed"));
            }
            let port = pod_port(object, port).unwrap_or(if tls { 443 } else { 80 });
            proxy.anyone(tls, ip, port)
        }
        "services" => {
            let reader = Reader::new(call.registry.store.clone());
            let endpoint = proxied_pod(&reader, &call.info.namespace, name, port)?;
            proxy.anyone(tls, &endpoint.host, endpoint.port)
        }
        _ => return Err(not_served()),
    };
    proxy.forward_below(request, &target, path, &query, prefix).await
}

fn is_upgrade(request: &Request<Body>) -> bool {
    request.headers().contains_key(http::header::UPGRADE)
}

/// Loopback, link-local and multicast addresses are the server's own neighbourhood.
fn may_be_proxied(ip: std::net::IpAddr) -> bool {
    let link_local = match ip {
        std::net::IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        std::net::IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || link_local)
}

/// Up to and including `/proxy`, and what comes after it, as it was sent: clients' escapes are the backend's to read.
fn split_proxy_path(raw: &str, namespaced: bool) -> (&str, &str) {
    // api v1 namespaces N pods P proxy; api v1 nodes N proxy
    let wanted = if namespaced { 7 } else { 5 };
    let mut seen = 0;
    let mut inside = false;
    for (i, b) in raw.bytes().enumerate() {
        match (b == b'/', inside) {
            (false, false) => {
                inside = true;
                seen += 1;
            }
            (true, true) => {
                if seen == wanted {
                    return raw.split_at(i);
                }
                inside = false;
            }
            _ => {}
        }
    }
    (raw, "")
}

fn port_number(port: &str, kind: &str, id: &str) -> Result<Option<u16>> {
    match port {
        "" => Ok(None),
        p => p.parse().map(Some).map_err(|_| Status::bad_request(format!("invalid {kind} request {id:?}"))),
    }
}

/// A container's port by number or name; without one, the first that any container names.
fn pod_port(pod: &Value, port: &str) -> Option<u16> {
    if let Ok(n) = port.parse() {
        return Some(n);
    }
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    containers
        .flat_map(|c| c["ports"].as_array().into_iter().flatten())
        .find(|p| port.is_empty() || p["name"] == port)
        .and_then(|p| p["containerPort"].as_u64())
        .and_then(|p| p.try_into().ok())
}

/// Why the kubelet gives no log.
fn log_failure(code: u16, text: &str) -> Status {
    match code {
        400 => Status::bad_request(text),
        404 => not_served(),
        503 => Status::unavailable(text),
        _ => Status::internal(text),
    }
}

fn question(query: &str) -> String {
    if query.is_empty() { String::new() } else { format!("?{query}") }
}

/// `name`, `name:port`, `scheme:name:port`; `None` where it is none of these.
fn split_proxy_name(name: &str) -> Option<(&str, &str, &str)> {
    let parts: Vec<&str> = name.split(':').collect();
    let (scheme, name, port) = match parts.as_slice() {
        [name] => ("", *name, ""),
        [name, port] => ("", *name, *port),
        [scheme, name, port] => (*scheme, *name, *port),
        _ => return None,
    };
    (matches!(scheme, "" | "http" | "https") && !name.is_empty()).then_some((scheme, name, port))
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
    let mut ports = Vec::new();
    for (k, v) in form_pairs(query) {
        match k.as_str() {
            "command" => command.push(Value::from(v)),
            "stdin" | "stdout" | "stderr" | "tty" => o[k] = (v == "true" || v == "1").into(),
            "container" => o[k] = v.into(),
            "ports" if suffix == "PortForwardOptions" => ports.extend(v.parse::<i32>()),
            _ => {}
        }
    }
    if !ports.is_empty() {
        o["ports"] = ports.into();
    }
    if !command.is_empty() {
        o["command"] = command.into();
    }
    o
}

/// Upstream's way of telling the path below `proxy`: with a slash in front where there is one, and with the last one kept.
fn proxied_path(rest: &str, whole: &str) -> String {
    let mut path = String::new();
    if !rest.is_empty() {
        path = format!("/{rest}");
    }
    if whole.ends_with('/') && !path.ends_with('/') {
        path.push('/');
    }
    path
}

/// What `PodLogOptions` may say.
fn check_log_options(query: &str, pod: &str) -> Result<()> {
    let given = |name: &str| form_pairs(query).find(|(k, _)| k == name).map(|(_, v)| v);
    let number = |name: &str| given(name).map_or(Ok(None), |v| crate::options::number(&v));
    let (tail, limit, since) = (number("tailLines")?, number("limitBytes")?, number("sinceSeconds")?);
    let since_time = given("sinceTime").filter(|t| !t.is_empty());
    if let Some(t) = &since_time
        && meta::object::parse_time(t).is_none()
    {
        return Err(Status::bad_request(api::codec::scalar::time_error(t, "2006-01-02T15:04:05Z07:00")));
    }
    let mut errors = Errors::default();
    if let Some(n) = tail.filter(|n| *n < 0) {
        errors.invalid(Path::new("tailLines"), n, "must be greater than or equal to 0");
    }
    if let Some(n) = limit.filter(|n| *n < 1) {
        errors.invalid(Path::new("limitBytes"), n, "must be greater than 0");
    }
    if since.is_some() && since_time.is_some() {
        let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        errors.forbidden(Path::new(""), why);
    } else if let Some(n) = since.filter(|n| *n < 1) {
        errors.invalid(Path::new("sinceSeconds"), n, "must be greater than 0");
    }
    if let Some(stream) = given("stream") {
        const STREAMS: &[&str] = &["All", "Stderr", "Stdout"];
        if !STREAMS.contains(&stream.as_str()) {
            errors.not_supported(Path::new("stream"), stream.as_str(), STREAMS);
        }
        if stream != "All" && tail.is_some() {
            errors.forbidden(Path::new(""), "`tailLines` and specific `stream` are mutually exclusive for now");
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid("", "PodLogOptions", pod, &errors)) }
}

/// Host and port of the kubelet of a pod's node.
fn node_of(call: &Call<'_>, pod: &Value) -> Result<(String, u16)> {
    let name = pod["metadata"]["name"].as_str().unwrap_or("");
    let node = pod["spec"]["nodeName"].as_str().unwrap_or("");
    if node.is_empty() {
        return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
    }
    let key = crate::reader::key("", "nodes", "", node);
    let entry = call.registry.store.get(&key).ok_or_else(|| Status::not_found("", "nodes", node))?;
    kubelet_address(&stored::decode(&entry), node)
}

/// Where a node's kubelet listens.
fn kubelet_address(node: &Value, name: &str) -> Result<(String, u16)> {
    let addresses = node["status"]["addresses"].as_array().cloned().unwrap_or_default();
    let of =
        |kind: &str| addresses.iter().find(|a| a["type"] == kind).and_then(|a| a["address"].as_str()).map(String::from);
    let host = ["InternalIP", "ExternalIP", "Hostname"].iter().find_map(|k| of(k)).ok_or_else(|| {
        // Differs from upstream, which answers 500: the node will tell its addresses in time.
        Status::unavailable(format!("no preferred addresses found for node {name:?}; known addresses: []"))
    })?;
    let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64().unwrap_or(10250);
    Ok((host, u16::try_from(port).unwrap_or(10250)))
}

/// The kubelet's own path for a pod's subresource. `options` is what admission made of exec's and attach's parameters.
fn kubelet_path(pod: &Value, sub: &str, query: &str, options: &Value) -> Result<String> {
    let name = pod["metadata"]["name"].as_str().unwrap_or("");
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or("");
    if sub == "portforward" {
        return Ok(format!("/portForward/{namespace}/{name}{}", question(query)));
    }
    if sub == "log" {
        let asked = form_pairs(query).find(|(k, _)| k == "container").map(|(_, v)| v).unwrap_or_default();
        let container = choose_container(pod, &asked, name)?;
        let mut out = format!("/containerLogs/{namespace}/{name}/{container}?");
        for (k, v) in form_pairs(query).filter(|(k, _)| k != "container") {
            let _ = write!(out, "{}={}&", escape(&k), escape(&v));
        }
        out.truncate(out.trim_end_matches(['&', '?']).len());
        return Ok(out);
    }
    let container = choose_container(pod, options["container"].as_str().unwrap_or(""), name)?;
    let mut out = format!("/{sub}/{namespace}/{name}/{container}?");
    for word in options["command"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let _ = write!(out, "command={}&", escape(word));
    }
    for (field, parameter) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
        if options[field] == true {
            let _ = write!(out, "{parameter}=1&");
        }
    }
    out.truncate(out.trim_end_matches(['&', '?']).len());
    Ok(out)
}

/// The named container, or the only one.
fn choose_container(pod: &Value, asked: &str, pod_name: &str) -> Result<String> {
    let [init, containers, ephemeral] = ["initContainers", "containers", "ephemeralContainers"].map(|list| {
        let all = pod["spec"][list].as_array().into_iter().flatten();
        all.filter_map(|c| c["name"].as_str()).collect::<Vec<&str>>()
    });
    let all = [init, containers.clone(), ephemeral].concat();
    let refused = |why: String| Err(Status::bad_request(why));
    match (asked, containers.as_slice()) {
        ("", [one]) => Ok(one.to_string()),
        ("", []) => refused(format!("a container name must be specified for pod {pod_name}")),
        ("", _) => refused(format!(
            "a container name must be specified for pod {pod_name}, choose one of: [{}]",
            all.join(" ")
        )),
        (asked, _) if all.contains(&asked) => Ok(asked.to_string()),
        (asked, _) => refused(format!("container {asked} is not valid for pod {pod_name}")),
    }
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
    fn what_a_log_may_be_asked_for() {
        let said = |query: &str| check_log_options(query, "p").map_err(|s| (s.code, s.message));
        for fine in ["", "tailLines=0&limitBytes=1&sinceSeconds=1", "tailLines=", "sinceTime=2026-01-02T03:04:05Z"] {
            assert_eq!(said(fine), Ok(()), "{fine}");
        }
        let invalid = |why: &str| Err((422, format!("PodLogOptions \"p\" is invalid: {why}")));
        for (query, want) in [
            ("tailLines=x", Err((400, "strconv.ParseInt: parsing \"x\": invalid syntax".to_string()))),
            (
                "sinceTime=x",
                Err((
                    400,
                    "parsing time \"x\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"x\" as \"2006\"".into(),
                )),
            ),
            ("tailLines=-2", invalid("tailLines: Invalid value: -2: must be greater than or equal to 0")),
            (
                "limitBytes=0&sinceSeconds=0",
                invalid(
                    "[limitBytes: Invalid value: 0: must be greater than 0, sinceSeconds: Invalid value: 0: must be greater than 0]",
                ),
            ),
            (
                "stream=Foo",
                invalid("stream: Unsupported value: \"Foo\": supported values: \"All\", \"Stderr\", \"Stdout\""),
            ),
        ] {
            assert_eq!(said(query), want, "{query}");
        }
        assert!(said("sinceSeconds=1&sinceTime=2026-01-02T03:04:05Z").is_err());
        assert!(said("stream=Stdout&tailLines=1").is_err());
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
            let options = connect_options("Pod", sub, query);
            assert_eq!(kubelet_path(&pod, sub, query, &options).unwrap(), want);
        }
        assert_eq!(connect_options("Pod", "portforward", "ports=80&ports=x&ports=443")["ports"], json!([80, 443]));
        for (path, want) in [("", ""), ("/", "/"), ("/a/b", "/a/b"), ("/a/b/", "/a/b/")] {
            let rest = path.trim_matches('/');
            assert_eq!(proxied_path(rest, &format!("/api/v1/nodes/n/proxy{path}")), want);
        }
        let other = connect_options("Pod", "exec", "container=x");
        assert!(kubelet_path(&pod, "exec", "", &other).unwrap_err().message.contains("is not valid for pod p"));
    }

    #[test]
    fn one_container_needs_no_name() {
        let pod = |lists: Value| json!({"spec": lists});
        let (one, two) = (json!([{"name": "a"}]), json!([{"name": "a"}, {"name": "b"}]));
        let (init, debugger) = (json!([{"name": "i"}]), json!([{"name": "d"}]));
        let needed = "a container name must be specified for pod p";
        for (lists, asked, want) in [
            (json!({"containers": one, "initContainers": init}), "", Ok("a")),
            (json!({"containers": two}), "b", Ok("b")),
            (json!({"containers": two, "ephemeralContainers": debugger}), "d", Ok("d")),
            (json!({"containers": two}), "x", Err("container x is not valid for pod p".to_string())),
            (json!({}), "", Err(needed.to_string())),
            (json!({"containers": two}), "", Err(format!("{needed}, choose one of: [a b]"))),
            (
                json!({"containers": two, "initContainers": init, "ephemeralContainers": debugger}),
                "",
                Err(format!("{needed}, choose one of: [i a b d]")),
            ),
        ] {
            let got = choose_container(&pod(lists), asked, "p").map_err(|s| s.message);
            assert_eq!(got, want.map(String::from));
        }
    }

    #[test]
    fn proxy_paths_are_passed_on_as_they_were_sent() {
        for (raw, namespaced, want) in [
            ("/api/v1/namespaces/d/pods/p/proxy", true, ("/api/v1/namespaces/d/pods/p/proxy", "")),
            ("/api/v1/namespaces/d/pods/p/proxy/", true, ("/api/v1/namespaces/d/pods/p/proxy", "/")),
            (
                "/api/v1/namespaces/d/services/https:s:1/proxy/a%2Fb//c/",
                true,
                ("/api/v1/namespaces/d/services/https:s:1/proxy", "/a%2Fb//c/"),
            ),
            ("/api/v1/nodes/n/proxy/proxy/x", false, ("/api/v1/nodes/n/proxy", "/proxy/x")),
        ] {
            assert_eq!(split_proxy_path(raw, namespaced), want);
        }
        for (name, want) in [
            ("p", Some(("", "p", ""))),
            ("p:80", Some(("", "p", "80"))),
            ("https:p:web", Some(("https", "p", "web"))),
            ("http:p:", Some(("http", "p", ""))),
            ("ftp:p:1", None),
            ("a:b:c:d", None),
        ] {
            assert_eq!(split_proxy_name(name), want);
        }
        let pod =
            json!({"spec":{"containers":[{},{"ports":[{"containerPort":8080},{"name":"web","containerPort":81}]}]}});
        assert_eq!(
            (pod_port(&pod, ""), pod_port(&pod, "web"), pod_port(&pod, "9"), pod_port(&pod, "x")),
            (Some(8080), Some(81), Some(9), None)
        );
        let may = |ip: &str| may_be_proxied(ip.parse().unwrap());
        assert!(may("10.42.0.3") && !may("127.0.0.1") && !may("169.254.169.254") && !may("::1"));
    }
}
