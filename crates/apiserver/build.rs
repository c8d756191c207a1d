//! The prose of OpenAPI: what every built-in type and field is for, as upstream publishes it.
//!
//! In: `k8s-openapi`'s JSON schemas (its `schemars` feature, only for this script). Out: `descriptions.deflate` in
//! `OUT_DIR`, which `src/openapi/descriptions.rs` reads: entries `type, field, text` (the field is empty for the type's
//! own text), with the ASCII separators 0x1f between the parts and 0x1e behind an entry, raw deflate. So no sentence of
//! upstream's is kept in this repository, and none is in the server's memory until somebody asks for a document.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use std::io::Write as _;
use std::path::PathBuf;

/// The kinds from which every other type is reached.
macro_rules! roots {
    ($generator:expr; $($module:path: {$($kind:ident),* $(,)?}),* $(,)?) => {
        $({
            use $module as module;
            $($generator.subschema_for::<module::$kind>();)*
        })*
    };
}

fn reach_all(generator: &mut SchemaGenerator) {
    use k8s_openapi::{api, apiextensions_apiserver, apimachinery, kube_aggregator};
    roots! { generator;
        api::admissionregistration::v1: {MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding,
            MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
            ValidatingWebhookConfiguration},
        api::apps::v1: {ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
        api::authentication::v1: {SelfSubjectReview, TokenRequest, TokenReview},
        api::authorization::v1: {LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview,
            SubjectAccessReview},
        api::autoscaling::v1: {HorizontalPodAutoscaler, Scale},
        api::autoscaling::v2: {HorizontalPodAutoscaler},
        api::batch::v1: {CronJob, Job},
        api::certificates::v1: {CertificateSigningRequest},
        api::certificates::v1beta1: {ClusterTrustBundle, PodCertificateRequest},
        api::coordination::v1: {Lease},
        api::core::v1: {Binding, ComponentStatus, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node,
            PersistentVolume, PersistentVolumeClaim, Pod, PodTemplate, ReplicationController, ResourceQuota, Secret,
            Service, ServiceAccount},
        api::discovery::v1: {EndpointSlice},
        api::events::v1: {Event},
        api::flowcontrol::v1: {FlowSchema, PriorityLevelConfiguration},
        api::networking::v1: {IPAddress, Ingress, IngressClass, NetworkPolicy, ServiceCIDR},
        api::node::v1: {RuntimeClass},
        api::policy::v1: {Eviction, PodDisruptionBudget},
        api::rbac::v1: {ClusterRole, ClusterRoleBinding, Role, RoleBinding},
        api::resource::v1: {DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice},
        api::scheduling::v1: {PriorityClass},
        api::storage::v1: {CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment,
            VolumeAttributesClass},
        api::storagemigration::v1beta1: {StorageVersionMigration},
        apiextensions_apiserver::pkg::apis::apiextensions::v1: {CustomResourceDefinition},
        apimachinery::pkg::apis::meta::v1: {APIGroup, APIGroupList, APIResourceList, APIVersions, DeleteOptions,
            LabelSelector, ListMeta, ObjectMeta, Patch, Status},
        apimachinery::pkg::version: {Info},
        kube_aggregator::pkg::apis::apiregistration::v1: {APIService},
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let mut generator = SchemaGenerator::new(SchemaSettings::draft2020_12());
    reach_all(&mut generator);

    let mut text = String::new();
    for (name, schema) in generator.take_definitions(true) {
        let mut entry = |field: &str, description: Option<&str>| {
            if let Some(description) = description {
                text.extend([&name, "\x1f", field, "\x1f", description, "\x1e"]);
            }
        };
        entry("", schema["description"].as_str());
        for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
            entry(field, schema["description"].as_str());
        }
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?).join("descriptions.deflate");
    let mut encoder = flate2::write::DeflateEncoder::new(std::fs::File::create(out)?, flate2::Compression::best());
    encoder.write_all(text.as_bytes())?;
    encoder.finish()?;
    Ok(())
}
