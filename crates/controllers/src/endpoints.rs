//! Endpoints: the older, single-object form of what EndpointSlices say. DNS and users still read it.

use crate::endpointslice::HEADLESS;
use crate::{Context, backends, ownership, pods};
use client::Queue;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams};
use std::collections::BTreeMap;
use std::sync::Arc;

const NAME: &str = "endpoint-controller";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const LAST_CHANGE: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Addresses in one object.
const ADDRESSES_MAX: usize = 1000;
const WORKERS: usize = 5;

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Create(Endpoints),
    Update(Endpoints),
}

pub fn plan(service: &Service, pods: &[Arc<Pod>], present: Option<&Endpoints>) -> Option<Action> {
    let (subsets, truncated) = truncate(subsets(service, pods));
    let mut labels = service.labels().clone();
    labels.remove(HEADLESS);
    labels.insert(MANAGED_BY.into(), NAME.into());
    if backends::is_headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    let subsets = (!subsets.is_empty()).then_some(subsets);
    let Some(present) = present else {
        let annotations = truncated.then(|| BTreeMap::from([(OVER_CAPACITY.into(), "truncated".into())]));
        return Some(Action::Create(Endpoints {
            metadata: ObjectMeta {
                name: service.metadata.name.clone(),
                namespace: service.namespace(),
                labels: Some(labels),
                annotations,
                ..ObjectMeta::default()
            },
            subsets,
        }));
    };
    let mut new = present.clone();
    new.metadata.labels = Some(labels);
    let annotations = new.metadata.annotations.get_or_insert_default();
    annotations.remove(LAST_CHANGE);
    if truncated {
        annotations.insert(OVER_CAPACITY.into(), "truncated".into());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    if annotations.is_empty() {
        new.metadata.annotations = None;
    }
    new.subsets = subsets;
    let same = new.subsets.as_deref().unwrap_or_default() == present.subsets.as_deref().unwrap_or_default()
        && new.metadata.labels == present.metadata.labels
        && new.metadata.annotations.as_ref().is_none_or(BTreeMap::is_empty)
            == present.metadata.annotations.as_ref().is_none_or(BTreeMap::is_empty);
    (!same).then_some(Action::Update(new))
}

/// Addresses that share their ports, those in service and those that are not apart.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let spec = service.spec.clone().unwrap_or_default();
    let eager = backends::publishes_not_ready(service);
    let want_v6 = spec.ip_families.as_ref().and_then(|f| f.first()).is_some_and(|f| f == "IPv6");
    type Key = Vec<(String, i32, String, Option<String>)>;
    let mut by_ports: BTreeMap<Key, EndpointSubset> = BTreeMap::new();
    let mut sorted: Vec<_> = pods.iter().collect();
    sorted.sort_by_cached_key(|p| (backends::addresses(p).first().copied(), p.uid()));
    for pod in sorted {
        if pods::is_finished(pod) || (pods::is_terminating(pod) && !eager) {
            continue;
        }
        let Some(ip) = backends::addresses(pod).into_iter().find(|a| a.is_ipv6() == want_v6) else { continue };
        let address = EndpointAddress {
            ip: ip.to_string(),
            hostname: backends::hostname(pod, service),
            node_name: pod.spec.as_ref().and_then(|s| s.node_name.clone()),
            target_ref: Some(backends::target(pod)),
        };
        let of_service = spec.ports.as_deref().unwrap_or_default();
        let mut ports: Vec<EndpointPort> = of_service
            .iter()
            .filter_map(|p| {
                Some(EndpointPort {
                    name: p.name.clone().filter(|n| !n.is_empty()),
                    port: backends::port_of(pod, p)?,
                    protocol: Some(p.protocol.clone().unwrap_or_else(|| "TCP".into())),
                    app_protocol: p.app_protocol.clone(),
                })
            })
            .collect();
        if ports.is_empty() && !(of_service.is_empty() && backends::is_headless(service)) {
            continue;
        }
        ports.sort_by(|a, b| (&a.name, a.port).cmp(&(&b.name, b.port)));
        let key = ports
            .iter()
            .map(|p| {
                let name = p.name.clone().unwrap_or_default();
                (name, p.port, p.protocol.clone().unwrap_or_default(), p.app_protocol.clone())
            })
            .collect();
        let subset = by_ports
            .entry(key)
            .or_insert_with(|| EndpointSubset { ports: (!ports.is_empty()).then_some(ports), ..Default::default() });
        if eager || pods::is_ready(pod) {
            subset.addresses.get_or_insert_default().push(address);
        } else {
            subset.not_ready_addresses.get_or_insert_default().push(address);
        }
    }
    by_ports.into_values().collect()
}

