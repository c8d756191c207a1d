//! CertificateSigningRequest (certificates.k8s.io). The engine fills in who asks (`spec.username` and friends).

use super::columns;
use super::pod::update::difference;
use crate::strategy::{AGE, Column, NAME, NameRule, Now, Strategy, column_of, human_duration};
use crate::validation::access::*;
use crate::validation::seen::{Seen, repeats};
use crate::validation::{conditions, pem, proof, signer, values};
use base64::Engine;
use meta::field::{Errors, Path};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate, X509CertificationRequest};

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
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const EXPIRATION_SECONDS_MIN: i64 = 600;

fn decoded(encoded: &str) -> Vec<u8> {
    base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default()
}

/// The request (base64 of PEM) is whole, and signed by the key that it brings.
fn check_request(encoded: &str) -> Result<(), String> {
    let bytes = decoded(encoded);
    let text = String::from_utf8_lossy(&bytes);
    let block = pem::blocks(&text).next().filter(|b| b.label == "CERTIFICATE REQUEST");
    let block = block.ok_or("PEM block type must be CERTIFICATE REQUEST")?;
    let (rest, request) =
        X509CertificationRequest::from_der(&block.der).map_err(|e| format!("asn1: structure error: {e}"))?;
    if !rest.is_empty() {
        return Err("asn1: syntax error: trailing data".to_string());
    }
    proof::request_signature(&request)
}

