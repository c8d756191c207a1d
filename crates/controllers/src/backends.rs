//! Which pods stand behind a Service, and at which ports. Shared by the two kinds of endpoints.

use client::{Change, Informer, Queue};
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::pods;

/// Changes that come together are written together.
pub const BATCH: Duration = Duration::from_millis(5);

/// The Service's pods are found by this; without one its endpoints are the user's.
pub fn selector(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.selector.as_ref().filter(|s| !s.is_empty())
}

pub fn selects(selector: &BTreeMap<String, String>, pod: &Pod) -> bool {
    selector.iter().all(|(k, v)| pod.labels().get(k) == Some(v))
}

pub fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()).is_none_or(|ip| ip == "None" || ip.is_empty())
}

pub fn publishes_not_ready(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|s| s.publish_not_ready_addresses == Some(true))
}

/// The pod's addresses, in its order.
pub fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else { return Vec::new() };
    let all = status.pod_ips.iter().flatten().filter_map(|i| i.ip.parse().ok()).collect::<Vec<_>>();
    if all.is_empty() { status.pod_ip.iter().filter_map(|i| i.parse().ok()).collect() } else { all }
}

/// The number of a Service's port on this pod; a name is looked up in its containers.
pub fn port_of(pod: &Pod, port: &ServicePort) -> Option<i32> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(0)) => return Some(port.port),
        Some(IntOrString::Int(n)) => return Some(*n),
        Some(IntOrString::String(name)) => name,
    };
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten())
        .find(|p| p.name.as_ref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol)
        .map(|p| p.container_port)
}

pub fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: pod.namespace(),
        name: pod.metadata.name.clone(),
        uid: pod.uid(),
        ..ObjectReference::default()
    }
}

/// The name under which DNS knows a pod of a headless Service.
pub fn hostname(pod: &Pod, service: &Service) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    (spec.subdomain == service.metadata.name).then(|| spec.hostname.clone()).flatten().filter(|h| !h.is_empty())
}

/// Everything about a pod that its endpoints tell.
fn face(pod: &Pod) -> impl PartialEq {
    let spec = pod.spec.as_ref();
    (
        addresses(pod),
        pods::is_ready(pod),
        pods::is_terminating(pod),
        pods::is_finished(pod),
        spec.and_then(|s| s.node_name.clone()),
        spec.map(|s| (s.hostname.clone(), s.subdomain.clone())),
        pod.metadata.labels.clone(),
        pod.metadata.uid.clone(),
    )
}

/// Queues the Services that a change of a pod or Service touches.
pub fn watch(queue: &Queue, services: &Arc<Informer<Service>>, pods: &Informer<Pod>) {
    let q = queue.clone();
    services.on_change(move |c| q.add(client::informer::key_of(&**c.object())));
    let (q, services) = (queue.clone(), services.clone());
    pods.on_change(move |change| {
        let pod = change.object();
        if let Change::Updated { old, new } = change
            && face(old) == face(new)
        {
            return;
        }
        if matches!(change, Change::Added(_)) && addresses(pod).is_empty() {
            return;
        }
        for service in services.in_namespace(&pod.namespace().unwrap_or_default()) {
            let Some(selector) = selector(&service) else { continue };
            if selects(selector, pod) || change.old().is_some_and(|o| selects(selector, o)) {
                q.add_after(client::informer::key_of(&*service), BATCH);
            }
        }
    });
}