/// Keeps at most a thousand addresses, those in service first.
fn truncate(mut subsets: Vec<EndpointSubset>) -> (Vec<EndpointSubset>, bool) {
    let count = |a: &Option<Vec<EndpointAddress>>| a.as_ref().map_or(0, Vec::len);
    let total: usize = subsets.iter().map(|s| count(&s.addresses) + count(&s.not_ready_addresses)).sum();
    if total <= ADDRESSES_MAX {
        return (subsets, false);
    }
    let mut room = ADDRESSES_MAX;
    let mut cut = |addresses: &mut Option<Vec<EndpointAddress>>| {
        if let Some(a) = addresses {
            a.truncate(room);
            room -= a.len();
        }
        if count(addresses) == 0 {
            *addresses = None;
        }
    };
    subsets.iter_mut().for_each(|s| cut(&mut s.addresses));
    subsets.iter_mut().for_each(|s| cut(&mut s.not_ready_addresses));
    subsets.retain(|s| s.addresses.is_some() || s.not_ready_addresses.is_some());
    (subsets, true)
}

pub async fn run(context: Context) {
    let client = context.client(NAME);
    let services = context.informers.of::<Service>();
    let pods = context.informers.of::<Pod>();
    let endpoints = context.informers.of::<Endpoints>();
    let queue = Queue::new();
    services.wait_synced().await;
    pods.wait_synced().await;
    endpoints.wait_synced().await;

    backends::watch(&queue, &services, &pods);
    let q = queue.clone();
    endpoints.on_change(move |c| q.add(client::informer::key_of(&**c.object())));

    queue
        .run("endpoints", WORKERS, context.shutdown.clone(), move |key| {
            let (client, services) = (client.clone(), services.clone());
            let (pods, endpoints) = (pods.clone(), endpoints.clone());
            async move {
                let (namespace, name) = client::informer::split_key(&key);
                let api: Api<Endpoints> = Api::namespaced(client, namespace);
                let present = endpoints.get(&key);
                let Some(service) = services.get(&key) else {
                    // A user's own, for a Service to come, stay.
                    let ours = present.is_some_and(|e| e.labels().get(MANAGED_BY).is_some_and(|m| m == NAME));
                    if ours {
                        match api.delete(name, &DeleteParams::default()).await {
                            Err(e) if !ownership::gone(&e) => return Err(e),
                            _ => {}
                        }
                    }
                    return Ok::<_, kube::Error>(None);
                };
                let Some(selector) = backends::selector(&service) else { return Ok(None) };
                let mut selected = pods.in_namespace(namespace);
                selected.retain(|p| backends::selects(selector, p));
                let result = match plan(&service, &selected, present.as_deref()) {
                    None => return Ok(None),
                    Some(Action::Create(e)) => api.create(&PostParams::default(), &e).await,
                    Some(Action::Update(e)) => api.replace(name, &PostParams::default(), &e).await,
                };
                match result {
                    Ok(written) => {
                        endpoints.remember(written);
                        Ok(None)
                    }
                    Err(e) if ownership::namespace_terminates(&e) => Ok(None),
                    Err(e) => Err(e),
                }
            }
        })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(n: usize, ready: bool) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": format!("p{n}"), "uid": format!("u{n}"), "labels": {"a": "b"}},
                "spec": {"containers": []},
                "status": {"phase": "Running", "podIP": format!("10.1.{}.{}", n / 200, n % 200 + 1),
                    "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
            }))
            .unwrap(),
        )
    }

    fn service() -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "n"},
            "spec": {"clusterIP": "10.0.0.1", "selector": {"a": "b"}, "ports": [{"port": 80, "targetPort": 8080}]},
        }))
        .unwrap()
    }

    #[test]
    fn made_then_left_alone() {
        let pods = vec![pod(2, true), pod(1, true), pod(3, false)];
        let Some(Action::Create(e)) = plan(&service(), &pods, None) else { panic!() };
        let subset = &e.subsets.as_ref().unwrap()[0];
        let ips: Vec<_> = subset.addresses.iter().flatten().map(|a| a.ip.as_str()).collect();
        assert_eq!(ips, ["10.1.0.2", "10.1.0.3"]);
        assert_eq!(subset.not_ready_addresses.as_ref().unwrap().len(), 1);
        assert_eq!(subset.ports.as_ref().unwrap()[0].port, 8080);
        assert_eq!(plan(&service(), &pods, Some(&e)), None);
        let Some(Action::Update(e)) = plan(&service(), &[], Some(&e)) else { panic!() };
        assert_eq!(e.subsets, None);
    }

    #[test]
    fn a_thousand_at_most_ready_ones_first() {
        let mut pods: Vec<_> = (0..1100).map(|n| pod(n, n >= 200)).collect();
        pods.truncate(1100);
        let Some(Action::Create(e)) = plan(&service(), &pods, None) else { panic!() };
        let s = &e.subsets.as_ref().unwrap()[0];
        assert_eq!(s.addresses.as_ref().unwrap().len(), 900);
        assert_eq!(s.not_ready_addresses.as_ref().unwrap().len(), 100);
        assert_eq!(e.annotations()[OVER_CAPACITY], "truncated");
        assert_eq!(plan(&service(), &pods, Some(&e)), None);
    }
}
