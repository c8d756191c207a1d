//! PodSecurity: a namespace's labels say which of the Pod Security Standards its pods must keep (`enforce`), which it is
//! only warned about (`warn`), and which are noted in the audit log (`audit`). What fits a level is decided in [`checks`].
//! Defaults and exemptions come from the plugin's configuration (`pod-security.admission.config.k8s.io/v1`).

pub mod checks;

use super::{Attributes, Operation, Plugin, forbidden};
use crate::reader::Reader;
use async_trait::async_trait;
use checks::{LATEST, Level, Minor, violations};
use meta::field::{Errors, Path};
use meta::status::Status;
use serde_json::Value;
use std::collections::BTreeMap;

const PREFIX: &str = "pod-security.kubernetes.io/";
const MODES: [&str; 3] = ["enforce", "audit", "warn"];
/// Pods of a namespace that are looked at when its level is raised.
const NAMESPACE_PODS_MAX: usize = 3000;

pub struct PodSecurity {
    reader: Reader,
    /// What holds where a namespace has no label, in the form of labels.
    defaults: Value,
    exempt: Exemptions,
}

/// Writes that are never judged.
#[derive(Default)]
struct Exemptions {
    usernames: Vec<String>,
    runtime_classes: Vec<String>,
    namespaces: Vec<String>,
}

/// A level and the version it is read at.
#[derive(Clone, Debug, PartialEq)]
struct Policy {
    level: Level,
    version: String,
}

impl Policy {
    /// `restricted:latest`
    fn shown(&self) -> String {
        format!("{}:{}", self.level.as_str(), self.version)
    }

    /// An unreadable label counts as the strictest for enforcement and as none for the others.
    fn of(labels: &Value, defaults: &Value, mode: &str) -> Policy {
        let text = |key: String| labels[&key].as_str().or(defaults[&key].as_str()).map(str::to_string);
        let unreadable = if mode == "enforce" { Level::Restricted } else { Level::Privileged };
        let level = match text(format!("{PREFIX}{mode}")) {
            None => Level::Privileged,
            Some(s) => Level::parse(&s).unwrap_or(unreadable),
        };
        let version = text(format!("{PREFIX}{mode}-version")).filter(|v| valid_version(v));
        let own = Policy { level, version: version.unwrap_or_else(|| "latest".to_string()) };
        // A namespace that only enforces a level warns of it, too.
        let labelled = |key: &str| labels[format!("{PREFIX}{key}")].as_str();
        if mode == "warn" && labelled("warn").is_none() && labelled("enforce").and_then(Level::parse).is_some() {
            let enforced = Policy::of(labels, defaults, "enforce");
            if enforced.level > own.level {
                let own_version = labelled("warn-version").is_some();
                return if own_version { Policy { level: enforced.level, ..own } } else { enforced };
            }
        }
        own
    }

    fn minor(&self) -> Minor {
        self.version.strip_prefix("v1.").and_then(|m| m.parse().ok()).unwrap_or(LATEST)
    }

    fn violations(&self, metadata: &Value, spec: &Value) -> Option<String> {
        violations(metadata, spec, self.level, self.minor())
    }
}

fn valid_version(v: &str) -> bool {
    v == "latest"
        || v.strip_prefix("v1.").is_some_and(|minor| {
            !minor.is_empty() && minor.bytes().all(|b| b.is_ascii_digit()) && (minor == "0" || !minor.starts_with('0'))
        })
}

/// Where the pod's metadata and spec are in an object that makes pods.
fn template<'a>(a: &Attributes<'_>, object: &'a Value) -> Option<(&'a Value, &'a Value)> {
    let at = match (a.resource.group.as_str(), a.resource.plural.as_str()) {
        ("", "podtemplates") => &object["template"],
        ("", "replicationcontrollers")
        | ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => &object["spec"]["template"],
        ("batch", "cronjobs") => &object["spec"]["jobTemplate"]["spec"]["template"],
        _ => return None,
    };
    at.is_object().then(|| (&at["metadata"], &at["spec"]))
}

