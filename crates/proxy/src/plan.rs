//! What one Service means on this node: its frontends, each with the endpoints that may serve it. Pure.
//!
//! Mirrors upstream's endpoint selection (`CategorizeEndpoints`): ready endpoints; if there are none, terminating
//! ones that still serve (KEP-1669); for `Local` policies the same among this node's own.

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};
use std::net::Ipv4Addr;
use std::time::Duration;

/// The node for which plans are made.
#[derive(Clone, Debug, Default)]
pub struct Node {
    pub name: String,
    /// Sources inside are pods: they keep their address on the way to a ClusterIP.
    pub cluster_cidrs: Vec<IpNet>,
}

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const SCTP: u8 = 132;

/// `ClientIP` affinity when the Service names no timeout.
const AFFINITY_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10_800);

/// Where clients connect to. `address: None` is every local address: a node port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Listen {
    pub address: Option<Ipv4Addr>,
    pub protocol: u8,
    pub port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Backend {
    pub address: Ipv4Addr,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frontend {
    pub listen: Listen,
    pub action: Action,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// No endpoint anywhere: tell the client at once.
    Reject,
    /// A `Local` policy and no endpoint here: stay silent, as upstream does, so that a load balancer tries another node.
    Drop,
    Balance(Balance),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    pub backends: Vec<Backend>,
    pub reach: Reach,
    pub affinity: Option<Duration>,
    /// Backends on this node, which can be their own clients and then need a masquerade.
    pub here: Vec<Ipv4Addr>,
}

/// Who comes in here, and what becomes of the source address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// A ClusterIP: masqueraded unless the client is a pod.
    Cluster,
    /// From outside, to any node: always masqueraded, since the backend must answer through this node.
    External,
    /// `externalTrafficPolicy: Local`: outside clients keep their address and get these backends only; pods and the
    /// node itself get all.
    ExternalLocal { local: Vec<Backend> },
}

/// The frontends of a Service. Empty for those that have none on the wire (headless, ExternalName, other proxies').
pub fn plan(service: &Service, slices: &[&EndpointSlice], node: &Node) -> Vec<Frontend> {
    let mut frontends = Vec::new();
    let Some(spec) = service.spec.as_ref() else {
        return frontends;
    };
    let service_type = spec.type_.as_deref().unwrap_or("ClusterIP");
    let foreign =
        service.metadata.labels.as_ref().is_some_and(|l| l.contains_key("service.kubernetes.io/service-proxy-name"));
    if service_type == "ExternalName" || foreign {
        return frontends;
    }
    let cluster_ips = cluster_ips(spec);
    if cluster_ips.is_empty() {
        return frontends;
    }
    let affinity = affinity(spec);
    let internal_local = spec.internal_traffic_policy.as_deref() == Some("Local");
    let external_local = spec.external_traffic_policy.as_deref() == Some("Local");
    let external_ips = external_ips(service, spec);

    for port in spec.ports.iter().flatten() {
        let Some(number) = port_number(port.port) else {
            continue;
        };
        let protocol = match port.protocol.as_deref() {
            None | Some("TCP") => TCP,
            Some("UDP") => UDP,
            Some("SCTP") => SCTP,
            Some(_) => continue,
        };
        let all = Candidates::gather(slices, port.name.as_deref().unwrap_or(""), protocol, node);
        let cluster = all.choose(false);
        let local = all.choose(true);
        let mut here: Vec<Ipv4Addr> = all.0.iter().filter(|c| c.local).map(|c| c.backend.address).collect();
        here.sort();
        here.dedup();

        let action = |backends: &[Backend], reach: Reach| match (backends.is_empty(), &reach) {
            (true, Reach::ExternalLocal { local }) if !local.is_empty() => {
                Action::Balance(Balance { backends: local.clone(), reach, affinity, here: here.clone() })
            }
            (true, _) => Action::Reject,
            _ => Action::Balance(Balance { backends: backends.to_vec(), reach, affinity, here: here.clone() }),
        };
        let internal = match internal_local {
            true if local.is_empty() && !cluster.is_empty() => Action::Drop,
            true => action(&local, Reach::Cluster),
            false => action(&cluster, Reach::Cluster),
        };
        let external = match external_local {
            true => action(&cluster, Reach::ExternalLocal { local: local.clone() }),
            false => action(&cluster, Reach::External),
        };
        for address in &cluster_ips {
            frontends.push(Frontend {
                listen: Listen { address: Some(*address), protocol, port: number },
                action: internal.clone(),
            });
        }
        for address in &external_ips {
            if !cluster_ips.contains(address) {
                frontends.push(Frontend {
                    listen: Listen { address: Some(*address), protocol, port: number },
                    action: external.clone(),
                });
            }
        }
        let node_port =
            port.node_port.and_then(port_number).filter(|_| matches!(service_type, "NodePort" | "LoadBalancer"));
        if let Some(node_port) = node_port {
            frontends.push(Frontend { listen: Listen { address: None, protocol, port: node_port }, action: external });
        }
    }
    frontends
}

fn port_number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|p| *p > 0)
}

