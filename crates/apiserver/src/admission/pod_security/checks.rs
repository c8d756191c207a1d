//! The Pod Security Standards: what `baseline` and `restricted` forbid, with upstream's words for each violation.
//! Source: "Pod Security Standards", at every version since v1.0. Pure.

use serde_json::Value;
use std::collections::BTreeSet;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    pub fn parse(s: &str) -> Option<Level> {
        match s {
            "privileged" => Some(Level::Privileged),
            "baseline" => Some(Level::Baseline),
            "restricted" => Some(Level::Restricted),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        }
    }
}

/// `reason (detail)`
type Found = Option<(&'static str, String)>;
type Check = fn(&Pod<'_>) -> Found;

/// A minor version of Kubernetes 1, which says how the standards are read.
pub type Minor = u32;
pub const LATEST: Minor = Minor::MAX;

/// In the order in which upstream reports them. From which version on it holds, and from which on a stricter check of
/// `restricted` takes its place.
const BASELINE: &[(Check, Minor, Option<Minor>)] = &[
    (app_armor, 0, None),
    (capabilities_baseline, 0, Some(22)),
    (host_namespaces, 0, None),
    (host_path_volumes, 0, Some(0)),
    (host_ports, 0, None),
    (host_probes, 34, None),
    (privileged, 0, None),
    (proc_mount, 0, Some(35)),
    (se_linux, 0, None),
    (seccomp_baseline, 0, Some(19)),
    (sysctls, 0, None),
    (windows_host_process, 0, None),
];
const RESTRICTED: &[(Check, Minor)] = &[
    (allow_privilege_escalation, 8),
    (capabilities_restricted, 22),
    (proc_mount_restricted, 35),
    (restricted_volumes, 0),
    (run_as_non_root, 0),
    (run_as_user, 23),
    (seccomp_restricted, 19),
];

/// What a pod's spec violates, as one text; `None` when it fits the level.
pub fn violations(metadata: &Value, spec: &Value, level: Level, version: Minor) -> Option<String> {
    let pod = Pod { version, ..Pod::new(metadata, spec) };
    let mut found: Vec<(&'static str, String)> = Vec::new();
    if level >= Level::Baseline {
        let replaced = |by: Option<Minor>| level == Level::Restricted && by.is_some_and(|v| v <= version);
        let due = BASELINE.iter().filter(|(_, since, by)| *since <= version && !replaced(*by));
        found.extend(due.filter_map(|(c, ..)| c(&pod)));
    }
    if level == Level::Restricted {
        found.extend(RESTRICTED.iter().filter(|(_, since)| *since <= version).filter_map(|(c, _)| c(&pod)));
    }
    if found.is_empty() {
        return None;
    }
    let texts: Vec<String> = found
        .into_iter()
        .map(|(reason, detail)| if detail.is_empty() { reason.to_string() } else { format!("{reason} ({detail})") })
        .collect();
    Some(texts.join(", "))
}

struct Pod<'a> {
    metadata: &'a Value,
    spec: &'a Value,
    /// Init containers, containers, ephemeral containers: (name, container).
    containers: Vec<(&'a str, &'a Value)>,
    volumes: &'a [Value],
    version: Minor,
}

impl<'a> Pod<'a> {
    fn new(metadata: &'a Value, spec: &'a Value) -> Pod<'a> {
        let containers = ["initContainers", "containers", "ephemeralContainers"]
            .iter()
            .flat_map(|list| spec[*list].as_array().into_iter().flatten())
            .map(|c| (c["name"].as_str().unwrap_or_default(), c))
            .collect();
        let volumes = spec["volumes"].as_array().map(Vec::as_slice).unwrap_or_default();
        Pod { metadata, spec, containers, volumes, version: LATEST }
    }

    /// Names of the containers for which `bad` holds.
    fn which(&self, bad: impl Fn(&Value) -> bool) -> Vec<&'a str> {
        self.containers.iter().filter(|(_, c)| bad(c)).map(|(n, _)| *n).collect()
    }

    /// Rules for Linux alone are waived for pods that say they are for Windows, since v1.25.
    fn windows(&self) -> bool {
        self.version >= 25 && self.spec["os"]["name"] == "windows"
    }

    /// Where being root, or seeing all of `/proc`, means little. Known since v1.35.
    fn in_user_namespace(&self) -> bool {
        self.version >= 35 && self.spec["hostUsers"] == false
    }

    fn security(&self) -> &'a Value {
        &self.spec["securityContext"]
    }
}

