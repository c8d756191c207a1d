//! ImageLocality: prefers nodes that have the pod's images already.

use crate::framework::{Plugin, Score};
use crate::snapshot::Snapshot;
use k8s_openapi::api::core::v1::Pod;
use std::collections::HashMap;
use std::sync::Arc;

pub struct ImageLocality;

/// Images below this size are pulled quickly enough; above the ceiling more doesn't matter (bytes).
const MIN: i64 = 23 << 20;
const MAX_PER_CONTAINER: i64 = 1000 << 20;

fn normalized(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || image.contains('@') { image.to_string() } else { format!("{image}:latest") }
}

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn score<'a>(&self, pod: &'a Arc<Pod>, snapshot: &'a Snapshot) -> Option<Score<'a>> {
        let images: Vec<String> =
            pod.spec.as_ref()?.containers.iter().filter_map(|c| c.image.as_deref()).map(normalized).collect();
        let total = snapshot.len().max(1) as i64;
        let mut spread: HashMap<&str, i64> = HashMap::new();
        let holds = |node: &crate::snapshot::NodeInfo, image: &str| -> Option<i64> {
            let list = node.node.as_ref()?.status.as_ref()?.images.as_ref()?;
            let found = list
                .iter()
                .find(|i| i.names.iter().flatten().any(|n| n == image || n.ends_with(&format!("/{image}"))))?;
            Some(found.size_bytes.unwrap_or(0))
        };
        for image in &images {
            let n = snapshot.nodes().filter(|n| holds(n, image).is_some()).count() as i64;
            spread.insert(image, n);
        }
        let spread: HashMap<String, i64> = spread.into_iter().map(|(k, v)| (k.to_string(), v)).collect();
        Some(Box::new(move |node| {
            let sum: i64 =
                images.iter().filter_map(|i| Some(holds(node, i)? * spread.get(i).copied().unwrap_or(0) / total)).sum();
            let max = MAX_PER_CONTAINER * images.len().max(1) as i64;
            (sum.clamp(MIN, max) - MIN) * 100 / (max - MIN)
        }))
    }
}
