//! The bridge and the pods' ends on it: [`cri::PodNetwork`] over [`sys::netlink`].
//!
//! Every step looks at what is there and closes the gap, so that a setup that was cut off by a crash is simply run
//! again. All kernel calls block; they run on tokio's blocking threads.

use crate::ipam::{Allocation, HostPort, Ipam};
use crate::{Error, Result, rules};
use async_trait::async_trait;
use cri::{PodNetwork, PodNetworkRequest};
use ipnet::IpNet;
use parking_lot::Mutex;
use std::fs::{self, File};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use sys::netlink::route::{RouteSpec, Veth};
use sys::netlink::{Route, Socket, conntrack, in_netns};

/// The name of a pod's interface, which Kubernetes' users expect.
const POD_INTERFACE: &str = "eth0";
/// `lo` is the first link of every network namespace.
const LOOPBACK_INDEX: u32 = 1;
const UDP: u8 = 17;

/// How the network of one node looks. Names are parameters, so that several clusters can share a machine.
#[derive(Clone, Debug)]
pub struct BridgeOptions {
    /// Link name, at most 15 bytes.
    pub bridge: String,
    /// The node's pod ranges, one per IP family, IPv4 first. The first address of each is the bridge's.
    pub pod_cidrs: Vec<IpNet>,
    /// All pods of the cluster: traffic from pods to anywhere else is masqueraded.
    pub cluster_cidrs: Vec<IpNet>,
    /// ClusterIPs get a route, so that Services work from the node itself on machines without a default route.
    pub service_cidrs: Vec<IpNet>,
    /// `None` takes the MTU of the default route's link.
    pub mtu: Option<u32>,
    /// Address records live in `<state_dir>/ipam`.
    pub state_dir: PathBuf,
    /// Name of the nftables table that this bridge owns.
    pub table: String,
}

/// The pod network of this node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bridge {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: BridgeOptions,
    mtu: u32,
    ipam: Mutex<Ipam>,
}

impl Bridge {
    /// Makes or adopts the bridge, its addresses, routes and rules. Blocks for some milliseconds; pods that are
    /// running keep their connections.
    pub fn new(options: BridgeOptions) -> Result<Bridge> {
        validate(&options)?;
        let mut ipam = Ipam::open(&options.state_dir.join("ipam"), options.pod_cidrs.clone())?;
        // After a change of the pod range, records of the old one can't be honoured.
        let stale: Vec<String> = ipam
            .allocations()
            .filter(|a| !options.pod_cidrs.iter().any(|r| r.contains(&a.address)))
            .map(|a| a.sandbox_id.clone())
            .collect();
        for sandbox_id in stale {
            tracing::warn!(%sandbox_id, "address is outside of the pod range; freed");
            ipam.free(&sandbox_id)?;
        }
        let mut route = Route::open()?;
        let mtu = match options.mtu {
            Some(mtu) => mtu,
            None => default_mtu(&mut route)?,
        };
        ensure_bridge(&mut route, &options, mtu)?;
        rules::replace(&mut Socket::netfilter()?, &options, ipam.allocations())?;
        tracing::info!(bridge = %options.bridge, mtu, pods = ipam.allocations().count(), "pod network is up");
        Ok(Bridge { inner: Arc::new(Inner { options, mtu, ipam: Mutex::new(ipam) }) })
    }

    /// The bridge's own addresses: the pods' gateway, reachable from pods and from the node.
    pub fn gateways(&self) -> Vec<IpAddr> {
        self.inner.options.pod_cidrs.iter().map(Ipam::gateway).collect()
    }