/// `container "a"` or `containers "a", "b"`
fn named(names: &[&str]) -> String {
    plural("container", names)
}

fn plural(word: &str, names: &[&str]) -> String {
    let s = if names.len() == 1 { "" } else { "s" };
    format!("{word}{s} {}", quoted(names))
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|n| format!("{n:?}")).collect::<Vec<_>>().join(", ")
}

fn dedup<'a>(mut v: Vec<&'a str>) -> Vec<&'a str> {
    v.sort_unstable();
    v.dedup();
    v
}

fn app_armor(p: &Pod<'_>) -> Found {
    let bad = |sc: &Value| {
        let kind = &sc["appArmorProfile"]["type"];
        !kind.is_null() && kind != "RuntimeDefault" && kind != "Localhost"
    };
    let mut setters = Vec::new();
    let mut values: Vec<String> = Vec::new();
    if bad(p.security()) {
        setters.push("pod".to_string());
        values.push(format!("{:?}", p.security()["appArmorProfile"]["type"].as_str().unwrap_or_default()));
    }
    let containers = p.which(|c| bad(&c["securityContext"]));
    if !containers.is_empty() {
        setters.push(named(&containers));
        values.push("\"Unconfined\"".to_string());
    }
    for (key, value) in p.metadata["annotations"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        let allowed = value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
        if key.starts_with("container.apparmor.security.beta.kubernetes.io/") && !allowed {
            setters.push(format!("annotation {key:?}"));
            values.push(format!("{value:?}"));
        }
    }
    values.dedup();
    let reason = if setters.len() > 1 { "forbidden AppArmor profiles" } else { "forbidden AppArmor profile" };
    (!setters.is_empty()).then(|| {
        (reason, format!("{} must not set AppArmor profile type to {}", setters.join(" and "), values.join(", ")))
    })
}

const DEFAULT_CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

fn added(c: &Value) -> impl Iterator<Item = &str> {
    c["securityContext"]["capabilities"]["add"].as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn capabilities_baseline(p: &Pod<'_>) -> Found {
    let bad = p.which(|c| added(c).any(|x| !DEFAULT_CAPABILITIES.contains(&x)));
    let which = p.containers.iter().flat_map(|(_, c)| added(c)).filter(|x| !DEFAULT_CAPABILITIES.contains(x)).collect();
    (!bad.is_empty()).then(|| {
        let detail =
            format!("{} must not include {} in securityContext.capabilities.add", named(&bad), quoted(&dedup(which)));
        ("non-default capabilities", detail)
    })
}

fn host_namespaces(p: &Pod<'_>) -> Found {
    let set: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|f| p.spec[**f] == true)
        .map(|f| format!("{f}=true"))
        .collect();
    (!set.is_empty()).then(|| ("host namespaces", set.join(", ")))
}

fn host_path_volumes(p: &Pod<'_>) -> Found {
    let names: Vec<&str> =
        p.volumes.iter().filter(|v| !v["hostPath"].is_null()).filter_map(|v| v["name"].as_str()).collect();
    (!names.is_empty()).then(|| ("hostPath volumes", plural("volume", &names)))
}

fn host_ports(p: &Pod<'_>) -> Found {
    let of = |c: &Value| -> Vec<i64> {
        c["ports"].as_array().into_iter().flatten().filter_map(|x| x["hostPort"].as_i64()).filter(|x| *x != 0).collect()
    };
    let bad = p.which(|c| !of(c).is_empty());
    let mut ports: Vec<i64> = p.containers.iter().flat_map(|(_, c)| of(c)).collect();
    ports.sort_unstable();
    ports.dedup();
    (!bad.is_empty()).then(|| {
        let list = ports.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
        let (uses, s) = (if bad.len() == 1 { "uses" } else { "use" }, if ports.len() == 1 { "" } else { "s" });
        ("hostPort", format!("{} {uses} hostPort{s} {list}", named(&bad)))
    })
}

