//! Whether an extension server is there: the Service, its port, its endpoints, and an answer to discovery. Conditions
//! and texts are those of upstream's `AvailableConditionController`.

use super::{Aggregator, Remote, identify};
use crate::authn::User;
use crate::reader::Reader;
use axum::body::Body;
use http::Request;
use serde_json::{Value, json};
use std::time::Duration;

/// For one answer to the probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Probes at once; one that succeeds is enough, since endpoints are tried at random.
const PROBES: usize = 5;

/// A condition's status, reason and message.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub available: bool,
    pub reason: &'static str,
    pub message: String,
}

fn no(reason: &'static str, message: String) -> Verdict {
    Verdict { available: false, reason, message }
}

/// What the API itself tells, before anybody is asked: `None` when nothing speaks against it.
pub fn objects(reader: &Reader, remote: &Remote) -> Option<Verdict> {
    let (name, namespace, port) = (&remote.service, &remote.namespace, remote.port);
    let Some(service) = reader.get("", "services", namespace, name) else {
        return Some(no("ServiceNotFound", format!("service/{name} in {namespace:?} is not present")));
    };
    let service = service.value();
    if !matches!(service["spec"]["type"].as_str(), None | Some("ClusterIP")) {
        return None;
    }
    let ports = service["spec"]["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(found) = ports.iter().find(|p| p["port"] == port) else {
        return Some(no(
            "ServicePortError",
            format!("service/{name} in {namespace:?} is not listening on port {port}"),
        ));
    };
    let port_name = found["name"].as_str().unwrap_or("");
    let slices = match reader.list("discovery.k8s.io", "endpointslices", namespace) {
        Ok(s) => s,
        Err(s) => {
            return Some(no(
                "EndpointsAccessError",
                format!("service/{name} in {namespace:?} cannot be checked due to: {}", s.message),
            ));
        }
    };
    let slices: Vec<_> = slices
        .iter()
        .map(|s| s.value())
        .filter(|s| s["metadata"]["labels"]["kubernetes.io/service-name"] == name.as_str())
        .collect();
    if slices.is_empty() {
        return Some(no(
            "EndpointsNotFound",
            format!("cannot find endpointslices for service/{name} in {namespace:?}"),
        ));
    }
    let active = slices.iter().any(|s| {
        let listed = |key: &str| s[key].as_array().map(Vec::as_slice).unwrap_or_default();
        listed("ports").iter().any(|p| p["name"].as_str().unwrap_or("") == port_name)
            && listed("endpoints").iter().any(|e| e["conditions"]["ready"] != false)
    });
    (!active).then(|| {
        no(
            "MissingEndpoints",
            format!(
                "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
            ),
        )
    })
}

impl Aggregator {
    /// Looks at the objects, then asks the server for the discovery document of the group version.
    pub(super) async fn check(&self, remote: &Remote) -> Verdict {
        if let Some(v) = objects(&self.reader, remote) {
            return v;
        }
        // Local mistakes first, which no probe would tell apart.
        let target = match &remote.target {
            Ok(t) => t,
            Err(e) => return no("FailedDiscoveryCheck", e.clone()),
        };
        let path = remote.root();
        let url = target.url.with(&path, "");
        let probe = async || {
            let mut request = Request::new(Body::empty());
            identify(request.headers_mut(), &kube_aggregator());
            match self.outbound.fetch(target, &path, "", request, PROBE_TIMEOUT).await {
                Ok(a) if a.is_success() => Ok(()),
                Ok(a) => Err(format!("failing or missing response from {url}: bad status from {url}: {}", a.code)),
                Err(e) if e.is_timeout() => Err(format!("failing or missing response from {url}: {e}")),
                Err(e) => Err(format!("failing or missing response from {url}: {e}")),
            }
        };
        let mut last = String::new();
        for _ in 0..PROBES {
            match probe().await {
                Ok(()) => {
                    return Verdict { available: true, reason: "Passed", message: "all checks passed".into() };
                }
                Err(e) => last = e,
            }
            if last.contains("deadline exceeded") {
                break;
            }
        }
        no("FailedDiscoveryCheck", last)
    }
}

