//! Cluster IPs and node ports of Services: who has which, and giving out free ones.
//!
//! A claim is a key of its own in the store (an IPAddress object for an address, an internal key for a port), made
//! before the Service is written: two servers can't give out the same one, and a Service that then fails to be
//! written gives its claims back. Source: KEP-1880 (IPAddress, ServiceCIDR); Service reference.

pub mod families;
pub mod repair;

use api::catalogue::Resource;
use api::kinds::ipaddress::gives_out;
use api::kinds::service::{headless, needs_health_check_port, needs_node_port};
use api::validation::access::{field, int, list, text, texts};
use bytes::Bytes;
use families::{V4, V6, family_of};
use ipnet::IpNet;
use meta::field::{Errors, Path};
use meta::status::{Result, Status};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use store::{Cas, Store};

pub struct ServiceAddresses {
    store: Arc<dyn Store>,
    /// The ranges of the ServiceCIDR `kubernetes`, one for each family that the cluster has, the preferred one first.
    pub cidrs: Vec<IpNet>,
    pub node_ports: RangeInclusive<u16>,
}

/// Keys claimed for a write that has not happened yet.
#[must_use]
pub struct Claim {
    store: Arc<dyn Store>,
    keys: Vec<String>,
    /// Looks whether the keys are free, and takes none.
    dry_run: bool,
}

impl Claim {
    fn new(store: &Arc<dyn Store>, dry_run: bool) -> Claim {
        Claim { store: store.clone(), keys: Vec::new(), dry_run }
    }

    /// False when somebody has the key.
    async fn take(&mut self, key: String, value: impl FnOnce() -> Bytes) -> Result<bool> {
        let free = match self.dry_run {
            true => self.store.get(&key).is_none() && !self.keys.contains(&key),
            false => {
                let made = self.store.create(&key, value(), None).await;
                matches!(made.map_err(crate::registry::store_error)?, Cas::Done { .. })
            }
        };
        if free {
            self.keys.push(key);
        }
        Ok(free)
    }

    /// The write succeeded: the keys stay.
    pub fn keep(mut self) {
        self.keys.clear();
    }

    pub async fn release(mut self) {
        for key in self.keys.drain(..).filter(|_| !self.dry_run) {
            let _ = self.store.delete(&key, None).await;
        }
    }
}

fn ip_key(ip: IpAddr) -> String {
    crate::reader::key("networking.k8s.io", "ipaddresses", "", &ip.to_string())
}

const PORTS: &str = "/registry/ranges/servicenodeports/";

/// Whatever the protocol: one of TCP and one of UDP are the same Service's.
fn port_key(port: i64) -> String {
    format!("{PORTS}{port}")
}

fn is_service(row: &Resource) -> bool {
    row.group.is_empty() && row.kind == "Service"
}

impl ServiceAddresses {
    pub fn new(store: Arc<dyn Store>, cidrs: Vec<IpNet>, node_ports: RangeInclusive<u16>) -> ServiceAddresses {
        ServiceAddresses { store, cidrs, node_ports }
    }