/// A probe or hook must not be pointed at another host.
fn host_probes(p: &Pod<'_>) -> Found {
    fn hosts(c: &Value) -> Vec<&str> {
        let mut out = Vec::new();
        let handlers = [
            &c["livenessProbe"],
            &c["readinessProbe"],
            &c["startupProbe"],
            &c["lifecycle"]["postStart"],
            &c["lifecycle"]["preStop"],
        ];
        for handler in handlers {
            for kind in ["httpGet", "tcpSocket"] {
                out.extend(handler[kind]["host"].as_str().filter(|h| !h.is_empty()));
            }
        }
        out
    }
    let bad = p.which(|c| !hosts(c).is_empty());
    let which = dedup(p.containers.iter().flat_map(|(_, c)| hosts(c)).collect());
    (!bad.is_empty()).then(|| {
        let uses = if bad.len() == 1 { "uses" } else { "use" };
        ("probe or lifecycle host", format!("{} {uses} probe or lifecycle {}", named(&bad), plural("host", &which)))
    })
}

fn privileged(p: &Pod<'_>) -> Found {
    let bad = p.which(|c| c["securityContext"]["privileged"] == true);
    (!bad.is_empty()).then(|| ("privileged", format!("{} must not set securityContext.privileged=true", named(&bad))))
}

/// Loosened for pods in a user namespace, since v1.35.
fn proc_mount(p: &Pod<'_>) -> Found {
    if p.in_user_namespace() { None } else { proc_mount_restricted(p) }
}

fn proc_mount_restricted(p: &Pod<'_>) -> Found {
    let value = |c: &Value| c["securityContext"]["procMount"].as_str().filter(|m| *m != "Default").map(str::to_string);
    let bad = p.which(|c| value(c).is_some());
    let values: Vec<String> = p.containers.iter().filter_map(|(_, c)| value(c)).collect();
    let values = dedup(values.iter().map(String::as_str).collect());
    (!bad.is_empty()).then(|| {
        ("procMount", format!("{} must not set securityContext.procMount to {}", named(&bad), quoted(&values)))
    })
}

fn se_linux(p: &Pod<'_>) -> Found {
    const TYPES: &[&str] = &["", "container_t", "container_init_t", "container_kvm_t"];
    let allowed = |t: &str| TYPES.contains(&t) || p.version >= 31 && t == "container_engine_t";
    let text = |sc: &Value, f: &str| sc["seLinuxOptions"][f].as_str().unwrap_or_default().to_string();
    let bad = |sc: &Value| !allowed(&text(sc, "type")) || !text(sc, "user").is_empty() || !text(sc, "role").is_empty();
    let mut setters = Vec::new();
    let mut contexts = Vec::new();
    if bad(p.security()) {
        setters.push("pod".to_string());
        contexts.push(p.security());
    }
    let containers = p.which(|c| bad(&c["securityContext"]));
    if !containers.is_empty() {
        setters.push(named(&containers));
        contexts.extend(p.containers.iter().map(|(_, c)| &c["securityContext"]).filter(|sc| bad(sc)));
    }
    if setters.is_empty() {
        return None;
    }
    let types: Vec<String> = contexts.iter().map(|sc| text(sc, "type")).collect();
    let types = dedup(types.iter().map(String::as_str).filter(|t| !allowed(t)).collect());
    let mut data = Vec::new();
    if !types.is_empty() {
        data.push(plural("type", &types));
    }
    for field in ["user", "role"] {
        if contexts.iter().any(|sc| !text(sc, field).is_empty()) {
            data.push(format!("{field} may not be set"));
        }
    }
    let detail = format!("{} set forbidden securityContext.seLinuxOptions: {}", setters.join(" and "), data.join("; "));
    Some(("seLinuxOptions", detail))
}

fn seccomp_type(sc: &Value) -> Option<&str> {
    sc["seccompProfile"]["type"].as_str()
}

fn allowed_seccomp(kind: &str) -> bool {
    kind == "RuntimeDefault" || kind == "Localhost"
}

/// Who sets a profile that is never allowed, and to what.
fn bad_seccomp<'a>(p: &Pod<'a>) -> (Vec<String>, Vec<&'a str>) {
    let bad = |sc: &'a Value| seccomp_type(sc).filter(|t| !allowed_seccomp(t));
    let mut setters = Vec::new();
    let mut values = Vec::new();
    if let Some(v) = bad(p.security()) {
        setters.push("pod".to_string());
        values.push(v);
    }
    let containers: Vec<&str> =
        p.containers.iter().filter(|(_, c)| bad(&c["securityContext"]).is_some()).map(|(n, _)| *n).collect();
    if !containers.is_empty() {
        setters.push(named(&containers));
        values.extend(p.containers.iter().filter_map(|(_, c)| bad(&c["securityContext"])));
    }
    (setters, dedup(values))
}

