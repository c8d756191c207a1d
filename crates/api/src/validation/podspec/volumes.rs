//! Volumes of a pod: one source each, and every source's own rules. PersistentVolumes share most sources.

use super::Around;
use crate::kinds::persistentvolumeclaim;
use crate::validation::access::*;
use crate::validation::seen::Seen;
use crate::validation::{labels, selector, signer, values};
use meta::field::{Errors, Path};
use meta::names;
use regex::Regex;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::LazyLock;

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const ONE_TYPE: &str = "may not specify more than 1 volume type";
pub const HOST_PATH_TYPES: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// Upstream's order: the first source found counts, each later one is too many.
const SOURCES: &[&str] = &[
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];
/// The same for a PersistentVolume.
const PERSISTENT_SOURCES: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

/// The volumes that are right, by name: only those can be mounted.
pub fn volumes<'a>(spec: &'a Value, around: &Around, path: &Path, errors: &mut Errors) -> HashMap<&'a str, &'a Value> {
    let all = list(spec, "volumes");
    let pod = around.pod_name();
    let mut good = HashMap::new();
    let made: Seen<String> = match pod.is_empty() {
        true => Seen::default(),
        false => all.iter().filter(|v| has(v, "ephemeral")).map(|v| format!("{pod}-{}", text(v, "name"))).collect(),
    };
    for (i, v) in all.iter().enumerate() {
        let p = path.index(i);
        let name = text(v, "name");
        let before = errors.0.len();
        source(v, around, &p, errors);
        if name.is_empty() {
            errors.required(p.child("name"), "");
        } else {
            values::dns_label(name, &p.child("name"), errors);
        }
        if good.contains_key(name) {
            errors.duplicate(p.child("name"), name);
        }
        if errors.0.len() == before {
            good.insert(name, v);
        }
        let claim = text_at(v, &["persistentVolumeClaim", "claimName"]);
        if has(v, "persistentVolumeClaim") && made.has(&claim.to_string()) {
            let text = "must not reference a PVC that gets created for an ephemeral volume";
            errors.invalid(p.child("persistentVolumeClaim.claimName"), claim, text);
        }
    }
    good
}

/// How many sources a volume names.
pub fn volume_source_count(v: &Value) -> usize {
    v.as_object().map_or(0, |o| o.iter().filter(|(k, v)| *k != "name" && !v.is_null()).count())
}

fn source(v: &Value, around: &Around, path: &Path, errors: &mut Errors) {
    let mut count = 0;
    for kind in SOURCES {
        let s = field(v, kind);
        if s.is_null() {
            continue;
        }
        count += 1;
        if count > 1 {
            errors.forbidden(path.child(excess_name(kind)), ONE_TYPE);
        } else {
            pod_source(kind, s, around, path, errors);
        }
        let name = text(v, "name");
        let pod = around.pod_name();
        if *kind == "iscsi" && has(s, "initiatorName") && name.len() + 1 + text(s, "targetPortal").len() > 64 {
            errors.invalid(path.child("name"), name, ISCSI_TOO_LONG);
        }
        if *kind == "ephemeral" && !pod.is_empty() && !name.is_empty() {
            let claim = format!("{pod}-{name}");
            for m in names::dns1123_subdomain(&claim) {
                errors.invalid(path.child("name"), name, format!("PVC name {claim:?}: {m}"));
            }
        }
    }
    if count == 0 {
        errors.required(path.clone(), "must specify a volume type");
    }
}

/// What upstream calls a source that is one too many; two of its names are misspelt, and clients see them.
fn excess_name(kind: &str) -> &str {
    match kind {
        "cephfs" => "cephFS",
        "downwardAPI" => "downwarAPI",
        other => other,
    }
}