    /// Gives a Service the families, addresses and ports that it needs, or says why not. Does nothing for other kinds.
    pub async fn claim(
        &self,
        row: &Resource,
        service: &mut Value,
        old: Option<&Value>,
        dry_run: bool,
    ) -> Result<Claim> {
        let mut claim = Claim::new(&self.store, dry_run);
        if !is_service(row) {
            return Ok(claim);
        }
        let cluster: Vec<&str> = self.cidrs.iter().map(|c| if c.addr().is_ipv4() { V4 } else { V6 }).collect();
        families::settle(service, old, &cluster)?;
        let result = match self.claim_ips(service, old, &mut claim).await {
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

    pub fn no_claim(&self) -> Claim {
        Claim::new(&self.store, false)
    }

    async fn claim_ips(&self, service: &mut Value, old: Option<&Value>, claim: &mut Claim) -> Result<()> {
        let spec = field(service, "spec");
        let families: Vec<String> = texts(spec, "ipFamilies").into_iter().map(str::to_string).collect();
        if text(spec, "type") == "ExternalName" || headless(spec) {
            return Ok(());
        }
        let first = match old.map(|o| field(o, "spec")) {
            None => 0,
            Some(old) if text(old, "type") == "ExternalName" => 0,
            Some(old) if headless(old) => return Ok(()),
            Some(old) if list(old, "ipFamilies").len() == 1 && families.len() == 2 => 1,
            Some(_) => return Ok(()),
        };
        let mut ips: Vec<String> = texts(spec, "clusterIPs").into_iter().map(str::to_string).collect();
        if ips.len() < families.len() {
            ips.resize(families.len(), String::new());
        }
        let asked = ips.clone();
        for (ip, family) in ips.iter_mut().zip(&families).skip(first) {
            if ip.is_empty() {
                *ip = self.claim_free_ip(family, service, claim).await?.to_string();
                continue;
            }
            let parsed: IpAddr =
                ip.parse().map_err(|_| Status::internal(format!("failed to parse service IP {ip:?}")))?;
            let why = if !self.ranges(family)?.iter().any(|range| gives_out(range, parsed)) {
                "the provided network does not match the current range"
            } else if !take_ip(parsed, service, claim).await? {
                "provided IP is already allocated"
            } else {
                continue;
            };
            let why = format!("failed to allocate IP {ip}: {why}");
            return Err(invalid(service, Path::new("spec.clusterIPs"), asked, &why));
        }
        service["spec"]["clusterIP"] = ips.first().cloned().into();
        service["spec"]["clusterIPs"] = ips.into();
        Ok(())
    }

    /// The ranges of a family that give out addresses: those of every ServiceCIDR that is ready and stays.
    fn ranges(&self, family: &str) -> Result<Vec<IpNet>> {
        let mut out = self.ranges_of(serves)?;
        out.retain(|range| range.addr().is_ipv4() == (family == V4));
        // That of the cluster first: those that users add are for when it is full.
        out.sort_by_key(|range| !self.cidrs.contains(range));
        Ok(out)
    }

    /// The ranges of some ServiceCIDRs. Before the first start has made the one called `kubernetes`, its ranges count all
    /// the same.
    fn ranges_of(&self, wanted: impl Fn(&Value) -> bool) -> Result<Vec<IpNet>> {
        let prefix = crate::reader::prefix("networking.k8s.io", "servicecidrs", "");
        let page = self.store.list(&prefix, &Default::default()).map_err(crate::registry::store_error)?;
        let objects: Vec<Value> = page.entries.iter().map(crate::registry::stored::decode).collect();
        let mut out = Vec::new();
        if !objects.iter().any(|o| o["metadata"]["name"] == "kubernetes") {
            out.extend(&self.cidrs);
        }
        for object in objects.iter().filter(|o| wanted(o)) {
            out.extend(texts(field(object, "spec"), "cidrs").iter().filter_map(|c| c.parse::<IpNet>().ok()));
        }
        Ok(out)
    }

    /// A free address of the first range that has one.
    async fn claim_free_ip(&self, family: &str, service: &Value, claim: &mut Claim) -> Result<IpAddr> {
        for range in self.ranges(family)? {
            for ip in candidates(range) {
                if self.store.get(&ip_key(ip)).is_none() && take_ip(ip, service, claim).await? {
                    return Ok(ip);
                }
            }
        }
        Err(Status::internal("failed to allocate a serviceIP: range is full"))
    }

    async fn claim_ports(&self, service: &mut Value, old: Option<&Value>, claim: &mut Claim) -> Result<()> {
        let owner = format!("{}/{}", text(&service["metadata"], "namespace"), text(&service["metadata"], "name"));
        let mut ports = Ports { range: &self.node_ports, owner: &owner, claim };
        if matches!(text(&service["spec"], "type"), "NodePort" | "LoadBalancer") {
            match old {
                None => ports.of_new(service).await?,
                Some(old) => ports.of_changed(service, old).await?,
            }
        }
        if needs_health_check_port(field(service, "spec"))
            && old.is_none_or(|o| !needs_health_check_port(field(o, "spec")))
        {
            ports.for_health_checks(service).await?;
        }
        Ok(())
    }

    /// Gives back everything of a Service that is gone. Its Endpoints go along, whoever made them, so that another
    /// Service of the name doesn't begin with them.
    pub async fn release(&self, row: &Resource, service: &Value) {
        if !is_service(row) {
            return;
        }
        let meta = &service["metadata"];
        let key = crate::reader::key("", "endpoints", text(meta, "namespace"), text(meta, "name"));
        if let Some(endpoints) = self.store.get(&key)
            && list(&crate::registry::stored::decode(&endpoints)["metadata"], "finalizers").is_empty()
        {
            let _ = self.store.delete(&key, Some(endpoints.mod_revision)).await;
        }
        self.release_unused(row, service, &Value::Null).await;
    }

    /// Gives back what `old` had and `new` no longer has.
    pub async fn release_unused(&self, row: &Resource, old: &Value, new: &Value) {
        if !is_service(row) {
            return;
        }
        let (keys, kept) = (keys_of(old), keys_of(new));
        for key in keys.iter().filter(|k| !kept.contains(k)) {
            let _ = self.store.delete(key, None).await;
        }
    }
}

async fn take_ip(ip: IpAddr, service: &Value, claim: &mut Claim) -> Result<bool> {
    let meta = &service["metadata"];
    let object = || {
        let now = crate::registry::create::now_seconds();
        crate::registry::stored::encode(&json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
            "metadata": {
                "name": ip.to_string(), "uid": uuid::Uuid::new_v4().to_string(), "creationTimestamp": now,
                "labels": {FAMILY_LABEL: family_of(&ip.to_string()), MANAGED_BY_LABEL: MANAGER},
            },
            "spec": {"parentRef": {"resource": "services", "namespace": meta["namespace"], "name": meta["name"]}},
        }))
    };
    claim.take(ip_key(ip), object).await
}