/// Before there was a field, up to v1.18.
fn seccomp_annotations(p: &Pod<'_>) -> Found {
    let allowed = |v: &str| matches!(v, "runtime/default" | "docker/default") || v.starts_with("localhost/");
    let of_pod = "seccomp.security.alpha.kubernetes.io/pod".to_string();
    let of_containers = p.containers.iter().map(|(n, _)| format!("container.seccomp.security.alpha.kubernetes.io/{n}"));
    let bad: BTreeSet<String> = std::iter::once(of_pod)
        .chain(of_containers)
        .filter_map(|key| Some((p.metadata["annotations"][&key].as_str().filter(|v| !allowed(v))?, key)))
        .map(|(value, key)| format!("{key}={value:?}"))
        .collect();
    let s = if bad.len() == 1 { "" } else { "s" };
    let detail =
        || format!("forbidden annotation{s} {}", bad.iter().map(String::as_str).collect::<Vec<_>>().join(", "));
    (!bad.is_empty()).then(|| ("seccompProfile", detail()))
}

fn seccomp_baseline(p: &Pod<'_>) -> Found {
    if p.version < 19 {
        return seccomp_annotations(p);
    }
    let (setters, values) = bad_seccomp(p);
    (!setters.is_empty()).then(|| {
        let detail = format!(
            "{} must not set securityContext.seccompProfile.type to {}",
            setters.join(" and "),
            quoted(&values)
        );
        ("seccompProfile", detail)
    })
}

fn seccomp_restricted(p: &Pod<'_>) -> Found {
    if p.windows() {
        return None;
    }
    let (setters, values) = bad_seccomp(p);
    if !setters.is_empty() {
        let detail = format!(
            "{} must not set securityContext.seccompProfile.type to {}",
            setters.join(" and "),
            quoted(&values)
        );
        return Some(("seccompProfile", detail));
    }
    if seccomp_type(p.security()).is_some() {
        return None;
    }
    let missing = p.which(|c| seccomp_type(&c["securityContext"]).is_none());
    (!missing.is_empty()).then(|| {
        let detail = format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            named(&missing)
        );
        ("seccompProfile", detail)
    })
}

fn sysctls(p: &Pod<'_>) -> Found {
    const SAFE: &[(&str, Minor)] = &[
        ("kernel.shm_rmid_forced", 0),
        ("net.ipv4.ip_local_port_range", 0),
        ("net.ipv4.ip_local_reserved_ports", 27),
        ("net.ipv4.ip_unprivileged_port_start", 0),
        ("net.ipv4.ping_group_range", 0),
        ("net.ipv4.tcp_fin_timeout", 29),
        ("net.ipv4.tcp_keepalive_intvl", 29),
        ("net.ipv4.tcp_keepalive_probes", 29),
        ("net.ipv4.tcp_keepalive_time", 29),
        ("net.ipv4.tcp_rmem", 32),
        ("net.ipv4.tcp_syncookies", 0),
        ("net.ipv4.tcp_wmem", 32),
    ];
    let bad: Vec<&str> = p.security()["sysctls"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|s| s["name"].as_str())
        .filter(|n| !SAFE.iter().any(|(safe, since)| safe == n && *since <= p.version))
        .collect();
    (!bad.is_empty()).then(|| ("forbidden sysctls", bad.join(", ")))
}

fn windows_host_process(p: &Pod<'_>) -> Found {
    let bad = |sc: &Value| sc["windowsOptions"]["hostProcess"] == true;
    let mut setters = Vec::new();
    if bad(p.security()) {
        setters.push("pod".to_string());
    }
    let containers = p.which(|c| bad(&c["securityContext"]));
    if !containers.is_empty() {
        setters.push(named(&containers));
    }
    (!setters.is_empty()).then(|| {
        (
            "hostProcess",
            format!("{} must not set securityContext.windowsOptions.hostProcess=true", setters.join(" and ")),
        )
    })
}

