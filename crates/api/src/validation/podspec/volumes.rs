//! Volumes of a pod: one source each, and every source's own rules.

use crate::validation::access::*;
use crate::validation::{selector, signer, values};
use meta::field::{Errors, Path};
use serde_json::Value;

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
pub const HOST_PATH_TYPES: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

pub fn volumes(volumes: &[Value], path: &Path, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for (i, v) in volumes.iter().enumerate() {
        let p = path.index(i);
        let name = text(v, "name");
        source(v, &p, errors);
        if name.is_empty() {
            errors.required(p.child("name"), "");
        } else {
            values::dns_label(name, &p.child("name"), errors);
        }
        if seen.contains(&name) {
            errors.duplicate(p.child("name"), name);
        } else if !name.is_empty() {
            seen.push(name);
        }
    }
}

/// How many sources a volume names.
pub fn volume_source_count(v: &Value) -> usize {
    v.as_object().map_or(0, |o| o.iter().filter(|(k, v)| *k != "name" && !v.is_null()).count())
}

fn source(v: &Value, path: &Path, errors: &mut Errors) {
    let mut count = 0;
    for (kind, s) in v.as_object().into_iter().flatten() {
        if kind == "name" || s.is_null() {
            continue;
        }
        let p = path.child(kind);
        count += 1;
        if count > 1 {
            errors.forbidden(p, "may not specify more than 1 volume type");
            continue;
        }
        one_source(kind, s, text(v, "name"), &p, errors);
    }
    if count == 0 {
        errors.required(path.clone(), "must specify a volume type");
    }
}

fn required(s: &Value, keys: &[&str], path: &Path, errors: &mut Errors) {
    for k in keys {
        if is_zero(field(s, k)) {
            errors.required(path.child(k), "");
        }
    }
}

