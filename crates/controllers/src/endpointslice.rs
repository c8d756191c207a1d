//! EndpointSlices: the addresses behind each Service, a hundred to a slice.
//!
//! In: Services, pods, nodes (for zones) and the slices that are there. Out: as few writes of slices as possible, since
//! every node hears of each.

use crate::expectations::Expectations;
use crate::{Context, backends, ownership, pods};
use client::{Change, Informer, Queue};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ObjectMeta, PostParams, Preconditions};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

const NAME: &str = "endpointslice-controller";
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
pub const HEADLESS: &str = "service.kubernetes.io/headless";
const ZONE: &str = "topology.kubernetes.io/zone";
/// Endpoints in one slice.
const SLICE_MAX: usize = 100;
const WORKERS: usize = 5;

pub struct Observed<'a> {
    pub service: &'a Service,
    /// That the Service selects.
    pub pods: Vec<Arc<Pod>>,
    /// Zone by node name.
    pub zones: HashMap<String, String>,
    /// Those that this controller manages for the Service.
    pub slices: Vec<Arc<EndpointSlice>>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Create(Box<EndpointSlice>),
    Update(Box<EndpointSlice>),
    Delete(Arc<EndpointSlice>),
}

/// Ports in a fixed order; endpoints in one slice share them.
type Ports = Vec<EndpointPort>;

pub fn plan(observed: &Observed) -> Vec<Action> {
    let mut actions = Vec::new();
    let families = families(observed.service);
    for slice in &observed.slices {
        if !families.contains(&slice.address_type.as_str()) {
            actions.push(Action::Delete(slice.clone()));
        }
    }
    for family in families {
        plan_family(observed, family, &mut actions);
    }
    actions
}

fn families(service: &Service) -> Vec<&'static str> {
    let named = service.spec.as_ref().and_then(|s| s.ip_families.as_deref()).unwrap_or_default();
    let known: Vec<_> = named.iter().map(|f| if f == "IPv6" { "IPv6" } else { "IPv4" }).collect();
    if known.is_empty() { vec!["IPv4"] } else { known }
}

fn plan_family(observed: &Observed, family: &'static str, actions: &mut Vec<Action>) {
    let service = observed.service;
    let labels = slice_labels(service);
    let mut wanted: Vec<(Ports, BTreeMap<String, Endpoint>)> = Vec::new();
    for pod in &observed.pods {
        let Some(endpoint) = endpoint(service, pod, family, &observed.zones) else { continue };
        let ports = ports(service, pod);
        let key = identity(&endpoint);
        match wanted.iter_mut().find(|(p, _)| *p == ports) {
            Some((_, group)) => {
                group.insert(key, endpoint);
            }
            None => wanted.push((ports, BTreeMap::from([(key, endpoint)]))),
        }
    }
    if wanted.is_empty() {
        // An empty slice says that the Service was seen.
        wanted.push((Vec::new(), BTreeMap::new()));
    }

    let mut rest: Vec<&Arc<EndpointSlice>> = observed.slices.iter().filter(|s| s.address_type == family).collect();
    for (ports, mut group) in wanted {
        let empty_wanted = group.is_empty();
        let (mut matching, others): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|s| s.ports.as_deref().unwrap_or_default() == ports);
        rest = others;
        matching.sort_by_key(|s| s.name_any());
        let mut slices: Vec<(&Arc<EndpointSlice>, EndpointSlice)> = matching
            .into_iter()
            .map(|s| {
                let mut new = (**s).clone();
                let kept = s
                    .endpoints
                    .iter()
                    .flatten()
                    .filter_map(|e| group.remove(&identity(e)))
                    .take(SLICE_MAX)
                    .collect::<Vec<_>>();
                new.endpoints = Some(kept);
                new.metadata.labels = Some(labels.clone());
                (s, new)
            })
            .collect();
        // What is new goes first into slices that are written anyway, then into any with room, fullest first.
        slices.sort_by_key(|(old, new)| (same(old, new), std::cmp::Reverse(count(new))));
        let mut added = group.into_values();
        for (_, new) in &mut slices {
            let room = SLICE_MAX.saturating_sub(count(new));
            new.endpoints.get_or_insert_default().extend(added.by_ref().take(room));
        }
        let keep_one = empty_wanted && !slices.is_empty();
        for (n, (old, new)) in slices.into_iter().enumerate() {
            if count(&new) == 0 && !(keep_one && n == 0) {
                actions.push(Action::Delete(old.clone()));
            } else if !same(old, &new) {
                actions.push(Action::Update(Box::new(new)));
            }
        }
        let mut left: Vec<Endpoint> = added.collect();
        if empty_wanted && !keep_one {
            actions.push(Action::Create(Box::new(new_slice(service, family, &labels, &ports, Vec::new()))));
        }
        while !left.is_empty() {
            let tail = left.split_off(left.len().min(SLICE_MAX));
            actions.push(Action::Create(Box::new(new_slice(service, family, &labels, &ports, left))));
            left = tail;
        }
    }
    // Of ports that no pod has any more.
    actions.extend(rest.into_iter().map(|s| Action::Delete(s.clone())));
}

