//! PodCertificateRequest (certificates.k8s.io): a node asks a signer for a certificate in the name of one of its pods.

use super::columns;
use crate::codec::scalar::{format_duration, parse_time};
use crate::convert::BARE_KEYS;
use crate::strategy::{Column, METADATA, Now, Strategy};
use crate::validation::access::*;
use crate::validation::conditions::{conditions, is_true};
use crate::validation::proof::{self, Refusal};
use crate::validation::{pem, signer, values};
use base64::Engine;
use jiff::{SignedDuration, Timestamp};
use meta::field::{Errors, Path};
use meta::names;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509CertificationRequest};
use x509_parser::x509::SubjectPublicKeyInfo;

pub struct PodCertificateRequest;

const LIFE_SECONDS_DEFAULT: i64 = 86400;
const UID_BYTES_MAX: usize = 128;
const KEY_BYTES_MAX: usize = 10 * 1024;
const CHAIN_BYTES_MAX: usize = 100 * 1024;
/// How far a certificate's beginning may be from now.
const SKEW: SignedDuration = SignedDuration::from_mins(5);
/// What lies at least between a certificate's begin, its refresh and its end.
const REFRESH_MARGIN: SignedDuration = SignedDuration::from_mins(10);
const ENDS: [&str; 3] = ["Issued", "Denied", "Failed"];

/// How the request brings its key.
struct Asked {
    stub: Vec<u8>,
    public: Vec<u8>,
    proof: Vec<u8>,
}

impl Asked {
    fn of(obj: &Value) -> Asked {
        let decoded = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
        // v1 has annotations where the beta has fields.
        let bare = |(name, annotation): (&str, &str)| match text_at(obj, &["spec", name]) {
            "" => decoded(text_at(obj, &["metadata", "annotations", annotation])),
            text => decoded(text),
        };
        Asked {
            stub: decoded(text_at(obj, &["spec", "stubPKCS10Request"])),
            public: bare(BARE_KEYS[0]),
            proof: bare(BARE_KEYS[1]),
        }
    }

    /// Looks at the key, and what proves that the node has its private half.
    fn check(&self, pod_uid: &str, path: &Path, errors: &mut Errors) {
        for (name, value) in
            [("pkixPublicKey", &self.public), ("proofOfPossession", &self.proof), ("stubPKCS10Request", &self.stub)]
        {
            if value.len() > KEY_BYTES_MAX {
                return errors.too_long(path.child(name), KEY_BYTES_MAX);
            }
        }
        match (self.stub.is_empty(), self.public.is_empty(), self.proof.is_empty()) {
            (false, true, true) => self.check_stub(path.child("stubPKCS10Request"), errors),
            (true, false, false) => self.check_bare(pod_uid, path, errors),
            _ => errors.invalid_omitted(
                path.clone(),
                "exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set",
            ),
        }
    }

    fn check_stub(&self, path: Path, errors: &mut Errors) {
        let malformed = "must be a valid PKCS#10 CSR";
        let Ok((b"", request)) = X509CertificationRequest::from_der(&self.stub) else {
            return errors.invalid_omitted(path, malformed);
        };
        match proof::kind(&request.certification_request_info.subject_pki) {
            Err(Refusal::Malformed) => errors.invalid_omitted(path, malformed),
            Err(Refusal::Unsupported(Value::Null, why)) => errors.invalid_omitted(path, why),
            Err(Refusal::Unsupported(shown, why)) => errors.invalid(path, shown, why),
            Ok(_) if proof::request_signature(&request).is_ok() => {}
            Ok(_) => errors.invalid_omitted(path, "could not verify proof-of-possession signature"),
        }
    }

    fn check_bare(&self, pod_uid: &str, path: &Path, errors: &mut Errors) {
        let shown = || base64::engine::general_purpose::STANDARD.encode(&self.public);
        let at = path.child("pkixPublicKey");
        let malformed = "must be a valid PKIX-serialized public key";
        let Some(key) = proof::parse(&self.public) else { return errors.invalid(at, shown(), malformed) };
        match proof::kind(&key) {
            Err(Refusal::Malformed) => errors.invalid(at, shown(), malformed),
            Err(Refusal::Unsupported(Value::Null, why)) => errors.invalid(at, shown(), why),
            Err(Refusal::Unsupported(value, why)) => errors.invalid(at, value, why),
            Ok(kind) if proof::verifies(&key, kind, pod_uid.as_bytes(), &self.proof) => {}
            Ok(_) => errors
                .invalid_omitted(path.child("proofOfPossession"), "could not verify proof-of-possession signature"),
        }
    }