fn allow_privilege_escalation(p: &Pod<'_>) -> Found {
    if p.windows() {
        return None;
    }
    let bad = p.which(|c| c["securityContext"]["allowPrivilegeEscalation"] != false);
    (!bad.is_empty()).then(|| {
        let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", named(&bad));
        ("allowPrivilegeEscalation != false", detail)
    })
}

fn capabilities_restricted(p: &Pod<'_>) -> Found {
    if p.windows() {
        return None;
    }
    let drops_all = |c: &Value| {
        c["securityContext"]["capabilities"]["drop"].as_array().is_some_and(|d| d.iter().any(|x| x == "ALL"))
    };
    let keeps = p.which(|c| !drops_all(c));
    let forbidden = |x: &&str| *x != "NET_BIND_SERVICE";
    let adds = p.which(|c| added(c).any(|x| forbidden(&x)));
    let which = dedup(p.containers.iter().flat_map(|(_, c)| added(c)).filter(forbidden).collect());
    let mut details = Vec::new();
    if !keeps.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", named(&keeps)));
    }
    if !adds.is_empty() {
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            named(&adds),
            quoted(&which)
        ));
    }
    (!details.is_empty()).then(|| ("unrestricted capabilities", details.join("; ")))
}

fn restricted_volumes(p: &Pod<'_>) -> Found {
    const ALLOWED: &[&str] = &[
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let kind = |v: &Value| -> Option<String> {
        let map = v.as_object()?;
        if map.iter().any(|(k, x)| ALLOWED.contains(&k.as_str()) && !x.is_null()) {
            return None;
        }
        let known = map.iter().find(|(k, x)| *k != "name" && !x.is_null()).map(|(k, _)| k.clone());
        Some(known.unwrap_or_else(|| "unknown".to_string()))
    };
    let bad: Vec<(&str, String)> =
        p.volumes.iter().filter_map(|v| Some((v["name"].as_str().unwrap_or_default(), kind(v)?))).collect();
    if bad.is_empty() {
        return None;
    }
    let names: Vec<&str> = bad.iter().map(|(n, _)| *n).collect();
    let kinds = dedup(bad.iter().map(|(_, k)| k.as_str()).collect());
    let uses = if names.len() == 1 { "uses" } else { "use" };
    let detail = format!("{} {uses} {}", plural("volume", &names), plural("restricted volume type", &kinds));
    Some(("restricted volume types", detail))
}

fn run_as_non_root(p: &Pod<'_>) -> Found {
    if p.in_user_namespace() {
        return None;
    }
    let of = |sc: &Value| sc["runAsNonRoot"].as_bool();
    let mut setters = Vec::new();
    if of(p.security()) == Some(false) {
        setters.push("pod".to_string());
    }
    let explicit = p.which(|c| of(&c["securityContext"]) == Some(false));
    if !explicit.is_empty() {
        setters.push(named(&explicit));
    }
    if !setters.is_empty() {
        let detail = format!("{} must not set securityContext.runAsNonRoot=false", setters.join(" and "));
        return Some(("runAsNonRoot != true", detail));
    }
    if of(p.security()) == Some(true) {
        return None;
    }
    let missing = p.which(|c| of(&c["securityContext"]).is_none());
    (!missing.is_empty()).then(|| {
        ("runAsNonRoot != true", format!("pod or {} must set securityContext.runAsNonRoot=true", named(&missing)))
    })
}

fn run_as_user(p: &Pod<'_>) -> Found {
    if p.in_user_namespace() {
        return None;
    }
    let mut setters = Vec::new();
    if p.security()["runAsUser"] == 0 {
        setters.push("pod".to_string());
    }
    let bad = p.which(|c| c["securityContext"]["runAsUser"] == 0);
    if !bad.is_empty() {
        setters.push(named(&bad));
    }
    (!setters.is_empty()).then(|| ("runAsUser=0", format!("{} must not set runAsUser=0", setters.join(" and "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn restricted_pod() -> Value {
        json!({"securityContext":{"runAsNonRoot":true,"seccompProfile":{"type":"RuntimeDefault"}},
               "containers":[{"name":"a","securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]}}}]})
    }

    fn text(spec: &Value, level: Level) -> String {
        violations(&json!({}), spec, level, LATEST).unwrap_or_default()
    }

    #[test]
    fn versions_have_the_rules_of_their_time() {
        let bare = json!({"containers":[{"name":"a"}]});
        let reasons = |spec: &Value, level, version| {
            let text = violations(&json!({}), spec, level, version).unwrap_or_default();
            let parts: Vec<&str> = text.split("), ").map(|p| p.split(" (").next().unwrap_or_default()).collect();
            parts.join("; ")
        };
        for (version, expected) in [
            (0, "runAsNonRoot != true"),
            (8, "allowPrivilegeEscalation != false; runAsNonRoot != true"),
            (19, "allowPrivilegeEscalation != false; runAsNonRoot != true; seccompProfile"),
            (22, "allowPrivilegeEscalation != false; unrestricted capabilities; runAsNonRoot != true; seccompProfile"),
        ] {
            assert_eq!(reasons(&bare, Level::Restricted, version), expected, "v1.{version}");
        }
        let sysctl = |name: &str| json!({"securityContext":{"sysctls":[{"name":name}]},"containers":[]});
        for (name, since) in
            [("net.ipv4.ip_local_reserved_ports", 27), ("net.ipv4.tcp_fin_timeout", 29), ("net.ipv4.tcp_rmem", 32)]
        {
            assert_eq!(reasons(&sysctl(name), Level::Baseline, since), "", "{name}");
            assert_eq!(reasons(&sysctl(name), Level::Baseline, since - 1), "forbidden sysctls", "{name}");
        }
        let probe = json!({"containers":[{"name":"a","livenessProbe":{"tcpSocket":{"host":"h"}}}]});
        assert_eq!(reasons(&probe, Level::Baseline, 33), "");
        assert_eq!(reasons(&probe, Level::Baseline, 34), "probe or lifecycle host");
        let windows =
            json!({"os":{"name":"windows"},"securityContext":{"runAsNonRoot":true},"containers":[{"name":"a"}]});
        assert_eq!(reasons(&windows, Level::Restricted, LATEST), "");
        assert!(!reasons(&windows, Level::Restricted, 24).is_empty());
        let engine =
            json!({"containers":[{"name":"a","securityContext":{"seLinuxOptions":{"type":"container_engine_t"}}}]});
        assert_eq!(reasons(&engine, Level::Baseline, 31), "");
        assert_eq!(reasons(&engine, Level::Baseline, 30), "seLinuxOptions");
    }

    #[test]
    fn a_bare_pod_fits_baseline_and_misses_restricted_as_upstream_says_it() {
        let bare = json!({"containers":[{"name":"a"}]});
        assert_eq!(text(&bare, Level::Baseline), "");
        assert_eq!(
            text(&bare, Level::Restricted),
            "allowPrivilegeEscalation != false (container \"a\" must set \
             securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container \"a\" must set \
             securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or container \"a\" must set \
             securityContext.runAsNonRoot=true), seccompProfile (pod or container \"a\" must set \
             securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        );
        assert_eq!(text(&restricted_pod(), Level::Restricted), "");
        let two = json!({"containers":[{"name":"a"},{"name":"b"}],"initContainers":[{"name":"i"}]});
        assert!(text(&two, Level::Restricted).contains("containers \"i\", \"a\", \"b\" must set"));
    }

    #[test]
    fn each_rule_finds_its_violation() {
        let mut table: Vec<(fn(&mut Value), Level, &str)> = vec![
            (|p| p["hostNetwork"] = true.into(), Level::Baseline, "host namespaces (hostNetwork=true)"),
            (
                |p| p["containers"][0]["securityContext"]["privileged"] = true.into(),
                Level::Baseline,
                "privileged (container \"a\" must not set securityContext.privileged=true)",
            ),
            (
                |p| p["containers"][0]["securityContext"]["capabilities"]["add"] = json!(["NET_ADMIN", "CHOWN"]),
                Level::Baseline,
                "non-default capabilities (container \"a\" must not include \"NET_ADMIN\" in \
                 securityContext.capabilities.add)",
            ),
            (
                |p| p["containers"][0]["securityContext"]["capabilities"]["add"] = json!(["CHOWN", "NET_BIND_SERVICE"]),
                Level::Restricted,
                "unrestricted capabilities (container \"a\" must not include \"CHOWN\" in \
                 securityContext.capabilities.add)",
            ),
            (
                |p| p["volumes"] = json!([{"name":"v","hostPath":{"path":"/"}}]),
                Level::Baseline,
                "hostPath volumes (volume \"v\")",
            ),
            (
                |p| p["volumes"] = json!([{"name":"v","hostPath":{"path":"/"}},{"name":"w","nfs":{}}]),
                Level::Restricted,
                "restricted volume types (volumes \"v\", \"w\" use restricted volume types \"hostPath\", \"nfs\")",
            ),
            (
                |p| p["containers"][0]["ports"] = json!([{"hostPort":80},{"hostPort":0}]),
                Level::Baseline,
                "hostPort (container \"a\" uses hostPort 80)",
            ),
            (
                |p| {
                    p["securityContext"]["sysctls"] =
                        json!([{"name":"kernel.msgmax"},{"name":"net.ipv4.tcp_syncookies"}])
                },
                Level::Baseline,
                "forbidden sysctls (kernel.msgmax)",
            ),
            (
                |p| p["securityContext"]["seccompProfile"]["type"] = "Unconfined".into(),
                Level::Baseline,
                "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
            ),
            (
                |p| p["containers"][0]["securityContext"]["seLinuxOptions"] = json!({"type":"spc_t","user":"u"}),
                Level::Baseline,
                "seLinuxOptions (container \"a\" set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user \
                 may not be set)",
            ),
            (
                |p| p["containers"][0]["securityContext"]["procMount"] = "Unmasked".into(),
                Level::Baseline,
                "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")",
            ),
            (
                |p| p["containers"][0]["livenessProbe"] = json!({"httpGet":{"host":"10.0.0.1"}}),
                Level::Baseline,
                "probe or lifecycle host (container \"a\" uses probe or lifecycle host \"10.0.0.1\")",
            ),
            (
                |p| p["containers"][0]["securityContext"]["runAsNonRoot"] = false.into(),
                Level::Restricted,
                "runAsNonRoot != true (container \"a\" must not set securityContext.runAsNonRoot=false)",
            ),
        ];
        table.push((
            |p| p["securityContext"]["runAsUser"] = 0.into(),
            Level::Restricted,
            "runAsUser=0 (pod must not set runAsUser=0)",
        ));
        for (change, level, expected) in table {
            let mut spec = restricted_pod();
            change(&mut spec);
            assert_eq!(text(&spec, level), expected);
            assert_eq!(text(&spec, Level::Privileged), "");
        }
    }

    #[test]
    fn user_namespaces_and_old_annotations_count_where_their_version_knows_them() {
        let spec = |host_users: Value| {
            serde_json::json!({"hostUsers": host_users, "containers": [{"name": "c", "securityContext": {
                "procMount": "Unmasked", "runAsUser": 0, "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}}]})
        };
        let found = |host_users: Value, level: Level, version: Minor| {
            violations(&Value::Null, &spec(host_users), level, version).unwrap_or_default()
        };
        let proc = "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")";
        let root = "runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), \
                    runAsUser=0 (container \"c\" must not set runAsUser=0)";
        for (host_users, level, version, expected) in [
            (Value::Null, Level::Baseline, 35, proc.to_string()),
            (false.into(), Level::Baseline, 34, proc.to_string()),
            (false.into(), Level::Baseline, 35, String::new()),
            (true.into(), Level::Baseline, LATEST, proc.to_string()),
            (false.into(), Level::Restricted, 34, format!("{proc}, {root}")),
            // Root is nobody there, but `/proc` stays masked.
            (false.into(), Level::Restricted, LATEST, proc.to_string()),
        ] {
            assert_eq!(found(host_users.clone(), level, version), expected, "{host_users} {version}");
        }
        let annotated = serde_json::json!({"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "unconfined",
            "container.seccomp.security.alpha.kubernetes.io/a": "localhost/x",
            "container.seccomp.security.alpha.kubernetes.io/b": "odd"}});
        let spec = serde_json::json!({"containers": [{"name": "a"}, {"name": "b"}]});
        let of = |version: Minor| violations(&annotated, &spec, Level::Baseline, version);
        assert_eq!(
            of(18).as_deref(),
            Some(
                "seccompProfile (forbidden annotations container.seccomp.security.alpha.kubernetes.io/b=\"odd\", \
                 seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")"
            )
        );
        assert_eq!(of(19), None);
    }
}
