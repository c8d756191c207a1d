//! Cluster IPs and node ports of Services: who has which, and giving out free ones.
//!
//! A claim is a key of its own in the store (an IPAddress object for an address, an internal key for a port), made
//! before the Service is written: two servers can't give out the same one, and a Service that then fails to be
//! written gives its claims back. Source: KEP-1880 (IPAddress, ServiceCIDR); Service reference.

use api::catalogue::Resource;
use ipnet::IpNet;
use meta::field::{Errors, Path};
use meta::status::{Result, Status};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use store::{Cas, Store};

pub struct ServiceAddresses {
    store: Arc<dyn Store>,
    /// The first is the default family's.
    pub cidr: IpNet,
    pub node_ports: std::ops::RangeInclusive<u16>,
}

/// Keys claimed for a write that has not happened yet.
#[must_use]
pub struct Claim {
    store: Arc<dyn Store>,
    keys: Vec<String>,
}

impl Claim {
    /// The write succeeded: the keys stay.
    pub fn keep(mut self) {
        self.keys.clear();
    }

    pub async fn release(mut self) {
        for key in self.keys.drain(..) {
            let _ = self.store.delete(&key, None).await;
        }
    }
}

fn ip_key(ip: &str) -> String {
    crate::reader::key("networking.k8s.io", "ipaddresses", "", ip)
}

fn port_key(port: i64, protocol: &str) -> String {
    format!("/registry/ranges/servicenodeports/{port}-{}", protocol.to_ascii_lowercase())
}

fn is_service(row: &Resource) -> bool {
    row.group.is_empty() && row.kind == "Service"
}

impl ServiceAddresses {
    pub fn new(store: Arc<dyn Store>, cidr: IpNet, node_ports: std::ops::RangeInclusive<u16>) -> ServiceAddresses {
        ServiceAddresses { store, cidr, node_ports }
    }

    /// Gives a Service the addresses and ports that it needs. Does nothing for other kinds.
    pub async fn claim(&self, row: &Resource, service: &mut Value, old: Option<&Value>) -> Result<Claim> {
        let mut claim = Claim { store: self.store.clone(), keys: Vec::new() };
        if !is_service(row) {
            return Ok(claim);
        }
        let result = match self.claim_ip(service, old, &mut claim).await {
            Ok(()) => self.claim_ports(service, old, &mut claim).await,
            e => e,
        };
        match result {
            Ok(()) => Ok(claim),
            Err(e) => {
                claim.release().await;
                Err(e)
            }
        }
    }

    async fn claim_ip(&self, service: &mut Value, old: Option<&Value>, claim: &mut Claim) -> Result<()> {
        let kind = service["spec"]["type"].as_str().unwrap_or("ClusterIP");
        if kind == "ExternalName" {
            return Ok(());
        }
        let asked = service["spec"]["clusterIP"].as_str().unwrap_or("").to_string();
        if old.is_some_and(|o| !asked.is_empty() && o["spec"]["clusterIP"] == asked.as_str()) {
            return Ok(());
        }
        let ip = match asked.as_str() {
            "None" => {
                service["spec"]["clusterIPs"] = json!(["None"]);
                self.families(service);
                return Ok(());
            }
            "" => self.claim_free_ip(service, claim).await?,
            given => {
                let ip: IpAddr = given.parse().map_err(|_| {
                    invalid(
                        service,
                        "spec.clusterIPs[0]",
                        given,
                        "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
                    )
                })?;
                if !self.cidr.contains(&ip) {
                    return Err(invalid(
                        service,
                        "spec.clusterIPs",
                        given,
                        &format!(
                            "failed to allocate IP {ip}: the provided IP ({ip}) is not in the valid range. The range of valid IPs is {}",
                            self.cidr
                        ),
                    ));
                }
                if !self.take_ip(ip, service, claim).await? {
                    return Err(invalid(
                        service,
                        "spec.clusterIPs",
                        given,
                        &format!("failed to allocate IP {ip}: provided IP is already allocated"),
                    ));
                }
                ip
            }
        };
        service["spec"]["clusterIP"] = ip.to_string().into();
        service["spec"]["clusterIPs"] = json!([ip.to_string()]);
        self.families(service);
        Ok(())
    }

    fn families(&self, service: &mut Value) {
        let family = if matches!(self.cidr, IpNet::V4(_)) { "IPv4" } else { "IPv6" };
        if service["spec"]["ipFamilies"].is_null() {
            service["spec"]["ipFamilies"] = json!([family]);
        }
        if service["spec"]["ipFamilyPolicy"].is_null() {
            service["spec"]["ipFamilyPolicy"] = "SingleStack".into();
        }
    }

