//! PodSecurity: a namespace's labels say which of the Pod Security Standards its pods must keep (`enforce`), and
//! which it is only warned about (`warn`) or noted in the audit log for (`audit`). What fits a level is decided in [`checks`].

pub mod checks;

use super::{Attributes, Operation, Plugin, forbidden};
use crate::reader::Reader;
use async_trait::async_trait;
use checks::{Level, violations};
use meta::field::{Errors, Path};
use meta::status::Status;
use serde_json::Value;
use std::collections::BTreeMap;

const PREFIX: &str = "pod-security.kubernetes.io/";
/// Pods of a namespace that are looked at when its level is raised.
const NAMESPACE_PODS_MAX: usize = 3000;

pub struct PodSecurity {
    reader: Reader,
}

/// A level and the version it is read at. Every version is judged by the latest rules.
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

    /// An unreadable label counts as the strictest for enforcement and as none for warnings.
    fn of(labels: &Value, mode: &str) -> Policy {
        let text = |key: String| labels[key].as_str().map(str::to_string);
        let unreadable = if mode == "enforce" { Level::Restricted } else { Level::Privileged };
        let level = match text(format!("{PREFIX}{mode}")) {
            None => Level::Privileged,
            Some(s) => Level::parse(&s).unwrap_or(unreadable),
        };
        let version = text(format!("{PREFIX}{mode}-version")).filter(|v| valid_version(v));
        Policy { level, version: version.unwrap_or_else(|| "latest".to_string()) }
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
    pub fn new(reader: Reader) -> PodSecurity {
        PodSecurity { reader }
    }

    fn policy(&self, namespace: &str, mode: &str) -> Policy {
        let labels = self
            .reader
            .get("", "namespaces", "", namespace)
            .map(|n| n.value()["metadata"]["labels"].clone())
            .unwrap_or_default();
        Policy::of(&labels, mode)
    }

    /// The pod in a write that is to be judged: new pods, and updates that change what matters.
    fn pod<'a>(a: &'a Attributes<'_>) -> Option<(&'a Value, &'a Value)> {
        let write = matches!(a.operation, Operation::Create | Operation::Update);
        let judged = a.is_main("", "pods") || a.is("", "pods", "ephemeralcontainers");
        if !write || !judged {
            return None;
        }
        let object = &*a.object;
        // Security contexts and volumes can't change; images may, and no rule looks at them.
        let same = a.old.is_some_and(|old| {
            object["spec"]["ephemeralContainers"] == old["spec"]["ephemeralContainers"]
                && apparmor(old) == apparmor(object)
        });
        (!same).then(|| (&object["metadata"], &object["spec"]))
    }

    /// Levels of a Namespace that was raised: what its pods would violate.
    fn raised(&self, a: &Attributes<'_>) -> Vec<String> {
        let Some(old) = a.old else { return Vec::new() };
        let before = Policy::of(&old["metadata"]["labels"], "enforce");
        let after = Policy::of(&a.object["metadata"]["labels"], "enforce");
        if after.level <= before.level {
            return Vec::new();
        }
        let name = a.object["metadata"]["name"].as_str().unwrap_or_default();
        let Ok(pods) = self.reader.list("", "pods", name) else { return Vec::new() };
        let mut by_reason: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pod in pods.iter().take(NAMESPACE_PODS_MAX).map(|p| p.value()) {
            if let Some(why) = violations(&pod["metadata"], &pod["spec"], after.level) {
                let pod_name = pod["metadata"]["name"].as_str().unwrap_or_default().to_string();
                // Details name containers; upstream groups pods by the reasons alone.
                by_reason.entry(reasons_only(&why)).or_default().push(pod_name);
            }
        }
        if by_reason.is_empty() {
            return Vec::new();
        }
        let mut out = vec![format!(
            "existing pods in namespace {name:?} violate the new PodSecurity enforce level {:?}",
            after.shown()
        )];
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

fn apparmor(pod: &Value) -> Vec<(&String, &Value)> {
    let annotations = pod["metadata"]["annotations"].as_object();
    annotations.into_iter().flatten().filter(|(k, _)| k.starts_with("container.apparmor.")).collect()
}

fn check_labels(object: &Value) -> Errors {
    let mut errors = Errors::default();
    let path = Path::new("metadata").child("labels");
    for mode in ["enforce", "audit", "warn"] {
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
        if let Some((metadata, spec)) = PodSecurity::pod(a) {
            let policy = self.policy(a.namespace, "enforce");
            a.audit.annotate(format!("{PREFIX}enforce-policy"), policy.shown());
            if let Some(why) = violations(metadata, spec, policy.level) {
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
        let judged =
            PodSecurity::pod(a).or_else(|| if a.subresource.is_empty() { template(a, a.object) } else { None });
        let Some((metadata, spec)) = judged else { return Vec::new() };
        if a.audit.is_on() {
            let policy = self.policy(a.namespace, "audit");
            if let Some(why) = violations(metadata, spec, policy.level) {
                let text = format!("would violate PodSecurity {:?}: {why}", policy.shown());
                a.audit.annotate(format!("{PREFIX}audit-violations"), text);
            }
        }
        let policy = self.policy(a.namespace, "warn");
        let found = violations(metadata, spec, policy.level);
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

    #[tokio::test]
    async fn labels_decide_what_is_refused_and_what_is_warned_of() {
        let pod = || json!({"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"base","name":"p"},"spec":{"hostPID":true,"containers":[{"name":"a"}]}});
        let p = PodSecurity::new(
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
        assert!(Write::create("apps", "deployments", "base", deployment).validate(&p).await.is_ok());

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
        let p = PodSecurity::new(reader(&[]).await);
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