/// Who the server is when it asks for itself: it may read discovery everywhere.
pub fn kube_aggregator() -> User {
    User::new("system:kube-aggregator", &["system:masters"])
}

/// The object's conditions with this verdict among them; `None` when it says so already.
pub fn conditions(object: &Value, verdict: &Verdict, now: &str) -> Option<Value> {
    let status = if verdict.available { "True" } else { "False" };
    let present = super::condition(object);
    if present.is_some_and(|c| {
        c["status"] == status && c["reason"] == verdict.reason && c["message"] == verdict.message.as_str()
    }) {
        return None;
    }
    let since = match present {
        Some(c) if c["status"] == status => c["lastTransitionTime"].clone(),
        _ => now.into(),
    };
    let mut all: Vec<Value> = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    all.retain(|c| c["type"] != "Available");
    all.push(json!({
        "type": "Available", "status": status, "reason": verdict.reason, "message": verdict.message,
        "lastTransitionTime": since,
    }));
    Some(all.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregation::Remote;
    use crate::testing::{put, reader};

    fn remote() -> Remote {
        let identity = crate::outbound::testing::certificate(&["x"], 0).0;
        let object = json!({"metadata": {"name": "v1.x.test"}, "spec": {
            "group": "x.test", "version": "v1", "service": {"namespace": "n", "name": "s", "port": 443}}});
        Remote::new(&object, &std::sync::Arc::new(identity)).unwrap()
    }

    #[tokio::test]
    async fn what_is_missing_is_named() {
        let r = reader(&[]).await;
        let remote = remote();
        let now = || objects(&r, &remote).map(|v| (v.reason, v.message));
        assert_eq!(now(), Some(("ServiceNotFound", "service/s in \"n\" is not present".into())));
        let service = |port: u16| {
            json!({"apiVersion":"v1","kind":"Service","metadata":{"namespace":"n","name":"s"},
                "spec":{"ports":[{"name":"https","port":port}]}})
        };
        put(&r, &service(80)).await;
        assert_eq!(now(), Some(("ServicePortError", "service/s in \"n\" is not listening on port 443".into())));
        put(&r, &service(443)).await;
        assert_eq!(now(), Some(("EndpointsNotFound", "cannot find endpointslices for service/s in \"n\"".into())));
        let slice = |ready: bool| {
            json!({"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice",
                "metadata":{"namespace":"n","name":"s-1","labels":{"kubernetes.io/service-name":"s"}},
                "ports":[{"name":"https","port":8443}],
                "endpoints":[{"addresses":["192.0.2.1"],"conditions":{"ready":ready}}]})
        };
        put(&r, &slice(false)).await;
        assert_eq!(
            now(),
            Some((
                "MissingEndpoints",
                "endpointslices for service/s in \"n\" have no addresses with port name \"https\"".into()
            ))
        );
        put(&r, &slice(true)).await;
        assert_eq!(now(), None);
    }

    #[test]
    fn conditions_change_when_the_verdict_does() {
        let yes = Verdict { available: true, reason: "Passed", message: "all checks passed".into() };
        let first = conditions(&json!({}), &yes, "t1").unwrap();
        let object = json!({"status": {"conditions": first}});
        assert_eq!(conditions(&object, &yes, "t2"), None);
        let other = Verdict { message: "fine".into(), ..yes };
        assert_eq!(conditions(&object, &other, "t2").unwrap()[0]["lastTransitionTime"], "t1");
        let gone = no("ServiceNotFound", "gone".into());
        assert_eq!(conditions(&object, &gone, "t2").unwrap()[0]["lastTransitionTime"], "t2");
    }
}