    /// Random addresses of the upper part of the range first: the lower part is left to addresses that users choose
    /// (KEP-3070).
    async fn claim_free_ip(&self, service: &Value, claim: &mut Claim) -> Result<IpAddr> {
        let IpNet::V4(net) = self.cidr else {
            return Err(Status::internal("only IPv4 service ranges give out addresses"));
        };
        let size = 1u64 << (32 - net.prefix_len());
        if size < 4 {
            return Err(full(&self.cidr));
        }
        let base = u64::from(u32::from(net.network()));
        let offset = (size / 16).clamp(16, 256).min(size - 2);
        let (first, last) = (1u64, size - 2);
        let lower_end = offset.min(last);
        let taken: BTreeSet<u64> = self
            .store
            .list(&crate::reader::prefix("networking.k8s.io", "ipaddresses", ""), &Default::default())
            .map_err(crate::registry::store_error)?
            .entries
            .iter()
            .filter_map(|e| e.key.rsplit('/').next()?.parse::<Ipv4Addr>().ok())
            .map(|ip| u64::from(u32::from(ip)).wrapping_sub(base))
            .collect();
        for (from, to) in [(lower_end + 1, last), (first, lower_end)] {
            if from > to {
                continue;
            }
            let span = to - from + 1;
            let start = rand::random_range(0..span);
            for i in 0..span {
                let n = from + (start + i) % span;
                if taken.contains(&n) {
                    continue;
                }
                let ip = IpAddr::V4(Ipv4Addr::from((base + n) as u32));
                if self.take_ip(ip, service, claim).await? {
                    return Ok(ip);
                }
            }
        }
        Err(full(&self.cidr))
    }

