//! What a pod's author is warned of: deprecated fields, labels and annotations, and what is allowed but rarely meant.
//! Upstream: `pod.GetWarningsForPod` and `GetWarningsForPodTemplate`.

use crate::kinds::persistentvolumeclaim;
use crate::validation::access::*;
use crate::validation::podspec::{self, LISTS};
use crate::validation::seen::Seen;
use crate::validation::values;
use meta::field::Path;
use serde_json::Value;
use std::collections::HashMap;

/// What upstream says about labels of nodes that have had their time.
pub fn deprecated_node_label(key: &str) -> Option<&'static str> {
    Some(match key {
        "beta.kubernetes.io/arch" => "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        "beta.kubernetes.io/os" => "deprecated since v1.14; use \"kubernetes.io/os\" instead",
        "failure-domain.beta.kubernetes.io/region" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
        }
        "beta.kubernetes.io/instance-type" => {
            "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"
        }
        "app.kubernetes.io/created-by" => "deprecated since v1.9",
        "scheduler.alpha.kubernetes.io/preferAvoidPods" => "deprecated since v1.22; use Taints and Tolerations instead",
        "node-role.kubernetes.io/master" => "use \"node-role.kubernetes.io/control-plane\" instead",
        _ => return None,
    })
}

/// A term of a node selector; `values`: its values are looked at as labels, too.
pub fn node_selector_term(term: &Value, values: bool, path: &Path, out: &mut Vec<String>) {
    for (i, e) in list(term, "matchExpressions").iter().enumerate() {
        let p = path.child("matchExpressions").index(i);
        if let Some(text) = deprecated_node_label(self::text(e, "key")) {
            out.push(format!("{}: {} is {text}", p.child("key"), self::text(e, "key")));
        }
        if values {
            for (j, v) in texts(e, "values").iter().enumerate() {
                for m in meta::names::label_value(v) {
                    out.push(format!("{}: {v} is invalid, {m}", p.child("values").index(j)));
                }
            }
        }
    }
}

const DEAD_ANNOTATIONS: &[(&str, &str)] = &[
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
];

const DEAD_VOLUMES: &[(&str, &str)] = &[
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// Of one pair with another, of which a hostile pod has thousands of millions: more than headers can carry.
const PAIRS_MAX: usize = 1000;

/// Of a pod (an empty path) or of a template at `path`.
pub fn of(pod: &Value, path: &Path) -> Vec<String> {
    let mut out = Vec::new();
    let template = !path.as_str().is_empty();
    let (spec, annotations) = (field(pod, "spec"), at(pod, &["metadata", "annotations"]));
    let (p, notes) = (path.child("spec"), path.child("metadata.annotations"));
    scheduling(spec, &p, &mut out);
    for (key, why) in DEAD_ANNOTATIONS {
        if has(annotations, key) {
            out.push(format!("{}: {why}", notes.key(key)));
        }
    }
    volumes(spec, &p, &mut out);
    repeats(spec, &p, &mut out);
    for name in ["memory", "ephemeral-storage"] {
        fractional(at(spec, &["overhead", name]), &p.child("overhead").key(name), &mut out);
    }
    let security = field(spec, "securityContext");
    let seccomp = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
    let pod_annotation = "seccomp.security.alpha.kubernetes.io/pod";
    if !has(security, "seccompProfile") && has(annotations, pod_annotation) {
        out.push(format!("{}: {seccomp}", notes.key(pod_annotation)));
    }
    for lists in LISTS {
        for (i, c) in list(spec, lists).iter().enumerate() {
            let p = p.child(lists).index(i);
            let own = field(c, "securityContext");
            let key = format!("container.seccomp.security.alpha.kubernetes.io/{}", text(c, "name"));
            if !has(own, "seccompProfile") && has(annotations, &key) {
                out.push(format!("{}: {seccomp}", notes.key(&key)));
            }
            let key = format!("container.apparmor.security.beta.kubernetes.io/{}", text(c, "name"));
            let said = [own, security].iter().any(|holder| has(holder, "appArmorProfile"));
            // A pod's own were told of when it came, before they became fields.
            if template && !said && has(annotations, &key) {
                out.push(old_apparmor(&key, path));
            }
            for kind in ["limits", "requests"] {
                for name in ["memory", "ephemeral-storage"] {
                    let q = at(c, &["resources", kind, name]);
                    fractional(q, &p.child("resources").child(kind).key(name), &mut out);
                }
            }
            env(c, &p, &mut out);
        }
    }
    ports(spec, &p, &mut out);
    port_names(spec, &p, &mut out);
    if int(spec, "terminationGracePeriodSeconds").is_some_and(|s| s < 0) {
        out.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            p.child("terminationGracePeriodSeconds")
        ));
    }
    affinity(spec, &p, &mut out);
    for (i, ns) in texts(field(spec, "dnsConfig"), "nameservers").iter().enumerate() {
        values::ip_warnings(ns, &p.child("dnsConfig.nameservers").index(i), &mut out);
    }
    for (i, alias) in list(spec, "hostAliases").iter().enumerate() {
        values::ip_warnings(text(alias, "ip"), &p.child("hostAliases").index(i).child("ip"), &mut out);
    }
    out
}