/// The sources that only pods have.
fn pod_source(kind: &str, s: &Value, around: &Around, path: &Path, errors: &mut Errors) {
    let p = path.child(kind);
    match kind {
        "emptyDir" => {
            if super::resources::parse(field(s, "sizeLimit")).is_some_and(|q| q.sign() < 0) {
                errors.forbidden(p.child("sizeLimit"), "SizeLimit field must be a valid resource quantity");
            }
        }
        "secret" | "configMap" => {
            required(s, &[if kind == "secret" { "secretName" } else { "name" }], &p, errors);
            mode(field(s, "defaultMode"), p.child("defaultMode"), errors);
            items(s, &p, errors);
        }
        "downwardAPI" => {
            mode(field(s, "defaultMode"), p.child("defaultMode"), errors);
            for item in list(s, "items") {
                downward_item(item, &p, errors);
            }
        }
        "projected" => {
            mode(field(s, "defaultMode"), p.child("defaultMode"), errors);
            projected(s, &p, errors);
        }
        "persistentVolumeClaim" => required(s, &["claimName"], &p, errors),
        "csi" => {
            csi_driver_name(text(s, "driver"), &p.child("driver"), errors);
            if has(s, "nodePublishSecretRef") {
                let secret = text_at(s, &["nodePublishSecretRef", "name"]);
                if secret.is_empty() {
                    errors.required(p.child("nodePublishSecretRef.name"), "");
                } else {
                    values::dns_subdomain(secret, &p.child("name"), errors);
                }
            }
        }
        "ephemeral" => {
            let template = field(s, "volumeClaimTemplate");
            let p = p.child("volumeClaimTemplate");
            if template.is_null() {
                return errors.required(p, "");
            }
            let meta = p.child("metadata");
            labels::annotations(at(template, &["metadata", "annotations"]), &meta.child("annotations"), errors);
            labels::labels(at(template, &["metadata", "labels"]), &meta.child("labels"), errors);
            for (key, v) in entries(template, "metadata") {
                if key != "annotations" && key != "labels" && !is_zero(v) {
                    errors.forbidden(meta.child(key), "cannot be set");
                }
            }
            persistentvolumeclaim::spec(field(template, "spec"), &Value::Null, &p.child("spec"), errors);
        }
        "image" => {
            // A template may leave the reference to a mutating webhook.
            if around.is_pod() {
                required(s, &["reference"], &p, errors);
            }
            values::required_one_of(
                text(s, "pullPolicy"),
                &["Always", "IfNotPresent", "Never"],
                p.child("pullPolicy"),
                errors,
            );
        }
        "gitRepo" => {
            required(s, &["repository"], &p, errors);
            values::descending_path(text(s, "directory"), &p.child("directory"), errors);
        }
        "iscsi" => iscsi(s, &p, "must be valid format starting with iqn, eui, or naa", errors),
        "glusterfs" => required(s, &["endpoints", "path"], &p, errors),
        "cinder" => {
            required(s, &["volumeID"], &p, errors);
            secret_name(s, &p, errors);
        }
        "azureFile" => required(s, &["secretName", "shareName"], &p, errors),
        "storageos" => storageos(s, &["name"], &p, errors),
        _ => shared_source(kind, s, path, errors),
    }
}

/// Sources that mean the same in pods and in PersistentVolumes.
fn shared_source(kind: &str, s: &Value, path: &Path, errors: &mut Errors) {
    let p = path.child(kind);
    match kind {
        "hostPath" => host_path(s, &p, errors),
        "nfs" => {
            required(s, &["server", "path"], &p, errors);
            if !text(s, "path").starts_with('/') {
                errors.invalid(p.child("path"), text(s, "path"), "must be an absolute path");
            }
        }
        "gcePersistentDisk" => {
            // Upstream's own name for it in errors.
            let p = path.child("persistentDisk");
            required(s, &["pdName"], &p, errors);
            partition(s, &p, errors);
        }
        "awsElasticBlockStore" => {
            required(s, &["volumeID"], &p, errors);
            partition(s, &p, errors);
        }
        "flocker" => {
            let (name, uuid) = (text(s, "datasetName"), text(s, "datasetUUID"));
            if name.is_empty() && uuid.is_empty() {
                errors.required(p.clone(), "one of datasetName and datasetUUID is required");
            }
            if !name.is_empty() && !uuid.is_empty() {
                let text = "datasetName and datasetUUID can not be specified simultaneously";
                errors.invalid(p.clone(), "resource", text);
            }
            if name.contains('/') {
                errors.invalid(p.child("datasetName"), name, "must not contain '/'");
            }
        }
        "rbd" => required(s, &["monitors", "image"], &p, errors),
        "cephfs" => required(s, &["monitors"], &p, errors),
        "quobyte" => quobyte(s, &p, errors),
        "fc" => fibre_channel(s, &p, errors),
        "flexVolume" => {
            required(s, &["driver"], &p, errors);
            for (key, _) in entries(s, "options") {
                let space = format!(".{}", key.split('/').next().unwrap_or("").to_lowercase());
                let whole = key.split_once('/').map_or_else(|| format!(".{}", key.to_lowercase()), |_| space);
                if whole.ends_with(".kubernetes.io") || whole.ends_with(".k8s.io") {
                    let text = "kubernetes.io and k8s.io namespaces are reserved";
                    errors.invalid(p.child("options").key(key), key, text);
                }
            }
        }
        "vsphereVolume" => required(s, &["volumePath"], &p, errors),
        "photonPersistentDisk" => required(s, &["pdID"], &p, errors),
        "portworxVolume" => required(s, &["volumeID"], &p, errors),
        "azureDisk" => azure_disk(s, &p, errors),
        "scaleIO" => required(s, &["gateway", "system", "volumeName"], &p, errors),
        _ => {}
    }
}