    /// Whether a certificate's key is the one that was asked for.
    fn is_for(&self, key: &SubjectPublicKeyInfo<'_>) -> bool {
        if !self.stub.is_empty() {
            return X509CertificationRequest::from_der(&self.stub)
                .is_ok_and(|(_, r)| proof::same(&r.certification_request_info.subject_pki, key));
        }
        proof::parse(&self.public).is_some_and(|asked| proof::same(&asked, key))
    }
}

fn uid(spec: &Value, name: &str, errors: &mut Errors) {
    let (value, path) = (text(spec, name), Path::new("spec").child(name));
    if value.is_empty() {
        errors.invalid(path, value, "must not be empty");
    } else if value.len() > UID_BYTES_MAX {
        errors.too_long(path, UID_BYTES_MAX);
    }
}

/// `now` is the API server's clock, which the certificate's beginning must be near to.
fn status_update(new: &Value, old: &Value, now: Timestamp, errors: &mut Errors) {
    let path = Path::new("status");
    let all = list_at(new, &["status", "conditions"]);
    let before = errors.0.len();
    let mut known = 0;
    for (i, c) in all.iter().enumerate() {
        let (path, kind) = (path.child("conditions").index(i), text(c, "type"));
        if !ENDS.contains(&kind) {
            errors.not_supported(path.child("type"), kind, &ENDS);
            continue;
        }
        known += 1;
        if known > 1 {
            let why = "There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"";
            errors.invalid(path.child("type"), kind, why);
        }
        if text(c, "status") != "True" {
            errors.not_supported(path.child("status"), text(c, "status"), &["True"]);
        }
    }
    conditions(all, &path.child("conditions"), errors);
    if errors.0.len() > before {
        return;
    }
    let status = |v| field(v, "status");
    if ENDS.iter().any(|kind| is_true(old, kind)) {
        if !same(status(new), status(old)) {
            errors.invalid_omitted(path, "immutable after PodCertificateRequest is issued, denied, or failed");
        }
    } else if is_true(new, "Denied") || is_true(new, "Failed") {
        if !same(status(new), &json!({"conditions": all})) {
            let why = "non-condition status fields must be empty when denying or failing the PodCertificateRequest";
            errors.invalid_omitted(path, why);
        }
    } else if is_true(new, "Issued") {
        issued(new, old, now, errors);
    } else if !same(status(new), status(old)) {
        let why = "status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\"";
        errors.invalid_omitted(path, why);
    }
}

