//! `clusterTrustBundle` sources of projected volumes: the anchors of one bundle, or of all of a signer's that match.

use super::pod_certificate::key::pem;
use super::{FileEntry, Payload, VolumeError, checked_path};
use crate::objects::{BundlesOf, Resolved};
use k8s_openapi::api::core::v1::ClusterTrustBundleProjection;
use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};
use std::collections::{BTreeMap, BTreeSet};

/// Which bundles must be followed.
pub fn reference(source: &ClusterTrustBundleProjection) -> Option<BundlesOf> {
    match (&source.name, &source.signer_name) {
        (Some(name), _) if !name.is_empty() => Some(BundlesOf::Name(name.clone())),
        (_, Some(signer)) if !signer.is_empty() => Some(BundlesOf::Signer(signer.clone())),
        _ => None,
    }
}

pub fn payload(source: &ClusterTrustBundleProjection, mode: u32, objects: &Resolved) -> Result<Payload, VolumeError> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    let of =
        reference(source).ok_or_else(|| VolumeError::TrustBundle("neither name nor signerName is given".into()))?;
    let followed = objects.trust_bundles.get(&of).map(Vec::as_slice).unwrap_or_default();
    let selector = match (&of, &source.label_selector) {
        (BundlesOf::Name(_), _) => Some(Selector::default()),
        // No selector selects nothing, an empty one everything.
        (BundlesOf::Signer(_), None) => None,
        (BundlesOf::Signer(_), Some(s)) => Some(
            Selector::try_from(s.clone())
                .map_err(|e| VolumeError::TrustBundle(format!("while parsing label selector: {e}")))?,
        ),
    };
    let chosen: Vec<_> = followed
        .iter()
        .filter(|b| selector.as_ref().is_some_and(|s| s.matches(b.metadata.labels.as_ref().unwrap_or(&NONE))))
        .collect();
    if chosen.is_empty() && source.optional != Some(true) {
        return Err(VolumeError::TrustBundle(match &of {
            BundlesOf::Name(name) => {
                format!("while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io {name:?} not found")
            }
            BundlesOf::Signer(_) => {
                "combination of signerName and labelSelector matched zero ClusterTrustBundles".into()
            }
        }));
    }
    let anchors: BTreeSet<Vec<u8>> = chosen.iter().flat_map(|b| anchors(&b.spec.trust_bundle)).collect();
    tracing::trace!(bundles = ?chosen.iter().map(|b| b.name_any()).collect::<Vec<_>>(), "trust bundles of a volume");
    let data: String = anchors.iter().map(|der| pem("CERTIFICATE", der)).collect();
    let path = checked_path(&source.path)?.to_owned();
    Ok(Payload::from([(path, FileEntry { data: data.into_bytes(), mode })]))
}

fn anchors(bundle: &str) -> Vec<Vec<u8>> {
    let blocks = x509_parser::pem::Pem::iter_from_buffer(bundle.as_bytes());
    blocks.map_while(Result::ok).map(|b| b.contents).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::certificates::v1beta1::ClusterTrustBundle;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn bundle(name: &str, color: &str, data: &[&str]) -> Arc<ClusterTrustBundle> {
        let pem: String = data
            .iter()
            .map(|d| format!("# of {name}\n-----BEGIN CERTIFICATE-----\n{d}\n-----END CERTIFICATE-----\n"))
            .collect();
        let v = json!({"metadata": {"name": name, "labels": {"color": color}}, "spec": {"trustBundle": pem}});
        Arc::new(serde_json::from_value(v).unwrap())
    }

    fn check(source: Value, expected: Result<&[&str], &str>) {
        let mut objects = Resolved::default();
        objects.trust_bundles.insert(BundlesOf::Name("plain".into()), vec![bundle("plain", "red", &["AAEC"])]);
        let of_signer = vec![bundle("a", "red", &["AAEC", "AwQF"]), bundle("b", "blue", &["AwQF", "BgcI"])];
        objects.trust_bundles.insert(BundlesOf::Signer("e.com/a".into()), of_signer);
        let source: ClusterTrustBundleProjection = serde_json::from_value(source).unwrap();
        match (payload(&source, 0o644, &objects), expected) {
            (Ok(files), Ok(data)) => {
                let expected: String = data
                    .iter()
                    .map(|d| format!("-----BEGIN CERTIFICATE-----\n{d}\n-----END CERTIFICATE-----\n"))
                    .collect();
                assert_eq!(String::from_utf8(files["ca.pem"].data.clone()).unwrap(), expected);
            }
            (Err(e), Err(text)) => assert_eq!(e.to_string(), text),
            (got, expected) => panic!("{got:?} / {expected:?}"),
        }
    }

    #[test]
    fn anchors_are_those_of_the_chosen_bundles_each_once() {
        check(json!({"name": "plain", "path": "ca.pem"}), Ok(&["AAEC"]));
        check(json!({"signerName": "e.com/a", "labelSelector": {}, "path": "ca.pem"}), Ok(&["AAEC", "AwQF", "BgcI"]));
        let blue =
            json!({"signerName": "e.com/a", "labelSelector": {"matchLabels": {"color": "blue"}}, "path": "ca.pem"});
        check(blue, Ok(&["AwQF", "BgcI"]));
        let none = "combination of signerName and labelSelector matched zero ClusterTrustBundles";
        check(json!({"signerName": "e.com/a", "path": "ca.pem"}), Err(none));
        check(json!({"signerName": "e.com/a", "path": "ca.pem", "optional": true}), Ok(&[]));
        check(
            json!({"name": "other", "path": "ca.pem"}),
            Err("while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io \"other\" not found"),
        );
        check(json!({"name": "other", "path": "ca.pem", "optional": true}), Ok(&[]));
    }
}