/// Of an annotation of a pod, or of a template at `path`.
pub fn old_apparmor(key: &str, path: &Path) -> String {
    let why = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
    format!("{}: {why}", path.child("metadata.annotations").key(key))
}

fn scheduling(spec: &Value, path: &Path, out: &mut Vec<String>) {
    for key in entries(spec, "nodeSelector").map(|e| e.0).collect::<Vec<_>>() {
        if let Some(why) = deprecated_node_label(key) {
            out.push(format!("{}: {why}", path.child("nodeSelector").key(key)));
        }
    }
    let node = at(spec, &["affinity", "nodeAffinity"]);
    let p = path.child("affinity.nodeAffinity");
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    for (i, t) in list_at(node, &[required, "nodeSelectorTerms"]).iter().enumerate() {
        let p = p.child(required).child("nodeSelectorTerms").index(i);
        node_selector_term(t, false, &p, out);
    }
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    for (i, t) in list(node, preferred).iter().enumerate() {
        node_selector_term(field(t, "preference"), true, &p.child(preferred).index(i).child("preference"), out);
    }
    for (i, c) in list(spec, "topologySpreadConstraints").iter().enumerate() {
        let p = path.child("topologySpreadConstraints").index(i);
        if let Some(why) = deprecated_node_label(text(c, "topologyKey")) {
            out.push(format!("{}: {} is {why}", p.child("topologyKey"), text(c, "topologyKey")));
        }
        if !has(c, "labelSelector") {
            out.push(format!("{}: a null labelSelector results in matching no pod", p.child("labelSelector")));
        }
    }
}

fn affinity(spec: &Value, path: &Path, out: &mut Vec<String>) {
    const NULL: &str = "a null labelSelector results in matching no pod";
    for kind in ["podAffinity", "podAntiAffinity"] {
        let (a, p) = (at(spec, &["affinity", kind]), path.child("affinity").child(kind));
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        for (i, t) in list(a, required).iter().enumerate() {
            if !has(t, "labelSelector") {
                out.push(format!("{}: {NULL}", p.child(required).index(i).child("labelSelector")));
            }
        }
        let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
        for (i, t) in list(a, preferred).iter().enumerate() {
            if !has(field(t, "podAffinityTerm"), "labelSelector") {
                let p = p.child(preferred).index(i).child("podAffinityTerm.labelSelector");
                out.push(format!("{p}: {NULL}"));
            }
        }
    }
}

/// Of a volume source that has had its time, if `owner` has it.
pub fn dead_volume(owner: &Value, kind: &str, path: &Path, out: &mut Vec<String>) {
    if has(owner, kind)
        && let Some((_, why)) = DEAD_VOLUMES.iter().find(|(k, _)| *k == kind)
    {
        // The one whose field is spelt otherwise here.
        let shown = if kind == "storageos" { "storageOS" } else { kind };
        out.push(format!("{}: {why}", path.child(shown)));
    }
}

