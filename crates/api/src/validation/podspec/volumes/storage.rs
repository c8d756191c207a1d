//! Sources that mean the same in pods and in PersistentVolumes: a path of the node, and what storage systems ask.

use super::{required, secret_name};
use crate::validation::access::*;
use crate::validation::values;
use meta::field::{Errors, Path};
use regex::Regex;
use serde_json::Value;
use std::sync::LazyLock;

const HOST_PATH_TYPES: &[&str] =
    &["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// The rules of one such source.
pub fn source(kind: &str, s: &Value, path: &Path, errors: &mut Errors) {
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

pub fn storageos(s: &Value, secret: &[&str], p: &Path, errors: &mut Errors) {
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

pub const ISCSI_TOO_LONG: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
static ISCSI_NAMES: LazyLock<Vec<(&str, Option<Regex>)>> = LazyLock::new(|| {
    [
        ("iqn", r"iqn\.\d{4}-\d{2}\.([A-Za-z0-9\-.]+)(:[^,;*&$|\s]+)$"),
        ("eui", r"^eui.[A-Za-z0-9]{16}$"),
        ("naa", r"^naa.[A-Za-z0-9]{32}$"),
    ]
    .map(|(start, pattern)| (start, Regex::new(pattern).ok()))
    .into()
});

/// `volume`: the name of the PersistentVolume, of which more is asked than of a pod's volume, in fewer words.
pub fn iscsi(s: &Value, volume: Option<&str>, p: &Path, errors: &mut Errors) {
    let start = match volume {
        Some(_) => "must be valid format",
        None => "must be valid format starting with iqn, eui, or naa",
    };
    let check = |name: &str, p: Path, errors: &mut Errors| match ISCSI_NAMES.iter().find(|n| name.starts_with(n.0)) {
        None => errors.invalid(p, name, start),
        Some((_, Some(r))) if !r.is_match(name) => errors.invalid(p, name, "must be valid format"),
        Some(_) => {}
    };
    let portal = text(s, "targetPortal");
    required(s, &["targetPortal"], p, errors);
    if volume.is_some_and(|name| has(s, "initiatorName") && name.len() + 1 + portal.len() > 64) {
        errors.invalid(p.child("targetportal"), portal, ISCSI_TOO_LONG);
    }
    match text(s, "iqn") {
        "" => errors.required(p.child("iqn"), ""),
        name => check(name, p.child("iqn"), errors),
    }
    lun(int(s, "lun").unwrap_or(0), p, errors);
    if (flag(s, "chapAuthDiscovery") || flag(s, "chapAuthSession")) && !has(s, "secretRef") {
        errors.required(p.child("secretRef"), "");
    }
    if volume.is_some() {
        secret_name(s, p, errors);
    }
    if has(s, "initiatorName") {
        check(text(s, "initiatorName"), p.child("initiatorname"), errors);
    }
}

fn host_path(s: &Value, p: &Path, errors: &mut Errors) {
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
