//! A pod's quality of service class, from its requests and limits.

use crate::quantity::{milli, milli_of};
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl QosClass {
    pub fn as_str(self) -> &'static str {
        match self {
            QosClass::Guaranteed => "Guaranteed",
            QosClass::Burstable => "Burstable",
            QosClass::BestEffort => "BestEffort",
        }
    }
}

/// Only cpu and memory count; zero quantities don't.
pub fn class(pod: &Pod) -> QosClass {
    // It never changes over a pod's life, so what was once published stands.
    match pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
        Some("Guaranteed") => return QosClass::Guaranteed,
        Some("Burstable") => return QosClass::Burstable,
        Some("BestEffort") => return QosClass::BestEffort,
        _ => {}
    }
    let Some(spec) = &pod.spec else {
        return QosClass::BestEffort;
    };
    let containers: Vec<Option<&ResourceRequirements>> = match &spec.resources {
        // Pod-level resources replace the containers' for this purpose.
        Some(pod_level) if pod_level.requests.is_some() || pod_level.limits.is_some() => {
            vec![Some(pod_level)]
        }
        _ => spec.init_containers.iter().flatten().chain(&spec.containers).map(|c| c.resources.as_ref()).collect(),
    };
    let mut any = false;
    let mut guaranteed = true;
    for r in containers {
        for key in ["cpu", "memory"] {
            let request = r.and_then(|r| r.requests.as_ref()?.get(key)).map(milli).filter(|v| *v > 0);
            let limit = milli_of(r.and_then(|r| r.limits.as_ref()), key);
            any |= request.is_some() || limit > 0;
            guaranteed &= limit > 0 && request.unwrap_or(limit) == limit;
        }
    }
    match (any, guaranteed) {
        (false, _) => QosClass::BestEffort,
        (true, true) => QosClass::Guaranteed,
        (true, false) => QosClass::Burstable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(containers: serde_json::Value) -> Pod {
        serde_json::from_value(serde_json::json!({"metadata": {}, "spec": {"containers": containers}})).unwrap()
    }

    #[test]
    fn classes() {
        use serde_json::json;
        for (containers, want) in [
            (json!([{"name": "a"}]), QosClass::BestEffort),
            (json!([{"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]), QosClass::Guaranteed),
            (json!([{"name": "a", "resources": {"limits": {"cpu": "1"}}}]), QosClass::Burstable),
            (
                json!([{"name": "a", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1000m", "memory": "1024Mi"}}}]),
                QosClass::Guaranteed,
            ),
            (
                json!([{"name": "a", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}, {"name": "b"}]),
                QosClass::Burstable,
            ),
            (json!([{"name": "a", "resources": {"requests": {"cpu": "0"}}}]), QosClass::BestEffort),
            (json!([{"name": "a", "resources": {"requests": {"ephemeral-storage": "1Gi"}}}]), QosClass::BestEffort),
        ] {
            assert_eq!(class(&pod(containers.clone())), want, "{containers}");
        }
    }
}
