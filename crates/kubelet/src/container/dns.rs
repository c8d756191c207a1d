//! What goes into a pod's `resolv.conf`, by `dnsPolicy` and `dnsConfig`.

use cri::DnsConfig;
use k8s_openapi::api::core::v1::Pod;

/// glibc reads no more than these.
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARS_MAX: usize = 2048;

/// Reads the node's `resolv.conf`.
pub fn parse(text: &str) -> DnsConfig {
    let mut out = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => out.servers.extend(words.next().map(|s| s.split('%').next().unwrap_or(s).to_owned())),
            // The last one wins.
            Some("search") => {
                out.searches =
                    words.map(|w| if w == "." { w.to_owned() } else { w.trim_end_matches('.').to_owned() }).collect()
            }
            Some("options") => out.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    out
}

/// `host` is the node's configuration.
pub fn for_pod(pod: &Pod, host: &DnsConfig, cluster_dns: &[String], cluster_domain: &str) -> DnsConfig {
    let spec = pod.spec.as_ref();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let host_network = spec.and_then(|s| s.host_network) == Some(true);
    let policy = spec.and_then(|s| s.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let cluster_first = match policy {
        "ClusterFirst" => !host_network,
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    let mut out = if policy == "None" {
        DnsConfig::default()
    } else if cluster_first && !cluster_dns.is_empty() {
        let mut searches = vec![
            format!("{namespace}.svc.{cluster_domain}"),
            format!("svc.{cluster_domain}"),
            cluster_domain.to_owned(),
        ];
        for search in &host.searches {
            if !searches.contains(search) {
                searches.push(search.clone());
            }
        }
        DnsConfig { servers: cluster_dns.to_vec(), searches, options: vec!["ndots:5".into()] }
    } else {
        let mut host = host.clone();
        if host.servers.is_empty() {
            // Without a name server a resolver asks its own machine; say so, so that all C libraries do the same.
            host.servers.push("127.0.0.1".into());
        }
        host
    };
    if let Some(config) = spec.and_then(|s| s.dns_config.as_ref()) {
        append_new(&mut out.servers, config.nameservers.iter().flatten());
        append_new(&mut out.searches, config.searches.iter().flatten());
        for option in config.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            out.options.retain(|o| o.split(':').next() != Some(name));
            out.options.push(match option.value.as_deref() {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name.clone(),
            });
        }
    }
    out.servers.truncate(NAMESERVERS_MAX);
    out.searches.truncate(SEARCHES_MAX);
    while out.searches.join(" ").len() > SEARCH_CHARS_MAX {
        out.searches.pop();
    }
    out
}

fn append_new<'a>(list: &mut Vec<String>, more: impl Iterator<Item = &'a String>) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn policies() {
        let host = parse(
            "# c\nnameserver 9.9.9.9\nnameserver fe80::1%eth0\nsearch old\nsearch corp. lan\noptions edns0 trust-ad\n",
        );
        assert_eq!(host.servers, ["9.9.9.9", "fe80::1"]);
        assert_eq!(host.searches, ["corp", "lan"]);
        let check = |spec: serde_json::Value| {
            let mut spec = spec;
            spec["containers"] = json!([]);
            let pod: Pod = serde_json::from_value(json!({"metadata": {"namespace": "ns"}, "spec": spec})).unwrap();
            let d = for_pod(&pod, &host, &["10.43.0.10".into()], "cluster.local");
            format!("{} | {} | {}", d.servers.join(" "), d.searches.join(" "), d.options.join(" "))
        };
        let cluster = "10.43.0.10 | ns.svc.cluster.local svc.cluster.local cluster.local corp lan | ndots:5";
        let node = "9.9.9.9 fe80::1 | corp lan | edns0 trust-ad";
        assert_eq!(check(json!({})), cluster);
        assert_eq!(check(json!({"hostNetwork": true})), node);
        assert_eq!(check(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"})), cluster);
        assert_eq!(check(json!({"dnsPolicy": "Default"})), node);
        assert_eq!(
            check(
                json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1", "1.1.1.1"], "searches": ["a"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}})
            ),
            "1.1.1.1 | a | ndots:2 edns0"
        );
        assert!(check(json!({"dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}})).ends_with("| ndots:1"));
    }
}
