//! Brings claims and Services into agreement: after a crash between the two writes, and when somebody deletes or changes
//! an IPAddress. In: Services, IPAddresses. Out: IPAddresses, claims of ports, events. Upstream: `RepairIPAddress`
//! (ipallocator-repair-controller) and `Repair` (portallocator-repair-controller).

use super::{Claim, FAMILY_LABEL, MANAGED_BY_LABEL, MANAGER, PORTS, ServiceAddresses, gives_out, port_key, ports_of};
use super::{families::family_of, ip_key, ips_of, take_ip};
use crate::bootstrap::run::send;
use crate::reader;
use crate::registry::{store_error, stored};
use crate::server::Server;
use api::validation::access::{at, field, text, text_at, texts};
use http::Method;
use ipnet::IpNet;
use jiff::Timestamp;
use meta::status::Result;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use stdx::Shutdown;
use store::{Change, Entry, Revision, Watcher};
use tokio::time::Instant;

/// Between two looks at everything.
const INTERVAL: Duration = Duration::from_secs(180);
const RETRY: Duration = Duration::from_secs(10);
/// An address exists for a while before its Service does or names it; upstream's time limit of requests. (Upstream gives
/// the second no time, and so takes addresses away from Services that just get one.)
const GRACE_SECONDS: i64 = 60;
/// So often a port must be found without a Service until it is free.
const LOOKS: u32 = 3;
/// Events are kept for an hour.
const TELL_AGAIN: Duration = Duration::from_secs(3600);
const IP_REPAIR: &str = "ipallocator-repair-controller";
const PORT_REPAIR: &str = "portallocator-repair-controller";
const CIDR_KEEPER: &str = "kubernetes-service-cidr-controller";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";

/// What is wrong with an object, to be told with it.
#[derive(Debug, PartialEq)]
struct Finding {
    reason: &'static str,
    note: String,
}

#[derive(Debug, PartialEq)]
enum Fix {
    /// None is possible.
    Nothing,
    Create,
    Recreate,
}

fn found(reason: &'static str, note: String) -> Option<Finding> {
    Some(Finding { reason, note })
}

/// What is to be done about one address of a Service. `address`: its IPAddress; `named`: the Service that it names.
fn check_service_ip(
    service: &Value,
    ip: IpAddr,
    ranges: &[IpNet],
    address: Option<&Value>,
    named: Option<&Value>,
) -> Option<(Option<Finding>, Fix)> {
    let meta = field(service, "metadata");
    let (namespace, name, family) = (text(meta, "namespace"), text(meta, "name"), family_of(&ip.to_string()));
    if !ranges.iter().any(|r| gives_out(r, ip)) {
        let note =
            format!("Cluster IP [{family}]: {ip} is not within any configured Service CIDR; please recreate service");
        return Some((found("ClusterIPOutOfRange", note), Fix::Nothing));
    }
    let Some(address) = address else {
        let note = format!("Cluster IP [{family}]: {ip} is not allocated; repairing");
        return Some((found("ClusterIPNotAllocated", note), Fix::Create));
    };
    let parent = at(address, &["spec", "parentRef"]);
    let own = (text(parent, "namespace"), text(parent, "name")) == (namespace, name);
    if !names_service(parent) || !own && named.is_none() {
        let note =
            format!("the ClusterIP [{family}]: {ip} for Service {namespace}/{name} has a wrong reference; repairing");
        return Some((found("ClusterIPNotAllocated", note), Fix::Recreate));
    }
    if !own && named.is_some_and(|s| ips_of(s).contains(&ip)) {
        let note = format!("Cluster IP [{family}]:{ip} was assigned to multiple services; please recreate service");
        return Some((found("ClusterIPAlreadyAllocated", note), Fix::Nothing));
    }
    let labels = at(address, &["metadata", "labels"]);
    let labelled = text(labels, FAMILY_LABEL) == family && text(labels, MANAGED_BY_LABEL) == MANAGER;
    (!labelled || !own).then_some((None, Fix::Recreate))
}

fn names_service(parent: &Value) -> bool {
    text(parent, "group").is_empty() && text(parent, "resource") == "services"
}