fn cluster_ips(spec: &ServiceSpec) -> Vec<Ipv4Addr> {
    let plural = spec.cluster_ips.iter().flatten();
    let mut ips: Vec<Ipv4Addr> = plural.chain(&spec.cluster_ip).filter_map(|ip| ip.parse().ok()).collect();
    ips.sort();
    ips.dedup();
    ips
}

fn external_ips(service: &Service, spec: &ServiceSpec) -> Vec<Ipv4Addr> {
    let ingress =
        service.status.iter().filter_map(|s| s.load_balancer.as_ref()).flat_map(|l| l.ingress.iter().flatten());
    // ipMode Proxy: the balancer wants to see the traffic even from inside the cluster.
    let balancer = ingress.filter(|i| i.ip_mode.as_deref() != Some("Proxy")).filter_map(|i| i.ip.as_ref());
    let balancer = balancer.filter(|_| spec.type_.as_deref() == Some("LoadBalancer"));
    let mut ips: Vec<Ipv4Addr> =
        spec.external_ips.iter().flatten().chain(balancer).filter_map(|ip| ip.parse().ok()).collect();
    ips.sort();
    ips.dedup();
    ips
}

fn affinity(spec: &ServiceSpec) -> Option<Duration> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let seconds =
        spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref()).and_then(|c| c.timeout_seconds);
    Some(
        seconds
            .and_then(|s| u64::try_from(s).ok())
            .filter(|s| *s > 0)
            .map_or(AFFINITY_TIMEOUT_DEFAULT, Duration::from_secs),
    )
}

#[derive(Clone, Copy, Debug)]
struct Candidate {
    backend: Backend,
    ready: bool,
    serving: bool,
    terminating: bool,
    local: bool,
}

struct Candidates(Vec<Candidate>);

impl Candidates {
    fn gather(slices: &[&EndpointSlice], port_name: &str, protocol: u8, node: &Node) -> Candidates {
        let mut candidates = Vec::new();
        for slice in slices.iter().filter(|s| s.address_type == "IPv4") {
            for port in slice.ports.iter().flatten() {
                let port_protocol = match port.protocol.as_deref() {
                    None | Some("TCP") => TCP,
                    Some("UDP") => UDP,
                    Some("SCTP") => SCTP,
                    Some(_) => continue,
                };
                let Some(number) = port.port.and_then(port_number) else {
                    continue;
                };
                if port.name.as_deref().unwrap_or("") != port_name || port_protocol != protocol {
                    continue;
                }
                candidates.extend(slice.endpoints.iter().flat_map(|e| candidate(e, number, node)));
            }
        }
        // While slices are being repacked an endpoint may be in two of them.
        candidates.sort_by_key(|c: &Candidate| (c.backend, !c.ready, !c.serving));
        candidates.dedup_by_key(|c| c.backend);
        Candidates(candidates)
    }

    fn choose(&self, local_only: bool) -> Vec<Backend> {
        let pool = || self.0.iter().filter(|c| c.local || !local_only);
        let ready: Vec<Backend> = pool().filter(|c| c.ready).map(|c| c.backend).collect();
        if !ready.is_empty() {
            return ready;
        }
        pool().filter(|c| c.serving && c.terminating).map(|c| c.backend).collect()
    }
}

