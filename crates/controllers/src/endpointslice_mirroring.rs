//! Mirrors hand-made Endpoints into EndpointSlices, which is all that proxies read.
//!
//! In: Endpoints of Services without a selector. Out: a slice for each family and list of ports of theirs. Upstream:
//! `endpointslicemirroring` (KEP-752).

use crate::endpointslice::{Action, MANAGED_BY, SERVICE_NAME, carry_out};
use crate::expectations::Expectations;
use crate::{Context, ownership};
use client::{Change, Queue};
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use kube::ResourceExt;
use kube::api::{Api, ObjectMeta};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

const NAME: &str = "endpointslicemirroring-controller";
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const NOT_MIRRORED: [&str; 2] =
    ["endpoints.kubernetes.io/last-change-trigger-time", "kubectl.kubernetes.io/last-applied-configuration"];
/// Of one list of ports; also of addresses in one slice.
const ADDRESSES_MAX: usize = 1000;
const WORKERS: usize = 5;

/// An address: the pod's uid tells apart those that share an IP.
type Address = (String, String);

/// Ports, and the addresses that have them all, each with whether it is ready.
type Group = (Vec<EndpointPort>, Vec<(EndpointAddress, bool)>);

/// Subsets with each address once, under all the ports that it has.
fn repack(subsets: &[EndpointSubset]) -> Vec<Group> {
    let mut known: BTreeMap<Address, EndpointAddress> = BTreeMap::new();
    let mut by_port: Vec<(EndpointPort, BTreeMap<Address, bool>)> = Vec::new();
    for subset in subsets {
        let ready = subset.addresses.iter().flatten().map(|a| (a, true));
        let all: Vec<_> = ready.chain(subset.not_ready_addresses.iter().flatten().map(|a| (a, false))).collect();
        let of = |port: &k8s_openapi::api::core::v1::EndpointPort| EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(port.port),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
            app_protocol: port.app_protocol.clone(),
        };
        let mut ports: Vec<EndpointPort> = subset.ports.iter().flatten().map(of).collect();
        if ports.is_empty() {
            // Stands for all that have none.
            ports.push(EndpointPort::default());
        }
        for port in ports {
            let at = by_port.iter().position(|(p, _)| *p == port).unwrap_or_else(|| {
                by_port.push((port, BTreeMap::new()));
                by_port.len() - 1
            });
            for (address, ready) in &all {
                let uid = address.target_ref.as_ref().and_then(|t| t.uid.clone()).unwrap_or_default();
                let key = (address.ip.clone(), uid);
                known.entry(key.clone()).or_insert_with(|| (*address).clone());
                // Who says that it isn't ready is right.
                by_port[at].1.entry(key).and_modify(|r| *r &= ready).or_insert(*ready);
            }
        }
    }
    let mut by_addresses: BTreeMap<BTreeMap<Address, bool>, Vec<EndpointPort>> = BTreeMap::new();
    for (port, addresses) in by_port.into_iter().filter(|(_, addresses)| !addresses.is_empty()) {
        by_addresses.entry(addresses).or_default().push(port);
    }
    let with_addresses = |(addresses, mut ports): (BTreeMap<Address, bool>, Vec<EndpointPort>)| {
        ports.retain(|p| p.port.is_some());
        ports.sort_by(|a, b| (&a.name, a.port, &a.protocol).cmp(&(&b.name, b.port, &b.protocol)));
        (ports, addresses.into_iter().filter_map(|(key, ready)| Some((known.get(&key)?.clone(), ready))).collect())
    };
    by_addresses.into_iter().map(with_addresses).collect()
}