impl PodSecurity {
    pub fn new(reader: Reader, configuration: &Value) -> Result<PodSecurity, String> {
        let mut defaults = Value::Object(serde_json::Map::new());
        for mode in MODES {
            for (key, suffix) in [(mode.to_string(), ""), (format!("{mode}-version"), "-version")] {
                let Some(v) = configuration["defaults"][&key].as_str() else { continue };
                let fine = if suffix.is_empty() { Level::parse(v).is_some() } else { valid_version(v) };
                if !fine {
                    return Err(format!("defaults.{key}: Invalid value: {v:?}"));
                }
                defaults[format!("{PREFIX}{key}")] = v.into();
            }
        }
        let texts = |key: &str| {
            let all = configuration["exemptions"][key].as_array().into_iter().flatten();
            all.filter_map(|t| t.as_str().map(str::to_string)).collect::<Vec<_>>()
        };
        let exempt = Exemptions {
            usernames: texts("usernames"),
            runtime_classes: texts("runtimeClasses"),
            namespaces: texts("namespaces"),
        };
        Ok(PodSecurity { reader, defaults, exempt })
    }

    fn policy(&self, namespace: &str, mode: &str) -> Policy {
        let labels = self
            .reader
            .get("", "namespaces", "", namespace)
            .map(|n| n.value()["metadata"]["labels"].clone())
            .unwrap_or_default();
        Policy::of(&labels, &self.defaults, mode)
    }

    /// Why this write is not judged.
    fn exemption(&self, a: &Attributes<'_>, spec: &Value) -> Option<&'static str> {
        let runtime = spec["runtimeClassName"].as_str().filter(|r| !r.is_empty());
        if self.exempt.namespaces.iter().any(|n| n == a.namespace) {
            Some("namespace")
        } else if self.exempt.usernames.iter().any(|n| *n == a.user.name) {
            Some("user")
        } else if runtime.is_some_and(|r| self.exempt.runtime_classes.iter().any(|n| n == r)) {
            Some("runtimeClass")
        } else {
            None
        }
    }

    /// The pod in a write that is to be judged: new pods, and updates that change what matters.
    fn pod<'a>(a: &'a Attributes<'_>) -> Option<(&'a Value, &'a Value)> {
        let write = matches!(a.operation, Operation::Create | Operation::Update);
        let judged = a.is_main("", "pods") || a.is("", "pods", "ephemeralcontainers");
        if !write || !judged {
            return None;
        }
        let object = &*a.object;
        // Security contexts and volumes can't change; another image, container or annotation is judged anew.
        let same = a.old.is_some_and(|old| images(old) == images(object) && annotations(old) == annotations(object));
        (!same).then(|| (&object["metadata"], &object["spec"]))
    }

    /// Metadata and spec of the pod, or of the template, that is written; and whether it is a pod.
    fn judged<'a>(a: &'a Attributes<'_>) -> Option<(&'a Value, &'a Value, bool)> {
        if let Some((metadata, spec)) = PodSecurity::pod(a) {
            return Some((metadata, spec, true));
        }
        let write = matches!(a.operation, Operation::Create | Operation::Update) && a.subresource.is_empty();
        let (metadata, spec) = template(a, a.object).filter(|_| write)?;
        Some((metadata, spec, false))
    }

    /// Levels of a Namespace that was raised: what its pods would violate. Or that they don't count.
    fn raised(&self, a: &Attributes<'_>) -> Vec<String> {
        let of = |v: &Value, mode| Policy::of(&v["metadata"]["labels"], &self.defaults, mode);
        let after = of(a.object, "enforce");
        let name = a.object["metadata"]["name"].as_str().unwrap_or_default();
        let exempt = self.exempt.namespaces.iter().any(|n| n == name);
        let relaxed = match a.old.map(|old| of(old, "enforce")) {
            None => !exempt,
            Some(before) => {
                after.level == Level::Privileged || after.version == before.version && after.level <= before.level
            }
        };
        if relaxed {
            return Vec::new();
        }
        if exempt {
            let all: Vec<String> = MODES
                .iter()
                .map(|mode| (mode, of(a.object, mode)))
                .filter(|(mode, p)| {
                    let labels = &a.object["metadata"]["labels"];
                    let labelled = |suffix: &str| labels[format!("{PREFIX}{mode}{suffix}")].is_string();
                    p.level != Level::Privileged && (labelled("") || labelled("-version"))
                })
                .map(|(mode, p)| format!("{mode}={}", p.shown()))
                .collect();
            let same = MODES.iter().all(|mode| of(a.object, mode) == of(&Value::Null, mode));
            return match all.is_empty() || same {
                true => Vec::new(),
                false => vec![format!(
                    "namespace {name:?} is exempt from Pod Security, and the policy ({}) will be ignored",
                    all.join(", ")
                )],
            };
        }
        let Ok(pods) = self.reader.list("", "pods", name) else { return Vec::new() };
        let exempt_class = |pod: &Value| {
            let class = pod["spec"]["runtimeClassName"].as_str();
            class.is_some_and(|c| self.exempt.runtime_classes.iter().any(|r| r == c))
        };
        let pods: Vec<_> = pods.iter().map(|p| p.value()).filter(|p| !exempt_class(p)).collect();
        let mut by_reason: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pod in pods.iter().take(NAMESPACE_PODS_MAX) {
            if let Some(why) = after.violations(&pod["metadata"], &pod["spec"]) {
                let pod_name = pod["metadata"]["name"].as_str().unwrap_or_default().to_string();
                // Details name containers; upstream groups pods by the reasons alone.
                by_reason.entry(reasons_only(&why)).or_default().push(pod_name);
            }
        }
        let mut out = Vec::new();
        if pods.len() > NAMESPACE_PODS_MAX {
            out.push(format!(
                "new PodSecurity enforce level only checked against the first {NAMESPACE_PODS_MAX} of {} existing pods",
                pods.len()
            ));
        }
        if !by_reason.is_empty() {
            out.push(format!(
                "existing pods in namespace {name:?} violate the new PodSecurity enforce level {:?}",
                after.shown()
            ));
        }
        for (reasons, pods) in by_reason {
            out.push(match pods.as_slice() {
                [one] => format!("{one}: {reasons}"),
                [first, _] => format!("{first} (and 1 other pod): {reasons}"),
                [first, rest @ ..] => format!("{first} (and {} other pods): {reasons}", rest.len()),
                [] => continue,
            });
        }
        out
    }
}