/// What of an IPAddress is to be told when it goes, or when to look at it again. `named`: the Service that it names.
fn check_address(address: &Value, named: Option<&Value>, now: Timestamp) -> (Option<Finding>, Option<Duration>) {
    let (meta, parent) = (field(address, "metadata"), at(address, &["spec", "parentRef"]));
    if text(field(meta, "labels"), MANAGED_BY_LABEL) != MANAGER {
        return (None, None);
    }
    let (ip, namespace, service) = (text(meta, "name"), text(parent, "namespace"), text(parent, "name"));
    if !names_service(parent) {
        let [group, resource] = ["group", "resource"].map(|key| text(parent, key));
        let shown =
            format!("&ParentReference{{Group:{group},Resource:{resource},Namespace:{namespace},Name:{service},}}");
        let note =
            format!("IPAddress {ip} appears to have been modified, not referencing a Service {shown}: cleaning up");
        return (found("IPAddressNotAllocated", note), None);
    }
    let (reason, note) = match named {
        Some(owner) if texts(field(owner, "spec"), "clusterIPs").contains(&ip) => return (None, None),
        None => {
            let note = format!("IPAddress: {ip} for Service {namespace}/{service} appears to have leaked: cleaning up");
            ("IPAddressNotAllocated", note)
        }
        Some(_) => {
            let note = format!("IPAddress: {ip} for Service {namespace}/{service} has a wrong reference; cleaning up");
            ("IPAddressWrongReference", note)
        }
    };
    let made = text(meta, "creationTimestamp").parse::<Timestamp>().unwrap_or_default();
    match GRACE_SECONDS - now.duration_since(made).as_secs() {
        left if left >= 0 => (None, Some(Duration::from_secs(left as u64 + 1))),
        _ => (found(reason, note), None),
    }
}

/// Each with the Service that it is about.
type OfServices<'a, T> = Vec<(&'a Value, T)>;

/// What is wrong with the ports of Services, and the claims that are missing. `claimed`: those that are there.
fn check_ports<'a>(
    services: &'a [Value],
    claimed: &HashSet<String>,
    range: &RangeInclusive<u16>,
) -> (OfServices<'a, Finding>, OfServices<'a, i64>) {
    let (mut findings, mut missing) = (Vec::new(), Vec::new());
    let mut owned: HashSet<i64> = HashSet::new();
    for service in services {
        for port in ports_of(service) {
            let (reason, note) = if !u16::try_from(port).is_ok_and(|p| range.contains(&p)) {
                let (first, last) = (range.start(), range.end());
                let note = format!("Port {port} is not within the port range {first}-{last}; please recreate service");
                ("PortOutOfRange", note)
            } else if !owned.insert(port) {
                let note = format!("Port {port} was assigned to multiple services; please recreate service");
                ("PortAlreadyAllocated", note)
            } else if !claimed.contains(&port_key(port)) {
                missing.push((service, port));
                ("PortNotAllocated", format!("Port {port} is not allocated; repairing"))
            } else {
                continue;
            };
            findings.push((service, Finding { reason, note }));
        }
    }
    (findings, missing)
}

/// The ServiceCIDR that the server made of its flags stays as it is when they change.
fn check_default(service_cidr: &Value, flags: &[IpNet]) -> Option<Finding> {
    let cidrs = texts(field(service_cidr, "spec"), "cidrs");
    let same = cidrs.len() == flags.len() && cidrs.iter().zip(flags).all(|(c, f)| c.parse() == Ok(*f));
    if same || !at(service_cidr, &["metadata", "deletionTimestamp"]).is_null() {
        return None;
    }
    let (cidrs, flags) = (cidrs.join(" "), flags.iter().map(IpNet::to_string).collect::<Vec<_>>().join(" "));
    let note = format!("The default ServiceCIDR [{cidrs}] does not match the controller flag configurations [{flags}]");
    found("KubernetesDefaultServiceCIDRInconsistent", note)
}

impl ServiceAddresses {
    /// Before anybody is served: Services that lack their claims get them.
    pub async fn repair(&self) -> Result<()> {
        let mut claim = Claim::new(&self.store, false);
        for service in self.services()? {
            let owner = owner_of(&service);
            for ip in ips_of(&service) {
                take_ip(ip, &service, &mut claim).await?;
            }
            for port in ports_of(&service) {
                claim.take(port_key(port), || owner.clone().into()).await?;
            }
        }
        claim.keep();
        Ok(())
    }