    /// Removes everything that a bridge with these options ever made: pods' links, bridge, rules, address records.
    /// Works without a running agent.
    pub fn reset(options: &BridgeOptions) -> Result<()> {
        validate(options)?;
        let mut route = Route::open()?;
        if let Some(bridge) = route.link(&options.bridge)?.filter(|l| l.kind == "bridge") {
            for link in route.links()? {
                if link.master == Some(bridge.index) && link.kind == "veth" {
                    route.delete_link(&link.name)?;
                }
            }
            route.delete_link(&options.bridge)?;
        }
        sys::nft::remove_table(&mut Socket::netfilter()?, sys::nft::Family::Ip, &options.table)?;
        let dir = options.state_dir.join("ipam");
        match fs::remove_dir_all(&dir) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::File { what: "remove", path: dir, source })
            }
            _ => Ok(()),
        }
    }

    /// Runs blocking work off the async threads.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> cri::Result<T> {
        let inner = self.inner.clone();
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(result) => result.map_err(Into::into),
            Err(e) => Err(cri::Error::Internal(format!("pod network task: {e}"))),
        }
    }
}

#[async_trait]
impl PodNetwork for Bridge {
    async fn setup(&self, request: &PodNetworkRequest, netns: &Path) -> cri::Result<Vec<IpAddr>> {
        let (request, netns) = (request.clone(), netns.to_path_buf());
        self.blocking(move |inner| inner.setup(&request, &netns)).await
    }

    async fn teardown(&self, sandbox_id: &str, _netns: &Path) -> cri::Result<()> {
        let sandbox_id = sandbox_id.to_string();
        self.blocking(move |inner| inner.teardown(&sandbox_id)).await
    }

    async fn ready(&self) -> std::result::Result<(), String> {
        let name = self.inner.options.bridge.clone();
        match self.blocking(move |inner| Ok(Route::open()?.link(&inner.options.bridge)?)).await {
            Ok(Some(link)) if link.up => Ok(()),
            Ok(Some(_)) => Err(format!("bridge {name} is down")),
            Ok(None) => Err(format!("bridge {name} does not exist")),
            Err(e) => Err(e.to_string()),
        }
    }

    async fn reconcile(&self, live: &[String]) -> cri::Result<()> {
        let live = live.to_vec();
        self.blocking(move |inner| inner.reconcile(&live)).await
    }
}

impl Inner {
    fn setup(&self, request: &PodNetworkRequest, netns: &Path) -> Result<Vec<IpAddr>> {
        let host_ports = host_ports(request)?;
        let pod = format!("{}/{}", request.pod_namespace, request.pod_name);
        let (addresses, known) = {
            let mut ipam = self.ipam.lock();
            let known = !ipam.of(&request.sandbox_id).is_empty();
            (ipam.allocate(&request.sandbox_id, &pod, &host_ports)?, known)
        };
        let outcome = self.attach(&request.sandbox_id, &addresses, netns).and_then(|()| {
            let allocations = self.allocations(&request.sandbox_id);
            if host_ports.is_empty() {
                return Ok(());
            }
            let mut socket = Socket::netfilter()?;
            // Adding an element that is there with the same value is no error for nftables.
            allocations.iter().try_for_each(|a| rules::publish(&mut socket, &self.options, a))
        });
        if let Err(e) = outcome {
            if !known && let Err(e) = self.teardown(&request.sandbox_id) {
                tracing::warn!(sandbox = %request.sandbox_id, error = %e, "could not undo a failed network setup");
            }
            return Err(e);
        }
        Ok(addresses)
    }

    fn allocations(&self, sandbox_id: &str) -> Vec<Allocation> {
        self.ipam.lock().allocations().filter(|a| a.sandbox_id == sandbox_id).cloned().collect()
    }

    /// Gives the namespace its interface. Does nothing where that was done before.
    fn attach(&self, sandbox_id: &str, addresses: &[IpAddr], netns: &Path) -> Result<()> {
        let fail = |source| Error::File { what: "open network namespace", path: netns.into(), source };
        let netns_file = File::open(netns).map_err(fail)?;
        let netns_fd = netns_file.as_fd();
        let mut route = Route::open()?;
        let bridge = route
            .link(&self.options.bridge)?
            .ok_or_else(|| sys::netlink::Error::NotFound { what: format!("bridge {}", self.options.bridge) })?;
        let name = link_name(&self.options.bridge, sandbox_id);
        let pod_mac = addresses.first().map(mac_of);
        if route.link(&name)?.is_some() {
            if Route::open_in(netns_fd)?.link(POD_INTERFACE)?.is_some() {
                // Cut off at any later step: the rest replaces what is there.
                return self.configure(&mut route, bridge.index, addresses, pod_mac, netns_fd);
            }
            // The pod's namespace was made anew; the old pair leads nowhere.
            route.delete_link(&name)?;
        }
        route.add_veth(&Veth {
            name: &name,
            mac: None,
            master: Some(bridge.index),
            mtu: self.mtu,
            peer_name: POD_INTERFACE,
            peer_mac: pod_mac,
            peer_netns: netns_fd,
        })?;
        if let Some(link) = route.link(&name)? {
            // With br_netfilter, translated traffic from a pod to itself is bridged back out of the port it came from.
            route.set_hairpin(link.index, true)?;
        }
        self.configure(&mut route, bridge.index, addresses, pod_mac, netns_fd)
    }

