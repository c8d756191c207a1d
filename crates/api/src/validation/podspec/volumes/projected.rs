//! Files that the kubelet writes: keys of objects, fields of the pod, tokens, trust bundles, certificates.

use super::required;
use crate::validation::access::*;
use crate::validation::podspec::container;
use crate::validation::seen::Seen;
use crate::validation::{selector, signer, values};
use meta::field::{Errors, Path};
use serde_json::Value;

const MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
pub fn mode(v: &Value, path: Path, errors: &mut Errors) {
    if let Some(n) = v.as_i64()
        && !(0..=0o777).contains(&n)
    {
        errors.invalid(path, n, MODE);
    }
}

/// `items` of configMap and secret sources (`KeyToPath`).
pub fn items(s: &Value, path: &Path, errors: &mut Errors) {
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
pub fn downward_item(item: &Value, p: &Path, errors: &mut Errors) {
    required(item, &["path"], p, errors);
    values::local_file_path(text(item, "path"), &p.child("path"), errors);
    match (has(item, "fieldRef"), has(item, "resourceFieldRef")) {
        (true, both) => {
            let fields = container::VOLUME_FIELDS;
            container::field_ref(field(item, "fieldRef"), fields, &p.child("fieldRef"), errors);
            if both {
                let text = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.invalid(p.clone(), "resource", text);
            }
        }
        (false, true) => {
            container::resource_field_ref(field(item, "resourceFieldRef"), true, &p.child("resourceFieldRef"), errors)
        }
        (false, false) => errors.required(p.clone(), "one of fieldRef and resourceFieldRef is required"),
    }
    mode(field(item, "mode"), p.child("mode"), errors);
}

/// All sources of a projected volume, which write into one directory.
pub fn sources<'a>(s: &'a Value, path: &Path, errors: &mut Errors) {
    const TWICE: &str = "conflicting duplicate paths";
    let mut files: Seen<&'a str> = Seen::default();
    let mut take = |file: &'a str, shown: &str, errors: &mut Errors| {
        if files.again(file) {
            errors.invalid(path.clone(), shown, TWICE);
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
            if let Some(seconds) = int(token, "expirationSeconds") {
                values::token_seconds(seconds, p.child("serviceAccountToken.expirationSeconds"), errors);
            }
            // Upstream leaves the source out of the path of the token's file.
            match text(token, "path") {
                "" => errors.required(path.child("path"), ""),
                file => values::local_file_path(file, &path.child("path"), errors),
            }
        }
        let bundle = field(source, "clusterTrustBundle");
        if !bundle.is_null() {
            trust_bundle(bundle, &p.child("clusterTrustBundle"), errors);
            take(text(bundle, "path"), text(bundle, "path"), errors);
        }
        let certificate = field(source, "podCertificate");
        if !certificate.is_null() {
            let p = p.child("podCertificate");
            pod_certificate(certificate, &p, errors);
            let files =
                || CERTIFICATE_FILES.iter().map(|key| (key, text(certificate, key))).filter(|f| !f.1.is_empty());
            for (key, file) in files() {
                values::local_file_path(file, &p.child(key), errors);
                take(file, file, errors);
            }
            if files().next().is_none() {
                let why = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
                errors.required(p, why);
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
            if name.is_empty() {
                errors.required(at.clone(), "must be a valid signer name");
            }
            signer::name(name, &at, errors);
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
    signer::user_annotations(field(s, "userAnnotations"), &path.child("userAnnotations"), errors);
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
}
