//! The pod's host name and its name in the cluster domain.

use k8s_openapi::api::core::v1::Pod;

/// Kernel limit of a host name, in bytes.
const HOSTNAME_MAX: usize = 64;
const LABEL_MAX: usize = 63;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// One label: what `/etc/hosts` has.
    pub hostname: String,
    /// What the kernel, and so `hostname`, says: the same, or all of the name where the pod asks for it.
    pub kernel: String,
    /// Empty without a subdomain.
    pub domain: String,
}

pub fn names(pod: &Pod, cluster_domain: &str) -> Result<Names, String> {
    let spec = pod.spec.as_ref();
    if let Some(name) = spec.and_then(|s| s.hostname_override.clone()).filter(|n| !n.is_empty()) {
        return Ok(Names { kernel: name.clone(), hostname: name, domain: String::new() });
    }
    let wanted = spec
        .and_then(|s| s.hostname.clone())
        .filter(|h| !h.is_empty())
        .or_else(|| pod.metadata.name.clone())
        .unwrap_or_default();
    let mut hostname = wanted;
    if hostname.len() > LABEL_MAX {
        // A pod's name may be longer than a DNS label; a cut must not end in a separator.
        let mut end = LABEL_MAX;
        while !hostname.is_char_boundary(end) {
            end -= 1;
        }
        hostname = hostname[..end].trim_end_matches(['-', '.']).to_owned();
    }
    let domain = match spec.and_then(|s| s.subdomain.as_deref()).filter(|s| !s.is_empty()) {
        Some(sub) => format!("{sub}.{}.svc.{cluster_domain}", pod.metadata.namespace.as_deref().unwrap_or_default()),
        None => String::new(),
    };
    let mut kernel = hostname.clone();
    if spec.and_then(|s| s.set_hostname_as_fqdn) == Some(true) && !domain.is_empty() {
        let fqdn = format!("{hostname}.{domain}");
        if fqdn.len() > HOSTNAME_MAX {
            return Err(format!(
                "failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long (64 characters is the max, {} characters requested)",
                fqdn.len()
            ));
        }
        kernel = fqdn;
    }
    Ok(Names { hostname, kernel, domain })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn host_names() {
        let check = |name: &str, spec: serde_json::Value| {
            let mut spec = spec;
            spec["containers"] = json!([]);
            let pod: Pod =
                serde_json::from_value(json!({"metadata": {"name": name, "namespace": "ns"}, "spec": spec})).unwrap();
            names(&pod, "cluster.local").map(|n| (n.kernel, n.domain, n.hostname))
        };
        assert_eq!(check("p", json!({})).unwrap(), ("p".into(), "".into(), "p".into()));
        assert_eq!(
            check("p", json!({"hostname": "h", "subdomain": "s"})).unwrap(),
            ("h".into(), "s.ns.svc.cluster.local".into(), "h".into())
        );
        assert_eq!(
            check("p", json!({"subdomain": "s", "setHostnameAsFQDN": true})).unwrap(),
            ("p.s.ns.svc.cluster.local".into(), "s.ns.svc.cluster.local".into(), "p".into())
        );
        let long = format!("{}-{}", "a".repeat(62), "b".repeat(9));
        assert_eq!(check(&long, json!({})).unwrap().0, "a".repeat(62));
        assert!(check(&"a".repeat(60), json!({"subdomain": "s", "setHostnameAsFQDN": true})).is_err());
    }
}