    fn configure(
        &self,
        route: &mut Route,
        bridge: u32,
        addresses: &[IpAddr],
        pod_mac: Option<[u8; 6]>,
        netns: BorrowedFd<'_>,
    ) -> Result<()> {
        for address in addresses {
            // Both ends know each other's MAC: no ARP, and no pod can claim another's address.
            if let Some(mac) = pod_mac {
                route.add_neighbour(bridge, *address, mac)?;
            }
        }
        let inside = in_netns(netns, || self.configure_inside(addresses));
        inside.map_err(|source| sys::netlink::Error::Socket { what: "enter network namespace", source })?
    }

    /// Runs on a thread inside the pod's namespace.
    fn configure_inside(&self, addresses: &[IpAddr]) -> Result<()> {
        let mut route = Route::open()?;
        route.set_up(LOOPBACK_INDEX)?;
        let Some(eth0) = route.link(POD_INTERFACE)? else {
            return Err(sys::netlink::Error::NotFound { what: POD_INTERFACE.into() }.into());
        };
        // The gateway would redirect pods to each other directly, and the answers would miss the translation.
        for device in ["all", POD_INTERFACE] {
            sysctl(&format!("net/ipv4/conf/{device}/accept_redirects"), "0");
        }
        route.set_up(eth0.index)?;
        let gateways: Vec<IpAddr> = self.options.pod_cidrs.iter().map(Ipam::gateway).collect();
        let bridge_mac = gateways.first().map(mac_of);
        for (address, gateway) in addresses.iter().zip(&gateways) {
            let (bits, any): (u8, IpAddr) =
                if address.is_ipv4() { (32, [0u8; 4].into()) } else { (128, [0u8; 16].into()) };
            route.add_address(eth0.index, *address, bits)?;
            route.add_route(&RouteSpec {
                destination: *gateway,
                prefix_len: bits,
                gateway: None,
                link: eth0.index,
                source: None,
            })?;
            route.add_route(&RouteSpec {
                destination: any,
                prefix_len: 0,
                gateway: Some(*gateway),
                link: eth0.index,
                source: None,
            })?;
            if let Some(mac) = bridge_mac {
                route.add_neighbour(eth0.index, *gateway, mac)?;
            }
        }
        Ok(())
    }

    fn teardown(&self, sandbox_id: &str) -> Result<()> {
        let mut route = Route::open()?;
        route.delete_link(&link_name(&self.options.bridge, sandbox_id))?;
        let allocations = self.allocations(sandbox_id);
        let bridge = route.link(&self.options.bridge)?;
        for allocation in &allocations {
            if let Some(bridge) = &bridge {
                match route.delete_neighbour(bridge.index, allocation.address) {
                    Err(e) if !e.is_not_found() => return Err(e.into()),
                    _ => {}
                }
            }
            if allocation.host_ports.is_empty() {
                continue;
            }
            let mut socket = Socket::netfilter()?;
            rules::withdraw(&mut socket, &self.options, allocation)?;
            if allocation.host_ports.iter().any(|p| p.protocol == UDP) && allocation.address.is_ipv4() {
                for flow in conntrack::flows(&mut socket, false)? {
                    if flow.original.protocol == UDP && flow.reply.source == allocation.address {
                        conntrack::forget(&mut socket, &flow)?;
                    }
                }
            }
        }
        // Last, so that a teardown that was cut off is found and finished by the next reconcile.
        self.ipam.lock().free(sandbox_id)?;
        Ok(())
    }

