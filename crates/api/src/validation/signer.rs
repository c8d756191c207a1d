//! Names of signers (`example.com/signer`), and what is asked of those below `kubernetes.io`.

use super::{labels, values};
use meta::field::{Errors, Path};
use meta::names;
use serde_json::Value;

const DOMAIN_BYTES_MAX: usize = 253;
/// A domain, a slash, a subdomain, a dot and a label.
const NAME_BYTES_MAX: usize = 571;

/// Seconds that a pod's certificate lives at most: the least that may be asked for, the most of anybody, and the
/// most of Kubernetes' own signers.
pub const LIFE_SECONDS_MIN: i64 = 3600;
const LIFE_SECONDS_MAX: i64 = 91 * 86400;
const KUBERNETES_LIFE_SECONDS_MAX: i64 = 86400;

/// Upstream's `ValidateSignerName`.
pub fn name(signer: &str, path: &Path, errors: &mut Errors) {
    if signer.is_empty() {
        return errors.required(path.clone(), "");
    }
    let mut parts = signer.split('/');
    let (Some(domain), Some(rest), None) = (parts.next(), parts.next(), parts.next()) else {
        let text = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return errors.invalid(path.clone(), signer, text);
    };
    if domain.len() > DOMAIN_BYTES_MAX {
        errors.too_long(path.clone(), DOMAIN_BYTES_MAX);
    }
    segments(domain, names::dns1123_label, path, errors);
    if !domain.contains('.') {
        errors.invalid(path.clone(), domain, "should be a domain with at least two segments separated by dots");
    }
    segments(rest, names::dns1123_subdomain, path, errors);
    if signer.len() > NAME_BYTES_MAX {
        errors.too_long(path.clone(), NAME_BYTES_MAX);
    }
}

/// Says what is wrong with the first bad one; the same about the others would help nobody.
fn segments(part: &str, rule: fn(&str) -> Vec<String>, path: &Path, errors: &mut Errors) {
    let bad = part.split('.').map(|label| (label, rule(label))).find(|(_, messages)| !messages.is_empty());
    if let Some((label, messages)) = bad {
        values::each(
            errors,
            path,
            part,
            messages.into_iter().map(|m| format!("validating label {label:?}: {m}")).collect(),
        );
    }
}

/// One of Kubernetes' own.
pub fn is_kubernetes(signer: &str) -> bool {
    let host = signer.split('/').next().unwrap_or_default();
    host == "kubernetes.io" || host.ends_with(".kubernetes.io")
}

/// The most seconds that a certificate of this signer may live.
pub fn life_seconds_max(signer: &str) -> i64 {
    if is_kubernetes(signer) { KUBERNETES_LIFE_SECONDS_MAX } else { LIFE_SECONDS_MAX }
}

/// What a pod's author tells its signer: annotations, each with a domain (upstream: `ValidateUserAnnotations`).
pub fn user_annotations(map: &Value, path: &Path, errors: &mut Errors) {
    labels::annotations(map, path, errors);
    for key in map.as_object().into_iter().flatten().map(|(k, _)| k.to_lowercase()) {
        if names::qualified_name(&key).is_empty() && !key.contains('/') {
            errors.invalid(path.clone(), key, "must be a domain-prefixed key (such as \"acme.io/foo\")");
        }
    }
}

/// Messages about the name of a trust bundle: those of a signer begin with its name (upstream:
/// `ValidateClusterTrustBundleName`).
pub fn bundle_name(signer: &str, name: &str) -> Vec<String> {
    if signer.is_empty() {
        return match name.contains(':') {
            true => vec!["ClusterTrustBundle without signer name must not have \":\" in its name".into()],
            false => names::dns1123_subdomain(name),
        };
    }
    let prefix = format!("{}:", signer.replace('/', ":"));
    match name.strip_prefix(&prefix) {
        Some(rest) => names::dns1123_subdomain(rest),
        None => vec![format!("ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}")],
    }
}

/// The signer that a bundle's name says it is of.
pub fn of_bundle_name(name: &str) -> String {
    name.rsplit_once(':').map(|(signer, _)| signer.replace(':', "/")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(check: impl FnOnce(&Path, &mut Errors)) -> Vec<String> {
        let mut errors = Errors::default();
        check(&Path::new("s"), &mut errors);
        errors.0.iter().map(|e| e.to_string()).collect()
    }

    #[test]
    fn signers_have_a_domain_and_a_path() {
        for good in ["example.com/a", "kubernetes.io/kube-apiserver-client", "a.b.c/d.e"] {
            assert!(said(|p, e| name(good, p, e)).is_empty(), "{good}");
        }
        for (bad, expected) in [
            ("", "s: Required value"),
            ("a", "must be a fully qualified domain and path"),
            ("a.b/c/d", "must be a fully qualified domain and path"),
            ("a/b", "\"a\": should be a domain with at least two segments"),
            ("A.b/c", "\"A.b\": validating label \"A\": a lowercase RFC 1123 label"),
            ("a.b/C", "\"C\": validating label \"C\": a lowercase RFC 1123 subdomain"),
            ("a.b/", "validating label \"\""),
        ] {
            let said = said(|p, e| name(bad, p, e));
            assert!(said.len() == 1 && said[0].contains(expected), "{bad}: {said:?}");
        }
        assert!(
            is_kubernetes("kubernetes.io/x")
                && is_kubernetes("a.kubernetes.io/x")
                && !is_kubernetes("akubernetes.io/x")
        );
    }

    #[test]
    fn annotations_for_signers_have_domains() {
        let said = said(|p, e| user_annotations(&json!({"Acme.io/Foo": "a", "foo": "b", "a b/c": "d"}), p, e));
        assert!(said.len() == 2, "{said:?}");
        assert!(said[0].contains("\"a b/c\"") && said[1].contains("must be a domain-prefixed key"), "{said:?}");
    }

    #[test]
    fn bundles_are_named_after_their_signer() {
        assert!(bundle_name("", "plain").is_empty() && bundle_name("e.com/a", "e.com:a:v1").is_empty());
        assert_eq!(bundle_name("", "a:b").len(), 1);
        assert_eq!(
            bundle_name("e.com/a", "other"),
            ["ClusterTrustBundle for signerName e.com/a must be named with prefix e.com:a:"]
        );
        assert!(bundle_name("e.com/a", "e.com:a:V1")[0].contains("RFC 1123 subdomain"));
        assert_eq!((of_bundle_name("e.com:a:v1").as_str(), of_bundle_name("x").as_str()), ("e.com/a", ""));
    }
}