fn volumes(spec: &Value, path: &Path, out: &mut Vec<String>) {
    let all = list(spec, "volumes");
    for (i, v) in all.iter().enumerate() {
        let p = path.child("volumes").index(i);
        for (kind, _) in DEAD_VOLUMES {
            dead_volume(v, kind, &p, out);
        }
        let claim = at(v, &["ephemeral", "volumeClaimTemplate", "spec"]);
        if claim.is_object() {
            persistentvolumeclaim::spec_warnings(claim, &p.child("ephemeral.volumeClaimTemplate.spec"), out);
        }
    }
    overlaps(all, out);
}

/// A file and what made it.
struct File {
    path: String,
    source: String,
}

impl File {
    fn of(path: &str, source: &str) -> File {
        File { path: path.trim_end_matches('/').to_string(), source: source.to_string() }
    }

    fn shown(&self) -> String {
        if self.source.is_empty() { format!("{:?}", self.path) } else { format!("{:?} ({})", self.path, self.source) }
    }
}

/// Places of files of which one lies at or below the other, the later one first.
fn overlapping(files: &[File]) -> Vec<(usize, usize)> {
    let named = files.iter().enumerate().filter(|(_, f)| !f.path.is_empty());
    let mut order: Vec<(String, usize)> = named.map(|(i, f)| (format!("{}/", f.path), i)).collect();
    // So that all that lies below a file comes right after it.
    order.sort();
    let (mut above, mut pairs): (Vec<&(String, usize)>, Vec<(usize, usize)>) = (Vec::new(), Vec::new());
    for file in &order {
        while above.last().is_some_and(|a| !file.0.starts_with(&a.0)) {
            above.pop();
        }
        pairs.extend(above.iter().map(|a| (file.1.max(a.1), file.1.min(a.1))));
        if pairs.len() >= PAIRS_MAX {
            break;
        }
        above.push(file);
    }
    pairs.truncate(PAIRS_MAX);
    pairs.sort_unstable();
    pairs
}

/// Files of one volume that lie in each other's way.
fn overlaps(volumes: &[Value], out: &mut Vec<String>) {
    let files = |source: &Value, what: &str| -> Vec<File> {
        list(source, "items").iter().map(|i| File::of(text(i, "path"), what)).collect()
    };
    for v in volumes {
        let name = text(v, "name");
        let mut check = |all: Vec<File>, what: &str| {
            for (file, other) in overlapping(&all) {
                let (a, b) = (all[file].shown(), all[other].shown());
                out.push(format!("volume {name:?} ({what}): overlapping paths: {a} with {b}"));
            }
        };
        let (map, secret) = (field(v, "configMap"), field(v, "secret"));
        check(files(map, ""), &format!("ConfigMap {:?}", text(map, "name")));
        check(files(secret, ""), &format!("Secret {:?}", text(secret, "secretName")));
        check(files(field(v, "downwardAPI"), ""), "DownwardAPI");
        let mut all = Vec::new();
        let mut sourceless = 0;
        for s in list_at(v, &["projected", "sources"]) {
            let part = |kind: &str| field(s, kind);
            if s.as_object().is_none_or(|o| o.values().all(Value::is_null)) {
                sourceless += 1;
            } else if has(part("configMap"), "items") {
                let map = part("configMap");
                all.extend(files(map, &format!("ConfigMap {:?}", text(map, "name"))));
            } else if has(part("secret"), "items") {
                let secret = part("secret");
                all.extend(files(secret, &format!("Secret {:?}", text(secret, "name"))));
            } else if has(part("downwardAPI"), "items") {
                all.extend(files(part("downwardAPI"), "DownwardAPI"));
            } else if has(s, "serviceAccountToken") {
                all.push(File::of(text(part("serviceAccountToken"), "path"), "ServiceAccountToken"));
            } else if has(s, "clusterTrustBundle") {
                let bundle = part("clusterTrustBundle");
                let of = if has(bundle, "name") { text(bundle, "name") } else { text(bundle, "signerName") };
                all.push(File::of(text(bundle, "path"), &format!("ClusterTrustBundle {of:?}")));
            } else if has(s, "podCertificate") {
                for (key, what) in [
                    ("certificateChainPath", "chain"),
                    ("keyPath", "key"),
                    ("credentialBundlePath", "credential bundle"),
                ] {
                    all.push(File::of(text(part("podCertificate"), key), &format!("PodCertificate {what}")));
                }
            }
        }
        check(all, "Projected");
        for _ in 0..sourceless {
            out.push(format!("volume {name:?} (Projected) has no sources provided"));
        }
    }
}