/// `a (x "y"), b (z)` → `a, b`
fn reasons_only(text: &str) -> String {
    let mut out = String::new();
    let mut depth = 0;
    for c in text.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            c if depth == 0 => out.push(c),
            _ => {}
        }
    }
    out.replace(" ,", ",").trim().to_string()
}

/// Names and images of all containers.
fn images(pod: &Value) -> Vec<(&Value, &Value)> {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    lists
        .iter()
        .flat_map(|l| pod["spec"][*l].as_array().into_iter().flatten())
        .map(|c| (&c["name"], &c["image"]))
        .collect()
}

/// Those that stood for security fields before there were any.
fn annotations(pod: &Value) -> Vec<(&String, &Value)> {
    let all = pod["metadata"]["annotations"].as_object();
    let old = ["container.apparmor.", "seccomp.security.", "container.seccomp."];
    all.into_iter().flatten().filter(|(k, _)| old.iter().any(|p| k.starts_with(p))).collect()
}

fn check_labels(object: &Value) -> Errors {
    let mut errors = Errors::default();
    let path = Path::new("metadata").child("labels");
    for mode in MODES {
        let (level, version) = (format!("{PREFIX}{mode}"), format!("{PREFIX}{mode}-version"));
        let labels = &object["metadata"]["labels"];
        if let Some(v) = labels[&level].as_str().filter(|v| Level::parse(v).is_none()) {
            errors.invalid(path.key(&level), v, "must be one of privileged, baseline, restricted");
        }
        if let Some(v) = labels[&version].as_str().filter(|v| !valid_version(v)) {
            errors.invalid(path.key(&version), v, "must be \"latest\" or \"v1.x\"");
        }
    }
    errors
}