/// The source of a PersistentVolume called `name`.
pub fn persistent_source(spec: &Value, name: &str, path: &Path, errors: &mut Errors) {
    let mut count = 0;
    for kind in PERSISTENT_SOURCES {
        let s = field(spec, kind);
        if s.is_null() {
            continue;
        }
        count += 1;
        if count > 1 {
            errors.forbidden(path.child(excess_name(kind)), ONE_TYPE);
            continue;
        }
        let p = path.child(kind);
        match *kind {
            "glusterfs" => {
                required(s, &["endpoints", "path"], &p, errors);
                if has(s, "endpointsNamespace") {
                    let p = p.child("endpointsNamespace");
                    match text(s, "endpointsNamespace") {
                        "" => {
                            let text = "if the endpointnamespace is set, it must be a valid namespace name";
                            errors.invalid(p, "", text);
                        }
                        namespace => values::dns_label(namespace, &p, errors),
                    }
                }
            }
            "iscsi" => {
                if has(s, "initiatorName") && name.len() + 1 + text(s, "targetPortal").len() > 64 {
                    errors.invalid(p.child("targetportal"), text(s, "targetPortal"), ISCSI_TOO_LONG);
                }
                iscsi(s, &p, "must be valid format", errors);
                secret_name(s, &p, errors);
            }
            "cinder" => {
                required(s, &["volumeID"], &p, errors);
                secret_reference(s, &p, errors);
            }
            "azureFile" => {
                required(s, &["secretName", "shareName"], &p, errors);
                if has(s, "secretNamespace") {
                    required(s, &["secretNamespace"], &p, errors);
                }
            }
            "local" => {
                match text(s, "path") {
                    "" => errors.required(p.child("path"), ""),
                    at => values::no_backsteps(at, &p.child("path"), errors),
                }
                if !has(spec, "nodeAffinity") {
                    errors.required(path.child("nodeAffinity"), "Local volume requires node affinity");
                }
            }
            "storageos" => storageos(s, &["name", "namespace"], &p, errors),
            "csi" => persistent_csi(s, &p, errors),
            _ => shared_source(kind, s, path, errors),
        }
    }
    if count == 0 {
        errors.required(path.clone(), "must specify a volume type");
    }
}

fn persistent_csi(s: &Value, p: &Path, errors: &mut Errors) {
    csi_driver_name(text(s, "driver"), &p.child("driver"), errors);
    required(s, &["volumeHandle"], p, errors);
    for key in
        ["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"]
    {
        if !has(s, key) {
            continue;
        }
        let p = p.child(key);
        match text_at(s, &[key, "name"]) {
            "" => errors.required(p.child("name"), ""),
            name => values::dns_subdomain(name, &p.child("name"), errors),
        }
        match text_at(s, &[key, "namespace"]) {
            "" => errors.required(p.child("namespace"), ""),
            namespace => values::dns_label(namespace, &p.child("namespace"), errors),
        }
    }
}

/// A CSI driver goes by a DNS name; upper case is allowed.
pub fn csi_driver_name(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path.clone(), "");
    }
    if name.len() > 63 {
        errors.too_long(path.clone(), 63);
    }
    values::each(errors, path, name, names::dns1123_subdomain(&name.to_lowercase()));
}

fn required(s: &Value, keys: &[&str], path: &Path, errors: &mut Errors) {
    for k in keys {
        if is_zero(field(s, k)) {
            errors.required(path.child(k), "");
        }
    }
}