fn repeats(spec: &Value, path: &Path, out: &mut Vec<String>) {
    for (key, name) in [("hostAliases", "ip"), ("imagePullSecrets", "name")] {
        let mut seen = Seen::default();
        for (i, item) in list(spec, key).iter().enumerate() {
            let value = text(item, name);
            if seen.again(value) {
                out.push(format!("{}: duplicate {name} {value:?}", path.child(key).index(i).child(name)));
            }
        }
    }
    for (i, s) in list(spec, "imagePullSecrets").iter().enumerate() {
        if text(s, "name").is_empty() {
            out.push(format!("{}: invalid empty name \"\"", path.child("imagePullSecrets").index(i).child("name")));
        }
    }
}

/// Half a byte is asked for.
pub fn fractional(q: &Value, path: &Path, out: &mut Vec<String>) {
    if podspec::milli(q) % 1000 != 0 {
        let shown = podspec::parse_quantity(q).map_or_else(String::new, |q| q.canonical());
        out.push(format!("{path}: fractional byte value {shown:?} is invalid, must be an integer"));
    }
}

fn env(c: &Value, path: &Path, out: &mut Vec<String>) {
    let mut seen = Seen::default();
    for (i, e) in list(c, "env").iter().enumerate() {
        let name = text(e, "name");
        if !seen.again(name) {
            continue;
        }
        // Only a value that builds on the earlier one keeps it.
        let (value, before) = (text(e, "value"), format!("$({name})"));
        if has(e, "valueFrom") || value == before || !value.contains(&before) {
            let p = path.child("env").index(i);
            out.push(format!("{p}: hides previous definition of {name:?}, which may be dropped when using apply"));
        }
    }
}

/// Over all containers, since they share one network namespace.
fn ports(spec: &Value, path: &Path, out: &mut Vec<String>) {
    let mut all: Vec<(Path, &Value)> = Vec::new();
    // Places of earlier ports by number and protocol, and then by port and by address of the host, or any.
    let mut earlier: HashMap<(Option<i64>, &str, Option<i64>, Option<&str>), Vec<usize>> = HashMap::new();
    let mut told = 0;
    for lists in LISTS {
        for (i, c) in list(spec, lists).iter().enumerate() {
            for (j, port) in list(c, "ports").iter().enumerate() {
                let p = path.child(lists).index(i).child("ports").index(j);
                let (host, ip) = (int(port, "hostPort").unwrap_or(0), text(port, "hostIP"));
                if !ip.is_empty() && host == 0 {
                    out.push(format!("{p}: hostIP set without hostPort: {}", go_port(port)));
                }
                let key = |host, ip| (int(port, "containerPort"), text(port, "protocol"), host, ip);
                let near = match (host, ip) {
                    (0, _) => vec![key(None, None)],
                    (_, "") => vec![key(Some(0), None), key(Some(host), None)],
                    _ => vec![key(Some(0), None), key(Some(host), Some(ip)), key(Some(host), Some(""))],
                };
                let room = PAIRS_MAX - told;
                let mut others: Vec<usize> =
                    near.iter().filter_map(|k| earlier.get(k)).flatten().copied().take(room).collect();
                others.sort_unstable();
                told += others.len();
                for (other_path, other) in others.into_iter().map(|i| &all[i]) {
                    let (other_host, other_ip) = (int(other, "hostPort").unwrap_or(0), text(other, "hostIP"));
                    let how = if ip == other_ip && host == other_host {
                        "duplicate"
                    } else if host == 0 || other_host == 0 {
                        "overlapping"
                    } else {
                        "dangerously ambiguous"
                    };
                    out.push(format!("{p}: {how} port definition with {other_path}"));
                }
                for key in [key(None, None), key(Some(host), None), key(Some(host), Some(ip))] {
                    earlier.entry(key).or_default().push(all.len());
                }
                all.push((p, port));
            }
        }
    }
}

