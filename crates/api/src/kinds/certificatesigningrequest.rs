//! CertificateSigningRequest (certificates.k8s.io). The engine fills in who asks (`spec.username` and friends).

use super::columns;
use crate::strategy::{Column, NAME, NameRule, Now, Strategy, column, human_duration};
use crate::validation::access::*;
use crate::validation::values;
use base64::Engine;
use meta::field::{Errors, Path};
use serde_json::{Value, json};

pub struct CertificateSigningRequest;

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
const SIGNER_NAME_BYTES_MAX: usize = 571;
const EXPIRATION_SECONDS_MIN: i64 = 600;

/// Base64 of PEM to PEM, where the label is the one wanted.
fn pem(encoded: &str, label: &str) -> bool {
    base64::engine::general_purpose::STANDARD.decode(encoded).ok().and_then(|b| String::from_utf8(b).ok()).is_some_and(
        |t| t.contains(&format!("-----BEGIN {label}-----")) && t.contains(&format!("-----END {label}-----")),
    )
}

fn condition<'a>(obj: &'a Value, kind: &str) -> Option<&'a Value> {
    list_at(obj, &["status", "conditions"]).iter().find(|c| text(c, "type") == kind)
}

fn conditions(obj: &Value, errors: &mut Errors) {
    let path = Path::new("status.conditions");
    let mut seen = Vec::new();
    for (i, c) in list_at(obj, &["status", "conditions"]).iter().enumerate() {
        let (path, kind) = (path.index(i), text(c, "type"));
        match kind {
            "" => errors.required(path.child("type"), ""),
            k if seen.contains(&k) => errors.duplicate(path.child("type"), k),
            _ => {}
        }
        seen.push(kind);
        let status = text(c, "status");
        match kind {
            "Approved" | "Denied" | "Failed" => {
                values::required_one_of(status, &["True"], path.child("status"), errors)
            }
            _ => values::required_one_of(status, &["True", "False", "Unknown"], path.child("status"), errors),
        }
    }
    if seen.contains(&"Approved") && seen.contains(&"Denied") {
        errors.invalid(path, "Denied", "Approved and Denied conditions are mutually exclusive");
    }
}

