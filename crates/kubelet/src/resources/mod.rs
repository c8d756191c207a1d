//! What a pod may use of the machine: QoS class, cgroup settings, OOM score.

pub mod cgroup;
pub mod linux;
pub mod qos;