fn secret_name(s: &Value, p: &Path, errors: &mut Errors) {
    if has(s, "secretRef") && text_at(s, &["secretRef", "name"]).is_empty() {
        errors.required(p.child("secretRef.name"), "");
    }
}

fn secret_reference(s: &Value, p: &Path, errors: &mut Errors) {
    secret_name(s, p, errors);
    if has(s, "secretRef") && text_at(s, &["secretRef", "namespace"]).is_empty() {
        errors.required(p.child("secretRef.namespace"), "");
    }
}

fn storageos(s: &Value, secret: &[&str], p: &Path, errors: &mut Errors) {
    match text(s, "volumeName") {
        "" => errors.required(p.child("volumeName"), ""),
        name => values::dns_label(name, &p.child("volumeName"), errors),
    }
    let space = text(s, "volumeNamespace");
    if !space.is_empty() {
        values::dns_label(space, &p.child("volumeNamespace"), errors);
    }
    if has(s, "secretRef") {
        required(field(s, "secretRef"), secret, &p.child("secretRef"), errors);
    }
}

fn partition(s: &Value, p: &Path, errors: &mut Errors) {
    let n = int(s, "partition").unwrap_or(0);
    if !(0..=255).contains(&n) {
        errors.invalid(p.child("partition"), n, values::between(1, 255));
    }
}

fn quobyte(s: &Value, p: &Path, errors: &mut Errors) {
    const TEXT: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = text(s, "registry");
    if registry.is_empty() {
        errors.required(p.child("registry"), TEXT);
    } else if text(s, "tenant").len() >= 65 {
        errors.required(p.child("tenant"), "must be a UUID and may not exceed a length of 64 characters");
    } else {
        for pair in registry.split(',') {
            let (host, port) = pair.rsplit_once(':').unwrap_or(("", ""));
            let bracketed = host.starts_with('[') && host.ends_with(']');
            let right =
                pair.contains(':') && (bracketed || !host.contains([':', '[', ']'])) && !port.contains([']', '[']);
            if !right {
                errors.invalid(p.child("registry"), registry, TEXT);
            }
        }
    }
    required(s, &["volume"], p, errors);
}

fn fibre_channel(s: &Value, p: &Path, errors: &mut Errors) {
    let (names, ids) = (list(s, "targetWWNs"), list(s, "wwids"));
    if names.is_empty() && ids.is_empty() {
        errors.required(p.child("targetWWNs"), "must specify either targetWWNs or wwids, but not both");
    }
    if !names.is_empty() && !ids.is_empty() {
        let text = "targetWWNs and wwids can not be specified simultaneously";
        errors.invalid(p.child("targetWWNs"), names.to_vec(), text);
    }
    if !names.is_empty() {
        match int(s, "lun") {
            None => errors.required(p.child("lun"), "lun is required if targetWWNs is specified"),
            Some(n) => lun(n, p, errors),
        }
    }
}

fn lun(n: i64, p: &Path, errors: &mut Errors) {
    if !(0..=255).contains(&n) {
        errors.invalid(p.child("lun"), n, values::between(0, 255));
    }
}

fn azure_disk(s: &Value, p: &Path, errors: &mut Errors) {
    required(s, &["diskName", "diskURI"], p, errors);
    if has(s, "cachingMode") {
        values::one_of(text(s, "cachingMode"), &["None", "ReadOnly", "ReadWrite"], p.child("cachingMode"), errors);
    }
    if !has(s, "kind") {
        return;
    }
    let (kind, uri) = (text(s, "kind"), text(s, "diskURI"));
    values::one_of(kind, &["Dedicated", "Managed", "Shared"], p.child("kind"), errors);
    let (start, example) = if kind == "Managed" {
        (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        )
    } else {
        ("https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd")
    };
    if !uri.starts_with(start) {
        errors.not_supported(p.child("diskURI"), uri, &[example]);
    }
}

const ISCSI_TOO_LONG: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
static ISCSI_NAMES: LazyLock<Vec<(&str, Option<Regex>)>> = LazyLock::new(|| {
    [
        ("iqn", r"iqn\.\d{4}-\d{2}\.([A-Za-z0-9\-.]+)(:[^,;*&$|\s]+)$"),
        ("eui", r"^eui.[A-Za-z0-9]{16}$"),
        ("naa", r"^naa.[A-Za-z0-9]{32}$"),
    ]
    .map(|(start, pattern)| (start, Regex::new(pattern).ok()))
    .into()
});