/// One or more certificates as PEM, in base64.
fn check_certificate(encoded: &str) -> Result<(), String> {
    let bytes = decoded(encoded);
    let text = String::from_utf8_lossy(&bytes);
    let mut blocks = 0;
    for block in pem::blocks(&text) {
        if block.label != "CERTIFICATE" {
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        if block.has_headers {
            return Err("no PEM block headers are permitted".to_string());
        }
        if block.der.is_empty() {
            return Err("found CERTIFICATE PEM block containing 0 certificates".to_string());
        }
        // A block may hold several.
        let mut rest = &block.der[..];
        while !rest.is_empty() {
            (rest, _) = X509Certificate::from_der(rest).map_err(|e| format!("x509: malformed certificate: {e}"))?;
        }
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
        if of(new, kind).len() < of(old, kind).len() {
            errors.forbidden(path.clone(), format!("updates may not remove a condition of type {kind:?}"));
        }
    }
    for kind in ["Approved", "Denied"].into_iter().filter(|_| !decides) {
        let (was, is) = (of(old, kind), of(new, kind));
        if is.len() > was.len() {
            errors.forbidden(path.clone(), format!("updates may not add a condition of type {kind:?}"));
        } else if is.len() == was.len() && is != was {
            let changed = difference("certificates.CertificateSigningRequestCondition", &json!(was), &json!(is));
            errors.forbidden(path.clone(), format!("updates may not modify a condition of type {kind:?}\n{changed}"));
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
    }
}

/// The whole object. What `old` has already may stay, though new requests may not have it.
fn validate(obj: &Value, old: Option<&Value>, errors: &mut Errors) {
    let (spec, path) = (field(obj, "spec"), Path::new("spec"));
    let was = old.map_or(&Value::Null, |o| field(o, "spec"));
    if let Err(why) = check_request(text(spec, "request")) {
        errors.invalid(path.child("request"), text(spec, "request"), why);
    }
    let (usages, at) = (texts(spec, "usages"), path.child("usages"));
    if usages.is_empty() {
        errors.required(at.clone(), "");
    }
    let unknown = texts(was, "usages").iter().any(|u| !USAGES.contains(u));
    for (i, usage) in usages.iter().enumerate().filter(|_| !unknown) {
        values::one_of(usage, USAGES, at.index(i), errors);
    }
    if !repeats(texts(was, "usages")) {
        let mut seen = Seen::default();
        for (i, usage) in usages.iter().enumerate().filter(|(_, u)| seen.again(**u)) {
            errors.duplicate(at.index(i), *usage);
        }
    }
    let (signer, at) = (text(spec, "signerName"), path.child("signerName"));
    if signer == LEGACY_SIGNER && text(was, "signerName") != LEGACY_SIGNER {
        errors.invalid(at, signer, "the legacy signerName is not allowed via this API version");
    } else {
        signer::name(signer, &at, errors);
    }
    if let Some(seconds) = int(spec, "expirationSeconds").filter(|s| *s < EXPIRATION_SECONDS_MIN) {
        let text = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.invalid(path.child("expirationSeconds"), seconds, text);
    }
    check_conditions(obj, old.unwrap_or(&Value::Null), errors);
    let certificate = |v| text_at(v, &["status", "certificate"]);
    let (is, was) = (certificate(obj), old.map_or("", certificate));
    if !is.is_empty()
        && old.is_none_or(|_| is != was)
        && (was.is_empty() || check_certificate(was).is_ok())
        && let Err(why) = check_certificate(is)
    {
        errors.invalid(Path::new("status.certificate"), "<certificate data>", why);
    }
}

fn check_conditions(obj: &Value, old: &Value, errors: &mut Errors) {
    let path = Path::new("status.conditions");
    let kinds = |v| -> Vec<&str> { list_at(v, &["status", "conditions"]).iter().map(|c| text(c, "type")).collect() };
    let (is, was) = (kinds(obj), kinds(old));
    let (both, twice) = (was.contains(&"Approved") && was.contains(&"Denied"), repeats(&was));
    let (unnamed, mut before) = (was.contains(&""), Seen::default());
    for (i, c) in list_at(obj, &["status", "conditions"]).iter().enumerate() {
        let (path, kind) = (path.index(i), is[i]);
        if kind.is_empty() && !unnamed {
            errors.required(path.child("type"), "");
        }
        let allowed: &[&str] = match kind {
            "Approved" | "Denied" | "Failed" => &["True"],
            _ => &["False", "True", "Unknown"],
        };
        values::required_one_of(text(c, "status"), allowed, path.child("status"), errors);
        let opposite = match kind {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "no other",
        };
        if !both && before.has(&opposite) {
            let text = "Approved and Denied conditions are mutually exclusive";
            errors.invalid(Path::new("status.conditions"), kind, text);
        }
        if before.again(kind) && !twice {
            errors.duplicate(path.child("type"), kind);
        }
    }
}

impl Strategy for CertificateSigningRequest {
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        validate(obj, None, errors);
    }

    /// A request is never changed; approvals and certificates have subresources of their own.
    fn prepare_update(&self, new: &mut Value, old: &Value, _has_status: bool) {
        for key in ["spec", "status"] {
            copy_field(new, old, key);
        }
    }

    /// What was decided is not written here; as many decisions as there were are taken for the old ones.
    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        for kind in ["Approved", "Denied"] {
            let decided = |c: &Value| text(c, "type") == kind;
            let before = list_at(old, &["status", "conditions"]).iter().filter(|c| decided(c));
            if before.clone().count() != list_at(new, &["status", "conditions"]).iter().filter(|c| decided(c)).count() {
                continue;
            }
            if let Some(status) = object_mut(new, "status") {
                for (to, from) in items_mut(status, "conditions").filter(|c| decided(c)).zip(before) {
                    *to = from.clone();
                }
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate(new, Some(old), errors);
        decisions(new, old, false, false, errors);
    }

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        validate(new, Some(old), errors);
        decisions(new, old, false, true, errors);
    }

    fn validate_subresource_update(&self, _subresource: &str, new: &Value, old: &Value, errors: &mut Errors) {
        validate(new, Some(old), errors);
        decisions(new, old, true, false, errors);
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        vec![("spec.signerName", text_at(obj, &["spec", "signerName"]).to_string())]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            NAME,
            AGE,
            column_of("SignerName", "string", 0, "api.certificates.v1.CertificateSigningRequestSpec.signerName"),
            column_of("Requestor", "string", 0, "api.certificates.v1.CertificateSigningRequestSpec.request"),
            column_of(
                "RequestedDuration",
                "string",
                0,
                "api.certificates.v1.CertificateSigningRequestSpec.expirationSeconds",
            ),
            column_of("Condition", "string", 0, "api.certificates.v1.CertificateSigningRequestStatus.conditions"),
        ];
        COLUMNS
    }

    fn row(&self, obj: &Value, now: Now) -> Vec<Value> {
        let spec = field(obj, "spec");
        let duration = int(spec, "expirationSeconds").map(human_duration).unwrap_or_default();
        let mut shown = match (conditions::find(obj, "Approved"), conditions::find(obj, "Denied")) {
            (_, Some(_)) => "Denied",
            (Some(_), None) => "Approved",
            (None, None) => "Pending",
        }
        .to_string();
        if conditions::find(obj, "Failed").is_some() {
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
        let client = r#""signerName":"kubernetes.io/kube-apiserver-client""#;
        check_create(&csr(good, &format!(r#"{client},"usages":["client auth"]"#)), expect![[""]]);
        check_create(&csr(good, client), expect![["spec.usages: Required value\n"]]);
        // Go knows this curve with any hash, and headers of a request don't bother it.
        for good in [include_str!("checks/certs/p521.csr"), include_str!("checks/certs/p521-sha512.csr")] {
            let headed = good.replacen("REQUEST-----\n", "REQUEST-----\nAbout: me\n\n", 1);
            for good in [good, &headed, &format!("A request:\n{good}")] {
                check_create(&csr(good, &format!(r#"{client},"usages":["client auth"]"#)), expect![[""]]);
            }
            let (head, tail) = good.split_at(good.find("\n-----END").unwrap() - 3);
            let forged = format!("{head}{}{}", if tail.starts_with('A') { 'B' } else { 'A' }, &tail[1..]);
            let why = check_request(&base64::engine::general_purpose::STANDARD.encode(forged)).unwrap_err();
            assert_eq!(why, "x509: ECDSA verification failure");
        }
        // A request that somebody else's key signed asks for what isn't theirs.
        let (head, tail) = good.split_at(good.len() - 60);
        let forged = format!("{head}{}", tail.replacen('A', "B", 1).replacen('Z', "Y", 1));
        assert!(forged != good && check_request(&base64::engine::general_purpose::STANDARD.encode(forged)).is_err());
        check_create(
            &csr("junk", r#""signerName":"nobody","expirationSeconds":5,"usages":["client auth","client auth","fun"]"#),
            expect![[r#"
                spec.request: Invalid value: "anVuaw==": PEM block type must be CERTIFICATE REQUEST
                spec.usages[2]: Unsupported value: "fun": supported values: "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment", "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel", "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime", "server auth", "signing", "timestamping"
                spec.usages[1]: Duplicate value: "client auth"
                spec.signerName: Invalid value: "nobody": must be a fully qualified domain and path of the form 'example.com/signer-name'
                spec.expirationSeconds: Invalid value: 5: may not specify a duration less than 600 seconds (10 minutes)
            "#]],
        );
    }

    #[test]
    fn requests_are_signed_by_their_keys_of_whatever_kind() {
        let engine = base64::engine::general_purpose::STANDARD;
        let keys: Value = serde_json::from_str(include_str!("checks/certs/keys.json")).unwrap();
        let pem = |der: &[u8]| {
            let text = engine.encode(der);
            engine.encode(format!("-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n"))
        };
        for (kind, why) in [
            ("Ed25519", "x509: Ed25519 verification failure"),
            ("P256", "x509: ECDSA verification failure"),
            ("P384", "x509: ECDSA verification failure"),
            ("P521", "x509: ECDSA verification failure"),
            ("Rsa", "crypto/rsa: verification error"),
            ("Rsa2048", "crypto/rsa: verification error"),
        ] {
            let mut request = engine.decode(keys[kind]["stub"].as_str().unwrap()).unwrap();
            assert_eq!(check_request(&pem(&request)), Ok(()), "{kind}");
            *request.last_mut().unwrap() ^= 1;
            assert_eq!(check_request(&pem(&request)), Err(why.to_string()), "{kind}");
        }
    }

    #[test]
    fn certificates_are_plain_blocks() {
        let leaf = include_str!("checks/certs/leaf.pem");
        let check = |text: &str| check_certificate(&base64::engine::general_purpose::STANDARD.encode(text));
        for good in [leaf.to_string(), format!("{leaf}and\n{leaf}")] {
            assert_eq!(check(&good), Ok(()));
        }
        for (bad, why) in [
            (
                leaf.replacen("CERTIFICATE-----\n", "CERTIFICATE-----\nA: b\n\n", 1),
                "no PEM block headers are permitted",
            ),
            (leaf.replace("CERTIFICATE", "KEY"), "only CERTIFICATE PEM blocks are allowed, found \"KEY\""),
            (leaf.replace('-', ""), "must contain at least one CERTIFICATE PEM block"),
            (
                "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----".to_string(),
                "found CERTIFICATE PEM block containing 0 certificates",
            ),
        ] {
            assert_eq!(check(&bad).unwrap_err(), why);
        }
        let junk = "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----";
        assert!(check(junk).unwrap_err().starts_with("x509: malformed certificate"));
    }

    #[test]
    fn only_the_approval_subresource_decides_and_only_status_holds_certificates() {
        let request =
            base64::engine::general_purpose::STANDARD.encode(include_str!("../../../apiserver/src/pki/jane.csr"));
        let csr = |kinds: &[&str], certificate: &str| {
            let conditions: Vec<Value> = kinds.iter().map(|k| json!({"type": k, "status": "True"})).collect();
            let spec = json!({"request": request, "usages": ["client auth"], "signerName": "example.com/a"});
            json!({"spec": spec, "status": {"conditions": conditions, "certificate": certificate}})
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
                "status.conditions: Invalid value: \"Approved\": Approved and Denied conditions are mutually exclusive".into(),
            ),
            (
                "approval",
                csr(&[], ""),
                csr(&[], "eA=="),
                "[status.certificate: Invalid value: \"<certificate data>\": must contain at least one CERTIFICATE PEM block, status.certificate: Forbidden: updates may not set certificate content]".into(),
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