fn count(slice: &EndpointSlice) -> usize {
    slice.endpoints.as_ref().map_or(0, Vec::len)
}

fn same(old: &EndpointSlice, new: &EndpointSlice) -> bool {
    old.endpoints.as_deref().unwrap_or_default() == new.endpoints.as_deref().unwrap_or_default()
        && old.metadata.labels == new.metadata.labels
}

/// What makes an endpoint the same one as before.
fn identity(e: &Endpoint) -> String {
    let uid = e.target_ref.as_ref().and_then(|t| t.uid.as_deref()).unwrap_or_default();
    format!("{uid}/{}", e.addresses.join(","))
}

fn slice_labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.labels().clone();
    labels.remove(HEADLESS);
    labels.insert(SERVICE_NAME.into(), service.name_any());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    if backends::is_headless(service) {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels
}

fn new_slice(
    service: &Service,
    family: &str,
    labels: &BTreeMap<String, String>,
    ports: &Ports,
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", service.name_any())),
            namespace: service.namespace(),
            labels: Some(labels.clone()),
            owner_references: Some(vec![ownership::controller_reference(service)]),
            ..ObjectMeta::default()
        },
        address_type: family.into(),
        endpoints: Some(endpoints),
        ports: Some(ports.clone()),
    }
}

fn ports(service: &Service, pod: &Pod) -> Ports {
    let of_service = service.spec.as_ref().and_then(|s| s.ports.as_deref()).unwrap_or_default();
    let mut ports: Ports = of_service
        .iter()
        .filter_map(|p| {
            Some(EndpointPort {
                name: Some(p.name.clone().unwrap_or_default()),
                port: Some(backends::port_of(pod, p)?),
                protocol: Some(p.protocol.clone().unwrap_or_else(|| "TCP".into())),
                app_protocol: p.app_protocol.clone(),
            })
        })
        .collect();
    ports.sort_by(|a, b| (&a.name, a.port, &a.protocol).cmp(&(&b.name, b.port, &b.protocol)));
    ports
}