/// Over all containers, since Services and probes may pick a port by name.
fn port_names(spec: &Value, path: &Path, out: &mut Vec<String>) {
    let mut seen: HashMap<&str, Path> = HashMap::new();
    for lists in LISTS {
        for (i, c) in list(spec, lists).iter().enumerate() {
            for (j, port) in list(c, "ports").iter().enumerate() {
                let (name, p) = (text(port, "name"), path.child(lists).index(i).child("ports").index(j));
                match seen.get(name) {
                    _ if name.is_empty() => {}
                    Some(first) => out.push(format!(
                        "{p}: duplicate port name {name:?} with {first}, services and probes that select ports by name will use {first}"
                    )),
                    None => {
                        seen.insert(name, p);
                    }
                }
            }
        }
    }
}

/// As Go prints the struct.
fn go_port(p: &Value) -> String {
    let n = |k| int(p, k).unwrap_or(0);
    format!(
        "{{Name:{} HostPort:{} ContainerPort:{} Protocol:{} HostIP:{}}}",
        text(p, "name"),
        n("hostPort"),
        n("containerPort"),
        text(p, "protocol"),
        text(p, "hostIP")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn files_overlap_at_and_below_their_paths() {
        let pairs = |paths: &[&str]| {
            let files: Vec<File> = paths.iter().map(|p| File::of(p, "")).collect();
            overlapping(&files)
        };
        assert_eq!(pairs(&["a", "ab", "a-b", "b/a", ""]), []);
        assert_eq!(pairs(&["a/b/c", "a", "a/b", "c", "a/", ""]), [(1, 0), (2, 0), (2, 1), (4, 0), (4, 1), (4, 2)]);
        assert_eq!(pairs(&vec!["a"; 50_000]).len(), PAIRS_MAX);
        let deep = "a/".repeat(500_000);
        assert_eq!(pairs(&[&deep, &format!("{deep}b"), &format!("{deep}c")]), [(1, 0), (2, 0)]);
    }

    #[test]
    fn ports_meet_by_number_protocol_host_and_address() {
        let port =
            |host: i64, ip: &str| json!({"containerPort": 80, "protocol": "TCP", "hostPort": host, "hostIP": ip});
        let told = |ports: &[Value]| {
            let mut out = Vec::new();
            let spec = json!({"containers": [{"ports": ports}, {"ports": [{"containerPort": 80, "protocol": "UDP"}]}]});
            super::ports(&spec, &Path::new("spec"), &mut out);
            out.iter()
                .map(|w| w.replace("spec.containers[0].ports", "").replace(" port definition with ", " "))
                .collect::<Vec<_>>()
        };
        let all = [port(1, "a"), port(1, "b"), port(2, ""), port(1, ""), port(0, ""), port(1, "a"), port(0, "")];
        expect![[r#"
            [3]: dangerously ambiguous [0]
            [3]: dangerously ambiguous [1]
            [4]: overlapping [0]
            [4]: overlapping [1]
            [4]: overlapping [2]
            [4]: overlapping [3]
            [5]: duplicate [0]
            [5]: dangerously ambiguous [3]
            [5]: overlapping [4]
            [6]: overlapping [0]
            [6]: overlapping [1]
            [6]: overlapping [2]
            [6]: overlapping [3]
            [6]: duplicate [4]
            [6]: overlapping [5]"#]]
        .assert_eq(&told(&all).join("\n"));
        assert_eq!(told(&vec![port(0, ""); 30_000]).len(), PAIRS_MAX);
        let apart: Vec<Value> = (0..30_000).map(|i| port(1, &i.to_string())).collect();
        assert_eq!(told(&apart).len(), 0);
    }
}
