//! What each kind means: a file per kind (or per family of kinds), a row per kind in the table below.
//!
//! To add a kind: write `kinds/<kind>.rs` with a unit struct that implements [`Strategy`], add its `mod` line,
//! and add its `row!`. A kind without a row gets [`Plain`], the generic behaviour.

use crate::strategy::{ScalePaths, Strategy};
use std::borrow::Cow;
use std::sync::Arc;

// One `pub mod` line per file, sorted.
pub mod admissionregistration;
pub mod apiservice;
pub mod certificatesigningrequest;
#[cfg(test)]
mod checks;
pub mod clustertrustbundle;
pub mod columns;
pub mod componentstatus;
pub mod configmap;
pub mod controllerrevision;
pub mod cronjob;
pub mod csi;
pub mod customresourcedefinition;
pub mod daemonset;
pub mod deployment;
pub mod dra;
pub mod endpoints;
pub mod endpointslice;
pub mod event;
pub mod flowcontrol;
pub mod horizontalpodautoscaler;
pub mod ingress;
pub mod ingressclass;
pub mod ipaddress;
pub mod job;
pub mod lease;
pub mod limitrange;
pub mod namespace;
pub mod networkpolicy;
pub mod node;
pub mod persistentvolume;
pub mod persistentvolumeclaim;
pub mod pod;
pub mod podcertificaterequest;
pub mod poddisruptionbudget;
pub mod podtemplate;
pub mod priorityclass;
pub mod rbac;
pub mod replicaset;
pub mod replicationcontroller;
pub mod resourcequota;
pub mod runtimeclass;
pub mod scale;
pub mod secret;
pub mod service;
pub mod serviceaccount;
pub mod statefulset;
pub mod storageclass;
pub mod storageversionmigration;
pub mod volumeattachment;
pub mod volumeattributesclass;

/// The strategy of a kind that has nothing special about it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl Strategy for Plain {}

/// Where most scalable kinds keep their numbers.
pub const REPLICAS: ScalePaths = ScalePaths {
    spec_replicas: Cow::Borrowed("spec.replicas"),
    status_replicas: Cow::Borrowed("status.replicas"),
    selector: Cow::Borrowed("spec.selector"),
};

/// One row of the table: the group, the kind and a constant expression that makes its strategy.
struct Row {
    group: &'static str,
    kind: &'static str,
    make: fn() -> Arc<dyn Strategy>,
}

macro_rules! row {
    ($group:literal, $kind:literal, $strategy:expr) => {
        Row { group: $group, kind: $kind, make: || Arc::new($strategy) }
    };
}