    fn reconcile(&self, live: &[String]) -> Result<()> {
        let orphans = self.ipam.lock().orphans(live);
        for sandbox_id in orphans {
            tracing::info!(%sandbox_id, "freeing the address of a sandbox that is gone");
            self.teardown(&sandbox_id)?;
        }
        let mut route = Route::open()?;
        let Some(bridge) = route.link(&self.options.bridge)? else {
            return Ok(());
        };
        let expected: Vec<String> = live.iter().map(|id| link_name(&self.options.bridge, id)).collect();
        for link in route.links()? {
            let ours = link.master == Some(bridge.index) && link.kind == "veth" && link.name.starts_with(LINK_PREFIX);
            if ours && !expected.contains(&link.name) {
                route.delete_link(&link.name)?;
            }
        }
        Ok(())
    }
}

fn validate(options: &BridgeOptions) -> Result<()> {
    if options.bridge.is_empty()
        || options.bridge.len() > 15
        || !options.bridge.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        || options.bridge == "."
        || options.bridge == ".."
    {
        return Err(Error::Options(format!(
            "bridge name {:?}: must be 1 to 15 letters, digits, '-', '_' or '.'",
            options.bridge
        )));
    }
    let Some(first) = options.pod_cidrs.first() else {
        return Err(Error::Options("a pod range is needed".into()));
    };
    for cidr in &options.pod_cidrs {
        if cidr.max_prefix_len() - cidr.prefix_len() < 2 {
            return Err(Error::Options(format!("pod range {cidr} is too small: at least 4 addresses are needed")));
        }
    }
    let second_of_same_family = options.pod_cidrs.iter().skip(1).any(|c| c.addr().is_ipv4() == first.addr().is_ipv4());
    if second_of_same_family || options.pod_cidrs.len() > 2 {
        return Err(Error::Options("at most one pod range per IP family".into()));
    }
    Ok(())
}

fn ensure_bridge(route: &mut Route, options: &BridgeOptions, mtu: u32) -> Result<()> {
    let gateways: Vec<IpAddr> = options.pod_cidrs.iter().map(Ipam::gateway).collect();
    let mac = mac_of(&gateways[0]);
    if route.link(&options.bridge)?.is_none() {
        match route.add_bridge(&options.bridge, mac, mtu) {
            Err(e) if !e.is_exists() => return Err(e.into()),
            _ => {}
        }
    }
    let link = route
        .link(&options.bridge)?
        .ok_or_else(|| sys::netlink::Error::NotFound { what: format!("bridge {}", options.bridge) })?;
    if link.kind != "bridge" {
        return Err(Error::Options(format!("link {} exists and is no bridge; choose another name", options.bridge)));
    }
    if link.mac != mac {
        route.set_mac(link.index, mac)?;
    }
    if link.mtu != mtu {
        route.set_mtu(link.index, mtu)?;
    }
    route.set_up(link.index)?;
    sysctl("net/ipv4/ip_forward", "1");
    if options.pod_cidrs.iter().any(|c| c.addr().is_ipv6()) {
        sysctl("net/ipv6/conf/all/forwarding", "1");
    }
    // 127.0.0.1:nodePort and hostPort lead from a loopback source out of this link; `rules` guards the way in.
    sysctl(&format!("net/ipv4/conf/{}/route_localnet", options.bridge), "1");
    for (address, cidr) in gateways.iter().zip(&options.pod_cidrs) {
        for (index, old, bits) in route.addresses()? {
            // Left over from another pod range; link-local addresses are the kernel's.
            let link_local = matches!(old, IpAddr::V6(a) if a.is_unicast_link_local());
            if index == link.index && old.is_ipv4() == address.is_ipv4() && old != *address && !link_local {
                route.delete_address(index, old, bits)?;
            }
        }
        route.add_address(link.index, *address, cidr.prefix_len())?;
    }
    for services in &options.service_cidrs {
        if let Some(source) = gateways.iter().find(|g| g.is_ipv4() == services.addr().is_ipv4()) {
            route.add_route(&RouteSpec {
                destination: services.network(),
                prefix_len: services.prefix_len(),
                gateway: None,
                link: link.index,
                source: Some(*source),
            })?;
        }
    }
    Ok(())
}