/// What a signer hands out must be what was asked for.
fn issued(new: &Value, old: &Value, now: Timestamp, errors: &mut Errors) {
    let path = Path::new("status");
    let (status, at) = (field(new, "status"), path.child("certificateChain"));
    let chain = text(status, "certificateChain");
    if chain.len() > CHAIN_BYTES_MAX {
        return errors.too_long(at, CHAIN_BYTES_MAX);
    }
    let mut blocks = pem::blocks(chain);
    let Some(block) = blocks.next() else {
        return errors.invalid(at, chain, "issued certificate chain must contain at least one certificate");
    };
    if block.label != "CERTIFICATE" {
        return errors.invalid(at, chain, "issued certificate chain must consist entirely of CERTIFICATE PEM blocks");
    }
    let Ok((b"", leaf)) = X509Certificate::from_der(&block.der) else {
        return errors.invalid(at, chain, "leaf certificate does not parse as valid X.509");
    };
    alternative_names(&leaf, &at, errors);
    if !Asked::of(old).is_for(leaf.public_key()) {
        return errors.invalid(at, chain, "leaf certificate was not issued to the requested public key");
    }

    let time = |name: &str| parse_time(text(status, name));
    for (name, why) in [
        ("notBefore", "must be present and consistent with the issued certificate"),
        ("notAfter", "must be present and consistent with the issued certificate"),
        ("beginRefreshAt", "must be present and in the range [notbefore+10min, notafter-10min]"),
    ] {
        if time(name).is_none() {
            errors.required(path.child(name), why);
        }
    }
    let (Some(begin), Some(end), Some(refresh)) = (time("notBefore"), time("notAfter"), time("beginRefreshAt")) else {
        return;
    };
    if !errors.is_empty() {
        return;
    }
    let shown = |name: &str| text(status, name);
    let of_leaf = leaf.validity();
    if begin.as_second() != of_leaf.not_before.timestamp() {
        let why = "must be set to the NotBefore time encoded in the leaf certificate";
        return errors.invalid(path.child("notBefore"), shown("notBefore"), why);
    }
    if begin.duration_since(now).abs() >= SKEW {
        let why = "must be set to within 5 minutes of kube-apiserver's current time";
        return errors.invalid(path.child("notBefore"), shown("notBefore"), why);
    }
    if end.as_second() != of_leaf.not_after.timestamp() {
        let why = "must be set to the NotAfter time encoded in the leaf certificate";
        return errors.invalid(path.child("notAfter"), shown("notAfter"), why);
    }
    let life = end.duration_since(begin);
    let life_shown = format_duration(i64::try_from(life.as_nanos()).unwrap_or(i64::MAX));
    if life < SignedDuration::from_secs(signer::LIFE_SECONDS_MIN) {
        return errors.invalid(at, life_shown, "leaf certificate lifetime must be >= 1 hour");
    }
    let asked = int(field(new, "spec"), "maxExpirationSeconds").unwrap_or(LIFE_SECONDS_DEFAULT);
    if life > SignedDuration::from_secs(asked) {
        let why = format!("leaf certificate lifetime must be <= spec.maxExpirationSeconds ({asked})");
        return errors.invalid(at, life_shown, why);
    }
    if refresh.duration_since(begin) < REFRESH_MARGIN {
        let why = "must be at least 10 minutes after status.notBefore";
        return errors.invalid(path.child("beginRefreshAt"), shown("beginRefreshAt"), why);
    }
    if end.duration_since(refresh) < REFRESH_MARGIN {
        let why = "must be at least 10 minutes before status.notAfter";
        return errors.invalid(path.child("beginRefreshAt"), shown("beginRefreshAt"), why);
    }
    for block in blocks {
        if block.label != "CERTIFICATE" {
            return errors.invalid(
                at,
                chain,
                "issued certificate chain must consist entirely of CERTFICATE PEM blocks",
            );
        }
        if !matches!(X509Certificate::from_der(&block.der), Ok((b"", _))) {
            return errors.invalid(at, chain, "intermediate certificate does not parse as valid X.509");
        }
    }
}

/// Names that a stricter reader of certificates would choke on.
fn alternative_names(leaf: &X509Certificate<'_>, at: &Path, errors: &mut Errors) {
    let Ok(Some(names)) = leaf.subject_alternative_name() else { return };
    for name in &names.value.general_names {
        match name {
            GeneralName::DNSName(dns) => {
                for (bad, why) in [
                    (dns.is_empty(), "leaf certificate should not contain empty DNSName"),
                    (dns.contains(".."), "leaf certificate's DNSName should not contain '..'"),
                    (
                        dns.starts_with('.') || dns.ends_with('.'),
                        "leaf certificate's DNSName should not start or end with '.'",
                    ),
                ] {
                    if bad {
                        errors.invalid(at.clone(), *dns, why);
                    }
                }
            }
            GeneralName::RFC822Name(mail) if !is_address(mail) => {
                errors.invalid(at.clone(), *mail, "leaf certificate should not contain invalid EmailAddress");
            }
            _ => {}
        }
    }
}

/// `name@domain`, bare.
fn is_address(mail: &str) -> bool {
    mail.split_once('@').is_some_and(|(name, domain)| {
        let fine = |part: &str| {
            !part.is_empty()
                && !part.contains(|c: char| c.is_whitespace() || c.is_control() || "()<>[]:;@\\,\"".contains(c))
        };
        fine(name) && fine(domain) && !name.starts_with('.') && !name.ends_with('.') && !name.contains("..")
    })
}

