//! The node object's contents. Pure.

use super::machine::{Disk, Machine};
use super::thresholds::{Least, Thresholds};
use crate::KubeletOptions;
use crate::quantity::ResourceMap;
use cri::Image;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec, NodeStatus,
    NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use std::collections::BTreeMap;

/// As many as upstream lists.
const IMAGES_MAX: usize = 50;

#[derive(Clone, Debug)]
pub struct Observed {
    pub runtime: Result<(), String>,
    pub network: Result<(), String>,
    pub runtime_version: String,
    pub images: Vec<Image>,
    /// Left, and in all.
    pub memory: Option<(u64, u64)>,
    pub disk: Option<Disk>,
    /// Used, and how many there may be.
    pub pids: Option<(u64, u64)>,
}

pub fn node(machine: &Machine, options: &KubeletOptions) -> Node {
    let mut labels: BTreeMap<String, String> = [
        ("kubernetes.io/hostname", options.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", machine.architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", machine.architecture),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .collect();
    labels.extend(options.labels.clone());
    Node {
        metadata: ObjectMeta { name: Some(options.node_name.clone()), labels: Some(labels), ..Default::default() },
        spec: Some(NodeSpec {
            taints: (!options.taints.is_empty()).then(|| options.taints.clone()),
            provider_id: options.provider_id.clone(),
            pod_cidr: options.pod_cidrs.first().cloned(),
            pod_cidrs: (!options.pod_cidrs.is_empty()).then(|| options.pod_cidrs.clone()),
            ..Default::default()
        }),
        status: None,
    }
}

fn kib(bytes: u64) -> Quantity {
    Quantity(format!("{}Ki", bytes / 1024))
}

fn hugepage_size(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 30) {
        format!("{}Gi", bytes >> 30)
    } else if bytes.is_multiple_of(1 << 20) {
        format!("{}Mi", bytes >> 20)
    } else {
        format!("{}Ki", bytes >> 10)
    }
}

pub fn capacity(machine: &Machine, options: &KubeletOptions) -> ResourceMap {
    let mut out = ResourceMap::from([
        ("cpu".to_owned(), Quantity(machine.cpus.to_string())),
        ("memory".to_owned(), kib(machine.memory_bytes)),
        ("ephemeral-storage".to_owned(), kib(machine.ephemeral_bytes)),
        ("pods".to_owned(), Quantity(options.max_pods.to_string())),
    ]);
    for (size, bytes) in &machine.hugepages {
        let amount = if *bytes == 0 { Quantity("0".into()) } else { kib(*bytes) };
        out.insert(format!("hugepages-{}", hugepage_size(*size)), amount);
    }
    out
}

pub fn allocatable(machine: &Machine, options: &KubeletOptions) -> ResourceMap {
    let mut out = capacity(machine, options);
    let kept = options.eviction_hard.memory_available.map_or(0, |l| l.of(machine.memory_bytes));
    let held_back = options.reserved_memory + kept + machine.hugepages.iter().map(|(_, b)| b).sum::<u64>();
    out.insert("memory".into(), kib(machine.memory_bytes.saturating_sub(held_back)));
    if options.reserved_cpu_milli > 0 {
        out.insert(
            "cpu".into(),
            Quantity(format!("{}m", (machine.cpus * 1000).saturating_sub(options.reserved_cpu_milli))),
        );
    }
    // What is never given out is where the node begins to be under pressure; of memory, too.
    let kept = options.eviction_hard.nodefs_available.map_or(0, |l| l.of(machine.ephemeral_bytes));
    out.insert("ephemeral-storage".into(), Quantity(machine.ephemeral_bytes.saturating_sub(kept).to_string()));
    out
}

pub fn compute(
    machine: &Machine,
    options: &KubeletOptions,
    o: &Observed,
    old: &NodeStatus,
    now: Timestamp,
) -> NodeStatus {
    let mut addresses: Vec<NodeAddress> =
        options.node_ips.iter().map(|ip| NodeAddress { address: ip.to_string(), type_: "InternalIP".into() }).collect();
    addresses.push(NodeAddress { address: options.node_name.clone(), type_: "Hostname".into() });
    let mut images: Vec<&Image> = o.images.iter().collect();
    images.sort_by_key(|i| std::cmp::Reverse(i.size_bytes));
    let images = images
        .into_iter()
        .take(IMAGES_MAX)
        .map(|i| ContainerImage {
            names: Some(i.repo_digests.iter().chain(&i.repo_tags).take(5).cloned().collect()),
            size_bytes: i64::try_from(i.size_bytes).ok(),
        })
        .collect();
    NodeStatus {
        capacity: Some(capacity(machine, options)),
        allocatable: Some(allocatable(machine, options)),
        addresses: Some(addresses),
        conditions: Some(conditions(&options.eviction_hard, o, old, now)),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: options.listen.map(|l| DaemonEndpoint { port: i32::from(l.port()) }),
        }),
        images: Some(images),
        node_info: Some(NodeSystemInfo {
            architecture: machine.architecture.into(),
            boot_id: machine.boot_id.clone(),
            container_runtime_version: o.runtime_version.clone(),
            kernel_version: machine.kernel.clone(),
            kube_proxy_version: String::new(),
            kubelet_version: options.version.clone(),
            machine_id: machine.machine_id.clone(),
            operating_system: "linux".into(),
            os_image: machine.os_image.clone(),
            system_uuid: machine.system_uuid.clone(),
            swap: None,
        }),
        ..Default::default()
    }
}