    async fn take_ip(&self, ip: IpAddr, service: &Value, claim: &mut Claim) -> Result<bool> {
        let meta = &service["metadata"];
        let object = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
            "metadata": {
                "name": ip.to_string(),
                "uid": uuid::Uuid::new_v4().to_string(),
                "creationTimestamp": crate::registry::create::now_seconds(),
                "labels": {
                    "ipaddress.kubernetes.io/ip-family": if ip.is_ipv4() { "IPv4" } else { "IPv6" },
                    "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
                },
            },
            "spec": {"parentRef": {"resource": "services", "namespace": meta["namespace"], "name": meta["name"]}},
        });
        let key = ip_key(&ip.to_string());
        match self.store.create(&key, crate::registry::stored::encode(&object), None).await {
            Ok(Cas::Done { .. }) => {
                claim.keys.push(key);
                Ok(true)
            }
            Ok(Cas::Conflict(_)) => Ok(false),
            Err(e) => Err(crate::registry::store_error(e)),
        }
    }

    async fn claim_ports(&self, service: &mut Value, old: Option<&Value>, claim: &mut Claim) -> Result<()> {
        let spec = &service["spec"];
        let wants = match spec["type"].as_str() {
            Some("NodePort") => true,
            Some("LoadBalancer") => spec["allocateLoadBalancerNodePorts"] != false,
            _ => false,
        };
        let held = old.map(node_ports).unwrap_or_default();
        let owner = format!(
            "{}/{}",
            service["metadata"]["namespace"].as_str().unwrap_or(""),
            service["metadata"]["name"].as_str().unwrap_or("")
        );
        let count = service["spec"]["ports"].as_array().map_or(0, Vec::len);
        // TCP and UDP of one port number may share a node port within a Service.
        for i in 0..count {
            let port = service["spec"]["ports"][i].clone();
            let protocol = port["protocol"].as_str().unwrap_or("TCP").to_string();
            let asked = port["nodePort"].as_i64().unwrap_or(0);
            if asked != 0 {
                if held.contains(&(asked, protocol.clone())) {
                    continue;
                }
                let path = format!("spec.ports[{i}].nodePort");
                if !u16::try_from(asked).is_ok_and(|p| self.node_ports.contains(&p)) {
                    return Err(invalid_number(
                        service,
                        &path,
                        asked,
                        &format!(
                            "provided port is not in the valid range. The range of valid ports is {}-{}",
                            self.node_ports.start(),
                            self.node_ports.end()
                        ),
                    ));
                }
                if !self.take_port(asked, &protocol, &owner, claim).await? {
                    return Err(invalid_number(service, &path, asked, "provided port is already allocated"));
                }
            } else if wants {
                let span = u64::from(*self.node_ports.end() - *self.node_ports.start()) + 1;
                let start = rand::random_range(0..span);
                let mut found = None;
                for n in 0..span {
                    let p = i64::from(*self.node_ports.start()) + ((start + n) % span) as i64;
                    if self.take_port(p, &protocol, &owner, claim).await? {
                        found = Some(p);
                        break;
                    }
                }
                let Some(p) = found else {
                    return Err(Status::internal("failed to allocate a nodePort: range is full"));
                };
                service["spec"]["ports"][i]["nodePort"] = p.into();
            }
        }
        if service["spec"]["externalTrafficPolicy"] == "Local" && service["spec"]["type"] == "LoadBalancer" {
            let asked = service["spec"]["healthCheckNodePort"].as_i64().unwrap_or(0);
            if asked == 0 {
                for p in self.node_ports.clone().rev() {
                    if self.take_port(i64::from(p), "tcp", &owner, claim).await? {
                        service["spec"]["healthCheckNodePort"] = p.into();
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    async fn take_port(&self, port: i64, protocol: &str, owner: &str, claim: &mut Claim) -> Result<bool> {
        let key = port_key(port, protocol);
        match self.store.create(&key, owner.to_string().into_bytes().into(), None).await {
            Ok(Cas::Done { .. }) => {
                claim.keys.push(key);
                Ok(true)
            }
            Ok(Cas::Conflict(_)) => Ok(false),
            Err(e) => Err(crate::registry::store_error(e)),
        }
    }

    /// Gives back everything of a Service that is gone.
    pub async fn release(&self, row: &Resource, service: &Value) {
        if is_service(row) {
            self.release_unused(row, service, &Value::Null).await;
        }
    }

    /// Gives back what `old` had and `new` no longer has.
    pub async fn release_unused(&self, row: &Resource, old: &Value, new: &Value) {
        if !is_service(row) {
            return;
        }
        let old_ip = old["spec"]["clusterIP"].as_str().unwrap_or("");
        if !old_ip.is_empty() && old_ip != "None" && new["spec"]["clusterIP"] != old_ip {
            let _ = self.store.delete(&ip_key(old_ip), None).await;
        }
        let keep = node_ports(new);
        for (port, protocol) in node_ports(old) {
            if !keep.contains(&(port, protocol.clone())) {
                let _ = self.store.delete(&port_key(port, &protocol), None).await;
            }
        }
    }

    /// Brings claims and Services into agreement after a crash between the two writes: Services that lack their
    /// claim get it, claims whose Service is gone are dropped.
    pub async fn repair(&self) -> Result<()> {
        let page = self
            .store
            .list(&crate::reader::prefix("", "services", ""), &Default::default())
            .map_err(crate::registry::store_error)?;
        let mut wanted: BTreeSet<String> = BTreeSet::new();
        for entry in &page.entries {
            let service = crate::registry::stored::decode(entry);
            let ip = service["spec"]["clusterIP"].as_str().unwrap_or("");
            let mut claim = Claim { store: self.store.clone(), keys: Vec::new() };
            if let Ok(parsed) = ip.parse::<IpAddr>() {
                wanted.insert(ip_key(ip));
                self.take_ip(parsed, &service, &mut claim).await?;
            }
            for (port, protocol) in node_ports(&service) {
                wanted.insert(port_key(port, &protocol));
                self.take_port(port, &protocol, "", &mut claim).await?;
            }
            claim.keep();
        }
        for prefix in [
            crate::reader::prefix("networking.k8s.io", "ipaddresses", ""),
            "/registry/ranges/servicenodeports/".to_string(),
        ] {
            let claims = self.store.list(&prefix, &Default::default()).map_err(crate::registry::store_error)?;
            for e in claims.entries {
                let ours = !prefix.contains("ipaddresses")
                    || crate::registry::stored::decode(&e)["spec"]["parentRef"]["resource"] == "services";
                if ours && !wanted.contains(e.key.as_ref()) {
                    let _ = self.store.delete(&e.key, Some(e.mod_revision)).await;
                }
            }
        }
        Ok(())
    }
}

fn node_ports(service: &Value) -> Vec<(i64, String)> {
    let mut out: Vec<(i64, String)> = service["spec"]["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|p| {
            Some((p["nodePort"].as_i64().filter(|n| *n != 0)?, p["protocol"].as_str().unwrap_or("TCP").to_string()))
        })
        .collect();
    if let Some(p) = service["spec"]["healthCheckNodePort"].as_i64().filter(|n| *n != 0) {
        out.push((p, "tcp".into()));
    }
    out
}

fn full(cidr: &IpNet) -> Status {
    Status::internal(format!("failed to allocate a serviceIP: range {cidr} is full"))
}

fn invalid(service: &Value, path: &str, value: &str, why: &str) -> Status {
    let mut errors = Errors::default();
    errors.invalid(Path::new(path), value, why);
    Status::invalid("", "Service", service["metadata"]["name"].as_str().unwrap_or(""), &errors)
}

fn invalid_number(service: &Value, path: &str, value: i64, why: &str) -> Status {
    let mut errors = Errors::default();
    errors.invalid(Path::new(path), value, why);
    Status::invalid("", "Service", service["metadata"]["name"].as_str().unwrap_or(""), &errors)
}