impl Strategy for PodCertificateRequest {
    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn status_keeps(&self) -> &'static [&'static str] {
        METADATA
    }

    fn defaults(&self, obj: &mut Value) {
        if let Some(spec) = object_mut(obj, "spec") {
            fill(spec, "maxExpirationSeconds", LIFE_SECONDS_DEFAULT);
        }
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        let (spec, path) = (field(obj, "spec"), Path::new("spec"));
        let signer = text(spec, "signerName");
        signer::name(signer, &path.child("signerName"), errors);
        let annotations = field(spec, "unverifiedUserAnnotations");
        signer::user_annotations(annotations, &path.child("unverifiedUserAnnotations"), errors);
        for (name, id) in [("podName", "podUID"), ("serviceAccountName", "serviceAccountUID"), ("nodeName", "nodeUID")]
        {
            let value = text(spec, name);
            values::each(errors, &path.child(name), value, names::dns1123_subdomain(value));
            uid(spec, id, errors);
        }
        let Some(seconds) = int(spec, "maxExpirationSeconds") else {
            return errors.required(path.child("maxExpirationSeconds"), "must be set");
        };
        let (least, most) = (signer::LIFE_SECONDS_MIN, signer::life_seconds_max(signer));
        if !(least..=most).contains(&seconds) {
            let why = format!("must be in the range [{least}, {most}]");
            errors.invalid(path.child("maxExpirationSeconds"), seconds, why);
        }
        Asked::of(obj).check(text(spec, "podUID"), &path, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        values::immutable(field(new, "spec"), field(old, "spec"), Path::new("spec"), errors);
        let (asks, asked) = (Asked::of(new), Asked::of(old));
        if field(new, "spec") == field(old, "spec") && (asks.public != asked.public || asks.proof != asked.proof) {
            // In v1 they are annotations, and no less part of what was asked for.
            errors.invalid_omitted(Path::new("spec"), "field is immutable");
        }
    }

    fn validate_status_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        status_update(new, old, Timestamp::now(), errors);
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        let of = |name: &str| text_at(obj, &["spec", name]).to_string();
        vec![("spec.signerName", of("signerName")), ("spec.podName", of("podName")), ("spec.nodeName", of("nodeName"))]
    }

    fn columns(&self) -> &'static [Column] {
        columns::NAME_AND_CREATED
    }

    fn row(&self, obj: &Value, _now: Now) -> Vec<Value> {
        columns::name_and_created(obj)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::checks::samples::{ANCHOR, KEYS, LEAF, POD_CERTIFICATE_REQUEST};
    use crate::kinds::checks::{check_create, check_update};
    use expect_test::expect;

    fn keys() -> Value {
        serde_json::from_str(KEYS).unwrap()
    }

    fn request(change: impl FnOnce(&mut Value)) -> Value {
        let mut obj: Value = serde_json::from_str(POD_CERTIFICATE_REQUEST).unwrap();
        change(&mut obj);
        obj
    }

    #[test]
    fn requests_name_pod_account_and_node() {
        check_create(POD_CERTIFICATE_REQUEST, expect![[""]]);
        let bad = request(|r| {
            for key in ["podName", "serviceAccountName", "nodeName"] {
                r["spec"][key] = "A".into();
            }
            r["spec"]["podUID"] = "".into();
            r["spec"]["nodeUID"] = "x".repeat(129).into();
            r["spec"]["signerName"] = "kubernetes.io/a".into();
            r["spec"]["maxExpirationSeconds"] = 86401.into();
            r["spec"]["unverifiedUserAnnotations"] = json!({"a": "b"});
        });
        let mut errors = Errors::default();
        PodCertificateRequest.validate_create(&bad, &mut errors);
        let said: Vec<String> =
            errors.0.iter().map(|e| format!("{} {}", e.path, e.detail.split('(').next().unwrap_or(""))).collect();
        expect![[r#"
            spec.unverifiedUserAnnotations must be a domain-prefixed key 
            spec.podName a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character 
            spec.podUID must not be empty
            spec.serviceAccountName a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character 
            spec.nodeName a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character 
            spec.nodeUID may not be more than 128 bytes
            spec.maxExpirationSeconds must be in the range [3600, 86400]"#]]
        .assert_eq(&said.join("\n"));
    }

    #[test]
    fn every_supported_key_comes_with_its_proof() {
        let keys = keys();
        let said = |spec: Value| {
            let obj = request(|r| {
                for key in ["stubPKCS10Request", "pkixPublicKey", "proofOfPossession"] {
                    r["spec"][key] = spec[key].clone();
                }
            });
            let mut errors = Errors::default();
            PodCertificateRequest.validate_create(&obj, &mut errors);
            errors.0.iter().map(|e| e.to_string()).collect::<Vec<_>>().join("\n")
        };
        let stub = |name: &str| said(json!({"stubPKCS10Request": keys[name]["stub"]}));
        let bare =
            |name: &str| said(json!({"pkixPublicKey": keys[name]["public"], "proofOfPossession": keys[name]["proof"]}));
        for name in ["Ed25519", "P256", "P384", "P521", "Rsa"] {
            assert_eq!((stub(name).as_str(), bare(name).as_str()), ("", ""), "{name}");
            // Somebody else's proof, and a request that was changed after it was signed.
            let other = if name == "P256" { "P384" } else { "P256" };
            let stolen =
                said(json!({"pkixPublicKey": keys[name]["public"], "proofOfPossession": keys[other]["proof"]}));
            assert_eq!(
                stolen, "spec.proofOfPossession: Invalid value: could not verify proof-of-possession signature",
                "{name}"
            );
            let engine = base64::engine::general_purpose::STANDARD;
            let mut der = engine.decode(keys[name]["stub"].as_str().unwrap()).unwrap();
            let last = der.len() - 3;
            der[last] ^= 1;
            let changed = said(json!({"stubPKCS10Request": engine.encode(der)}));
            assert_eq!(
                changed, "spec.stubPKCS10Request: Invalid value: could not verify proof-of-possession signature",
                "{name}"
            );
        }
        assert!(stub("P224").contains("\"curve P-224\": elliptic public keys must use curve P256, P384, or P521"));
        assert!(bare("Rsa2048").contains("\"2048-bit modulus\": RSA keys must have modulus size 3072 or 4096"));
        assert!(stub("K256").contains("must be a valid PKCS#10 CSR"));
        assert!(bare("K256").contains("must be a valid PKIX-serialized public key"));
        let one = "exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set";
        assert!(bare("X25519").contains(one), "it has no proof");
        assert!(
            said(json!({"pkixPublicKey": keys["X25519"]["public"], "proofOfPossession": "AAEC"}))
                .contains("unknown public key type; supported types are Ed25519, ECDSA, and RSA")
        );
        assert!(said(json!({})).contains(one));
        assert!(said(json!({"stubPKCS10Request": "AAEC"})).contains("must be a valid PKCS#10 CSR"));
    }

    #[test]
    fn nothing_of_a_request_changes() {
        let changed = request(|r| r["spec"]["podName"] = "other".into()).to_string();
        let labelled = request(|r| r["metadata"]["labels"] = json!({"a": "b"})).to_string();
        check_update(POD_CERTIFICATE_REQUEST, &labelled, expect![[""]]);
        let mut errors = Errors::default();
        PodCertificateRequest.validate_update(&serde_json::from_str(&changed).unwrap(), &request(|_| ()), &mut errors);
        assert!(errors.joined().ends_with("field is immutable"), "{}", errors.joined());
        let of_v1 = |key: &str| request(|r| r["metadata"]["annotations"] = json!({BARE_KEYS[0].1: key}));
        let mut errors = Errors::default();
        PodCertificateRequest.validate_update(&of_v1("AAAA"), &of_v1("BBBB"), &mut errors);
        assert_eq!(errors.joined(), "spec: Invalid value: field is immutable");
    }

    #[test]
    fn signers_hand_out_what_was_asked_for() {
        let now: Timestamp = "2026-01-01T00:04:00Z".parse().unwrap();
        let end = |kind: &str| json!({"type": kind, "status": "True", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let status = |chain: &str| {
            json!({"conditions": [end("Issued")], "certificateChain": chain, "notBefore": "2026-01-01T00:00:00Z",
                "notAfter": "2026-01-01T06:00:00Z", "beginRefreshAt": "2026-01-01T04:00:00Z"})
        };
        let check = |old: Value, new: Value, now: Timestamp| {
            let of = |status: Value| request(|r| r["status"] = status);
            let mut errors = Errors::default();
            status_update(&of(new), &of(old), now, &mut errors);
            errors.0.iter().map(|e| e.to_string()).collect::<Vec<_>>().join("\n")
        };
        let with = |change: &dyn Fn(&mut Value)| {
            let mut s = status(LEAF);
            change(&mut s);
            check(json!({}), s, now)
        };
        assert_eq!(with(&|_| ()), "");
        assert_eq!(with(&|s| s["certificateChain"] = format!("{LEAF}{ANCHOR}").into()), "");
        assert_eq!(check(json!({}), json!({"conditions": [end("Denied")]}), now), "");
        let immutable = "status: Invalid value: immutable after PodCertificateRequest is issued, denied, or failed";
        assert_eq!(check(json!({"conditions": [end("Denied")]}), status(LEAF), now), immutable);
        assert_eq!(check(status(LEAF), status(LEAF), now), "");
        let unless =
            "status: Invalid value: status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\"";
        assert_eq!(check(json!({}), json!({"certificateChain": LEAF}), now), unless);
        let late: Timestamp = "2026-01-01T00:05:00Z".parse().unwrap();
        assert!(check(json!({}), status(LEAF), late).contains("within 5 minutes of kube-apiserver's current time"));
        let not_asked = {
            let other = |status: Value| {
                request(|r| {
                    r["spec"]["stubPKCS10Request"] = keys()["P256"]["stub"].clone();
                    r["status"] = status;
                })
            };
            let mut errors = Errors::default();
            status_update(&other(status(LEAF)), &other(json!({})), now, &mut errors);
            errors.joined()
        };
        assert!(not_asked.ends_with("leaf certificate was not issued to the requested public key"), "{not_asked}");
        let names = include_str!("checks/certs/names.pem");
        for (change, expected) in [
            (
                json!({"conditions": [end("Denied")]}),
                "non-condition status fields must be empty when denying or failing",
            ),
            (
                json!({"conditions": [end("Issued"), end("Failed")]}),
                "status.conditions[1].type: Invalid value: \"Failed\": There may be at most one",
            ),
            (
                json!({"conditions": [end("Ready")]}),
                "Unsupported value: \"Ready\": supported values: \"Issued\", \"Denied\", \"Failed\"",
            ),
            (json!({"certificateChain": ""}), "must contain at least one certificate"),
            (
                json!({"certificateChain": "-----BEGIN A-----\nAAEC\n-----END A-----"}),
                "must consist entirely of CERTIFICATE PEM blocks",
            ),
            (
                json!({"certificateChain": "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----"}),
                "does not parse as valid X.509",
            ),
            (
                json!({"certificateChain": format!("{LEAF}-----BEGIN A-----\nAAEC\n-----END A-----")}),
                "must consist entirely of CERTFICATE PEM blocks",
            ),
            (
                json!({"certificateChain": format!("{LEAF}-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----")}),
                "intermediate certificate does not parse",
            ),
            (json!({"certificateChain": names}), "\"a..b\": leaf certificate's DNSName should not contain '..'"),
            (json!({"certificateChain": names}), "\".c\": leaf certificate's DNSName should not start or end with '.'"),
            (
                json!({"certificateChain": names}),
                "\"not an address\": leaf certificate should not contain invalid EmailAddress",
            ),
            (json!({"notBefore": null}), "status.notBefore: Required value: must be present and consistent"),
            (json!({"notBefore": "2026-01-01T00:00:01Z"}), "NotBefore time encoded in the leaf"),
            (json!({"notAfter": "2026-01-01T06:00:01Z"}), "NotAfter time encoded in the leaf"),
            (json!({"beginRefreshAt": "2026-01-01T00:09:59Z"}), "at least 10 minutes after status.notBefore"),
            (json!({"beginRefreshAt": "2026-01-01T05:50:01Z"}), "at least 10 minutes before status.notAfter"),
            (
                json!({"certificateChain": include_str!("checks/certs/short.pem"), "notAfter": "2026-01-01T00:30:00Z"}),
                "\"30m0s\": leaf certificate lifetime must be >= 1 hour",
            ),
        ] {
            let said = with(&|s| {
                for (key, value) in change.as_object().unwrap() {
                    s[key] = value.clone();
                }
            });
            assert!(said.contains(expected), "{said:?} / {expected}");
        }
        let brief = |status: Value| {
            request(|r| {
                r["spec"]["maxExpirationSeconds"] = 3600.into();
                r["status"] = status;
            })
        };
        let mut errors = Errors::default();
        status_update(&brief(status(LEAF)), &brief(json!({})), now, &mut errors);
        assert!(
            errors
                .joined()
                .contains("\"6h0m0s\": leaf certificate lifetime must be <= spec.maxExpirationSeconds (3600)")
        );
    }
}