/// `start` is said of a name that begins with none of the three kinds.
fn iscsi(s: &Value, p: &Path, start: &str, errors: &mut Errors) {
    let check = |name: &str, p: Path, errors: &mut Errors| match ISCSI_NAMES.iter().find(|n| name.starts_with(n.0)) {
        None => errors.invalid(p, name, start),
        Some((_, Some(r))) if !r.is_match(name) => errors.invalid(p, name, "must be valid format"),
        Some(_) => {}
    };
    required(s, &["targetPortal", "iqn"], p, errors);
    if !text(s, "iqn").is_empty() {
        check(text(s, "iqn"), p.child("iqn"), errors);
    }
    lun(int(s, "lun").unwrap_or(0), p, errors);
    if (flag(s, "chapAuthDiscovery") || flag(s, "chapAuthSession")) && !has(s, "secretRef") {
        errors.required(p.child("secretRef"), "");
    }
    if has(s, "initiatorName") {
        check(text(s, "initiatorName"), p.child("initiatorname"), errors);
    }
}

pub fn host_path(s: &Value, p: &Path, errors: &mut Errors) {
    let at = text(s, "path");
    if at.is_empty() {
        errors.required(p.child("path"), "");
        return;
    }
    values::no_backsteps(at, &p.child("path"), errors);
    if has(s, "type") {
        values::one_of(text(s, "type"), HOST_PATH_TYPES, p.child("type"), errors);
    }
}

fn mode(v: &Value, path: Path, errors: &mut Errors) {
    if let Some(n) = v.as_i64()
        && !(0..=0o777).contains(&n)
    {
        errors.invalid(path, n, MODE);
    }
}

/// `items` of configMap and secret sources (`KeyToPath`).
fn items(s: &Value, path: &Path, errors: &mut Errors) {
    for (i, item) in list(s, "items").iter().enumerate() {
        item_of_key(item, &path.child("items").index(i), errors);
    }
}

fn item_of_key(item: &Value, p: &Path, errors: &mut Errors) {
    required(item, &["key", "path"], p, errors);
    values::local_file_path(text(item, "path"), &p.child("path"), errors);
    mode(field(item, "mode"), p.child("mode"), errors);
}

/// Upstream doesn't say which item: the path is that of the whole source.
fn downward_item(item: &Value, p: &Path, errors: &mut Errors) {
    required(item, &["path"], p, errors);
    values::local_file_path(text(item, "path"), &p.child("path"), errors);
    match (has(item, "fieldRef"), has(item, "resourceFieldRef")) {
        (true, both) => {
            let fields = super::container::VOLUME_FIELDS;
            super::container::field_ref(field(item, "fieldRef"), fields, &p.child("fieldRef"), errors);
            if both {
                let text = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.invalid(p.clone(), "resource", text);
            }
        }
        (false, true) => super::container::resource_field_ref(
            field(item, "resourceFieldRef"),
            true,
            &p.child("resourceFieldRef"),
            errors,
        ),
        (false, false) => errors.required(p.clone(), "one of fieldRef and resourceFieldRef is required"),
    }
    mode(field(item, "mode"), p.child("mode"), errors);
}