/// The MTU of the link behind the default route, or Ethernet's.
fn default_mtu(route: &mut Route) -> Result<u32> {
    let default = route.routes()?.into_iter().find(|r| r.prefix_len == 0 && r.gateway.is_some());
    let link = match default {
        Some(default) => route.links()?.into_iter().find(|l| l.index == default.link),
        None => None,
    };
    Ok(link.map_or(1500, |l| l.mtu))
}

fn host_ports(request: &PodNetworkRequest) -> Result<Vec<HostPort>> {
    let mut ports = Vec::new();
    for mapping in &request.port_mappings {
        if mapping.host_port == 0 {
            continue;
        }
        let protocol = match mapping.protocol {
            cri::Protocol::Tcp => 6,
            cri::Protocol::Udp => UDP,
            cri::Protocol::Sctp => 132,
        };
        let host_ip = match mapping.host_ip.as_str() {
            "" => None,
            text => {
                let ip: IpAddr =
                    text.parse().map_err(|_| Error::Options(format!("hostIP {text:?} is no IP address")))?;
                Some(ip).filter(|ip| !ip.is_unspecified())
            }
        };
        ports.push(HostPort {
            protocol,
            host_ip,
            host_port: mapping.host_port,
            container_port: mapping.container_port,
        });
    }
    Ok(ports)
}

/// A MAC that follows from the address, so that neighbours that remember a reused address remember the right MAC.
fn mac_of(address: &IpAddr) -> [u8; 6] {
    let [a, b, c, d] = match address {
        IpAddr::V4(v4) => v4.octets(),
        IpAddr::V6(v6) => {
            let o = v6.octets();
            [o[12], o[13], o[14], o[15]]
        }
    };
    [0x0a, 0x58, a, b, c, d]
}

const LINK_PREFIX: &str = "sk";

/// 15 bytes for the kernel: a prefix and 52 bits of a hash of bridge and sandbox (FNV-1a, stable over versions).
fn link_name(bridge: &str, sandbox_id: &str) -> String {
    let hash = bridge
        .bytes()
        .chain([0])
        .chain(sandbox_id.bytes())
        .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{LINK_PREFIX}{:013x}", hash >> 12)
}

/// Sets a kernel parameter of the calling thread's network namespace. In containers `/proc/sys` may be read-only
/// and yet hold the right value.
fn sysctl(path: &str, value: &str) {
    let path = Path::new("/proc/sys").join(path);
    if fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) {
        return;
    }
    if let Err(error) = fs::write(&path, value) {
        tracing::warn!(path = %path.display(), value, %error, "could not set a kernel parameter");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_names_fit_and_differ() {
        let a = link_name("skiff0", "sandbox-a");
        assert_eq!(a.len(), 15);
        assert_ne!(a, link_name("skiff0", "sandbox-b"));
        assert_ne!(a, link_name("skiff1", "sandbox-a"));
    }

    #[test]
    fn bad_options_are_refused() {
        let good = BridgeOptions {
            bridge: "skiff0".into(),
            pod_cidrs: vec!["10.42.0.0/24".parse().unwrap()],
            cluster_cidrs: vec![],
            service_cidrs: vec![],
            mtu: None,
            state_dir: "/nonexistent".into(),
            table: "t".into(),
        };
        assert!(validate(&good).is_ok());
        let bad = |change: fn(&mut BridgeOptions)| {
            let mut options = good.clone();
            change(&mut options);
            validate(&options).is_err()
        };
        assert!(bad(|o| o.bridge = "../../etc".into()));
        assert!(bad(|o| o.bridge = "a-name-of-sixteen".into()));
        assert!(bad(|o| o.pod_cidrs.clear()));
        assert!(bad(|o| o.pod_cidrs = vec!["10.0.0.0/31".parse().unwrap()]));
        assert!(bad(|o| o.pod_cidrs.push("10.43.0.0/24".parse().unwrap())));
    }
}