    fn services(&self) -> Result<Vec<Value>> {
        let page = self.store.list(&reader::prefix("", "services", ""), &Default::default()).map_err(store_error)?;
        Ok(page.entries.iter().map(stored::decode).collect())
    }

    /// The Service that an IPAddress names.
    fn parent_of(&self, address: &Value) -> Option<Value> {
        let parent = at(address, &["spec", "parentRef"]);
        self.service(text(parent, "namespace"), text(parent, "name")).map(|e| stored::decode(&e))
    }

    fn service(&self, namespace: &str, name: &str) -> Option<Entry> {
        self.store.get(&reader::key("", "services", namespace, name))
    }
}

fn owner_of(service: &Value) -> String {
    let meta = field(service, "metadata");
    format!("{}/{}", text(meta, "namespace"), text(meta, "name"))
}

/// Looks at everything now and then, and at once at what changes.
pub async fn keep(server: Arc<Server>, hostname: String, shutdown: Shutdown) {
    let mut repair = Repair { server, hostname, again: BTreeMap::new(), leaked: HashMap::new(), told: HashMap::new() };
    let work = async {
        loop {
            if let Err(error) = repair.until_next_look().await {
                tracing::warn!(%error, "addresses of Services could not be checked; it is tried again");
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = work => {}
    }
}

struct Repair {
    server: Arc<Server>,
    hostname: String,
    /// IPAddresses to look at again, and when.
    again: BTreeMap<String, Instant>,
    /// Claims of ports without a Service, as they were, and how often they were found.
    leaked: HashMap<String, (Revision, u32)>,
    /// What nobody but its owner can mend, and when it was told.
    told: HashMap<String, Instant>,
}

impl Repair {
    /// Looks at everything, and then at each change until it is time to do so again.
    async fn until_next_look(&mut self) -> Result<()> {
        let store = self.server.registry.store.clone();
        let watch = |prefix: String| store.watch(&prefix, store.revision()).map_err(store_error);
        let mut services = watch(reader::prefix("", "services", ""))?;
        let mut addresses = watch(reader::prefix("networking.k8s.io", "ipaddresses", ""))?;
        self.look_at_all().await?;
        let end = Instant::now() + INTERVAL;
        loop {
            let next = self.again.values().min().copied().unwrap_or(end).min(end);
            tokio::select! {
                changed = changed(&mut *services) => for service in changed? {
                    self.service(&service).await?;
                },
                changed = changed(&mut *addresses) => for address in changed? {
                    self.address(&address).await?;
                    // One that is gone may be missed.
                    let parent = at(&address, &["spec", "parentRef"]);
                    if names_service(parent) {
                        self.service(&json!({"metadata": parent})).await?;
                    }
                },
                () = tokio::time::sleep_until(next) => {
                    let now = Instant::now();
                    if now >= end {
                        return Ok(());
                    }
                    let due: Vec<String> =
                        self.again.iter().filter(|(_, at)| **at <= now).map(|(ip, _)| ip.clone()).collect();
                    for ip in due {
                        self.again.remove(&ip);
                        self.address(&json!({"metadata": {"name": ip}})).await?;
                    }
                }
            }
        }
    }

    async fn look_at_all(&mut self) -> Result<()> {
        let server = self.server.clone();
        self.told.retain(|_, at| at.elapsed() < TELL_AGAIN);
        let addresses = &server.registry.addresses;
        if let Some(entry) = addresses.store.get(&reader::key("networking.k8s.io", "servicecidrs", "", "kubernetes")) {
            let default = stored::decode(&entry);
            if let Some(finding) = check_default(&default, &addresses.cidrs) {
                self.tell(&default, CIDR_KEEPER, "ServiceCIDRSync", finding, true).await;
            }
        }
        let services = server.registry.addresses.services()?;
        for service in &services {
            self.service(service).await?;
        }
        let prefix = reader::prefix("networking.k8s.io", "ipaddresses", "");
        for entry in server.registry.store.list(&prefix, &Default::default()).map_err(store_error)?.entries {
            self.address(&stored::decode(&entry)).await?;
        }
        self.ports(&services).await
    }

    /// The named Service, as it is now.
    async fn service(&mut self, named: &Value) -> Result<()> {
        let server = self.server.clone();
        let addresses = &server.registry.addresses;
        let meta = field(named, "metadata");
        let read = || addresses.service(text(meta, "namespace"), text(meta, "name"));
        let Some(entry) = read() else { return Ok(()) };
        let service = stored::decode(&entry);
        for ip in ips_of(&service) {
            let ranges = addresses.ranges_of(|_| true)?;
            let address = addresses.store.get(&ip_key(ip)).map(|e| stored::decode(&e));
            let owner = address.as_ref().and_then(|a| addresses.parent_of(a));
            let Some((finding, fix)) = check_service_ip(&service, ip, &ranges, address.as_ref(), owner.as_ref()) else {
                continue;
            };
            // It may be on its way out, with its addresses ahead.
            if read().is_none_or(|now| now.mod_revision != entry.mod_revision) {
                return Ok(());
            }
            if fix == Fix::Recreate {
                self.delete(&ip.to_string()).await?;
            }
            if let Some(finding) = finding {
                self.tell(&service, IP_REPAIR, "ClusterIPAllocation", finding, fix == Fix::Nothing).await;
            }
            if fix != Fix::Nothing {
                let mut claim = Claim::new(&addresses.store, false);
                take_ip(ip, &service, &mut claim).await?;
                claim.keep();
            }
        }
        Ok(())
    }

    /// The named IPAddress, as it is now.
    async fn address(&mut self, named: &Value) -> Result<()> {
        let server = self.server.clone();
        let addresses = &server.registry.addresses;
        let name = text_at(named, &["metadata", "name"]);
        let key = reader::key("networking.k8s.io", "ipaddresses", "", name);
        let Some(entry) = addresses.store.get(&key) else { return Ok(()) };
        let address = stored::decode(&entry);
        let (finding, again) = check_address(&address, addresses.parent_of(&address).as_ref(), Timestamp::now());
        if let Some(again) = again {
            self.again.insert(name.to_string(), Instant::now() + again);
        }
        if let Some(finding) = finding {
            self.tell(&address, IP_REPAIR, "IPAddressAllocation", finding, false).await;
            self.delete(name).await?;
        }
        Ok(())
    }

    async fn ports(&mut self, services: &[Value]) -> Result<()> {
        let server = self.server.clone();
        let addresses = &server.registry.addresses;
        let claims = addresses.store.list(PORTS, &Default::default()).map_err(store_error)?.entries;
        let claimed = claims.iter().map(|e| e.key.to_string()).collect();
        let (findings, missing) = check_ports(services, &claimed, &addresses.node_ports);
        for (service, finding) in findings {
            let lasts = finding.reason != "PortNotAllocated";
            self.tell(service, PORT_REPAIR, "PortAllocation", finding, lasts).await;
        }
        let mut claim = Claim::new(&addresses.store, false);
        for (service, port) in missing {
            claim.take(port_key(port), || owner_of(service).into()).await?;
        }
        claim.keep();
        let used: HashSet<String> = services.iter().flat_map(ports_of).map(port_key).collect();
        let before = std::mem::take(&mut self.leaked);
        for claim in claims.iter().filter(|c| !used.contains(&*c.key)) {
            let looks = match before.get(&*claim.key) {
                Some((revision, looks)) if *revision == claim.mod_revision => looks + 1,
                _ => 1,
            };
            if looks < LOOKS {
                self.leaked.insert(claim.key.to_string(), (claim.mod_revision, looks));
            } else {
                addresses.store.delete(&claim.key, Some(claim.mod_revision)).await.map_err(store_error)?;
            }
        }
        Ok(())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        match send(&self.server, Method::DELETE, &format!("{ADDRESSES}/{name}"), None).await {
            Err(s) if s.code != 404 => Err(s),
            _ => Ok(()),
        }
    }

    /// `lasts`: nobody mends it, so it isn't told at each look.
    async fn tell(&mut self, about: &Value, by: &str, action: &str, finding: Finding, lasts: bool) {
        let Finding { reason, note } = finding;
        let (meta, now) = (field(about, "metadata"), Timestamp::now());
        if lasts {
            let key = format!("{} {note}", text(meta, "uid"));
            if self.told.get(&key).is_some_and(|at| at.elapsed() < TELL_AGAIN) {
                return;
            }
            self.told.insert(key, Instant::now());
        }
        let (name, namespace) = (text(meta, "name"), text(meta, "namespace"));
        let namespace = if namespace.is_empty() { "default" } else { namespace };
        // Addresses of IPv6 are no names of Events.
        let event = match name.contains(':') {
            true => uuid::Uuid::new_v4().to_string(),
            false => format!("{name}.{:x}", now.as_nanosecond()),
        };
        let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
        let event = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": event, "namespace": namespace},
            "eventTime": format!("{now:.6}"), "type": "Warning", "reason": reason, "action": action, "note": note,
            "reportingController": by, "reportingInstance": format!("{by}-{}", self.hostname),
            "regarding": {
                "apiVersion": about["apiVersion"], "kind": about["kind"], "namespace": meta["namespace"],
                "name": meta["name"], "uid": meta["uid"], "resourceVersion": meta["resourceVersion"],
            },
        });
        tracing::warn!(%note, "repairing addresses of Services");
        if let Err(error) = send(&self.server, Method::POST, &path, Some(event)).await {
            tracing::warn!(%error, "the event could not be made");
        }
    }
}

