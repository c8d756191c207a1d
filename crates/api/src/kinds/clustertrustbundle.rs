//! ClusterTrustBundle (certificates.k8s.io): roots to trust, of a signer or of nobody in particular.

use super::columns;
use crate::strategy::{Column, NAME, NameRule, Now, Strategy, column_of};
use crate::validation::access::*;
use crate::validation::{pem, signer, values};
use meta::field::{Errors, Path};
use serde_json::Value;
use std::collections::BTreeMap;
use x509_parser::prelude::{FromDer, X509Certificate};

pub struct ClusterTrustBundle;

const BUNDLE_BYTES_MAX: usize = 1 << 20;

/// Only certificates of authorities, each once.
fn trust_bundle(bundle: &str, path: &Path, errors: &mut Errors) {
    if bundle.len() > BUNDLE_BYTES_MAX {
        return errors.too_long(path.clone(), BUNDLE_BYTES_MAX);
    }
    let mut places: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    let before = errors.0.len();
    for (i, block) in pem::blocks(bundle).enumerate() {
        match anchor(&block) {
            // Upstream never shows the bundle, but says so where the value would be.
            Err(why) => errors.invalid(path.clone(), "<value omitted>", format!("entry {i} {why}")),
            Ok(()) => places.entry(block.der).or_default().push(i),
        }
    }
    if errors.0.len() > before {
        return;
    }
    if places.is_empty() {
        errors.invalid(path.clone(), "<value omitted>", "at least one trust anchor must be provided");
    }
    let mut repeated: Vec<&Vec<usize>> = places.values().filter(|at| at.len() > 1).collect();
    repeated.sort();
    for at in repeated {
        let at: Vec<String> = at.iter().map(usize::to_string).collect();
        let text = format!("duplicate trust anchor (indices [{}])", at.join(" "));
        errors.invalid(path.clone(), "<value omitted>", text);
    }
}

/// What is wrong with a block, as it reads after its number.
fn anchor(block: &pem::Block<'_>) -> Result<(), String> {
    if block.label != "CERTIFICATE" {
        return Err(format!("has bad block type: {}", block.label));
    }
    if block.has_headers {
        return Err("has PEM block headers".into());
    }
    match X509Certificate::from_der(&block.der) {
        Ok((rest, cert)) if rest.is_empty() => match cert.basic_constraints() {
            Ok(Some(constraints)) if constraints.value.ca => Ok(()),
            Ok(_) => Err("does not have the CA bit set".into()),
            Err(_) => Err("has invalid basic constraints".into()),
        },
        _ => Err("does not parse as X.509".into()),
    }
}

fn names(obj: &Value, errors: &mut Errors) {
    let (signer, name) = (text_at(obj, &["spec", "signerName"]), text_at(obj, &["metadata", "name"]));
    values::each(errors, &Path::new("metadata.name"), name, signer::bundle_name(signer, name));
    if !signer.is_empty() {
        signer::name(signer, &Path::new("spec.signerName"), errors);
    }
}

impl Strategy for ClusterTrustBundle {
    /// Names may have colons; what they must be depends on the signer, which `validate_create` looks at.
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn validate_create(&self, obj: &Value, errors: &mut Errors) {
        names(obj, errors);
        trust_bundle(text_at(obj, &["spec", "trustBundle"]), &Path::new("spec.trustBundle"), errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        names(new, errors);
        let bundle = |v| text_at(v, &["spec", "trustBundle"]);
        // What was taken once stays, whatever is thought of it now.
        if bundle(new) != bundle(old) {
            trust_bundle(bundle(new), &Path::new("spec.trustBundle"), errors);
        }
        let signer = |v| field(field(v, "spec"), "signerName");
        values::immutable(signer(new), signer(old), Path::new("spec.signerName"), errors);
    }

    fn selectable_fields(&self, obj: &Value) -> Vec<(&'static str, String)> {
        vec![("spec.signerName", text_at(obj, &["spec", "signerName"]).to_string())]
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] =
            &[NAME, column_of("SignerName", "string", 0, "api.certificates.v1beta1.ClusterTrustBundleSpec.signerName")];
        COLUMNS
    }

    fn row(&self, obj: &Value, _now: Now) -> Vec<Value> {
        vec![columns::name(obj), columns::or_none(text_at(obj, &["spec", "signerName"]))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::checks::samples::{ANCHOR, LEAF};
    use crate::kinds::checks::{check_create, check_row, check_update};
    use expect_test::expect;

    fn bundle(name: &str, signer: &str, pem: &str) -> String {
        serde_json::json!({"apiVersion": "certificates.k8s.io/v1beta1", "kind": "ClusterTrustBundle",
            "metadata": {"name": name, "resourceVersion": "1"}, "spec": {"signerName": signer, "trustBundle": pem}})
        .to_string()
    }

    #[test]
    fn bundles_hold_authorities_and_nothing_else() {
        check_create(&bundle("b", "", &format!("a root:\n{ANCHOR}")), expect![[""]]);
        check_create(&bundle("e.com:a:v1", "e.com/a", ANCHOR), expect![[""]]);
        check_create(
            &bundle("b", "e.com/a", "junk"),
            expect![[r#"
                metadata.name: Invalid value: "b": ClusterTrustBundle for signerName e.com/a must be named with prefix e.com:a:
                spec.trustBundle: Invalid value: "<value omitted>": at least one trust anchor must be provided
            "#]],
        );
        check_create(
            &bundle("a:b", "", &format!("{ANCHOR}{ANCHOR}")),
            expect![[r#"
                metadata.name: Invalid value: "a:b": ClusterTrustBundle without signer name must not have ":" in its name
                spec.trustBundle: Invalid value: "<value omitted>": duplicate trust anchor (indices [0 1])
            "#]],
        );
        let odd = ANCHOR.replace("CERTIFICATE", "KEY");
        let headed = ANCHOR.replacen("-----\n", "-----\nA: b\n\n", 1);
        let broken = "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n";
        check_create(
            &bundle("b", "", &format!("{odd}{headed}{broken}{LEAF}{ANCHOR}")),
            expect![[r#"
                spec.trustBundle: Invalid value: "<value omitted>": entry 0 has bad block type: KEY
                spec.trustBundle: Invalid value: "<value omitted>": entry 1 has PEM block headers
                spec.trustBundle: Invalid value: "<value omitted>": entry 2 does not parse as X.509
                spec.trustBundle: Invalid value: "<value omitted>": entry 3 does not have the CA bit set
            "#]],
        );
        check_create(
            &bundle("b", "", &"x".repeat(BUNDLE_BYTES_MAX + 1)),
            expect![[r#"
                spec.trustBundle: Too long: may not be more than 1048576 bytes
            "#]],
        );
    }

    #[test]
    fn a_bundle_stays_with_its_signer() {
        check_update(&bundle("b", "", "old junk"), &bundle("b", "", "old junk"), expect![[""]]);
        check_update(
            &bundle("b", "", ANCHOR),
            &bundle("b", "e.com/a", "new junk"),
            expect![[r#"
                metadata.name: Invalid value: "b": ClusterTrustBundle for signerName e.com/a must be named with prefix e.com:a:
                spec.trustBundle: Invalid value: "<value omitted>": at least one trust anchor must be provided
                spec.signerName: Invalid value: "e.com/a": field is immutable
            "#]],
        );
        check_row(
            &bundle("b", "", ANCHOR),
            expect![[r#"
                Name: b
                SignerName: <none>
            "#]],
        );
    }
}
