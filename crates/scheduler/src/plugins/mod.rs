//! The plugins, in upstream's order of filtering. A new one is a file and a row here.

pub mod image_locality;
pub mod inter_pod_affinity;
pub mod node_affinity;
pub mod node_name;
pub mod node_ports;
pub mod node_resources_balanced;
pub mod node_resources_fit;
pub mod node_unschedulable;
pub mod pod_topology_spread;
pub mod scheduling_gates;
pub mod taint_toleration;

use crate::framework::Plugin;
use std::sync::Arc;

pub fn default_plugins() -> Vec<Arc<dyn Plugin>> {
    vec![
        Arc::new(scheduling_gates::SchedulingGates),
        Arc::new(node_unschedulable::NodeUnschedulable),
        Arc::new(node_name::NodeName),
        Arc::new(taint_toleration::TaintToleration),
        Arc::new(node_affinity::NodeAffinity),
        Arc::new(node_ports::NodePorts),
        Arc::new(node_resources_fit::NodeResourcesFit),
        Arc::new(pod_topology_spread::PodTopologySpread),
        Arc::new(inter_pod_affinity::InterPodAffinity),
        Arc::new(node_resources_balanced::NodeResourcesBalancedAllocation),
        Arc::new(image_locality::ImageLocality),
    ]
}
