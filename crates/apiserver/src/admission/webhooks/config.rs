//! The webhook plugins' own part of the `AdmissionConfiguration`: who the server is towards webhooks
//! (`WebhookAdmissionConfiguration`, apiserver.config.k8s.io/v1).

use crate::outbound::AuthInfos;
use serde_json::Value;
use std::path::Path;

/// Errors are upstream's texts of `LoadConfig`.
pub fn auth_infos(configuration: &Value) -> Result<AuthInfos, String> {
    if configuration.is_null() {
        return Ok(AuthInfos::default());
    }
    let text = |key: &str| configuration[key].as_str().unwrap_or("");
    match (text("apiVersion"), text("kind")) {
        (_, "") => return Err(format!("Object 'Kind' is missing in '{configuration}'")),
        ("", _) => return Err(format!("Object 'apiVersion' is missing in '{configuration}'")),
        ("apiserver.config.k8s.io/v1", "WebhookAdmissionConfiguration")
        | ("apiserver.config.k8s.io/v1alpha1", "WebhookAdmission") => {}
        (version, kind) => return Err(format!("no kind {kind:?} is registered for version {version:?}")),
    }
    let known = ["apiVersion", "kind", "kubeConfigFile", "staticManifestsDir"];
    let unknown =
        configuration.as_object().into_iter().flatten().map(|(k, _)| k).filter(|k| !known.contains(&k.as_str()));
    let unknown: Vec<String> = unknown.map(|k| format!("unknown field {k:?}")).collect();
    if !unknown.is_empty() {
        return Err(format!("strict decoding error: {}", unknown.join(", ")));
    }
    if !text("staticManifestsDir").is_empty() {
        return Err("staticManifestsDir: Forbidden: staticManifestsDir requires the ManifestBasedAdmissionControlConfig feature gate to be enabled".into());
    }
    match text("kubeConfigFile") {
        "" => Ok(AuthInfos::default()),
        file if !Path::new(file).is_absolute() => {
            Err(format!("kubeConfigFile: Invalid value: {file:?}: must be an absolute file path"))
        }
        file => AuthInfos::read(Path::new(file)).map_err(|e| e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_it_must_be() {
        let told = |c: Value| auth_infos(&c).err().unwrap_or_default();
        let v1 = |more: Value| {
            let mut c = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "WebhookAdmissionConfiguration"});
            c.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
            c
        };
        for (configuration, want) in [
            (Value::Null, ""),
            (v1(json!({})), ""),
            (json!({}), "Object 'Kind' is missing in '{}'"),
            (json!({"kind": "Unknown", "apiVersion": "v1"}), "no kind \"Unknown\" is registered for version \"v1\""),
            (v1(json!({"foo": 1})), "strict decoding error: unknown field \"foo\""),
            (
                v1(json!({"kubeConfigFile": "foo"})),
                "kubeConfigFile: Invalid value: \"foo\": must be an absolute file path",
            ),
            (
                v1(json!({"kubeConfigFile": "/nowhere/at/all"})),
                "failed to read /nowhere/at/all: No such file or directory (os error 2)",
            ),
            (
                v1(json!({"staticManifestsDir": "/etc/kubernetes/admission"})),
                "staticManifestsDir: Forbidden: staticManifestsDir requires the ManifestBasedAdmissionControlConfig feature gate to be enabled",
            ),
        ] {
            assert_eq!(told(configuration), want);
        }
    }
}
