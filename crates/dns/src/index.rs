//! What names the cluster has: per Service its kind, ports and endpoints, and a reverse index of addresses. Pure.

use crate::wire::Name;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

/// The label that ties a slice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Slices came, but no Service yet (or no more).
    #[default]
    Unknown,
    Cluster(Vec<IpAddr>),
    Headless {
        publish_not_ready: bool,
    },
    /// The text of `spec.externalName`.
    External(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Empty for a Service's only, unnamed port: such a port has no SRV name.
    pub name: String,
    /// `tcp`, `udp`, `sctp`
    pub protocol: String,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: IpAddr,
    pub hostname: Option<String>,
    pub ready: bool,
}

impl Endpoint {
    /// The endpoint's label: its hostname, or its address with dashes.
    pub fn label(&self) -> String {
        match (&self.hostname, self.address) {
            (Some(hostname), _) => hostname.clone(),
            (None, IpAddr::V4(a)) => a.to_string().replace('.', "-"),
            (None, IpAddr::V6(a)) => a.to_string().replace(':', "-"),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    pub endpoints: Vec<Endpoint>,
    pub ports: Vec<Port>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub kind: Kind,
    pub ports: Vec<Port>,
    slices: BTreeMap<String, Slice>,
}

impl Entry {
    /// Endpoints that have names, with the ports of their slice.
    pub fn endpoints(&self) -> impl Iterator<Item = (&Endpoint, &[Port])> {
        let unready_too = matches!(self.kind, Kind::Headless { publish_not_ready: true });
        let all = self.slices.values().flat_map(|s| s.endpoints.iter().map(move |e| (e, &s.ports[..])));
        all.filter(move |(e, _)| e.ready || unready_too)
    }

    fn addresses(&self) -> Vec<IpAddr> {
        let endpoints = self.slices.values().flat_map(|s| s.endpoints.iter().map(|e| e.address));
        match &self.kind {
            Kind::Cluster(ips) => ips.iter().copied().chain(endpoints).collect(),
            _ => endpoints.collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.kind == Kind::Unknown && self.slices.is_empty()
    }
}

/// All names of the cluster.
#[derive(Debug, Default)]
pub struct Index {
    namespaces: HashMap<String, HashMap<String, Entry>>,
    /// Address → Services that have it as ClusterIP or endpoint.
    reverse: HashMap<IpAddr, BTreeSet<(String, String)>>,
}

impl Index {
    /// A Service that exists.
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Entry> {
        self.namespaces.get(namespace)?.get(name).filter(|e| e.kind != Kind::Unknown)
    }

    pub fn has_namespace(&self, namespace: &str) -> bool {
        self.namespaces.contains_key(namespace)
    }

    /// Services that have this address, as `(namespace, name, entry)`.
    pub fn by_address(&self, address: IpAddr) -> impl Iterator<Item = (&str, &str, &Entry)> {
        let services = self.reverse.get(&address).into_iter().flatten();
        services.filter_map(|(ns, name)| Some((ns.as_str(), name.as_str(), self.service(ns, name)?)))
    }

    pub fn apply_service(&mut self, service: &Service) {
        let Some(spec) = &service.spec else { return };
        let kind = if spec.type_.as_deref() == Some("ExternalName") {
            Kind::External(spec.external_name.clone().unwrap_or_default())
        } else if spec.cluster_ip.as_deref() == Some("None") {
            Kind::Headless { publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false) }
        } else {
            let mut ips: Vec<IpAddr> =
                spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip).filter_map(|ip| ip.parse().ok()).collect();
            ips.dedup();
            let mut seen = BTreeSet::new();
            ips.retain(|ip| seen.insert(*ip));
            Kind::Cluster(ips)
        };
        let ports = spec
            .ports
            .iter()
            .flatten()
            .filter_map(|p| port(p.name.as_deref(), p.protocol.as_deref(), p.port))
            .collect();
        self.change(&service.metadata.namespace, &service.metadata.name, |entry| {
            entry.kind = kind;
            entry.ports = ports;
        });
    }

    pub fn remove_service(&mut self, service: &Service) {
        self.change(&service.metadata.namespace, &service.metadata.name, |entry| {
            entry.kind = Kind::Unknown;
            entry.ports.clear();
        });
    }

    pub fn apply_slice(&mut self, slice: &EndpointSlice) {
        let content = Slice {
            endpoints: slice.endpoints.iter().flatten().filter_map(endpoint).collect(),
            ports: slice
                .ports
                .iter()
                .flatten()
                .filter_map(|p| port(p.name.as_deref(), p.protocol.as_deref(), p.port?))
                .collect(),
        };
        self.change(&slice.metadata.namespace, &service_of(slice), |entry| {
            entry.slices.insert(slice.metadata.name.clone().unwrap_or_default(), content);
        });
    }

    pub fn remove_slice(&mut self, slice: &EndpointSlice) {
        self.change(&slice.metadata.namespace, &service_of(slice), |entry| {
            entry.slices.remove(slice.metadata.name.as_deref().unwrap_or_default());
        });
    }

    fn change(&mut self, namespace: &Option<String>, name: &Option<String>, edit: impl FnOnce(&mut Entry)) {
        let (Some(namespace), Some(name)) = (namespace, name) else {
            return;
        };
        let services = self.namespaces.entry(namespace.clone()).or_default();
        let entry = services.entry(name.clone()).or_default();
        let key = (namespace.clone(), name.clone());
        for address in entry.addresses() {
            if let Some(services) = self.reverse.get_mut(&address) {
                services.remove(&key);
                if services.is_empty() {
                    self.reverse.remove(&address);
                }
            }
        }
        edit(entry);
        for address in entry.addresses() {
            self.reverse.entry(address).or_default().insert(key.clone());
        }
        if entry.is_empty() {
            services.remove(name);
            if services.is_empty() {
                self.namespaces.remove(namespace);
            }
        }
    }
}

fn service_of(slice: &EndpointSlice) -> Option<String> {
    slice.metadata.labels.as_ref()?.get(SERVICE_NAME).cloned()
}

fn port(name: Option<&str>, protocol: Option<&str>, port: i32) -> Option<Port> {
    Some(Port {
        name: name.unwrap_or_default().to_ascii_lowercase(),
        protocol: protocol.unwrap_or("TCP").to_ascii_lowercase(),
        port: u16::try_from(port).ok()?,
    })
}

fn endpoint(endpoint: &k8s_openapi::api::discovery::v1::Endpoint) -> Option<Endpoint> {
    Some(Endpoint {
        address: endpoint.addresses.first()?.parse().ok()?,
        // A hostname that is no label can't be asked for.
        hostname: endpoint
            .hostname
            .clone()
            .filter(|h| !h.contains('.') && Name::parse(h).is_some_and(|n| !n.labels().is_empty()))
            .map(|h| h.to_ascii_lowercase()),
        ready: endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true),
    })
}
