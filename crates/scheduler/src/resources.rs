//! What a pod asks of a node, in whole numbers: CPU in millicores, everything else in its own unit.

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// Amounts by resource name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts(pub BTreeMap<String, i64>);

impl Amounts {
    pub fn of(quantities: Option<&BTreeMap<String, Quantity>>) -> Amounts {
        Amounts(quantities.into_iter().flatten().map(|(name, q)| (name.clone(), amount(name, q))).collect())
    }

    pub fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    pub fn add(&mut self, other: &Amounts) {
        for (k, v) in &other.0 {
            *self.0.entry(k.clone()).or_default() += v;
        }
    }

    pub fn subtract(&mut self, other: &Amounts) {
        for (k, v) in &other.0 {
            *self.0.entry(k.clone()).or_default() -= v;
        }
    }

    fn max(&mut self, other: &Amounts) {
        for (k, v) in &other.0 {
            let e = self.0.entry(k.clone()).or_default();
            *e = (*e).max(*v);
        }
    }
}

fn amount(name: &str, q: &Quantity) -> i64 {
    let Ok(parsed) = q.0.parse::<meta::quantity::Quantity>() else { return 0 };
    if name == "cpu" { parsed.milli_value() } else { parsed.value() }
}

fn requests(c: &Container) -> Amounts {
    Amounts::of(c.resources.as_ref().and_then(|r| r.requests.as_ref()))
}

fn is_sidecar(c: &Container) -> bool {
    c.restart_policy.as_deref() == Some("Always")
}

/// A pod's effective request: the sum of its containers and sidecars, or the largest moment of its init phase,
/// whichever is more, plus overhead. Pod-level requests stand in place of the sum. Source: KEP-753, KEP-2837.
pub fn pod_requests(spec: &PodSpec) -> Amounts {
    let mut total = Amounts::default();
    for c in &spec.containers {
        total.add(&requests(c));
    }
    let mut sidecars = Amounts::default();
    let mut peak = Amounts::default();
    for c in spec.init_containers.iter().flatten() {
        let mut moment = sidecars.clone();
        moment.add(&requests(c));
        if is_sidecar(c) {
            sidecars = moment.clone();
        }
        peak.max(&moment);
    }
    total.add(&sidecars);
    total.max(&peak);
    if let Some(r) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        for (k, v) in Amounts::of(Some(r)).0 {
            total.0.insert(k, v);
        }
    }
    total.add(&Amounts::of(spec.overhead.as_ref()));
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn init_containers_count_by_their_peak_and_sidecars_stay() {
        let spec: PodSpec = serde_json::from_value(json!({
            "containers": [{"name": "a", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}],
            "initContainers": [
                {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "50m"}}},
                {"name": "i", "resources": {"requests": {"cpu": "1"}}},
            ],
            "overhead": {"cpu": "10m"},
        }))
        .unwrap();
        let r = pod_requests(&spec);
        assert_eq!(r.get("cpu"), 1050 + 10, "the init phase needs the sidecar and the largest init container");
        assert_eq!(r.get("memory"), 64 << 20);
    }
}