const FAMILY_LABEL: &str = "ipaddress.kubernetes.io/ip-family";
const MANAGED_BY_LABEL: &str = "ipaddress.kubernetes.io/managed-by";
const MANAGER: &str = "ipallocator.k8s.io";

struct Ports<'a> {
    range: &'a RangeInclusive<u16>,
    owner: &'a str,
    claim: &'a mut Claim,
}

impl Ports<'_> {
    /// Ports of one number share a node port, whatever their protocols.
    async fn of_new(&mut self, service: &mut Value) -> Result<()> {
        let wants = needs_node_port(field(service, "spec"));
        let all = list(field(service, "spec"), "ports").to_vec();
        let mut given: HashMap<i64, i64> = HashMap::new();
        for (i, port) in all.iter().enumerate() {
            let (number, asked) = (int(port, "port").unwrap_or(0), node_port(port));
            if asked == 0 && !wants {
                continue;
            }
            let wished = all.iter().filter(|p| int(p, "port") == int(port, "port")).map(node_port).find(|n| *n != 0);
            let node = match (given.get(&number), wished) {
                (Some(given), _) if asked == 0 || asked == *given => *given,
                (Some(_), _) => self.take(service, i, asked).await?,
                (None, Some(wished)) => self.take(service, i, wished).await?,
                (None, None) => self.next("a nodePort").await?,
            };
            given.entry(number).or_insert(node);
            service["spec"]["ports"][i]["nodePort"] = node.into();
        }
        Ok(())
    }

    async fn of_changed(&mut self, service: &mut Value, old: &Value) -> Result<()> {
        let wants = needs_node_port(field(service, "spec"));
        let mut held: Vec<i64> = list(field(old, "spec"), "ports").iter().map(node_port).collect();
        let mut seen: Vec<(String, i64)> = Vec::new();
        for i in 0..list(field(service, "spec"), "ports").len() {
            let port = &service["spec"]["ports"][i];
            let (protocol, mut node) = (text(port, "protocol").to_string(), node_port(port));
            if node == 0 && !wants {
                continue;
            }
            if node == 0 {
                node = self.next("a nodePort").await?;
                service["spec"]["ports"][i]["nodePort"] = node.into();
            } else if !held.contains(&node) {
                self.take(service, i, node).await?;
                held.push(node);
            }
            let this = (protocol, node);
            if seen.contains(&this) {
                return Err(Status::new(500, "", format!("duplicate nodePort: {{{} {}}}", this.0, this.1)));
            }
            seen.push(this);
        }
        Ok(())
    }

    async fn for_health_checks(&mut self, service: &mut Value) -> Result<()> {
        match int(field(service, "spec"), "healthCheckNodePort").unwrap_or(0) {
            0 => service["spec"]["healthCheckNodePort"] = self.next("a HealthCheck NodePort 0").await?.into(),
            asked => {
                if let Some(why) = self.refusal(asked).await? {
                    let why = format!("failed to allocate requested HealthCheck NodePort {asked}: {why}");
                    return Err(Status::internal(why));
                }
            }
        }
        Ok(())
    }

    async fn take(&mut self, service: &Value, i: usize, port: i64) -> Result<i64> {
        match self.refusal(port).await? {
            None => Ok(port),
            Some(why) => Err(invalid(service, Path::new("spec.ports").index(i).child("nodePort"), port, &why)),
        }
    }

    /// Takes the port, or says why it can't be had.
    async fn refusal(&mut self, port: i64) -> Result<Option<String>> {
        if !u16::try_from(port).is_ok_and(|p| self.range.contains(&p)) {
            return Ok(Some(format!(
                "provided port is not in the valid range. The range of valid ports is {}-{}",
                self.range.start(),
                self.range.end()
            )));
        }
        let owner = self.owner;
        let free = self.claim.take(port_key(port), || owner.to_string().into()).await?;
        Ok((!free).then(|| "provided port is already allocated".to_string()))
    }

    /// Any free one.
    async fn next(&mut self, what: &str) -> Result<i64> {
        let (first, last) = (u64::from(*self.range.start()), u64::from(*self.range.end()));
        // KEP-3668: the lower part is left to ports that users choose.
        let count = last - first + 1;
        let lower = if count <= 16 { 0 } else { (count / 32).clamp(16, 128) };
        for port in spread(first, first + lower, last) {
            if self.claim.store.get(&port_key(port as i64)).is_none() && self.refusal(port as i64).await?.is_none() {
                return Ok(port as i64);
            }
        }
        Err(Status::internal(format!("failed to allocate {what}: range is full")))
    }
}

