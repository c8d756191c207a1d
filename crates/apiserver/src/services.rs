//! Cluster IPs and node ports of Services: who has which, and giving out free ones.
//!
//! A claim is a key of its own in the store (an IPAddress object for an address, an internal key for a port), made
//! before the Service is written: two servers can't give out the same one, and a Service that then fails to be
//! written gives its claims back. Source: KEP-1880 (IPAddress, ServiceCIDR); Service reference.

use api::catalogue::Resource;
use api::kinds::ipaddress::gives_out;
use ipnet::{IpNet, Ipv4Net};
use meta::field::{Errors, Path};
use meta::status::{Result, Status};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use store::{Cas, Store};

pub struct ServiceAddresses {
    store: Arc<dyn Store>,
    /// The range of the ServiceCIDR `kubernetes`, and the family of all others.
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
                let refused = |why: &str| {
                    let why = format!("failed to allocate IP {ip}: {why}");
                    invalid(service, "spec.clusterIPs", json!([given]), &why)
                };
                if !self.ranges()?.iter().any(|range| gives_out(range, ip)) {
                    return Err(refused("the provided network does not match the current range"));
                }
                if !self.take_ip(ip, service, claim).await? {
                    return Err(refused("provided IP is already allocated"));
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

    /// The ranges that give out addresses: those of every ServiceCIDR that is ready and stays. Before the first start
    /// has made the ServiceCIDR `kubernetes`, its range counts all the same.
    fn ranges(&self) -> Result<Vec<IpNet>> {
        let prefix = crate::reader::prefix("networking.k8s.io", "servicecidrs", "");
        let page = self.store.list(&prefix, &Default::default()).map_err(crate::registry::store_error)?;
        let objects: Vec<Value> = page.entries.iter().map(crate::registry::stored::decode).collect();
        let mut out = Vec::new();
        if !objects.iter().any(|o| o["metadata"]["name"] == "kubernetes") {
            out.push(self.cidr);
        }
        for object in objects.iter().filter(|o| serves(o)) {
            let ranges = object["spec"]["cidrs"].as_array().into_iter().flatten();
            let ranges = ranges.filter_map(|c| c.as_str()?.parse::<IpNet>().ok());
            out.extend(ranges.filter(|r| r.addr().is_ipv4() == self.cidr.addr().is_ipv4()));
        }
        // That of the cluster first: those that users add are for when it is full.
        out.sort_by_key(|range| *range != self.cidr);
        Ok(out)
    }

    /// A free address of the first range that has one.
    async fn claim_free_ip(&self, service: &Value, claim: &mut Claim) -> Result<IpAddr> {
        let taken: BTreeSet<u32> = self
            .store
            .list(&crate::reader::prefix("networking.k8s.io", "ipaddresses", ""), &Default::default())
            .map_err(crate::registry::store_error)?
            .entries
            .iter()
            .filter_map(|e| e.key.rsplit('/').next()?.parse::<Ipv4Addr>().ok())
            .map(u32::from)
            .collect();
        for range in self.ranges()? {
            let IpNet::V4(range) = range else {
                return Err(Status::internal("only IPv4 service ranges give out addresses"));
            };
            for ip in candidates(range).filter(|ip| !taken.contains(&u32::from(*ip))) {
                if self.take_ip(ip.into(), service, claim).await? {
                    return Ok(ip.into());
                }
            }
        }
        Err(Status::internal("failed to allocate a serviceIP: range is full"))
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

/// Whether a ServiceCIDR's ranges may be used. One that says nothing of being ready is: who says so may not run yet.
fn serves(service_cidr: &Value) -> bool {
    let conditions = service_cidr["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions.into_iter().find(|c| c["type"] == "Ready").is_none_or(|c| c["status"] == "True");
    ready && service_cidr["metadata"]["deletionTimestamp"].is_null()
}

/// All addresses of a range, those of its upper part first, each part from a random place on: the lower part is left to
/// addresses that users choose (KEP-3070).
fn candidates(range: Ipv4Net) -> impl Iterator<Item = Ipv4Addr> {
    let size = 1u64 << (32 - range.prefix_len());
    let (base, last) = (u64::from(u32::from(range.network())), size.saturating_sub(2));
    let lower_end = (size / 16).clamp(16, 256).min(last);
    [(lower_end + 1, last), (1, lower_end)].into_iter().filter(|(from, to)| from <= to).flat_map(move |(from, to)| {
        let span = to - from + 1;
        let start = rand::random_range(0..span);
        (0..span).map(move |i| Ipv4Addr::from((base + from + (start + i) % span) as u32))
    })
}

fn invalid(service: &Value, path: &str, value: impl Into<Value>, why: &str) -> Status {
    let mut errors = Errors::default();
    errors.invalid(Path::new(path), value, why);
    Status::invalid("", "Service", service["metadata"]["name"].as_str().unwrap_or(""), &errors)
}

fn invalid_number(service: &Value, path: &str, value: i64, why: &str) -> Status {
    let mut errors = Errors::default();
    errors.invalid(Path::new(path), value, why);
    Status::invalid("", "Service", service["metadata"]["name"].as_str().unwrap_or(""), &errors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::put;
    use meta::status::Status;

    fn service_cidr(name: &str, cidr: &str, more: Value) -> Value {
        let mut o = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": name}, "spec": {"cidrs": [cidr]}});
        for (key, value) in more.as_object().into_iter().flatten() {
            let part = if key == "deletionTimestamp" { &mut o["metadata"] } else { &mut o["status"] };
            part[key] = value.clone();
        }
        o
    }

    async fn claim(addresses: &ServiceAddresses, name: &str, ip: &str) -> std::result::Result<String, Status> {
        let mut service = json!({"metadata": {"namespace": "d", "name": name}, "spec": {"clusterIP": ip}});
        let row = api::catalogue::builtin().into_iter().find(|r| r.group.is_empty() && r.kind == "Service").unwrap();
        addresses.claim(&row, &mut service, None).await?.keep();
        Ok(service["spec"]["clusterIP"].as_str().unwrap().to_string())
    }

    #[tokio::test]
    async fn ranges_of_users_follow_when_the_first_is_full() {
        let store = store::memory::open();
        let reader = crate::reader::Reader::new(store.clone());
        let addresses = ServiceAddresses::new(store, "10.0.0.0/30".parse().unwrap(), 30000..=30010);
        // Two addresses, before any object is there.
        let mut first = [claim(&addresses, "a", "").await.unwrap(), claim(&addresses, "b", "").await.unwrap()];
        first.sort();
        assert_eq!(first, ["10.0.0.1", "10.0.0.2"]);
        let full = "failed to allocate a serviceIP: range is full";
        assert!(claim(&addresses, "c", "").await.unwrap_err().message.ends_with(full));
        put(&reader, &service_cidr("kubernetes", "10.0.0.0/30", Value::Null)).await;
        let not_ready = json!({"conditions": [{"type": "Ready", "status": "False"}]});
        put(&reader, &service_cidr("unready", "10.1.0.0/24", not_ready)).await;
        put(&reader, &service_cidr("going", "10.2.0.0/24", json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}))).await;
        put(&reader, &service_cidr("six", "fd00::/64", Value::Null)).await;
        assert!(claim(&addresses, "c", "").await.unwrap_err().message.ends_with(full));
        let mismatch = |ip: &str| {
            format!(
                "Service \"c\" is invalid: spec.clusterIPs: Invalid value: [\"{ip}\"]: failed to allocate IP {ip}: the provided network does not match the current range"
            )
        };
        for ip in ["10.1.0.7", "10.2.0.7", "10.3.0.7"] {
            assert_eq!(claim(&addresses, "c", ip).await.unwrap_err().message, mismatch(ip));
        }
        let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        put(&reader, &service_cidr("more", "10.3.0.0/29", ready)).await;
        for ip in ["10.3.0.0", "10.3.0.7"] {
            assert_eq!(claim(&addresses, "c", ip).await.unwrap_err().message, mismatch(ip));
        }
        assert_eq!(claim(&addresses, "c", "10.3.0.3").await.unwrap(), "10.3.0.3");
        let again = claim(&addresses, "d", "10.3.0.3").await.unwrap_err().message;
        assert!(again.ends_with("failed to allocate IP 10.3.0.3: provided IP is already allocated"), "{again}");
        for n in 0..5 {
            let got = claim(&addresses, &format!("d{n}"), "").await.unwrap();
            assert!(got.starts_with("10.3.0."), "{got}");
        }
        assert!(claim(&addresses, "e", "").await.unwrap_err().message.ends_with(full));
    }

    #[test]
    fn the_lower_part_of_a_range_comes_last() {
        // 256 addresses: 16 for users, as upstream divides them.
        let all: Vec<Ipv4Addr> = candidates("10.0.0.0/24".parse().unwrap()).collect();
        let distinct: BTreeSet<_> = all.iter().collect();
        assert_eq!((all.len(), distinct.len()), (254, 254));
        assert!(all[..238].iter().all(|ip| ip.octets()[3] > 16) && all[238..].iter().all(|ip| ip.octets()[3] <= 16));
        for (range, expected) in [("10.0.0.4/32", 0), ("10.0.0.4/31", 0), ("10.0.0.4/30", 2)] {
            assert_eq!(candidates(range.parse().unwrap()).count(), expected, "{range}");
        }
    }
}