fn one_source(kind: &str, s: &Value, _name: &str, p: &Path, errors: &mut Errors) {
    match kind {
        "hostPath" => host_path(s, p, errors),
        "emptyDir" => {
            if let Some(q) = super::resources::parse(field(s, "sizeLimit"))
                && q.sign() < 0
            {
                errors.forbidden(p.child("sizeLimit"), "SizeLimit field must be a valid resource quantity");
            }
            let medium = text(s, "medium");
            if !medium.is_empty() && medium != "Memory" && !medium.starts_with("HugePages") {
                errors.not_supported(p.child("medium"), medium, &["", "HugePages", "Memory"]);
            }
        }
        "secret" => {
            required(s, &["secretName"], p, errors);
            mode(field(s, "defaultMode"), p.child("defaultMode"), errors);
            items(s, p, errors);
        }
        "configMap" => {
            required(s, &["name"], p, errors);
            mode(field(s, "defaultMode"), p.child("defaultMode"), errors);
            items(s, p, errors);
        }
        "downwardAPI" => {
            mode(field(s, "defaultMode"), p.child("defaultMode"), errors);
            downward_items(s, p, errors);
        }
        "projected" => {
            mode(field(s, "defaultMode"), p.child("defaultMode"), errors);
            projected(s, p, errors);
        }
        "persistentVolumeClaim" => required(s, &["claimName"], p, errors),
        "nfs" => nfs(s, p, errors),
        "csi" => required(s, &["driver"], p, errors),
        "ephemeral" => {
            let template = field(s, "volumeClaimTemplate");
            if template.is_null() {
                errors.required(p.child("volumeClaimTemplate"), "");
            } else {
                let p = p.child("volumeClaimTemplate.spec");
                crate::kinds::persistentvolumeclaim::spec(field(template, "spec"), &p, errors);
            }
        }
        "image" => {
            required(s, &["reference"], p, errors);
            let policy = text(s, "pullPolicy");
            if !policy.is_empty() {
                values::one_of(policy, &["Always", "IfNotPresent", "Never"], p.child("pullPolicy"), errors);
            }
        }
        "gitRepo" => {
            required(s, &["repository"], p, errors);
            values::descending_path(text(s, "directory"), &p.child("directory"), errors);
        }
        "iscsi" => required(s, &["targetPortal", "iqn"], p, errors),
        "gcePersistentDisk" => required(s, &["pdName"], p, errors),
        "awsElasticBlockStore" | "cinder" => required(s, &["volumeID"], p, errors),
        "azureFile" => required(s, &["secretName", "shareName"], p, errors),
        "azureDisk" => required(s, &["diskName", "diskURI"], p, errors),
        "cephfs" => required(s, &["monitors"], p, errors),
        "glusterfs" => required(s, &["endpoints", "path"], p, errors),
        "rbd" => required(s, &["monitors", "image"], p, errors),
        "flexVolume" => required(s, &["driver"], p, errors),
        "vsphereVolume" => required(s, &["volumePath"], p, errors),
        "photonPersistentDisk" => required(s, &["pdID"], p, errors),
        "portworxVolume" => required(s, &["volumeID"], p, errors),
        "quobyte" => required(s, &["registry", "volume"], p, errors),
        "scaleIO" => required(s, &["gateway", "system", "volumeName"], p, errors),
        _ => {}
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

pub fn nfs(s: &Value, p: &Path, errors: &mut Errors) {
    required(s, &["server", "path"], p, errors);
    if !text(s, "path").starts_with('/') {
        errors.invalid(p.child("path"), text(s, "path"), "must be an absolute path");
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
        let p = path.child("items").index(i);
        required(item, &["key", "path"], &p, errors);
        values::local_file_path(text(item, "path"), &p.child("path"), errors);
        mode(field(item, "mode"), p.child("mode"), errors);
    }
}

fn downward_items(s: &Value, path: &Path, errors: &mut Errors) {
    for (i, item) in list(s, "items").iter().enumerate() {
        // The source is not part of this path upstream: items are named alone.
        let p = path.child("items").index(i);
        let file = text(item, "path");
        if file.is_empty() {
            errors.required(p.child("path"), "");
        }
        values::local_file_path(file, &p.child("path"), errors);
        match (has(item, "fieldRef"), has(item, "resourceFieldRef")) {
            (true, true) => errors.invalid(
                p.clone(),
                "resource",
                "fieldRef and resourceFieldRef can not be specified simultaneously",
            ),
            (true, false) => super::container::field_ref(
                field(item, "fieldRef"),
                super::container::VOLUME_FIELDS,
                &p.child("fieldRef"),
                errors,
            ),
            (false, true) => super::container::resource_field_ref(
                field(item, "resourceFieldRef"),
                true,
                &p.child("resourceFieldRef"),
                errors,
            ),
            (false, false) => errors.required(p.child("fieldRef"), "one of fieldRef and resourceFieldRef is required"),
        }
        mode(field(item, "mode"), p.child("mode"), errors);
    }
}

fn projected(s: &Value, path: &Path, errors: &mut Errors) {
    let mut files: Vec<&str> = Vec::new();
    for (i, source) in list(s, "sources").iter().enumerate() {
        let p = path.child("sources").index(i);
        let mut count = 0;
        for (kind, s) in source.as_object().into_iter().flatten().filter(|(_, v)| !v.is_null()) {
            count += 1;
            let q = p.child(kind);
            if count > 1 {
                errors.forbidden(q, "may not specify more than 1 volume type");
                continue;
            }
            match kind.as_str() {
                "secret" | "configMap" => {
                    required(s, &["name"], &q, errors);
                    items(s, &q, errors);
                }
                "downwardAPI" => downward_items(s, &q, errors),
                "serviceAccountToken" => {
                    let seconds = int(s, "expirationSeconds").unwrap_or(3600);
                    let q2 = q.child("expirationSeconds");
                    if seconds < 600 {
                        errors.invalid(q2, seconds, "may not specify a duration less than 10 minutes");
                    } else if seconds > 1 << 32 {
                        errors.invalid(q2, seconds, "may not specify a duration larger than 2^32 seconds");
                    }
                    token_path(s, &q, errors);
                }
                // Upstream's own name for it.
                "clusterTrustBundle" => trust_bundle(s, &p.child("clusterTrustBundlePEM"), errors),
                "podCertificate" => pod_certificate(s, &q, errors),
                _ => {}
            }
            let own = [&["path"][..], CERTIFICATE_FILES].concat().into_iter().map(|key| text(s, key));
            for file in list(s, "items").iter().map(|i| text(i, "path")).chain(own).filter(|f| !f.is_empty()) {
                if files.contains(&file) {
                    errors.invalid(path.clone(), file, format!("conflicting duplicate paths: {file}"));
                }
                files.push(file);
            }
        }
        if count == 0 {
            errors.required(p, "must specify a volume type");
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
    token_path(s, path, errors);
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

fn token_path(s: &Value, path: &Path, errors: &mut Errors) {
    let file = text(s, "path");
    if file.is_empty() {
        errors.required(path.child("path"), "");
    } else {
        values::local_file_path(file, &path.child("path"), errors);
    }
}