fn candidate<'a>(endpoints: &'a [SliceEndpoint], port: u16, node: &'a Node) -> impl Iterator<Item = Candidate> + 'a {
    endpoints.iter().filter_map(move |endpoint| {
        let conditions = endpoint.conditions.as_ref();
        // Unknown is true for ready, and serving follows ready.
        let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
        Some(Candidate {
            // The first address is the endpoint's; the API says that consumers ignore the others.
            backend: Backend { address: endpoint.addresses.first()?.parse().ok()?, port },
            ready,
            serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
            terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
            local: endpoint.node_name.as_deref() == Some(node.name.as_str()),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// `(address, node, ready, serving, terminating)`
    type Row = (&'static str, &'static str, bool, bool, bool);

    fn check(spec: Value, rows: &[Row], expected: &[&str]) {
        let service: Service = serde_json::from_value(json!({"metadata": {"name": "s", "namespace": "d"}, "spec": spec, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}]}}})).unwrap();
        let endpoints: Vec<Value> = rows
            .iter()
            .map(|(ip, node, ready, serving, terminating)| json!({"addresses": [ip], "nodeName": node, "conditions": {"ready": ready, "serving": serving, "terminating": terminating}}))
            .collect();
        let slice: EndpointSlice = serde_json::from_value(json!({
            "metadata": {"name": "s-1"}, "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "dns", "port": 5353, "protocol": "UDP"}]
        }))
        .unwrap();
        let node = Node { name: "me".into(), cluster_cidrs: vec![] };
        let got: Vec<String> = plan(&service, &[&slice, &slice], &node).iter().map(show).collect();
        assert_eq!(got, expected);
    }

    fn show(f: &Frontend) -> String {
        let list = |b: &[Backend]| b.iter().map(|b| format!("{}:{}", b.address, b.port)).collect::<Vec<_>>().join(",");
        let to = match &f.action {
            Action::Reject => "reject".into(),
            Action::Drop => "drop".into(),
            Action::Balance(b) => {
                let reach = match &b.reach {
                    Reach::Cluster => "cluster".into(),
                    Reach::External => "external".into(),
                    Reach::ExternalLocal { local } => format!("local[{}]", list(local)),
                };
                let affinity = b.affinity.map(|a| format!(" for {}s", a.as_secs())).unwrap_or_default();
                format!("{reach} {}{affinity}", list(&b.backends))
            }
        };
        let address = f.listen.address.map_or("node".into(), |a| a.to_string());
        format!("{address}/{}/{} {to}", f.listen.protocol, f.listen.port)
    }

    const PORT: fn() -> Value = || json!([{"name": "http", "port": 80, "nodePort": 30080}]);
    const READY_ME: Row = ("10.42.0.5", "me", true, true, false);
    const READY_YOU: Row = ("10.42.1.5", "you", true, true, false);
    const LEAVING_ME: Row = ("10.42.0.6", "me", false, true, true);
    const LEAVING_YOU: Row = ("10.42.1.6", "you", false, true, true);
    const UNREADY: Row = ("10.42.0.7", "me", false, false, false);

    #[test]
    fn cluster_ip() {
        let spec = || json!({"clusterIP": "10.43.0.1", "ports": PORT()});
        check(
            spec(),
            &[READY_YOU, READY_ME, UNREADY, LEAVING_ME],
            &["10.43.0.1/6/80 cluster 10.42.0.5:8080,10.42.1.5:8080"],
        );
        check(spec(), &[UNREADY], &["10.43.0.1/6/80 reject"]);
        check(spec(), &[LEAVING_ME, UNREADY], &["10.43.0.1/6/80 cluster 10.42.0.6:8080"]);
        check(json!({"clusterIP": "None", "ports": PORT()}), &[READY_ME], &[]);
        check(json!({"type": "ExternalName", "externalName": "a.b"}), &[READY_ME], &[]);
        check(
            json!({"clusterIP": "10.43.0.1", "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}]}),
            &[READY_ME],
            &["10.43.0.1/17/53 cluster 10.42.0.5:5353"],
        );
        check(
            json!({"clusterIP": "10.43.0.1", "ports": [{"name": "http", "port": 53, "protocol": "UDP"}, {"name": "http", "port": 70000}]}),
            &[READY_ME],
            &["10.43.0.1/17/53 reject"],
        );
    }

    #[test]
    fn internal_policy_local() {
        let spec = || json!({"clusterIP": "10.43.0.1", "internalTrafficPolicy": "Local", "ports": PORT()});
        check(spec(), &[READY_YOU, READY_ME], &["10.43.0.1/6/80 cluster 10.42.0.5:8080"]);
        check(spec(), &[READY_YOU], &["10.43.0.1/6/80 drop"]);
        check(spec(), &[READY_YOU, LEAVING_ME], &["10.43.0.1/6/80 cluster 10.42.0.6:8080"]);
        check(spec(), &[], &["10.43.0.1/6/80 reject"]);
    }

    #[test]
    fn node_ports_external_and_balancer_addresses() {
        check(
            json!({"type": "LoadBalancer", "clusterIP": "10.43.0.1", "externalIPs": ["192.0.2.1"], "ports": PORT()}),
            &[READY_YOU],
            &[
                "10.43.0.1/6/80 cluster 10.42.1.5:8080",
                "192.0.2.1/6/80 external 10.42.1.5:8080",
                "192.0.2.9/6/80 external 10.42.1.5:8080",
                "node/6/30080 external 10.42.1.5:8080",
            ],
        );
        let local =
            || json!({"type": "NodePort", "clusterIP": "10.43.0.1", "externalTrafficPolicy": "Local", "ports": PORT()});
        check(
            local(),
            &[READY_YOU, READY_ME],
            &[
                "10.43.0.1/6/80 cluster 10.42.0.5:8080,10.42.1.5:8080",
                "node/6/30080 local[10.42.0.5:8080] 10.42.0.5:8080,10.42.1.5:8080",
            ],
        );
        check(
            local(),
            &[READY_YOU, LEAVING_ME, LEAVING_YOU],
            &["10.43.0.1/6/80 cluster 10.42.1.5:8080", "node/6/30080 local[10.42.0.6:8080] 10.42.1.5:8080"],
        );
        check(local(), &[READY_YOU], &["10.43.0.1/6/80 cluster 10.42.1.5:8080", "node/6/30080 local[] 10.42.1.5:8080"]);
        check(local(), &[], &["10.43.0.1/6/80 reject", "node/6/30080 reject"]);
    }

    #[test]
    fn affinity_timeouts() {
        check(
            json!({"clusterIP": "10.43.0.1", "sessionAffinity": "ClientIP", "ports": PORT()}),
            &[READY_ME],
            &["10.43.0.1/6/80 cluster 10.42.0.5:8080 for 10800s"],
        );
        check(
            json!({"clusterIP": "10.43.0.1", "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}, "ports": PORT()}),
            &[READY_ME],
            &["10.43.0.1/6/80 cluster 10.42.0.5:8080 for 5s"],
        );
    }
}