impl Strategy for CertificateSigningRequest {
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn defaults(&self, obj: &mut Value) {
        if let Some(spec) = ensure_object(obj, "spec")
            && list(spec, "usages").is_empty()
        {
            set(spec, "usages", json!(["digital signature", "key encipherment"]));
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let (spec, path) = (field(obj, "spec"), Path::new("spec"));
        if !pem(text(spec, "request"), "CERTIFICATE REQUEST") {
            errors.invalid(path.child("request"), text(spec, "request"), "PEM block type must be CERTIFICATE REQUEST");
        }
        let mut seen = Vec::new();
        for (i, usage) in texts(spec, "usages").into_iter().enumerate() {
            let path = path.child("usages").index(i);
            values::one_of(usage, USAGES, path.clone(), errors);
            if seen.contains(&usage) {
                errors.duplicate(path, usage);
            }
            seen.push(usage);
        }
        let (signer, at) = (text(spec, "signerName"), path.child("signerName"));
        match signer.split_once('/') {
            _ if signer.is_empty() => errors.required(at, ""),
            _ if signer.len() > SIGNER_NAME_BYTES_MAX => errors.too_long(at, SIGNER_NAME_BYTES_MAX),
            _ if signer == "kubernetes.io/legacy-unknown" => {
                errors.invalid(at, signer, "the legacy signerName is not allowed via this API version");
            }
            Some((domain, rest)) if domain.contains('.') && !rest.is_empty() => {
                values::dns_subdomain(domain, &at, errors);
                for part in rest.split('.') {
                    values::dns_subdomain(part, &at, errors);
                }
            }
            _ => errors.invalid(
                at,
                signer,
                "must be a fully qualified domain and path of the form 'example.com/signer-name'",
            ),
        }
        if let Some(seconds) = int(spec, "expirationSeconds")
            && seconds < EXPIRATION_SECONDS_MIN
        {
            errors.invalid(
                path.child("expirationSeconds"),
                seconds,
                "may not specify a duration less than 600 seconds (10 minutes)",
            );
        }
    }

    /// A request is never changed; approvals and certificates have subresources of their own.
    fn prepare_update(&self, new: &mut Value, old: &Value, _has_status: bool) {
        for key in ["spec", "status"] {
            copy_field(new, old, key);
        }
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        // What was decided stays decided: only the approval subresource writes these.
        let decided = |v: &Value| {
            list_at(v, &["status", "conditions"])
                .iter()
                .filter(|c| matches!(text(c, "type"), "Approved" | "Denied"))
                .cloned()
                .collect::<Vec<_>>()
        };
        let mut all = decided(old);
        all.extend(
            list_at(new, &["status", "conditions"])
                .iter()
                .filter(|c| !matches!(text(c, "type"), "Approved" | "Denied"))
                .cloned(),
        );
        if !all.is_empty()
            && let Some(status) = ensure_object(new, "status")
        {
            set(status, "conditions", all);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        values::immutable(field(new, "spec"), field(old, "spec"), Path::new("spec"), errors);
        conditions(new, errors);
    }

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        conditions(new, errors);
        let of = |v| text_at(v, &["status", "certificate"]);
        let path = Path::new("status.certificate");
        if of(new).is_empty() || of(new) == of(old) {
            return;
        }
        if !of(old).is_empty() {
            errors.forbidden(path, "updates may not set certificate content");
        } else if !pem(of(new), "CERTIFICATE") {
            errors.invalid(path, "<certificate data>", "must contain at least one CERTIFICATE PEM block");
        }
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        vec![("spec.signerName", text_at(obj, &["spec", "signerName"]).to_string())]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            column("Age", "string", 0),
            column("SignerName", "string", 0),
            column("Requestor", "string", 0),
            column("RequestedDuration", "string", 0),
            column("Condition", "string", 0),
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let spec = field(obj, "spec");
        let duration = int(spec, "expirationSeconds").map(human_duration).unwrap_or_default();
        let mut shown = match (condition(obj, "Approved"), condition(obj, "Denied")) {
            (_, Some(_)) => "Denied",
            (Some(_), None) => "Approved",
            (None, None) => "Pending",
        }
        .to_string();
        if condition(obj, "Failed").is_some() {
            shown.push_str(",Failed");
        }
        if !text_at(obj, &["status", "certificate"]).is_empty() {
            shown.push_str(",Issued");
        }
        vec![
            columns::name(obj),
            columns::age_cell(obj, now),
            columns::or_none(text(spec, "signerName")),
            json!(text(spec, "username")),
            columns::or_none(&duration),
            json!(shown),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::checks::check_create;
    use expect_test::expect;

    #[test]
    fn requests_are_checked() {
        let csr = |request: &str, rest: &str| {
            let request = base64::engine::general_purpose::STANDARD.encode(request);
            format!(
                r#"{{"apiVersion":"certificates.k8s.io/v1","kind":"CertificateSigningRequest","metadata":{{"name":"c"}},
                "spec":{{"request":"{request}",{rest}}}}}"#
            )
        };
        let good = "-----BEGIN CERTIFICATE REQUEST-----\nx\n-----END CERTIFICATE REQUEST-----\n";
        check_create(&csr(good, r#""signerName":"kubernetes.io/kube-apiserver-client""#), expect![[""]]);
        check_create(
            &csr("junk", r#""signerName":"nobody","expirationSeconds":5,"usages":["client auth","client auth","fun"]"#),
            expect![[r#"
                spec.request: Invalid value: "anVuaw==": PEM block type must be CERTIFICATE REQUEST
                spec.usages[1]: Duplicate value: "client auth"
                spec.usages[2]: Unsupported value: "fun": supported values: "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment", "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel", "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime", "server auth", "signing", "timestamping"
                spec.signerName: Invalid value: "nobody": must be a fully qualified domain and path of the form 'example.com/signer-name'
                spec.expirationSeconds: Invalid value: 5: may not specify a duration less than 600 seconds (10 minutes)
            "#]],
        );
    }

    #[test]
    fn only_the_approval_subresource_decides() {
        let old = json!({"status":{"conditions":[{"type":"Denied","status":"True"}]}});
        let mut new =
            json!({"status":{"conditions":[{"type":"Approved","status":"True"},{"type":"Failed","status":"True"}]}});
        CertificateSigningRequest.prepare_status_update(&mut new, &old);
        assert_eq!(
            new,
            json!({"status":{"conditions":[{"type":"Denied","status":"True"},{"type":"Failed","status":"True"}]}})
        );
        let row = CertificateSigningRequest.row(&new, Now(jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(row[5], "Denied,Failed");
    }
}