#[async_trait]
impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    async fn validate(&self, a: &Attributes<'_>) -> Result<(), Status> {
        let write = matches!(a.operation, Operation::Create | Operation::Update);
        if write && a.is_main("", "namespaces") {
            let errors = check_labels(a.object);
            // Labels that were bad before don't stand in the way of other changes.
            let unchanged = a.old.is_some_and(|old| check_labels(old) == errors);
            if !errors.is_empty() && !unchanged {
                let name = a.object["metadata"]["name"].as_str().unwrap_or_default();
                return Err(Status::invalid("", "Namespace", name, &errors));
            }
            return Ok(());
        }
        let Some((metadata, spec, is_pod)) = PodSecurity::judged(a) else { return Ok(()) };
        let note = |key: &str, value: String| a.audit.annotate(format!("{PREFIX}{key}"), value);
        if let Some(why) = self.exemption(a, spec) {
            note("exempt", why.to_string());
            return Ok(());
        }
        if a.audit.is_on() {
            let audit = self.policy(a.namespace, "audit");
            if let Some(why) = audit.violations(metadata, spec) {
                note("audit-violations", format!("would violate PodSecurity {:?}: {why}", audit.shown()));
            }
        }
        if is_pod {
            let policy = self.policy(a.namespace, "enforce");
            note("enforce-policy", policy.shown());
            if let Some(why) = policy.violations(metadata, spec) {
                return Err(forbidden(a, format!("violates PodSecurity {:?}: {why}", policy.shown())));
            }
        }
        Ok(())
    }

    fn warnings(&self, a: &Attributes<'_>) -> Vec<String> {
        if !matches!(a.operation, Operation::Create | Operation::Update) {
            return Vec::new();
        }
        if a.is_main("", "namespaces") {
            return self.raised(a);
        }
        let Some((metadata, spec, is_pod)) = PodSecurity::judged(a) else { return Vec::new() };
        let refused = || is_pod && self.policy(a.namespace, "enforce").violations(metadata, spec).is_some();
        if self.exemption(a, spec).is_some() || refused() {
            return Vec::new();
        }
        let policy = self.policy(a.namespace, "warn");
        let found = policy.violations(metadata, spec);
        found.map(|why| format!("would violate PodSecurity {:?}: {why}", policy.shown())).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use crate::testing::reader;
    use serde_json::json;

    fn namespace(name: &str, labels: Value) -> Value {
        json!({"apiVersion":"v1","kind":"Namespace","metadata":{"name":name,"labels":labels}})
    }

    fn plugin(configuration: &Value, reader: Reader) -> PodSecurity {
        PodSecurity::new(reader, configuration).unwrap()
    }

    #[tokio::test]
    async fn the_configuration_gives_defaults_and_exemptions() {
        let config = json!({"defaults":{"enforce":"restricted","enforce-version":"v1.18","warn":"baseline"},
            "exemptions":{"namespaces":["system"],"usernames":["root"],"runtimeClasses":["vm"]}});
        let free = json!({"pod-security.kubernetes.io/enforce":"privileged"});
        let in_kept = |name: &str, class: Value| json!({"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"kept","name":name},"spec":{"hostPID":true,"runtimeClassName":class,"containers":[{"name":"a"}]}});
        let (seen, unseen) = (in_kept("seen", Value::Null), in_kept("unseen", "vm".into()));
        let r =
            reader(&[namespace("d", json!({})), namespace("system", json!({})), namespace("free", free), seen, unseen])
                .await;
        let p = plugin(&config, r);
        let pod = |more: Value| {
            let mut spec = json!({"hostPID":true,"containers":[{"name":"a"}]});
            for (k, v) in more.as_object().unwrap() {
                spec[k] = v.clone();
            }
            json!({"metadata":{"name":"p"},"spec":spec})
        };
        let create = |ns: &str, more: Value| Write::create("", "pods", ns, pod(more));
        let e = create("d", json!({})).validate(&p).await.unwrap_err();
        assert!(e.message.contains("violates PodSecurity \"restricted:v1.18\": host namespaces"), "{e}");
        assert!(!e.message.contains("seccompProfile"), "v1.18 knew no such rule: {e}");
        assert!(create("free", json!({})).validate(&p).await.is_ok());
        assert!(create("system", json!({})).validate(&p).await.is_ok());
        assert!(create("system", json!({})).warnings(&p).is_empty());
        assert!(create("d", json!({"runtimeClassName":"vm"})).validate(&p).await.is_ok());
        let root = crate::authn::User::new("root", &[]);
        assert!(create("d", json!({})).by(&root).validate(&p).await.is_ok());
        assert!(create("d", json!({})).warnings(&p).is_empty(), "what is refused isn't warned of as well");
        let labelled = namespace("system", json!({"pod-security.kubernetes.io/enforce":"baseline"}));
        let warned = Write::create("", "namespaces", "", labelled.clone()).warnings(&p);
        assert_eq!(
            warned,
            [
                "namespace \"system\" is exempt from Pod Security, and the policy (enforce=baseline:v1.18) will be ignored"
            ]
        );
        // An exempt namespace is told of once, and pods of an exempt class don't count.
        let relabelled = namespace("system", json!({"pod-security.kubernetes.io/enforce":"baseline","a":"b"}));
        assert!(Write::update("", "namespaces", "", labelled.clone(), relabelled).warnings(&p).is_empty());
        assert!(Write::create("", "namespaces", "", namespace("system", json!({}))).warnings(&p).is_empty());
        let (strict, loose) = ("pod-security.kubernetes.io/enforce", "pod-security.kubernetes.io/enforce-version");
        let before = namespace("kept", json!({strict: "baseline", loose: "v1.0"}));
        let after = namespace("kept", json!({strict: "baseline", loose: "latest"}));
        assert_eq!(Write::update("", "namespaces", "", before, after).warnings(&p).len(), 2);
        // Another image is another pod.
        let mut other = pod(json!({}));
        other["spec"]["containers"][0]["image"] = "new".into();
        assert!(Write::update("", "pods", "d", pod(json!({})), other).validate(&p).await.is_err());
        assert!(Write::update("", "pods", "d", pod(json!({})), pod(json!({}))).validate(&p).await.is_ok());
        assert!(PodSecurity::new(p.reader.clone(), &json!({"defaults":{"enforce":"strict"}})).is_err());
    }

    #[tokio::test]
    async fn labels_decide_what_is_refused_and_what_is_warned_of() {
        let pod = || json!({"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"base","name":"p"},"spec":{"hostPID":true,"containers":[{"name":"a"}]}});
        let p = plugin(
            &Value::Null,
            reader(&[
                namespace("free", json!({})),
                namespace("base", json!({"pod-security.kubernetes.io/enforce":"baseline","pod-security.kubernetes.io/enforce-version":"v1.30"})),
                namespace("warn", json!({"pod-security.kubernetes.io/warn":"baseline"})),
                namespace("typo", json!({"pod-security.kubernetes.io/enforce":"basline"})),
                pod(),
            ])
            .await,
        );
        assert!(Write::create("", "pods", "free", pod()).validate(&p).await.is_ok());
        let e = Write::create("", "pods", "base", pod()).validate(&p).await.unwrap_err();
        assert_eq!(
            e.message,
            "pods \"p\" is forbidden: violates PodSecurity \"baseline:v1.30\": host namespaces (hostPID=true)"
        );
        assert!(Write::create("", "pods", "typo", pod()).validate(&p).await.is_err());
        assert!(Write::update("", "pods", "base", pod(), pod()).validate(&p).await.is_ok());
        assert!(Write::create("", "pods", "warn", pod()).validate(&p).await.is_ok());
        let text = "would violate PodSecurity \"baseline:latest\": host namespaces (hostPID=true)";
        assert_eq!(Write::create("", "pods", "warn", pod()).warnings(&p), [text]);
        let deployment = json!({"metadata":{"name":"d"},"spec":{"template":{"spec":pod()["spec"]}}});
        assert_eq!(Write::create("apps", "deployments", "warn", deployment.clone()).warnings(&p), [text]);
        assert!(Write::create("apps", "deployments", "base", deployment.clone()).validate(&p).await.is_ok());
        assert_eq!(
            Write::create("apps", "deployments", "base", deployment.clone()).warnings(&p),
            ["would violate PodSecurity \"baseline:v1.30\": host namespaces (hostPID=true)"]
        );
        for (label, policy) in [
            (json!({"enforce": "baseline", "warn-version": "v1.20"}), "baseline:v1.20"),
            (json!({"enforce": "restricted", "warn": "baseline"}), "baseline:latest"),
            (json!({"enforce": "baseline", "warn": "privileged"}), "privileged:latest"),
            (json!({"enforce": "basline"}), "privileged:latest"),
        ] {
            let labels: serde_json::Map<_, _> =
                label.as_object().unwrap().iter().map(|(k, v)| (format!("{PREFIX}{k}"), v.clone())).collect();
            assert_eq!(Policy::of(&Value::Object(labels), &p.defaults, "warn").shown(), policy, "{label}");
        }

        let raised = namespace("base", json!({"pod-security.kubernetes.io/enforce":"restricted"}));
        let warnings = Write::update("", "namespaces", "", namespace("base", json!({})), raised).warnings(&p);
        assert_eq!(
            warnings,
            [
                "existing pods in namespace \"base\" violate the new PodSecurity enforce level \"restricted:latest\"",
                "p: host namespaces, allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != \
                 true, seccompProfile"
            ]
        );
    }

    #[tokio::test]
    async fn namespaces_cannot_have_bad_labels() {
        let p = plugin(&Value::Null, reader(&[]).await);
        let bad = namespace(
            "n",
            json!({"pod-security.kubernetes.io/enforce":"strict","pod-security.kubernetes.io/warn-version":"1.30"}),
        );
        let e = Write::create("", "namespaces", "", bad.clone()).validate(&p).await.unwrap_err();
        assert!(
            e.message.contains(
                "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of \
             privileged, baseline, restricted"
            ),
            "{e}"
        );
        assert_eq!(e.details.unwrap().causes.len(), 2);
        assert!(Write::update("", "namespaces", "", bad.clone(), bad).validate(&p).await.is_ok());
        for (v, ok) in
            [("latest", true), ("v1.0", true), ("v1.30", true), ("v1.", false), ("v1.03", false), ("v2.1", false)]
        {
            assert_eq!(valid_version(v), ok, "{v}");
        }
    }
}