fn conditions(thresholds: &Thresholds, o: &Observed, old: &NodeStatus, now: Timestamp) -> Vec<NodeCondition> {
    let now = Time(crate::pods::status::whole_seconds(now));
    let condition = |kind: &str, status: bool, reason: &str, message: String| {
        let text = if status { "True" } else { "False" };
        let before = old.conditions.iter().flatten().find(|c| c.type_ == kind && c.status == text);
        NodeCondition {
            type_: kind.into(),
            status: text.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_heartbeat_time: Some(now.clone()),
            last_transition_time: before.and_then(|c| c.last_transition_time.clone()).or_else(|| Some(now.clone())),
        }
    };
    let short = |least: Option<Least>, left: u64, whole: u64| least.is_some_and(|l| l.undercut(left, whole));
    let memory = o.memory.is_some_and(|(left, whole)| short(thresholds.memory_available, left, whole));
    let disk = o.disk.is_some_and(|d| {
        short(thresholds.nodefs_available, d.available, d.total)
            || (d.inodes > 0 && short(thresholds.nodefs_inodes_free, d.inodes_free, d.inodes))
    });
    let pids = o.pids.is_some_and(|(used, max)| short(thresholds.pid_available, max.saturating_sub(used), max));
    let pressure = |kind: &str, on: bool, has: &str, no: &str, what: &str| {
        let (reason, message) = if on {
            (has, format!("kubelet has {what}"))
        } else {
            (
                no,
                format!(
                    "kubelet has {}",
                    what.replacen("insufficient", "sufficient", 1).replacen("disk pressure", "no disk pressure", 1)
                ),
            )
        };
        condition(kind, on, reason, message)
    };
    let problems: Vec<String> = [&o.runtime, &o.network]
        .into_iter()
        .zip(["container runtime not ready", "container runtime network not ready"])
        .filter_map(|(r, what)| r.as_ref().err().map(|e| format!("{what}: {e}")))
        .collect();
    vec![
        pressure(
            "MemoryPressure",
            memory,
            "KubeletHasInsufficientMemory",
            "KubeletHasSufficientMemory",
            "insufficient memory available",
        ),
        pressure("DiskPressure", disk, "KubeletHasDiskPressure", "KubeletHasNoDiskPressure", "disk pressure"),
        pressure(
            "PIDPressure",
            pids,
            "KubeletHasInsufficientPID",
            "KubeletHasSufficientPID",
            "insufficient PID available",
        ),
        if problems.is_empty() {
            condition("Ready", true, "KubeletReady", "kubelet is posting ready status".into())
        } else {
            condition("Ready", false, "KubeletNotReady", problems.join(", "))
        },
    ]
}

/// Whether anything but heartbeat times differs.
pub fn differs(old: &NodeStatus, new: &NodeStatus) -> bool {
    let strip = |s: &NodeStatus| {
        let mut s = s.clone();
        for c in s.conditions.iter_mut().flatten() {
            c.last_heartbeat_time = None;
        }
        // Conditions of others (network plugins) aren't ours to compare; an empty list is absent once read back.
        if let Some(list) = &mut s.conditions {
            list.retain(|c| matches!(c.type_.as_str(), "Ready" | "MemoryPressure" | "DiskPressure" | "PIDPressure"));
            list.sort_by(|a, b| a.type_.cmp(&b.type_));
        }
        s.images = s.images.filter(|i| !i.is_empty());
        (s.capacity, s.allocatable, s.addresses, s.conditions, s.images, s.node_info, s.daemon_endpoints)
    };
    strip(old) != strip(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed() -> Observed {
        Observed {
            runtime: Ok(()),
            network: Ok(()),
            runtime_version: "fake://1".into(),
            images: vec![],
            memory: Some((1 << 30, 4 << 30)),
            disk: None,
            pids: Some((100, 32768)),
        }
    }

    fn ready(s: &NodeStatus) -> (String, String) {
        let c = s.conditions.iter().flatten().find(|c| c.type_ == "Ready").unwrap();
        (c.status.clone(), c.message.clone().unwrap())
    }

    #[test]
    fn conditions_follow_runtime_and_resources() {
        let (m, options) = (
            Machine { cpus: 2, memory_bytes: 4 << 30, hugepages: vec![(2 << 20, 0)], ..Default::default() },
            KubeletOptions::new("n", "/x"),
        );
        let t = |s| Timestamp::from_second(s).unwrap();
        let first = compute(&m, &options, &observed(), &NodeStatus::default(), t(100));
        assert_eq!(ready(&first).0, "True");
        assert_eq!(first.capacity.as_ref().unwrap()["memory"].0, "4194304Ki");
        assert_eq!(first.capacity.as_ref().unwrap()["hugepages-2Mi"].0, "0");
        // Without the 100 MiB at which evictions begin.
        assert_eq!(first.allocatable.as_ref().unwrap()["memory"].0, "4091904Ki");
        let second = compute(&m, &options, &observed(), &first, t(200));
        assert!(!differs(&first, &second), "only the heartbeat moved");
        assert_eq!(
            second.conditions.as_ref().unwrap()[3].last_transition_time,
            first.conditions.as_ref().unwrap()[3].last_transition_time
        );
        let broken = compute(
            &m,
            &options,
            &Observed { network: Err("no bridge".into()), memory: Some((1, 4 << 30)), ..observed() },
            &second,
            t(300),
        );
        assert!(differs(&second, &broken));
        assert_eq!(ready(&broken), ("False".into(), "container runtime network not ready: no bridge".into()));
        let c = &broken.conditions.as_ref().unwrap()[0];
        assert_eq!((c.status.as_str(), c.reason.as_deref().unwrap()), ("True", "KubeletHasInsufficientMemory"));
    }
}
