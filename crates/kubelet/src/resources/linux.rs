//! Requests and limits as cgroup settings, for a container and for the pod as a whole.

use super::qos::{self, QosClass};
use crate::quantity::{milli_of, value_of};
use cri::LinuxResources;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};

/// Microseconds; the kernel's default.
const CFS_PERIOD_US: i64 = 100_000;
const CFS_QUOTA_US_MIN: i64 = 1_000;

pub fn shares(cpu_milli: i64) -> i64 {
    if cpu_milli == 0 { 2 } else { (cpu_milli * 1024 / 1000).clamp(2, 262_144) }
}

/// -1 (no limit) for 0.
pub fn quota(cpu_milli: i64) -> i64 {
    if cpu_milli == 0 { -1 } else { (cpu_milli * CFS_PERIOD_US / 1000).max(CFS_QUOTA_US_MIN) }
}

fn from_requirements(r: Option<&ResourceRequirements>) -> LinuxResources {
    let requests = r.and_then(|r| r.requests.as_ref());
    let limits = r.and_then(|r| r.limits.as_ref());
    let cpu_limit = milli_of(limits, "cpu");
    // A missing request defaults to the limit; an explicit zero stays zero.
    let cpu_request =
        if requests.is_some_and(|m| m.contains_key("cpu")) { milli_of(requests, "cpu") } else { cpu_limit };
    LinuxResources {
        cpu_period: CFS_PERIOD_US,
        cpu_quota: quota(cpu_limit),
        cpu_shares: shares(cpu_request),
        memory_limit_bytes: value_of(limits, "memory"),
        ..Default::default()
    }
}

/// `memory_capacity` in bytes, for the OOM score of burstable pods.
pub fn for_container(pod: &Pod, container: &Container, memory_capacity: u64) -> LinuxResources {
    LinuxResources {
        oom_score_adj: oom_score_adj(pod, container, memory_capacity),
        ..from_requirements(container.resources.as_ref())
    }
}

/// Higher is killed first. Burstable containers rank by how much of the machine they asked for.
pub fn oom_score_adj(pod: &Pod, container: &Container, memory_capacity: u64) -> i64 {
    let critical = pod.spec.as_ref().and_then(|s| s.priority).is_some_and(|p| p >= 2_000_000_000);
    match qos::class(pod) {
        _ if critical => -997,
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let request = value_of(container.resources.as_ref().and_then(|r| r.requests.as_ref()), "memory");
            let score = 1000 - 1000i128 * i128::from(request) / i128::from(memory_capacity.max(1));
            // 3 keeps below guaranteed pods, 999 above best-effort ones.
            score.clamp(3, 999) as i64
        }
    }
}

/// Sums of the containers (init containers count where they need more at their time), or the pod-level resources.
pub fn for_pod(pod: &Pod, pids_max: Option<i64>) -> LinuxResources {
    let Some(spec) = &pod.spec else {
        return LinuxResources::default();
    };
    let overhead = |key| spec.overhead.as_ref().map_or(0, |o| milli_of(Some(o), key));
    let pids_limit = pids_max.unwrap_or(0);
    if let Some(r) = spec.resources.as_ref().filter(|r| r.limits.is_some() || r.requests.is_some()) {
        return LinuxResources { pids_limit, ..from_requirements(Some(r)) };
    }
    let sum = |pick: &dyn Fn(&Container) -> i64| -> i64 {
        let main: i64 = spec.containers.iter().map(pick).sum();
        let mut sidecars = 0;
        let mut init_peak = 0;
        for c in spec.init_containers.iter().flatten() {
            if c.restart_policy.as_deref() == Some("Always") {
                sidecars += pick(c);
                init_peak = init_peak.max(sidecars);
            } else {
                init_peak = init_peak.max(sidecars + pick(c));
            }
        }
        init_peak.max(main + sidecars)
    };
    let all_limited = |key: &str| {
        spec.init_containers
            .iter()
            .flatten()
            .chain(&spec.containers)
            .all(|c| milli_of(c.resources.as_ref().and_then(|r| r.limits.as_ref()), key) > 0)
    };
    let cpu_request = sum(&|c| {
        let r = c.resources.as_ref();
        let request = milli_of(r.and_then(|r| r.requests.as_ref()), "cpu");
        if request > 0 { request } else { milli_of(r.and_then(|r| r.limits.as_ref()), "cpu") }
    }) + overhead("cpu");
    let cpu_limit = sum(&|c| milli_of(c.resources.as_ref().and_then(|r| r.limits.as_ref()), "cpu")) + overhead("cpu");
    let memory_limit =
        sum(&|c| value_of(c.resources.as_ref().and_then(|r| r.limits.as_ref()), "memory")) + overhead("memory") / 1000;
    LinuxResources {
        cpu_period: CFS_PERIOD_US,
        cpu_shares: shares(cpu_request),
        // One container without a limit leaves the pod without.
        cpu_quota: if all_limited("cpu") { quota(cpu_limit) } else { -1 },
        memory_limit_bytes: if all_limited("memory") { memory_limit } else { 0 },
        pids_limit,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap()
    }

    #[test]
    fn container_settings() {
        let p = pod(
            json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"cpu": "500m"}}}]}),
        );
        let r = for_container(&p, &p.spec.as_ref().unwrap().containers[0], 1 << 30);
        assert_eq!(
            (r.cpu_shares, r.cpu_quota, r.cpu_period, r.memory_limit_bytes, r.oom_score_adj),
            (256, 50_000, 100_000, 0, 500)
        );
        let p = pod(json!({"containers": [{"name": "a"}]}));
        let r = for_container(&p, &p.spec.as_ref().unwrap().containers[0], 1 << 30);
        assert_eq!((r.cpu_shares, r.cpu_quota, r.oom_score_adj), (2, -1, 1000));
    }

    #[test]
    fn pod_settings_count_init_containers_and_need_every_limit() {
        let p = pod(json!({
            "initContainers": [{"name": "i", "resources": {"limits": {"cpu": "4", "memory": "1Gi"}}}],
            "containers": [{"name": "a", "resources": {"limits": {"cpu": "1", "memory": "2Gi"}}}]
        }));
        let r = for_pod(&p, Some(100));
        assert_eq!((r.cpu_quota, r.cpu_shares, r.memory_limit_bytes, r.pids_limit), (400_000, 4096, 2 << 30, 100));
        let p = pod(json!({"containers": [{"name": "a", "resources": {"limits": {"memory": "2Gi"}}}, {"name": "b"}]}));
        assert_eq!(for_pod(&p, None).memory_limit_bytes, 0);
    }
}
