//! Which sandbox has which address: one file per address, created by an atomic link.
//!
//! The file system is the allocator: linking a complete record to the address's name succeeds for exactly one caller,
//! so no crash and no second process can assign an address twice, and no half-written record is ever seen under a
//! live name. Addresses are handed out round-robin, so a freed one rests as long as possible before it is used
//! again: peers with stale connections or DNS answers don't hit a stranger.

use crate::{Error, Result};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// One address's record, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Allocation {
    pub sandbox_id: String,
    pub address: IpAddr,
    /// `namespace/name`, for people who read the file.
    #[serde(default)]
    pub pod: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_ports: Vec<HostPort>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostPort {
    /// IP protocol number.
    pub protocol: u8,
    /// `None` is every address of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    pub host_port: u16,
    pub container_port: u16,
}

/// The allocator of one or several ranges (one per IP family).
#[derive(Debug)]
pub struct Ipam {
    dir: PathBuf,
    ranges: Vec<IpNet>,
    by_address: BTreeMap<IpAddr, Allocation>,
    by_sandbox: HashMap<String, Vec<IpAddr>>,
    /// Per range: the address that was given out last.
    last: Vec<Option<IpAddr>>,
}

const LAST_FILE: &str = "last";

impl Ipam {
    /// Opens or creates the directory and reads what is allocated. Unreadable records belong to nobody and are removed.
    pub fn open(dir: &Path, ranges: Vec<IpNet>) -> Result<Ipam> {
        fs::create_dir_all(dir).map_err(|source| Error::File { what: "create", path: dir.into(), source })?;
        let mut ipam = Ipam {
            dir: dir.into(),
            last: vec![None; ranges.len()],
            ranges,
            by_address: BTreeMap::new(),
            by_sandbox: HashMap::new(),
        };
        let entries = fs::read_dir(dir).map_err(|source| Error::File { what: "read", path: dir.into(), source })?;
        for entry in entries {
            let path = entry.map_err(|source| Error::File { what: "read", path: dir.into(), source })?.path();
            let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
                continue;
            };
            let Ok(address) = name.parse::<IpAddr>() else {
                if name.starts_with(".new-") {
                    let _ = fs::remove_file(&path);
                }
                continue;
            };
            let record = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Allocation>(&bytes).ok());
            match record {
                Some(record) if record.address == address => ipam.insert(record),
                _ => {
                    tracing::warn!(path = %path.display(), "removing unreadable address record");
                    let _ = fs::remove_file(&path);
                }
            }
        }
        if let Ok(text) = fs::read_to_string(dir.join(LAST_FILE)) {
            for address in text.lines().filter_map(|l| l.parse::<IpAddr>().ok()) {
                if let Some(i) = ipam.ranges.iter().position(|r| r.contains(&address)) {
                    ipam.last[i] = Some(address);
                }
            }
        }
        Ok(ipam)
    }

    fn insert(&mut self, record: Allocation) {
        self.by_sandbox.entry(record.sandbox_id.clone()).or_default().push(record.address);
        self.by_address.insert(record.address, record);
    }

    /// The first usable address of a range: the bridge's own.
    pub fn gateway(range: &IpNet) -> IpAddr {
        add(range.network(), 1)
    }

    pub fn allocations(&self) -> impl Iterator<Item = &Allocation> {
        self.by_address.values()
    }

    /// A sandbox's addresses in the order of the ranges; empty when it has none.
    pub fn of(&self, sandbox_id: &str) -> Vec<IpAddr> {
        let mut addresses = self.by_sandbox.get(sandbox_id).cloned().unwrap_or_default();
        addresses.sort_by_key(|a| self.ranges.iter().position(|r| r.contains(a)));
        addresses
    }

    /// One address from every range. The same sandbox gets the same addresses again.
    pub fn allocate(&mut self, sandbox_id: &str, pod: &str, host_ports: &[HostPort]) -> Result<Vec<IpAddr>> {
        let held = self.of(sandbox_id);
        if held.len() == self.ranges.len() {
            return Ok(held);
        }
        for port in host_ports {
            self.check_port(sandbox_id, port)?;
        }
        for i in 0..self.ranges.len() {
            if held.iter().any(|a| self.ranges[i].contains(a)) {
                continue;
            }
            if let Err(e) = self.allocate_in(i, sandbox_id, pod, host_ports) {
                // An earlier range may have given an address already.
                let _ = self.free(sandbox_id);
                return Err(e);
            }
        }
        Ok(self.of(sandbox_id))
    }

    fn allocate_in(&mut self, i: usize, sandbox_id: &str, pod: &str, host_ports: &[HostPort]) -> Result<()> {
        let range = self.ranges[i];
        let (first, count) = usable(&range);
        let start = self.last[i].map_or(0, |last| offset(first, last) + 1);
        for step in 0..count {
            let address = add(first, (start + step) % count);
            if self.by_address.contains_key(&address) {
                continue;
            }
            let record =
                Allocation { sandbox_id: sandbox_id.into(), address, pod: pod.into(), host_ports: host_ports.to_vec() };
            if !self.persist(&record)? {
                // Someone else owns this directory as well, or owned it when we read it.
                continue;
            }
            self.insert(record);
            self.last[i] = Some(address);
            self.persist_last();
            return Ok(());
        }
        Err(Error::Exhausted(range))
    }

    /// `false` when the address is taken on disk.
    fn persist(&self, record: &Allocation) -> Result<bool> {
        let path = self.dir.join(record.address.to_string());
        let new = self.dir.join(format!(".new-{}-{}", std::process::id(), record.address));
        let fail = |what, path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::File { what, path, source }
        };
        let bytes = serde_json::to_vec(record).map_err(|e| fail("encode", &path)(io::Error::other(e)))?;
        fs::write(&new, bytes).map_err(fail("write", &new))?;
        let linked = fs::hard_link(&new, &path);
        let _ = fs::remove_file(&new);
        match linked {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(fail("create", &path)(e)),
        }
    }

    /// Only the order of reuse depends on this file, so failing to write it is no reason to refuse a pod.
    fn persist_last(&self) {
        let text: String = self.last.iter().flatten().map(|a| format!("{a}\n")).collect();
        let new = self.dir.join(format!(".new-{}-{LAST_FILE}", std::process::id()));
        if fs::write(&new, text).and_then(|()| fs::rename(&new, self.dir.join(LAST_FILE))).is_err() {
            tracing::debug!("could not store the last address");
        }
    }

    fn check_port(&self, sandbox_id: &str, wanted: &HostPort) -> Result<()> {
        for record in self.by_address.values().filter(|r| r.sandbox_id != sandbox_id) {
            let clash = record.host_ports.iter().find(|p| {
                p.host_port == wanted.host_port
                    && p.protocol == wanted.protocol
                    && (p.host_ip.is_none() || wanted.host_ip.is_none() || p.host_ip == wanted.host_ip)
            });
            if clash.is_some() {
                let protocol = protocol_name(wanted.protocol);
                return Err(Error::PortTaken { port: wanted.host_port, protocol, owner: record.sandbox_id.clone() });
            }
        }
        Ok(())
    }

    /// Frees a sandbox's addresses and gives back their records.
    pub fn free(&mut self, sandbox_id: &str) -> Result<Vec<Allocation>> {
        let mut freed = Vec::new();
        for address in self.by_sandbox.get(sandbox_id).cloned().unwrap_or_default() {
            let path = self.dir.join(address.to_string());
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::File { what: "remove", path, source });
                }
                _ => {}
            }
            freed.extend(self.by_address.remove(&address));
        }
        self.by_sandbox.remove(sandbox_id);
        Ok(freed)
    }

    /// Sandboxes that hold addresses but are not in `live`.
    pub fn orphans(&self, live: &[String]) -> Vec<String> {
        let live: HashSet<&str> = live.iter().map(String::as_str).collect();
        self.by_sandbox.keys().filter(|id| !live.contains(id.as_str())).cloned().collect()
    }
}