/// The slices that say the same, and what of it they can't say: addresses that are none, and those that are too many.
pub fn mirror(endpoints: &Endpoints) -> (Vec<EndpointSlice>, usize, usize) {
    let mut labels = endpoints.labels().clone();
    labels.insert(SERVICE_NAME.into(), endpoints.name_any());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    let mut annotations = endpoints.annotations().clone();
    annotations.retain(|key, _| !NOT_MIRRORED.contains(&key.as_str()));
    let (mut slices, mut invalid, mut skipped) = (Vec::new(), 0, 0);
    for (ports, addresses) in repack(endpoints.subsets.as_deref().unwrap_or_default()) {
        let mut by_family: BTreeMap<&str, Vec<Endpoint>> = BTreeMap::new();
        skipped += addresses.len().saturating_sub(ADDRESSES_MAX);
        for (address, ready) in addresses.into_iter().take(ADDRESSES_MAX) {
            let Ok(ip) = address.ip.parse::<IpAddr>() else {
                invalid += 1;
                continue;
            };
            by_family.entry(if ip.is_ipv4() { "IPv4" } else { "IPv6" }).or_default().push(Endpoint {
                addresses: vec![ip.to_string()],
                conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
                hostname: address.hostname.filter(|h| !h.is_empty()),
                node_name: address.node_name,
                target_ref: address.target_ref,
                ..Endpoint::default()
            });
        }
        slices.extend(by_family.into_iter().map(|(family, found)| EndpointSlice {
            metadata: ObjectMeta {
                generate_name: Some(format!("{}-", endpoints.name_any())),
                namespace: endpoints.namespace(),
                labels: Some(labels.clone()),
                annotations: Some(annotations.clone()).filter(|a| !a.is_empty()),
                owner_references: Some(vec![ownership::controller_reference(endpoints)]),
                ..ObjectMeta::default()
            },
            address_type: family.to_string(),
            endpoints: Some(found),
            ports: Some(ports.clone()),
        }));
    }
    (slices, invalid, skipped)
}

/// From the slices that are there to those that should be.
pub fn plan(wanted: Vec<EndpointSlice>, mut present: Vec<Arc<EndpointSlice>>) -> Vec<Action> {
    present.sort_by_key(|s| s.name_any());
    let mut actions = Vec::new();
    for slice in wanted {
        let same_kind = |s: &Arc<EndpointSlice>| {
            s.address_type == slice.address_type && s.ports.as_deref() == slice.ports.as_deref()
        };
        let Some(at) = present.iter().position(same_kind) else {
            actions.push(Action::Create(Box::new(slice)));
            continue;
        };
        let old = present.remove(at);
        let mut new = (*old).clone();
        new.endpoints = slice.endpoints;
        new.metadata.labels = slice.metadata.labels;
        new.metadata.annotations = slice.metadata.annotations;
        if new != *old {
            actions.push(Action::Update(Box::new(new)));
        }
    }
    actions.extend(present.into_iter().map(Action::Delete));
    actions
}

fn is_mirrored(endpoints: &Endpoints, service: Option<&Service>) -> bool {
    endpoints.labels().get(SKIP).is_none_or(|skip| skip != "true")
        && !endpoints.annotations().contains_key(LEADER)
        && service.is_some_and(|s| s.spec.as_ref().is_none_or(|s| s.selector.as_ref().is_none_or(BTreeMap::is_empty)))
}

fn is_ours(slice: &EndpointSlice) -> bool {
    slice.labels().get(MANAGED_BY).is_some_and(|m| m == MANAGER)
}