/// Every kind with a meaning of its own. Sorted by group, then kind.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    row!("", "ComponentStatus", componentstatus::ComponentStatus),
    row!("", "ConfigMap", configmap::ConfigMap),
    row!("", "Endpoints", endpoints::Endpoints),
    row!("", "Event", event::Event),
    row!("", "LimitRange", limitrange::LimitRange),
    row!("", "Namespace", namespace::Namespace),
    row!("", "Node", node::Node),
    row!("", "PersistentVolume", persistentvolume::PersistentVolume),
    row!("", "PersistentVolumeClaim", persistentvolumeclaim::PersistentVolumeClaim),
    row!("", "Pod", pod::Pod),
    row!("", "PodTemplate", podtemplate::PodTemplate),
    row!("", "ReplicationController", replicationcontroller::ReplicationController),
    row!("", "ResourceQuota", resourcequota::ResourceQuota),
    row!("", "Secret", secret::Secret),
    row!("", "Service", service::Service),
    row!("", "ServiceAccount", serviceaccount::ServiceAccount),
    row!("admissionregistration.k8s.io", "MutatingAdmissionPolicy", admissionregistration::MutatingAdmissionPolicy),
    row!("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding", admissionregistration::MutatingAdmissionPolicyBinding),
    row!("admissionregistration.k8s.io", "MutatingWebhookConfiguration", admissionregistration::MutatingWebhookConfiguration),
    row!("admissionregistration.k8s.io", "ValidatingAdmissionPolicy", admissionregistration::ValidatingAdmissionPolicy),
    row!("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding", admissionregistration::ValidatingAdmissionPolicyBinding),
    row!("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", admissionregistration::ValidatingWebhookConfiguration),
    row!("apiextensions.k8s.io", "CustomResourceDefinition", customresourcedefinition::CustomResourceDefinition),
    row!("apiregistration.k8s.io", "APIService", apiservice::APIService),
    row!("apps", "ControllerRevision", controllerrevision::ControllerRevision),
    row!("apps", "DaemonSet", daemonset::DaemonSet),
    row!("apps", "Deployment", deployment::Deployment),
    row!("apps", "ReplicaSet", replicaset::ReplicaSet),
    row!("apps", "StatefulSet", statefulset::StatefulSet),
    row!("autoscaling", "HorizontalPodAutoscaler", horizontalpodautoscaler::HorizontalPodAutoscaler),
    row!("batch", "CronJob", cronjob::CronJob),
    row!("batch", "Job", job::Job),
    row!("certificates.k8s.io", "CertificateSigningRequest", certificatesigningrequest::CertificateSigningRequest),
    row!("certificates.k8s.io", "ClusterTrustBundle", clustertrustbundle::ClusterTrustBundle),
    row!("certificates.k8s.io", "PodCertificateRequest", podcertificaterequest::PodCertificateRequest),
    row!("coordination.k8s.io", "Lease", lease::Lease),
    row!("discovery.k8s.io", "EndpointSlice", endpointslice::EndpointSlice),
    row!("events.k8s.io", "Event", event::EventsEvent),
    row!("flowcontrol.apiserver.k8s.io", "FlowSchema", flowcontrol::FlowSchema),
    row!("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration", flowcontrol::PriorityLevelConfiguration),
    row!("networking.k8s.io", "IPAddress", ipaddress::IPAddress),
    row!("networking.k8s.io", "Ingress", ingress::Ingress),
    row!("networking.k8s.io", "IngressClass", ingressclass::IngressClass),
    row!("networking.k8s.io", "NetworkPolicy", networkpolicy::NetworkPolicy),
    row!("networking.k8s.io", "ServiceCIDR", ipaddress::ServiceCIDR),
    row!("node.k8s.io", "RuntimeClass", runtimeclass::RuntimeClass),
    row!("policy", "PodDisruptionBudget", poddisruptionbudget::PodDisruptionBudget),
    row!("rbac.authorization.k8s.io", "ClusterRole", rbac::ClusterRole),
    row!("rbac.authorization.k8s.io", "ClusterRoleBinding", rbac::ClusterRoleBinding),
    row!("rbac.authorization.k8s.io", "Role", rbac::Role),
    row!("rbac.authorization.k8s.io", "RoleBinding", rbac::RoleBinding),
    row!("resource.k8s.io", "DeviceClass", dra::DeviceClass),
    row!("resource.k8s.io", "ResourceClaim", dra::ResourceClaim),
    row!("resource.k8s.io", "ResourceClaimTemplate", dra::ResourceClaimTemplate),
    row!("resource.k8s.io", "ResourceSlice", dra::ResourceSlice),
    row!("scheduling.k8s.io", "PriorityClass", priorityclass::PriorityClass),
    row!("storage.k8s.io", "CSIDriver", csi::CSIDriver),
    row!("storage.k8s.io", "CSINode", csi::CSINode),
    row!("storage.k8s.io", "CSIStorageCapacity", csi::CSIStorageCapacity),
    row!("storage.k8s.io", "StorageClass", storageclass::StorageClass),
    row!("storage.k8s.io", "VolumeAttachment", volumeattachment::VolumeAttachment),
    row!("storage.k8s.io", "VolumeAttributesClass", volumeattributesclass::VolumeAttributesClass),
    row!("storagemigration.k8s.io", "StorageVersionMigration", storageversionmigration::StorageVersionMigration),
];

/// The strategy for a kind of a built-in group; the version doesn't matter.
pub fn strategy(group: &str, kind: &str) -> Arc<dyn Strategy> {
    match TABLE.iter().find(|r| r.group == group && r.kind == kind) {
        Some(row) => (row.make)(),
        None => Arc::new(Plain),
    }
}

#[cfg(test)]
fn is_special(group: &str, kind: &str) -> bool {
    TABLE.iter().any(|r| r.group == group && r.kind == kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_kind_has_two_rows() {
        let mut seen: Vec<(&str, &str)> = TABLE.iter().map(|r| (r.group, r.kind)).collect();
        seen.sort_unstable();
        let all = seen.len();
        seen.dedup();
        assert_eq!(seen.len(), all);
    }
}