fn node_port(port: &Value) -> i64 {
    int(port, "nodePort").unwrap_or(0)
}

/// The addresses of a Service.
fn ips_of(service: &Value) -> Vec<IpAddr> {
    texts(field(service, "spec"), "clusterIPs").iter().filter_map(|ip| ip.parse().ok()).collect()
}

/// The node ports of a Service, that for health checks with them.
fn ports_of(service: &Value) -> Vec<i64> {
    let spec = field(service, "spec");
    let mut out: Vec<i64> = list(spec, "ports").iter().map(node_port).collect();
    out.extend(int(spec, "healthCheckNodePort"));
    out.retain(|p| *p != 0);
    out.sort_unstable();
    out.dedup();
    out
}

/// What a Service claims.
fn keys_of(service: &Value) -> Vec<String> {
    ips_of(service).into_iter().map(ip_key).chain(ports_of(service).into_iter().map(port_key)).collect()
}

/// Whether a ServiceCIDR's ranges may be used. One that says nothing of being ready is: who says so may not run yet.
fn serves(service_cidr: &Value) -> bool {
    let conditions = service_cidr["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions.into_iter().find(|c| c["type"] == "Ready").is_none_or(|c| c["status"] == "True");
    ready && service_cidr["metadata"]["deletionTimestamp"].is_null()
}

/// All addresses of a range, those of its upper part first (KEP-3070: the lower part is left to addresses that users
/// choose).
fn candidates(range: IpNet) -> impl Iterator<Item = IpAddr> {
    let (base, bits) = match range {
        IpNet::V4(r) => (u128::from(u32::from(r.network())), 32 - r.prefix_len()),
        IpNet::V6(r) => (u128::from(r.network()), 128 - r.prefix_len()),
    };
    let v4 = range.addr().is_ipv4();
    // No Service gets the first one, nor the broadcast address of IPv4. Nobody has so many that the rest would matter.
    let size = 1u64 << bits.min(48);
    let last = size.saturating_sub(if v4 { 2 } else { 1 });
    let lower = (size / 16).clamp(16, 256).min(last);
    spread(1, lower + 1, last).map(move |n| match base + u128::from(n) {
        n if v4 => Ipv4Addr::from(n as u32).into(),
        n => Ipv6Addr::from(n).into(),
    })
}

/// `first` to `last`, those from `upper` on before the others, each part from a random place on.
fn spread(first: u64, upper: u64, last: u64) -> impl Iterator<Item = u64> {
    [(upper, last), (first, upper.saturating_sub(1))].into_iter().filter(|(from, to)| from <= to).flat_map(
        |(from, to)| {
            let span = to - from + 1;
            let start = rand::random_range(0..span);
            (0..span).map(move |i| from + (start + i) % span)
        },
    )
}

fn invalid(service: &Value, path: Path, value: impl Into<Value>, why: &str) -> Status {
    let mut errors = Errors::default();
    errors.invalid(path, value, why);
    Status::invalid("", "Service", service["metadata"]["name"].as_str().unwrap_or(""), &errors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::put;
    use std::collections::BTreeSet;

    fn service_cidr(name: &str, cidr: &str, more: Value) -> Value {
        let mut o = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": name}, "spec": {"cidrs": [cidr]}});
        for (key, value) in more.as_object().into_iter().flatten() {
            let part = if key == "deletionTimestamp" { &mut o["metadata"] } else { &mut o["status"] };
            part[key] = value.clone();
        }
        o
    }

    fn row() -> std::sync::Arc<Resource> {
        let mut rows = api::catalogue::builtin().into_iter();
        rows.find(|r| r.group.is_empty() && r.kind == "Service").unwrap()
    }

    fn addresses(cidrs: &[&str]) -> ServiceAddresses {
        let cidrs = cidrs.iter().map(|c| c.parse().unwrap()).collect();
        ServiceAddresses::new(store::memory::open(), cidrs, 30000..=30010)
    }

    fn service(name: &str, spec: Value) -> Value {
        let mut s =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "d", "name": name}, "spec": spec});
        row().strategy.defaults(&mut s);
        row().strategy.prepare_create(&mut s, true);
        s
    }

    async fn made(addresses: &ServiceAddresses, name: &str, spec: Value) -> Result<Value> {
        let mut service = service(name, spec);
        addresses.claim(&row(), &mut service, None, false).await?.keep();
        Ok(service)
    }

    async fn changed(addresses: &ServiceAddresses, old: &Value, change: Value) -> Result<Value> {
        let mut new = old.clone();
        new = meta::patch::merge::apply(&new, &json!({"spec": change})).unwrap();
        row().strategy.defaults(&mut new);
        row().strategy.prepare_update(&mut new, old, true);
        addresses.claim(&row(), &mut new, Some(old), false).await?.keep();
        addresses.release_unused(&row(), old, &new).await;
        Ok(new)
    }

    /// Addresses and ports that somebody has.
    fn claimed(addresses: &ServiceAddresses) -> Vec<String> {
        let ips = crate::reader::prefix("networking.k8s.io", "ipaddresses", "");
        let of = |prefix: &str| addresses.store.list(prefix, &Default::default()).unwrap().entries;
        [of(&ips), of(PORTS)].concat().iter().map(|e| e.key.rsplit('/').next().unwrap().to_string()).collect()
    }

    async fn claim(addresses: &ServiceAddresses, name: &str, ip: &str) -> Result<String> {
        let service = made(addresses, name, json!({"clusterIP": ip})).await?;
        Ok(service["spec"]["clusterIP"].as_str().unwrap().to_string())
    }

    #[tokio::test]
    async fn ranges_of_users_follow_when_the_first_is_full() {
        let addresses = addresses(&["10.0.0.0/30"]);
        let reader = crate::reader::Reader::new(addresses.store.clone());
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

    #[tokio::test]
    async fn two_families() {
        let addresses = addresses(&["10.0.0.0/24", "fd00::/112"]);
        let one = made(&addresses, "one", json!({"clusterIP": "10.0.0.7"})).await.unwrap();
        let two = changed(&addresses, &one, json!({"ipFamilyPolicy": "RequireDualStack"})).await.unwrap();
        let second = two["spec"]["clusterIPs"][1].as_str().unwrap();
        assert!(second.starts_with("fd00::"), "{two}");
        assert_eq!(two["spec"]["clusterIPs"][0], "10.0.0.7");
        assert_eq!(claimed(&addresses), ["10.0.0.7", second]);
        let taken =
            json!({"clusterIP": "10.0.0.8", "clusterIPs": ["10.0.0.8", second], "ipFamilyPolicy": "PreferDualStack"});
        let refused = made(&addresses, "b", taken).await.unwrap_err().message;
        assert!(refused.ends_with(&format!("failed to allocate IP {second}: provided IP is already allocated")));
        assert_eq!(claimed(&addresses), ["10.0.0.7", second]);
        let single = changed(&addresses, &two, json!({"ipFamilyPolicy": "SingleStack"})).await.unwrap();
        assert_eq!(single["spec"]["clusterIPs"], json!(["10.0.0.7"]));
        assert_eq!(claimed(&addresses), ["10.0.0.7"]);
        let named = json!({"type": "ExternalName", "externalName": "x"});
        let named = changed(&addresses, &single, named).await.unwrap();
        assert_eq!((&named["spec"]["clusterIPs"], &named["spec"]["ipFamilyPolicy"]), (&Value::Null, &Value::Null));
        assert!(claimed(&addresses).is_empty());
        let back = json!({"type": "ClusterIP", "ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6"]});
        let back = changed(&addresses, &named, back).await.unwrap();
        assert_eq!(back["spec"]["ipFamilies"], json!(["IPv6", "IPv4"]));
        assert_eq!(claimed(&addresses).len(), 2);
        let reader = crate::reader::Reader::new(addresses.store.clone());
        // Of the test's helper each kind is a singular.
        let endpoints = |name: &str, finalizers: Value| json!({"apiVersion": "v1", "kind": "Endpoint", "metadata": {"namespace": "d", "name": name, "finalizers": finalizers}});
        put(&reader, &endpoints("one", json!([]))).await;
        put(&reader, &endpoints("other", json!([]))).await;
        addresses.release(&row(), &back).await;
        assert!(claimed(&addresses).is_empty());
        let there = |name: &str| reader.get("", "endpoints", "d", name).is_some();
        assert!(!there("one") && there("other"));
        put(&reader, &endpoints("one", json!(["a.b/c"]))).await;
        addresses.release(&row(), &back).await;
        assert!(there("one"));
    }

    #[tokio::test]
    async fn node_ports_are_of_one_service_whatever_the_protocol() {
        let addresses = addresses(&["10.0.0.0/24"]);
        let of = |ports: Value| json!({"type": "NodePort", "clusterIP": "10.0.0.1", "ports": ports});
        let nodes = |s: &Value| -> Vec<i64> { list(&s["spec"], "ports").iter().map(node_port).collect() };
        let dns =
            of(json!([{"name": "u", "port": 53, "protocol": "UDP"}, {"name": "t", "port": 53, "nodePort": 30005}]));
        let dns = made(&addresses, "dns", dns).await.unwrap();
        assert_eq!(nodes(&dns), [30005, 30005]);
        let other = |port: i64, protocol: &str| json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": port, "protocol": protocol}]});
        let why =
            |s: Status| s.message.strip_prefix("Service \"o\" is invalid: spec.ports[0].nodePort: ").map(String::from);
        for protocol in ["TCP", "UDP", "SCTP"] {
            let refused = why(made(&addresses, "o", other(30005, protocol)).await.unwrap_err());
            assert_eq!(refused.as_deref(), Some("Invalid value: 30005: provided port is already allocated"));
        }
        let refused = why(made(&addresses, "o", other(80, "TCP")).await.unwrap_err()).unwrap();
        assert_eq!(
            refused,
            "Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-30010"
        );
        assert_eq!(claimed(&addresses), ["10.0.0.1", "30005"]);
        // An update that leaves node ports out keeps them by name.
        let renumbered = json!({"ports": [{"name": "t", "port": 54}, {"name": "x", "port": 53, "protocol": "UDP"}]});
        let renumbered = changed(&addresses, &dns, renumbered).await.unwrap();
        assert_eq!(nodes(&renumbered)[0], 30005);
        assert_ne!(nodes(&renumbered)[1], 30005);
        let twice = json!({"ports": [{"name": "a", "port": 1, "nodePort": 30001}, {"name": "b", "port": 2, "nodePort": 30001}]});
        let refused = changed(&addresses, &renumbered, twice).await.unwrap_err();
        assert_eq!((refused.code, &*refused.message), (500, "duplicate nodePort: {TCP 30001}"));
        let plain = changed(&addresses, &renumbered, json!({"type": "ClusterIP"})).await.unwrap();
        assert_eq!((nodes(&plain), claimed(&addresses)), (vec![0, 0], vec!["10.0.0.1".to_string()]));
    }

    #[tokio::test]
    async fn ports_for_health_checks() {
        let addresses = addresses(&["10.0.0.0/24"]);
        let lb = |more: Value| {
            let mut spec = json!({"type": "LoadBalancer", "clusterIP": "10.0.0.1", "externalTrafficPolicy": "Local",
                "allocateLoadBalancerNodePorts": false, "ports": [{"port": 80}]});
            spec = meta::patch::merge::apply(&spec, &more).unwrap();
            spec
        };
        let given = made(&addresses, "a", lb(json!({"healthCheckNodePort": 30003}))).await.unwrap();
        assert_eq!(claimed(&addresses), ["10.0.0.1", "30003"]);
        let taken = lb(json!({"clusterIP": "10.0.0.2", "healthCheckNodePort": 30003}));
        assert_eq!(
            made(&addresses, "b", taken).await.unwrap_err().message,
            "Internal error occurred: failed to allocate requested HealthCheck NodePort 30003: provided port is already allocated"
        );
        let cluster = changed(&addresses, &given, json!({"externalTrafficPolicy": "Cluster"})).await.unwrap();
        assert_eq!(claimed(&addresses), ["10.0.0.1"]);
        let local = changed(&addresses, &cluster, json!({"externalTrafficPolicy": "Local"})).await.unwrap();
        let port = local["spec"]["healthCheckNodePort"].as_i64().unwrap();
        assert_eq!(claimed(&addresses), ["10.0.0.1".to_string(), port.to_string()]);
    }

    #[tokio::test]
    async fn dry_runs_check_and_take_nothing() {
        let addresses = addresses(&["10.0.0.0/24"]);
        let spec = |ip: &str, port: i64| json!({"type": "NodePort", "clusterIP": ip, "ports": [{"port": 80, "nodePort": port}]});
        made(&addresses, "a", spec("10.0.0.1", 30001)).await.unwrap();
        let try_it = async |spec: Value, old: Option<&Value>| {
            let mut new = service("b", spec);
            addresses.claim(&row(), &mut new, old, true).await.map(|claim| {
                claim.keep();
                new
            })
        };
        let new = try_it(spec("", 0), None).await.unwrap();
        assert!(new["spec"]["clusterIP"].as_str().unwrap().starts_with("10.0.0."), "{new}");
        assert!(new["spec"]["ports"][0]["nodePort"].as_i64().unwrap() >= 30000, "{new}");
        assert_eq!(new["spec"]["ipFamilies"], json!(["IPv4"]));
        for (ip, port, why) in [("10.0.0.1", 0, "provided IP is already"), ("", 30001, "provided port is already")] {
            let refused = try_it(spec(ip, port), None).await.unwrap_err().message;
            assert!(refused.contains(why), "{refused}");
        }
        let named = service("b", json!({"type": "ExternalName", "externalName": "x"}));
        let refused = try_it(spec("10.0.0.1", 0), Some(&named)).await.unwrap_err().message;
        assert!(refused.contains("provided IP is already allocated"), "{refused}");
        assert_eq!(claimed(&addresses), ["10.0.0.1", "30001"]);
    }

    #[test]
    fn the_lower_part_of_a_range_comes_last() {
        // 256 addresses: 16 for users, as upstream divides them.
        let all: Vec<IpAddr> = candidates("10.0.0.0/24".parse().unwrap()).collect();
        let distinct: BTreeSet<_> = all.iter().collect();
        assert_eq!((all.len(), distinct.len()), (254, 254));
        let lower = |ip: &IpAddr| matches!(ip, IpAddr::V4(v4) if v4.octets()[3] <= 16);
        assert!(!all[..238].iter().any(lower) && all[238..].iter().all(lower));
        let six: BTreeSet<IpAddr> = candidates("fd00::/126".parse().unwrap()).collect();
        assert_eq!(six.iter().map(IpAddr::to_string).collect::<Vec<_>>(), ["fd00::1", "fd00::2", "fd00::3"]);
        for (range, expected) in [("10.0.0.4/32", 0), ("10.0.0.4/31", 0), ("10.0.0.4/30", 2)] {
            assert_eq!(candidates(range.parse().unwrap()).count(), expected, "{range}");
        }
    }
}