/// The objects that changed, those that are gone as they were.
async fn changed(watcher: &mut dyn Watcher) -> Result<Vec<Value>> {
    let events = watcher.changes().await.map_err(store_error)?;
    let of = |change| match change {
        Change::Put { entry, .. } => entry,
        Change::Delete { prev } => prev,
    };
    Ok(events.into_iter().map(|e| stored::decode(&of(e.change))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str, ips: &[&str]) -> Value {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "d", "name": name},
            "spec": {"clusterIPs": ips}})
    }

    fn address(ip: &str, parent: Value) -> Value {
        json!({"metadata": {"name": ip, "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {FAMILY_LABEL: family_of(ip), MANAGED_BY_LABEL: MANAGER}},
            "spec": {"parentRef": parent}})
    }

    fn parent(name: &str) -> Value {
        json!({"resource": "services", "namespace": "d", "name": name})
    }

    #[test]
    fn addresses_of_services() {
        let (ranges, ip) = (["10.0.0.0/24".parse().unwrap()], "10.0.0.7");
        let own = service("a", &[ip]);
        let right = address(ip, parent("a"));
        let unlabelled = json!({"metadata": {"name": ip}, "spec": {"parentRef": parent("a")}});
        let gateway = address(ip, json!({"group": "x.io", "resource": "gateways", "namespace": "d", "name": "g"}));
        let (other, twin, stray) = (address(ip, parent("b")), service("b", &[ip]), service("b", &["10.0.0.9"]));
        let wrong = "the ClusterIP [IPv4]: 10.0.0.7 for Service d/a has a wrong reference; repairing";
        // The IPAddress, the Service that it names, what is told, what is done.
        let cases = [
            (Some(&right), Some(&own), None),
            (
                None,
                None,
                Some(("ClusterIPNotAllocated", "Cluster IP [IPv4]: 10.0.0.7 is not allocated; repairing", Fix::Create)),
            ),
            (Some(&gateway), None, Some(("ClusterIPNotAllocated", wrong, Fix::Recreate))),
            (Some(&other), None, Some(("ClusterIPNotAllocated", wrong, Fix::Recreate))),
            (
                Some(&other),
                Some(&twin),
                Some((
                    "ClusterIPAlreadyAllocated",
                    "Cluster IP [IPv4]:10.0.0.7 was assigned to multiple services; please recreate service",
                    Fix::Nothing,
                )),
            ),
            (Some(&other), Some(&stray), Some(("", "", Fix::Recreate))),
            (Some(&unlabelled), Some(&own), Some(("", "", Fix::Recreate))),
        ];
        for (address, named, expected) in cases {
            let got = check_service_ip(&own, ip.parse().unwrap(), &ranges, address, named);
            let shown = got.as_ref().map(|(finding, fix)| match finding {
                Some(f) => (f.reason, f.note.as_str(), fix),
                None => ("", "", fix),
            });
            assert_eq!(shown, expected.as_ref().map(|(reason, note, fix)| (*reason, *note, fix)));
        }
        let (finding, fix) = check_service_ip(&own, ip.parse().unwrap(), &[], Some(&right), Some(&own)).unwrap();
        assert_eq!(
            (finding.unwrap().note.as_str(), fix),
            (
                "Cluster IP [IPv4]: 10.0.0.7 is not within any configured Service CIDR; please recreate service",
                Fix::Nothing
            )
        );
    }

    #[test]
    fn addresses_without_services() {
        let now = |seconds: u32| format!("2026-01-01T00:{:02}:{:02}Z", seconds / 60, seconds % 60).parse().unwrap();
        let (ip, owner, stray) = ("10.0.0.7", service("a", &["10.0.0.7"]), service("a", &["10.0.0.9"]));
        let mine = address(ip, parent("a"));
        let note = |found: (Option<Finding>, Option<Duration>)| found.0.map(|f| (f.reason, f.note));
        assert_eq!(check_address(&mine, Some(&owner), now(99)), (None, None));
        assert_eq!(check_address(&mine, None, now(20)), (None, Some(Duration::from_secs(41))));
        let leaked = "IPAddress: 10.0.0.7 for Service d/a appears to have leaked: cleaning up".to_string();
        assert_eq!(note(check_address(&mine, None, now(61))), Some(("IPAddressNotAllocated", leaked)));
        let wrong = "IPAddress: 10.0.0.7 for Service d/a has a wrong reference; cleaning up".to_string();
        assert_eq!(note(check_address(&mine, Some(&stray), now(61))), Some(("IPAddressWrongReference", wrong)));
        assert_eq!(check_address(&mine, Some(&stray), now(60)), (None, Some(Duration::from_secs(1))));
        let gateway = json!({"group": "x.io", "resource": "gateways", "name": "g"});
        let modified = "IPAddress 10.0.0.7 appears to have been modified, not referencing a Service \
            &ParentReference{Group:x.io,Resource:gateways,Namespace:,Name:g,}: cleaning up";
        assert_eq!(
            note(check_address(&address(ip, gateway), None, now(0))),
            Some(("IPAddressNotAllocated", modified.to_string()))
        );
        let mut others = mine.clone();
        others["metadata"]["labels"][MANAGED_BY_LABEL] = json!("somebody.io");
        assert_eq!(check_address(&others, None, now(99)), (None, None));
    }

    #[test]
    fn the_default_range_is_that_of_the_flags() {
        let cidr = |cidrs: &[&str]| json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": cidrs}});
        let flags = ["10.0.0.0/24".parse().unwrap()];
        assert_eq!(check_default(&cidr(&["10.0.0.0/24"]), &flags), None);
        for (cidrs, shown) in
            [(&["10.1.0.0/24"][..], "10.1.0.0/24"), (&["10.0.0.0/24", "fd00::/64"], "10.0.0.0/24 fd00::/64")]
        {
            let note = format!(
                "The default ServiceCIDR [{shown}] does not match the controller flag configurations [10.0.0.0/24]"
            );
            assert_eq!(check_default(&cidr(cidrs), &flags).unwrap().note, note);
        }
    }

    #[test]
    fn ports_of_services() {
        let with =
            |name: &str, ports: Value| json!({"metadata": {"namespace": "d", "name": name}, "spec": {"ports": ports}});
        let services = [
            with("a", json!([{"nodePort": 30001, "protocol": "TCP"}, {"nodePort": 30001, "protocol": "UDP"}])),
            with("b", json!([{"nodePort": 30001}, {"nodePort": 30002}, {"nodePort": 80}])),
        ];
        let claimed = HashSet::from([port_key(30001)]);
        let (findings, missing) = check_ports(&services, &claimed, &(30000..=30010));
        let told: Vec<(&str, &str)> =
            findings.iter().map(|(s, f)| (text_at(s, &["metadata", "name"]), f.note.as_str())).collect();
        assert_eq!(
            told,
            [
                ("b", "Port 80 is not within the port range 30000-30010; please recreate service"),
                ("b", "Port 30001 was assigned to multiple services; please recreate service"),
                ("b", "Port 30002 is not allocated; repairing"),
            ]
        );
        assert_eq!(missing.iter().map(|(_, port)| *port).collect::<Vec<_>>(), [30002]);
    }
}