pub(crate) fn protocol_name(protocol: u8) -> &'static str {
    match protocol {
        6 => "TCP",
        17 => "UDP",
        132 => "SCTP",
        _ => "IP",
    }
}

/// First assignable address and how many there are: not the network, not the gateway, not the broadcast address.
fn usable(range: &IpNet) -> (IpAddr, u64) {
    let bits = range.max_prefix_len() - range.prefix_len();
    let size = 1u64.checked_shl(bits.into()).unwrap_or(u64::MAX);
    (add(range.network(), 2), size.saturating_sub(3))
}

fn add(address: IpAddr, n: u64) -> IpAddr {
    match address {
        IpAddr::V4(a) => IpAddr::V4(u32::from(a).wrapping_add(n as u32).into()),
        IpAddr::V6(a) => IpAddr::V6(u128::from(a).wrapping_add(n.into()).into()),
    }
}

fn offset(first: IpAddr, address: IpAddr) -> u64 {
    match (first, address) {
        (IpAddr::V4(f), IpAddr::V4(a)) => u32::from(a).wrapping_sub(u32::from(f)).into(),
        (IpAddr::V6(f), IpAddr::V6(a)) => u128::from(a).wrapping_sub(u128::from(f)) as u64,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(text: &str) -> Vec<IpNet> {
        vec![text.parse().unwrap()]
    }

    #[test]
    fn addresses_come_back_after_a_restart_and_for_the_same_sandbox() {
        let dir = tempfile::tempdir().unwrap();
        let mut ipam = Ipam::open(dir.path(), range("10.42.0.0/24")).unwrap();
        let a = ipam.allocate("a", "default/a", &[]).unwrap();
        assert_eq!(a, ["10.42.0.2".parse::<IpAddr>().unwrap()]);
        assert_eq!(ipam.allocate("a", "default/a", &[]).unwrap(), a);
        drop(ipam);
        let mut ipam = Ipam::open(dir.path(), range("10.42.0.0/24")).unwrap();
        assert_eq!(ipam.of("a"), a);
        assert_ne!(ipam.allocate("b", "default/b", &[]).unwrap(), a);
    }

    #[test]
    fn a_freed_address_rests_until_all_others_were_used() {
        let dir = tempfile::tempdir().unwrap();
        let mut ipam = Ipam::open(dir.path(), range("10.42.0.0/29")).unwrap();
        let first = ipam.allocate("a", "", &[]).unwrap();
        ipam.free("a").unwrap();
        let mut ipam = Ipam::open(dir.path(), range("10.42.0.0/29")).unwrap();
        for i in 0..4 {
            assert_ne!(ipam.allocate(&format!("b{i}"), "", &[]).unwrap(), first, "{i}");
        }
        assert_eq!(ipam.allocate("c", "", &[]).unwrap(), first);
        assert!(matches!(ipam.allocate("d", "", &[]), Err(Error::Exhausted(_))));
    }

    #[test]
    fn torn_records_are_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("10.42.0.2"), b"{\"sandboxId\":\"x\",").unwrap();
        fs::write(dir.path().join(".new-1-10.42.0.3"), b"").unwrap();
        let ipam = Ipam::open(dir.path(), range("10.42.0.0/24")).unwrap();
        assert_eq!(ipam.allocations().count(), 0);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn host_ports_clash_only_on_the_same_protocol_and_address() {
        let dir = tempfile::tempdir().unwrap();
        let mut ipam = Ipam::open(dir.path(), range("10.42.0.0/24")).unwrap();
        let port = |protocol, ip: Option<&str>| HostPort {
            protocol,
            host_ip: ip.map(|i| i.parse().unwrap()),
            host_port: 80,
            container_port: 8080,
        };
        ipam.allocate("a", "", &[port(6, Some("127.0.0.1"))]).unwrap();
        ipam.allocate("b", "", &[port(6, Some("10.0.0.1"))]).unwrap();
        ipam.allocate("c", "", &[port(17, Some("127.0.0.1"))]).unwrap();
        assert!(matches!(ipam.allocate("d", "", &[port(6, None)]), Err(Error::PortTaken { .. })));
        assert!(ipam.of("d").is_empty());
        ipam.free("a").unwrap();
        ipam.allocate("e", "", &[port(6, Some("127.0.0.1"))]).unwrap();
    }

    #[derive(Clone, Debug)]
    enum Step {
        Allocate(u8),
        Free(u8),
        Restart,
        /// A second allocator on the same directory takes one, as after a botched upgrade.
        Rival(u8),
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn no_address_has_two_owners(steps in prop::collection::vec(prop_oneof![
            (0u8..20).prop_map(Step::Allocate), (0u8..20).prop_map(Step::Free), Just(Step::Restart), (100u8..110).prop_map(Step::Rival)], 1..60)) {
            let dir = tempfile::tempdir().unwrap();
            let open = || Ipam::open(dir.path(), range("10.42.0.0/28")).unwrap();
            let mut ipam = open();
            let mut model: HashMap<String, Vec<IpAddr>> = HashMap::new();
            for step in steps {
                match step {
                    Step::Allocate(id) | Step::Rival(id) => {
                        let id = format!("s{id}");
                        let got = match step {
                            Step::Rival(_) => open().allocate(&id, "", &[]),
                            _ => ipam.allocate(&id, "", &[]),
                        };
                        match got {
                            Ok(addresses) => {
                                if let Some(before) = model.get(&id) {
                                    prop_assert_eq!(before, &addresses);
                                }
                                model.insert(id, addresses);
                            }
                            Err(Error::Exhausted(_)) => prop_assert_eq!(model.len(), 13),
                            Err(e) => return Err(TestCaseError::fail(e.to_string())),
                        }
                    }
                    Step::Free(id) => {
                        ipam.free(&format!("s{id}")).unwrap();
                        model.remove(&format!("s{id}"));
                    }
                    Step::Restart => ipam = open(),
                }
                let mut seen = HashSet::new();
                for address in model.values().flatten() {
                    prop_assert!(seen.insert(*address), "{address} assigned twice");
                }
            }
            let reopened = open();
            for (id, addresses) in &model {
                prop_assert_eq!(&reopened.of(id), addresses);
            }
        }
    }
}