fn endpoint(service: &Service, pod: &Pod, family: &str, zones: &HashMap<String, String>) -> Option<Endpoint> {
    if pods::is_finished(pod) {
        return None;
    }
    let address = backends::addresses(pod).into_iter().find(|a| a.is_ipv6() == (family == "IPv6"))?;
    let (serving, terminating) = (pods::is_ready(pod), pods::is_terminating(pod));
    let node_name = pod.spec.as_ref().and_then(|s| s.node_name.clone()).filter(|n| !n.is_empty());
    let zone = node_name.as_ref().and_then(|n| zones.get(n)).cloned();
    let ready = backends::publishes_not_ready(service) || (serving && !terminating);
    Some(Endpoint {
        addresses: vec![address.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: backends::hostname(pod, service),
        hints: if ready { hints(service, node_name.as_deref(), zone.as_deref()) } else { None },
        node_name,
        target_ref: Some(backends::target(pod)),
        zone,
        deprecated_topology: None,
    })
}

/// Whom an endpoint serves first, as the Service's `trafficDistribution` says. The older way to ask, by annotation, has
/// precedence; it gives no hints where endpoints can't be divided fairly, which here is everywhere.
fn hints(service: &Service, node: Option<&str>, zone: Option<&str>) -> Option<EndpointHints> {
    let annotations = service.metadata.annotations.as_ref();
    let mode = ["service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"];
    let mode = annotations.and_then(|a| mode.iter().find_map(|m| a.get(*m)));
    if mode.is_some_and(|m| m == "Auto" || m == "auto") {
        return None;
    }
    let same_node = match service.spec.as_ref()?.traffic_distribution.as_deref()? {
        "PreferClose" | "PreferSameZone" => false,
        "PreferSameNode" => true,
        _ => return None,
    };
    let zone = zone.map(|z| vec![ForZone { name: z.into() }]);
    let node = node.filter(|_| same_node).map(|n| vec![ForNode { name: n.into() }]);
    (zone.is_some() || node.is_some()).then_some(EndpointHints { for_zones: zone, for_nodes: node })
}

pub async fn run(context: Context) {
    let client = context.client(NAME);
    let services = context.informers.of::<Service>();
    let pods = context.informers.of::<Pod>();
    let nodes = context.informers.of::<Node>();
    let slices = context.informers.of::<EndpointSlice>();
    let expectations = Expectations::default();
    let queue = Queue::new();
    services.wait_synced().await;
    pods.wait_synced().await;
    nodes.wait_synced().await;
    slices.wait_synced().await;

    backends::watch(&queue, &services, &pods);
    let (q, e) = (queue.clone(), expectations.clone());
    slices.on_change(move |change| {
        for slice in change.old().into_iter().chain([change.object()]) {
            let labels = slice.labels();
            if let Some(service) = labels.get(SERVICE_NAME).filter(|_| is_ours(slice)) {
                let key = format!("{}/{service}", slice.namespace().unwrap_or_default());
                if matches!(change, Change::Added(_)) {
                    e.created(&key);
                }
                q.add(key);
            }
        }
    });
    let (q, s) = (queue.clone(), services.clone());
    nodes.on_change(move |change| {
        if change.old().is_none_or(|o| o.labels().get(ZONE) != change.object().labels().get(ZONE)) {
            for service in s.list() {
                if backends::selector(&service).is_some() {
                    q.add_after(client::informer::key_of(&*service), backends::BATCH);
                }
            }
        }
    });

    queue
        .run("endpointslice", WORKERS, context.shutdown.clone(), move |key| {
            let (client, services, pods) = (client.clone(), services.clone(), pods.clone());
            let (nodes, slices, expectations) = (nodes.clone(), slices.clone(), expectations.clone());
            async move {
                let Some(service) = services.get(&key) else {
                    expectations.forget(&key);
                    return Ok::<_, kube::Error>(None);
                };
                let Some(selector) = backends::selector(&service) else { return Ok(None) };
                if service.metadata.deletion_timestamp.is_some() || !expectations.satisfied(&key) {
                    return Ok(None);
                }
                let namespace = service.namespace().unwrap_or_default();
                let name = service.name_any();
                let mut mine = slices.in_namespace(&namespace);
                mine.retain(|s| {
                    is_ours(s) && s.labels().get(SERVICE_NAME) == Some(&name) && s.metadata.deletion_timestamp.is_none()
                });
                let mut selected = pods.in_namespace(&namespace);
                selected.retain(|p| backends::selects(selector, p));
                let zones =
                    nodes.list().iter().filter_map(|n| Some((n.name_any(), n.labels().get(ZONE)?.clone()))).collect();
                let actions = plan(&Observed { service: &service, pods: selected, zones, slices: mine });
                let api: Api<EndpointSlice> = Api::namespaced(client, &namespace);
                carry_out(&api, &slices, actions, &expectations, &key).await.map(|()| None)
            }
        })
        .await;
}

/// Does all that can be done, and tells the first failure that wasn't to be expected. `key`: whose slices they are.
pub async fn carry_out(
    api: &Api<EndpointSlice>,
    slices: &Informer<EndpointSlice>,
    actions: Vec<Action>,
    expectations: &Expectations,
    key: &str,
) -> Result<(), kube::Error> {
    let creations = actions.iter().filter(|a| matches!(a, Action::Create(_))).count();
    expectations.expect_creations(key, creations);
    let mut error = None;
    for action in actions {
        if let Err(e) = act(api, slices, &action).await {
            if matches!(action, Action::Create(_)) {
                expectations.created(key);
            }
            if !ownership::namespace_terminates(&e) && !ownership::gone(&e) {
                error.get_or_insert(e);
            }
        }
    }
    error.map_or(Ok(()), Err)
}

async fn act(api: &Api<EndpointSlice>, slices: &Informer<EndpointSlice>, action: &Action) -> Result<(), kube::Error> {
    match action {
        Action::Create(s) => api.create(&PostParams::default(), s).await.map(|_| ()),
        Action::Update(s) => {
            slices.remember(api.replace(&s.name_any(), &PostParams::default(), s).await?);
            Ok(())
        }
        Action::Delete(s) => {
            let same = DeleteParams::default().preconditions(Preconditions { uid: s.uid(), resource_version: None });
            api.delete(&s.name_any(), &same).await.map(|_| ())
        }
    }
}

fn is_ours(slice: &EndpointSlice) -> bool {
    slice.labels().get(MANAGED_BY).is_some_and(|m| m == MANAGER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(extra: serde_json::Value) -> Service {
        let mut v = json!({
            "metadata": {"name": "web", "namespace": "n", "uid": "s", "labels": {"team": "x"}},
            "spec": {"clusterIP": "10.0.0.1", "selector": {"a": "b"},
                "ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]},
        });
        for (k, x) in extra.as_object().unwrap() {
            v["spec"][k] = x.clone();
        }
        serde_json::from_value(v).unwrap()
    }

    fn pod(n: usize, port: i32, ready: &str) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": format!("p{n}"), "namespace": "n", "uid": format!("u{n}"), "labels": {"a": "b"}},
                "spec": {"nodeName": "node", "hostname": format!("h{n}"), "subdomain": "web",
                    "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": port}]}]},
                "status": {"phase": "Running", "podIP": format!("10.1.{}.{}", n / 200, n % 200 + 1),
                    "conditions": [{"type": "Ready", "status": ready}]},
            }))
            .unwrap(),
        )
    }

    /// Does what a plan says, until it says nothing. Returns the slices and the number of writes.
    fn settle(
        service: &Service,
        pods: Vec<Arc<Pod>>,
        mut slices: Vec<Arc<EndpointSlice>>,
    ) -> (Vec<Arc<EndpointSlice>>, usize) {
        let mut writes = 0;
        for round in 0.. {
            let zones = HashMap::from([("node".to_string(), "z1".to_string())]);
            let actions = plan(&Observed { service, pods: pods.clone(), zones, slices: slices.clone() });
            if actions.is_empty() {
                break;
            }
            assert!(round < 1, "one pass must be enough: {actions:?}");
            for a in actions {
                writes += 1;
                match a {
                    Action::Create(mut s) => {
                        s.metadata.name = Some(format!("web-{writes}-{}", slices.len()));
                        slices.push(Arc::new(*s));
                    }
                    Action::Update(s) => {
                        let at = slices.iter().position(|o| o.name_any() == s.name_any()).unwrap();
                        slices[at] = Arc::new(*s);
                    }
                    Action::Delete(s) => slices.retain(|o| o.name_any() != s.name_any()),
                }
            }
        }
        (slices, writes)
    }

    fn all(slices: &[Arc<EndpointSlice>]) -> usize {
        slices.iter().map(|s| count(s)).sum()
    }

    #[test]
    fn one_endpoint_tells_all() {
        let s = service(json!({"trafficDistribution": "PreferClose"}));
        let (slices, _) = settle(&s, vec![pod(1, 8080, "True")], vec![]);
        let slice = &slices[0];
        assert_eq!(slice.ports.as_ref().unwrap()[0].port, Some(8080));
        assert_eq!(slice.labels()["team"], "x");
        assert_eq!(slice.labels()[SERVICE_NAME], "web");
        assert!(!slice.labels().contains_key(HEADLESS));
        let e = &slice.endpoints.as_ref().unwrap()[0];
        assert_eq!(e.hostname.as_deref(), Some("h1"));
        assert_eq!(e.zone.as_deref(), Some("z1"));
        assert_eq!(e.hints.as_ref().unwrap().for_zones.as_ref().unwrap()[0].name, "z1");
        assert_eq!(e.conditions.as_ref().unwrap().ready, Some(true));
        let mut annotated = s;
        annotated.annotations_mut().insert("service.kubernetes.io/topology-mode".into(), "Auto".into());
        let (slices, _) = settle(&annotated, vec![pod(1, 8080, "True")], vec![]);
        assert_eq!(slices[0].endpoints.as_ref().unwrap()[0].hints, None);
    }

    #[test]
    fn conditions_follow_the_pod() {
        let mut going = (*pod(1, 80, "True")).clone();
        going.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap());
        let conditions = |s: &Service, p: Pod| {
            let (slices, _) = settle(s, vec![Arc::new(p)], vec![]);
            let c = slices[0].endpoints.as_ref().unwrap()[0].conditions.clone().unwrap();
            (c.ready.unwrap(), c.serving.unwrap(), c.terminating.unwrap())
        };
        let plain = service(json!({}));
        let eager = service(json!({"publishNotReadyAddresses": true, "clusterIP": "None"}));
        assert_eq!(conditions(&plain, going.clone()), (false, true, true));
        assert_eq!(conditions(&plain, (*pod(1, 80, "False")).clone()), (false, false, false));
        assert_eq!(conditions(&eager, (*pod(1, 80, "False")).clone()), (true, false, false));
        let (slices, _) = settle(&eager, vec![], vec![]);
        assert_eq!(slices[0].labels()[HEADLESS], "");
    }

    #[test]
    fn slices_fill_and_change_little() {
        let s = service(json!({}));
        let (none, _) = settle(&s, vec![], vec![]);
        assert_eq!((none.len(), all(&none)), (1, 0), "a placeholder");
        let pods: Vec<_> = (0..250).map(|n| pod(n, 80, "True")).collect();
        let (slices, _) = settle(&s, pods.clone(), none);
        assert_eq!((slices.len(), all(&slices)), (3, 250));
        // One pod changes: one write.
        let mut changed = pods.clone();
        changed[7] = pod(7, 80, "False");
        let (slices, writes) = settle(&s, changed, slices);
        assert_eq!(writes, 1);
        // One goes, another comes: one write.
        let mut replaced: Vec<_> = pods[1..].to_vec();
        replaced[6] = pod(7, 80, "False");
        replaced.push(pod(300, 80, "True"));
        let (slices, writes) = settle(&s, replaced, slices);
        assert_eq!((writes, all(&slices)), (1, 250));
        // All but one go.
        let (slices, _) = settle(&s, vec![pods[3].clone()], slices);
        assert_eq!((slices.len(), all(&slices)), (1, 1));
        let (slices, _) = settle(&s, vec![], slices);
        assert_eq!((slices.len(), all(&slices)), (1, 0));
    }

    #[test]
    fn named_ports_split_slices() {
        let s = service(json!({}));
        let (slices, _) = settle(&s, vec![pod(1, 80, "True"), pod(2, 81, "True"), pod(3, 80, "True")], vec![]);
        let mut ports: Vec<_> = slices.iter().map(|s| (s.ports.as_ref().unwrap()[0].port, count(s))).collect();
        ports.sort();
        assert_eq!(ports, [(Some(80), 2), (Some(81), 1)]);
    }
}
