//! CertificateSigningRequest (certificates.k8s.io). The engine fills in who asks (`spec.username` and friends).

use super::columns;
use crate::strategy::{Column, NAME, NameRule, Now, Strategy, column, human_duration};
use crate::validation::access::*;
use crate::validation::{signer, values};
use base64::Engine;
use meta::field::{Errors, Path};
use serde_json::{Value, json};
use x509_parser::pem::{Pem, parse_x509_pem};
use x509_parser::prelude::{FromDer, X509CertificationRequest};

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
const EXPIRATION_SECONDS_MIN: i64 = 600;

fn decoded(encoded: &str) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default()
}

/// The request (base64 of PEM) is whole, and signed by the key that it brings.
fn check_request(encoded: &str) -> Result<(), String> {
    const PEM: &str = "PEM block type must be CERTIFICATE REQUEST";
    let bytes = decoded(encoded);
    let (_, block) = parse_x509_pem(&bytes).map_err(|_| PEM.to_string())?;
    if block.label != "CERTIFICATE REQUEST" {
        return Err(PEM.to_string());
    }
    let malformed = |e: &dyn std::fmt::Display| format!("asn1: structure error: {e}");
    let (_, request) = X509CertificationRequest::from_der(&block.contents).map_err(|e| malformed(&e))?;
    request.verify_signature().map_err(|e| format!("x509: {e}"))
}

/// One or more certificates as PEM, in base64.
fn check_certificate(encoded: &str) -> Result<(), String> {
    let bytes = decoded(encoded);
    let mut blocks = 0;
    for block in Pem::iter_from_buffer(&bytes) {
        let Ok(block) = block else { break };
        if block.label != "CERTIFICATE" {
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        block.parse_x509().map_err(|e| format!("x509: malformed certificate: {e}"))?;
        blocks += 1;
    }
    if blocks == 0 {
        return Err("must contain at least one CERTIFICATE PEM block".to_string());
    }
    Ok(())
}

/// What was decided stays decided. `decides`: by way of the approval subresource, which alone approves and denies.
/// `signs`: by way of status, which alone has certificates.
fn decisions(new: &Value, old: &Value, decides: bool, signs: bool, errors: &mut Errors) {
    let path = Path::new("status.conditions");
    let of = |v: &Value, kind: &str| -> Vec<Value> {
        list_at(v, &["status", "conditions"]).iter().filter(|c| text(c, "type") == kind).cloned().collect()
    };
    for kind in ["Approved", "Denied", "Failed"] {
        let (was, is) = (of(old, kind), of(new, kind));
        let only_deciders = kind != "Failed" && !decides;
        if is.len() < was.len() {
            errors.forbidden(path.clone(), format!("updates may not remove a condition of type {kind:?}"));
        } else if is.len() > was.len() && only_deciders {
            errors.forbidden(path.clone(), format!("updates may not add a condition of type {kind:?}"));
        } else if is != was && only_deciders {
            errors.forbidden(path.clone(), format!("updates may not modify a condition of type {kind:?}"));
        }
    }
    let certificate = |v| text_at(v, &["status", "certificate"]);
    if certificate(new) == certificate(old) {
        return;
    }
    let path = Path::new("status.certificate");
    if !signs {
        errors.forbidden(path, "updates may not set certificate content");
    } else if !certificate(old).is_empty() {
        errors.forbidden(path, "updates may not modify existing certificate content");
    } else if let Err(why) = check_certificate(certificate(new)) {
        errors.invalid(path, "<certificate data>", why);
    }
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
        if let Err(why) = check_request(text(spec, "request")) {
            errors.invalid(path.child("request"), text(spec, "request"), why);
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
        let (name, at) = (text(spec, "signerName"), path.child("signerName"));
        match name {
            "kubernetes.io/legacy-unknown" => {
                errors.invalid(at, name, "the legacy signerName is not allowed via this API version");
            }
            _ => signer::name(name, &at, errors),
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

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        values::immutable(field(new, "spec"), field(old, "spec"), Path::new("spec"), errors);
        conditions(new, errors);
    }

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        conditions(new, errors);
        decisions(new, old, false, true, errors);
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, old: &Value, errors: &mut Errors) {
        conditions(new, errors);
        decisions(new, old, true, false, errors);
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
        let good = include_str!("../../../apiserver/src/pki/jane.csr");
        check_create(&csr(good, r#""signerName":"kubernetes.io/kube-apiserver-client""#), expect![[""]]);
        // A request that somebody else's key signed asks for what isn't theirs.
        let (head, tail) = good.split_at(good.len() - 60);
        let forged = format!("{head}{}", tail.replacen('A', "B", 1).replacen('Z', "Y", 1));
        assert!(forged != good && check_request(&base64::engine::general_purpose::STANDARD.encode(forged)).is_err());
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
    fn only_the_approval_subresource_decides_and_only_status_holds_certificates() {
        let csr = |kinds: &[&str], certificate: &str| {
            let conditions: Vec<Value> = kinds.iter().map(|k| json!({"type": k, "status": "True"})).collect();
            json!({"status": {"conditions": conditions, "certificate": certificate}})
        };
        let check = |subresource: &str, old: &Value, new: &Value| {
            let mut errors = Errors::default();
            match subresource {
                "status" => CertificateSigningRequest.validate_status_update(new, old, &mut errors),
                s => CertificateSigningRequest.validate_subresource_update(s, new, old, &mut errors),
            }
            if errors.is_empty() { String::new() } else { errors.joined() }
        };
        let may_not = |what: &str| format!("status.conditions: Forbidden: updates may not {what}");
        for (subresource, old, new, expected) in [
            ("approval", csr(&[], ""), csr(&["Approved"], ""), String::new()),
            ("status", csr(&[], ""), csr(&["Approved"], ""), may_not("add a condition of type \"Approved\"")),
            ("status", csr(&["Approved"], ""), csr(&["Approved", "Failed"], ""), String::new()),
            ("approval", csr(&["Denied"], ""), csr(&[], ""), may_not("remove a condition of type \"Denied\"")),
            ("status", csr(&["Failed"], ""), csr(&[], ""), may_not("remove a condition of type \"Failed\"")),
            (
                "approval",
                csr(&["Denied"], ""),
                csr(&["Denied", "Approved"], ""),
                "status.conditions: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive".into(),
            ),
            (
                "approval",
                csr(&[], ""),
                csr(&[], "eA=="),
                "status.certificate: Forbidden: updates may not set certificate content".into(),
            ),
            (
                "status",
                csr(&[], "eA=="),
                csr(&[], ""),
                "status.certificate: Forbidden: updates may not modify existing certificate content".into(),
            ),
            (
                "status",
                csr(&[], ""),
                csr(&[], "eA=="),
                "status.certificate: Invalid value: \"<certificate data>\": must contain at least one CERTIFICATE PEM block"
                    .into(),
            ),
        ] {
            assert_eq!(check(subresource, &old, &new), expected, "{subresource} {old} {new}");
        }
        let row = CertificateSigningRequest.row(&csr(&["Denied", "Failed"], ""), Now(jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(row[5], "Denied,Failed");
    }
}
