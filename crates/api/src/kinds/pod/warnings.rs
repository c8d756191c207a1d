//! What a pod's author is warned of: deprecated fields, labels and annotations, and what is allowed but rarely meant.
//! Upstream: `pod.GetWarningsForPod` and `GetWarningsForPodTemplate`.

use crate::kinds::persistentvolumeclaim;
use crate::validation::access::*;
use crate::validation::podspec;
use meta::field::Path;
use serde_json::Value;

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

pub const DEAD_VOLUMES: &[(&str, &str)] = &[
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

const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

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
            let said = has(security, "appArmorProfile") || has(own, "appArmorProfile");
            if template && !said && has(annotations, &key) {
                let why = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
                out.push(format!("{}: {why}", notes.key(&key)));
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
    if int(spec, "terminationGracePeriodSeconds").is_some_and(|s| s < 0) {
        out.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            p.child("terminationGracePeriodSeconds")
        ));
    }
    affinity(spec, &p, &mut out);
    out
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
        if list(t, "matchExpressions").is_empty() && list(t, "matchFields").is_empty() {
            out.push(format!("{p}: an empty node selector term matches no objects"));
        }
        node_selector_term(t, false, &p, out);
    }
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    for (i, t) in list(node, preferred).iter().enumerate() {
        node_selector_term(field(t, "preference"), false, &p.child(preferred).index(i).child("preference"), out);
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

fn volumes(spec: &Value, path: &Path, out: &mut Vec<String>) {
    let all = list(spec, "volumes");
    for (i, v) in all.iter().enumerate() {
        let p = path.child("volumes").index(i);
        for (kind, why) in DEAD_VOLUMES {
            if has(v, kind) {
                out.push(format!("{}: {why}", p.child(kind)));
            }
        }
        let claim = at(v, &["ephemeral", "volumeClaimTemplate", "spec"]);
        if claim.is_object() {
            persistentvolumeclaim::spec_warnings(claim, &p.child("ephemeral.volumeClaimTemplate.spec"), out);
        }
    }
    let sources =
        || all.iter().enumerate().flat_map(|(i, v)| list_at(v, &["projected", "sources"]).iter().map(move |s| (i, s)));
    let tokens: Vec<&str> =
        sources().map(|(_, s)| text_at(s, &["serviceAccountToken", "path"])).filter(|t| !t.is_empty()).collect();
    for (i, s) in sources() {
        let p = path.child("volumes").index(i).child("projected.sources");
        for (kind, shown) in [("configMap", "configMap"), ("secret", "secrets"), ("downwardAPI", "downwardAPI")] {
            for (j, item) in list_at(s, &[kind, "items"]).iter().enumerate() {
                let file = text(item, "path");
                if tokens.contains(&file) {
                    let p = p.child(shown).index(j);
                    out.push(format!("{p}: has duplicated path with ServiceAccountToken {file:?}"));
                }
            }
        }
        let file = text_at(s, &["clusterTrustBundle", "path"]);
        if tokens.contains(&file) {
            out.push(format!(
                "{}: has duplicated path with ServiceAccountToken {file:?}",
                p.child("ClusterTrustBundle")
            ));
        }
    }
}

fn repeats(spec: &Value, path: &Path, out: &mut Vec<String>) {
    for (key, name) in [("hostAliases", "ip"), ("imagePullSecrets", "name")] {
        let all = list(spec, key);
        for (i, item) in all.iter().enumerate() {
            let value = text(item, name);
            if all.iter().take(i).any(|o| text(o, name) == value) {
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
    let all = list(c, "env");
    for (i, e) in all.iter().enumerate() {
        let name = text(e, "name");
        if !all.iter().take(i).any(|o| text(o, "name") == name) {
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
    let mut seen: Vec<(Path, &Value)> = Vec::new();
    for lists in LISTS {
        for (i, c) in list(spec, lists).iter().enumerate() {
            for (j, port) in list(c, "ports").iter().enumerate() {
                let p = path.child(lists).index(i).child("ports").index(j);
                let host = |v: &Value| int(v, "hostPort").unwrap_or(0);
                if !text(port, "hostIP").is_empty() && host(port) == 0 {
                    out.push(format!("{p}: hostIP set without hostPort: {}", go_port(port)));
                }
                let key = |v: &Value| (int(v, "containerPort"), text(v, "protocol").to_string());
                for (other_path, other) in seen.iter().filter(|(_, o)| key(o) == key(port)) {
                    let (a, b) = (text(port, "hostIP"), text(other, "hostIP"));
                    let how = if a == b && host(port) == host(other) {
                        "duplicate"
                    } else if host(port) == 0 || host(other) == 0 {
                        "overlapping"
                    } else if host(port) == host(other) && a.is_empty() != b.is_empty() {
                        "dangerously ambiguous"
                    } else {
                        continue;
                    };
                    out.push(format!("{p}: {how} port definition with {other_path}"));
                }
                seen.push((p, port));
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