fn projected<'a>(s: &'a Value, path: &Path, errors: &mut Errors) {
    const TWICE: &str = "conflicting duplicate paths";
    let mut files: Vec<&'a str> = Vec::new();
    let mut take = |file: &'a str, shown: &str, errors: &mut Errors| {
        if files.contains(&file) {
            errors.invalid(path.clone(), shown, TWICE);
        } else {
            files.push(file);
        }
    };
    for (i, source) in list(s, "sources").iter().enumerate() {
        let p = path.child("sources").index(i);
        let count = source.as_object().map_or(0, |o| o.values().filter(|v| !v.is_null()).count());
        for kind in ["secret", "configMap"] {
            let s = field(source, kind);
            if s.is_null() {
                continue;
            }
            let q = p.child(kind);
            required(s, &["name"], &q, errors);
            for (i, item) in list(s, "items").iter().enumerate() {
                item_of_key(item, &q.child("items").index(i), errors);
                if !text(item, "path").is_empty() {
                    take(text(item, "path"), text(s, "name"), errors);
                }
            }
        }
        for item in list_at(source, &["downwardAPI", "items"]) {
            downward_item(item, &p.child("downwardAPI"), errors);
            if !text(item, "path").is_empty() {
                take(text(item, "path"), text(item, "path"), errors);
            }
        }
        let token = field(source, "serviceAccountToken");
        if !token.is_null() {
            let seconds = int(token, "expirationSeconds").unwrap_or(3600);
            let q = p.child("serviceAccountToken.expirationSeconds");
            if seconds < 600 {
                errors.invalid(q, seconds, "may not specify a duration less than 10 minutes");
            } else if seconds > 1 << 32 {
                errors.invalid(q, seconds, "may not specify a duration larger than 2^32 seconds");
            }
            // Upstream leaves the source out of the path of the token's file.
            match text(token, "path") {
                "" => errors.required(path.child("path"), ""),
                file => values::local_file_path(file, &path.child("path"), errors),
            }
        }
        let bundle = field(source, "clusterTrustBundle");
        if !bundle.is_null() {
            // Upstream's own name for it.
            trust_bundle(bundle, &p.child("clusterTrustBundlePEM"), errors);
            take(text(bundle, "path"), text(bundle, "path"), errors);
        }
        let certificate = field(source, "podCertificate");
        if !certificate.is_null() {
            pod_certificate(certificate, &p.child("podCertificate"), errors);
            for file in CERTIFICATE_FILES.iter().map(|key| text(certificate, key)).filter(|f| !f.is_empty()) {
                take(file, file, errors);
            }
        }
        if count > 1 {
            errors.forbidden(p, "may not specify more than 1 volume type per source");
        }
    }
}

/// By its own name, or all of a signer that match a selector.
fn trust_bundle(s: &Value, path: &Path, errors: &mut Errors) {
    let (name, signer) = (field(s, "name"), field(s, "signerName"));
    match (name.as_str(), signer.as_str()) {
        (Some(_), Some(_)) => errors.invalid(path.clone(), s.clone(), "only one of name and signerName may be used"),
        (Some(name), None) => {
            let at = path.child("name");
            if name.is_empty() {
                errors.required(at.clone(), "must be a valid object name");
            }
            for why in signer::bundle_name(&signer::of_bundle_name(name), name) {
                errors.invalid(at.clone(), name, format!("not a valid clustertrustbundlename: {why}"));
            }
            if has(s, "labelSelector") {
                let why = "labelSelector must be unset if name is specified";
                errors.invalid(path.child("labelSelector"), field(s, "labelSelector").clone(), why);
            }
        }
        (None, Some(name)) => {
            let at = path.child("signerName");
            match name {
                "" => errors.required(at, "must be a valid signer name"),
                name => signer::name(name, &at, errors),
            }
            selector::label_selector(field(s, "labelSelector"), &path.child("labelSelector"), errors);
        }
        (None, None) => errors.required(path.clone(), "either name or signerName must be specified"),
    }
    required(s, &["path"], path, errors);
    values::local_file_path(text(s, "path"), &path.child("path"), errors);
}

const CERTIFICATE_FILES: &[&str] = &["credentialBundlePath", "keyPath", "certificateChainPath"];

fn pod_certificate(s: &Value, path: &Path, errors: &mut Errors) {
    let signer = text(s, "signerName");
    signer::name(signer, &path.child("signerName"), errors);
    let kinds = ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
    let kind = text(s, "keyType");
    if !kinds.contains(&kind) {
        errors.not_supported(path.child("keyType"), kind, &kinds);
    }
    if let Some(seconds) = int(s, "maxExpirationSeconds") {
        let (at, most) = (path.child("maxExpirationSeconds"), signer::life_seconds_max(signer));
        if seconds < signer::LIFE_SECONDS_MIN {
            let why = format!("if provided, maxExpirationSeconds must be >= {}", signer::LIFE_SECONDS_MIN);
            errors.invalid(at, seconds, why);
        } else if seconds > most {
            errors.invalid(at, seconds, format!("if provided, maxExpirationSeconds must be <= {most}"));
        }
    }
    let files: Vec<&str> = CERTIFICATE_FILES.iter().copied().filter(|f| !text(s, f).is_empty()).collect();
    if files.is_empty() {
        let why = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        errors.required(path.clone(), why);
    }
    for file in files {
        values::local_file_path(text(s, file), &path.child(file), errors);
    }
    signer::user_annotations(field(s, "userAnnotations"), &path.child("userAnnotations"), errors);
}