pub async fn run(context: Context) {
    let client = context.client(NAME);
    let recorder = context.recorder(NAME);
    let services = context.informers.of::<Service>();
    let endpoints = context.informers.of::<Endpoints>();
    let slices = context.informers.of::<EndpointSlice>();
    let expectations = Expectations::default();
    let queue = Queue::new();
    services.wait_synced().await;
    endpoints.wait_synced().await;
    slices.wait_synced().await;

    let q = queue.clone();
    services.on_change(move |c| q.add(client::informer::key_of(&**c.object())));
    let q = queue.clone();
    endpoints.on_change(move |c| q.add(client::informer::key_of(&**c.object())));
    let (q, e) = (queue.clone(), expectations.clone());
    slices.on_change(move |change| {
        for slice in change.old().into_iter().chain([change.object()]).filter(|s| is_ours(s)) {
            let Some(of) = slice.labels().get(SERVICE_NAME) else { continue };
            let key = format!("{}/{of}", slice.namespace().unwrap_or_default());
            if matches!(change, Change::Added(_)) {
                e.created(&key);
            }
            q.add(key);
        }
    });

    queue
        .run(NAME, WORKERS, context.shutdown.clone(), move |key| {
            let (client, recorder, expectations) = (client.clone(), recorder.clone(), expectations.clone());
            let (services, endpoints, slices) = (services.clone(), endpoints.clone(), slices.clone());
            async move {
                if !expectations.satisfied(&key) {
                    return Ok::<_, kube::Error>(None);
                }
                let (namespace, name) = client::informer::split_key(&key);
                let mut present = slices.in_namespace(namespace);
                present.retain(|s| {
                    is_ours(s)
                        && s.labels().get(SERVICE_NAME).is_some_and(|n| n == name)
                        && s.metadata.deletion_timestamp.is_none()
                });
                let service = services.get(&key);
                let source = endpoints.get(&key).filter(|e| is_mirrored(e, service.as_deref()));
                let wanted = match &source {
                    None => Vec::new(),
                    Some(source) => {
                        let (wanted, invalid, skipped) = mirror(source);
                        let about = client::events::reference(&**source);
                        if invalid > 0 {
                            let what = "invalid IP addresses when mirroring to EndpointSlices";
                            recorder.warning(&about, "InvalidIPAddress", format!("Skipped {invalid} {what}"));
                        }
                        if skipped > 0 {
                            let note = format!(
                                "A max of {ADDRESSES_MAX} addresses can be mirrored to EndpointSlices per Endpoints subset. {skipped} addresses were skipped"
                            );
                            recorder.warning(&about, "TooManyAddressesToMirror", note);
                        }
                        wanted
                    }
                };
                let actions = plan(wanted, present);
                let api: Api<EndpointSlice> = Api::namespaced(client, namespace);
                carry_out(&api, &slices, actions, &expectations, &key).await.map(|()| None)
            }
        })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn endpoints(meta: Value, subsets: Value) -> Endpoints {
        let mut object = json!({"metadata": {"name": "db", "namespace": "n", "uid": "u"}, "subsets": subsets});
        for (key, value) in meta.as_object().into_iter().flatten() {
            object["metadata"][key] = value.clone();
        }
        serde_json::from_value(object).unwrap()
    }

    fn shown(slices: &[EndpointSlice]) -> Vec<String> {
        let ports = |s: &EndpointSlice| s.ports.iter().flatten().filter_map(|p| p.port).collect::<Vec<_>>();
        let ready = |e: &Endpoint| e.conditions.as_ref().and_then(|c| c.ready) == Some(true);
        let one = |e: &Endpoint| format!("{}{}", e.addresses[0], if ready(e) { "" } else { "!" });
        slices
            .iter()
            .map(|s| {
                let all: Vec<_> = s.endpoints.iter().flatten().map(one).collect();
                format!("{} {:?} {}", s.address_type, ports(s), all.join(","))
            })
            .collect()
    }

    #[test]
    fn slices_say_what_endpoints_say() {
        let object = endpoints(
            json!({"labels": {"team": "x"}, "annotations": {"a": "b", NOT_MIRRORED[0]: "now", NOT_MIRRORED[1]: "{}"}}),
            json!([
                {"addresses": [{"ip": "10.0.0.1", "nodeName": "node", "hostname": "h"}, {"ip": "fd00::1"}],
                 "notReadyAddresses": [{"ip": "10.0.0.2"}], "ports": [{"name": "a", "port": 80}]},
                {"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}, {"ip": "10.0.0.2"}], "ports": [{"name": "b", "port": 81}]},
                {"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "notReadyAddresses": [{"ip": "10.0.0.2"}],
                 "ports": [{"name": "c", "port": 82}]},
                {"addresses": [{"ip": "nowhere"}], "ports": [{"name": "d", "port": 83}]},
                {"addresses": [{"ip": "10.0.0.9"}]},
            ]),
        );
        let (slices, invalid, skipped) = mirror(&object);
        assert_eq!((invalid, skipped), (1, 0));
        // What is under two ports in the same way is told once.
        let mut told = shown(&slices);
        told.sort();
        assert_eq!(
            told,
            [
                "IPv4 [80, 82] 10.0.0.1,10.0.0.2!",
                "IPv4 [81] 10.0.0.1,10.0.0.2",
                "IPv4 [] 10.0.0.9",
                "IPv6 [80, 82] fd00::1",
                "IPv6 [81] fd00::1",
            ]
        );
        let slice = slices.iter().find(|s| s.ports.as_ref().unwrap().len() == 2).unwrap();
        let first = &slice.endpoints.as_ref().unwrap()[0];
        assert_eq!((first.node_name.as_deref(), first.hostname.as_deref()), (Some("node"), Some("h")));
        let labels = slice.labels();
        assert_eq!((&*labels["team"], &*labels[SERVICE_NAME], &*labels[MANAGED_BY]), ("x", "db", MANAGER));
        assert_eq!(slice.annotations(), &BTreeMap::from([("a".to_string(), "b".to_string())]));
        assert_eq!(slice.metadata.owner_references.as_ref().unwrap()[0].kind, "Endpoints");
        let many: Vec<Value> = (0..1001).map(|n| json!({"ip": format!("10.1.{}.{}", n / 200, n % 200 + 1)})).collect();
        let (slices, _, skipped) = mirror(&endpoints(json!({}), json!([{"addresses": many, "ports": [{"port": 1}]}])));
        assert_eq!((slices[0].endpoints.as_ref().unwrap().len(), skipped), (1000, 1));
    }

    #[test]
    fn slices_follow_with_as_few_writes_as_need_be() {
        let of = |subsets: Value| mirror(&endpoints(json!({}), subsets)).0;
        let named = |mut slices: Vec<EndpointSlice>| -> Vec<Arc<EndpointSlice>> {
            slices.iter_mut().enumerate().for_each(|(n, s)| s.metadata.name = Some(format!("db-{n}")));
            slices.into_iter().map(Arc::new).collect()
        };
        let one = json!([{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]);
        let present = named(of(one.clone()));
        assert_eq!(plan(of(one), present.clone()), []);
        let two = of(json!([{"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}], "ports": [{"port": 80}]}]));
        assert!(matches!(&plan(two, present.clone())[..], [Action::Update(s)] if s.name_any() == "db-0"));
        let other = of(json!([{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 81}]}]));
        assert!(matches!(&plan(other, present.clone())[..], [Action::Create(_), Action::Delete(_)]));
        assert!(matches!(&plan(Vec::new(), present)[..], [Action::Delete(_)]));
    }

    #[test]
    fn some_endpoints_are_not_mirrored() {
        let service = |selector: Value| -> Service {
            serde_json::from_value(json!({"metadata": {"name": "db"}, "spec": {"selector": selector}})).unwrap()
        };
        let (free, selecting) = (service(Value::Null), service(json!({"a": "b"})));
        let plain = endpoints(json!({}), json!([]));
        assert!(is_mirrored(&plain, Some(&free)));
        assert!(!is_mirrored(&plain, None) && !is_mirrored(&plain, Some(&selecting)));
        assert!(!is_mirrored(&endpoints(json!({"labels": {SKIP: "true"}}), json!([])), Some(&free)));
        assert!(!is_mirrored(&endpoints(json!({"annotations": {LEADER: "{}"}}), json!([])), Some(&free)));
    }
}
